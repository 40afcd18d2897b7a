"""Planning: how many questions find a drop, and which drop so many questions find."""

from __future__ import annotations

import math

from evalgate.stats.arguments import counts, require, require_inside


def samples_needed(
    delta: float, *, alpha: float, power: float = .8, psi: float | None = None, sd: float | None = None, deff: float = 1
) -> int:  # fmt: skip
    """How many questions a one-sided paired test at level alpha needs to find a drop of `delta` with this power.

    Binary, from `psi`, the share of discordant pairs (at least delta): [(z_a·√psi + z_b·√(psi - delta²)) / delta]²
    (Miettinen 1968; Connor 1987). Means, from `sd`, that of the differences: [(z_a + z_b)·sd / delta]². Both times
    `deff`, the design effect of clusters. One of psi and sd is given; power is in [.5, 1).
    """
    z_alpha, z_beta, spread = _planning(psi, sd, alpha, power, deff)
    require_inside(delta, "delta", 0, math.inf)
    require(psi is None or delta <= psi, "psi", f"at least delta = {delta} (a question lost is a discordant pair)", psi)
    spread_then = spread if psi is None else math.sqrt(psi - delta**2)  # once the drop is there
    return max(math.ceil(deff * ((z_alpha * spread + z_beta * spread_then) / delta) ** 2 - 1e-9), 2)


def minimum_detectable_effect(
    n: float, *, alpha: float, power: float = 0.8, psi: float | None = None, sd: float | None = None, deff: float = 1
) -> float:
    """The smallest drop that n > 0 questions find: `samples_needed`, same arguments, solved for delta.

    A binary drop above psi is found with psi equal to it, as if all discordant pairs were lost; 1 if a collapse is not.
    """
    z_alpha, z_beta, spread = _planning(psi, sd, alpha, power, deff)
    require_inside(n, "n", 0, math.inf)
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
    discordant, _, n = counts(discordant, 0, n)
    require_inside(confidence, "confidence", 0, 1)
    from scipy import special

    return float(special.betaincinv(discordant + 1, n - discordant, confidence)) if discordant < n else 1.0


def _planning(psi: float | None, sd: float | None, alpha: float, power: float, deff: float) -> tuple[float, ...]:
    """The normal quantiles of alpha and power and the spread of one difference, all arguments checked."""
    require((psi is None) != (sd is None), "psi and sd", "exactly one of them", (psi, sd))
    require(psi is None or 0 < psi <= 1, "psi", "a share in (0, 1]", psi)
    require(sd is None or 0 <= sd < math.inf, "sd", "a number >= 0", sd)
    require(0.5 <= power < 1, "power", "a number in [.5, 1)", power)
    require_inside(deff, "deff", 0, math.inf)
    require_inside(alpha, "alpha", 0, 0.5)
    from statistics import NormalDist  # planning happens at collection time, where scipy would be the slowest import

    return NormalDist().inv_cdf(1 - alpha), NormalDist().inv_cdf(power), math.sqrt(psi or 0) if sd is None else sd
