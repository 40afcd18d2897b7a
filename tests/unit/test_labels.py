"""Judges' scores and people's labels: the corrected test, when it is used, and what is said without it."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import ppi_py
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from evalgate.compare import MIN_LABELS, Comparison, compare
from evalgate.errors import MissingExtraError, TaskError
from evalgate.evaluation import Metric
from evalgate.gate import Columns, Gate, Member, Outcome, Policy, Verdict, decide, decide_columns
from evalgate.samples import read_labels
from evalgate.scoring import judge
from evalgate.stats import paired_scores, prediction_powered
from evalgate.task import Task
from tests.unit.evaluations import EXACT, evaluation

Array = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]
JUDGE = Metric("judge", "d", binary=True, judge="sha256:0")


def judged(seed: int = 0, n: int = 400, m: int = 100) -> tuple[Array, Array, Places]:
    """Differences as judged, shape (n,), and positions and human differences of the labelled ones, shape (m,)."""
    rng = np.random.default_rng(seed)
    truth = rng.choice([-1.0, 0.0, 1.0], n, p=[0.15, 0.75, 0.1])
    seen = np.where(rng.random(n) < 0.8, truth, rng.choice([-1.0, 0.0, 1.0], n))
    places = rng.choice(n, m, replace=False)
    return seen, truth[places], places


# -- the test ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_it_is_what_ppi_py_computes(seed: int) -> None:
    """Point, interval and both p-values, at the weight that PPI++ calls for."""
    seen, human, places = judged(seed)
    rest = np.setdiff1d(np.arange(len(seen)), places)
    labelled = seen[places]
    weight = np.cov(human, labelled)[0, 1] / (seen.var(ddof=1) * (1 + len(places) / len(rest)))
    assert 0 < weight < 1
    sides = human, labelled, seen[rest]
    found = prediction_powered(seen, human, places, margin=0.05, alpha=0.05)
    low, high = ppi_py.ppi_mean_ci(*sides, alpha=0.1, lam=weight)
    expected = [
        ppi_py.ppi_mean_pointestimate(*sides, lam=weight),
        low,
        high,
        ppi_py.ppi_mean_pval(*sides, null=0.0, alternative="smaller", lam=weight),
        ppi_py.ppi_mean_pval(*sides, null=-0.05, alternative="larger", lam=weight),
    ]
    got = [found.delta, found.low, found.high, found.p_reg, found.p_ni]
    assert got == pytest.approx([np.ravel(value)[0] for value in expected], rel=1e-9)


def test_it_is_what_the_formula_says() -> None:
    """Worked by hand: mean(human - w·seen) + w·mean(rest), and the variances of the two means."""
    seen, human, places = judged(7)
    rest = np.delete(seen, places)
    weight = np.cov(human, seen[places])[0, 1] / (seen.var(ddof=1) * (1 + len(places) / len(rest)))
    errors = human - weight * seen[places]
    delta = errors.mean() + weight * rest.mean()
    spread = math.sqrt(errors.var() / len(errors) + weight**2 * rest.var() / len(rest))
    found = prediction_powered(seen, human, places, margin=0.05, alpha=0.05)
    normal = scipy_stats.norm
    assert found.delta == pytest.approx(delta, rel=1e-12)
    assert found.p_reg == pytest.approx(normal.cdf(delta / spread), rel=1e-6)
    assert found.p_ni == pytest.approx(normal.sf((delta + 0.05) / spread), rel=1e-6)
    assert (found.low, found.high) == pytest.approx((delta - 1.6448536 * spread, delta + 1.6448536 * spread), rel=1e-6)


def test_a_judge_that_knows_nothing_is_not_listened_to() -> None:
    """Its weight is 0, and what is left is the classical test of people's differences."""
    human = np.tile([-1.0, 0.0, 0.0, 1.0, -1.0], 20)
    for seen in (np.zeros(400), np.r_[-human, np.zeros(300)]):  # says nothing, or the opposite
        found = prediction_powered(seen, human, np.arange(100), margin=0.05, alpha=0.05)
        spread = human.std() / 10
        assert found.delta == pytest.approx(human.mean())
        assert found.p_reg == pytest.approx(scipy_stats.norm.cdf(human.mean() / spread), rel=1e-6)


