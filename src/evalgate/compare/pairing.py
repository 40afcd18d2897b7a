"""Which rows of two evaluations answer the same question, and their scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalgate.compare.words import Paired
from evalgate.evaluation import Evaluation

if TYPE_CHECKING:
    from evalgate.compare.words import Positions

_ROUNDING = 1e-12  # what floating point may leave of a difference that is none, relative to the scores


def paired(candidate: Evaluation, baseline: Evaluation, metric: str) -> Paired:
    """Pair by sample id and by the digest of prompt and target, and take one metric's scores."""
    import numpy as np

    spec = candidate.metric(metric)
    ours, theirs = _positions(candidate, baseline)
    after = candidate.columns[metric][ours]
    # A preference was reached by holding both answers side by side: no preference is the middle of its range.
    if spec.against is not None and spec.low is not None and spec.high is not None:
        before = np.full(len(after), (spec.low + spec.high) / 2)
    else:
        before = baseline.columns[metric][theirs]
    same = np.abs(after - before) <= _ROUNDING * np.maximum(np.abs(after), np.abs(before))
    after = np.where(same, before, after)
    return Paired(
        positions=ours,
        candidate=after,
        baseline=before,
        difference=after - before if spec.higher_is_better else before - after,
        clusters=None if candidate.clusters is None else candidate.clusters[ours],
        weights=candidate.weights[ours] if spec.weighted else None,
    )


def _positions(candidate: Evaluation, baseline: Evaluation) -> tuple[Positions, Positions]:
    """Positions of paired rows on both sides, in the order of sample ids."""
    import numpy as np

    if candidate.keys == baseline.keys:
        everyone = np.arange(len(candidate.rows))
        return everyone, everyone
    theirs = {key: position for position, key in enumerate(zip(*baseline.keys, strict=True))}
    keys = zip(*candidate.keys, strict=True)
    both = [(position, theirs[key]) for position, key in enumerate(keys) if key in theirs]
    ours_theirs = np.array(both, dtype=np.intp).reshape(-1, 2)
    return ours_theirs[:, 0], ours_theirs[:, 1]


def unpaired(side: Evaluation, other: Evaluation) -> tuple[str, ...]:
    """Ids of one side that have no partner on the other: missing there, or asked with another prompt or target."""
    if side.keys == other.keys:
        return ()
    there = set(zip(*other.keys, strict=True))
    return tuple(key[0] for key in zip(*side.keys, strict=True) if key not in there)
