"""Scores of the same questions: paired t, cluster-robust regression, sign flips, weights; and several tasks pooled."""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalgate.stats.arguments import codes_of, require, require_inside, vector
from evalgate.stats.paired import PairedTest

if TYPE_CHECKING:
    import numpy.typing as npt

    from evalgate.stats.arguments import Vector


FEW_CLUSTERS = 50  # below, the sandwich variance is too optimistic: a sign-flip test has to agree
_ENUMERATED_CLUSTERS, _RANDOM_FLIPS = 15, 9_999  # up to so many, all 2^G sets; beyond, the empty and seeded ones
_ROUNDING = 1e-12  # what arithmetic may leave of a difference that is none, relative to the scores


def paired_scores(
    baseline: npt.ArrayLike, candidate: npt.ArrayLike, *, margin: float, alpha: float,
    clusters: Sequence[Hashable] | Vector | None = None, weights: npt.ArrayLike | None = None, seed: int = 0,
) -> PairedTest:  # fmt: skip
    """Compare the means of two columns of scores, question by question; at least 2 questions in 2 clusters.

    Paired t; with clusters the regression of the differences on 1 with cluster-robust errors and t(G - 1) (Liang &
    Zeger 1986); with weights the same, weighted. With G < 50 (questions, where there are no clusters) each p-value is
    the larger of that and a sign-flip test on cluster totals (Fisher 1935), and the interval covers both; `seed` draws
    the flips from G = 16 on. Where all differences are the same, p-values are 0 or 1 and the interval is a point.
    """
    import numpy as np

    before = vector(baseline, "baseline")
    n = len(before)
    after = vector(candidate, "candidate", n)
    codes = np.arange(n) if clusters is None else codes_of(clusters, n)
    w = np.ones(n) if weights is None else vector(weights, "weights", n)
    require(bool((w > 0).all()), "weights", "positive numbers", float(w.min()))
    method = "wls-bits-per-byte" if weights is not None else "paired-t" if clusters is None else "cluster-ols"
    scale = float(np.abs([before, after]).max())
    return _regression(after - before, codes, w, scale, margin, alpha, method, seed)


@dataclass(frozen=True, slots=True)
class PooledMetric:
    """One metric's part in the pooled test; metrics of one task share its clusters."""

    task: str
    differences: npt.ArrayLike  # candidate minus baseline, each divided by the metric's range; shape (rows,)
    clusters: Sequence[Hashable] | Vector  # one label per row: the sample's cluster, or else its id


def pooled(tests: Sequence[PooledMetric], *, margin: float, alpha: float) -> PairedTest:
    """Test several tasks at once: the mean of the tasks' mean differences, every task weighted equally.

    One weighted regression on 1 with cluster-robust errors (Liang & Zeger 1986) whose clusters are (task, cluster), so
    that the metrics of a task, which answer the same questions, are not independent evidence. Margin as a share of 1.
    """
    import numpy as np

    require(len(tests) > 0, "metrics to pool", "at least one", len(tests))
    parts, tasks, clusters, used = [], [], [], 0
    for number, task in enumerate(dict.fromkeys(test.task for test in tests)):
        its = [test for test in tests if test.task == task]
        columns = [vector(test.differences, f"differences of task {task!r}") for test in its]
        d, where = np.concatenate(columns), f"clusters of task {task!r}"
        codes = codes_of(_joined([test.clusters for test in its]), len(d), where) + used
        used = int(codes.max()) + 1
        parts.append(d)
        tasks.append(np.full(len(d), number))
        clusters.append(codes)
    of = np.concatenate(tasks)
    weights = 1 / np.bincount(of)[of]
    return _regression(np.concatenate(parts), np.concatenate(clusters), weights, 1.0, margin, alpha, "wls-pooled")


def _joined(labels: Sequence[Sequence[Hashable] | Vector]) -> Sequence[Hashable] | Vector:
    """The labels of a task's metrics in one column; columns of whole numbers stay arrays, which are coded fast."""
    import numpy as np

    arrays = [column for column in labels if isinstance(column, np.ndarray)]
    if len(arrays) == len(labels):
        together: Vector = np.concatenate(arrays)
        return together
    return [label for column in labels for label in column]


