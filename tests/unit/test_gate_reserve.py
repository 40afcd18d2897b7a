"""Samples in reserve: left alone, looked at step by step, or asked to confirm a regression."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from evalgate.evaluation import Evaluation, Metric, Row
from evalgate.gate import (
    CONFIRM,
    Columns,
    Family,
    Gate,
    Member,
    Outcome,
    Policy,
    Verdict,
    decide,
    decide_columns,
    expected_false_alarms,
)
from evalgate.stats import PooledMetric, mcnemar_e_value, mcnemar_midp, pooled
from tests.unit.evaluations import EXACT, SCORE, answers, evaluation

KEEP, TOP_UP, CONFIRMING = (Policy(reserve=name) for name in ("keep", "top-up", "confirm"))


def stepped(*parts: Sequence[float], **more: Any) -> Evaluation:
    """An evaluation of several looks: the scores of the task's own samples, then those of each step of its reserve."""
    given = evaluation([score for part in parts for score in part], **more)
    looks = [look for look, part in enumerate(parts) for _ in part]
    return replace(given, rows=tuple(replace(row, look=look) for row, look in zip(given.rows, looks, strict=True)))


def member(*parts: tuple[int, int, int], drawn: int = 0, **more: Any) -> Member:
    """A member whose parts have (n, losses, gains) each; the baseline has all of them, the candidate those drawn."""
    sides = [answers(n=n, loss=loss, gain=gain) for n, loss, gain in parts]
    task = more.pop("task", "arithmetic/addition")
    fields: dict[str, Any] = {
        "task": task,
        "metric": "exact_match",
        "blocking": True,
        "gate": Gate(),
        "last_look": len(parts) - 1,
        "candidate": stepped(*(after for _, after in sides[: drawn + 1]), task=task),
        "baseline": stepped(*(before for before, _ in sides), task=task, name="v2"),
    }
    return Member(**fields | more)


def only(given: Member, policy: Policy) -> Verdict:
    """The verdict of a family of one."""
    [verdict] = decide([given], policy).verdicts
    return verdict


def statistics(verdict: Verdict) -> Any:
    """The test behind a verdict."""
    assert verdict.comparison is not None
    return verdict.comparison.test


# -- keep --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drawn", [0, 2])
def test_a_kept_reserve_is_left_alone(drawn: int) -> None:
    """The task's own samples are compared, whether the candidate has the reserve too or not: nothing is missing."""
    verdict = only(member((200, 12, 4), (100, 90, 0), (100, 90, 0), drawn=drawn), KEEP)
    assert (statistics(verdict).n, statistics(verdict).loss, statistics(verdict).gain) == (200, 12, 4)
    assert statistics(verdict).method == "mcnemar-midp/tango"
    assert (verdict.look, verdict.confirmation, verdict.wants_reserve) == (None, None, False)
    assert verdict.comparison is not None
    assert (verdict.comparison.only_baseline, verdict.comparison.only_candidate) == ((), ())


def test_a_floor_is_held_by_the_samples_in_play() -> None:
    """Wrong answers in a reserve that is left alone, or that only confirms, break no floor; at a look they do."""
    given = member((200, 0, 0), (200, 150, 0), drawn=1, gate=Gate(floor=0.9))
    for policy in (KEEP, CONFIRMING):
        verdict = only(given, policy)
        assert (verdict.outcome, verdict.value) == (Outcome.PASS, 1.0)
    looked = only(given, TOP_UP)
    assert (looked.outcome, looked.value) == (Outcome.REGRESSION, 0.625)
    assert "below its floor of .900: .625" in looked.reason


def test_without_views_a_reserve_would_be_missing_coverage() -> None:
    """The negative control: rows that the candidate lacks and that are no reserve are refused."""
    given = member((200, 12, 4), (100, 90, 0))
    assert given.baseline is not None
    plain = replace(given.baseline, rows=tuple(replace(row, look=0) for row in given.baseline.rows))
    verdict = only(replace(given, baseline=plain), KEEP)
    assert verdict.outcome is Outcome.INCOMPARABLE
    assert "100 not asked again" in verdict.reason