def test_a_judge_that_agrees_is_as_good_as_people() -> None:
    """All labels confirm it: the estimate is about the judge's own, and far more certain than the labels alone."""
    seen, _, places = judged(3, n=2000, m=100)
    found = prediction_powered(seen, seen[places], places, margin=0.05, alpha=0.05)
    assert found.delta == pytest.approx(seen.mean(), abs=0.02)
    alone = paired_scores(np.zeros(100), seen[places], margin=0.05, alpha=0.05)
    assert found.high - found.low < 0.4 * (alone.high - alone.low)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_swapping_the_sides_mirrors_everything(seed: int) -> None:
    """And the interval says what the p-value says."""
    seen, human, places = judged(seed, n=120, m=30)
    one = prediction_powered(seen, human, places, margin=0.05, alpha=0.05)
    other = prediction_powered(-seen, -human, places, margin=0.05, alpha=0.05)
    assert (other.delta, other.low, other.high) == pytest.approx((-one.delta, -one.high, -one.low))
    assert one.p_reg + other.p_reg == pytest.approx(1)
    assert (one.p_ni <= 0.05) == (one.low >= -0.05)
    assert one.low <= one.delta <= one.high


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(40)))
def test_the_order_of_labels_changes_nothing(order: list[int]) -> None:
    """As long as each stands with its own question."""
    seen, human, places = judged(1, n=200, m=40)
    one = prediction_powered(seen, human, places, margin=0.05, alpha=0.05)
    other = prediction_powered(seen, human[order], places[order], margin=0.05, alpha=0.05)
    assert (one.delta, one.p_reg) == pytest.approx((other.delta, other.p_reg))


def test_what_is_counted_is_the_judges() -> None:
    """Losses, gains and their spread are of all questions as judged."""
    seen, human, places = judged(2)
    found = prediction_powered(seen, human, places, margin=0.05, alpha=0.05)
    assert (found.loss, found.gain) == (int((seen < 0).sum()), int((seen > 0).sum()))
    assert (found.n, found.clusters, found.method) == (400, 400, "prediction-powered")
    assert found.sd == pytest.approx(seen.std(ddof=1))
    assert found.discordance == pytest.approx((seen != 0).mean())


@pytest.mark.parametrize(
    ("seen", "human", "p_reg", "p_ni"), [(0.0, 0.0, 1, 0), (0.0, -1.0, 0, 1), (0.0, -0.05, 0, 1), (-1.0, 0.01, 1, 0)]
)
def test_where_nothing_varies_there_is_no_doubt(seen: float, human: float, p_reg: float, p_ni: float) -> None:
    """There is no error to divide by: p-values are 0 or 1, and the interval a point."""
    found = prediction_powered(np.full(60, seen), np.full(20, human), np.arange(20), margin=0.05, alpha=0.05)
    assert (found.p_reg, found.p_ni) == (p_reg, p_ni)
    assert found.low == found.high == found.delta == pytest.approx(human)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"labelled": [3], "human": [0.0]}, "labelled questions: expected from 2 to 9, got 1"),
        ({"labelled": range(10), "human": [0.0] * 10}, "labelled questions: expected from 2 to 9, got 10"),
        ({"labelled": [1, 2, 2]}, "labelled questions: expected different positions from 0 to 9"),
        ({"labelled": [1, 2, 10]}, "labelled questions: expected different positions from 0 to 9"),
        ({"labelled": [-1, 2, 3]}, "labelled questions: expected different positions from 0 to 9"),
        ({"human": [0.0, 1.0]}, "human differences: expected 3, one per labelled question, got 2"),
        ({"human": [0.0, 1.0, math.nan]}, "human differences: expected finite numbers"),
        ({"judged": [math.inf] * 10}, "judged differences: expected finite numbers"),
        ({"margin": 0.0}, "margin"),
        ({"alpha": 0.5}, "alpha"),
    ],
)
def test_arguments_that_are_none_are_refused(changed: dict[str, Any], says: str) -> None:
    """With what was expected and given."""
    good: dict[str, Any] = {"judged": np.arange(10) % 2, "human": [0.0, 1.0, 0.0], "labelled": [1, 2, 3]}
    good |= {"margin": 0.05, "alpha": 0.05}
    with pytest.raises(ValueError, match=says):
        prediction_powered(**good | changed)
    assert prediction_powered(**good).n == 10


