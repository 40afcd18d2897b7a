"""Geometry of the card's plots: numbers in, coordinates for inline SVG out, rounded, so that equal data draw alike."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

POINTS = 200
"""A longer curve is drawn by this many means."""
_TICKS = (1, 2, 5, 10, 20, 50, 100)


@dataclass(frozen=True)
class Scale:
    """Horizontal axis of the forest plots, shared by all rows: -limit … +limit points (per cent without a range)."""

    limit: float
    width: int = 220
    pad: int = 8

    def x(self, value: float) -> float:
        """Position of a value; what lies outside is drawn at the edge."""
        inside = min(max(value, -self.limit), self.limit)
        return round(self.width / 2 + inside / self.limit * (self.width / 2 - self.pad), 1)

    @classmethod
    def over(cls, plots: Iterable[Sequence[float]]) -> Scale:
        """The smallest round axis that holds every interval and margin, yet no wider than 100 points."""
        furthest = max((max(abs(end) for end in plot) for plot in plots), default=0.0)
        return cls(next((float(tick) for tick in _TICKS if tick >= furthest), 100.0))


@dataclass(frozen=True, slots=True)
class Box:
    """Where a plot's line is drawn, in the units of its view box."""

    left: float
    top: float
    right: float
    bottom: float

    def points(self, values: Sequence[float | None]) -> list[tuple[float, float] | None]:
        """Evenly spaced from left to right, the lowest value at the bottom, the highest at the top; gaps stay gaps."""
        known = [value for value in values if value is not None]
        low, high = min(known, default=0.0), max(known, default=0.0)
        wide, tall = self.right - self.left, self.bottom - self.top
        step = wide / max(len(values) - 1, 1)

        def y(value: float) -> float:
            return self.bottom - tall * ((value - low) / (high - low) if high > low else 0.5)

        return [
            None if value is None else (round(self.left + i * step, 1), round(y(value), 1))
            for i, value in enumerate(values)
        ]


def segments(points: Sequence[tuple[float, float] | None]) -> tuple[tuple[tuple[float, float], ...], ...]:
    """The runs of points between gaps."""
    runs = groupby(points, key=lambda point: point is not None)
    return tuple(tuple(point for point in run if point) for known, run in runs if known)


@dataclass(frozen=True, slots=True)
class Curve:
    """What was logged at every step of a training, as SVG.

    Attributes:
        title, unit: what is drawn, and in what.
        lines: points of polylines, broken where nothing is known.
        low, high: ends of the vertical axis.
        first, last: what was logged first and last.
        steps: how many were logged.
    """

    title: str
    unit: str
    lines: tuple[str, ...]
    low: str
    high: str
    first: str
    last: str
    steps: int

    @property
    def spoken(self) -> str:
        """The plot in words."""
        return f"{self.title} over {self.steps:,} steps: {self.first} at first, {self.last} at last"

    @property
    def averaged(self) -> bool:
        """Whether a point stands for several steps."""
        return self.steps > POINTS


CURVE = Box(left=46, top=8, right=316, bottom=112)


def curve(title: str, unit: str, values: Sequence[float | None]) -> Curve | None:
    """A curve through at most `POINTS` values, each the mean of its share of the steps; `None` with fewer than two.

    Args:
        title: what was logged.
        unit: of it, may be empty.
        values: one per step; a number that is not finite counts as not known.
    """
    steps = [value if value is not None and math.isfinite(value) else None for value in values]
    told = [value for value in steps if value is not None]
    if len(told) < 2:
        return None
    count = min(POINTS, len(steps))
    cuts = [len(steps) * i // count for i in range(count + 1)]
    means = [_mean([value for value in steps[a:b] if value is not None]) for a, b in pairwise(cuts)]
    known = [mean for mean in means if mean is not None]
    runs = segments(CURVE.points(means))
    return Curve(
        title=title,
        unit=unit,
        lines=tuple(" ".join(f"{x:g},{y:g}" for x, y in (run if len(run) > 1 else run * 2)) for run in runs),
        low=f"{min(known):.3g}",
        high=f"{max(known):.3g}",
        first=f"{told[0]:.4g}",
        last=f"{told[-1]:.4g}",
        steps=len(steps),
    )


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