def test_the_baseline_named_is_the_record_and_not_the_view() -> None:
    """What is compared is a part of a record; what is told is the record's digest."""
    given = member((200, 0, 0), (100, 0, 0))
    verdict = only(given, KEEP)
    assert verdict.comparison is not None
    assert given.baseline is not None
    assert verdict.comparison.baseline_digest == given.baseline.digest


def test_drift_is_measured_on_the_tasks_own_samples() -> None:
    """The anchor may have a reserve, or none."""
    anchor = stepped([1.0] * 300, [1.0] * 50, name="v1")
    given = member((300, 1, 0), (100, 0, 0), drawn=1, anchor=anchor)
    verdict = only(given, TOP_UP)
    assert verdict.anchor is not None
    assert verdict.anchor.test.n == 300


# -- top-up ------------------------------------------------------------------------------------------------------------


def test_from_the_first_look_the_e_value_is_what_blocks() -> None:
    """p is 1/E at every look, the first as the last, and what is drawn so far is what is compared."""
    parts = (100, 9, 2), (50, 5, 1), (50, 4, 1)
    losses = gains = n = 0
    for look, (size, loss, gain) in enumerate(parts):
        losses, gains, n = losses + loss, gains + gain, n + size
        verdict = only(member(*parts, drawn=look), TOP_UP)
        assert verdict.look == (look, 2)
        assert (statistics(verdict).n, statistics(verdict).method) == (n, "mcnemar-e-value/tango")
        assert verdict.p_adjusted == pytest.approx(min(1, np.exp(-mcnemar_e_value(losses, gains))))
        assert f"look {look} of 2 at the reserve" in verdict.reason


def test_e_values_go_through_holm_as_p_values_do() -> None:
    """Two metrics: the smaller p is doubled and held against half of alpha."""
    given = member((100, 14, 2), (50, 0, 0)), member((100, 9, 2), (50, 0, 0), task="arithmetic/other")
    small, large = (verdict.p_adjusted for verdict in decide(given, TOP_UP).verdicts)
    assert small == pytest.approx(2 * np.exp(-mcnemar_e_value(14, 2)))
    assert large == pytest.approx(np.exp(-mcnemar_e_value(9, 2)))


@pytest.mark.parametrize("drawn", [0, 1, 2])
def test_a_regression_may_be_found_at_any_look(drawn: int) -> None:
    """No more samples are wanted then."""
    verdict = only(member((200, 40, 2), (50, 10, 0), (50, 10, 0), drawn=drawn), TOP_UP)
    assert (verdict.outcome, verdict.wants_reserve) == (Outcome.REGRESSION, False)


def test_a_pass_waits_for_the_last_look() -> None:
    """Equal answers would pass at once without a reserve; with one they are inconclusive until it is used up."""
    parts = (400, 0, 0), (50, 0, 0), (50, 0, 0)
    seen = [only(member(*parts, drawn=drawn), TOP_UP) for drawn in range(3)]
    assert [verdict.outcome for verdict in seen] == [Outcome.INCONCLUSIVE, Outcome.INCONCLUSIVE, Outcome.PASS]
    assert [verdict.wants_reserve for verdict in seen] == [True, True, False]
    assert only(member(*parts), KEEP).outcome is Outcome.PASS


def test_what_stays_undecided_at_the_last_look_wants_no_more() -> None:
    """There is nothing left to draw."""
    verdict = only(member((60, 5, 3), (20, 1, 1), drawn=1), TOP_UP)
    assert (verdict.outcome, verdict.look, verdict.wants_reserve) == (Outcome.INCONCLUSIVE, (1, 1), False)


def test_the_last_look_is_the_last_that_both_sides_can_have() -> None:
    """A baseline that was recorded with half of the reserve ends the looks there."""
    given = member((400, 0, 0), (50, 0, 0), (50, 0, 0), drawn=2)
    assert given.baseline is not None
    verdict = only(replace(given, baseline=given.baseline.drawn(0, 1)), TOP_UP)
    assert (verdict.look, statistics(verdict).n, verdict.outcome) == ((1, 1), 450, Outcome.PASS)


