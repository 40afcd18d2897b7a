"""How a version was made, as its card tells it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalgate.report.lineage import HEIGHT, POINTS, WIDTH, curve, made
from evalgate.version import DataFile, Lineage, Parent, TrainingRun

LINEAGE = Lineage(
    name="v3",
    digest="sha256:" + "1" * 64,
    kind="adapter",
    files={},
    created="2026-01-01T00:00:00+00:00",
    parent=Parent("v1", "models/base", "sha256:" + "2" * 64),
    epoch=2.0,
    step=1200,
    training=TrainingRun(
        key="sha256:" + "3" * 64,
        config={"lora": {"r": 8}, "publishing": {"runs": "runs"}},
        data=(DataFile("data/a.jsonl", "sha256:" + "4" * 64, 1000, 900, "messages", ("shuffled with seed 0",)),),
        data_digest="sha256:" + "5" * 64,
        losses=(2.0, 1.0, 0.5),
        seconds=3725.4,
        overrides=("lora.r=8",),
        config_file="conf/sft.yaml",
    ),
    code={"commit": "abc123", "dirty": False, "diff": None},
    why="shorter answers",
    command="pytest --train conf/sft.yaml",
)


def test_nothing_is_told_of_what_nobody_knows() -> None:
    """A checkpoint without a lineage, or of a trainer that did not say how it trained, has no such section."""
    assert made(None) is None
    assert made(replace(LINEAGE, training=None)) is None


def test_what_people_ask_comes_first_and_nothing_is_empty() -> None:
    """Why, from what, by which configuration and how far; what is not stated has no row."""
    found = made(LINEAGE)
    assert found
    facts = dict(found.facts)
    assert next(iter(facts)) == "Why"
    assert facts["Trained from"] == f"v1 (models/base), sha256:{'2' * 64}"
    assert facts["Progress"] == "1,200 steps, 2 epochs, 3,725 s"
    assert facts["Loss"] == "2.0000 at first, 0.5000 at last"
    assert facts["Code"] == "abc123"
    assert facts["Again"] == "evalgate reproduce runs/v3"
    assert facts["Eval samples in the training text"] == "none was found"
    assert not {"Hypothesis", "Loss on held-out rows"} & facts.keys()
    assert all(facts.values())
    assert found.data == (("data/a.jsonl", f"900 of 1,000 rows, messages, sha256:{'4' * 64}; shuffled with seed 0"),)
    assert found.settings == (("lora.r", "8"), ("publishing.runs", "runs"))


@pytest.mark.parametrize(
    ("changes", "name", "said"),
    [
        (
            {"leaked": {"sums/sums": tuple(f"s{i}" for i in range(7))}},
            "Eval samples in the training text",
            "sums/sums: s0",
        ),
        ({"held_out_loss": 0.12345}, "Loss on held-out rows", "0.1235"),
        ({"overrides": ("lora.r=4", "name=x")}, "Changed on the command line", "lora.r=4, name=x"),
    ],
)
def test_what_is_stated_has_a_row(changes: dict[str, object], name: str, said: str) -> None:
    """Leaked samples are named, the held-out loss and what was typed stand there."""
    assert LINEAGE.training
    found = made(replace(LINEAGE, training=replace(LINEAGE.training, **changes)))  # type: ignore[arg-type]
    assert found
    assert dict(found.facts)[name].startswith(said)


def test_code_that_was_not_committed_is_said() -> None:
    """The commit alone would be half the truth."""
    found = made(replace(LINEAGE, code={"commit": "abc123", "dirty": True, "diff": "sha256:" + "6" * 64}))
    assert found
    assert dict(found.facts)["Code"] == "abc123, and what was not committed (666666666666)"


@pytest.mark.parametrize("losses", [(), (1.0,)])
def test_a_point_is_no_curve(losses: tuple[float, ...]) -> None:
    """It takes two."""
    assert curve(losses) is None


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=1000))
def test_a_curve_stays_in_its_box(losses: list[float]) -> None:
    """From the left to the right end, never outside, at most so many points however long the training was."""
    found = curve(losses)
    assert found
    points = [tuple(map(float, point.split(","))) for point in found.points.split()]
    assert len(points) == min(POINTS, len(losses))
    assert (points[0][0], points[-1][0]) == (0, WIDTH)
    assert all(a[0] < b[0] for a, b in pairwise(points))
    assert all(0 <= y <= HEIGHT for _, y in points)
    assert found.steps == len(losses)


def test_a_curve_that_falls_falls() -> None:
    """The largest loss lies at the top of the box, the lowest at the bottom."""
    found = curve([3.0, 2.0, 1.0])
    assert found
    assert found.points == f"0.0,0.0 320.0,60.0 {WIDTH}.0,{HEIGHT}.0"
    assert (found.low, found.high) == ("1.000", "3.000")
