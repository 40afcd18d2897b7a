"""Verdicts: the order of the rules, the levels of many tests, the overall outcome and the words for all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalgate.errors import ConfigError, TaskError
from evalgate.evaluation import Evaluation, Metric
from evalgate.gate import SLICE_Q, Family, Gate, Member, Outcome, Policy, Verdict, decide
from evalgate.stats import discordance_bound, minimum_detectable_effect, samples_needed
from tests.unit.evaluations import BITS, EXACT, SCORE, TOXIC, answers, evaluation

ORDER = ("ERROR", "NO BASELINE", "INCOMPARABLE", "REGRESSION", "PASS", "INCONCLUSIVE")


def member(
    n: int = 500,
    *,
    loss: int = 0,
    gain: int = 0,
    wrong: int = 0,
    task: str = "arithmetic/addition",
    metric: Metric = EXACT,
    same: bool = False,
    **more: Any,
) -> Member:
    """A member whose candidate differs from its baseline by so many losses and gains."""
    before, after = answers(n=n, loss=loss, gain=gain, wrong=wrong)
    fields: dict[str, Any] = {
        "task": task,
        "metric": metric.name,
        "blocking": True,
        "gate": Gate(),
        "candidate": evaluation(after, task=task, metric=metric),
        "baseline": evaluation(before, task=task, metric=metric, name="v3" if same else "v2"),
    }
    return Member(**fields | more)


def scored(after: Sequence[float], before: Sequence[float], **more: Any) -> Member:
    """A member with these scores; what `evaluation` takes goes to both sides, the rest to the member."""
    sides = {key: more.pop(key) for key in list(more) if key in ("clusters", "weights", "sampling", "slices")}
    metric = more.pop("spec", SCORE)
    task = more.pop("task", "texts/summary")
    fields: dict[str, Any] = {
        "task": task,
        "metric": metric.name,
        "blocking": True,
        "gate": Gate(),
        "candidate": evaluation(after, metric=metric, task=task, **sides),
        "baseline": evaluation(before, metric=metric, task=task, name="v2", **sides),
    }
    return Member(**fields | more)


def only(given: Member, policy: Policy | None = None) -> Verdict:
    """The verdict of a family of one."""
    [verdict] = decide([given], policy or Policy()).verdicts
    return verdict


def absent(task: str) -> Member:
    """A blocking member that was collected, then deselected."""
    return Member(task=task, metric="exact_match", blocking=True, gate=Gate(), ran=False)


# -- the order of the rules -------------------------------------------------------------------------------------------


def test_each_rule_fires_before_the_next() -> None:
    """One member meets every rule; taking away what the first asks for uncovers the second, and so on down."""
    before, after = answers(n=4000, loss=40)
    golden = ("q00000",)
    worst = Member(
        task="arithmetic/addition",
        metric="exact_match",
        blocking=True,
        gate=Gate(floor=0.999),
        golden=golden,
        candidate=evaluation(after),
        baseline=None,
        error="the engine died",
    )
    other_sampling = evaluation(before, name="v2", sampling={"top_k": 5})
    baseline = evaluation(before, name="v2")
    steps = [
        (worst, Outcome.ERROR, "the engine died"),
        (worst := replace(worst, error=None), Outcome.NO_BASELINE, "below its floor"),
        (worst := replace(worst, baseline=other_sampling), Outcome.INCOMPARABLE, "sampling.top_k"),
        (worst := replace(worst, baseline=baseline), Outcome.REGRESSION, "golden samples broke: q00000"),
        (worst := replace(worst, golden=()), Outcome.REGRESSION, "below its floor of .999: .990"),
        (worst := replace(worst, gate=Gate()), Outcome.PASS, "significantly worse"),
        (worst := replace(worst, gate=Gate(margin=0.001)), Outcome.REGRESSION, "worse: p < .0001 at level .05"),
        (member(100, loss=5, gain=3), Outcome.INCONCLUSIVE, "samples would decide"),
    ]
    for given_member, outcome, said in steps:
        verdict = only(given_member)
        assert verdict.outcome is outcome, verdict.reason
        assert said in verdict.reason
    assert list(dict.fromkeys(str(outcome) for _, outcome, _ in steps)) == list(ORDER)


def test_a_verdict_says_what_it_was_reached_with() -> None:
    """The reason is the line that people read."""
    verdict = only(member(500, loss=41, gain=10, wrong=33))
    assert verdict.reason == "-6.2 pt [-8.7, -4.0]  n=500  was .914, now .852; worse: p < .0001 at level .05"
    assert (verdict.outcome, verdict.value, verdict.spec, verdict.level) == ("REGRESSION", 0.852, EXACT, 0.05)
    assert verdict.comparison is not None
    assert verdict.p_adjusted == verdict.comparison.test.p_reg
    assert (verdict.task, verdict.metric, verdict.blocking) == ("arithmetic/addition", "exact_match", True)
    assert (verdict.degraded, verdict.needed) == (False, None)


def test_pass_is_flagged_where_it_is_significantly_worse() -> None:
    """Within the margin, yet worse: the test passes and says so."""
    verdict = only(member(2000, loss=40, gain=5))
    assert (verdict.outcome, verdict.degraded) == (Outcome.PASS, True)
    assert "significantly worse (p < .0001 at level .05), yet within 5.0 pt" in verdict.reason
    verdict = only(member(2000, loss=10, gain=5))
    assert (verdict.outcome, verdict.degraded) == (Outcome.PASS, False)
    assert verdict.reason.endswith("no more than 5.0 pt worse")


def test_inconclusive_says_what_can_be_seen_and_what_would_decide() -> None:
    """Minimum detectable effect at this n, and the samples for the margin; both grow with the number of tests."""
    verdict = only(member(120, loss=8, gain=6))
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.reason.startswith("-1.7 pt [-7.2, +3.7]  n=120  was ")
    assert verdict.reason.endswith("; can see drops of 8.7 pt at n=120; 365 samples would decide 5.0 pt")
    psi = discordance_bound(14, 120)
    assert verdict.needed == samples_needed(0.05, psi=psi, alpha=0.05)
    assert verdict.detectable == minimum_detectable_effect(120, psi=psi, alpha=0.05)
    among = decide([member(120, loss=8, gain=6, task="a/a"), *[absent(f"a/b{i}") for i in range(9)]], Policy())
    assert among.verdicts[0].needed == samples_needed(0.05, psi=psi, alpha=0.025 / 10)
    assert among.verdicts[0].detectable == minimum_detectable_effect(120, psi=psi, alpha=0.025 / 10)


def test_where_samples_would_suffice_for_the_margin_the_observed_difference_is_what_must_be_told() -> None:
    """Halfway between no drop and the margin needs four times the samples, and the reason says of what."""
    verdict = only(member(500, loss=45, gain=32))
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.needed is not None
    assert verdict.needed > 1500
    assert verdict.reason.endswith(f"{verdict.needed} samples would decide 2.6 pt")


# -- ERROR ------------------------------------------------------------------------------------------------------------


def test_an_incomplete_candidate_is_an_error() -> None:
    """However good the other scores are: how many, which is the first and why."""
    broken = evaluation([*[1.0] * 498, None, None], errors={498: "engine died", 499: "engine died"})
    verdict = only(member(candidate=broken))
    assert verdict.outcome is Outcome.ERROR
    assert verdict.reason == "2 of 500 samples have no score, the first is q00498: engine died"
    assert (verdict.value, verdict.comparison, verdict.p_adjusted) == (None, None, None)
    silent = only(member(candidate=evaluation([*[1.0] * 499, None])))
    assert silent.reason == "1 of 500 samples have no score, the first is q00499: no score for exact_match"


def test_an_error_of_another_metric_makes_the_whole_evaluation_incomplete() -> None:
    """A row with an error cannot be part of a pass, even where this metric has its score."""
    assert only(member(candidate=evaluation([1.0] * 500, errors={7: "judge timed out"}))).outcome is Outcome.ERROR


def test_nothing_evaluated_is_an_error() -> None:
    """No candidate, no samples, no such metric: each is said."""
    assert only(member(candidate=None)).reason == "it was not evaluated"
    assert only(member(candidate=evaluation([]))).reason == "the evaluation has no samples"
    assert only(member(metric=SCORE, candidate=evaluation([1.0] * 500))).reason == (
        "the evaluation has no metric chrf; it has exact_match"
    )
    bare = replace(evaluation([1.0] * 500), metrics=())
    assert only(member(candidate=bare)).reason == "the evaluation has no metric exact_match; it has none"


@pytest.mark.parametrize(
    ("n", "text", "same_target", "outcome"),
    [(20, "!!!!", False, "ERROR"), (19, "!!!!", False, "INCONCLUSIVE"), (20, "!!!!", True, "INCONCLUSIVE")],
)
def test_equal_outputs_for_different_targets_are_an_error(n: int, text: str, same_target: bool, outcome: str) -> None:
    """A model that says "!!!!" to everything is broken, not merely bad; few samples or one target prove nothing."""
    candidate = evaluation([0.0] * n, outputs=[text] * n)
    if same_target:
        candidate = replace(candidate, rows=tuple(replace(row, target="yes") for row in candidate.rows))
    verdict = only(Member(task="t", metric="exact_match", blocking=True, gate=Gate(), candidate=candidate))
    assert (verdict.outcome is Outcome.ERROR) == (outcome == "ERROR")
    if outcome == "ERROR":
        assert verdict.reason.startswith("all 20 outputs are '!!!!', though the targets differ: ")


def test_one_different_output_or_none_at_all_is_no_collapse() -> None:
    """Log-likelihoods have no outputs to be equal."""
    assert only(member(candidate=evaluation([1.0] * 500, outputs=["a"] * 499 + ["b"]))).outcome is Outcome.PASS
    made = evaluation([1.0] * 500)
    silent = replace(made, rows=tuple(replace(row, outputs=()) for row in made.rows))
    assert only(member(candidate=silent)).outcome is Outcome.PASS


def test_a_record_with_impossible_scores_is_an_error() -> None:
    """It never becomes a number, and never a traceback."""
    verdict = only(member(baseline=evaluation([0.5] * 500)))
    assert verdict.outcome is Outcome.ERROR
    assert "only 0 and 1" in verdict.reason


# -- NO BASELINE, INCOMPARABLE ----------------------------------------------------------------------------------------


def test_without_a_baseline_the_value_and_a_broken_floor_are_told() -> None:
    """A floor holds with or without a baseline."""
    verdict = only(member(loss=50, baseline=None))
    assert (verdict.outcome, verdict.reason) == ("NO BASELINE", "no baseline yet, now .900  n=500")
    assert (verdict.value, verdict.spec) == (0.9, EXACT)
    floored = only(member(loss=50, baseline=None, gate=Gate(floor=0.95)))
    assert floored.outcome is Outcome.NO_BASELINE
    assert floored.reason == "no baseline yet, now .900  n=500; below its floor of .950: .900"


def test_incomparable_names_every_field_with_both_values_and_a_broken_floor() -> None:
    """One line, nothing computed."""
    baseline = evaluation([1.0] * 500, name="v2", sampling={"max_tokens": 4, "stop": []})
    verdict = only(member(loss=50, baseline=baseline, gate=Gate(floor=0.95)))
    assert verdict.outcome is Outcome.INCOMPARABLE
    assert verdict.reason == (
        "not comparable with the baseline: sampling.max_tokens: candidate 8, baseline 4; "
        'sampling.stop: candidate ["\\n"], baseline []; below its floor of .950: .900'
    )
    assert (verdict.value, verdict.comparison) == (0.9, None)


def test_another_engine_is_refused_by_a_strict_policy_only() -> None:
    """By default it is named beside the numbers."""
    given_member = member(baseline=evaluation([1.0] * 500, name="v2", engine={"dtype": "float32"}))
    lenient = only(given_member)
    assert lenient.outcome is Outcome.PASS
    assert lenient.comparison is not None
    assert [note.field for note in lenient.comparison.notes] == ["engine.dtype"]
    strict = only(given_member, Policy(engine="strict"))
    assert strict.outcome is Outcome.INCOMPARABLE
    assert "engine.dtype: candidate bfloat16, baseline float32" in strict.reason


def test_the_same_checkpoint_on_both_sides_is_said() -> None:
    """An A/A comparison measures noise, and the reader must know."""
    assert only(member(same=True)).reason.endswith("; A/A: the same checkpoint on both sides")
    assert "A/A" not in only(member()).reason


# -- golden samples, floors, drift ------------------------------------------------------------------------------------


def test_golden_samples_are_listed_up_to_five() -> None:
    """The rest is counted; nothing else about the task matters."""
    golden = tuple(f"q{i:05}" for i in range(7))
    verdict = only(member(5000, loss=7, golden=golden))
    assert verdict.outcome is Outcome.REGRESSION
    assert "golden samples broke: q00000, q00001, q00002, q00003, q00004 and 2 more" in verdict.reason
    assert only(member(5000, loss=7)).outcome is Outcome.PASS
    assert only(member(5000, gain=7, golden=golden)).outcome is Outcome.PASS


@pytest.mark.parametrize(("floor", "outcome"), [(0.9, "PASS"), (0.9001, "REGRESSION")])
def test_a_floor_may_be_touched_but_not_broken(floor: float, outcome: str) -> None:
    """Exactly at the floor is not below it."""
    assert only(member(1000, wrong=100, gate=Gate(floor=floor))).outcome == outcome


def test_a_floor_of_a_lower_is_better_metric_is_a_ceiling() -> None:
    """In the metric's own sense: the highest value allowed."""
    verdict = only(member(1000, wrong=800, metric=TOXIC, gate=Gate(floor=0.1)))
    assert verdict.outcome is Outcome.REGRESSION
    assert "above the .100 allowed: .200" in verdict.reason
    assert only(member(1000, wrong=800, metric=TOXIC, gate=Gate(floor=0.2))).outcome is Outcome.PASS