def test_a_floor_and_a_golden_sample_break_at_any_look() -> None:
    """They ask for no evidence, so none is wanted."""
    parts = (400, 1, 0), (50, 0, 0)
    for broken, says in (({"golden": ("q00000",)}, "golden"), ({"gate": Gate(floor=0.999)}, "floor")):
        verdict = only(member(*parts, **broken), TOP_UP)
        assert (verdict.outcome, verdict.wants_reserve) == (Outcome.REGRESSION, False)
        assert says in verdict.reason


def test_a_baseline_without_reserve_is_said_and_compared_as_ever() -> None:
    """Nothing can be drawn against it."""
    given = member((400, 0, 0), (50, 0, 0))
    assert given.baseline is not None
    bare = replace(given, baseline=given.baseline.drawn(0, 0))
    for policy in (TOP_UP, CONFIRMING):
        verdict = only(bare, policy)
        assert (verdict.outcome, verdict.look, verdict.wants_reserve) == (Outcome.PASS, None, False)
        assert statistics(verdict).method == "mcnemar-midp/tango"
        assert "the baseline has no reserve: accept one that was recorded with --eval-record-only" in verdict.reason
    assert "no reserve" not in only(bare, KEEP).reason
    assert "no reserve" not in only(replace(bare, last_look=0), TOP_UP).reason


@pytest.mark.parametrize("kind", ["score", "clusters", "generations", "weights"])
def test_what_cannot_be_counted_is_compared_on_its_own_samples(kind: str) -> None:
    """An ordinary p-value must not be looked at twice, so these neither use the reserve nor want it."""
    kinds: dict[str, dict[str, Any]] = {
        "score": {"metric": SCORE},
        "clusters": {"clusters": [f"d{i % 60}" for i in range(180)]},
        "generations": {"sampling": {"n": 4, "temperature": 1.0}},
        "weights": {"metric": replace(EXACT, weighted=True)},
    }
    sides = kinds[kind]
    rng = np.random.default_rng(0)
    before, after = (rng.integers(0, 2, 180).astype(float).tolist() for _ in range(2))
    metric: Metric = sides.get("metric", EXACT)
    candidate = stepped(after[:120], after[120:], **sides)
    given = Member(
        task="arithmetic/addition",
        metric=metric.name,
        blocking=True,
        gate=Gate(),
        last_look=1,
        candidate=candidate,
        baseline=stepped(before[:120], before[120:], name="v2", **sides),
    )
    for drawn in (given, replace(given, candidate=candidate.drawn(0, 0))):
        verdict = only(drawn, TOP_UP)
        assert verdict.outcome is Outcome.INCONCLUSIVE
        assert (verdict.look, verdict.wants_reserve, statistics(verdict).n) == (None, False, 120)
        assert "e-value" not in statistics(verdict).method
        assert statistics(verdict) == statistics(only(drawn, KEEP))


def test_metrics_that_only_inform_want_no_reserve() -> None:
    """They can be looked at, but nothing hangs on them."""
    blocking, informing = member((60, 5, 3), (20, 0, 0)), member((60, 5, 3), (20, 0, 0), task="b/b", blocking=False)
    family = decide([blocking, informing], TOP_UP)
    assert [verdict.wants_reserve for verdict in family.verdicts] == [True, False]
    assert family.wants_reserve == ("arithmetic/addition",)


