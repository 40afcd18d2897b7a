"""Preferences: answers held against the stored ones of one named baseline, by a judge that saw both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalgate.compare import compare, incomparable, paired
from evalgate.digest import short
from evalgate.evaluation import Evaluation, Metric
from evalgate.gate import Gate, Member, Outcome, Policy, Verdict, decide
from evalgate.stats import paired_scores
from tests.unit.evaluations import EXACT, evaluation

BASELINE = evaluation([1.0, 0.0] * 100, name="v2")
PREFERRED = Metric("preferred", "d", judge="sha256:0", against=BASELINE.digest)


def candidate(scores: Sequence[float], **more: Any) -> Evaluation:
    """A candidate whose answers were preferred (1), or not (0), or neither (.5)."""
    return evaluation(scores, **{"metric": PREFERRED} | more)


def member(scores: Sequence[float], **more: Any) -> Member:
    """A member with these preferences."""
    fields: dict[str, Any] = {"task": "arithmetic/addition", "metric": "preferred", "blocking": True, "gate": Gate()}
    return Member(**fields | {"candidate": candidate(scores), "baseline": BASELINE} | more)


def only(given: Member, policy: Policy | None = None) -> Verdict:
    """The verdict of a family of one."""
    [verdict] = decide([given], policy or Policy()).verdicts
    return verdict


def wins(won: int, lost: int) -> list[float]:
    """200 preferences with that many wins and losses, the rest without a winner."""
    return [1.0] * won + [0.0] * lost + [0.5] * (200 - won - lost)


def test_no_preference_is_what_it_is_held_against() -> None:
    """A difference is the win rate less one half; the baseline has no such metric and needs none."""
    assert [metric.name for metric in BASELINE.metrics] == ["exact_match"]
    pairs = paired(candidate(wins(30, 10)), BASELINE, "preferred")
    assert set(pairs.baseline.tolist()) == {0.5}
    assert pairs.difference.sum() == 10
    verdict = only(member(wins(30, 10)))
    assert verdict.comparison is not None
    assert verdict.comparison.baseline == 0.5
    assert verdict.comparison.candidate == pytest.approx(0.55)
    assert verdict.reason.startswith("+5.0 pt ")


def test_preferences_are_scores_and_not_counts() -> None:
    """One half is no right or wrong, so the paired t-test applies, even where a scorer calls itself binary."""
    expected = paired_scores(np.full(200, 0.5), wins(40, 20), margin=0.05, alpha=0.05)
    for metric in (PREFERRED, replace(PREFERRED, binary=True)):
        verdict = only(member(wins(40, 20), candidate=candidate(wins(40, 20), metric=metric)))
        assert verdict.comparison is not None
        assert verdict.comparison.test == expected


def test_clusters_are_prompts_that_belong_together() -> None:
    """As for all scores."""
    given = candidate(wins(40, 20), clusters=[f"prompt {i % 60}" for i in range(200)])
    verdict = only(member([], candidate=given))
    assert verdict.comparison is not None
    assert (verdict.comparison.test.method, verdict.comparison.test.clusters) == ("cluster-ols", 60)


def test_another_baseline_is_refused_with_both_digests() -> None:
    """A win over an older model says nothing about the one that is shipped now."""
    other = evaluation([0.0, 1.0] * 100, name="v2")
    verdict = only(member(wins(90, 10), baseline=other))
    assert verdict.outcome is Outcome.INCOMPARABLE
    assert f"against: candidate {short(BASELINE.digest)}, baseline {short(other.digest)}" in verdict.reason
    assert only(member(wins(90, 10))).outcome is Outcome.PASS


def test_a_part_of_the_baseline_is_still_that_baseline() -> None:
    """What counts is the record: its own samples without the reserve, or with it."""
    whole = replace(BASELINE, rows=tuple(replace(row, look=i // 160) for i, row in enumerate(BASELINE.rows)))
    against = replace(PREFERRED, against=whole.digest)
    given = candidate(wins(30, 30)[:160], metric=against)
    verdict = only(member([], candidate=given, baseline=whole, last_look=1))
    assert verdict.comparison is not None
    assert verdict.comparison.test.n == 160


def test_the_same_questions_must_have_been_asked() -> None:
    """Sampling and coverage are compared as ever; the baseline's own errors are not, for its answers were there."""
    assert incomparable(candidate(wins(1, 1)), BASELINE, "preferred") == ()
    fields = [
        [each.field for each in incomparable(given, BASELINE, "preferred")]
        for given in (
            candidate(wins(1, 1), sampling={"max_tokens": 9}),
            candidate(wins(1, 1)[:150]),
            candidate(wins(1, 1), task="arithmetic/other"),
            candidate(wins(1, 1), pairs=dict.fromkeys(range(5), "changed")),
        )
    ]
    assert fields == [["sampling.max_tokens"], ["coverage"], ["task"], ["coverage"]]


