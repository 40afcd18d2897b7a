"""`--eval-top-up`: where the samples do not decide, the task's reserve is drawn in steps, by a test that allows it."""

from __future__ import annotations

import json
import re

import pytest

from tests.plugin.conftest import ROWS, Project

SUITE = """
from evalgate import Gate, Sampling, Task, exact_match, jsonl

addition = Task(
    samples=jsonl("data/main.jsonl"),
    reserve=jsonl("data/reserve.jsonl"),
    prompt="{{ a }}+{{ b }}=",
    sampling=Sampling(max_tokens=8),
    scorers=[exact_match(gate=Gate(margin=0.05))],
)
"""


def answered(result: pytest.RunResult) -> list[int]:
    """How many answers each round took from the engine."""
    return [int(found) for found in re.findall(r"^(\d+) answers generated", result.stdout.str(), re.MULTILINE)]


@pytest.fixture
def kept_back(project: Project) -> Project:
    """40 of the 200 sums are asked, 160 kept back; v1 (10 of 200 wrong) is the baseline."""
    for name, rows in (("main", ROWS[::5]), ("reserve", [row for i, row in enumerate(ROWS) if i % 5])):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (project.path / f"evalsuites/data/{name}.jsonl").write_text(text)
    project.suite("test_arithmetic", SUITE)
    project.configure({"v1": 10, "v2": 9, "little": 26, "much": 70})
    for name in ("little", "much"):
        project.checkpoint(name)
    project.accept("runs/v1")
    return project


def test_without_it_the_reserve_is_left_alone(kept_back: Project) -> None:
    """40 samples do not decide, and say so; the baseline, which has 200, is compared on those 40."""
    result = kept_back.run("evalsuites", "--model", "runs/v2")
    assert result.ret == 0
    assert answered(result) == [40]
    result.stdout.fnmatch_lines(["*INCONCLUSIVE*n=40*"])


def test_an_undecided_task_draws_until_the_last_look(kept_back: Project) -> None:
    """Four steps of 40 are drawn, only what is new is asked, and the last look passes on all 200."""
    result = kept_back.run("evalsuites", "--model", "runs/v2", "--eval-top-up", "-v")
    assert result.ret == 0
    assert answered(result) == [40, 40, 40, 40, 40]
    result.stdout.fnmatch_lines(["*PASSED*n=200*"])
    assert "look 4 of 4 at the reserve" in " ".join(result.stdout.str().split())
    listed = kept_back.evalgate("ls").stdout
    assert len(re.findall(r"^v2 .*n=", listed, re.MULTILINE)) == 1  # one record, of all that was drawn


def test_a_changed_scorer_scores_the_reserve_again_too(kept_back: Project) -> None:
    """The baseline's stored answers to the reserve are compared like the others, by the scorer of today."""
    kept_back.suite("test_arithmetic", SUITE.replace("exact_match(", "exact_match(ignore_case=True, "))
    result = kept_back.run("evalsuites", "--model", "runs/v2", "--eval-top-up", "-v")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*PASSED*n=200*", "*exact_match changed: v1's stored outputs were scored again"])


def test_a_regression_stops_at_the_look_that_shows_it(kept_back: Project) -> None:
    """A small drop takes a few steps, a large one none; neither asks more than it needs."""
    little = kept_back.run("evalsuites", "--model", "runs/little", "--eval-top-up")
    much = kept_back.run("evalsuites", "--model", "runs/much", "--eval-top-up")
    assert (little.ret, much.ret) == (1, 1)
    assert 1 < len(answered(little)) < 5
    assert answered(much) == [40]
    little.stdout.re_match_lines([r"evalgate: little REGRESSION .*look [123] of 4.*"])


def test_a_baseline_without_reserve_cannot_be_topped_up(kept_back: Project) -> None:
    """A record without the reserve is refused as a baseline, and `--eval-record-only` is what mends it."""
    kept_back.run("evalsuites", "--model", "runs/v2")
    refused = kept_back.evalgate("accept", "runs/v2", "-m", "better")
    assert refused.returncode == 2
    assert "0 of 4 steps" in refused.stderr
    assert "--eval-record-only" in refused.stderr
    kept_back.accept("runs/v2")
    assert "reserve      drawn up to step 4 of 4" in kept_back.evalgate("show", "runs/v2", "arithmetic/addition").stdout


def test_it_is_a_setting_too_and_excludes_nightly(kept_back: Project) -> None:
    """`reserve = "top-up"` does the same; the reserve cannot decide and confirm at once."""
    kept_back.configure({"v1": 10, "v2": 9}, 'reserve = "top-up"')
    assert len(answered(kept_back.run("evalsuites", "--model", "runs/v2"))) == 5
    both = kept_back.run("evalsuites", "--model", "runs/v2", "--eval-top-up", "--eval-nightly")
    assert both.ret == pytest.ExitCode.USAGE_ERROR
    both.stderr.fnmatch_lines(["*leave out one of them*"])
