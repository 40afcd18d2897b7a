"""What the gate promises, measured: false alarms, power and false passes, beside naive gates and other tools' rules.

    python benchmarks/gate_characteristics.py            some minutes on two cores

Simulated pairs go through the public gate; every cell of the table has a bound, and one that is missed is printed as
MISSED and ends with exit code 1. Writes the tables of docs/gate.md and the power curves docs/gate-power.svg.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # `benchmarks` is a folder of scripts, not an installed package

from benchmarks.gate.cells import Rate, measure, table  # noqa: E402
from benchmarks.gate.contest import Contest, contest  # noqa: E402
from benchmarks.gate.curves import svg  # noqa: E402
from benchmarks.gate.page import missed, tables, written  # noqa: E402

CELLS = list(table())
CONTESTS = [(n, float(points)) for n in (200, 1000) for points in range(11)]


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000, help="a cell")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="folder of gate.md and gate-power.svg")
    options = parser.parse_args()
    rates, contests = measured(options.runs, options.processes)
    page = options.docs / "gate.md"
    page.write_text(written(page.read_text("utf-8"), tables(CELLS, rates, contests)), "utf-8")
    (options.docs / "gate-power.svg").write_text(svg(contests), "utf-8")
    wrong = [f"MISSED  {cell.row}: {cell.name}" for cell, rate in zip(CELLS, rates, strict=True) if missed(cell, rate)]
    wrong += [
        f"DIFFERENT OVER RECORDS  {cell.row}: {cell.name}, {rate.differing} of {rate.checked}"
        for cell, rate in zip(CELLS, rates, strict=True)
        if rate.differing
    ]
    print("\n".join(wrong) if wrong else f"all {len(CELLS)} cells as promised")
    return 1 if wrong else 0


def measured(runs: int, processes: int) -> tuple[list[Rate], list[Contest]]:
    """All cells and contests, in their order; a line is printed for each as it is done."""
    begun = time.perf_counter()
    with ProcessPoolExecutor(processes) as pool:
        cells = [pool.submit(_measure, place, runs) for place in range(len(CELLS))]
        beside = [pool.submit(contest, n, points, runs) for n, points in CONTESTS]
        names = {id(job): f"{cell.row}: {cell.name}" for cell, job in zip(CELLS, cells, strict=True)}
        waiting: list[Future[Any]] = [*cells, *beside]
        for number, done in enumerate(as_completed(waiting), 1):
            result, seconds = done.result(), time.perf_counter() - begun
            said = names.get(id(done), "beside other rules")
            share = (
                f"  {100 * result.value:.2f} %" if isinstance(result, Rate) else f": {result.n}, {result.points:g} pt"
            )
            print(f"{seconds:5.0f} s  {number:3} of {len(waiting)}  {said}{share}", flush=True)
    return [job.result() for job in cells], [job.result() for job in beside]


def _measure(place: int, runs: int) -> Rate:
    """A cell by its place: what it draws with does not travel between processes."""
    return measure(CELLS[place], runs)


if __name__ == "__main__":
    sys.exit(main())
