"""`--eval-results FILE`: what came out of a session, for machines. Numbers, names and our own words; no model's text.

    {
      "format": 1,
      "exit": 1,                        pytest's exit code
      "meaning": "a test failed",       the same in words
      "error": null,                    why nothing could be evaluated: a usage error, a failed engine or trainer
      "ledger": "sha256:…",             head of the ledger, null without one
      "candidates": [{
        "name": "v3", "digest": "sha256:…",
        "folder": "runs/v3",            relative to the project where it lies inside; null for records
        "outcome": "REGRESSION",        of all metrics together; null where nothing was to be compared
        "blocked": true,                what the gate's policy makes of the outcome
        "reason": "…",
        "partial": ["suite/task::metric"],    collected, then deselected
        "card": "reports/v3/index.html",
        "metrics": {"suite/task::metric": {
          "blocking": true, "outcome": "REGRESSION", "reason": "…",
          "value": 0.852,               mean in the metric's own units; null where there is no evaluation
          "baseline": 0.914, "n": 500,
          "difference": -0.062, "low": -0.091, "high": -0.034,    own units, oriented: minus is always worse
          "margin": 0.02                largest difference that is tolerated
        }}
      }]
    }

The file is written whole or not at all, whatever the session's end was; a file of an earlier session is gone from the
start. An error is never a score: without a verdict `outcome` is ERROR and its numbers are null.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalgate.errors import EvalgateError, RecordError
from evalgate.gate import Outcome
from evalgate.report.terminal import safe

if TYPE_CHECKING:
    from evalgate.gate import Family, Verdict

FORMAT = 1
MEANINGS = {
    0: "every test passed",
    1: "a test failed, or could not be evaluated",
    2: "interrupted",
    3: "an internal error",
    4: "something typed or written is wrong",
    5: "no test was selected",
}
_UNSAID = "no score could be had; the card and the terminal say why"  # an error may quote what a model wrote


@dataclass(frozen=True, slots=True)
class MetricResult:
    """One metric of one candidate; see the module's docstring for each field."""

    blocking: bool
    outcome: str | None
    reason: str = ""
    value: float | None = None
    baseline: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    margin: float | None = None
    n: int | None = None


@dataclass(frozen=True, slots=True)
class CandidateResult:
    """One candidate; see the module's docstring for each field."""

    name: str
    digest: str
    folder: str | None
    outcome: str | None
    blocked: bool
    reason: str = ""
    partial: tuple[str, ...] = ()
    card: str | None = None
    metrics: Mapping[str, MetricResult] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Results:
    """The file's content; see the module's docstring for each field."""

    exit: int
    candidates: tuple[CandidateResult, ...] = ()
    error: str | None = None
    ledger: str | None = None

    @property
    def verdict(self) -> int:
        """For an exit code: 0 passed, 1 a regression or a failed test, 2 nothing can be said; nothing is no pass."""
        outcomes = {each.outcome for each in self.candidates if each.blocked or each.outcome is None}
        if self.error or not self.candidates or outcomes - {str(Outcome.REGRESSION)}:
            return 2
        if outcomes and self.exit == 0:  # its tests were skipped, or expected to fail
            return 1
        return self.exit if self.exit in (0, 1) else 2

    @property
    def only(self) -> CandidateResult | None:
        """The candidate of a session that was to have one; `None` where there is none (EvalgateError if several)."""
        if len(self.candidates) > 1:
            names = ", ".join(each.name for each in self.candidates)
            mend = "Take --model out of addopts and PYTEST_ADDOPTS."
            raise EvalgateError(f"pytest gated {names}: one candidate was meant", mend=mend)
        return self.candidates[0] if self.candidates else None

    def as_bytes(self) -> bytes:
        """As it stands in the file."""
        value = {"format": FORMAT, "meaning": MEANINGS.get(self.exit, "another plugin's exit code"), **asdict(self)}
        return json.dumps(value, indent=1, allow_nan=False).encode() + b"\n"


def compared(name: str, digest: str, folder: str | None, family: Family, card: str) -> CandidateResult:
    """A candidate that verdicts were reached on."""
    return CandidateResult(
        name=name,
        digest=digest,
        folder=folder,
        outcome=str(family.outcome),
        blocked=family.fails(family.policy),
        reason=_UNSAID if family.outcome is Outcome.ERROR else safe(family.reason, 400),
        partial=family.partial,
        card=card,
        metrics={f"{verdict.task}::{verdict.metric}": _metric(verdict) for verdict in family.verdicts},
    )


def _metric(verdict: Verdict) -> MetricResult:
    said = _UNSAID if verdict.outcome is Outcome.ERROR else safe(verdict.reason, 400)
    if verdict.comparison is None:
        return MetricResult(verdict.blocking, str(verdict.outcome), said, value=verdict.value)
    test = verdict.comparison.test
    return MetricResult(
        verdict.blocking,
        str(verdict.outcome),
        said,
        value=verdict.comparison.candidate,
        baseline=verdict.comparison.baseline,
        difference=test.delta,
        low=test.low,
        high=test.high,
        margin=verdict.comparison.margin,
        n=test.n,
    )


def read_results(path: Path) -> Results:
    """Read what a session wrote.

    Raises:
        RecordError: there is no such file, it is damaged, or of a newer format.
    """
    try:
        value = json.loads(path.read_bytes())
        if value["format"] > FORMAT:
            what = f"has format {value['format']}, this evalgate reads up to {FORMAT}"
            raise RecordError(what, where=str(path), mend="Update evalgate.")
        return Results(
            exit=value["exit"],
            candidates=tuple(_candidate(each) for each in value["candidates"]),
            error=value["error"],
            ledger=value["ledger"],
        )
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as exc:
        raise RecordError(f"holds no results: {exc!r}", where=str(path), mend="Run the gate again.") from exc


def _candidate(value: Mapping[str, Any]) -> CandidateResult:
    metrics = {name: MetricResult(**metric) for name, metric in value["metrics"].items()}
    return CandidateResult(**{**value, "partial": tuple(value["partial"]), "metrics": metrics})
