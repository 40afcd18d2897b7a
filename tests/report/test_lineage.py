"""How a version was made, as its card tells it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from evalgate.report.card.lineage import made
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
        grad_norms=(None, 3.0, 2.0),
        seconds=3725.4,
        overrides=("lora.r=8",),
        config_file="conf/sft.yaml",
    ),
    code={"commit": "abc123", "dirty": False, "diff": None},
    environment={"torch": "2.13.0", "gpu": {"name": "none"}},
    why="shorter answers",
    command="pytest --train conf/sft.yaml",
)


def test_nothing_is_told_of_what_nobody_knows() -> None:
    """A checkpoint without a lineage has no such section; one whose trainer said little shows that little."""
    assert made(None) is None
    found = made(replace(LINEAGE, training=None))
    assert found
    assert not found.run
    assert (found.data, found.settings, found.curves) == ((), (), ())
    assert [name for name, _ in found.facts] == ["Version", "Trained from", "Made", "Code", "Command"]
    assert found.why == "shorter answers"


def test_what_people_ask_comes_first_and_nothing_is_empty() -> None:
    """Why, from what, by which configuration and how far; what is not stated has no row."""
    found = made(LINEAGE)
    assert found
    assert found.run
    assert (found.why, found.hypothesis) == ("shorter answers", "")
    facts = dict(found.facts)
    assert next(iter(facts)) == "Version"
    assert facts["Trained from"] == f"v1 (models/base), sha256:{'2' * 64}"
    assert facts["Progress"] == "1,200 steps, 2 epochs, 3,725 s"
    assert facts["Loss"] == "2.0000 at first, 0.5000 at last"
    assert facts["Rows in the order in which they were kept"] == "sha256:" + "5" * 64
    assert facts["Code"] == "abc123"
    assert facts["Eval samples in the training text"] == "none was found"
    assert "Loss on held-out rows" not in facts
    assert all(facts.values())
    assert found.data == (("data/a.jsonl", "900 of 1,000", "messages", "shuffled with seed 0", f"sha256:{'4' * 64}"),)
    assert found.settings == (("lora.r", "8"), ("publishing.runs", "runs"))
    assert found.environment == (("gpu.name", "none"), ("torch", "2.13.0"))


def test_only_what_was_kept_is_drawn() -> None:
    """Loss and gradient norm have a curve; a learning rate that older versions did not keep has none."""
    found = made(LINEAGE)
    assert found
    assert [(plot.title, plot.unit) for plot in found.curves] == [
        ("Training loss", "nats per token"),
        ("Gradient norm", ""),
    ]


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
