"""The tables of docs/gate.md, as Markdown, between the two comments that mark their place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from benchmarks.gate.cells import Cell, Rate
from benchmarks.gate.contest import OURS, Contest
from benchmarks.gate.rules import NAIVE, PEERS

BEGIN = "<!-- what follows is written by benchmarks/gate_characteristics.py -->"
END = "<!-- until here -->"


def written(page: str, tables: str) -> str:
    """The page with new tables."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{tables}\n{END}{after}"


def tables(cells: Sequence[Cell], rates: Sequence[Rate], contests: Sequence[Contest]) -> str:
    """Every cell with its bound, then the gate beside other rules."""
    parts, measured = [], list(zip(cells, rates, strict=True))
    for row, its in groupby(measured, key=lambda pair: pair[0].row):
        pairs = list(its)
        bounds = {cell.bound for cell, _ in pairs}
        grid = len(bounds) == 1 and all(cell.name.startswith("n = ") for cell, _ in pairs)
        parts += [f"**{row}**{f' ({bounds.pop()})' if grid else ''}", "", *(_grid(pairs) if grid else _list(pairs)), ""]
    runs, checked = rates[0].runs, sum(rate.checked for rate in rates)
    differing = sum(rate.differing for rate in rates)
    parts.append(
        f"{runs} runs a cell; ± is one Monte-Carlo standard error. {checked} runs were decided over records too; "
        f"{differing} of them came out differently."
    )
    return "\n".join([*parts, "", *_beside(contests)])


def missed(cell: Cell, rate: Rate) -> bool:
    """Whether the cell does not keep its bound."""
    return cell.bound is not None and not cell.bound.holds(rate.value)


def shown(cell: Cell, rate: Rate) -> str:
    """A rate in per cent, with its error, and what is wrong with it."""
    said = f"{100 * rate.value:.2f} ± {100 * rate.error:.2f}"
    return f"{said} **MISSED**" if missed(cell, rate) else said


def _list(pairs: Sequence[tuple[Cell, Rate]]) -> list[str]:
    head = ["| | measured, % | bound |", "|---|--:|--:|"]
    return head + [f"| {cell.name} | {shown(cell, rate)} | {cell.bound or '–'} |" for cell, rate in pairs]


def _grid(pairs: Sequence[tuple[Cell, Rate]]) -> list[str]:
    by = {tuple(cell.name.split(", ")): shown(cell, rate) for cell, rate in pairs}
    rows, columns = (list(dict.fromkeys(name[side] for name in by)) for side in (0, 1))
    head = [f"| % | {' | '.join(columns)} |", "|---|" + "--:|" * len(columns)]
    return head + [f"| {row} | {' | '.join(by[row, column] for column in columns)} |" for row in rows]


def _beside(contests: Sequence[Contest]) -> list[str]:
    by: Mapping[tuple[int, float], Contest] = {(each.n, each.points): each for each in contests}
    sizes = sorted({each.n for each in contests})
    what = ["stops an equal model", "stops one 5 pt worse", "passes an equal model", "passes one 5 pt worse"]
    head = [
        "| gate | " + " | ".join(f"{said}, n = {n}" for said in what for n in sizes) + " |",
        "|---|" + "--:|" * (len(what) * len(sizes)),
    ]

    def figures(name: str) -> str:
        asked = [(side, points) for side in ("red", "green") for points in (0.0, 5.0)]
        found = [getattr(by[n, points], side)[name] for side, points in asked for n in sizes]
        return " | ".join(f"{100 * share:.1f}" for share in found)

    rules = [*OURS, *(rule.name for rule in (*NAIVE, *PEERS))]
    return [*head, *[f"| {name} | {figures(name)} |" for name in rules]]
