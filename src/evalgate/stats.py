"""The statistics of the gate: pure functions from arrays to p-values, intervals and sample sizes.

Scores are oriented so that higher is better; a difference is candidate minus baseline. Two one-sided questions:
`p_reg`, is the candidate worse (H0 delta >= 0), and `p_ni`, is it worse by less than the margin (H0 delta <= -margin)?
numpy, scipy and statsmodels are imported inside the functions: a pytest run without a checkpoint never pays for them.

Arguments mean the same everywhere, and what breaks these rules is a ValueError that says what was expected and given:

- `loss`, `gain`: questions that only the baseline, or only the candidate, got right; integers >= 0, together at most n;
- `baseline`, `candidate`: finite scores of the same questions in the same order, in the metric's units, shape (n,);
- `clusters`: n labels; questions of one document, template or passage share theirs. `weights`: n positive numbers;
- `margin`: the largest tolerated drop, > 0, in the units of the scores (for loss and gain a share of 1);
- `alpha`: level of each one-sided test, in (0, .5); intervals are two-sided with confidence 1 - 2·alpha.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Vector: TypeAlias = npt.NDArray[np.floating | np.integer]

FEW_CLUSTERS = 50  # below, the sandwich variance is too optimistic: a sign-flip test has to agree
_ENUMERATED_CLUSTERS, _RANDOM_FLIPS = 15, 9_999  # up to so many, all 2^G sets; beyond, the empty and seeded ones
_ROUNDING = 1e-12  # what arithmetic may leave of a difference that is none, relative to the scores


@dataclass(frozen=True, slots=True)
class PairedTest:
    """One metric's paired comparison, in the metric's own units; higher is better.

    `p_ni <= alpha` and `low > -margin` say the same, unless 2^-G > alpha: then no interval can, and p_ni decides.
    """

    delta: float  # mean of the differences, weighted where weights were given
    low: float
    high: float
    p_reg: float  # H0 delta >= 0 against delta < 0
    p_ni: float  # H0 delta <= -margin against delta > -margin
    n: int  # paired questions (pooled: rows)
    clusters: int  # = n where every question stands for itself
    loss: int  # questions on which the candidate is worse
    gain: int  # questions on which it is better
    discordance: float  # (loss + gain) / n
    sd: float  # of the differences, unweighted, ddof = 1
    method: str  # mcnemar-midp/tango, paired-t, cluster-ols, wls-bits-per-byte, wls-pooled; also with +sign-flip


@dataclass(frozen=True, slots=True)
class PooledMetric:
    """One metric's part in the pooled test; metrics of one task share its clusters."""

    task: str
    differences: npt.ArrayLike  # candidate minus baseline, each divided by the metric's range; shape (rows,)
    clusters: Sequence[Hashable]  # one label per row: the sample's cluster, or else its id


def compare_arrays(
    baseline: npt.ArrayLike, candidate: npt.ArrayLike, *, binary: bool, margin: float, alpha: float,
    clusters: Sequence[Hashable] | None = None, weights: npt.ArrayLike | None = None,
) -> PairedTest:  # fmt: skip
    """Compare two columns of scores by the test that their kind calls for.

    `binary` promises scores of 0 and 1 (one generation per question): independent ones are counted (`paired_binary`).
    All else is a comparison of means (`paired_scores`). Clusters of one question each are no clusters.
    """
    before = _vector(baseline, "baseline")
    n = len(before)
    after = _vector(candidate, "candidate", n)
    if binary:
        for what, scores in (("baseline", before), ("candidate", after)):
            odd = scores[(scores != 0) & (scores != 1)]
            _require(not odd.size, f"{what} of a binary metric", "only 0 and 1", odd[:1].tolist())
        if weights is None and (clusters is None or int(_codes(clusters, n).max()) + 1 == n):
            loss, gain = int((after < before).sum()), int((after > before).sum())
            return paired_binary(loss, gain, n, margin=margin, alpha=alpha)
    return paired_scores(before, after, margin=margin, alpha=alpha, clusters=clusters, weights=weights)


def paired_binary(loss: int, gain: int, n: int, *, margin: float, alpha: float) -> PairedTest:
    """Compare right-or-wrong answers to n independent questions by mid-p McNemar and Tango's test and interval.

    Without a discordant pair p_reg is 1, and non-inferiority still depends on n, as it should.
    """
    loss, gain, n = _counts(loss, gain, n)
    _require_inside(alpha, "alpha", 0, 0.5)
    delta = (gain - loss) / n
    low, high = _tango_low(loss, gain, n, alpha), -_tango_low(gain, loss, n, alpha)
    p_reg, p_ni, discordance = mcnemar_midp(loss, gain), tango_p(loss, gain, n, margin), (loss + gain) / n
    sd = math.sqrt(max(loss + gain - n * delta**2, 0.0) / max(n - 1, 1))
    return PairedTest(delta, low, high, p_reg, p_ni, n, n, loss, gain, discordance, sd, "mcnemar-midp/tango")


