"""The words of CI output: what a session came to, where its tasks are declared, where its files can be looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from evalgate.gate import Outcome
from evalgate.report.results import MEANINGS

if TYPE_CHECKING:
    from evalgate.gate import Verdict
    from evalgate.report.card import CardData
    from evalgate.report.results import Results

SYMBOLS = {
    Outcome.PASS: "✅",
    Outcome.REGRESSION: "❌",
    Outcome.INCONCLUSIVE: "❔",
    Outcome.INCOMPARABLE: "⛔",
    Outcome.NO_BASELINE: "🆕",
    Outcome.ERROR: "💥",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a task is declared: a file relative to the repository, and a line from 1."""

    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Links:
    """Where people look: the CI's page of the run, and the address before the path of a file that the run kept."""

    run: str | None = None
    files: str | None = None

    def file(self, path: str) -> str | None:
        """Address of a file that the run keeps."""
        return self.files and f"{self.files}{quote(path)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a session tells its CI.

    Attributes:
        results: what came out, whatever the session's end was.
        cards: candidate to what its card shows; empty where it did not come to verdicts.
        places: task id to where it is declared.
        missing: gates that `required` names and that did not run.
        recorded: nothing was to be compared.
        command: what was typed.
        links: of this run.
        folder: of the project in its repository, such as `models/`, else empty.
    """

    results: Results
    cards: Mapping[str, CardData] = field(default_factory=dict)
    places: Mapping[str, Place] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    recorded: bool = False
    command: str = ""
    links: Links = Links()
    folder: str = ""

    @property
    def verdict(self) -> str:
        """One word for scripts.

        `passed`; `blocked` by a regression, a failed test or a gate that did not run; `recorded` where nothing was to
        be compared; `error` where nothing can be said: no baseline, not comparable, a failed engine, a mistake.
        """
        if self.recorded and not self.results.error and self.results.exit == 0:
            return "recorded"
        if self.missing and self.results.exit == 1 and self.results.verdict < 2:
            return "blocked"
        return ("passed", "blocked", "error")[self.results.verdict]

    @property
    def headline(self) -> tuple[str, str]:
        """Symbol and sentence; the names in it are as people wrote them."""
        blocked = [each.name for each in self.results.candidates if each.blocked]
        every = [each.name for each in self.results.candidates]
        if self.results.error or not every:
            some = any(each.outcome not in (None, Outcome.ERROR) for each in self.results.candidates)
            return SYMBOLS[Outcome.ERROR], f"ERROR: {'not everything' if some else 'nothing'} could be evaluated"
        if self.verdict == "recorded":
            return "📼", f"RECORDED: {', '.join(every)}; nothing was compared"
        if len(every) > 1 and blocked:
            return SYMBOLS[Outcome.REGRESSION], f"BLOCKED: {len(blocked)} of {len(every)} candidates"
        if (
            len(every) == 1
            and (outcome := self.results.candidates[0].outcome)
            and (blocked or self.verdict == "passed")
        ):
            return SYMBOLS[Outcome(outcome)], f"{outcome}: {every[0]}"
        if self.verdict == "passed":
            return SYMBOLS[Outcome.PASS], f"PASS: all {len(every)} candidates"
        return SYMBOLS[Outcome.REGRESSION], f"BLOCKED: {self.ended}"

    @property
    def ended(self) -> str:
        """How the session ended, in words."""
        return MEANINGS.get(self.results.exit, f"exit code {self.results.exit}")


def symbol(verdict: Verdict) -> str:
    """Of a metric's outcome; one that only informs is no alarm."""
    return SYMBOLS[verdict.outcome] if verdict.blocking or verdict.outcome is Outcome.PASS else "ℹ️"
