"""`--eval-plan`, `evalgate plan`, and what a run says of its power before it starts."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest

from tests.plugin.conftest import ROWS, SUITE, WRONG, Project

CLUSTERED = SUITE.replace('slices=("digits",)', 'cluster="b"')  # sums with the same b: ten clusters
PROSE = """
from evalgate import Task, bits_per_byte, jsonl

prose = Task(samples=jsonl("data/addition.jsonl"), prompt="", scorers=[bits_per_byte()])
"""
TINY = """
from evalgate import Gate, Task, exact_match

tiny = Task(samples=[{"id": f"s{i}", "target": "x"} for i in range(20)], prompt="{{ id }}",
            scorers=[exact_match(gate=Gate(margin=0.9))])
"""


def plan(project: Project, *args: str) -> dict[str, Any]:
    """What machines read."""
    done = project.evalgate("plan", "--json", *args)
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def only(project: Project, *args: str) -> dict[str, Any]:
    """The plan's only metric."""
    (metric,) = plan(project, *args)["metrics"]
    assert isinstance(metric, dict)
    return metric


def files(project: Project) -> set[str]:
    """Every file of the project but Python's and pytester's own."""
    paths = (path for path in project.path.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(project.path)) for path in paths} - {"stdout", "stderr"}


# -- pytest --eval-plan -----------------------------------------------------------------------------------------------


def test_the_flag_shows_a_table_and_runs_nothing(project: Project) -> None:
    """No checkpoint, no test, no file; exit code 0 though the metric is underpowered."""
    before = files(project)
    result = project.run("evalsuites", "--eval-plan")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "power .80 at level .05",
            "  blocking metric* samples  differ    sees  margin  needs",
            "! arithmetic/addition::exact_match      200  20.0[%][*]  7.8 pt  5.0 pt    493",
            "! 1 of 1 underpowered*",
            "  arithmetic/addition::exact_match +293 or margin=0.079.",
            "*no tests ran*",
        ]
    )
    assert files(project) == before


def test_neither_engine_nor_checkpoint_is_touched(project: Project) -> None:
    """An engine that dies and a checkpoint that is not there are nothing to a plan; runs end with either."""
    project.configure(WRONG, crash_after=0)
    result = project.run("evalsuites", "--eval-plan", "--model", "runs/nowhere")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["power .80 at level .05"])
    assert not (project.path / ".evalgate").exists()
    assert project.run("evalsuites", "--model", "runs/nowhere").ret == 4
    project.run("evalsuites", "--model", "runs/v1").assert_outcomes(errors=2)


def test_nothing_heavy_is_imported(project: Project) -> None:
    """Neither an engine's libraries nor pandas; before a comparison not even scipy."""
    (project.path / "conftest.py").write_text(
        "import sys\n"
        "def pytest_unconfigure():\n"
        "    print('LOADED', sorted({m.split('.')[0] for m in sys.modules} & "
        "{'torch', 'vllm', 'transformers', 'pandas', 'scipy', 'numpy', 'statsmodels'}))\n"
    )
    result = project.run("evalsuites", "--eval-plan", "-p", "no:hypothesispytest", "-p", "no:anyio")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["LOADED []"])


def test_deselected_metrics_count_in_the_level(project: Project) -> None:
    """-k shows fewer metrics and plans them at the level of all that were collected."""
    project.suite("test_second", SUITE.replace("addition =", "doubling ="))
    result = project.run("evalsuites", "--eval-plan", "-k", "doubling")
    result.stdout.fnmatch_lines(["power .80 at level .013 (alpha .05, 2 tests)", "! second/doubling::exact_match*"])
    result.stdout.no_fnmatch_line("*arithmetic/addition*")


def test_options_of_the_gate_change_the_plan(project: Project) -> None:
    """A nightly alpha asks for more samples."""
    result = project.run("evalsuites", "--eval-plan", "--eval-alpha", "0.01")
    result.stdout.fnmatch_lines(["power .80 at level .01", "! arithmetic/addition::exact_match*801"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (SUITE.replace("addition.jsonl", "adition.jsonl"), "ERROR: *adition.jsonl: there is no such file*"),
        (SUITE.replace("margin=0.05", "margin='5%'"), "ERROR: *margin='5%'*Five points are margin=0.05."),
        (SUITE.replace('"digits",', '"digit",'), "ERROR: *no field 'digit'*"),
    ],
    ids=["data", "margin", "slice"],
)
def test_what_is_written_wrong_is_one_line(project: Project, text: str, says: str) -> None:
    """Exit code 4 and a line that says what to mend; the command line says the same and ends with its exit code 2."""
    project.suite("test_arithmetic", text)
    result = project.run("evalsuites", "--eval-plan")
    assert result.ret == 4
    result.stderr.fnmatch_lines([says])
    done = project.evalgate("plan")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith("ERROR: ")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("-k", "nothing"), "ERROR: *found no blocking metric*"),
        (("-k", "numeric"), "ERROR: *found no blocking metric*"),
        (("-n2",), "ERROR: *xdist*"),
        (("--eval-alpha", "2"), "ERROR: *alpha*"),
        (("evalsuites/test_nowhere.py",), "ERROR: *not found: evalsuites/test_nowhere.py*"),
    ],
)
def test_what_is_typed_wrong_is_exit_4(project: Project, arguments: tuple[str, ...], says: str) -> None:
    """A selection without a gate, other plugins' options, settings and paths that mean nothing."""
    result = project.run("evalsuites", "--eval-plan", *arguments)
    assert result.ret == 4
    result.stderr.fnmatch_lines([says])


