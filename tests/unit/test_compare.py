"""Comparisons: what is refused, what is only named, and the numbers sample by sample."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalgate.compare import Comparison, Difference, compare, incomparable, paired, tolerated
from evalgate.digest import digest, short
from evalgate.errors import RecordError, TaskError
from evalgate.evaluation import Evaluation, Metric
from evalgate.gate import Gate, Policy
from tests.unit.evaluations import BITS, ENGINE, EXACT, SAMPLING, SCORE, TOXIC, answers, evaluation

RIGHT = [1.0] * 200


def compared(candidate: Evaluation, baseline: Evaluation, gate: Gate | None = None, **more: Any) -> Comparison:
    return compare(candidate, baseline, candidate.metrics[0].name, gate=gate or Gate(), policy=Policy(), **more)


def refused(candidate: Evaluation, baseline: Evaluation, **more: Any) -> list[str]:
    return [str(each) for each in incomparable(candidate, baseline, candidate.metrics[0].name, **more)]


# -- refused before any statistics ------------------------------------------------------------------------------------


def test_equal_declarations_are_comparable() -> None:
    """Another checkpoint, another name, another seed, another machine: that is what comparisons are for."""
    assert refused(evaluation(RIGHT, seed=1, engine={"device": "cuda"}), evaluation(RIGHT, name="v2")) == []


@pytest.mark.parametrize(
    ("field", "ours", "theirs", "shown"),
    [
        ("max_tokens", 16, 8, "candidate 16, baseline 8"),
        ("temperature", 0.7, 0.0, "candidate 0.7, baseline 0.0"),
        ("top_p", 0.9, 1.0, "candidate 0.9, baseline 1.0"),
        ("top_k", 5, 0, "candidate 5, baseline 0"),
        ("stop", ["\n"], [], 'candidate ["\\n"], baseline []'),
        ("n", 4, 1, "candidate 4, baseline 1"),
        ("json_schema", {"type": "object"}, None, 'candidate {"type":"object"}, baseline none'),
    ],
)
def test_every_sampling_parameter_is_refused_by_name(field: str, ours: Any, theirs: Any, shown: str) -> None:
    """Both values stand in the message, and no other field does."""
    found = refused(evaluation(RIGHT, sampling={field: ours}), evaluation(RIGHT, sampling={field: theirs}))
    assert found == [f"sampling.{field}: {shown}"]
    assert field in SAMPLING


def test_a_parameter_that_one_side_does_not_know_is_refused() -> None:
    """A record of a newer version may say more."""
    assert refused(evaluation(RIGHT, sampling={"min_p": 0.1}), evaluation(RIGHT)) == [
        "sampling.min_p: candidate 0.1, baseline none"
    ]


@pytest.mark.parametrize(
    ("changed", "shown"),
    [
        ({"digest": digest("new")}, f"scorer: candidate {short(digest('new'))}, baseline {short(EXACT.digest)}"),
        ({"high": 2.0}, "range: candidate [0.0,2.0], baseline [0.0,1.0]"),
        ({"low": -1.0}, "range: candidate [-1.0,1.0], baseline [0.0,1.0]"),
        ({"higher_is_better": False}, "higher_is_better: candidate false, baseline true"),
        ({"binary": False}, "binary: candidate false, baseline true"),
        ({"weighted": True}, "weighted: candidate true, baseline false"),
    ],
)
def test_a_changed_metric_is_refused_by_field(changed: dict[str, Any], shown: str) -> None:
    """A changed scorer, range or orientation makes another metric of the same name."""
    assert refused(evaluation(RIGHT, metric=replace(EXACT, **changed)), evaluation(RIGHT)) == [shown]


def test_task_name_is_compared() -> None:
    """Two tasks may have the same samples and still be two."""
    assert refused(evaluation(RIGHT, task="a/x"), evaluation(RIGHT, task="a/y")) == [
        "task: candidate a/x, baseline a/y"
    ]


def test_a_metric_that_the_baseline_lacks_is_refused_with_what_it_has() -> None:
    """The rest is not looked at: there is nothing to compare."""
    assert refused(evaluation(RIGHT, metric=SCORE), evaluation(RIGHT)) == [
        "metric: candidate chrf, baseline absent (it has exact_match)"
    ]


def test_an_incomplete_baseline_is_refused() -> None:
    """One sample without a score is one too many."""
    assert refused(evaluation(RIGHT), evaluation([*RIGHT[1:], None])) == [
        "completeness: candidate every sample scored, baseline 1 of 200 without score"
    ]
    assert refused(evaluation(RIGHT), evaluation(RIGHT, errors={5: "engine died"})) != []


def test_several_differences_are_all_named() -> None:
    """Nobody should have to mend them one by one."""
    candidate = evaluation(RIGHT, task="a/x", sampling={"n": 4, "top_k": 1})
    assert [each.split(":")[0] for each in refused(candidate, evaluation(RIGHT[:5]))] == [
        "task",
        "sampling.n",
        "sampling.top_k",
        "coverage",
    ]


def test_coverage_is_refused_below_99_percent_only() -> None:
    """Two of 200 may have changed; three may not, and the message says how."""
    baseline = evaluation(RIGHT)
    assert refused(evaluation(RIGHT, pairs={0: "new", 1: "new"}), baseline) == []
    assert refused(evaluation(RIGHT, pairs={0: "new", 1: "new", 2: "new"}), baseline) == [
        "coverage: candidate 197 of 200 samples paired, 3 with another prompt or target, 0 new, "
        "baseline 197 of 200 samples paired, 0 not asked again"
    ]


def test_coverage_counts_samples_missing_on_either_side() -> None:
    """Dropping the hard questions is refused as adding easy ones is."""
    fewer, all_of_them = evaluation(RIGHT[:197]), evaluation(RIGHT)
    assert refused(evaluation(RIGHT[:198]), all_of_them) == refused(all_of_them, evaluation(RIGHT[:198])) == []
    assert refused(fewer, all_of_them) == [
        "coverage: candidate 197 of 197 samples paired, 0 with another prompt or target, 0 new, "
        "baseline 197 of 200 samples paired, 3 not asked again"
    ]
    assert refused(all_of_them, fewer) == [
        "coverage: candidate 197 of 200 samples paired, 0 with another prompt or target, 3 new, "
        "baseline 197 of 197 samples paired, 0 not asked again"
    ]


def test_fewer_than_five_samples_are_refused() -> None:
    """Even when all of them are paired."""
    assert refused(evaluation([1] * 4), evaluation([1] * 4)) == [
        "samples: candidate 4, baseline 4 (a comparison needs 5)"
    ]
    assert refused(evaluation([1] * 5), evaluation([1] * 5)) == []


def test_long_values_are_cut_and_stay_different() -> None:
    """Two schemas that differ at their end do not look alike in the message."""
    long, longer = ({"enum": ["x" * 80, end]} for end in "ab")
    [found] = incomparable(
        evaluation(RIGHT, sampling={"json_schema": long}),
        evaluation(RIGHT, sampling={"json_schema": longer}),
        "exact_match",
    )
    assert found.candidate != found.baseline
    assert max(len(found.candidate), len(found.baseline)) < 80


# -- judges -----------------------------------------------------------------------------------------------------------

RUBRIC = "Does the answer say what the reference says?"
TINY = {"name": "tiny", "model": "judge", "weights": digest("tiny"), "engine": {"name": "vllm", "dtype": "float32"}}


def judged(model: str = "tiny", **said: Any) -> Evaluation:
    """An evaluation of a judge, as a session records it; another `model` is another instrument."""
    described = {
        "kind": "native",
        "models": [TINY],
        "versions": {"deepeval": "4.3.1"},
        "settings": {"rubric": RUBRIC, "revision": 1},
        "kappa": 0.9,
        "labels": 300,
    }
    found = evaluation(RIGHT, metric=replace(EXACT, judge=digest(model)))
    return replace(found, environment={**found.environment, "judges": {EXACT.name: described | said}})


@pytest.mark.parametrize(
    ("changed", "shown"),
    [
        ({"kind": "deepeval"}, "judge.kind: candidate deepeval, baseline native"),
        ({"versions": {"deepeval": "4.4.0"}}, "judge.versions.deepeval: candidate 4.4.0, baseline 4.3.1"),
        ({"settings": {"rubric": RUBRIC, "revision": 2}}, "judge.settings.revision: candidate 2, baseline 1"),
        (
            {"settings": {"rubric": "Is it polite?", "revision": 1}},
            f"judge.settings.rubric: candidate Is it polite?, baseline {RUBRIC}",
        ),
        (
            {"models": [TINY | {"weights": digest("other")}]},
            f"judge.model: candidate judge ({short(digest('other'))}), baseline judge ({short(digest('tiny'))})",
        ),
        (
            {"models": [TINY | {"engine": {"name": "vllm", "dtype": "bfloat16"}}]},
            "judge.engine.dtype: candidate bfloat16, baseline float32",
        ),
        (
            {"models": [TINY, TINY | {"model": "second"}]},
            f"judge.models: candidate judge ({short(digest('tiny'))}), second ({short(digest('tiny'))}), "
            f"baseline judge ({short(digest('tiny'))})",
        ),
        ({"models": []}, f"judge.models: candidate none, baseline judge ({short(digest('tiny'))})"),
    ],
)
def test_a_changed_judge_is_refused_by_what_changed(changed: dict[str, Any], shown: str) -> None:
    """The message names model, engine, version, prompt or rubric, and nothing that stayed."""
    assert refused(judged("new", **changed), judged()) == [shown]


def test_the_members_of_a_panel_are_told_apart() -> None:
    """Of two judges the one that changed is named by its place."""
    panel = judged("new", models=[TINY, TINY | {"weights": digest("other")}])
    assert refused(panel, judged(models=[TINY, TINY])) == [
        f"judge 2.model: candidate judge ({short(digest('other'))}), baseline judge ({short(digest('tiny'))})"
    ]


def test_a_judge_that_changed_unsaid_is_refused_by_digest() -> None:
    """A record may not describe its judge, or the descriptions may not hold what changed; code has no judge at all."""
    digests = f"judge: candidate {short(digest('new'))}, baseline {short(digest('tiny'))}"
    assert refused(judged("new"), judged()) == [digests]
    assert refused(judged("new"), replace(judged(), environment={})) == [digests]
    assert refused(judged("new"), evaluation(RIGHT)) == [f"judge: candidate {short(digest('new'))}, baseline none"]


def test_a_judge_by_another_name_or_calibration_is_the_same_judge() -> None:
    """What the settings call it, and how far it agrees with people, refuses nothing."""
    assert refused(judged(models=[TINY | {"name": "mine"}], kappa=None, labels=None), judged()) == []
    named = judged("new", models=[TINY | {"name": "mine"}], kappa=0.5, versions={"deepeval": "4.4.0"})
    assert refused(named, judged()) == ["judge.versions.deepeval: candidate 4.4.0, baseline 4.3.1"]


# -- named, and refused only by a strict policy -----------------------------------------------------------------------


@pytest.mark.parametrize("field", ["name", "version", "dtype", "device", "determinism"])
def test_engine_fields_are_named_and_refused_only_when_strict(field: str) -> None:
    """Default is to say so; release gates refuse."""
    candidate, baseline = evaluation(RIGHT, engine={field: "other"}), evaluation(RIGHT)
    note = Difference(f"engine.{field}", "other", ENGINE[field])
    assert tolerated(candidate, baseline) == (note,)
    assert compared(candidate, baseline).notes == (note,)
    assert refused(candidate, baseline) == []
    assert refused(candidate, baseline, strict=True) == [str(note)]


def test_seeds_are_named_where_something_is_drawn_and_never_refused() -> None:
    """Greedy decoding has no draw, so its seed says nothing."""
    drawn = {"temperature": 0.7}
    pair = evaluation(RIGHT, seed=1, sampling=drawn), evaluation(RIGHT, seed=2, sampling=drawn)
    assert tolerated(*pair) == (Difference("seed", "1", "2"),)
    assert refused(*pair, strict=True) == []
    assert tolerated(evaluation(RIGHT, seed=1), evaluation(RIGHT, seed=2)) == ()


def test_an_engine_that_was_not_recorded_differs() -> None:
    """Unknown is not the same as equal."""
    silent = replace(evaluation(RIGHT), environment={})
    assert len(tolerated(evaluation(RIGHT), silent)) == 5
    assert tolerated(silent, silent) == ()


# -- numbers ----------------------------------------------------------------------------------------------------------


def test_binary_metrics_are_counted() -> None:
    """Difference, margin, means and the samples that broke and were fixed."""
    before, after = answers(n=200, loss=6, gain=2, wrong=40)
    found = compared(evaluation(after), evaluation(before, name="v2"), Gate(margin=0.02))
    assert (found.baseline, found.candidate) == (0.79, 0.77)
    assert found.test.delta == pytest.approx(-0.02)
    assert found.test.method == "mcnemar-midp/tango"
    assert (found.test.loss, found.test.gain, found.margin) == (6, 2, 0.02)
    assert found.broken == tuple(f"q{i:05}" for i in range(6))
    assert found.fixed == ("q00006", "q00007")
    assert found.baseline_digest == evaluation(before, name="v2").digest
    assert (found.task, found.metric, found.same_weights) == ("arithmetic/addition", EXACT, False)
    assert (found.only_candidate, found.only_baseline, found.slices, found.notes) == ((), (), (), ())


def test_same_checkpoint_on_both_sides_is_noted() -> None:
    """By digest, not by name."""
    assert compared(evaluation(RIGHT), evaluation(RIGHT)).same_weights


def test_lower_is_better_is_turned_round() -> None:
    """More toxicity is a drop; the means keep the metric's own sense."""
    before, after = answers(n=200, loss=2, gain=6, wrong=40)
    found = compared(evaluation(after, metric=TOXIC), evaluation(before, metric=TOXIC, name="v2"))
    assert found.test.delta == pytest.approx(-0.02)
    assert found.candidate > found.baseline
    assert (len(found.broken), len(found.fixed)) == (6, 2)