def test_floor_and_golden_are_both_told() -> None:
    """The first that applies decides, and the other is still worth knowing."""
    verdict = only(member(500, loss=50, golden=("q00000",), gate=Gate(floor=0.95)))
    assert "golden samples broke: q00000; below its floor of .950: .900" in verdict.reason


def test_small_tolerated_drops_cannot_add_up() -> None:
    """Within the margin of the baseline, beyond the margin of the anchor: a regression, and both are shown."""
    before, after = answers(n=1000, loss=10)
    anchor = evaluation([1.0] * 1000, name="v1")
    worse = [0.0] * 100 + [1.0] * 900
    candidate, baseline = evaluation([0.0] * 110 + [1.0] * 890), evaluation(worse, name="v2")
    drifted = only(member(candidate=candidate, baseline=baseline, anchor=anchor))
    assert drifted.outcome is Outcome.REGRESSION
    assert "drifted from the anchor: -11.0 pt [-12.7, -9.5]  n=1000  was 1.000, now .890" in drifted.reason
    assert drifted.anchor is not None
    assert only(member(candidate=candidate, baseline=baseline)).outcome is Outcome.PASS
    near = only(member(candidate=evaluation(after), baseline=evaluation(before, name="v2"), anchor=anchor))
    assert (near.outcome, near.anchor is None) == (Outcome.PASS, False)