def test_two_tasks_of_one_name_are_refused(project: Project) -> None:
    """As in a run: a family has one task of each id."""
    shutil.copytree(project.path / "evalsuites", project.path / "evalsuites/more")
    result = project.run("evalsuites", "--eval-plan", "--import-mode=importlib")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: *both declare arithmetic/addition*"])


@pytest.mark.parametrize("options", [(), ("--continue-on-collection-errors",)])
def test_a_suite_that_cannot_be_imported_ends_the_plan(project: Project, options: tuple[str, ...]) -> None:
    """No table of the rest: its level would be wrong; no test runs either."""
    project.suite("test_broken", "import nowhere_to_be_found\n")
    project.suite("test_plain", "def test_plain():\n    assert False, 'it ran'\n")
    result = project.run("evalsuites", "--eval-plan", *options)
    assert result.ret == 2
    result.stdout.fnmatch_lines(["*nowhere_to_be_found*"])
    for absent in ("power .80*", "*it ran*"):
        result.stdout.no_fnmatch_line(absent)
    done = project.evalgate("plan")
    assert (done.returncode, done.stdout) == (2, "")
    assert "nowhere_to_be_found" in done.stderr


# -- evalgate plan ----------------------------------------------------------------------------------------------------


def test_the_command_prints_the_table_alone(project: Project) -> None:
    """The project's suites without naming them, nothing of pytest's around the table, 80 columns."""
    done = project.evalgate("plan")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "power .80 at level .05"
    assert lines[-1] == "  arithmetic/addition::exact_match +293 or margin=0.079."
    assert max(map(len, lines)) <= 80
    assert project.evalgate("plan", "evalsuites/test_arithmetic.py").stdout == done.stdout
    result = project.run("evalsuites", "--eval-plan", "-qq")
    assert result.stdout.str().strip() == done.stdout.strip()


def test_settings_of_the_project_that_turn_warnings_into_errors_are_fine(project: Project) -> None:
    """The command line loads the plugin before pytest does; a strict project shows its plan all the same."""
    settings = project.path / "pyproject.toml"
    strict = "[tool.pytest.ini_options]\nfilterwarnings = ['error']"
    settings.write_text(settings.read_text().replace("[tool.pytest.ini_options]", strict))
    assert project.evalgate("plan").returncode == 0


def test_strict_fails_where_a_metric_is_underpowered(project: Project) -> None:
    """Exit code 1 for an underpowered metric, 0 once its margin is one that its samples hold."""
    assert project.evalgate("plan", "--strict").returncode == 1
    project.suite("test_arithmetic", SUITE.replace("margin=0.05", "margin=0.079"))
    done = project.evalgate("plan", "--strict")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "1 of 1 can see a drop of their margin."


def test_json_gives_numbers(project: Project) -> None:
    """Every field of every line, in the metric's own units."""
    found = plan(project)
    (metric,) = found["metrics"]
    assert (found["alpha"], found["power"], found["level"], found["steps"]) == (0.05, 0.8, 0.05, 1)
    assert (metric["task"], metric["metric"]) == ("arithmetic/addition", "exact_match")
    assert (metric["n"], metric["psi"], metric["margin"], metric["needed"]) == (200, 0.2, 0.05, 493)
    assert (metric["source"], metric["underpowered"], metric["unknown"]) == ("assumed", True, False)
    assert 0.078 < metric["detectable"] < 0.079


def test_too_few_clusters_are_said_to_be(project: Project) -> None:
    """Ten clusters are enough for one test; three suites of them are not, and --strict says so."""
    project.suite("test_arithmetic", CLUSTERED)
    alone = only(project)
    assert (alone["n"], alone["clusters"], alone["undecidable"]) == (200, 10, False)
    for name in "abcdefghijklmnopqrstuvwxyz":
        project.suite(f"test_{name}", CLUSTERED)
    done = project.evalgate("plan", "--strict")
    assert done.returncode == 1
    assert "a/addition::exact_match 11 clusters (with 10 nothing is significant)" in " ".join(done.stdout.split())
    assert "200/10" in done.stdout


