"""Right-or-wrong answers: mid-p McNemar, Tango's score test and interval, the anytime-valid e-value."""

from __future__ import annotations

import math

from evalgate.stats.arguments import counts, require_inside
from evalgate.stats.paired import PairedTest


def paired_binary(loss: int, gain: int, n: int, *, margin: float, alpha: float, sequential: bool = False) -> PairedTest:
    """Compare right-or-wrong answers to n independent questions by mid-p McNemar and Tango's test and interval.

    Without a discordant pair p_reg is 1, and non-inferiority still depends on n, as it should. `sequential` is for
    questions that are drawn in steps: p_reg is then 1/E of the e-value, which holds at every look.
    """
    loss, gain, n = counts(loss, gain, n)
    require_inside(alpha, "alpha", 0, 0.5)
    delta = (gain - loss) / n
    low, high = _tango_low(loss, gain, n, alpha), -_tango_low(gain, loss, n, alpha)
    p_reg = min(1.0, math.exp(-mcnemar_e_value(loss, gain))) if sequential else mcnemar_midp(loss, gain)
    p_ni, discordance = tango_p(loss, gain, n, margin), (loss + gain) / n
    method = f"mcnemar-{'e-value' if sequential else 'midp'}/tango"
    sd = math.sqrt(max(loss + gain - n * delta**2, 0.0) / max(n - 1, 1))
    return PairedTest(delta, low, high, p_reg, p_ni, n, n, loss, gain, discordance, sd, method)


def mcnemar_midp(loss: int, gain: int) -> float:
    """One-sided mid-p McNemar test of "a loss is no likelier than a gain"; 1 where no pair is discordant.

    P(X > loss) + P(X = loss)/2 for X ~ Binomial(loss + gain, 1/2). Sources: McNemar 1947; Lancaster 1961 (mid-p);
    Fagerland, Lydersen & Laake 2013, who recommend it for matched pairs.
    """
    loss, gain, discordant = counts(loss, gain)
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
    loss, gain, discordant = counts(loss, gain)
    import numpy as np
    from scipy import special

    k = np.arange(loss + 1)
    log_choose = -math.log(discordant + 2) - special.betaln(discordant + 2 - k, k + 1)  # k of discordant + 1
    return float(special.betaln(loss + 1, gain + 1) + special.logsumexp(log_choose))


def tango_p(loss: int, gain: int, n: int, margin: float) -> float:
    """One-sided score test of H0 "P(gain) - P(loss) <= -margin". Source: Tango 1998, Statistics in Medicine 17."""
    loss, gain, n = counts(loss, gain, n)
    require_inside(margin, "margin", 0, math.inf)
    return 0.0 if margin > 1 else _tango_tail(loss, gain, n, -margin)  # nothing falls by more than 1


def tango_interval(loss: int, gain: int, n: int, confidence: float) -> tuple[float, float]:
    """The differences P(gain) - P(loss) that neither one-sided score test rejects; confidence in (0, 1). Tango 1998."""
    loss, gain, n = counts(loss, gain, n)
    require_inside(confidence, "confidence", 0, 1)
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