def test_an_anchor_that_cannot_be_compared_is_named() -> None:
    """Drift is then unknown, which is no reason to fail; the baseline itself is no second anchor."""
    anchor = evaluation([1.0] * 500, name="v1", sampling={"top_k": 9})
    verdict = only(member(anchor=anchor))
    assert verdict.outcome is Outcome.PASS
    assert verdict.reason.endswith(
        "drift is unknown, the anchor is not comparable: sampling.top_k: candidate 0, baseline 9"
    )
    assert only(member(anchor=evaluation([1.0] * 500, name="v2"))).anchor is None


def test_drift_needs_the_minimum_of_samples() -> None:
    """29 samples may break every rule of thumb and still prove no drift."""
    anchor = evaluation([1.0] * 29, name="v1")
    worse = [0.0] * 20 + [1.0] * 9
    verdict = only(member(candidate=evaluation(worse), baseline=evaluation(worse, name="v2"), anchor=anchor))
    assert verdict.outcome is Outcome.INCONCLUSIVE


# -- few samples, few clusters ----------------------------------------------------------------------------------------


def test_identical_answers_pass_from_52_samples_on() -> None:
    """Tango's test of 5 points without a discordant pair needs n >= 1.645²·.0475/.05² = 51.4."""
    assert [only(member(n, same=True)).outcome for n in (30, 51, 52)] == ["INCONCLUSIVE", "INCONCLUSIVE", "PASS"]
    tight = [only(member(n, gate=Gate(margin=0.02))).outcome for n in (132, 133)]
    assert tight == ["INCONCLUSIVE", "PASS"]