def test_too_few_samples_are_said_to_be(project: Project) -> None:
    """Twenty samples see a drop of the margin, and a verdict needs thirty."""
    project.suite("test_arithmetic", TINY)
    done = project.evalgate("plan", "--strict")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].strip().endswith("arithmetic/tiny::exact_match +10.")


# -- after a comparison -----------------------------------------------------------------------------------------------


def test_the_first_comparison_replaces_the_assumption(accepted: Project) -> None:
    """v2 against v1: one sum of 200 changed, so drops of the margin are seen with the samples that there are."""
    assert only(accepted)["source"] == "assumed"
    assert accepted.run("evalsuites", "--model", "runs/v2").ret == 0
    metric = only(accepted)
    assert (metric["source"], metric["underpowered"]) == ("last comparison", False)
    assert metric["psi"] == pytest.approx(0.0149, abs=0.0005)
    shown = accepted.run("evalsuites", "--eval-plan").stdout
    shown.fnmatch_lines(["  arithmetic/addition::exact_match      200    1.5[%]*", "1 of 1 can see a drop*"])
    assert accepted.run("evalsuites", "--model", "runs/v3").ret == 1
    assert only(accepted)["psi"] > 0.25


def test_a_checkpoint_against_itself_teaches_nothing(accepted: Project) -> None:
    """v1 against v1 differs in no answer, which is no reason to expect that of v2."""
    assert accepted.run("evalsuites", "--model", "runs/v1").ret == 0
    assert only(accepted)["source"] == "assumed"


def test_bits_per_byte_is_unknown_until_compared(project: Project) -> None:
    """A question mark and no number; --strict has nothing to object to."""
    project.suite("test_arithmetic", PROSE)
    done = project.evalgate("plan", "--strict")
    assert done.returncode == 0
    assert "? arithmetic/prose::bits_per_byte      200       ?     ?       ?      ?" in done.stdout
    assert done.stdout.splitlines()[-1] == "Nothing can be said before the first comparison."
    metric = only(project)
    assert (metric["detectable"], metric["needed"], metric["margin"], metric["unknown"]) == (None, None, None, True)


# -- at the head of a run ---------------------------------------------------------------------------------------------


def test_a_run_says_what_it_can_see(accepted: Project) -> None:
    """Two lines after the first: the family, and what is underpowered with what it needs and has."""
    result = accepted.run("evalsuites", "--model", "runs/v2")
    lines = result.outlines
    head = next(i for i, line in enumerate(lines) if line.startswith("evalgate: v2 · "))
    assert lines[head + 1] == "evalgate: power .80 at level .05 · sees 7.8 pt of 5.0 pt · 1 of 1 underpowered"
    assert lines[head + 2].startswith(
        "  arithmetic/addition::exact_match (sees 7.8 pt of 5.0, needs 493, has 200); -v "
    )
    assert not lines[head + 3].strip()
    again = accepted.run("evalsuites", "--model", "runs/v2").outlines
    assert any(line.startswith("evalgate: power .80 at level .05 · sees ") for line in again)
    assert not any("underpowered" in line for line in again)


def test_verbose_runs_show_the_table_and_quiet_ones_nothing(accepted: Project) -> None:
    """-v is the whole plan; -q leaves it out."""
    result = accepted.run("evalsuites", "--model", "runs/v2", "-v")
    result.stdout.fnmatch_lines(["evalgate: v2*", "power .80*", "", "  blocking metric*", "! arithmetic/addition*"])
    accepted.run("evalsuites", "--model", "runs/v2", "-q").stdout.no_fnmatch_line("*power .80*")


@pytest.mark.parametrize("option", [("--eval-record-only",), ("--collect-only",)])
def test_where_nothing_is_compared_nothing_is_said(accepted: Project, option: tuple[str, ...]) -> None:
    """Recording compares nothing, and looking at tests runs nothing."""
    result = accepted.run("evalsuites", "--model", "runs/v2", *option)
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*power .80*")


def test_recorded_evaluations_are_gated_without_a_plan(accepted: Project) -> None:
    """Where the answers exist already there is nothing to plan."""
    assert accepted.run("evalsuites", "--model", "runs/v2", "--eval-record-only").ret == 0
    (record,) = (accepted.path / ".evalgate/records").glob("v2-*/arithmetic/*.jsonl")
    result = accepted.run("evalsuites", "--eval-records", str(record))
    result.stdout.no_fnmatch_line("*power .80*")
    assert result.ret == 0


def test_the_plan_does_not_wait_for_the_data_of_others(project: Project) -> None:
    """Only what is selected is read: a deselected task's missing data is no obstacle."""
    project.suite("test_second", SUITE.replace("addition.jsonl", "missing.jsonl"))
    assert project.run("evalsuites", "--eval-plan", "-k", "arithmetic").ret == 0
    assert project.run("evalsuites", "--eval-plan").ret == 4
    assert len(ROWS) == 200