def test_without_ppi_py_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line with the command; nothing else of the gate needs it."""
    monkeypatch.setitem(sys.modules, "ppi_py", None)
    seen, human, places = judged()
    with pytest.raises(MissingExtraError, match=r"ppi_py is not installed. pip install 'pytest-evalgate\[ppi\]'"):
        prediction_powered(seen, human, places, margin=0.05, alpha=0.05)
    member, labels = case(300)
    assert only(member).outcome is Outcome.INCONCLUSIVE
    verdict = only(replace(member, labels=labels))
    assert verdict.outcome is Outcome.ERROR
    assert "pytest-evalgate[ppi]" in verdict.reason


# -- in comparisons and verdicts ---------------------------------------------------------------------------------------


def case(
    labelled: int, n: int = 400, metric: Metric = JUDGE, **more: Any
) -> tuple[Member, dict[tuple[str, str], float]]:
    """A member whose judge sees losses that people do not, and the labels of its first questions."""
    rng = np.random.default_rng(4)
    before, after = ((rng.random(n) < p).astype(float) for p in (0.75, 0.68))
    outputs = {side: [f"{side} {i}" for i in range(n)] for side in ("now", "was")}
    labels: dict[tuple[str, str], float] = {}
    for i in range(labelled):
        labels[f"q{i:05}", f"now {i}"] = float(max(before[i], after[i]))
        labels[f"q{i:05}", f"was {i}"] = float(before[i])
    member = Member(
        task="arithmetic/addition",
        metric=metric.name,
        blocking=True,
        gate=Gate(),
        candidate=evaluation(after.tolist(), metric=metric, outputs=outputs["now"], **more),
        baseline=evaluation(before.tolist(), metric=metric, outputs=outputs["was"], name="v2", **more),
    )
    return member, labels


def only(given: Member) -> Verdict:
    """The verdict of a family of one."""
    [verdict] = decide([given], Policy()).verdicts
    return verdict


def compared(member: Member, labels: Mapping[tuple[str, str], float] | None) -> Comparison:
    """What `compare` makes of a member and labels."""
    assert member.candidate is not None
    assert member.baseline is not None
    return compare(member.candidate, member.baseline, member.metric, gate=Gate(), policy=Policy(), labels=labels)


def test_enough_labels_correct_the_judge() -> None:
    """What is tested is the corrected difference, by the labels of both sides' outputs."""
    member, labels = case(MIN_LABELS)
    found = compared(member, labels)
    difference = found.pairs.difference
    human = np.array([labels[f"q{i:05}", f"now {i}"] - labels[f"q{i:05}", f"was {i}"] for i in range(MIN_LABELS)])
    expected = prediction_powered(difference, human, np.arange(MIN_LABELS), margin=0.05, alpha=0.05)
    assert found.test == expected
    assert found.notes == ()


def test_too_few_labels_are_a_note() -> None:
    """They would correct the judge worse than they say, and nobody should think that they did."""
    member, labels = case(MIN_LABELS - 1)
    found = compared(member, labels)
    assert found.test == compared(member, None).test
    [note] = found.notes
    assert str(note) == "labels: candidate 99 of 400 pairs labelled by people, baseline 100 correct the judge"