def test_a_margin_is_a_share_of_the_declared_range() -> None:
    """BLEU has 100 points; its default margin is five of them, and nothing else changes."""
    bleu = Metric("bleu", "d", low=0.0, high=100.0)
    values = np.random.default_rng(0).random(100)
    lower = values - 0.01 * np.random.default_rng(1).random(100)
    found = compared(evaluation(list(100 * lower), metric=bleu), evaluation(list(100 * values), metric=bleu))
    unit = compared(evaluation(list(lower), metric=SCORE), evaluation(list(values), metric=SCORE))
    assert (found.margin, unit.margin) == (5.0, 0.05)
    assert found.test.low == pytest.approx(100 * unit.test.low)
    assert found.test.p_ni == pytest.approx(unit.test.p_ni)


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_binary_metrics_of_any_range_are_counted(higher_is_better: bool) -> None:
    """Right and wrong may be 100 and -100: the same test, in the metric's own units."""
    plain = Metric("m", "d", binary=True, higher_is_better=higher_is_better)
    wide = replace(plain, low=-100.0, high=100.0)
    before, after = answers(n=200, loss=9, gain=4, wrong=30)
    spread = [[200 * value - 100 for value in side] for side in (before, after)]
    unit = compared(evaluation(after, metric=plain), evaluation(before, metric=plain)).test
    found = compared(evaluation(spread[1], metric=wide), evaluation(spread[0], metric=wide))
    scaled = replace(unit, delta=200 * unit.delta, low=200 * unit.low, high=200 * unit.high, sd=200 * unit.sd)
    assert (found.test, found.margin) == (scaled, 10.0)


