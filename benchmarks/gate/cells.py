"""The cells of the table: what is simulated, which outcome is counted, and the bound that its rate must keep.

Every run is decided by the public gate, from columns of scores. The first 100 runs of a cell are decided over records
too (two evaluations in, a verdict out), and all outcomes must be the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from zlib import crc32

import numpy as np

from benchmarks.gate import answers
from benchmarks.gate.records import decide_records
from evalgate.evaluation import Metric
from evalgate.gate import Columns, Family, Gate, Outcome, Policy, decide_columns

Trial = tuple[Columns, ...]  # one family
Looks = tuple[Trial, ...]  # the same candidate, looked at again with more samples; most often once
Draw = Callable[[np.random.Generator, int], Iterator[Looks]]

EXACT = Metric("exact_match", "", binary=True)
SCORE = Metric("chrf", "")
JUDGED = Metric("judge", "", binary=True, judge="sha256:0")
RECORDS = 100  # runs of a cell that are decided over records too
_CHUNK = 500  # runs drawn at once


@dataclass(frozen=True, slots=True)
class Bound:
    """What a rate must keep."""

    value: float
    least: bool = False  # at least that, else at most

    def holds(self, rate: float) -> bool:
        """Whether a measured rate keeps it."""
        return rate >= self.value if self.least else rate <= self.value

    def __str__(self) -> str:
        return f"{'≥' if self.least else '≤'} {100 * self.value:g} %"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One rate of the table.

    Attributes:
        row: of the table that it belongs to.
        name: within the row.
        draw: simulates runs.
        event: what is counted.
        bound: `None` where the rate is shown for what it is.
        policy: of the gate.
    """

    row: str
    name: str
    draw: Draw
    event: Callable[[Family], bool]
    bound: Bound | None = None
    policy: Policy = field(default_factory=Policy)


@dataclass(frozen=True, slots=True)
class Rate:
    """How often the event was seen, and on how many runs records and columns were decided differently."""

    hits: int
    runs: int
    checked: int = 0
    differing: int = 0

    @property
    def value(self) -> float:
        """Share of runs."""
        return self.hits / self.runs

    @property
    def error(self) -> float:
        """Monte-Carlo standard error of `value`."""
        return math.sqrt(self.value * (1 - self.value) / self.runs)


def measure(cell: Cell, runs: int, records: int = RECORDS) -> Rate:
    """Simulate a cell; its seed is its own name, so that it does not depend on the others."""
    rng = np.random.default_rng(crc32(f"{cell.row}/{cell.name}".encode()))
    hits = differing = 0
    for number, looks in enumerate(cell.draw(rng, runs)):
        for at, trial in enumerate(looks):
            family = decide_columns(trial, cell.policy)
            if number < records:
                differing += _outcomes(family) != _outcomes(decide_records(looks, at, cell.policy))
            if cell.event(family):
                hits += 1
                break
    return Rate(hits, runs, min(records, runs), differing)


def _outcomes(family: Family) -> tuple[Outcome, ...]:
    return family.outcome, *(verdict.outcome for verdict in family.verdicts)


# ---------------------------------------------------------------------------------------------------------------------
# Events


def red(family: Family) -> bool:
    """The candidate is stopped."""
    return family.outcome is Outcome.REGRESSION


def green(family: Family) -> bool:
    """The candidate is let through as no worse than the margin."""
    return family.outcome is Outcome.PASS


def worse(family: Family) -> bool:
    """The test of "is it worse" alone, whatever the margin tolerates."""
    [verdict] = family.verdicts
    return verdict.p_adjusted is not None and verdict.level is not None and verdict.p_adjusted <= verdict.level


def uncalibrated(family: Family) -> bool:
    """Significantly worse, by a judge whom nobody has checked; a verdict that does not say so ends it all."""
    [verdict] = family.verdicts
    if "uncalibrated judge" not in verdict.reason:
        raise AssertionError(verdict.reason)
    return worse(family)


# ---------------------------------------------------------------------------------------------------------------------
# What is simulated


def _scores(
    drawn: Callable[[np.random.Generator, int], tuple[Any, Any]], rng: np.random.Generator, runs: int, **columns: Any
) -> Iterator[Looks]:
    """One metric; `drawn` makes both sides' scores of many runs, shape (runs, n)."""
    for before, after in _rows(drawn, rng, runs):
        yield ((_columns(before, after, **columns),),)