def test_a_pair_counts_only_where_both_outputs_have_a_label() -> None:
    """Labels of texts that nobody wrote are labels of nothing."""
    member, labels = case(300)
    halves = {key: value for key, value in labels.items() if not key[1].startswith("was") or int(key[1][4:]) < 40}
    [note] = compared(member, halves).notes
    assert "40 of 400 pairs" in str(note)
    changed = {(name, f"{output}!"): value for (name, output), value in labels.items()}
    assert compared(member, changed).notes == ()
    assert compared(member, changed).test == compared(member, None).test


def test_where_people_labelled_all_their_differences_are_tested_alone() -> None:
    """The judge has nothing to add, and nobody calls it uncalibrated."""
    member, labels = case(400)
    found = compared(member, labels)
    human = np.array([labels[f"q{i:05}", f"now {i}"] - labels[f"q{i:05}", f"was {i}"] for i in range(400)])
    assert found.test.p_reg == paired_scores(np.zeros(400), human, margin=0.05, alpha=0.05).p_reg == 1
    assert found.test.delta == pytest.approx(human.mean())
    assert found.test.method == "human-labels/paired-t"
    assert "uncalibrated" not in only(replace(member, labels=labels)).reason


def test_labels_that_a_task_declares_correct_its_judge() -> None:
    """From the rows in the suite to the verdict: labels of the outputs, on the judge's scale, by the metric's name."""
    member, labels = case(MIN_LABELS)
    scorer = judge("Is it right?", scale=(1, 5))
    rows = [{"id": name, "output": text, "judge": 1 + 4 * value} for (name, text), value in labels.items()]
    task = Task(samples=[{"id": "q", "target": "1"}], prompt="{{ id }}", scorers=[scorer], labels=rows)
    sides: dict[str, Any] = {}
    for name, side in (("candidate", member.candidate), ("baseline", member.baseline)):
        assert side is not None
        graded = tuple(replace(row, scores={"judge": 1 + 4 * row.scores["judge"]}) for row in side.rows)
        sides[name] = replace(side, metrics=(scorer.metric,), rows=graded)
    assert scorer.metric.judge
    declared = replace(member, labels=read_labels(task, "arithmetic/addition")["judge"], **sides)
    found, plain = compared(declared, declared.labels).test, compared(member, labels).test
    assert found.method == "prediction-powered"
    assert [found.delta, found.p_reg] == pytest.approx([4 * plain.delta, plain.p_reg])
    verdict = only(declared)
    assert verdict.comparison is not None
    assert verdict.comparison.test == found
    assert compared(declared, {}).test.delta < found.delta  # people saw fewer losses than the judge


def test_labels_of_several_generations_are_averaged() -> None:
    """As the judge's scores of them are; a question counts where every generation has its label."""
    member, labels = case(200)
    assert member.candidate is not None
    assert member.baseline is not None
    twice = []
    for side, word in ((member.candidate, "now"), (member.baseline, "was")):
        rows = tuple(replace(row, outputs=(f"{word} {i}", f"other {word} {i}")) for i, row in enumerate(side.rows))
        twice.append(replace(side, rows=rows, sampling=dict(side.sampling) | {"n": 2}))
    several = replace(member, candidate=twice[0], baseline=twice[1])
    others = {(name, f"other {output}"): 0.0 for name, output in labels}
    found = compared(several, labels | others)
    human = np.array([labels[f"q{i:05}", f"now {i}"] - labels[f"q{i:05}", f"was {i}"] for i in range(200)]) / 2
    expected = prediction_powered(found.pairs.difference, human, np.arange(200), margin=0.05, alpha=0.05)
    assert found.test == expected
    del others["q00000", "other was 0"]
    one_less = prediction_powered(found.pairs.difference, human[1:], np.arange(1, 200), margin=0.05, alpha=0.05)
    assert compared(several, labels | others).test == one_less