def test_bits_per_byte_have_a_margin_relative_to_the_baseline() -> None:
    """Weighted by bytes, lower is better, one per cent by default."""
    before = list(np.random.default_rng(0).uniform(0.7, 0.9, 100))
    after = [value + 0.01 for value in before]
    weights = list(np.random.default_rng(1).uniform(100, 1000, 100))
    candidate = evaluation(after, metric=BITS, weights=weights)
    baseline = evaluation(before, metric=BITS, weights=weights)
    found = compared(candidate, baseline)
    assert found.baseline == pytest.approx(np.average(before, weights=weights))
    assert found.margin == pytest.approx(0.01 * found.baseline)
    assert found.test.delta == pytest.approx(-0.01)
    assert compared(candidate, baseline, Gate(margin=0.05)).margin == pytest.approx(0.05 * found.baseline)


def test_several_generations_are_compared_as_means() -> None:
    """With K = 4 a binary metric has values between right and wrong."""
    drawn = {"n": 4, "temperature": 0.7}
    before, after = [0.75] * 100, [0.5] * 50 + [0.75] * 50
    found = compared(evaluation(after, sampling=drawn), evaluation(before, sampling=drawn))
    assert found.test.method == "paired-t"
    assert found.test.delta == -0.125


def test_clusters_are_what_is_counted() -> None:
    """Five questions on each of 40 documents are 40 independent things, and the interval is wider for it."""
    before, after = answers(n=200, loss=20)
    documents = [f"d{i // 5}" for i in range(200)]
    found = compared(evaluation(after, clusters=documents), evaluation(before, clusters=documents))
    alone = compared(evaluation(after), evaluation(before))
    assert found.test.clusters == 40
    assert found.test.high - found.test.low > alone.test.high - alone.test.low


