"""Columns of scores are decided as the records are that hold the same scores; and either way fast."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalgate.errors import EvalgateError, RecordError, TaskError
from evalgate.evaluation import Evaluation, Metric
from evalgate.gate import Columns, Family, Gate, Member, Outcome, Policy, decide, decide_columns
from tests.unit.evaluations import BITS, EXACT, SCORE, TOXIC, evaluation

JUDGE = replace(EXACT, name="judge", judge="sha256:0")


def members(columns: Sequence[Columns]) -> list[Member]:
    """The same scores as two records per task, which hold the columns of all its metrics."""
    records = {task: _records([each for each in columns if each.task == task]) for task in {c.task for c in columns}}
    return [
        Member(
            task=each.task,
            metric=each.metric.name,
            blocking=each.blocking,
            gate=each.gate,
            last_look=each.sequential[1] if each.sequential else 0,
            candidate=records[each.task][0],
            baseline=records[each.task][1],
        )
        for each in columns
    ]


def _records(columns: Sequence[Columns]) -> tuple[Evaluation, Evaluation]:
    first = columns[0]
    more: dict[str, Any] = {"task": first.task, "sampling": {"n": first.generations}}
    if first.clusters is not None:
        more["clusters"] = [f"document {label}" for label in np.asarray(first.clusters)]
    if first.weights is not None:
        more["weights"] = np.asarray(first.weights, dtype=float).tolist()
    made = []
    for name, side in (("v3", "candidate"), ("v2", "baseline")):
        scores = [np.asarray(getattr(each, side), dtype=float).tolist() for each in columns]
        plain = evaluation(scores[0], name=name, **more)
        named = [
            dict(zip([each.metric.name for each in columns], row, strict=True)) for row in zip(*scores, strict=True)
        ]
        rows = tuple(replace(row, scores=its) for row, its in zip(plain.rows, named, strict=True))
        made.append(replace(plain, rows=rows, metrics=tuple(each.metric for each in columns)))
    return made[0], made[1]


def numbers(family: Family) -> list[float]:
    """Every number that a family holds, in one order."""
    tests = [verdict.comparison.test for verdict in family.verdicts if verdict.comparison]
    tests += [family.pooled] if family.pooled else []
    held = [(v.value, v.p_adjusted, v.level, v.detectable, v.needed) for v in family.verdicts]
    values = [value for row in held for value in row]
    values += [getattr(test, name) for test in tests for name in test.__slots__ if name != "method"]
    return [float("nan") if value is None else float(value) for value in values]


def assert_the_same(columns: Sequence[Columns], policy: Policy) -> None:
    """Decided over columns and over records: words equal, numbers equal but for their last bits."""
    one, other = decide_columns(columns, policy), decide(members(columns), policy)
    assert (one.outcome, one.together, one.partial) == (other.outcome, other.together, other.partial)
    np.testing.assert_allclose(numbers(one), numbers(other), rtol=1e-9, atol=1e-12)
    for ours, theirs in zip(one.verdicts, other.verdicts, strict=True):
        assert ours.comparison is not None
        assert theirs.comparison is not None
        assert (ours.outcome, ours.degraded, ours.reason) == (theirs.outcome, theirs.degraded, theirs.reason)
        assert ours.comparison.test.method == theirs.comparison.test.method


KINDS = ("binary", "binary, lower is better", "clusters", "scores", "generations", "weights", "judge")


@st.composite
def drawn_columns(draw: st.DrawFn) -> list[Columns]:
    """One to three tasks of any kind, of one metric or two."""
    found = []
    for number in range(draw(st.integers(1, 3))):
        kind, n = draw(st.sampled_from(KINDS)), draw(st.integers(6, 60))
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        drop = draw(st.sampled_from([0.0, 0.1, 0.4]))
        fields: dict[str, Any] = {"task": f"t/{number}", "gate": Gate(margin=draw(st.sampled_from([None, 0.02, 0.3])))}
        if kind in ("scores", "generations", "weights"):
            before = rng.integers(1, 9, n) / 8
            after = np.clip(before + rng.integers(-2, 3, n) / 8 - (rng.random(n) < drop) / 8, 1 / 8, 1)
        else:
            before, after = ((rng.random(n) < p).astype(float) for p in (0.7, 0.7 - drop))
        if kind == "clusters":
            fields["clusters"] = rng.permutation(np.arange(n) % draw(st.integers(2, n // 2)))
        if kind == "generations":
            fields |= {"generations": 8}
        if kind == "weights":
            fields["weights"] = rng.integers(1, 50, n)
        metrics = {"binary, lower is better": TOXIC, "scores": SCORE, "weights": BITS, "judge": JUDGE}
        fields |= {"baseline": before, "candidate": after, "metric": metrics.get(kind, EXACT)}
        found.append(Columns(**fields))
        if kind in ("binary", "clusters", "scores") and draw(st.booleans()):  # the same questions, another metric
            second = Metric("second", "d", binary=kind != "scores")
            found.append(Columns(**fields | {"metric": second, "blocking": draw(st.booleans()), "candidate": before}))
    return found


@settings(deadline=None, max_examples=60)
@given(drawn_columns(), st.sampled_from([Policy(), Policy(alpha=0.2, pass_rule="all"), Policy(min_n=5, margin=0.3)]))
def test_columns_are_decided_as_records_are(columns: list[Columns], policy: Policy) -> None:
    """Any mixture of right-or-wrong answers, scores, clusters, weights and tasks."""
    assert_the_same(columns, policy)


def test_a_look_is_decided_as_over_records() -> None:
    """The e-value, its look in the reason, and the wish for more samples."""
    rng = np.random.default_rng(1)
    before, after = ((rng.random(300) < 0.7).astype(float) for _ in range(2))
    steps = np.repeat([0, 1, 2], 100).tolist()
    candidate, baseline = _records([Columns(task="t/0", baseline=before, candidate=after, metric=EXACT)])
    candidate, baseline = (
        replace(side, rows=tuple(replace(row, look=look) for row, look in zip(side.rows, steps, strict=True)))
        for side in (candidate, baseline)
    )
    policy = Policy(reserve="top-up")
    for look in range(3):
        to = 100 * (look + 1)
        columns = Columns(task="t/0", baseline=before[:to], candidate=after[:to], metric=EXACT, sequential=(look, 2))
        recorded = Member(
            task="t/0",
            metric="exact_match",
            blocking=True,
            gate=Gate(),
            last_look=2,
            candidate=candidate.drawn(0, look),
            baseline=baseline,
        )
        one, other = decide_columns([columns], policy), decide([recorded], policy)
        assert (one.reason, one.outcome, one.wants_reserve) == (other.reason, other.outcome, other.wants_reserve)
        assert one.wants_reserve == (("t/0",) if look < 2 else ())


def test_a_different_score_is_a_different_verdict() -> None:
    """The comparison above could fail: one answer changed shows in the numbers."""
    before = np.tile([1.0, 0.0], 30)
    columns = [Columns(task="t/0", baseline=before, candidate=before, metric=EXACT)]
    changed = [replace(columns[0], candidate=np.r_[0.0, before[1:]])]
    assert numbers(decide_columns(columns, Policy())) != pytest.approx(numbers(decide(members(changed), Policy())))


def test_an_informing_column_decides_nothing() -> None:
    """It has its verdict, and the whole is that of the others."""
    good, bad = np.ones(400), np.r_[np.zeros(60), np.ones(340)]
    blocking = Columns(task="a", baseline=good, candidate=good, metric=EXACT)
    family = decide_columns([blocking, Columns(task="b", baseline=good, candidate=bad, blocking=False)], Policy())
    assert [verdict.outcome for verdict in family.verdicts] == [Outcome.PASS, Outcome.REGRESSION]
    assert family.outcome is Outcome.PASS


HALF = np.tile([1.0, 0.0], 20)


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"candidate": HALF[:-1]}, RecordError, r"t::score: the columns have the shapes \(40,\) and \(39,\), expected"),
        ({"baseline": HALF.reshape(2, 20), "candidate": HALF.reshape(2, 20)}, RecordError, r"shapes \(2, 20\)"),
        ({"candidate": HALF * 1.01}, RecordError, "a score lies outside 0.0 to 1.0"),
        ({"baseline": HALF - 0.01}, RecordError, "a score lies outside 0.0 to 1.0"),
        ({"candidate": np.r_[np.nan, HALF[1:]]}, RecordError, "finite numbers"),
        ({"candidate": HALF / 2, "metric": EXACT}, RecordError, "only 0 and 1"),
        ({"baseline": HALF[:4], "candidate": HALF[:4]}, RecordError, "4 questions, and a comparison needs 5"),
        ({"baseline": [], "candidate": []}, RecordError, "0 questions"),
        ({"clusters": [1, 2, 3]}, RecordError, "40 labels, one per row, got 3"),
        ({"clusters": [1] * 40}, RecordError, "at least 2 different ones"),
        ({"weights": [1.0, 2.0]}, RecordError, "weights: expected 40 positive numbers"),
        ({"weights": [0.0] * 40}, RecordError, "weights: expected 40 positive numbers"),
        ({"weights": [float("nan")] * 40}, RecordError, "weights: expected 40 positive numbers"),
        ({"labels": ([40, 1], [0.0, 0.0])}, RecordError, "different positions from 0 to 39"),
        ({"labels": ([1, 1], [0.0, 0.0])}, RecordError, "different positions from 0 to 39"),
        ({"labels": ([0, 1, 2], [0.0, 0.0])}, RecordError, "human differences: expected 3"),
        ({"labels": (np.arange(40), [0.0, 0.0])}, RecordError, "expected shape"),
        ({"labels": ([0, 1], [0.0, 0.0]), "clusters": np.arange(40) % 8}, TaskError, "independent questions"),
        ({"labels": ([0, 1], [0.0, 0.0]), "weights": np.ones(40)}, TaskError, "independent questions"),
        ({"metric": BITS, "baseline": HALF * 0, "candidate": HALF}, TaskError, "margin a share of it"),
        ({"sequential": (0, 4)}, RecordError, "drawn in steps: expected right-or-wrong answers"),
        ({"sequential": (0, 4), "metric": EXACT, "clusters": np.arange(40) % 8}, RecordError, "drawn in steps"),
        ({"sequential": (0, 4), "metric": EXACT, "generations": 2}, RecordError, "drawn in steps"),
    ],
)
def test_columns_that_cannot_mean_anything_are_refused(
    wrong: dict[str, Any], error: type[EvalgateError], says: str
) -> None:
    """One typed line that names task and metric, and never a number."""
    fields: dict[str, Any] = {"task": "t", "baseline": HALF, "candidate": HALF}
    with pytest.raises(error, match=says) as caught:
        decide_columns([Columns(**fields | wrong)], Policy())
    assert "t" in str(caught.value.where)
    assert "\n" not in str(caught.value)


def test_the_ends_of_a_range_are_inside_it() -> None:
    """The refusals above are no accident of bounds; a metric without a bound has none to break."""
    for metric, scale in ((SCORE, 1.0), (BITS, 40.0)):
        family = decide_columns(
            [Columns(task="t", baseline=HALF * scale, candidate=HALF * scale, metric=metric)], Policy()
        )
        assert family.outcome is Outcome.PASS


# -- speed -------------------------------------------------------------------------------------------------------------


def hundred_tasks() -> list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """Right-or-wrong answers of two equal models to 100 tasks of 10,000 questions."""
    rng = np.random.default_rng(0)
    return [((rng.random(10_000) < 0.7).astype(float), (rng.random(10_000) < 0.7).astype(float)) for _ in range(100)]


def test_a_hundred_large_tasks_of_columns_are_decided_in_two_seconds() -> None:
    """Of this process's time, so that other processes do not count."""
    columns = [
        Columns(task=f"t/{i}", baseline=before, candidate=after, metric=EXACT)
        for i, (before, after) in enumerate(hundred_tasks())
    ]
    decide_columns(columns[:2], Policy())  # imports are not what is measured
    started = time.process_time()
    family = decide_columns(columns, Policy())
    assert time.process_time() - started <= 2
    assert family.outcome is Outcome.PASS


def test_a_hundred_large_tasks_of_records_are_decided_in_three_seconds() -> None:
    """All arrays are made within the clock; digests are not, since reading a record has made its own already."""
    before, after = (scores.tolist() for scores in hundred_tasks()[0])
    sides = evaluation(after), evaluation(before, name="v2")
    columns = Columns(task="t", baseline=before, candidate=after, metric=EXACT)
    [one] = members([replace(columns, task="arithmetic/addition")])
    many = []
    for i in range(100):
        candidate, baseline = (replace(side, task=f"t/{i}", origin=f"sha256:{i}") for side in sides)
        many.append(replace(one, task=f"t/{i}", candidate=candidate, baseline=baseline))
    decide([one], Policy())
    started = time.process_time()
    family = decide(many, Policy())
    assert time.process_time() - started <= 3
    assert len(family.verdicts) == 100
    assert family.outcome is Outcome.PASS
