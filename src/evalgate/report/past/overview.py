"""The page of all versions: verdicts, aliases, links to the cards, and each metric over time. No script, no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from urllib.parse import quote

from evalgate import text
from evalgate.gate import Outcome
from evalgate.report import page
from evalgate.report.card import view
from evalgate.report.card.plots import Box
from evalgate.report.past.history import Past
from evalgate.report.past.series import Point, Series, counted, difference, failing, series, standing, when

BOX = Box(left=46, top=10, right=310, bottom=118)
_STYLES = ("card.css", "plots.css", "overview.css")
COLUMNS = ("Version", "Value", "Since the version before", "Baseline", "Difference", "n", "Verdict")
_APART = 12  # least distance of two lines of text
_NEVER = ("\\", "\0")


def render_overview(history: Sequence[Past], *, project: str, generated: str) -> str:
    """The complete HTML document; the same history gives the same bytes.

    Args:
        history: the newest verdict on every version, oldest first; `Past.card` is relative to the page.
        project: whose versions these are.
        generated: UTC time of the newest of it, ISO 8601.
    """
    from markupsafe import Markup

    style = "".join(map(page.asset, _STYLES))
    html = (
        page.environment()
        .get_template("overview.html")
        .render(
            project=project,
            generated=generated,
            facts=_facts(history),
            rows=[_row(past) for past in reversed(history)],
            charts=[_chart(each, history) for each in _by_task(series(history))],
            columns=COLUMNS,
            box=BOX,
            style=Markup(style),  # noqa: S704 - ours
            policy=page.policy(style),
        )
    )
    return page.encodable(html)


def _by_task(shown: Sequence[Series]) -> list[Series]:
    """Metrics of one task beside each other, tasks in the order in which they appear."""
    places = {task: place for place, task in enumerate(dict.fromkeys(each.task for each in shown))}
    return sorted(shown, key=lambda each: places[each.task])


def _facts(history: Sequence[Past]) -> list[tuple[str, str]]:
    newest = history[-1].name if history else "none"
    found = [("versions gated", f"{len(history):,}"), ("newest", newest)]
    blocked = sum(past.blocked for past in history)
    found.append(("blocked", f"{blocked:,}"))
    for alias in dict.fromkeys(alias for past in history for alias in past.aliases):
        found.append((alias, ", ".join(past.name for past in history if alias in past.aliases)))
    if baselines := [past.name for past in history if past.baseline]:
        found.append(("accepted as baseline", text.listed(baselines, 3)))
    return found


@dataclass(frozen=True, slots=True)
class Row:
    """A version in the table; `link` is `None` where there is no card that may be linked."""

    past: Past
    shape: str
    link: str | None
    when: str
    standing: list[str]
    passed: str
    failing: list[str]


def _row(past: Past) -> Row:
    return Row(
        past=past,
        shape=_shape(past.outcome),
        link=link(past.card),
        when=when(past),
        standing=standing(past),
        passed=counted(past),
        failing=failing(past),
    )


def _shape(outcome: str) -> str:
    return view.shape(Outcome(outcome)) if outcome in set(Outcome) else "incomparable"


def link(card: str | None) -> str | None:
    """A path below the page as an address; `None` for one that leads elsewhere."""
    parts = (card or "").split("/")
    if any(part in ("", ".", "..") or any(edge in part for edge in _NEVER) for part in parts):
        return None
    return "/".join(["."] + [quote(part, safe="", errors="surrogatepass") for part in parts])


@dataclass(frozen=True, slots=True)
class Dot:
    """A value in a chart, the interval of its difference to the baseline, and the baseline.

    Attributes:
        x, y: of the value.
        shape: of its verdict.
        low, high: ends of the interval, `None` where it is not known.
        baseline: height of the baseline's value, `None` without one.
        said: all of it in words.
    """

    x: float
    y: float
    shape: str
    low: float | None
    high: float | None
    baseline: float | None
    said: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A metric over versions as SVG, up is better.

    Attributes:
        task, metric: whose values.
        dots: in the order of the versions.
        lines: points of polylines; one joins what was measured alike.
        ticks: heights of the highest and the lowest value, with those; one where they would stand on each other.
        first, last: names of the versions at the ends of the horizontal axis.
        newest: the newest value.
        trend: what became of it, in words.
        lower: whether lower values are better, so that they stand above.
        otherwise: whether some values may not be set against the newest.
        spoken: the plot in words.
        rows: of a table that says all that is drawn.
    """

    task: str
    metric: str
    dots: tuple[Dot, ...]
    lines: tuple[str, ...]
    ticks: tuple[tuple[float, str], ...]
    first: str
    last: str
    newest: str
    trend: str
    lower: bool
    otherwise: bool
    spoken: str
    rows: tuple[tuple[str, ...], ...]