def test_only_paired_samples_are_compared() -> None:
    """What found no partner is listed on its side and stays out of both means."""
    ids = [f"q{i:03}" for i in range(201)]
    candidate = evaluation([*RIGHT[:199], 0.0], ids=[*ids[:199], ids[200]], pairs={7: "new"})
    baseline = evaluation([*RIGHT, 1.0], ids=ids)
    found = compared(candidate, baseline)
    assert found.test.n == 198
    assert found.only_candidate == ("q007", "q200")
    assert found.only_baseline == ("q007", "q199", "q200")
    assert (found.candidate, found.baseline) == (1.0, 1.0)
    assert paired(candidate, baseline, "exact_match").positions.tolist() == [i for i in range(199) if i != 7]


def test_rounding_is_no_difference() -> None:
    """A mean that was summed in another order breaks and fixes nothing."""
    before = [0.1 + 0.2] * 60
    found = compared(evaluation([0.3] * 60, metric=SCORE), evaluation(before, metric=SCORE))
    assert (found.broken, found.fixed, found.test.loss, found.test.delta) == ((), (), 0, 0.0)
    assert found.candidate == found.baseline


def test_impossible_scores_are_an_error_that_names_the_metric() -> None:
    """A stored binary score of .5 cannot be trusted, and no test is made of it."""
    with pytest.raises(RecordError, match=r"arithmetic/addition::exact_match: .*only 0 and 1, got \[0.5\]"):
        compared(evaluation([0.5, *RIGHT]), evaluation([1.0, *RIGHT]))


