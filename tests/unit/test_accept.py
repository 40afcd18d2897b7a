"""Accepting: a recorded evaluation becomes the baseline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evalgate.accept import Accepted, accept, accept_command, drawn, selection_advice
from evalgate.digest import digest
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


# -- the best of several ----------------------------------------------------------------------------------------------

DRAWN: dict[str, Any] = {"sampling": {"temperature": 0.7}}


def looked(ledger: Ledger, *names: str, seed: int = 0, task: str = TASK) -> None:
    """A run that was planned for these checkpoints."""
    ledger.append(
        "plan", {"candidates": {n: digest(n) for n in names}, "samples": {task: "sha256:s"}, "seeds": {task: seed}}
    )


def gated(ledger: Ledger, name: str, seed: int = 0) -> None:
    """A verdict over a record from elsewhere, of which no plan stands here."""
    ledger.append("verdict", {"candidate": digest(name), "records": {TASK: "sha256:r"}, "seeds": {TASK: seed}})


def chosen(ledger: Ledger, root: Path, name: str, *, product: str | None = None, **made: Any) -> int:
    """Accept the record of a checkpoint: among how many, by the baseline's own header."""
    record = replace(evaluation([1.0, 0.0], name=name, **made), provenance={"suite": "evalsuites"})
    (done,) = accept({TASK: record}, why="w", root=root, ledger=ledger, name=product)
    baseline = read_baseline(done.path)
    assert baseline is not None
    assert baseline.acceptance is not None
    assert done.selected_from == baseline.acceptance.selected_from == ledger.entries()[-1].body["selected_from"]
    return done.selected_from


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """An empty one."""
    return Ledger(tmp_path / "ledger.jsonl")


def test_one_candidate_was_chosen_among_none(ledger: Ledger, tmp_path: Path) -> None:
    """Without a ledger, and with looks at this checkpoint and at other tasks only, nothing was selected."""
    assert chosen(ledger, tmp_path, "v1") == 1
    looked(ledger, "v2")
    looked(ledger, "v2")
    looked(ledger, "v8", "v9", task="orders/orders")
    assert chosen(ledger, tmp_path, "v2") == 1


@pytest.mark.parametrize("how", [{}, DRAWN], ids=["greedy", "drawn"])
def test_every_candidate_looked_at_since_the_last_acceptance_counts(
    ledger: Ledger, tmp_path: Path, how: dict[str, Any]
) -> None:
    """Planned or gated from records, each checkpoint once; acceptances start the count again."""
    looked(ledger, "v1", "v2")
    looked(ledger, "v3")
    gated(ledger, "v3")
    gated(ledger, "v4")
    assert chosen(ledger, tmp_path, "v2", **how) == 4
    looked(ledger, "v5", "v6")
    assert chosen(ledger, tmp_path, "v6", **how) == 2


def test_products_count_apart(ledger: Ledger, tmp_path: Path) -> None:
    """Accepting for one product does not make the choice for another one fresh."""
    looked(ledger, "v1", "v2", "v3")
    assert chosen(ledger, tmp_path, "v1", product="kiosk") == 3
    assert chosen(ledger, tmp_path, "v1") == 3
    assert chosen(ledger, tmp_path, "v2", product="kiosk") == 1


def test_the_incumbent_is_no_competitor(ledger: Ledger, tmp_path: Path) -> None:
    """Running the baseline's own checkpoint again in between selects nothing."""
    assert chosen(ledger, tmp_path, "v1") == 1
    looked(ledger, "v1", "v2")
    assert chosen(ledger, tmp_path, "v2") == 1


def test_a_fresh_draw_of_the_chosen_one_is_chosen_among_none(ledger: Ledger, tmp_path: Path) -> None:
    """Measured again by another seed, before or after accepting, its luck of the first seed is gone."""
    looked(ledger, "v1", "v2", "v3")
    looked(ledger, "v2", seed=7)
    assert chosen(ledger, tmp_path, "v2", seed=7, **DRAWN) == 1
    looked(ledger, "v4", "v5", seed=7)
    assert chosen(ledger, tmp_path, "v4", seed=7, **DRAWN) == 2
    looked(ledger, "v4", seed=8)
    assert chosen(ledger, tmp_path, "v4", seed=8, **DRAWN) == 1


def test_choosing_by_the_fresh_draw_is_choosing_again(ledger: Ledger, tmp_path: Path) -> None:
    """Where all candidates were measured by the new seed too, the best of them is again the best of several."""
    looked(ledger, "v1", "v2", "v3")
    looked(ledger, "v1", "v2", seed=7)
    assert chosen(ledger, tmp_path, "v2", seed=7, **DRAWN) == 2


def test_accepting_twice_refreshes_nothing(ledger: Ledger, tmp_path: Path) -> None:
    """The same measurement stays the best of several, and a greedy one does by any seed: the same answers."""
    looked(ledger, "v1", "v2", "v3")
    assert [chosen(ledger, tmp_path, "v2", **DRAWN) for _ in range(2)] == [3, 3]
    looked(ledger, "v2", "v4")
    assert chosen(ledger, tmp_path, "v2", **DRAWN) == 4
    greedy = Ledger(tmp_path / "greedy/ledger.jsonl")
    looked(greedy, "v1", "v2", "v3")
    assert [chosen(greedy, tmp_path / "greedy", "v2", seed=seed) for seed in (0, 7)] == [3, 3]


def test_only_new_questions_refresh_a_greedy_task(ledger: Ledger, tmp_path: Path) -> None:
    """One question in common keeps the count; none in common is a fresh draw."""
    looked(ledger, "v1", "v2", "v3")
    assert chosen(ledger, tmp_path, "v2") == 3
    assert chosen(ledger, tmp_path, "v2", pairs={0: "new"}) == 3
    assert chosen(ledger, tmp_path, "v2", pairs={0: "newer", 1: "newest"}) == 1


def test_a_seed_is_no_draw_where_nothing_is_generated() -> None:
    """A temperature means nothing to a task that only asks for log-likelihoods."""
    record = evaluation([1.0], **DRAWN)
    assert drawn(record)
    assert not drawn(replace(record, rows=tuple(replace(row, outputs=()) for row in record.rows)))
    assert not drawn(evaluation([1.0]))


def test_the_advice_says_what_helps_which_task(ledger: Ledger, tmp_path: Path) -> None:
    """A seed not used yet for what is drawn, new questions for what is greedy, nothing where nothing was selected."""

    def done(task: str, of: int, **made: Any) -> Accepted:
        return Accepted(tmp_path, evaluation([1.0], task=task, **made), None, of)

    args: dict[str, Any] = {"model": "runs/v2", "suites": "evalsuites", "entries": ()}
    assert selection_advice([done("a/a", 1)], **args) is None
    both = selection_advice([done("a/a", 3, **DRAWN), done("a/b", 5), done("a/c", 1)], **args)
    assert both == (
        "chosen among several candidates by the same questions, so it looks better than it is: a/a (of 3), a/b (of 5). "
        "a/a: measure it again with fresh seeds (pytest evalsuites/ --model runs/v2 --eval-seed 1 --eval-record-only), "
        "then accept it again. a/b: no seed changes the answers; only new questions help."
    )
    ledger.append("plan", {"eval_seed": 4})
    ledger.append("plan", {"eval_seed": None})
    again = selection_advice([done("a/a", 3, **DRAWN)], **{**args, "entries": ledger.entries()})
    assert again is not None
    assert "--eval-seed 5 " in again
    assert "new questions" not in again
