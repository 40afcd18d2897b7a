"""What stands beside the lines of a suite: one annotation for each metric that fails, and one for the session."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from evalgate import text
from evalgate.digest import digest
from evalgate.gate import Outcome
from evalgate.report.ci.words import Told
from evalgate.report.terminal import safe, slice_effect, why

if TYPE_CHECKING:
    from evalgate.gate import Verdict
    from evalgate.report.ci.words import Place
    from evalgate.report.results import CandidateResult


@dataclass(frozen=True, slots=True)
class Annotation:
    """One line of text for people, inert.

    Attributes:
        level: `error`, `warning` or `notice`.
        title: what, in a few words.
        message: why, in numbers.
        key: the same for the same finding in every run, whatever its numbers are.
        place: where it belongs, `None` for the session's.
    """

    level: str
    title: str
    message: str
    key: str
    place: Place | None = None


def annotate(told: Told) -> list[Annotation]:
    """The session's first, then one for each verdict that is no pass: errors, warnings, notices."""
    found = [_of_session(told)]
    for candidate in told.results.candidates:
        data = told.cards.get(candidate.name)
        for verdict in data.family.verdicts if data else ():
            found += _of_metric(told, candidate, verdict)
    return found


def _of_session(told: Told) -> Annotation:
    _, said = told.headline
    reasons = [told.results.error or ""]
    reasons += [each.reason if len(told.results.candidates) == 1 else f"{each.name}: {each.outcome}"
                for each in told.results.candidates if each.outcome and not told.results.error]  # fmt: skip
    if told.missing:
        reasons.append(f"required and not run: {', '.join(told.missing)}")
    cards = ", ".join(each.card for each in told.results.candidates if each.card)
    message = "; ".join(filter(None, [*reasons, f"card: {cards}" if cards else ""])) or told.ended
    level = "notice" if told.verdict in ("passed", "recorded") else "error"
    return Annotation(level, safe(f"evalgate {said}", 120), safe(message, 800), digest(["evalgate", "session"]))


def _of_metric(told: Told, candidate: CandidateResult, verdict: Verdict) -> Iterator[Annotation]:
    level = "error" if verdict.fails(told.cards[candidate.name].family.policy) else "warning"
    if verdict.outcome is Outcome.PASS:
        return
    if not verdict.blocking:
        level = "notice"
    several = len(told.results.candidates) > 1
    member = f"{verdict.task}::{verdict.metric}"
    title = f"{verdict.outcome} {member}" + (f" [{candidate.name}]" if several else "")
    said = [text.headline(verdict.comparison)] if verdict.comparison else []
    said.append(why(verdict))
    if verdict.comparison:
        said.append(f"{len(verdict.comparison.broken)} samples broke, {len(verdict.comparison.fixed)} were fixed")
        worst = verdict.comparison.worst_slice
        if worst:
            said.append(f"worst slice {worst.name}={worst.value} {slice_effect(worst, verdict.comparison.metric)}")
    key = digest([member, candidate.name if several else None])
    where = told.places.get(verdict.task)
    place = where and replace(where, file=safe(where.file, 1_000))
    yield Annotation(level, safe(title, 160), safe("; ".join(said), 800), key, place)