def _rows(drawn: Callable[..., tuple[Any, ...]], rng: np.random.Generator, runs: int) -> Iterator[tuple[Any, ...]]:
    """Run by run what is drawn for many at once."""
    for start in range(0, runs, _CHUNK):
        yield from zip(*drawn(rng, min(_CHUNK, runs - start)), strict=True)


def _columns(before: Any, after: Any, **more: Any) -> Columns:
    fields: dict[str, Any] = {"task": "suite/task", "metric": EXACT, "baseline": before, "candidate": after}
    return Columns(**fields | more)


def one_metric(n: int, psi: float, drop: float = 0.0, margin: float | None = None) -> Draw:
    """One right-or-wrong metric."""
    return partial(_scores, partial(answers.two_models, n=n, psi=psi, drop=drop), gate=Gate(margin=margin))


def chosen_baseline(n: int, among: int) -> Draw:
    """The baseline is the best of several on these questions."""
    return partial(_scores, partial(answers.selected, n=n, psi=0.21, among=among))


def generations(n: int, k: int, drop: float = 0.0) -> Draw:
    """K generations per question."""
    return partial(_scores, partial(answers.averaged, n=n, psi=0.21, generations=k, drop=drop), generations=k)


def tasks(count: int, n: int, psi: float, *fallen: tuple[float, float]) -> Draw:
    """A family of tasks; the first ones have a psi (of equal models) and a drop of their own."""

    def draw(rng: np.random.Generator, runs: int) -> Iterator[Looks]:
        each = [*fallen, *[(psi, 0.0)] * (count - len(fallen))]
        for _ in range(runs):
            drawn = [answers.two_models(rng, 1, n, *one) for one in each]
            yield (tuple(_columns(b[0], a[0], task=f"suite/task{i}") for i, (b, a) in enumerate(drawn)),)

    return draw


def documents(clusters: int, icc: float, drop: float = 0.0) -> Draw:
    """500 questions about documents of unequal size."""

    def draw(rng: np.random.Generator, runs: int) -> Iterator[Looks]:
        for _ in range(runs):
            before, after, of = answers.clustered(rng, 500, 0.21, clusters, icc, drop)
            yield ((_columns(before, after, clusters=of),),)

    return draw


def lopsided(clusters: int) -> Draw:
    """Scores whose differences are skewed, five of each document."""

    def draw(rng: np.random.Generator, runs: int) -> Iterator[Looks]:
        for _ in range(runs):
            before, after, of = answers.skewed(rng, clusters, 5)
            yield ((_columns(before, after, clusters=of, metric=SCORE),),)

    return draw


def looks(count: int, size: int) -> Draw:
    """The same candidate, looked at after every so many questions."""

    def draw(rng: np.random.Generator, runs: int) -> Iterator[Looks]:
        for before, after in _rows(partial(answers.two_models, n=count * size, psi=0.21), rng, runs):
            ends = [size * (at + 1) for at in range(count)]
            yield tuple(
                (_columns(before[:end], after[:end], sequential=(at, count - 1)),) for at, end in enumerate(ends)
            )

    return draw


def judge(labelled: int) -> Draw:
    """1000 answers graded by a judge who misses more right answers of the candidate than of the baseline."""

    def draw(rng: np.random.Generator, runs: int) -> Iterator[Looks]:
        drawn = partial(answers.judged, n=1000, psi=0.21, missed=(0.10, 0.15))
        places = np.arange(labelled)
        for before, after, truth in _rows(drawn, rng, runs):
            labels = (places, truth[:labelled]) if labelled else None
            yield ((_columns(before, after, metric=JUDGED, labels=labels),),)

    return draw


# ---------------------------------------------------------------------------------------------------------------------
# The table


