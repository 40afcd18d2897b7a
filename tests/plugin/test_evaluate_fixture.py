"""The `evaluate` fixture: ordinary tests over an Evaluation."""

from __future__ import annotations

from tests.plugin.conftest import SUITE, Project

TEST = """
def test_two_digits(evaluate):
    frame = evaluate(addition).frame
    assert frame.query("digits == 2")["exact_match"].mean() > 0.5
    assert list(frame.columns)[:4] == ["id", "digits", "exact_match", "numeric"]
"""


def test_a_test_sees_the_frame(accepted: Project) -> None:
    """Rows, slices as numbers and scores stand in a pandas frame; the answers are those of the gate."""
    accepted.suite("test_arithmetic", SUITE + TEST)
    result = accepted.run("evalsuites", "--model", "runs/v2")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["200 answers generated*"])


def test_several_models_parametrise_it(accepted: Project) -> None:
    """With two checkpoints the test runs once for each."""
    accepted.suite("test_arithmetic", SUITE + TEST)
    result = accepted.run("evalsuites", "--model", "runs/v1", "--model", "runs/v2", "-v", "-k", "two_digits")
    result.assert_outcomes(passed=2, deselected=4)
    result.stdout.fnmatch_lines(["*test_two_digits?v1?*", "*test_two_digits?v2?*"])


def test_without_a_model_it_says_what_is_missing(project: Project) -> None:
    """A test that needs a checkpoint is an error with the command, not a skip."""
    project.suite("test_arithmetic", "def test_it(evaluate):\n    pass\n")
    result = project.run("evalsuites")
    assert result.ret != 0
    assert "--model runs/v3" in result.stdout.str() + result.stderr.str()


def test_an_engine_failure_is_an_error_line(accepted: Project) -> None:
    """A test that asks a dead engine fails with one line."""
    accepted.suite("test_arithmetic", SUITE + TEST)
    accepted.configure({"v2": 1}, crash_after=3)
    result = accepted.run("evalsuites", "--model", "runs/v2", "-k", "two_digits")
    assert result.ret == 1
    assert "Traceback" not in result.stdout.str()
