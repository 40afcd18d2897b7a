"""The gate over columns of scores: the same rules where there are arrays and no records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from evalgate.compare import MIN_PAIRS, Paired, compare_pairs
from evalgate.errors import RecordError
from evalgate.evaluation import Metric
from evalgate.gate.examine import Case
from evalgate.gate.family import decide_cases
from evalgate.gate.policy import Family, Gate, Member, Policy

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """One metric of one task as columns of scores: what `decide` reads from two records.

    Attributes:
        task: name; metrics of one task answer the same questions.
        baseline, candidate: scores of the same questions in the same order, metric's own units; shape (n,).
        metric: what was measured.
        clusters: whole numbers, the same for questions that belong together; shape (n,).
        weights: positive numbers, shape (n,).
        gate: its margin and floor.
        blocking: whether it can fail the whole.
        generations: per question; scores are their means.
        labels: positions of the questions that people labelled, and candidate minus baseline as they see them;
            however few they are, they are used (`decide` takes them from `MIN_LABELS` on).
        sequential: (this look, the last one) where questions are drawn in steps, and these are those drawn so far.
    """

    task: str
    baseline: npt.ArrayLike
    candidate: npt.ArrayLike
    metric: Metric = field(default_factory=lambda: Metric("score", ""))
    clusters: npt.ArrayLike | None = None
    weights: npt.ArrayLike | None = None
    gate: Gate = field(default_factory=Gate)
    blocking: bool = True
    generations: int = 1
    labels: tuple[npt.ArrayLike, npt.ArrayLike] | None = None
    sequential: tuple[int, int] | None = None


def decide_columns(columns: Sequence[Columns], policy: Policy) -> Family:
    """Reach every verdict, and the overall one, as `decide` does.

    Raises:
        RecordError: columns of different lengths, or scores that the metric cannot have.
        TaskError: see `compare`.
    """
    return decide_cases([_case(each, policy) for each in columns], policy)


def _case(given: Columns, policy: Policy) -> Case:
    import numpy as np

    before, after = (np.asarray(side, dtype=np.float64) for side in (given.baseline, given.candidate))
    where = f"{given.task}::{given.metric.name}"
    if before.shape != after.shape or before.ndim != 1:
        raise RecordError(f"the columns have the shapes {before.shape} and {after.shape}, expected one", where=where)
    for bound, beyond in ((given.metric.low, np.less), (given.metric.high, np.greater)):
        if bound is not None and bool(beyond([before, after], bound).any()):
            raise RecordError(f"a score lies outside {given.metric.low} to {given.metric.high}", where=where)
    if len(before) < MIN_PAIRS:
        raise RecordError(f"{len(before)} questions, and a comparison needs {MIN_PAIRS}", where=where)
    weights = None if given.weights is None else np.asarray(given.weights, dtype=np.float64)
    if weights is not None and not (weights.shape == before.shape and (weights > 0).all()):
        raise RecordError(f"weights: expected {len(before)} positive numbers, one per question", where=where)
    places, human = given.labels or ((), ())
    labels = np.asarray(places, dtype=np.intp), np.asarray(human, dtype=np.float64)
    comparison = compare_pairs(
        given.metric,
        Paired(
            positions=np.arange(len(before)),
            candidate=after,
            baseline=before,
            difference=after - before if given.metric.higher_is_better else before - after,
            clusters=None if given.clusters is None else np.asarray(given.clusters, dtype=np.intp),
            weights=weights,
        ),
        task=given.task,
        gate=given.gate,
        policy=policy,
        generations=given.generations,
        labels=labels if given.labels else None,
        sequential=given.sequential is not None,
    )
    member = Member(task=given.task, metric=given.metric.name, blocking=given.blocking, gate=given.gate)
    more = given.sequential is not None and given.sequential[0] < given.sequential[1]
    return Case(member, comparison=comparison, look=given.sequential, reserve=more)