def test_metrics_at_different_looks_share_their_questions_in_the_pool() -> None:
    """A question that both metrics ask is one cluster, though it stands elsewhere in what each of them sees."""
    rng = np.random.default_rng(3)
    looks = rng.permutation(np.repeat(range(5), 160))
    sides = (rng.random(800) < 0.7).astype(float), (rng.random(800) < 0.6).astype(float)

    def both(scores: Any, name: str, drawn: int) -> Evaluation:
        made = evaluation(scores.tolist(), name=name)
        rows = [
            replace(row, look=int(look), scores={"exact_match": score, "chrf": score})
            for row, look, score in zip(made.rows, looks, scores.tolist(), strict=True)
            if look <= drawn
        ]
        return replace(made, rows=tuple(rows), metrics=(EXACT, SCORE))

    members = [
        Member(
            task="arithmetic/addition",
            metric=metric.name,
            blocking=True,
            gate=Gate(),
            last_look=4,
            candidate=both(sides[1], "v3", 2),
            baseline=both(sides[0], "v2", 4),
        )
        for metric in (EXACT, SCORE)
    ]
    family = decide(members, TOP_UP)
    assert [statistics(verdict).n for verdict in family.verdicts] == [480, 160]
    d, ids = sides[1] - sides[0], np.arange(800)
    seen = [PooledMetric("t", d[looks <= look], ids[looks <= look]) for look in (2, 0)]
    assert family.pooled is not None
    assert family.pooled.p_reg == pytest.approx(pooled(seen, margin=0.02, alpha=0.05).p_reg, rel=1e-9)


def runs(count: int, n: int, steps: int, psi: float, *, drop: float = 0.0) -> Iterator[list[tuple[Any, Any]]]:
    """Simulated models: the columns of every look, each going on from the one before."""
    rng = np.random.default_rng(11)
    for _ in range(count):
        differs = rng.random(n) < psi + drop
        worse = rng.random(n) < (psi / 2 + drop) / (psi + drop)
        before = np.where(differs, worse, True).astype(float)
        after = np.where(differs, ~worse, True).astype(float)
        yield [(before[:to], after[:to]) for to in np.linspace(n / steps, n, steps).astype(int)]


def columns(before: Any, after: Any, *look: int) -> Columns:
    """One right-or-wrong metric at a look."""
    return Columns(task="t", baseline=before, candidate=after, metric=EXACT, sequential=(look[0], look[1]))


def test_looking_at_every_step_raises_no_more_false_alarms() -> None:
    """2000 models that never changed, looked at after each of 5 parts: McNemar's p at every look is the control."""
    often = ordinary = 0
    for looks in runs(2000, 500, 5, 0.2):
        reached = (decide_columns([columns(*sides, look, 4)], TOP_UP) for look, sides in enumerate(looks))
        often += any(family.outcome is Outcome.REGRESSION for family in reached)
        counts = [(int((after < before).sum()), int((after > before).sum())) for before, after in looks]
        ordinary += any(mcnemar_midp(*pair) <= 0.05 for pair in counts)
    assert often / 2000 <= 0.0565
    assert ordinary / 2000 > 0.10


def test_looking_again_finds_a_real_drop_and_often_early() -> None:
    """A gate that never fires would pass the test above."""
    found = []
    for looks in runs(100, 500, 5, 0.1, drop=0.10):
        reached = [decide_columns([columns(*sides, at, 4)], TOP_UP).outcome for at, sides in enumerate(looks)]
        found.append(reached.index(Outcome.REGRESSION) if Outcome.REGRESSION in reached else 5)
    assert sum(look < 5 for look in found) >= 90
    assert sum(look < 4 for look in found) >= 70


def test_a_family_is_drawn_until_nothing_more_is_wanted() -> None:
    """250 sessions of three equal models: the pooled test on the way is not the last word."""
    rng, alarms = np.random.default_rng(2), 0
    for _ in range(250):
        drawn = [[(rng.random(500) < chances).astype(float) for _ in "ab"] for chances in rng.beta(2, 0.9, (3, 500))]
        looks = dict.fromkeys(("0", "1", "2"), 0)
        while True:
            parts = [
                replace(columns(*(side[: 100 * (look + 1)] for side in drawn[int(task)]), look, 4), task=task)
                for task, look in looks.items()
            ]
            family = decide_columns(parts, TOP_UP)
            if not family.wants_reserve:
                break
            looks |= {task: looks[task] + 1 for task in family.wants_reserve}
        alarms += family.outcome is Outcome.REGRESSION
        assert set(looks.values()) == {4} or family.outcome is Outcome.REGRESSION
    assert alarms <= 20  # 5 % and 2 standard errors


