"""Accepting: a recorded evaluation becomes the baseline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from evalgate.accept import accept, accept_command
from evalgate.errors import InputError, RecordError
from evalgate.evaluation import Evaluation
from evalgate.ledger import Ledger
from evalgate.store import read_baseline
from tests.unit.evaluations import evaluation

TASK = "arithmetic/addition"


def recorded(scores: list[float], name: str = "v1", **changes: object) -> Evaluation:
    """A record of a suite in `evalsuites`."""
    return replace(
        evaluation(scores, name=name), provenance={"suite": "evalsuites", "created": "2026-01-01T00:00:00+00:00"}
    )


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests accept as a person does, also where CI runs them."""
    monkeypatch.delenv("CI", raising=False)


def test_the_first_baseline_is_its_own_anchor(tmp_path: Path) -> None:
    """Path, header and ledger say who accepted what and why."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    record = recorded([1.0, 0.0])
    (done,) = accept({TASK: record}, why=" good enough ", root=tmp_path, ledger=ledger)
    baseline = read_baseline(tmp_path / "evalsuites/baselines/arithmetic/addition.jsonl", TASK)
    assert done.previous is None
    assert baseline is not None
    assert baseline.acceptance is not None
    assert baseline.digest == record.digest == baseline.acceptance.anchor
    assert baseline.acceptance.why == "good enough"
    (entry,) = ledger.entries()
    assert (entry.kind, entry.body["baseline"], entry.body["task"]) == ("accept", record.digest, TASK)


def test_the_next_one_keeps_the_anchor_and_names_the_last(tmp_path: Path) -> None:
    """The line of baselines is chained: previous and anchor; --new-anchor starts another line."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    first, second, third = recorded([1.0, 0.0]), recorded([1.0, 1.0], "v2"), recorded([0.0, 1.0], "v3")
    accept({TASK: first}, why="first", root=tmp_path, ledger=ledger)
    (done,) = accept({TASK: second}, why="better", root=tmp_path, ledger=ledger)
    now = read_baseline(done.path)
    assert now is not None
    assert now.acceptance is not None
    assert (now.acceptance.previous, now.acceptance.anchor) == (first.digest, first.digest)
    (fresh,) = accept({TASK: third}, why="new line", root=tmp_path, ledger=ledger, new_anchor=True)
    moved = read_baseline(fresh.path)
    assert moved is not None
    assert moved.acceptance is not None
    assert (moved.acceptance.previous, moved.acceptance.anchor) == (second.digest, third.digest)


def test_a_part_of_the_family_is_accepted_only_by_name(tmp_path: Path) -> None:
    """What the last run did not record is missing, unless the tasks meant are named."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    family = (TASK, "orders/orders")
    with pytest.raises(InputError, match="orders/orders"):
        accept({TASK: recorded([1.0])}, why="w", root=tmp_path, ledger=ledger, family=family)
    assert not (tmp_path / "evalsuites").exists()
    assert accept({TASK: recorded([1.0])}, why="w", root=tmp_path, ledger=ledger, family=family, tasks=(TASK,))


def test_an_incomplete_evaluation_is_refused(tmp_path: Path) -> None:
    """A row without an answer makes a bad bar; nothing is written for any task."""
    broken = replace(
        evaluation([1.0, None], errors={1: "sample q00001: out of memory"}), provenance={"suite": "evalsuites"}
    )
    with pytest.raises(RecordError, match=r"1 of 2 rows .*out of memory"):
        accept({TASK: broken}, why="w", root=tmp_path, ledger=Ledger(tmp_path / "l.jsonl"))
    assert not (tmp_path / "evalsuites").exists()


def test_ci_cannot_move_the_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With CI set accepting is refused, whatever is asked."""
    monkeypatch.setenv("CI", "true")
    with pytest.raises(InputError, match="in CI"):
        accept({TASK: recorded([1.0])}, why="w", root=tmp_path, ledger=Ledger(tmp_path / "l.jsonl"))


@pytest.mark.parametrize("why", ["", "  \n"])
def test_a_reason_is_needed(tmp_path: Path, why: str) -> None:
    """A baseline without a why is refused."""
    with pytest.raises(InputError, match="reason"):
        accept({TASK: recorded([1.0])}, why=why, root=tmp_path, ledger=Ledger(tmp_path / "l.jsonl"))


def test_the_command_can_be_pasted() -> None:
    """A path where there is one, else the first digits of the digest."""
    assert accept_command({"digest": "sha256:" + "ab" * 32}, "runs/v2") == 'evalgate accept runs/v2 -m "why"'
    assert accept_command({"digest": "sha256:" + "ab" * 32}, None) == 'evalgate accept abababababab -m "why"'
