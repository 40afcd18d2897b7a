"""`--eval-nightly`: a new candidate every night, a stricter level, and a red that must show on the reserve too."""

from __future__ import annotations

import json

import pytest

from tests.plugin.conftest import ROWS, Project
from tests.plugin.test_top_up import SUITE, answered


@pytest.fixture
def nightly(project: Project) -> Project:
    """100 sums are asked and 100 kept back; `unlucky` is worse on the first ones only, `worse` on both."""
    for name, rows in (("main", ROWS[:90] + ROWS[190:]), ("reserve", ROWS[90:190])):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (project.path / f"evalsuites/data/{name}.jsonl").write_text(text)
    project.suite("test_arithmetic", SUITE)
    project.configure({"v1": 2, "unlucky": 40, "worse": 140, "v2": 2})
    for name in ("unlucky", "worse"):
        project.checkpoint(name)
    project.accept("runs/v1")
    return project


def test_a_red_that_does_not_show_again_is_undecided(nightly: Project) -> None:
    """The regression on the first questions is not there on those kept back: no alarm, but said."""
    result = nightly.run("evalsuites", "--model", "runs/unlucky", "--eval-nightly")
    assert result.ret == 0
    assert answered(result) == [100, 100]
    text = " ".join(result.stdout.str().split())
    assert "INCONCLUSIVE" in text
    assert "worse: p < .0001 at level .01; not confirmed on the reserve: 0.0 pt" in text


def test_a_red_that_shows_again_stands(nightly: Project) -> None:
    """Worse on both: blocked, with both numbers; and the same candidate is blocked without the flag, unconfirmed."""
    result = nightly.run("evalsuites", "--model", "runs/worse", "--eval-nightly")
    assert result.ret == 1
    text = " ".join(result.stdout.str().split())
    assert "confirmed on the reserve: -50.0 pt" in text
    assert "not confirmed" not in text
    for name in ("unlucky", "worse"):
        assert nightly.run("evalsuites", "--model", f"runs/{name}").ret == 1


def test_a_green_night_draws_nothing_and_says_what_to_expect(nightly: Project) -> None:
    """An equal model needs no confirmation; alpha is .01 unless it is typed; false alarms are counted in advance."""
    result = nightly.run("evalsuites", "--model", "runs/v2", "--eval-nightly")
    assert result.ret == 0
    assert answered(result) == [100]
    result.stdout.fnmatch_lines(["*a model that never changed would be blocked 0.015 times in 30 runs"])
    typed = nightly.run("evalsuites", "--model", "runs/v2", "--eval-nightly", "--eval-alpha", "0.05")
    typed.stdout.fnmatch_lines(["*would be blocked 0.075 times in 30 runs"])


def test_without_a_reserve_a_red_stands(accepted: Project) -> None:
    """Nothing to confirm on: fail closed, and the expected false alarms are those of alpha alone."""
    result = accepted.run("evalsuites", "--model", "runs/v3", "--eval-nightly")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*would be blocked 0.3 times in 30 runs"])