def mcnemar_midp(loss: int, gain: int) -> float:
    """One-sided mid-p McNemar test of "a loss is no likelier than a gain"; 1 where no pair is discordant.

    P(X > loss) + P(X = loss)/2 for X ~ Binomial(loss + gain, 1/2). Sources: McNemar 1947; Lancaster 1961 (mid-p);
    Fagerland, Lydersen & Laake 2013, who recommend it for matched pairs.
    """
    loss, gain, discordant = _counts(loss, gain)
    if discordant == 0:
        return 1.0
    from scipy import special

    # The mid-p value is the mean of the two tails that do and do not contain `loss`.
    return sum(float(special.bdtrc(k, discordant, 0.5)) for k in (loss - 1, loss)) / 2


def mcnemar_e_value(loss: int, gain: int) -> float:
    """Log of an anytime-valid e-value against "a loss is no likelier than a gain": block when it reaches -log(level).

    The pairs' likelihood with P(loss) uniform on (1/2, 1), over that with 1/2; any look is allowed (Ville 1939). It is
    (b+c+1)·log 2 + betaln(b+1, c+1) + beta.logsf(1/2, b+1, c+1) for b = loss, c = gain; the last term, which underflows
    where gains abound, is summed as the logarithm of the binomial tail that it is.
    """
    loss, gain, discordant = _counts(loss, gain)
    import numpy as np
    from scipy import special

    k = np.arange(loss + 1)
    log_choose = -math.log(discordant + 2) - special.betaln(discordant + 2 - k, k + 1)  # k of discordant + 1
    return float(special.betaln(loss + 1, gain + 1) + special.logsumexp(log_choose))


def tango_p(loss: int, gain: int, n: int, margin: float) -> float:
    """One-sided score test of H0 "P(gain) - P(loss) <= -margin". Source: Tango 1998, Statistics in Medicine 17."""
    loss, gain, n = _counts(loss, gain, n)
    _require_inside(margin, "margin", 0, math.inf)
    return 0.0 if margin > 1 else _tango_tail(loss, gain, n, -margin)  # nothing falls by more than 1


def tango_interval(loss: int, gain: int, n: int, confidence: float) -> tuple[float, float]:
    """The differences P(gain) - P(loss) that neither one-sided score test rejects; confidence in (0, 1). Tango 1998."""
    loss, gain, n = _counts(loss, gain, n)
    _require_inside(confidence, "confidence", 0, 1)
    tail = (1 - confidence) / 2
    return _tango_low(loss, gain, n, tail), -_tango_low(gain, loss, n, tail)


def _tango_tail(loss: int, gain: int, n: int, theta: float) -> float:
    """The score test's p-value of H0 "P(gain) - P(loss) <= theta", theta in [-1, 1]."""
    if theta > 0:  # By symmetry; on the other side no two terms of nearly equal size are subtracted for q.
        return 1 - _tango_tail(gain, loss, n, -theta)
    # q = P(loss) under the null, by maximum likelihood: the larger root of a·q² + b·q + c = 0.
    a, b, c = 2 * n, (2 * n + loss - gain) * theta - loss - gain, -loss * theta * (1 - theta)
    q = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    variance = n * (2 * q + theta * (1 - theta))  # 0 where theta is -1, or 0 without a discordant pair
    z = (gain - loss - n * theta) / math.sqrt(max(variance, 1e-300))
    return math.erfc(z / math.sqrt(2)) / 2


def _tango_low(loss: int, gain: int, n: int, tail: float) -> float:
    """The difference whose score test has p-value `tail`: the lower end of the interval."""
    if loss == n:
        return -1.0
    from scipy.optimize import brentq

    return float(brentq(lambda theta: _tango_tail(loss, gain, n, theta) - tail, -1.0, (gain - loss) / n, xtol=1e-14))