def test_labels_follow_the_orientation() -> None:
    """Where lower is better, a label that rises is a loss."""
    toxic = replace(JUDGE, higher_is_better=False)
    up, down = (compared(*case(300, metric=metric)).test for metric in (JUDGE, toxic))
    assert down.delta == pytest.approx(-up.delta)
    assert down.p_reg == pytest.approx(1 - up.p_reg)


def test_labels_of_clusters_are_refused() -> None:
    """The correction holds for independent questions; few labels, which correct nothing, are only noted."""
    member, labels = case(300, clusters=[f"d{i % 100}" for i in range(400)])
    with pytest.raises(TaskError, match="arithmetic/addition::judge: human labels correct only independent questions"):
        compared(member, labels)
    assert only(replace(member, labels=labels)).outcome is Outcome.ERROR
    assert len(compared(member, dict(list(labels.items())[:20])).notes) == 1


def test_a_judge_without_labels_is_called_uncalibrated() -> None:
    """And not with them; code that counts needs no calibration."""
    member, labels = case(300)
    said = "uncalibrated judge: no human labels say how far it errs"
    assert said in only(member).reason
    assert said in only(replace(member, labels=dict(list(labels.items())[:20]))).reason
    assert said not in only(replace(member, labels=labels)).reason
    assert said not in only(case(300, metric=EXACT)[0]).reason


def test_the_anchor_is_compared_with_the_same_labels() -> None:
    """Else the judge's error would be taken for drift, which the labels have just shown to be none."""
    member, labels = case(300)
    assert member.baseline is not None
    anchor = replace(member.baseline, checkpoint={"name": "v1", "digest": "sha256:1", "identity": {}})
    verdict = only(replace(member, labels=labels, anchor=anchor))
    assert verdict.anchor is not None
    assert verdict.anchor.test.method == "prediction-powered"


def test_what_labels_correct_stays_out_of_the_pool() -> None:
    """The pooled test knows scores only, and would bring the judge's error back."""
    member, labels = case(300)
    plain = case(0, metric=EXACT)[0]
    others = [
        replace(plain, task=f"t/{i}", candidate=_named(plain.candidate, i), baseline=_named(plain.baseline, i))
        for i in range(2)
    ]
    corrected = decide([replace(member, labels=labels), *others], Policy())
    assert corrected.pooled == decide(others, Policy()).pooled
    assert "over 2 metrics" in corrected.reason
    assert decide([member, *others], Policy()).pooled != corrected.pooled


def _named(given: Any, number: int) -> Any:
    return replace(given, task=f"t/{number}")


def columns(rng: np.random.Generator, *, labelled: bool, task: str = "t", n: int = 600) -> Columns:
    """Two equal models, and a judge who misses .10 of the right answers of one and .15 of the other's."""
    p = rng.beta(2.0, 0.86, n)
    before, after = ((rng.random(n) < p).astype(float) for _ in range(2))
    seen = [side * (rng.random(n) >= missed) for side, missed in ((before, 0.10), (after, 0.15))]
    labels = (np.arange(300), (after - before)[:300]) if labelled else None
    return Columns(task=task, baseline=seen[0], candidate=seen[1], metric=JUDGE, labels=labels)


@pytest.mark.parametrize("tasks", [1, 2])
def test_a_judge_that_errs_against_the_candidate_raises_alarms_only_without_labels(tasks: int) -> None:
    """Of 300 equal models; at most 6 % and 2 standard errors with labels, and over a quarter without."""
    alarms = {}
    for labelled in (True, False):
        rng = np.random.default_rng(8)
        drawn = ([columns(rng, labelled=labelled, task=f"t/{i}") for i in range(tasks)] for _ in range(300))
        alarms[labelled] = sum(decide_columns(family, Policy()).outcome is Outcome.REGRESSION for family in drawn)
    assert alarms[True] <= 26
    assert alarms[False] >= 75
