"""Metrics over versions: which values may be set against each other, and what changed between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evalgate import text
from evalgate.gate import Outcome
from evalgate.report.past.history import Past, PastMetric


@dataclass(frozen=True, slots=True)
class Point:
    """One metric of one version.

    Attributes:
        place: of the version in the history.
        version: its name.
        value: in the metric's own units.
        metric: the rest of what is known.
        before: the version before that was measured alike, `None` where there is none.
        change: since then, in points or per cent, minus is always worse: `-33.1 pt`.
        current: whether it was measured as the newest value is.
    """

    place: int
    version: str
    value: float
    metric: PastMetric
    before: str | None
    change: str
    current: bool

    @property
    def shown(self) -> str:
        """The value; in brackets where it was measured otherwise than the newest."""
        value = text.share(self.value)
        return value if self.current else f"({value})"

    @property
    def worse(self) -> bool:
        """Whether the gate called it a regression."""
        return self.metric.outcome == Outcome.REGRESSION


@dataclass(frozen=True, slots=True)
class Series:
    """A metric over versions, oldest first; versions without a value have no point.

    Attributes:
        name: "suite/task::metric".
        points: at least one.
    """

    name: str
    points: tuple[Point, ...]

    @property
    def task(self) -> str:
        """Whose metric it is."""
        return self.name.rpartition("::")[0]

    @property
    def measured_otherwise(self) -> bool:
        """Whether some values may not be set against the newest."""
        return not all(point.current for point in self.points)

    @property
    def trend(self) -> str:
        """What became of it, in words: `-33.1 pt since v2`."""
        last = self.points[-1]
        if last.before is not None:
            return f"{last.change} since {last.before}"
        return "measured anew" if len(self.points) > 1 else "first measured"


def series(history: Sequence[Past], task: str | None = None) -> list[Series]:
    """Every metric that blocks, in the order of the newest versions.

    Args:
        history: oldest first.
        task: take the metrics of this `suite/task` alone, and those that only inform as well.
    """
    names = dict.fromkeys(
        name
        for past in reversed(history)
        for name, metric in past.metrics.items()
        if (metric.blocking if task is None else name.rpartition("::")[0] == task)
    )
    found = [Series(name, tuple(_points(history, name))) for name in names]
    return [each for each in found if each.points]


def _points(history: Sequence[Past], name: str) -> Iterator[Point]:
    known = [
        (place, past.name, metric.value, metric)
        for place, past in enumerate(history)
        if (metric := past.metrics.get(name)) and metric.value is not None
    ]
    for number, (place, version, value, metric) in enumerate(known):
        alike = [each for each in known[:number] if _alike(each[3], metric)]
        yield Point(
            place=place,
            version=version,
            value=value,
            metric=metric,
            before=alike[-1][1] if alike else None,
            change=_change(alike[-1][2], value, metric) if alike else "",
            current=metric is known[-1][3] or _alike(metric, known[-1][3]),
        )


def _alike(one: PastMetric, other: PastMetric) -> bool:
    """Whether two values measure the same; what is not known of one is not the same."""
    return bool(one.measure) and one.measure == other.measure


def _change(before: float, now: float, metric: PastMetric) -> str:
    return amount(now - before if metric.higher_is_better else before - now, metric, before)


def amount(oriented: float, metric: PastMetric, baseline: float) -> str:
    """A difference in points of the range, or in per cent where there is none."""
    if metric.range:
        return text.points(oriented / metric.range)
    return text.percent(oriented / abs(baseline) if baseline else 0.0)


def difference(metric: PastMetric) -> tuple[str, str]:
    """To the baseline: (`-6.2 pt`, `[-9.1, -3.4]`), empty where it is not known."""
    if metric.value is None or metric.baseline is None:
        return "", ""
    sign = 1 if metric.higher_is_better else -1
    said = amount(sign * (metric.value - metric.baseline), metric, metric.baseline)
    if metric.low is None or metric.high is None:
        return said, ""
    ends = (amount(end, metric, metric.baseline).split()[0] for end in (metric.low, metric.high))
    return said, f"[{', '.join(ends)}]"


def standing(past: Past) -> list[str]:
    """What a version is now: its aliases, and for how many tasks the baseline."""
    tasks = f"baseline of {past.baseline} {'task' if past.baseline == 1 else 'tasks'}"
    return [*past.aliases, *([tasks] if past.baseline else [])]


def failing(past: Past) -> list[str]:
    """Blocking metrics that do not pass, with their difference to the baseline where one is known."""
    return [
        f"{name} {difference(metric)[0] or metric.outcome}"
        for name, metric in past.metrics.items()
        if metric.blocking and metric.outcome != Outcome.PASS
    ]


def counted(past: Past) -> str:
    """`8 of 9`: blocking metrics that pass; empty where no metric is known to block."""
    blocking = [metric for metric in past.metrics.values() if metric.blocking]
    return f"{sum(m.outcome == Outcome.PASS for m in blocking)} of {len(blocking)}" if blocking else ""


def when(past: Past) -> str:
    """`2026-11-20 21:05`, in UTC."""
    return past.at[:16].replace("T", " ")
