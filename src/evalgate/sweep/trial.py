"""One point of the search: the very command that a person would type, and the score and verdict that it comes to.

What came out is kept under the digest of the overrides. A point is therefore never run twice: not when the search
proposes it again, not when the sweep was killed after pytest had ended, and not when what was killed left a pytest that
runs on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evalgate import text
from evalgate.digest import digest, short
from evalgate.errors import EvalgateError
from evalgate.gate import Outcome as Verdict
from evalgate.gated import run_gate
from evalgate.lock import alone
from evalgate.report.results import Results, read_results
from evalgate.sweep.definition import Sweep

_UNDECIDED = {str(Verdict.ERROR), str(Verdict.NO_BASELINE), str(Verdict.INCOMPARABLE)}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a point came to: its score, whether the constraint holds, the gate's word, and the version's folder."""

    value: float
    feasible: bool
    verdict: str
    version: str


@dataclass(frozen=True, slots=True)
class Done:
    """A trial that ended.

    Attributes:
        number: of the trial.
        overrides: `key=value` of its point.
        outcome: `None` where nothing could be scored.
        pruned: it ended at a rung.
        error: why nothing could be scored.
    """

    number: int
    overrides: tuple[str, ...]
    outcome: Outcome | None = None
    pruned: bool = False
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs points of a sweep; a value, so that Ray can send it to its workers.

    Attributes:
        sweep: what is searched.
        root: of the project, where pytest runs.
        folder: of the sweep's files.
        suites: what pytest collects.
    """

    sweep: Sweep
    root: Path
    folder: Path
    suites: tuple[str, ...]

    def run(self, overrides: Sequence[str]) -> Outcome:
        """Train, evaluate and gate the candidate of these overrides, or read what came out the last time.

        Raises:
            EvalgateError: it could not be trained, evaluated or compared.
        """
        folder = self.folder / short(digest(sorted(overrides)), 16)
        with alone(folder / "lock", "this trial", wait=lambda _: None) as lock:
            path = folder / "results.json"
            try:
                return self._outcome(read_results(path))
            except EvalgateError:  # none yet, or an error, which the next start tries again
                arguments = [*self.suites, "-q", "--eval-train", self.sweep.train]
                arguments += [part for override in overrides for part in ("--eval-train-set", override)]
                log = folder / "pytest.log"
                return self._outcome(run_gate(arguments, cwd=self.root, results=path, holding=lock, log=log))

    def _outcome(self, results: Results) -> Outcome:
        """Score and verdict; an error is never a score."""
        candidate = results.only
        metric = candidate.metrics.get(self.sweep.objective) if candidate else None
        if results.error or candidate is None or metric is None or metric.value is None:
            said = results.error or (metric.reason if metric else f"{self.sweep.objective} was not evaluated")
            raise EvalgateError(said)
        if self.sweep.constraint == "gate" and candidate.outcome in _UNDECIDED:
            raise EvalgateError(
                f"the gate says {candidate.outcome}: {candidate.reason}", mend="Accept a baseline, or constraint: none."
            )
        if results.exit not in (0, 1):
            raise EvalgateError(f"pytest ended with exit code {results.exit}")
        feasible = self.sweep.constraint == "none" or results.verdict == 0
        verdict = f"{candidate.outcome}" + ("" if candidate.blocked or results.exit == 0 else ", a test failed")
        return Outcome(metric.value, feasible, verdict, candidate.folder or candidate.name)


def best(done: Sequence[Done], sweep: Sweep) -> Done | None:
    """The trial with the best score among those that ran in full and that the constraint lets through."""
    able = [each for each in done if each.outcome and each.outcome.feasible and not each.pruned]
    sign = 1 if sweep.direction == "maximize" else -1
    return max(able, key=lambda each: sign * each.outcome.value if each.outcome else 0.0, default=None)


def table(done: Sequence[Done], sweep: Sweep) -> list[str]:
    """A line per trial, the best that is feasible, and the command that promotes it."""
    rows = [("trial", "score", "verdict", "version", "parameters"), *map(_row, done)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    found = best(done, sweep)
    if found is None or found.outcome is None:
        return [*lines, "no trial passed the gate" if sweep.constraint == "gate" else "no trial could be scored"]
    score = f"{sweep.objective} {text.share(found.outcome.value)}"
    lines.append(f"best: trial {found.number}, {found.outcome.version}, {score}")
    if sweep.constraint == "none" and found.outcome.verdict != str(Verdict.PASS):
        return [*lines, f"the gate says {found.outcome.verdict}: it is not to be promoted"]
    return [*lines, f"evalgate promote {found.outcome.version} --as champion"]


def _row(done: Done) -> tuple[str, ...]:
    point = " ".join(done.overrides)
    if done.outcome is None:
        return str(done.number), "", "ERROR", "", point
    found = done.outcome
    verdict = "pruned" if done.pruned else found.verdict
    return str(done.number), text.share(found.value), verdict, found.version, point