# -- confirm -----------------------------------------------------------------------------------------------------------

RED = (200, 30, 5)


def test_a_regression_wants_the_reserve_and_stands_where_that_shows_it_too() -> None:
    """Undrawn it is red and wants samples; drawn it is confirmed, or it was no more than chance."""
    parts = RED, (50, 15, 2), (50, 10, 2)
    undrawn = only(member(*parts), CONFIRMING)
    assert (undrawn.outcome, undrawn.wants_reserve, undrawn.confirmation) == (Outcome.REGRESSION, True, None)
    drawn = only(member(*parts, drawn=2), CONFIRMING)
    assert (drawn.outcome, drawn.wants_reserve) == (Outcome.REGRESSION, False)
    assert "confirmed on the reserve: -21.0 pt" in drawn.reason
    assert f"at level {CONFIRM}".replace("0.", ".") in drawn.reason
    assert drawn.confirmation is not None
    assert (drawn.confirmation.test.n, drawn.confirmation.test.loss) == (100, 25)
    assert statistics(drawn) == statistics(only(member(RED), KEEP))


def test_a_regression_that_the_reserve_does_not_show_is_inconclusive() -> None:
    """It says so, and nothing more is wanted."""
    verdict = only(member(RED, (100, 6, 5), drawn=1), CONFIRMING)
    assert (verdict.outcome, verdict.wants_reserve) == (Outcome.INCONCLUSIVE, False)
    assert "worse: p < .0001 at level .05; not confirmed on the reserve: -1.0 pt" in verdict.reason


def test_half_a_reserve_confirms_nothing() -> None:
    """The samples of the other half might say otherwise: the regression stands and still wants them."""
    verdict = only(member(RED, (50, 0, 0), (50, 0, 0), drawn=1), CONFIRMING)
    assert (verdict.outcome, verdict.wants_reserve, verdict.confirmation) == (Outcome.REGRESSION, True, None)


def test_what_is_not_red_wants_no_confirmation() -> None:
    """A pass is a pass, and what is undecided stays so: the reserve that confirms decides nothing else."""
    for loss, gain, outcome in ((0, 0, Outcome.PASS), (16, 10, Outcome.INCONCLUSIVE)):
        verdict = only(member((200, loss, gain), (100, 0, 0)), CONFIRMING)
        assert (verdict.outcome, verdict.wants_reserve) == (outcome, False)


def test_a_broken_rule_needs_no_confirmation() -> None:
    """Floor, golden sample, drift and blocking slice stand though the reserve shows nothing."""
    reserve = (100, 0, 0)
    drifted = stepped([1.0] * 2000, name="v1")
    before = [1.0] * 1800 + [0.0] * 200
    sliced = [{"kind": "old" if i < 60 else "new"} for i in range(700)]
    fell, rose = [0.0] * 30 + [1.0] * 570, [1.0] * 60 + [0.0] * 30 + [1.0] * 510
    members = {
        "golden samples broke": member((200, 1, 0), reserve, golden=("q00000",)),
        "below its floor": member((200, 1, 0), reserve, gate=Gate(floor=0.999)),
        "drifted from the anchor": member(
            (5, 0, 0),
            candidate=stepped(before, [1.0] * 50),
            baseline=stepped(before, [1.0] * 50, name="v2"),
            anchor=drifted,
            last_look=1,
        ),
        "slice kind=old worse": member(
            (5, 0, 0),
            candidate=stepped(fell, [1.0] * 100, slices=sliced),
            baseline=stepped(rose, [1.0] * 100, slices=sliced, name="v2"),
            blocking_slices=("kind",),
            last_look=1,
        ),
    }
    for says, given in members.items():
        verdict = only(given, CONFIRMING)
        assert (verdict.outcome, verdict.wants_reserve) == (Outcome.REGRESSION, False), says
        assert says in verdict.reason
        assert "confirmed" not in verdict.reason


def test_without_a_reserve_a_regression_stands() -> None:
    """There is nothing that could confirm it."""
    verdict = only(member(RED), CONFIRMING)
    assert (verdict.outcome, verdict.wants_reserve) == (Outcome.REGRESSION, False)