@given(st.integers(5, 200), st.randoms())
@settings(max_examples=40, deadline=None)
def test_identical_evaluations_never_regress(n: int, random: Any) -> None:
    """Whatever was right and wrong, and whether counted or averaged."""
    answered = [float(random.random() < 0.7) for _ in range(n)]
    assert only(scored(answered, answered, spec=EXACT)).outcome == ("PASS" if n >= 52 else "INCONCLUSIVE")
    assert only(scored(answered, answered)).outcome == ("PASS" if n >= 30 else "INCONCLUSIVE")


def test_below_thirty_samples_only_a_significant_regression_is_a_verdict() -> None:
    """A pass needs more, even where every score is the same."""
    assert only(scored([0.5] * 29, [0.5] * 29)).outcome is Outcome.INCONCLUSIVE
    few = only(scored([0.5] * 29, [0.5] * 29))
    assert few.reason.endswith("; a verdict needs 30 samples")
    assert (few.detectable, few.needed) == (None, None)
    assert only(scored([0.5] * 30, [0.5] * 30)).outcome is Outcome.PASS
    assert only(member(29, loss=10)).outcome is Outcome.REGRESSION
    assert only(member(29, loss=3)).outcome is Outcome.INCONCLUSIVE
    within = only(scored([0.49] * 29, [0.5] * 29))
    assert within.outcome is Outcome.REGRESSION  # significantly worse, and too few to show that it is within the margin
    assert only(member(50, loss=10), Policy(min_n=60)).outcome is Outcome.REGRESSION
    assert only(member(500), Policy(min_n=501)).outcome is Outcome.INCONCLUSIVE


def test_fewer_than_five_samples_are_refused() -> None:
    """Four losses of four prove nothing."""
    assert only(member(4, loss=4)).outcome is Outcome.INCOMPARABLE
    assert only(member(5, loss=5)).outcome is Outcome.REGRESSION


def test_few_clusters_can_neither_pass_nor_regress() -> None:
    """Four documents cannot reach .05, however many questions each has and however equal their differences."""
    documents = [f"d{i % 4}" for i in range(200)]
    for after in ([0.2] * 200, [0.5] * 200):
        verdict = only(scored(after, [0.5] * 200, clusters=documents))
        assert verdict.outcome is Outcome.INCONCLUSIVE
        assert "4 clusters can never show a drop at level .05" in verdict.reason
    enough = [f"d{i % 5}" for i in range(200)]
    assert only(scored([0.2] * 200, [0.5] * 200, clusters=enough)).outcome is Outcome.REGRESSION
    assert only(scored([0.5] * 200, [0.5] * 200, clusters=enough)).outcome is Outcome.PASS


def test_clusters_make_evidence_scarcer() -> None:
    """Forty losses on four documents of forty are a matter of four documents."""
    before, after = answers(n=400, loss=40)
    documents = [f"d{i // 10}" for i in range(400)]
    alone = only(scored(after, before, spec=EXACT))
    together = only(scored(after, before, spec=EXACT, clusters=documents))
    assert alone.outcome is Outcome.REGRESSION
    assert together.p_adjusted is not None
    assert alone.p_adjusted is not None
    assert together.p_adjusted > 1000 * alone.p_adjusted
    assert together.detectable is not None
    assert alone.detectable is not None
    assert together.detectable > 2 * alone.detectable