def paired_scores(
    baseline: npt.ArrayLike, candidate: npt.ArrayLike, *, margin: float, alpha: float,
    clusters: Sequence[Hashable] | None = None, weights: npt.ArrayLike | None = None, seed: int = 0,
) -> PairedTest:  # fmt: skip
    """Compare the means of two columns of scores, question by question; at least 2 questions in 2 clusters.

    Paired t; with clusters the regression of the differences on 1 with cluster-robust errors and t(G - 1) (Liang &
    Zeger 1986); with weights the same, weighted. With G < 50 (questions, where there are no clusters) each p-value is
    the larger of that and a sign-flip test on cluster totals (Fisher 1935), and the interval covers both; `seed` draws
    the flips from G = 16 on. Where all differences are the same, p-values are 0 or 1 and the interval is a point.
    """
    import numpy as np

    before = _vector(baseline, "baseline")
    n = len(before)
    after = _vector(candidate, "candidate", n)
    codes = np.arange(n) if clusters is None else _codes(clusters, n)
    w = np.ones(n) if weights is None else _vector(weights, "weights", n)
    _require(bool((w > 0).all()), "weights", "positive numbers", float(w.min()))
    method = "wls-bits-per-byte" if weights is not None else "paired-t" if clusters is None else "cluster-ols"
    scale = float(np.abs([before, after]).max())
    return _regression(after - before, codes, w, scale, margin, alpha, method, seed)


def pooled(tests: Sequence[PooledMetric], *, margin: float, alpha: float) -> PairedTest:
    """Test several tasks at once: the mean of the tasks' mean differences, every task weighted equally.

    One weighted regression on 1 with cluster-robust errors (Liang & Zeger 1986) whose clusters are (task, cluster), so
    that the metrics of a task, which answer the same questions, are not independent evidence. Margin as a share of 1.
    """
    import numpy as np

    _require(len(tests) > 0, "metrics to pool", "at least one", len(tests))
    columns = [_vector(test.differences, f"differences of task {test.task!r}") for test in tests]
    for test, column in zip(tests, columns, strict=True):
        _codes(test.clusters, len(column), f"clusters of task {test.task!r}")  # a label in every row
    labels = [(test.task, label) for test in tests for label in test.clusters]
    d, tasks = np.concatenate(columns), _codes([task for task, _ in labels], len(labels))
    return _regression(d, _codes(labels, len(d)), 1 / np.bincount(tasks)[tasks], 1.0, margin, alpha, "wls-pooled")


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

    _require_inside(margin, "margin", 0, math.inf)
    _require_inside(alpha, "alpha", 0, 0.5)
    noise = _ROUNDING * scale
    d = np.where(np.abs(d) <= noise, 0.0, d)  # an average summed in another order is no regression
    totals, sizes = np.bincount(codes, weights * d).astype(float), np.bincount(codes, weights).astype(float)
    count, weight = len(totals), float(sizes.sum())
    _require(count >= 2, "clusters", "at least 2 different ones", count)
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


def holm(p_values: Sequence[float], level: float) -> list[float]:
    """Holm's step-down p-values, in the order given; those <= level, in (0, 1), hold for the family. Holm 1979."""
    return _adjusted(p_values, "holm", level)


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """False discovery rates (q-values), in the order given. Source: Benjamini & Hochberg 1995."""
    return _adjusted(p_values, "fdr_bh", 0.05)  # the level only decides statsmodels' "reject", which nobody reads


def _adjusted(p_values: Sequence[float], method: str, level: float) -> list[float]:
    _require_inside(level, "level", 0, 1)
    values = [float(p) for p in p_values]
    _require(all(0 <= p <= 1 for p in values), "p-values", "numbers in [0, 1]", values)
    if len(values) < 2:  # nothing to adjust, so no import to pay for
        return values
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(values, alpha=level, method=method)[1]]


def samples_needed(
    delta: float, *, alpha: float, power: float = .8, psi: float | None = None, sd: float | None = None, deff: float = 1
) -> int:  # fmt: skip
    """How many questions a one-sided paired test at level alpha needs to find a drop of `delta` with this power.

    Binary, from `psi`, the share of discordant pairs (at least delta): [(z_a·√psi + z_b·√(psi - delta²)) / delta]²
    (Miettinen 1968; Connor 1987). Means, from `sd`, that of the differences: [(z_a + z_b)·sd / delta]². Both times
    `deff`, the design effect of clusters. One of psi and sd is given; power is in [.5, 1).
    """
    z_alpha, z_beta, spread = _planning(psi, sd, alpha, power, deff)
    _require_inside(delta, "delta", 0, math.inf)
    _require(
        psi is None or delta <= psi, "psi", f"at least delta = {delta} (a question lost is a discordant pair)", psi
    )
    spread_then = spread if psi is None else math.sqrt(psi - delta**2)  # once the drop is there
    return max(math.ceil(deff * ((z_alpha * spread + z_beta * spread_then) / delta) ** 2 - 1e-9), 2)