def test_a_metric_that_informs_is_not_confirmed() -> None:
    """Its verdict is shown as the samples have it, and costs no more of them."""
    family = decide([member(RED, (100, 0, 0), blocking=False), member((200, 0, 0), task="b/b")], CONFIRMING)
    assert family.verdicts[0].outcome is Outcome.REGRESSION
    assert family.wants_reserve == ()


def small_drops(count: int, reserve: tuple[int, int, int], drawn: int) -> Family:
    """Tasks that are each a little worse, so that only all of them together are."""
    members = [member((200, 16, 6), reserve, drawn=drawn, task=f"t/{i}") for i in range(count)]
    return decide(members, CONFIRMING)


def test_tasks_that_are_worse_together_are_confirmed_together() -> None:
    """The reserves of all tasks are drawn, and pooled they confirm or they do not."""
    undrawn = small_drops(8, (100, 0, 0), 0)
    assert {verdict.outcome for verdict in undrawn.verdicts} == {Outcome.INCONCLUSIVE}
    assert undrawn.outcome is undrawn.together is Outcome.REGRESSION
    assert undrawn.wants_reserve == tuple(f"t/{i}" for i in range(8))
    confirmed = small_drops(8, (100, 8, 3), 1)
    assert (confirmed.outcome, confirmed.wants_reserve) == (Outcome.REGRESSION, ())
    refuted = small_drops(8, (100, 5, 5), 1)
    assert (refuted.outcome, refuted.together, refuted.wants_reserve) == (Outcome.INCONCLUSIVE,) * 2 + ((),)
    assert "worse together, not confirmed on the reserve: 0.0 pt, p = .5 at level .05" in refuted.reason


def test_the_pool_is_not_confirmed_by_some_of_the_reserves() -> None:
    """One task without a reserve, and what all tasks show stands."""
    members = [member((200, 16, 6), (100, 5, 5), drawn=1, task=f"t/{i}") for i in range(7)]
    assert decide([*members, member((200, 16, 6), task="t/7")], CONFIRMING).outcome is Outcome.REGRESSION


def test_false_alarms_to_expect_of_a_month() -> None:
    """Alpha for every night, and the level of the confirmation where every blocking metric has one."""
    kept, bare = member(RED, (100, 0, 0)), member(RED, task="b/b")
    nightly = replace(CONFIRMING, alpha=0.01)
    assert expected_false_alarms([kept], Policy()) == pytest.approx(1.5)
    assert expected_false_alarms([kept], nightly) == pytest.approx(30 * 0.01 * CONFIRM)
    assert expected_false_alarms([kept, replace(bare, blocking=False)], nightly, 100) == pytest.approx(0.05)
    for unconfirmed in ([kept, bare], [], [replace(kept, baseline=None)], [replace(bare, last_look=1)]):
        assert expected_false_alarms(unconfirmed, nightly) == pytest.approx(0.3)


def test_equal_models_are_confirmed_no_more_often_than_expected() -> None:
    """2000 first nights of a model that never changed: both tests together alarm about alpha · level of the time."""
    rng = np.random.default_rng(5)
    red = confirmed = 0
    for loss, again in zip(rng.binomial(40, 0.5, 2000), rng.binomial(40, 0.5, 2000), strict=True):
        if mcnemar_midp(int(loss), 40 - int(loss)) <= CONFIRMING.alpha:
            red += 1
            given = member((200, int(loss), 40 - int(loss)), (200, int(again), 40 - int(again)), drawn=1)
            confirmed += only(given, CONFIRMING).outcome is Outcome.REGRESSION
    assert 60 <= red <= 140
    assert confirmed <= 12


def test_rows_that_are_in_reserve_have_their_look_in_the_record() -> None:
    """The others say nothing of it."""
    row = Row(id="a", pair="0", prompt="Q", target=None, outputs=(), scores={})
    assert "look" not in row.as_json()
    assert replace(row, look=2).as_json()["look"] == 2
