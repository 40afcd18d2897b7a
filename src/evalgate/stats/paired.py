"""The result of a paired comparison."""

from __future__ import annotations

from dataclasses import dataclass


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
    method: str  # mcnemar-midp/tango, paired-t, cluster-ols, wls-bits-per-byte, wls-pooled; also with +sign-flip;
    # prediction-powered, human-labels/…

    @property
    def labelled(self) -> bool:
        """Whether it rests on people's labels, and not on the scores alone."""
        return self.method.startswith(("prediction-powered", "human-labels"))

    @property
    def p_values(self) -> tuple[float, float]:
        """p_reg and p_ni, neither smaller than so few clusters can show (2^-G), however equal their differences."""
        least = 0.0 if self.method.startswith("mcnemar") else 2.0**-self.clusters
        return max(self.p_reg, least), max(self.p_ni, least)
