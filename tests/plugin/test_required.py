"""`required`: a skipped gate is not a pass."""

from __future__ import annotations

import pytest

from tests.plugin.conftest import WRONG, Project


@pytest.fixture
def strict(two_suites: Project) -> Project:
    """Two suites, both required."""
    two_suites.configure(
        WRONG, settings='required = ["arithmetic/addition::exact_match", "second/doubling::exact_match"]'
    )
    return two_suites


def test_all_ran_and_passed(strict: Project) -> None:
    """The negative control: with everything run, required changes nothing."""
    assert strict.run("evalsuites", "--model", "runs/v2").ret == 0


@pytest.mark.parametrize(
    "selection", [("-k", "addition"), ("-k", "nothing_like_it"), ("--deselect", "evalsuites/test_second.py")]
)
def test_deselecting_a_required_gate_fails(strict: Project, selection: tuple[str, str]) -> None:
    """Passing tests are not enough when a required one did not run; the reason is named."""
    result = strict.run("evalsuites", "--model", "runs/v2", *selection)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*required and not run*second/doubling::exact_match*"])


def test_a_task_that_is_gone_fails(strict: Project) -> None:
    """Deleting the suite does not delete the requirement."""
    (strict.path / "evalsuites/test_second.py").unlink()
    assert strict.run("evalsuites", "--model", "runs/v2").ret == 1


def test_without_required_a_partial_run_passes(two_suites: Project) -> None:
    """By default PARTIAL is shown and passes."""
    assert two_suites.run("evalsuites", "--model", "runs/v2", "-k", "addition").ret == 0
