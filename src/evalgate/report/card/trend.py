"""A metric's values over past versions as a sparkline: a line joins only what was measured alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from evalgate import text
from evalgate.report.card.plots import Box, segments
from evalgate.report.past.history import Past, measure_of

if TYPE_CHECKING:
    from evalgate.evaluation import Evaluation
    from evalgate.gate import Family, Verdict

SHOWN = 12
"""Versions at most, the newest."""
BOX = Box(left=5, top=5, right=91, bottom=23)


@dataclass(frozen=True, slots=True)
class Trend:
    """A sparkline; up is better.

    Attributes:
        lines: points of polylines, broken where the measure changed.
        dots: places that no line reaches: a measure with a single value.
        last: place of this version.
        spoken: the plot in words, versions with their values.
        compared: how many versions were measured like this one, itself included.
        low, high: between which values these lie.
    """

    lines: tuple[str, ...]
    dots: tuple[tuple[float, float], ...]
    last: tuple[float, float]
    spoken: str
    compared: int
    low: str
    high: str


def trends(
    family: Family, candidates: Mapping[str, Evaluation], history: Sequence[Past], name: str
) -> list[Trend | None]:
    """Per verdict its trend, `None` where fewer than two versions were measured alike.

    Args:
        family: all verdicts.
        candidates: task id to evaluation.
        history: the newest verdict of every other version, oldest first.
        name: of this version.
    """
    return [_trend(verdict, candidates.get(verdict.task), history, name) for verdict in family.verdicts]


def _trend(verdict: Verdict, candidate: Evaluation | None, history: Sequence[Past], name: str) -> Trend | None:
    spec = verdict.spec
    if candidate is None or spec is None or verdict.value is None:
        return None
    measure, member = measure_of(candidate.identity, verdict.metric), f"{verdict.task}::{verdict.metric}"
    past = [(each.name, found.value, found.measure) for each in history if (found := each.metrics.get(member))]
    known = [(who, value, by) for who, value, by in past if value is not None]
    shown = [*known[1 - SHOWN :], (name, verdict.value, measure)]
    alike = [value for _, value, by in shown if by == measure]
    if len(alike) < 2:
        return None
    up = 1 if spec.higher_is_better else -1
    places = BOX.points([up * value for _, value, _ in shown])
    gapped: list[tuple[float, float] | None] = []
    said: list[str] = []
    numbered = zip(places, shown, strict=True)
    for by, run in groupby(numbered, key=lambda each: each[1][2]):
        members = list(run)
        gapped += [*([None] if gapped else []), *(place for place, _ in members)]
        values = ", ".join(f"{who} {text.share(value)}" for _, (who, value, _) in members)
        said.append(values if by == measure else f"{values} (measured otherwise)")
    runs = segments(gapped)
    last = places[-1]
    assert last is not None  # noqa: S101 - every value is known
    return Trend(
        lines=tuple(" ".join(f"{x:g},{y:g}" for x, y in run) for run in runs if len(run) > 1),
        dots=tuple(run[0] for run in runs if len(run) == 1 and run[0] != last),
        last=last,
        spoken="; ".join(said),
        compared=len(alike),
        low=text.share(min(alike)),
        high=text.share(max(alike)),
    )
