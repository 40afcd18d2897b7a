"""Selection: -k, -m, --lf, -x, node ids, several tasks in one file, lists of tasks, imports."""

from __future__ import annotations

from pathlib import Path

from evalgate.plugin.items import bindings
from tests.plugin.conftest import SECOND, SUITE, Project

NAMES = """import json, os as system
a = 1
if a:
    b = 1
else:
    c: int = 1
    d = e = 1
try:
    e = 1
except ValueError:
    f = 1
for g in []:
    (h, *_) = g
with open("x") as i:
    a = 2
from os import path as other
j = lambda: (no := 1)
other = [no for no in j()]
def no1(): no2 = 1; import no3
async def no4(): no5 = 1
class No: no6 = 1
"""


def test_deselected_members_are_partial(two_suites: Project) -> None:
    """With -k the family stays what was collected: the others count with p = 1 and are shown as PARTIAL."""
    result = two_suites.run("evalsuites", "--model", "runs/v2", "-k", "addition")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["evalgate: v2 · 1 task, 200 requests", "*the one metric that ran passes; PARTIAL*"])
    assert "second/doubling::exact_match" in result.stdout.str()


def test_only_selected_tasks_are_generated(accepted: Project) -> None:
    """Deselected tasks cost nothing."""
    accepted.suite("test_second", SECOND)
    result = accepted.run("evalsuites", "--model", "runs/v3", "-k", "doubling")
    result.stdout.fnmatch_lines(["200 answers generated*"])


def test_last_failed_runs_what_failed_within_the_same_family(accepted: Project) -> None:
    """--lf selects the failed metric and keeps the family, although whole files are skipped."""
    accepted.suite("test_second", SECOND)
    args = ("evalsuites", "--model", "runs/v3")
    pytest_args = ("-o", "addopts=", "-o", "cache_dir=.cache")
    run = accepted.pytester.runpytest_subprocess
    first = run(*args, *pytest_args)
    assert first.ret == 1
    again = run(*args, *pytest_args, "--lf", "-k", "exact_match and addition")
    assert again.ret == 1
    again.stdout.fnmatch_lines(["*PARTIAL: 2 of 3 metrics did not run*"])
    assert "second/doubling::exact_match" in again.stdout.str()


def test_marks_select(accepted: Project) -> None:
    """A suite's pytestmark selects and deselects its tasks."""
    accepted.suite("test_arithmetic", "import pytest\npytestmark = pytest.mark.slow\n" + SUITE)
    result = accepted.run("evalsuites", "--model", "runs/v2", "-m", "not slow", "-o", "markers=slow")
    assert result.ret == 5


def test_exit_first_stops(accepted: Project) -> None:
    """-x stops at the first regression."""
    accepted.suite("test_second", SECOND)
    result = accepted.run("evalsuites", "--model", "runs/v3", "-x")
    assert result.ret == 1
    result.assert_outcomes(failed=1)


def test_one_task_by_its_node_id(accepted: Project) -> None:
    """A node id names a task or a metric."""
    result = accepted.run("evalsuites/test_arithmetic.py::addition::exact_match", "--model", "runs/v2", "-v")
    assert result.ret == 0
    result.assert_outcomes(passed=1)


def test_imported_tasks_are_not_collected_twice(accepted: Project) -> None:
    """A task belongs to the suite that defines it, not to those that import it, also by a star."""
    for name, how in (("plain", "from test_arithmetic import addition"), ("star", "from test_arithmetic import *")):
        accepted.suite(
            f"test_{name}", f"{how}\ndef test_size(evaluate):\n    assert len(evaluate(addition).rows) == 200\n"
        )
    result = accepted.run("evalsuites", "--model", "runs/v2", "-v")
    assert result.ret == 0
    result.assert_outcomes(passed=4)


def test_a_name_of_a_function_is_not_the_modules(accepted: Project) -> None:
    """A function that binds the name of an imported task does not make the task this suite's own."""
    accepted.suite(
        "test_local",
        "from test_arithmetic import addition\n\n"
        "def test_size(evaluate, task=addition):\n"
        "    addition = evaluate(task)\n"
        "    assert len(addition.rows) == 200\n",
    )
    result = accepted.run("evalsuites", "--model", "runs/v2", "-v")
    assert result.ret == 0
    result.assert_outcomes(passed=3)


def test_what_binds_a_name_at_module_level(tmp_path: Path) -> None:
    """Names bound in if, for, try and with count, at their first line; those of functions and classes do not."""
    path = tmp_path / "test_names.py"
    path.write_text(NAMES)
    imported, lines = bindings(path)
    assert imported == {"json", "system"}
    assert " ".join(f"{name}{line}" for name, line in lines.items()) == "a2 b4 c6 d7 e7 f11 g12 h13 _13 i14 j17 other18"


def test_lists_and_dicts_of_tasks_are_collected(project: Project) -> None:
    """A module-level list or dict of tasks gives one test per task and metric."""
    made = 'Task(samples=[{"id": "a", "target": "x"}], prompt="p", scorers=[exact_match()])'
    project.suite(
        "test_many", f'from evalgate import Task, exact_match\nmany = [{made}, {made}]\nnamed = {{"one": {made}}}\n'
    )
    result = project.run("evalsuites/test_many.py", "--collect-only", "-q")
    result.stdout.fnmatch_lines(
        ["*many::many?0?::exact_match", "*many::many?1?::exact_match", "*named::named?one?::exact_match"]
    )


def test_two_suites_of_one_name_are_refused(project: Project) -> None:
    """Records are kept by suite and task: two files that say the same name would overwrite each other."""
    (project.path / "evalsuites/other").mkdir()
    (project.path / "evalsuites/other/__init__.py").touch()
    (project.path / "evalsuites/__init__.py").touch()
    (project.path / "evalsuites/other/test_arithmetic.py").write_text(SUITE.replace("data/", "../data/"))
    result = project.run("evalsuites", "--model", "runs/v1")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: *both declare arithmetic/addition*"])
