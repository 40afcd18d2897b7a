"""`--model`: a checkpoint in, test outcomes out."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ElementTree

from tests.plugin.conftest import WRONG, Project


def test_an_equal_model_passes(accepted: Project) -> None:
    """A candidate as good as the baseline exits 0, says the numbers, and leaves a card."""
    result = accepted.run("evalsuites", "--model", "runs/v2", "-v")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*addition::exact_match PASSED*+0.5 pt*n=200*was .950, now .955*"])
    assert (accepted.path / "reports/v2/index.html").is_file()


def test_a_worse_model_fails_with_the_reason(accepted: Project) -> None:
    """A regression is a failed test: difference, counts, worst slice and card, without a traceback."""
    result = accepted.run("evalsuites", "--model", "runs/v3")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["*FAILED*-25.0 pt*n=200*was .950, now .700*", "*50 samples broke, 0 were fixed*Card: reports/v3/index.html*"]
    )
    assert "Traceback" not in result.stdout.str()
    assert "evalgate/" not in result.stdout.str().replace("evalgate/cli", "")


def test_a_missing_baseline_fails_and_says_how_to_accept(project: Project) -> None:
    """Without a baseline the candidate is evaluated and recorded; the pasted command makes the next run pass."""
    result = project.run("evalsuites", "--model", "runs/v1")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*NO BASELINE*", "*evalgate accept runs/v1 -m*"])
    done = project.evalgate("accept", "runs/v1", "-m", "the first")
    assert done.returncode == 0, done.stderr
    assert project.run("evalsuites", "--model", "runs/v1").ret == 0


def test_an_identical_run_starts_no_engine(accepted: Project) -> None:
    """Everything is known from the cache: same verdicts, no engine."""
    first = accepted.run("evalsuites", "--model", "runs/v3")
    again = accepted.run("evalsuites", "--model", "runs/v3")
    assert (first.ret, again.ret) == (1, 1)
    again.stdout.fnmatch_lines(["0 answers generated*200 from the cache (no engine started)"])
    assert not any("starting" in line for line in again.outlines)


def test_new_weights_under_the_same_path_are_asked_again(accepted: Project) -> None:
    """Retraining into the same folder never serves an old answer: identity is content."""
    accepted.run("evalsuites", "--model", "runs/v2")
    config = accepted.path / "runs/v2/config.json"
    config.write_text(config.read_text().replace('"v2"', '"v2 again"'))
    result = accepted.run("evalsuites", "--model", "runs/v2")
    result.stdout.fnmatch_lines(["200 answers generated*"])


def test_several_models_are_families_of_their_own(accepted: Project) -> None:
    """Each checkpoint has its tests, its verdict and its card; one engine serves them all."""
    result = accepted.run("evalsuites", "--model", "runs/v2", "--model", "runs/v3", "-v")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*addition::exact_match?v2? PASSED*", "*addition::exact_match?v3? FAILED*"])
    assert result.stdout.str().count("evalgate: starting") <= 1
    assert (accepted.path / "reports/v2/index.html").is_file()
    assert (accepted.path / "reports/v3/index.html").is_file()


def test_the_same_model_twice_is_refused(project: Project) -> None:
    """Two names for one content would count one result twice."""
    result = project.run("evalsuites", "--model", "runs/v1", "--model", "runs/../runs/v1")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: --model: * same content as v1*"])


def test_models_of_one_name_are_told_apart(project: Project) -> None:
    """Three folders that are called alike are three candidates: none of them takes another's place."""
    for place, source in (("a/runs", "v1"), ("b/runs", "v2"), ("c/runs", "v3")):
        shutil.copytree(project.path / "runs" / source, project.path / place / "same")
    given = [part for place in "abc" for part in ("--model", f"{place}/runs/same")]
    result = project.run("evalsuites", *given, "--collect-only", "-q")
    found = {line.partition("[")[2] for line in result.stdout.lines if "exact_match[" in line}
    assert {"same]", "runs-same]"} < found
    assert len(found) == 3


def test_a_folder_that_is_no_checkpoint_is_a_usage_error(project: Project) -> None:
    """What was typed wrong is one line and exit code 4, before anything is collected."""
    result = project.run("evalsuites", "--model", "runs")
    assert result.ret == 4
    assert len([line for line in result.errlines if line.startswith("ERROR:")]) == 1
    result.stderr.fnmatch_lines(["ERROR: *config.json*"])


def test_without_a_model_tasks_are_refused(project: Project) -> None:
    """A gate that has nothing to gate must not look green."""
    result = project.run("evalsuites")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: *--model runs/v3*"])