def test_all_samples_of_one_cluster_are_an_error() -> None:
    """One document says nothing about others."""
    verdict = only(scored([0.5] * 50, [0.6] * 50, clusters=["d"] * 50))
    assert verdict.outcome is Outcome.ERROR
    assert "at least 2 different ones" in verdict.reason


# -- kinds of metrics -------------------------------------------------------------------------------------------------


def test_bits_per_byte_are_told_in_per_cent_of_the_baseline() -> None:
    """Higher is worse, and minus is worse all the same."""
    rng = np.random.default_rng(0)
    before = list(rng.uniform(0.7, 0.9, 300))
    after = [value * (1.02 + 0.01 * noise) for value, noise in zip(before, rng.normal(size=300), strict=True)]
    weights = list(rng.uniform(100, 1000, 300))
    verdict = only(scored(after, before, spec=BITS, weights=weights))
    assert verdict.outcome is Outcome.REGRESSION
    assert verdict.reason.startswith("-2.0 % [-2.1, -1.9]  n=300  was .809, now .825 (lower is better); worse")
    wide = only(scored(after, before, spec=BITS, weights=weights, gate=Gate(margin=0.05)))
    assert (wide.outcome, wide.degraded) == (Outcome.PASS, True)
    assert wide.reason.endswith("yet within 5.0 %")


def test_lower_is_better_regresses_upwards() -> None:
    """The same counts, read the other way round."""
    assert only(member(500, gain=41, loss=10, metric=TOXIC)).outcome is Outcome.REGRESSION
    assert only(member(500, loss=41, gain=10, metric=TOXIC)).outcome is Outcome.PASS


def test_several_generations_are_tested_as_means() -> None:
    """K = 4: a binary metric with thirds and halves is no error."""
    drawn = {"n": 4, "temperature": 0.7}
    before, after = [0.75] * 100, [0.5] * 60 + [0.75] * 40
    verdict = only(scored(after, before, spec=EXACT, sampling=drawn))
    assert verdict.outcome is Outcome.REGRESSION
    assert verdict.detectable is not None
    assert 0.02 < verdict.detectable < 0.04


# -- many tests -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ran", [True, False])
@pytest.mark.parametrize(
    ("loss", "gain", "regresses_among"),
    [(10, 3, (1,)), (11, 2, (1, 2)), (12, 1, (1, 2, 10))],
)
def test_holm_holds_every_p_value_to_the_size_of_the_family(
    loss: int, gain: int, regresses_among: tuple[int, ...], ran: bool
) -> None:
    """p = .0287, .0065 and .0009 against .05, .025/2 and .025/10; members that did not run count like equal ones."""
    for m in (1, 2, 10):
        others = [member(100, task=f"o/t{i}") if ran else absent(f"o/t{i}") for i in range(m - 1)]
        verdict = decide([member(100, loss=loss, gain=gain), *others], Policy()).verdicts[0]
        assert (verdict.outcome is Outcome.REGRESSION) == (m in regresses_among), verdict.reason
        assert verdict.comparison is not None
        assert verdict.p_adjusted == pytest.approx(m * verdict.comparison.test.p_reg)
        assert verdict.level == (0.05 if m == 1 else 0.025)


def test_holm_steps_down() -> None:
    """Once the strictest step is taken, the next is held to less."""
    first, second = member(100, loss=12, gain=1, task="a/a"), member(100, loss=11, gain=3, task="a/b")
    alone = decide([second, member(100, task="a/c")], Policy())
    both = decide([first, second], Policy())
    assert [verdict.outcome for verdict in both.verdicts] == ["REGRESSION", "REGRESSION"]
    assert alone.verdicts[0].outcome is Outcome.INCONCLUSIVE


def test_informing_metrics_are_tested_alone_and_decide_nothing() -> None:
    """Their verdicts are shown; neither the family's levels nor its outcome know of them."""
    informing = member(100, loss=10, gain=3, task="a/b", blocking=False)
    family = decide([member(100), informing, member(100, task="a/c", blocking=False, candidate=None)], Policy())
    blocking, inform, failed = family.verdicts
    assert (blocking.outcome, blocking.level) == (Outcome.PASS, 0.05)
    assert (inform.outcome, inform.p_adjusted, inform.level) == (Outcome.REGRESSION, None, 0.05)
    assert failed.outcome is Outcome.ERROR
    assert (family.outcome, family.reason, family.pooled) == (Outcome.PASS, blocking.reason, None)
    assert not inform.fails(family.policy)
    golden = decide([member(100), replace(informing, golden=("q00000",))], Policy())
    assert (golden.verdicts[1].outcome, golden.outcome) == (Outcome.REGRESSION, Outcome.PASS)


def test_alpha_is_the_policys() -> None:
    """A nightly gate at .01 asks for more."""
    given_member = member(100, loss=10, gain=3)
    assert only(given_member).outcome is Outcome.REGRESSION
    assert only(given_member, Policy(alpha=0.01)).outcome is Outcome.INCONCLUSIVE