def minimum_detectable_effect(
    n: float, *, alpha: float, power: float = 0.8, psi: float | None = None, sd: float | None = None, deff: float = 1
) -> float:
    """The smallest drop that n > 0 questions find: `samples_needed`, same arguments, solved for delta.

    A binary drop above psi is found with psi equal to it, as if all discordant pairs were lost; 1 if a collapse is not.
    """
    z_alpha, z_beta, spread = _planning(psi, sd, alpha, power, deff)
    _require_inside(n, "n", 0, math.inf)
    size = n / deff
    if psi is None:
        return (z_alpha + z_beta) * spread / math.sqrt(size)
    if size <= z_alpha**2:
        return 1.0
    # Squaring z_a·√psi + z_b·√(psi - delta²) = delta·√n leaves a quadratic in delta, whose larger root is meant.
    root = math.sqrt(size - z_alpha**2 + z_beta**2)
    delta = spread * (z_alpha * math.sqrt(size) + z_beta * root) / (size + z_beta**2)
    # psi = delta turns it into z_a + z_b·u = √n·√(1 - u²), where u = √(1 - delta).
    u = (math.sqrt(size) * root - z_alpha * z_beta) / (size + z_beta**2)
    return delta if delta <= psi else 1 - u**2


def discordance_bound(discordant: int, n: int, *, confidence: float = 0.8) -> float:
    """Upper bound on the share of discordant pairs, to plan with what a comparison showed. Clopper & Pearson 1934."""
    discordant, _, n = _counts(discordant, 0, n)
    _require_inside(confidence, "confidence", 0, 1)
    from scipy import special

    return float(special.betaincinv(discordant + 1, n - discordant, confidence)) if discordant < n else 1.0


def _planning(psi: float | None, sd: float | None, alpha: float, power: float, deff: float) -> tuple[float, ...]:
    """The normal quantiles of alpha and power and the spread of one difference, all arguments checked."""
    _require((psi is None) != (sd is None), "psi and sd", "exactly one of them", (psi, sd))
    _require(psi is None or 0 < psi <= 1, "psi", "a share in (0, 1]", psi)
    _require(sd is None or 0 <= sd < math.inf, "sd", "a number >= 0", sd)
    _require(0.5 <= power < 1, "power", "a number in [.5, 1)", power)
    _require_inside(deff, "deff", 0, math.inf)
    _require_inside(alpha, "alpha", 0, 0.5)
    from statistics import NormalDist  # planning happens at collection time, where scipy would be the slowest import

    return NormalDist().inv_cdf(1 - alpha), NormalDist().inv_cdf(power), math.sqrt(psi or 0) if sd is None else sd


def _require(holds: bool, what: str, expected: str, actual: object) -> None:
    if not holds:
        raise ValueError(f"{what}: expected {expected}, got {actual!r}")


def _require_inside(value: float, what: str, low: float, high: float) -> None:
    _require(low < value < high, what, f"a number above {low:g} and below {high:g}", value)


def _counts(loss: int, gain: int, n: int | None = None) -> tuple[int, int, int]:
    given = (loss, gain) if n is None else (loss, gain, n)  # then their sum stands for n
    _require(all(hasattr(x, "__index__") and x >= 0 for x in given), "loss, gain and n", "integers >= 0", given)
    _require(n is None or n >= max(loss + gain, 1), "n", f"at least 1 and loss + gain = {loss + gain}", n)
    return int(loss), int(gain), int(loss + gain if n is None else n)


def _vector(values: npt.ArrayLike, what: str, length: int | None = None) -> Vector:
    import numpy as np

    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what}: expected numbers, got something else: {error}") from error
    fits = array.ndim == 1 and len(array) > 0 and length in (None, len(array))
    _require(fits, what, f"shape ({length or 'n >= 1'},)", array.shape)
    bad = np.flatnonzero(~np.isfinite(array))
    _require(not bad.size, what, "finite numbers", [f"{array[i]} at position {i}" for i in bad[:1]])
    return array


def _codes(labels: Sequence[Hashable], length: int, what: str = "clusters") -> npt.NDArray[np.intp]:
    """Labels as 0, 1, 2, … by first appearance."""
    import numpy as np

    numbers: dict[Hashable, int] = {}
    _require(len(labels) == length, what, f"{length} labels, one per row", len(labels))
    missing = [i for i, label in enumerate(labels) if label is None or label != label]  # NaN is not itself
    _require(not missing, what, "a label in every row", f"none at position {missing[:1]}")
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels], dtype=np.intp)