def test_a_share_of_nothing_is_no_margin() -> None:
    """Bits per byte of 0 have no per cent; the mend is to declare a range."""
    silent = evaluation([0.0] * 40, metric=BITS)
    with pytest.raises(TaskError, match=r"the baseline's bits_per_byte is 0.*Declare the metric's range"):
        compared(silent, silent)


# -- golden samples ---------------------------------------------------------------------------------------------------


def test_golden_samples_break_when_right_before_and_wrong_now() -> None:
    """Wrong before, fixed, still right or not golden: none of these breaks."""
    before, after = answers(n=200, loss=2, gain=1, wrong=1)
    golden = ["q00001", "q00002", "q00003", "q00199"]
    found = compared(evaluation(after), evaluation(before), golden=golden)
    assert found.broken == ("q00000", "q00001")
    assert found.golden_broken == ("q00001",)
    assert found.notes == ()


def test_golden_samples_follow_the_orientation() -> None:
    """Right is the best end of the range: 0 where lower is better, never reached by an unbounded one."""
    before, after = answers(n=200, loss=2, gain=1)
    golden = ["q00000", "q00002"]
    lower = evaluation(after, metric=TOXIC), evaluation(before, metric=TOXIC)
    assert compared(*lower, golden=golden).golden_broken == ("q00002",)
    endless = replace(SCORE, high=None)
    assert compared(evaluation(after, metric=endless), evaluation(before, metric=endless), golden=golden).broken
    found = compared(evaluation(after, metric=endless), evaluation(before, metric=endless), golden=golden)
    assert found.golden_broken == ()


def test_a_score_below_its_best_was_not_right_before() -> None:
    """Golden says "right before": .9 of 1 was not."""
    before, after = [0.9, 1.0] + [0.5] * 48, [0.1, 0.99] + [0.5] * 48
    pair = evaluation(after, metric=SCORE), evaluation(before, metric=SCORE)
    assert compared(*pair, golden=["q00000", "q00001"]).golden_broken == ("q00001",)


def test_golden_samples_without_a_partner_are_named() -> None:
    """A reworded golden question cannot silently stop being checked."""
    found = compared(evaluation(RIGHT, pairs={3: "new"}), evaluation(RIGHT), golden=["q00003", "q00004"])
    assert [str(note) for note in found.notes] == ["golden: candidate q00003 not asked as before, baseline asked"]


# -- slices -----------------------------------------------------------------------------------------------------------


def test_slices_stand_worst_first() -> None:
    """Each with its means, its drop and its own p-value."""
    before, after = answers(n=200, loss=10)
    digits = [{"digits": "2" if i < 40 else "1"} for i in range(200)]
    found = compared(evaluation(after, slices=digits), evaluation(before, slices=digits))
    worst, other = found.slices
    assert (worst.name, worst.value, worst.n, worst.candidate, worst.baseline) == ("digits", "2", 40, 0.75, 1.0)
    assert worst.delta == -0.25
    assert worst.p_reg == pytest.approx(0.5**11)  # mid-p of 10 losses without a gain
    assert (other.value, other.delta, other.p_reg, other.q) == ("1", 0.0, 1.0, None)
    assert found.worst_slice is worst
    assert compared(evaluation(before, slices=digits), evaluation(before, slices=digits)).worst_slice is None