def test_slices_have_false_discovery_rates_over_the_whole_family() -> None:
    """Twenty slices, one real: its q-value is twenty times its p-value, and tiny slices stay out."""
    before, after = answers(n=400, loss=8)
    parts = [{"part": "tiny" if i >= 397 else str(min(i // 20, 18))} for i in range(400)]
    spoiled = scored(after, before, spec=EXACT, task="a/a", slices=parts)
    clean = scored(before, before, spec=EXACT, task="a/b", slices=[{"all": "yes"}] * 400)
    family = decide([spoiled, clean], Policy())
    first, second = (verdict.comparison for verdict in family.verdicts)
    assert first is not None
    assert second is not None
    found = {part.value: part for part in first.slices}
    assert len(found) == 20
    assert (found["tiny"].p_reg, found["tiny"].q) == (None, None)
    assert found["0"].p_reg == pytest.approx(0.5**9)
    assert found["0"].q == pytest.approx(20 * 0.5**9)
    assert SLICE_Q > 20 * 0.5**9
    assert second.slices[0].q == 1.0


def test_a_slice_never_unblocks_a_task() -> None:
    """A task that regressed stays a regression however well its slices did, and one that passed stays passed."""
    for loss, gain in ((41, 10), (10, 10)):
        before, after = answers(n=500, loss=loss, gain=gain)
        halves = [{"half": "lost" if i < loss else "gained"} for i in range(500)]
        without = only(scored(after, before, spec=EXACT))
        with_slices = only(scored(after, before, spec=EXACT, slices=halves))
        assert (without.outcome, without.reason) == (with_slices.outcome, with_slices.reason)


# -- the overall outcome ----------------------------------------------------------------------------------------------


def tasks(count: int, **more: Any) -> list[Member]:
    return [member(task=f"suite/t{i}", **more) for i in range(count)]


def outcome_of(members: Sequence[Member], **policy: Any) -> Family:
    return decide(members, Policy(**policy))


def test_one_blocking_metric_is_its_own_overall_outcome() -> None:
    """No pooled test, no second level."""
    for given_member in (member(), member(loss=50), member(40), member(baseline=None), member(candidate=None)):
        family = outcome_of([given_member])
        assert (family.outcome, family.reason) == (family.verdicts[0].outcome, family.verdicts[0].reason)
        assert family.pooled is None


def test_overall_outcomes_stand_in_order() -> None:
    """ERROR hides nothing, a regression outranks what could not be compared, and that outranks a pass."""
    good = tasks(3)
    error, regression = member(task="a/e", candidate=None), member(task="a/r", loss=80)
    alien = member(task="a/i", baseline=evaluation([1.0] * 500, task="a/i", sampling={"top_k": 3}))
    new = member(task="a/n", baseline=None)
    for extra, outcome in (
        ([error, regression, alien, new], Outcome.ERROR),
        ([regression, alien, new], Outcome.REGRESSION),
        ([alien, new], Outcome.INCOMPARABLE),
        ([new], Outcome.NO_BASELINE),
        ([], Outcome.PASS),
    ):
        family = outcome_of([*good, *extra])
        assert family.outcome is outcome, family.reason
    assert outcome_of([*good, regression, new]).reason.startswith("1 of 5 metrics REGRESSION: a/r::exact_match; pooled")
    assert outcome_of([new, replace(new, task="a/m")]).reason == (
        "2 of 2 metrics NO BASELINE: a/n::exact_match, a/m::exact_match"
    )


def test_a_small_drop_everywhere_is_found_together() -> None:
    """Four points on each of ten tasks: no task can tell, all of them can."""
    family = outcome_of(tasks(10, loss=55, gain=35))
    assert {verdict.outcome for verdict in family.verdicts} == {Outcome.INCONCLUSIVE}
    assert family.outcome is Outcome.REGRESSION
    assert family.pooled is not None
    assert family.pooled.delta == pytest.approx(-0.04)
    assert family.reason.startswith("pooled -4.0 pt [-5.")
    assert family.reason.endswith("over 10 metrics: worse together, p < .0001 at level .025")


def test_a_drop_within_the_pooled_margin_is_no_regression() -> None:
    """Significantly worse together, and shown to be less than two points."""
    family = outcome_of(tasks(10, n=2000, loss=20, gain=8))
    assert family.pooled is not None
    assert family.pooled.p_reg < 0.025
    assert family.outcome is Outcome.PASS


def test_tasks_weigh_the_same_in_the_pool() -> None:
    """Ten thousand easy questions cannot drown what happens in two hundred."""
    family = outcome_of([member(10_000, task="a/big"), member(200, loss=8, gain=4, task="a/small")])
    assert family.pooled is not None
    assert family.pooled.delta == pytest.approx(-0.01)


def test_equal_models_pass_together() -> None:
    """What no task can show alone, ten can: 100 questions each, two points."""
    family = outcome_of(tasks(10, n=40))
    assert {verdict.outcome for verdict in family.verdicts} == {Outcome.INCONCLUSIVE}
    assert family.outcome is Outcome.PASS
    assert "no more than 2.0 pt worse; 10 of 10 metrics undecided" in family.reason


def test_a_pool_without_a_discordant_pair_still_needs_samples() -> None:
    """A standard error of 0 proves nothing: 1.645²·.0196/.02² = 132.6 questions, as for one task."""
    assert outcome_of(tasks(2, n=66)).outcome is Outcome.INCONCLUSIVE
    few, enough = outcome_of(tasks(2, n=66)), outcome_of(tasks(2, n=67))
    assert few.outcome is Outcome.INCONCLUSIVE
    assert few.reason.startswith("pooled 0.0 pt [-2.0, 0.0] over 2 metrics: cannot exclude a drop of 2.0 pt")
    assert enough.outcome is Outcome.PASS
    scores = [scored([0.5] * 14, [0.5] * 14, task=f"a/{i}") for i in range(2)]
    assert outcome_of(scores).outcome is Outcome.INCONCLUSIVE  # 28 questions


def test_metrics_of_one_task_are_no_independent_evidence() -> None:
    """The same questions under two names are still the same questions."""
    twin = replace(EXACT, name="twin")
    first, second = member(500, loss=30, gain=20), member(500, loss=30, gain=20, metric=twin)
    together = outcome_of([first, second])
    apart = outcome_of([first, member(500, loss=30, gain=20, metric=twin, task="a/other")])
    assert together.pooled is not None
    assert apart.pooled is not None
    assert together.pooled.p_reg > 1.5 * apart.pooled.p_reg


def test_pass_rule_all_asks_every_metric() -> None:
    """The same family passes together and not one by one."""
    members = [*tasks(9, n=1000), member(40, task="a/few")]
    assert outcome_of(members).outcome is Outcome.PASS
    family = outcome_of(members, pass_rule="all")
    assert family.outcome is Outcome.INCONCLUSIVE
    assert family.reason.startswith("1 of 10 metrics undecided: a/few::exact_match; pooled 0.0 pt")
    assert outcome_of(members[:9], pass_rule="all").outcome is Outcome.PASS


def test_unbounded_metrics_are_not_pooled() -> None:
    """Two of them have nothing to pool: each must pass by itself."""
    rng = np.random.default_rng(0)
    before = list(rng.uniform(0.7, 0.9, 300))
    shaken = [value * (1 + 0.2 * noise) for value, noise in zip(before, rng.normal(size=300), strict=True)]
    bits = [scored(before, before, spec=BITS, task=f"a/{i}") for i in range(2)]
    family = outcome_of(bits)
    assert (family.pooled, family.outcome, family.reason) == (None, Outcome.PASS, "all 2 metrics pass")
    unsure = outcome_of([bits[0], scored(shaken, before, spec=BITS, task="a/1")])
    assert unsure.outcome is Outcome.INCONCLUSIVE
    assert unsure.reason == "1 of 2 metrics undecided: a/1::bits_per_byte"
    mixed = outcome_of([*tasks(2), bits[0]])
    assert mixed.pooled is not None
    assert mixed.pooled.n == 1000
    assert "over 2 metrics" in mixed.reason


def test_what_did_not_run_is_partial_and_never_a_pass_of_nothing() -> None:
    """It is named, counts in the family, and decides nothing."""
    family = outcome_of([member(), absent("a/x"), absent("a/y")])
    assert family.partial == ("a/x::exact_match", "a/y::exact_match")
    assert (family.outcome, len(family.verdicts), family.pooled) == (Outcome.PASS, 1, None)
    assert family.reason == "the one metric that ran passes; PARTIAL: 2 of 3 metrics did not run"
    nothing = outcome_of([absent("a/x"), member(blocking=False)])
    assert nothing.outcome is Outcome.INCONCLUSIVE
    assert nothing.reason == "no blocking metric ran; PARTIAL: 1 of 2 metrics did not run"
    assert outcome_of([]).outcome is Outcome.INCONCLUSIVE


# -- policy -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("inconclusive", ["warn", "fail"])
def test_what_fails_a_test(outcome: Outcome, inconclusive: str) -> None:
    """Everything but a pass, where too little evidence is the policy's to judge; informing metrics never."""
    policy = Policy(inconclusive=inconclusive)
    verdict = Verdict(task="t", metric="m", blocking=True, outcome=outcome, reason="")
    family = Family(verdicts=(), outcome=outcome, reason="", pooled=None, partial=(), policy=policy)
    expected = outcome != "PASS" and (outcome != "INCONCLUSIVE" or inconclusive == "fail")
    assert verdict.fails(policy) == family.fails(policy) == expected
    assert not replace(verdict, blocking=False).fails(policy)


@pytest.mark.parametrize(
    "wrong",
    [
        {"alpha": 0.0},
        {"alpha": 0.5},
        {"power": 0.4},
        {"margin": 0},
        {"bits_per_byte_margin": 2},
        {"pooled_margin": -0.1},
        {"min_n": 4},
        {"inconclusive": "ignore"},
        {"pass_rule": "any"},
        {"engine": "lenient"},
    ],
)
def test_a_policy_that_means_nothing_is_refused(wrong: dict[str, Any]) -> None:
    """With the name, the value and what was expected."""
    [(name, value)] = wrong.items()
    with pytest.raises(ConfigError, match=f"policy: {name} is {value!r}, expected "):
        Policy(**wrong)


@pytest.mark.parametrize("margin", [0, -0.1, 1.5, "2 points"])
def test_a_margin_is_a_share_above_zero(margin: Any) -> None:
    """Two points are .02, not 2."""
    with pytest.raises(TaskError, match=r"Five points are margin=0\.05"):
        Gate(margin=margin)


@pytest.mark.parametrize("floor", [float("nan"), float("inf"), "high"])
def test_a_floor_is_a_finite_number(floor: Any) -> None:
    """Anything else would hold or break by accident."""
    with pytest.raises(TaskError, match="expected a finite number in the metric's own units"):
        Gate(floor=floor)


# -- laws and error rates ---------------------------------------------------------------------------------------------

counts = st.integers(5, 400).flatmap(
    lambda n: st.tuples(st.just(n), st.integers(0, n // 2), st.integers(0, n // 2), st.floats(0.005, 0.3))
)


@given(counts, st.floats(0.01, 1))
@settings(max_examples=100, deadline=None)
def test_a_tighter_margin_never_turns_a_regression_into_a_pass(
    drawn: tuple[int, int, int, float], tighter: float
) -> None:
    """Nor anything that did not pass into a pass."""
    n, loss, gain, margin = drawn
    wide = only(member(n, loss=loss, gain=gain, gate=Gate(margin=margin)))
    tight = only(member(n, loss=loss, gain=gain, gate=Gate(margin=margin * tighter)))
    assert wide.outcome is Outcome.PASS or tight.outcome is not Outcome.PASS


@given(counts)
@settings(max_examples=50, deadline=None)
def test_two_models_cannot_both_regress_from_each_other(drawn: tuple[int, int, int, float]) -> None:
    """Swapping the sides mirrors the evidence."""
    n, loss, gain, margin = drawn
    sides = [only(member(n, loss=a, gain=b, gate=Gate(margin=margin))) for a, b in ((loss, gain), (gain, loss))]
    assert [verdict.outcome for verdict in sides].count(Outcome.REGRESSION) <= 1


@given(st.permutations(range(6)))
@settings(max_examples=20, deadline=None)
def test_the_order_of_members_changes_no_verdict(order: list[int]) -> None:
    """Holm and the pool know no order."""
    members = [
        member(100, loss=12, gain=1, task="a/a"),
        member(100, loss=11, gain=3, task="a/b"),
        member(100, task="a/c"),
        member(60, loss=5, task="a/d"),
        absent("a/e"),
        member(100, baseline=None, task="a/f"),
    ]
    there, turned = outcome_of(members), outcome_of([members[i] for i in order])
    by_task = {verdict.task: verdict for verdict in turned.verdicts}
    assert [by_task[verdict.task].reason for verdict in there.verdicts] == [v.reason for v in there.verdicts]
    assert there.outcome == turned.outcome
    assert there.pooled is not None
    assert turned.pooled is not None
    assert there.pooled.p_reg == pytest.approx(turned.pooled.p_reg)


def session(rng: np.random.Generator, *, drop: float) -> list[Member]:
    """Three tasks of 200 questions of unequal difficulty; the first task's candidate is worse by `drop`."""
    members = []
    for task in range(3):
        difficulty = rng.beta(2.8, 1.2, 200)
        before = rng.random(200) < difficulty
        after = rng.random(200) < difficulty - (drop if task == 0 else 0)
        members.append(
            scored(after.astype(float).tolist(), before.astype(float).tolist(), spec=EXACT, task=f"s/{task}")
        )
    return members


def test_equal_models_regress_no_more_often_than_alpha() -> None:
    """At most 24 alarms in 300 sessions of equal models: 5 % and 2.4 standard errors."""
    rng = np.random.default_rng(20250101)
    alarms = naive = 0
    for _ in range(300):
        family = outcome_of(session(rng, drop=0))
        alarms += family.outcome is Outcome.REGRESSION
        naive += any(verdict.comparison and verdict.comparison.test.delta < 0 for verdict in family.verdicts)
    assert alarms <= 24, alarms
    assert naive > 200, naive  # the bound could fail: "any drop fails" would have


def test_a_real_drop_is_found() -> None:
    """Twenty points in one of three tasks, 40 sessions: a gate that never fires would pass the test above."""
    rng = np.random.default_rng(20250102)
    found = sum(outcome_of(session(rng, drop=0.2)).outcome is Outcome.REGRESSION for _ in range(40))
    assert found >= 32, found


def test_a_verdict_needs_no_evaluation_to_be_pure() -> None:
    """Deciding twice says the same twice: nothing is kept, nothing is drawn."""
    members = [*tasks(2, loss=20, gain=10), scored([0.4] * 20 + [0.6] * 20, [0.5] * 40)]
    first: Family = outcome_of(members)
    assert outcome_of(members) == first
    assert isinstance(members[0].candidate, Evaluation)