def test_an_ordinary_metric_must_be_the_baselines_too() -> None:
    """The negative control: without `against` the same records are not comparable."""
    given = candidate(wins(30, 10), metric=replace(PREFERRED, against=None))
    [difference] = incomparable(given, BASELINE, "preferred")
    assert str(difference) == "metric: candidate preferred, baseline absent (it has exact_match)"


def test_the_margin_is_in_points_of_the_win_rate() -> None:
    """Losing 60 and winning 40 of 200 is a win rate of 45 %: within ten points, not within two."""
    scores = [1.0, 0.0] * 40 + [0.0] * 20 + [0.5] * 100
    for margin, outcome in ((0.10, Outcome.PASS), (0.02, Outcome.REGRESSION)):
        verdict = only(member(scores, gate=Gate(margin=margin)))
        assert verdict.comparison is not None
        assert verdict.comparison.margin == margin
        assert verdict.comparison.test.delta == pytest.approx(-0.05)
        assert verdict.outcome is outcome


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (1.0, 5.0)])
def test_no_preference_is_the_middle_of_any_range(low: float, high: float) -> None:
    """Also where that middle is 0."""
    metric = replace(PREFERRED, low=low, high=high)
    scores = [low + (high - low) * score for score in wins(20, 60)]
    verdict = only(member([], candidate=candidate(scores, metric=metric)))
    assert verdict.comparison is not None
    assert verdict.comparison.baseline == (low + high) / 2
    assert verdict.comparison.test.delta / (high - low) == pytest.approx(-0.10)
    assert verdict.outcome is Outcome.REGRESSION


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=200, max_size=200))
def test_swapping_the_sides_mirrors_everything(scores: list[float]) -> None:
    """Whoever is called the candidate."""

    def test(values: list[float]) -> Any:
        return compare(candidate(values), BASELINE, "preferred", gate=Gate(), policy=Policy()).test

    one, other = test(scores), test([1 - score for score in scores])
    assert (other.delta, other.low, other.high) == pytest.approx((-one.delta, -one.high, -one.low))
    assert (other.loss, other.gain) == (one.gain, one.loss)
    if any(score != 0.5 for score in scores) and len(set(scores)) > 1:
        assert one.p_reg + other.p_reg == pytest.approx(1)


def test_two_equal_models_have_no_preference() -> None:
    """Neither of any two answers preferred: nothing is worse, and nothing differs."""
    verdict = only(member([0.5] * 200))
    assert verdict.comparison is not None
    assert (verdict.outcome, verdict.comparison.broken, verdict.comparison.fixed) == (Outcome.PASS, (), ())


def test_preferences_are_a_judges_and_said_to_be() -> None:
    """Two orders cancel a judge's liking for one place, not all its errors."""
    assert "uncalibrated judge" in only(member(wins(30, 10))).reason


def test_preferences_stand_beside_other_metrics() -> None:
    """In Holm and in the pool, each task weighing the same."""
    rows = tuple(replace(row, scores={"exact_match": 1.0}) for row in BASELINE.rows)
    exact = Member(
        task="arithmetic/other",
        metric="exact_match",
        blocking=True,
        gate=Gate(),
        candidate=replace(evaluation([1.0] * 200), task="arithmetic/other"),
        baseline=replace(BASELINE, rows=rows, task="arithmetic/other"),
    )
    assert exact.candidate is not None
    assert exact.candidate.metrics == (EXACT,)
    family = decide([exact, member(wins(20, 60))], Policy())
    assert family.pooled is not None
    assert family.pooled.delta == pytest.approx(-0.05)
    assert family.verdicts[1].outcome is Outcome.REGRESSION
    assert family.verdicts[1].level == 0.025


def test_reasoning_that_is_cut_out_otherwise_is_another_question() -> None:
    """What was scored is not the same text, though prompt and sampling are."""
    scores = [1.0] * 200
    marked = evaluation(scores, sampling={"reasoning": ["<think>", "</think>"]})
    for one, shown in (
        (evaluation(scores), "none"),
        (evaluation(scores, sampling={"reasoning": ["<a>", "</a>"]}), "a>"),
    ):
        given = Member(
            task="arithmetic/addition",
            metric="exact_match",
            blocking=True,
            gate=Gate(),
            candidate=marked,
            baseline=replace(one, checkpoint=BASELINE.checkpoint),
        )
        verdict = only(given)
        assert verdict.outcome is Outcome.INCOMPARABLE
        assert 'sampling.reasoning: candidate ["<think>","</think>"], baseline ' in verdict.reason
        assert shown in verdict.reason.rsplit("baseline", 1)[1]
        assert only(replace(given, baseline=replace(marked, checkpoint=BASELINE.checkpoint))).outcome is Outcome.PASS