def test_tiny_slices_have_no_p_value() -> None:
    """Below five samples, or all of one document, nothing can be tested; the drop is shown all the same."""
    before, after = answers(n=200, loss=10)
    kinds = [{"kind": "rare" if i < 4 else "five" if i < 9 else "rest"} for i in range(200)]
    found = {each.value: each for each in compared(evaluation(after, slices=kinds), evaluation(before)).slices}
    assert (found["rare"].n, found["rare"].delta, found["rare"].p_reg) == (4, -1.0, None)
    assert found["five"].p_reg == pytest.approx(0.5**6)
    documents = ["one" if i < 9 else f"d{i}" for i in range(200)]
    clustered = compared(evaluation(after, slices=kinds, clusters=documents), evaluation(before, clusters=documents))
    assert {each.value: each.p_reg for each in clustered.slices}["five"] is None


def test_slices_hold_paired_samples_only() -> None:
    """A slice whose samples all lack a partner is not shown."""
    marks = [{"kind": "new"} if i in (3, 4) else {"kind": "old"} for i in range(200)]
    found = compared(evaluation(RIGHT, slices=marks, pairs={3: "a", 4: "b"}), evaluation(RIGHT))
    assert [(each.value, each.n) for each in found.slices] == [("old", 198)]


def test_slice_drops_of_an_unbounded_metric_are_shares_of_the_baseline() -> None:
    """In per cent of the whole task's baseline, as its margin is, and weighted as it is."""
    before, after = [1.0] * 50 + [3.0] * 50, [1.2] * 50 + [3.0] * 50
    halves = [{"half": "first" if i < 50 else "second"} for i in range(100)]
    weights = [1.0] * 100
    found = compared(
        evaluation(after, metric=BITS, slices=halves, weights=weights),
        evaluation(before, metric=BITS, weights=weights),
    )
    assert [(each.value, round(each.delta, 12)) for each in found.slices] == [("first", -0.1), ("second", 0.0)]


# -- laws -------------------------------------------------------------------------------------------------------------

scores = st.lists(st.sampled_from([0.0, 1.0]), min_size=5, max_size=60)


@given(scores.flatmap(lambda side: st.tuples(st.just(side), st.permutations(range(len(side))))), st.randoms())
@settings(max_examples=50, deadline=None)
def test_the_order_of_rows_changes_nothing(drawn: tuple[list[float], list[int]], random: Any) -> None:
    """Rows are sorted by id before anything is computed."""
    before, order = drawn
    after = [random.choice([0.0, 1.0]) for _ in before]
    candidate, baseline = evaluation(after), evaluation(before)
    turned = replace(candidate, rows=tuple(candidate.rows[i] for i in order))
    assert compared(turned, baseline) == compared(candidate, baseline)


@given(scores, st.randoms())
@settings(max_examples=50, deadline=None)
def test_swapping_the_sides_mirrors_everything(before: list[float], random: Any) -> None:
    """What was lost is gained, and the interval is turned round."""
    after = [random.choice([0.0, 1.0]) for _ in before]
    for metric in (EXACT, SCORE, TOXIC):
        there = compared(evaluation(after, metric=metric), evaluation(before, metric=metric))
        back = compared(evaluation(before, metric=metric), evaluation(after, metric=metric))
        assert (there.broken, there.fixed) == (back.fixed, back.broken)
        assert (there.candidate, there.baseline) == (back.baseline, back.candidate)
        assert there.test.delta == pytest.approx(-back.test.delta)
        if metric.binary:  # few scores are tested by random sign-flips, which mirror only in the limit
            assert there.test.low == pytest.approx(-back.test.high, abs=1e-9)
        assert (there.test.loss, there.test.gain) == (back.test.gain, back.test.loss)


@given(scores, st.randoms())
@settings(max_examples=50, deadline=None)
def test_orientation_is_only_a_name(before: list[float], random: Any) -> None:
    """Errors where lower is better and answers where higher is: one comparison."""
    after = [random.choice([0.0, 1.0]) for _ in before]
    wrong = [[1 - value for value in side] for side in (after, before)]
    right = compared(evaluation(after), evaluation(before))
    turned = compared(evaluation(wrong[0], metric=TOXIC), evaluation(wrong[1], metric=TOXIC))
    assert right.test == turned.test
    assert (right.broken, right.fixed) == (turned.broken, turned.fixed)
