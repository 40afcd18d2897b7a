"""Many tests at once: Holm for what can block, false discovery rates for what only warns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from evalgate.stats.arguments import require, vector

if TYPE_CHECKING:
    from evalgate.stats.arguments import Vector


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down p-values, in the order given; those up to a level hold for the whole family at that level.

    Written out, because statsmodels' `multipletests`, to which a test holds it, is an import of a second for three
    lines. Source: Holm 1979, Scandinavian Journal of Statistics 6.
    """
    if len(p_values) < 2:  # nothing to adjust, so no import to pay for
        return list(map(float, p_values))
    import numpy as np

    p = _shares(p_values)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(each) for each in adjusted]


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """False discovery rates (q-values), in the order given. Source: Benjamini & Hochberg 1995."""
    if len(p_values) < 2:
        return list(map(float, p_values))
    from scipy.stats import false_discovery_control

    return [float(each) for each in false_discovery_control(_shares(p_values), method="bh")]


def _shares(p_values: Sequence[float]) -> Vector:
    p = vector(p_values, "p-values")
    require(bool(((p >= 0) & (p <= 1)).all()), "p-values", "numbers in [0, 1]", p_values)
    return p