def test_collect_only_needs_no_model(project: Project) -> None:
    """Editors can list tasks and metrics without a checkpoint."""
    result = project.run("evalsuites", "--collect-only", "-q")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["*test_arithmetic.py::addition::exact_match", "*test_arithmetic.py::addition::numeric"]
    )


def test_a_broken_suite_file_is_one_line(project: Project) -> None:
    """A Task that cannot mean anything ends the run with exit code 4 and no traceback."""
    project.suite("test_bad", "from evalgate import Task\nbad = Task(samples=[], prompt='x', scorers=[])\n")
    result = project.run("evalsuites", "--model", "runs/v1")
    assert result.ret == 4
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    result.stderr.fnmatch_lines(["ERROR: *no scorers*"])


def test_bad_eval_data_is_found_before_the_engine(project: Project) -> None:
    """A duplicate id names both lines; no engine starts."""
    data = project.path / "evalsuites/data/addition.jsonl"
    data.write_text(data.read_text() + data.read_text().splitlines()[0] + "\n")
    result = project.run("evalsuites", "--model", "runs/v1")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: *201*"])
    assert "starting" not in result.stdout.str()


def test_a_damaged_baseline_is_found_before_the_engine(accepted: Project) -> None:
    """A flipped byte in a baseline is exit code 4, not a verdict."""
    (baseline,) = (accepted.path / "evalsuites/baselines").rglob("*.jsonl")
    text = baseline.read_text()
    baseline.chmod(0o644)
    baseline.write_text(text.replace('"outputs":["?"]', '"outputs":["!"]', 1))
    result = accepted.run("evalsuites", "--model", "runs/v2")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: *addition.jsonl*"])


def test_an_engine_that_dies_makes_gates_error(accepted: Project) -> None:
    """A crash is ERROR, not FAILED; what was answered is kept, and the next run finishes with the same record."""
    straight = accepted.run("evalsuites", "--model", "runs/v2", "-v")
    (record,) = (accepted.path / ".evalgate/records").glob("v2-*/arithmetic/*.jsonl")
    accepted.configure(WRONG, crash_after=120)
    for made in (accepted.path / ".evalgate/cache.sqlite", record):
        made.chmod(0o644)
        made.unlink()
    crashed = accepted.run("evalsuites", "--model", "runs/v2", "-v")
    assert crashed.ret == 1
    crashed.assert_outcomes(errors=2)
    crashed.stdout.fnmatch_lines(["*addition::exact_match ERROR*", "*kill*"])
    accepted.configure(WRONG)
    resumed = accepted.run("evalsuites", "--model", "runs/v2", "-v")
    assert (straight.ret, resumed.ret) == (0, 0)
    assert record.is_file(), "the resumed run has another digest than the straight one"
    resumed.stdout.fnmatch_lines(["* answers generated*from the cache*"])
    assert not any(line.startswith("200 answers generated") for line in resumed.outlines)


def test_a_request_that_fails_is_never_a_score(accepted: Project) -> None:
    """One sample without an answer makes the evaluation incomplete: ERROR with the sample named, nothing accepted."""
    accepted.configure(WRONG, fail=["7+12="])
    result = accepted.run("evalsuites", "--model", "runs/v2")
    assert result.ret == 1
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*s147*"])
    refused = accepted.evalgate("accept", "runs/v2", "-m", "no")
    assert refused.returncode == 2
    assert "2 of 200" in refused.stderr


def test_junit_holds_the_numbers(accepted: Project) -> None:
    """The JUnit file carries verdict, difference and counts as properties of the test case."""
    accepted.run("evalsuites", "--model", "runs/v3", "--junitxml=out.xml")
    cases = ElementTree.parse(accepted.path / "out.xml").iter("testcase")
    case = next(case for case in cases if "exact_match" in str(case.get("name")))
    found = {item.get("name"): item.get("value") for item in case.iter("property")}
    assert found["evalgate.outcome"] == "REGRESSION"
    assert float(str(found["evalgate.delta"])) == -0.25
    assert found["evalgate.n"] == "200"


def test_one_blocking_metric_is_not_pooled(accepted: Project) -> None:
    """With one blocking metric its verdict is the whole: no item of the session follows."""
    result = accepted.run("evalsuites", "--model", "runs/v2", "-v")
    assert "evalsuites::pooled" not in result.stdout.str()


def test_the_pooled_test_ends_the_session(two_suites: Project) -> None:
    """With several blocking metrics one more item pools them."""
    result = two_suites.run("evalsuites", "--model", "runs/v2", "-v")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["evalsuites::pooled PASSED*"])