def _chart(each: Series, history: Sequence[Past]) -> Chart:
    newest = each.points[-1].metric
    sign = 1 if newest.higher_is_better else -1
    levels = [[sign * level for level in _levels(point) if level is not None] for point in each.points]
    low, high = min(map(min, levels)), max(map(max, levels))

    def x(point: Point) -> float:
        step = (BOX.right - BOX.left) / max(len(history) - 1, 1)
        return round(BOX.left + step * point.place if len(history) > 1 else (BOX.left + BOX.right) / 2, 1)

    def y(level: float | None) -> float | None:
        if level is None:
            return None
        share = (sign * level - low) / (high - low) if high > low else 0.5
        return round(BOX.bottom - share * (BOX.bottom - BOX.top), 1)

    dots = tuple(
        Dot(x(point), y(value) or 0.0, _shape(point.metric.outcome), y(ends[0]), y(ends[1]), y(baseline), _said(point))
        for point in each.points
        for value, baseline, *ends in [_levels(point)]
    )
    runs = groupby(zip(each.points, dots, strict=True), key=lambda pair: pair[0].metric.measure or pair[0].place)
    joined = (tuple(dot for _, dot in run) for _, run in runs)
    return Chart(
        task=each.task,
        metric=each.name.rpartition("::")[2],
        dots=dots,
        lines=tuple(" ".join(f"{dot.x:g},{dot.y:g}" for dot in run) for run in joined if len(run) > 1),
        ticks=_ticks(
            [(dot.baseline, point.metric.baseline) for dot, point in zip(dots, each.points, strict=True)]
            + [(dot.y, point.value) for dot, point in zip(dots, each.points, strict=True)]
        ),
        first=history[0].name,
        last=history[-1].name if len(history) > 1 else "",
        newest=text.share(each.points[-1].value),
        trend=each.trend,
        lower=sign < 0,
        otherwise=each.measured_otherwise,
        spoken=f"{each.name} over {len(history)} versions, newest {text.share(each.points[-1].value)}, {each.trend}",
        rows=tuple(_cells(point) for point in reversed(each.points)),
    )


def _ticks(places: Sequence[tuple[float | None, float | None]]) -> tuple[tuple[float, str], ...]:
    known = sorted((height, value) for height, value in places if height is not None and value is not None)
    (top, first), (bottom, last) = known[0], known[-1]
    ticks = ((top, text.share(first)), (bottom, text.share(last)))
    return ticks if bottom - top >= _APART else ticks[:1]


def _levels(point: Point) -> tuple[float, float | None, float | None, float | None]:
    """Value, baseline, and both ends of the interval around the baseline, on the metric's own scale."""
    metric = point.metric
    if metric.baseline is None:
        return point.value, None, None, None
    sign = 1 if metric.higher_is_better else -1
    low, high = (None if end is None else metric.baseline + sign * end for end in (metric.low, metric.high))
    return point.value, metric.baseline, low, high


def _said(point: Point) -> str:
    effect, interval = difference(point.metric)
    compared = f", {effect} {interval} to the baseline" if effect else ""
    return f"{point.version}: {point.metric.outcome}, {text.share(point.value)}{compared}"


def _cells(point: Point) -> tuple[str, ...]:
    metric = point.metric
    since = f"{point.change} since {point.before}" if point.before is not None else "measured anew"
    return (
        point.version,
        point.shown,
        since,
        "" if metric.baseline is None else text.share(metric.baseline),
        " ".join(filter(None, difference(metric))),
        f"{metric.n:,}" if metric.n else "",
        metric.outcome if metric.blocking else f"{metric.outcome} (informs)",
    )
