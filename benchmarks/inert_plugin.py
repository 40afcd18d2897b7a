"""What the plugin adds to a pytest run that does not use it: the same trivial run with and without, in turn.

Prints milliseconds of processor time (user and system of the whole process), medians over pairs; promised are <= 30.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

PAIRS = 15
QUIET = (
    "-p",
    "no:hypothesispytest",
    "-p",
    "no:anyio",
    "-p",
    "no:xdist",
    "-p",
    "no:rerunfailures",
    "-p",
    "no:timeout",
    "-q",
)


def milliseconds(folder: Path, *options: str) -> float:
    """Processor time of one pytest run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "pytest", *QUIET, *options], cwd=folder, check=True, stdout=subprocess.DEVNULL
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def main() -> None:
    """Measure and print."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "test_it.py").write_text("def test_it():\n    pass\n")
        milliseconds(folder)  # warm
        pairs = [(milliseconds(folder), milliseconds(folder, "-p", "no:evalgate")) for _ in range(PAIRS)]
    with_, without = (statistics.median(column) for column in zip(*pairs, strict=True))
    added = statistics.median(one - other for one, other in pairs)
    print(f"| pytest run | CPU ms (median of {PAIRS}) |\n|---|---|")
    rows = {"without evalgate": without, "with evalgate, unused": with_, "added (median of pairs)": added}
    for name, figure in rows.items():
        print(f"| {name} | {figure:.0f} |")


if __name__ == "__main__":
    main()
