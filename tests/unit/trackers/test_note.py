"""What trackers are told: digests of the training, verdicts and differences of the version, files that exist."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from evalgate.gate import Family, Gate, Member, Policy, decide
from evalgate.trackers import Note, note_of
from evalgate.version import Lineage, Parent, TrainingRun
from tests.unit.evaluations import answers, evaluation

RUN = TrainingRun(key="sha256:k", config={"lora": {"r": 4}}, data=(), data_digest="sha256:d")
LINEAGE = Lineage(
    name="v3",
    digest="sha256:v",
    kind="adapter",
    files={},
    created="2026-01-01T00:00:00+00:00",
    parent=Parent("v2", "runs/v2", "sha256:p"),
    step=16,
    training=RUN,
    why="more sums",
)


def family() -> Family:
    """One metric that fell by 8 points."""
    before, after = answers(n=500, loss=40)
    member = Member(
        task="arithmetic/addition",
        metric="exact_match",
        blocking=True,
        gate=Gate(),
        candidate=evaluation(after),
        baseline=evaluation(before, name="v2"),
    )
    return decide([member], Policy())


def test_a_version_that_was_not_gated_yet(tmp_path: Path) -> None:
    """Its training's digests are params, which never change; what is its own is a tag; there is no verdict."""
    assert note_of(LINEAGE, tmp_path) == Note(
        version="v3",
        step=16,
        params={
            "evalgate/config_digest": RUN.config_digest,
            "evalgate/data_digest": "sha256:d",
            "evalgate/training_key": "sha256:k",
            "evalgate/parent": "runs/v2",
            "evalgate/parent_digest": "sha256:p",
        },
        tags={"evalgate/version": "v3", "evalgate/digest": "sha256:v", "evalgate/why": "more sums"},
    )


def test_a_gated_version(tmp_path: Path) -> None:
    """The verdict, every metric's own, its mean, its difference from the baseline, the ledger's head, the card."""
    (tmp_path / "evalgate.json").write_text("{}")
    card = tmp_path / "index.html"
    card.write_text("<p>")
    note = note_of(LINEAGE, tmp_path, family=family(), card=card, ledger="sha256:l")
    assert (
        note.tags["evalgate/verdict"] == note.tags["evalgate/verdict/arithmetic/addition::exact_match"] == "REGRESSION"
    )
    assert note.tags["evalgate/ledger"] == "sha256:l"
    assert note.tags["evalgate/reason"]
    assert note.metrics["evalgate/difference/arithmetic/addition::exact_match"] == pytest.approx(-0.08)
    assert 0 <= note.metrics["evalgate/value/arithmetic/addition::exact_match"] <= 1
    assert note.files == (str(tmp_path / "evalgate.json"), str(card))


def test_a_version_of_another_program(tmp_path: Path) -> None:
    """Without a training there are no params, and nothing is made up."""
    assert note_of(replace(LINEAGE, training=None, parent=None, step=None), tmp_path).params == {}
