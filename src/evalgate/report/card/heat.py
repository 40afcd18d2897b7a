"""Slices as a heatmap: metrics by the values of a slice, each cell a difference with its sign, its marks and its q."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalgate import text
from evalgate.gate import SLICE_Q
from evalgate.report.card.plots import Scale
from evalgate.report.terminal import slice_effect

if TYPE_CHECKING:
    from evalgate.compare import SliceResult
    from evalgate.evaluation import Metric
    from evalgate.gate import Family, Verdict

SLICES_SHOWN = 12
COLUMNS = 7
"""That fit beside each other; the cells of more values stand in rows."""
STEPS = 4
"""Shades on either side of no difference."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One slice value of one metric.

    Attributes:
        number: of the verdict.
        label: `name=value`, which finds its samples.
        effect: the difference, with its sign.
        shade: `worse-1` … `worse-4`, `same`, `better-1` … `better-4`.
        q: false discovery rate, empty below 5 samples.
        p: adjusted p and the level it is held against, of a slice that blocks; else empty.
        n: samples.
        marks: `blocks`, and `worse` or `warns` where it got worse beyond chance.
    """

    number: int
    label: str
    effect: str
    shade: str
    q: str
    p: str
    n: str
    marks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Heat:
    """One slice: its values are the columns, the metrics that have it are the rows; `None` where a metric has not.

    Attributes:
        name: of the slice.
        values: shown, in their natural order.
        rows: (task, metric, one cell per value).
        more: values left out: none of them blocks, or is worse than those shown.
    """

    name: str
    values: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[Cell | None, ...]], ...]
    more: int


@dataclass(frozen=True, slots=True)
class Heatmap:
    """All slices, and the difference in points at which the strongest shade begins to be reached."""

    slices: tuple[Heat, ...]
    limit: float


def heatmap(family: Family) -> Heatmap:
    """Every slice of every metric that was compared; of many values the worst and those that block."""
    found: dict[str, dict[int, dict[str, SliceResult]]] = {}
    for number, verdict in enumerate(family.verdicts):
        for part in verdict.comparison.slices if verdict.comparison else ():
            found.setdefault(part.name, {}).setdefault(number, {})[part.value] = part
    parts = [part for metrics in found.values() for values in metrics.values() for part in values.values()]
    limit = Scale.over([(100 * part.delta,) for part in parts]).limit
    return Heatmap(tuple(_heat(name, metrics, family, limit) for name, metrics in found.items()), limit)


def _heat(name: str, metrics: dict[int, dict[str, SliceResult]], family: Family, limit: float) -> Heat:
    worst: dict[str, float] = {}
    for part in (part for values in metrics.values() for part in values.values()):
        worst[part.value] = min(part.delta, worst.get(part.value, part.delta))
    blocking = {part.value for values in metrics.values() for part in values.values() if part.blocking}
    first = sorted(worst, key=lambda value: (worst[value], value))[:SLICES_SHOWN]
    shown = tuple(sorted({*first, *blocking}, key=_natural))
    rows = []
    for number, values in metrics.items():
        verdict = family.verdicts[number]
        cells = tuple(_cell(values[v], number, verdict, limit) if v in values else None for v in shown)
        rows.append((verdict.task, verdict.metric, cells))
    return Heat(name, shown, tuple(rows), len(worst) - len(shown))


def _cell(part: SliceResult, number: int, verdict: Verdict, limit: float) -> Cell:
    return Cell(
        number=number,
        label=f"{part.name}={part.value}",
        effect=slice_effect(part, _metric(verdict)),
        shade=_shade(100 * part.delta, limit),
        q="" if part.q is None else text.probability(part.q),
        p=_gated(part, verdict.level),
        n=f"{part.n:,}",
        marks=marks(part, verdict.level),
    )


def _gated(part: SliceResult, level: float | None) -> str:
    if not part.blocking or part.p_adjusted is None or level is None:
        return ""
    return f"p {text.probability(part.p_adjusted)}, level {text.probability(level)}"


def _metric(verdict: Verdict) -> Metric:
    assert verdict.comparison  # noqa: S101 - it has the slice
    return verdict.comparison.metric


def _shade(points: float, limit: float) -> str:
    """The shade of a difference: none where it reads as 0.0."""
    if abs(points) < 0.05:
        return "same"
    step = min(STEPS, 1 + int(STEPS * min(abs(points) / limit, 1.0) - 1e-9))
    return f"{'better' if points > 0 else 'worse'}-{step}"


def _natural(value: str) -> tuple[int, float, str]:
    """Numbers by size, before words by letter."""
    return (0, float(value), value) if value.isascii() and value.isdecimal() and len(value) < 16 else (1, 0.0, value)


def marks(part: SliceResult, level: float | None) -> tuple[str, ...]:
    """Whether a slice blocks, and whether it got worse: by its metric's level where it blocks, else by its q-value."""
    worse = part.q is not None and part.q <= SLICE_Q
    if part.blocking and part.p_adjusted is not None and level is not None:
        worse = part.p_adjusted <= level
    return (*(("blocks",) if part.blocking else ()), *(("worse" if part.blocking else "warns",) if worse else ()))


def legend() -> Iterable[str]:
    """The shades from worst to best."""
    yield from (f"worse-{step}" for step in range(STEPS, 0, -1))
    yield "same"
    yield from (f"better-{step}" for step in range(1, STEPS + 1))
