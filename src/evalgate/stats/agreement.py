"""How far a judge agrees with people, with itself, and with itself when two answers change places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evalgate.errors import MissingExtraError
from evalgate.stats.arguments import codes_of, counts, require, require_inside, vector

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

CONFIDENCE = 0.95
"""Of the two-sided intervals, where nothing else is asked for."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number, its two-sided interval, and how many observations it rests on."""

    value: float
    low: float
    high: float
    n: int


def cohen_kappa(first: npt.ArrayLike, second: npt.ArrayLike, *, confidence: float = CONFIDENCE) -> Estimate:
    """Agreement of two raters on classes, beyond what their habits agree on by chance: 1 is always, 0 is by chance.

    Source: Cohen 1960. The interval is normal, with the standard error of Fleiss, Cohen & Everitt 1969; two raters who
    never disagreed have an error of 0 by it, so an interval of one point says "no disagreement seen", not "none ever".

    Args:
        first: class of each unit, as a number, by one rater; shape (n,).
        second: by the other, in the same order.
        confidence: of the interval, in (0, 1).

    Raises:
        ValueError: arguments that are none, or both raters know one and the same class only: kappa is then 0/0.
    """
    import numpy as np

    x, y = _pair(first, second)
    together = codes_of([*x.tolist(), *y.tolist()], 2 * len(x))
    a, b = together[: len(x)], together[len(x) :]
    share_a, share_b = (np.bincount(codes, minlength=int(together.max()) + 1) / len(x) for codes in (a, b))
    return _kappa((a == b).astype(float), share_b[a], share_a[b], confidence)


def weighted_kappa(first: npt.ArrayLike, second: npt.ArrayLike, *, confidence: float = CONFIDENCE) -> Estimate:
    """Cohen's kappa with quadratic weights: two grades apart is four times as wrong as one.

    It needs no classes: a judge may give 3.7 where people give 4. On equally spaced grades it is what everybody calls
    quadratic weighted kappa (Cohen 1968), and on any numbers Lin's concordance coefficient (King & Chinchilli 2001).

    Args:
        first: one rater's values, in any unit; shape (n,).
        second: the other's, in the same unit and order.
        confidence: see `cohen_kappa`.

    Raises:
        ValueError: see `cohen_kappa`.
    """
    x, y = _pair(first, second)
    reach = float(max(x.max(), y.max()) - min(x.min(), y.min())) or 1.0
    near_x = 1 - (y.var() + (x - y.mean()) ** 2) / reach**2  # mean agreement of x[i] with all of y
    near_y = 1 - (x.var() + (y - x.mean()) ** 2) / reach**2
    return _kappa(1 - (x - y) ** 2 / reach**2, near_x, near_y, confidence)


def _pair(first: npt.ArrayLike, second: npt.ArrayLike) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    import numpy as np

    x = np.asarray(vector(first, "first rater"), dtype=np.float64)
    return x, np.asarray(vector(second, "second rater", len(x)), dtype=np.float64)


def _kappa(
    agreement: npt.NDArray[np.float64],
    by_first: npt.NDArray[np.float64],
    by_second: npt.NDArray[np.float64],
    confidence: float,
) -> Estimate:
    """Kappa of the agreement of each unit, and of what it would be on average with the other rater's values.

    Equation 14 of Fleiss, Cohen & Everitt 1969 is a sum over cells of a table; by units it is this plain variance.
    """
    from statistics import NormalDist

    require_inside(confidence, "confidence", 0, 1)
    n, chance = len(agreement), float(by_first.mean())
    require(chance < 1 - 1e-12, "ratings", "two classes or values at least", "one only")
    kappa = (float(agreement.mean()) - chance) / (1 - chance)
    influence = agreement - (by_first + by_second) * (1 - kappa)
    half = NormalDist().inv_cdf((1 + confidence) / 2) * float(influence.std()) / (1 - chance) / n**0.5
    return Estimate(kappa, max(kappa - half, -1.0), min(kappa + half, 1.0), n)


def krippendorff_alpha(ratings: Sequence[npt.ArrayLike]) -> float:
    """Agreement of any number of raters on values at the interval level: 1 is perfect, 0 is by chance.

    Source: Krippendorff 2018, Content Analysis, 4th edition; computed by `evalica`.

    Args:
        ratings: for each rater the values of all units in one order, all of shape (n,).

    Raises:
        MissingExtraError: evalica is not installed.
        ValueError: fewer than two raters, or values that are none.
    """
    evalica = _evalica()
    import pandas as pd

    require(len(ratings) >= 2, "raters", "two at least", len(ratings))
    n = len(vector(ratings[0], "ratings"))
    return float(evalica.alpha(pd.DataFrame([vector(row, "ratings", n) for row in ratings]), "interval").alpha)