def table() -> Iterator[Cell]:
    """Every cell, row by row.

    Where models are equal, a single metric's false alarm is p_reg at its level, whatever the margin would still let
    pass; a family's is its outcome.
    """
    sizes, discordances = (50, 100, 200, 500, 1000, 2000), (0.05, 0.1, 0.2, 0.3)
    alarms = Bound(0.0565)
    row = "One metric, equal models: false alarms"
    for n in sizes:
        for psi in discordances:
            yield Cell(row=row, name=f"n = {n}, ψ = {psi}", draw=one_metric(n, psi), event=worse, bound=alarms)
    row = "One metric, a drop as large as the margin (5 pt): PASS"
    for n in sizes[1:]:
        for psi in discordances:
            yield Cell(row=row, name=f"n = {n}, ψ = {psi}", draw=one_metric(n, psi, 0.05), event=green, bound=alarms)
    row = "One metric, margin 2 pt, ψ = .21: drop found"
    for n, drop, bound in ((500, 0.05, 0.705), (1000, 0.05, 0.92), (200, 0.10, 0.84)):
        name, found = f"{100 * drop:g} pt, n = {n}", Bound(bound, least=True)
        yield Cell(row=row, name=name, draw=one_metric(n, 0.21, drop, 0.02), event=red, bound=found)
    name, found = "2 pt, n = 2000 (p_reg alone)", Bound(0.57, least=True)
    yield Cell(row=row, name=name, draw=one_metric(2000, 0.21, 0.02, 0.02), event=worse, bound=found)
    row = "10 tasks of 500, ψ = .2, pooled margin 2 pt"
    ten = partial(tasks, 10, 500, 0.2)
    apart = answers.equal_psi(0.2, 0.10)
    for name, draw, event, least in (
        ("equal: PASS", ten(), green, 0.88),
        ("2 pt everywhere: found", ten(*[(0.2, 0.02)] * 10), red, 0.87),
        ("10 pt in one, which differ on 20 %: found", ten((apart, 0.10)), red, 0.97),
        ("10 pt in one, which would differ on 20 % if equal (27 %): found", ten((0.2, 0.10)), red, None),
    ):
        yield Cell(row=row, name=name, draw=draw, event=event, bound=Bound(least, least=True) if least else None)
    yield Cell(row=row, name="equal: false alarms", draw=ten(), event=red, bound=alarms)
    row = "Tasks of 200, ψ = .2, equal models: false alarms"
    for count in (1, 5, 10, 20, 50):
        yield Cell(
            row=row,
            name=f"{count} {'task' if count == 1 else 'tasks'}",
            draw=tasks(count, 200, 0.2),
            event=red,
            bound=alarms,
        )
    row = "500 questions about G documents of unequal size, ψ = .21"
    for clusters in (8, 20, 50):
        for icc in (0.02, 0.07):
            name = f"G = {clusters}, ICC {icc}, equal: false alarms"
            yield Cell(row=row, name=name, draw=documents(clusters, icc), event=worse, bound=Bound(0.06))
    for icc in (0.02, 0.07):
        name, found = f"G = 20, ICC {icc}: 10 pt found", Bound(0.70, least=True)
        yield Cell(row=row, name=name, draw=documents(20, icc, 0.10), event=red, bound=found)
    row = "100 questions, K generations each, ψ = .21"
    for k in (1, 4, 16):
        name = f"K = {k}, equal on the whole only: false alarms"
        yield Cell(row=row, name=name, draw=generations(100, k), event=worse, bound=alarms)
    found = Bound(0.60, least=True)
    yield Cell(row=row, name="K = 4: 5 pt found", draw=generations(100, 4, 0.05), event=red, bound=found)
    row = "Equal models, looked at 40 times: ever red (e-value)"
    yield Cell(row=row, name="25 more questions at each look", draw=looks(40, 25), event=worse, bound=alarms)
    row = "Equal models, a judge who misses 10 % of the baseline's right answers, 15 % of the candidate's: false alarms"
    yield Cell(row=row, name="300 of 1000 labelled by people", draw=judge(300), event=worse, bound=Bound(0.06))
    yield Cell(row=row, name='no labels: flagged "uncalibrated judge"', draw=judge(0), event=uncalibrated)
    row = "Equal models, the baseline is the best of k on these 500 questions: false alarms each night"
    for k in (1, 5, 20):
        yield Cell(row=row, name=f"k = {k}", draw=chosen_baseline(500, k), event=worse)
    row = "Known weakness, scores that differ skewly by document, 0 on the whole: false alarms"
    for clusters in (20, 50, 100, 200, 500):
        yield Cell(row=row, name=f"G = {clusters}", draw=lopsided(clusters), event=worse)
