"""The tables of docs/gate.md, as Markdown, between the two comments that mark their place."""

from __future__ import annotations

from collections.abc import Sequence
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
    grids, lists = [], ["| | measured, % | bound |", "|---|--:|--:|"]
    for row, its in groupby(zip(cells, rates, strict=True), key=lambda pair: pair[0].row):
        pairs = list(its)
        if all(cell.name.startswith("n = ") for cell, _ in pairs):
            grids += [f"**{row}** ({pairs[0][0].bound})", "", *_grid(pairs), ""]
        else:
            lists += [f"| **{row}** | | |"]
            lists += [f"| {cell.name} | {shown(cell, rate)} | {cell.bound or '–'} |" for cell, rate in pairs]
    checked, differing = sum(rate.checked for rate in rates), sum(rate.differing for rate in rates)
    said = (
        f"{rates[0].runs} runs a cell; ± is one Monte-Carlo standard error. {checked} runs were decided over records "
        f"too; {differing} of them came out differently."
    )
    return "\n".join([said, "", *grids, *lists, "", *_beside(contests)])


def missed(cell: Cell, rate: Rate) -> bool:
    """Whether the cell does not keep its bound."""
    return cell.bound is not None and not cell.bound.holds(rate.value)


def shown(cell: Cell, rate: Rate) -> str:
    """A rate in per cent, with its error, and what is wrong with it."""
    said = f"{100 * rate.value:.2f} ± {100 * rate.error:.2f}"
    return f"{said} **MISSED**" if missed(cell, rate) else said


def _grid(pairs: Sequence[tuple[Cell, Rate]]) -> list[str]:
    by = {tuple(cell.name.split(", ")): shown(cell, rate) for cell, rate in pairs}
    rows, columns = (list(dict.fromkeys(name[side] for name in by)) for side in (0, 1))
    head = [f"| % | {' | '.join(columns)} |", "|---|" + "--:|" * len(columns)]
    return head + [f"| {row} | {' | '.join(by[row, column] for column in columns)} |" for row in rows]


def _beside(contests: Sequence[Contest]) -> list[str]:
    by = {(each.n, each.points): each for each in contests}
    sizes = sorted({each.n for each in contests})
    asked = (("stops", "red", 0.0), ("stops", "red", 5.0), ("passes", "green", 0.0), ("passes", "green", 5.0))
    heads = [f"{verb} {'one 5 pt worse' if points else 'an equal model'}" for verb, _, points in asked]

    def figures(name: str) -> list[str]:
        shares = [[getattr(by[n, points], side)[name] for n in sizes] for _, side, points in asked]
        return [" / ".join(f"{100 * share:.1f}" for share in each) for each in shares]

    rows = [(name, f"this one, margin {100 * margin:g} pt") for name, margin in OURS.items()]
    rows += [(rule.name, rule.source) for rule in (*NAIVE, *PEERS)]
    return [
        f"**Beside other rules** (%, n = {' / '.join(map(str, sizes))}, ψ = .21, each at its own defaults)",
        "",
        f"| gate | {' | '.join(heads)} | its rule |",
        "|---|" + "--:|" * len(heads) + "---|",
        *[f"| {' | '.join([name, *figures(name), source])} |" for name, source in rows],
    ]