def require_evalica() -> None:
    """Say that the extra is missing before anybody is asked anything (MissingExtraError)."""
    _evalica()


def _evalica() -> Any:
    try:
        import evalica
    except ImportError:
        raise MissingExtraError("evalica", "ppi") from None
    return evalica


def wilson(hits: int, n: int, *, confidence: float = CONFIDENCE) -> Estimate:
    """A share of n >= 1 observations. Source: Wilson 1927; computed by scipy.

    Raises:
        ValueError: not `0 <= hits <= n`, or no observation.
    """
    hits, _, n = counts(hits, 0, n)
    require_inside(confidence, "confidence", 0, 1)
    from scipy import stats

    ends = stats.binomtest(hits, n).proportion_ci(confidence, method="wilson")
    return Estimate(hits / n, float(ends.low), float(ends.high), n)


def true_rates(
    truth: npt.ArrayLike, seen: npt.ArrayLike, *, confidence: float = CONFIDENCE
) -> tuple[Estimate, Estimate]:
    """True positive and true negative rate: of what is right, and of what is wrong, the share that is seen as such.

    Args:
        truth: whether it is right, 1 or 0; shape (n,), both values at least once.
        seen: whether the judge says so, in the same order.
        confidence: of the Wilson intervals.

    Raises:
        ValueError: arguments that are none, or one class only.
    """
    x, y = (side > 0 for side in _pair(truth, seen))
    return (
        wilson(int((x & y).sum()), int(x.sum()), confidence=confidence),
        wilson(int((~x & ~y).sum()), int((~x).sum()), confidence=confidence),
    )


def flip_rate(once: npt.ArrayLike, again: npt.ArrayLike, *, middle: float, confidence: float = CONFIDENCE) -> Estimate:
    """Share of units whose verdict, above the middle or not, is another one when the same is asked again."""
    x, y = (side > middle for side in _pair(once, again))
    return wilson(int((x != y).sum()), len(x), confidence=confidence)


def position_consistency(first: npt.ArrayLike, second: npt.ArrayLike, *, confidence: float = CONFIDENCE) -> Estimate:
    """Share of preferences in which the same answer wins, or neither, whichever of the two stands first.

    Args:
        first: what is preferred where the answer stands first: 1 the answer, 0 the other, .5 neither; shape (n,).
        second: what is preferred where the other stands first, in the same terms and order.
        confidence: of the Wilson interval.
    """
    x, y = _pair(first, second)
    return wilson(int((x == y).sum()), len(x), confidence=confidence)


def side_error(
    judged: npt.ArrayLike, human: npt.ArrayLike, candidate: npt.ArrayLike, *, confidence: float = CONFIDENCE
) -> Estimate:
    """How much more a judge flatters the candidate than the baseline, in the units of the scale.

    Mean of judged - human over the candidate's answers, minus that over the baseline's: an error that hits both sides
    alike is 0 here, since it cancels in comparisons. The interval is Welch's (1947).

    Args:
        judged: the judge's values, shape (n,).
        human: people's labels of the same answers.
        candidate: 1 where the answer is the candidate's, 0 where it is the baseline's; two of each at least.
        confidence: of the interval.

    Raises:
        ValueError: arguments that are none.
    """
    import numpy as np
    from scipy import special

    x, y = _pair(judged, human)
    of_candidate = vector(candidate, "sides", len(x)) > 0
    after, before = (x - y)[of_candidate], (x - y)[~of_candidate]
    require(min(len(after), len(before)) >= 2, "answers of a side", "two at least", (len(after), len(before)))
    require_inside(confidence, "confidence", 0, 1)
    value = float(after.mean() - before.mean())
    # scipy's own test warns where one side's errors are all the same, as those of a good judge often are.
    parts = [(float(side.var(ddof=1)) / len(side), len(side) - 1) for side in (after, before)]
    variance = sum(part for part, _ in parts)
    if variance < 1e-24 * max(float(np.abs(x - y).max()) ** 2, 1.0):  # one error for all of a side: nothing varies
        return Estimate(value, value, value, len(x))
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    half = float(special.stdtrit(freedom, (1 + confidence) / 2)) * variance**0.5
    return Estimate(value, value - half, value + half, len(x))
