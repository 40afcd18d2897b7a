"""Which epoch of a training was the first that regressed: a binary search where the evidence is monotone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evalgate import text
from evalgate.errors import InputError
from evalgate.gate import Family, Outcome, Verdict

_EPOCH = re.compile(r"-epoch-([0-9]+)")


@dataclass(frozen=True, slots=True)
class Found:
    """What a search came to.

    Attributes:
        first: place of the first that is bad, `None` where the last is good.
        seen: place to whether it is bad, of all that were looked at.
        monotone: nothing good comes after anything bad; where that does not hold, all were looked at.
    """

    first: int | None
    seen: Mapping[int, bool]
    monotone: bool


def first_bad(count: int, is_bad: Callable[[int], bool]) -> Found:
    """Search `count` places in order, each looked at once at most.

    The last is looked at first: where it is good there is nothing to find. Between a good and a bad place the search
    halves, then looks at the neighbours of what it found. What it has seen decides whether halving was fair: a good
    place after a bad one means that it was not, and then every place is looked at.

    Args:
        count: of places, at least 1.
        is_bad: may be expensive.
    """
    seen: dict[int, bool] = {}

    def look(place: int) -> bool:
        if place not in seen:
            seen[place] = is_bad(place)
        return seen[place]

    if not look(count - 1):
        return Found(None, seen, True)
    good, bad = -1, count - 1
    if look(0):
        bad = 0
    else:
        good = 0
        while bad - good > 1:
            middle = (good + bad) // 2
            good, bad = (good, middle) if look(middle) else (middle, bad)
    for neighbour in (good - 1, bad + 1):
        if 0 <= neighbour < count:
            look(neighbour)
    monotone = _monotone(seen)
    if not monotone:
        for place in range(count):
            look(place)
    return Found(min(place for place, is_it in seen.items() if is_it), seen, monotone)


def _monotone(seen: Mapping[int, bool]) -> bool:
    answers = [seen[place] for place in sorted(seen)]
    return answers == sorted(answers)


def epochs_of(version: Path) -> list[Path]:
    """The versions of a training in order: its epochs, `v3-epoch-1` beside `v3`, then the version itself.

    Raises:
        InputError: there is no such version, or none of its epochs.
    """
    if not version.is_dir():
        raise InputError(f"{version} is no folder", mend="evalgate runs lists the versions.")
    version = version.resolve()  # an alias has no epochs, the version that it names has
    siblings = {
        int(match[1]): folder
        for folder in version.parent.iterdir()
        if folder.name.startswith(version.name) and (match := _EPOCH.fullmatch(folder.name[len(version.name) :]))
    }
    if not siblings:
        raise InputError(
            f"no epoch of {version.name} lies beside it",
            where=str(version),
            mend="Train with publishing.epochs=true and more than one epoch.",
        )
    return [*(siblings[number] for number in sorted(siblings)), version]


def worst(family: Family) -> tuple[Verdict, float] | None:
    """The blocking metric that lost most, by how many of its margins; `None` where nothing was compared."""
    losses = [
        (verdict, verdict.comparison.test.delta / verdict.comparison.margin)
        for verdict in family.verdicts
        if verdict.blocking and verdict.comparison
    ]
    return min(losses, key=lambda loss: loss[1], default=None)


def regressed_metrics(family: Family) -> list[str]:
    """What blocks: metrics by `suite/task::metric`, or all of them together where no single one shows it."""
    names = [
        f"{v.task}::{v.metric} {text.headline(v.comparison)}" if v.comparison else f"{v.task}::{v.metric}"
        for v in family.verdicts
        if v.blocking and v.outcome is Outcome.REGRESSION
    ]
    return names or [family.reason]


@dataclass(frozen=True, slots=True)
class Row:
    """One version in the table; `family` is `None` where the search did not need it."""

    name: str
    epoch: float | None
    step: int | None
    family: Family | None


def bisect_lines(rows: Sequence[Row], found: Found | None) -> list[str]:
    """The table, and what was found (`None`: it could not be decided)."""
    cells = [("version", "epoch", "step", "verdict", "worst metric"), *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    if found is None:
        return [*lines, "the search ended: a version could not be evaluated or compared"]
    if found.first is None:
        return [*lines, f"{rows[-1].name} holds against the baseline: there is nothing to find"]
    if not found.monotone:
        lines.append("not monotone: a later version holds where an earlier one regressed, so all were evaluated")
    first = rows[found.first]
    if first.family:
        lines.append(f"the first that regressed is {first.name}, in")
        lines += [f"  {name}" for name in regressed_metrics(first.family)]
    return lines


def _cells(row: Row) -> tuple[str, ...]:
    epoch, step = ("" if value is None else f"{value:g}" for value in (row.epoch, row.step))
    if row.family is None:
        return row.name, epoch, step, "not needed", ""
    lost = worst(row.family)
    said = ""
    if lost and lost[0].comparison:
        verdict, comparison = lost[0], lost[0].comparison
        change = text.effect(comparison.test.delta, comparison.metric, comparison.baseline)
        said = f"{verdict.task}::{verdict.metric} {change}"
    return row.name, epoch, step, str(row.family.outcome), said
