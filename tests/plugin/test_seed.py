"""`--eval-seed N`: the same questions, drawn again."""

from __future__ import annotations

import pytest

from evalgate.evaluation import Evaluation
from evalgate.plan import fresh_seed
from evalgate.store import Store
from tests.plugin.conftest import SUITE, WRONG, Project

DRAWN = SUITE.replace("max_tokens=8", "max_tokens=8, temperature=0.7")


@pytest.fixture
def drawn(project: Project) -> Project:
    """A task with a temperature, of which the fake writes another word for every seed."""
    project.suite("test_arithmetic", DRAWN)
    project.configure({})
    return project


def record(project: Project, *args: str) -> Evaluation:
    """What v1 was recorded with last, after a run with these options."""
    assert project.run("evalsuites", "--model", "runs/v1", "--eval-record-only", *args).ret == 0
    return list(Store(project.path / ".evalgate").all())[-1]


def outputs(evaluation: Evaluation) -> list[str]:
    """Everything that was written."""
    return [text for row in evaluation.rows for text in row.outputs]


def test_another_number_is_another_draw(drawn: Project) -> None:
    """Answers differ between none, 1 and 2, and are the same for the same number; the record names the seed."""
    plain, one, two = record(drawn), record(drawn, "--eval-seed", "1"), record(drawn, "--eval-seed", "2")
    assert (plain.seed, one.seed, two.seed) == (0, fresh_seed(0, 1), fresh_seed(0, 2))
    assert len({*outputs(plain), *outputs(one), *outputs(two)}) == 600
    assert len({plain.samples, one.samples, two.samples}) == 1
    assert record(drawn, "--eval-seed", "1").digest == one.digest


def test_without_the_option_nothing_changed(drawn: Project) -> None:
    """The task's own seed is what its requests are derived from, and what the cache and the record know."""
    before = record(drawn)
    drawn.suite("test_arithmetic", DRAWN.replace("temperature=0.7", "temperature=0.7, seed=0"))
    assert record(drawn).digest == before.digest
    drawn.suite("test_arithmetic", DRAWN.replace("temperature=0.7", f"temperature=0.7, seed={fresh_seed(0, 1)}"))
    declared = record(drawn)
    drawn.suite("test_arithmetic", DRAWN)
    assert record(drawn, "--eval-seed", "1").digest == declared.digest


def test_greedy_answers_come_from_the_cache(project: Project) -> None:
    """Greedy decoding draws nothing: another seed asks for nothing new."""
    record(project)
    again = project.run("evalsuites", "--model", "runs/v1", "--eval-record-only", "--eval-seed", "1")
    again.stdout.fnmatch_lines(["0 answers generated*200 from the cache (no engine started)"])


def test_another_seed_is_named_and_not_refused(drawn: Project) -> None:
    """A baseline of another draw is compared with, and the note says both seeds."""
    drawn.configure(WRONG)
    drawn.accept("runs/v1")
    result = drawn.run("evalsuites", "--model", "runs/v2", "--eval-seed", "1")
    assert result.ret == 0
    result.stdout.fnmatch_lines([f"*note: seed: candidate {fresh_seed(0, 1)}, baseline 0*"])
    plain = drawn.run("evalsuites", "--model", "runs/v2")
    assert "note: seed" not in plain.stdout.str()


def test_the_setting_means_the_same_and_the_option_wins(drawn: Project) -> None:
    """[tool.evalgate] seed = 1, and --eval-seed over it."""
    drawn.configure({}, settings="seed = 1")
    assert record(drawn).seed == fresh_seed(0, 1)
    assert record(drawn, "--eval-seed", "2").seed == fresh_seed(0, 2)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--model", "runs/v1", "--eval-seed", "-1"), "*eval-seed*whole number from 0*"),
        (("--eval-records", ".", "--eval-seed", "1"), "*--eval-seed draws answers, and records have theirs*"),
    ],
)
def test_a_seed_that_means_nothing_is_refused(project: Project, args: tuple[str, ...], says: str) -> None:
    """A negative number, and drawing what is recorded: exit code 4."""
    result = project.run("evalsuites", *args)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"ERROR: {says}"])