def _regression(
    d: Vector, codes: Vector, weights: Vector, scale: float, margin: float, alpha: float, method: str, seed: int = 0
) -> PairedTest:
    """Regress d on 1, weighted and cluster-robust; with clusters and weights of one each this is the paired t-test.

    Written out, because it is four lines of sums, many times as fast as statsmodels' general fit, and spares a gate
    that import. A test holds it to `WLS(d, ones, weights).fit(cov_type="cluster")`, whose small-sample factor
    G/(G-1)·(N-1)/(N-1) is kept, and to `scipy.stats.ttest_rel`.
    """
    import numpy as np
    from scipy import special

    require_inside(margin, "margin", 0, math.inf)
    require_inside(alpha, "alpha", 0, 0.5)
    noise = _ROUNDING * scale
    d = np.where(np.abs(d) <= noise, 0.0, d)  # an average summed in another order is no regression
    totals, sizes = np.bincount(codes, weights * d).astype(float), np.bincount(codes, weights).astype(float)
    count, weight = len(totals), float(sizes.sum())
    require(count >= 2, "clusters", "at least 2 different ones", count)
    delta = float(totals.sum()) / weight
    error = math.sqrt(float(((totals - delta * sizes) ** 2).sum()) * count / (count - 1)) / weight
    if error > noise:
        p_reg, p_ni = (float(special.stdtr(count - 1, x / error)) for x in (delta, -delta - margin))
        reach = float(special.stdtrit(count - 1, 1 - alpha)) * error
    else:
        p_reg, p_ni, reach = float(delta >= -noise), float(delta + margin <= noise), 0.0
    low, high = delta - reach, delta + reach
    if count < FEW_CLUSTERS and float(np.ptp(d)) > noise:
        flip = _sign_flip(totals, sizes, margin, alpha, seed)
        p_reg, p_ni, low, high = max(p_reg, flip[0]), max(p_ni, flip[1]), min(low, flip[2]), max(high, flip[3])
        method += "+sign-flip"
    n, loss, gain = len(d), int((d < 0).sum()), int((d > 0).sum())
    sd, discordance = float(d.std(ddof=1)), (loss + gain) / n
    return PairedTest(delta, low, high, p_reg, p_ni, n, count, loss, gain, discordance, sd, method)


def _sign_flip(totals: Vector, sizes: Vector, margin: float, alpha: float, seed: int) -> tuple[float, ...]:
    """p_reg, p_ni and both ends of the interval of the sign-flip test on cluster totals.

    Turning the signs of a set of clusters leaves the sum of totals at least as small exactly where the set's own mean
    is >= 0; with totals shifted by margin·size, at least as large where it is <= -margin. So the means of the sets
    answer both, and their quantiles are the interval (Hartigan 1969). The empty set always counts: no p-value is 0.
    """
    import numpy as np

    # Random sets must depend neither on the order of the samples nor on rounding.
    order = np.lexsort([np.round(x / max(float(np.abs(x).sum()), 1e-300), 9) for x in (sizes, totals)])
    flips = _flips(len(totals), seed)
    sums, lengths = flips @ totals[order], flips @ sizes[order]
    noise = _ROUNDING * float(np.abs(totals).sum() + margin * sizes.sum())  # equal but for rounding is a tie: it counts
    p_reg, p_ni = float(np.mean(sums >= -noise)), float(np.mean(sums + margin * lengths <= noise))
    means = np.sort(sums[lengths > 0] / lengths[lengths > 0])
    # So many means may lie beyond an end, the empty sets having counted already; if not even those may, the last does.
    beyond = max(math.floor(alpha * len(sums) + 1e-9) - (len(sums) - len(means)), 0)
    return p_reg, p_ni, float(means[beyond]), float(means[-1 - beyond])


@functools.lru_cache(maxsize=4)
def _flips(count: int, seed: int) -> Vector:
    """Sets of clusters, one per row, 1 for a member: all 2^count of them, or the empty one and 9999 random ones."""
    import numpy as np

    if count <= _ENUMERATED_CLUSTERS:
        members = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
    else:
        members = np.random.default_rng(seed).integers(0, 2, size=(_RANDOM_FLIPS + 1, count))
        members[0] = 0
    return np.asarray(members, dtype=np.float64)
