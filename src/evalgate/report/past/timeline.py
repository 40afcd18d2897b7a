"""The history in a terminal: which version when, with which verdict, and what became of each metric."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from evalgate import text
from evalgate.gate import Outcome
from evalgate.report.past.history import Past
from evalgate.report.past.series import Series, counted, failing, series, standing, when
from evalgate.report.screen import SYMBOLS, Cell, Screen
from evalgate.report.summary import style_of
from evalgate.report.terminal import safe

_VERSIONS = (
    Cell("version"),
    Cell("gated (UTC)"),
    Cell("verdict"),
    Cell("pass", right=True),
    Cell("is"),
    Cell("did not pass"),
)
_WORSE = "✗"


def timeline_lines(
    history: Sequence[Past], *, task: str | None = None, last: int | None = None, screen: Screen | None = None
) -> list[str]:
    """A row per version and a row per metric; where a table is too wide, lines under each other.

    Args:
        history: oldest first.
        task: show the metrics of this `suite/task`, those that inform as well; by default all that block.
        last: show only so many versions, the newest; what changed is still said from those before them.
        screen: where the lines go; by default a log.
    """
    screen, start = screen or Screen(), max(len(history) - last, 0) if last else 0
    versions = history[start:]
    lines = screen.table(_VERSIONS, [[_version(past) for past in versions]]) or _stacked_versions(versions, screen)
    if shown := _since(series(history, task), start):
        lines += ["", *(_metrics(shown, history, start, screen) or _stacked_metrics(shown, screen))]
        marks = {
            f"{_WORSE} called a regression": any(point.worse for each in shown for point in each.points),
            "( ) data, prompt, sampling or scorer differ from the newest": any(s.measured_otherwise for s in shown),
        }
        if said := "; ".join(words for words, used in marks.items() if used):
            lines += screen.lines(f"  {said}")
    return lines


def _since(found: Sequence[Series], start: int) -> list[Series]:
    """What there is from a version on."""
    cut = (replace(each, points=tuple(p for p in each.points if p.place >= start)) for each in found)
    return [each for each in cut if each.points]


def timeline_json(history: Sequence[Past], *, task: str | None = None, last: int | None = None) -> list[dict[str, Any]]:
    """The same for machines: the versions, oldest first, each metric with its change since the last like it."""
    changes: dict[tuple[int, str], dict[str, str | None]] = {}
    tasks = dict.fromkeys(name.rpartition("::")[0] for past in history for name in past.metrics)
    for each in (found for named in tasks for found in series(history, named)):
        for point in each.points:
            changes[point.place, each.name] = {"since": point.before, "change": point.change or None}
    return [
        asdict(past)
        | {
            "metrics": {
                name: asdict(metric) | changes.get((place, name), {"since": None, "change": None})
                for name, metric in past.metrics.items()
                if task is None or name.rpartition("::")[0] == task
            }
        }
        for place, past in list(enumerate(history))[-last if last else 0 :]
    ]


def _outcome(past: Past) -> Outcome | None:
    return Outcome(past.outcome) if past.outcome in set(Outcome) else None  # a ledger of tomorrow may know more


def _verdict(past: Past) -> str:
    outcome = _outcome(past)
    partial = ", partial" if past.partial else ""
    return f"{SYMBOLS[outcome] if outcome else '?'} {safe(past.outcome, 40)}{partial}"


def _style(past: Past) -> str:
    outcome = _outcome(past)
    return style_of(outcome) if outcome else ""


def _standing(past: Past) -> str:
    return safe(", ".join(standing(past)), 60)


def _why(past: Past, limit: int = 2) -> str:
    """The metrics that failed; where none did by itself, such as in the pooled test, the verdict's reason."""
    alone = [] if past.outcome == Outcome.PASS else [past.reason]
    return text.listed([safe(each, 60) for each in failing(past) or alone], limit)


def _version(past: Past) -> list[Cell]:
    return [
        Cell(safe(past.name, 30), "bold"),
        Cell(safe(when(past), 20)),
        Cell(_verdict(past), _style(past)),
        Cell(counted(past)),
        Cell(_standing(past)),
        Cell(_why(past, 1)),
    ]


def _stacked_versions(history: Sequence[Past], screen: Screen) -> list[str]:
    lines: list[str] = []
    for past in history:
        begin = screen.text(_verdict(past))
        first, *rest = screen.lines(f"  {_verdict(past)}  {safe(past.name, 80)}  {safe(when(past), 20)}")
        lines += [first.replace(begin, screen.painted(begin, _style(past)), 1), *rest]
        passed = f"{counted(past)} pass" if counted(past) else ""
        if facts := ", ".join(filter(None, (_standing(past), passed, _why(past)))):
            lines += screen.lines(f"      {facts}")
    return lines


def _metrics(shown: Sequence[Series], history: Sequence[Past], start: int, screen: Screen) -> list[str] | None:
    """A column per version, the newest that fit; `None` where not even two do."""

    def table(first: int) -> list[str] | None:
        places = range(first, len(history))
        header = [Cell("metric"), *(Cell(safe(history[i].name, 12), right=True) for i in places), Cell("trend")]
        return screen.table(header, [[_metric(each, places) for each in shown]])

    firsts = range(start, max(start + 1, len(history) - 1))
    found = bisect_left(firsts, True, key=lambda first: table(first) is not None)  # fewer columns are never wider
    if found == len(firsts):
        return None
    return [*(table(firsts[found]) or []), *([f"  {found} older versions are not shown"] if found else [])]


def _metric(each: Series, places: Sequence[int]) -> list[Cell]:
    values = {point.place: point for point in each.points}
    cells = [Cell(safe(each.name, 60))]
    for place in places:
        point = values.get(place)
        said = f"{point.shown}{f' {_WORSE}' if point.worse else ''}" if point else "–"
        cells.append(Cell(said, "red" if point and point.worse and point.metric.blocking else ""))
    return [*cells, Cell(safe(each.trend, 60))]


def _stacked_metrics(shown: Sequence[Series], screen: Screen) -> list[str]:
    lines: list[str] = []
    for each in shown:
        values = (f"{safe(p.version, 30)}={p.shown}{_WORSE if p.worse else ''}" for p in each.points)
        lines += screen.lines(f"  {safe(each.name, 80)}  {safe(each.trend, 60)}")
        lines += screen.lines(f"      {', '.join(values)}")
    return lines
