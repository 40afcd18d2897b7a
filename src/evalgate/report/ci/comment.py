"""A session as Markdown: the comment on a pull request, and with more samples the summary of a CI step.

Sections are whole or left out, the most telling first, so that the text is never longer than what a site takes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalgate import text
from evalgate.digest import short
from evalgate.gate import SLICE_Q, Outcome
from evalgate.report.card import view
from evalgate.report.ci.words import SYMBOLS, Told, symbol
from evalgate.report.markdown import fenced, inline
from evalgate.report.terminal import near_tie_counts, slice_effect, why

if TYPE_CHECKING:
    from evalgate.compare import Comparison
    from evalgate.evaluation import Row
    from evalgate.gate import Verdict
    from evalgate.report.card import CardData
    from evalgate.report.results import CandidateResult

MARKER = "<!-- evalgate -->"
"""First line of the comment, by which a bot finds its own one and replaces it."""

LIMIT = 65_536
"""GitHub's for a comment, in characters; kept in bytes, however a site counts."""

_ROWS = 40  # of a table, more are counted
_TEXT = 300  # characters of a prompt, an answer or a target
_PLAIN = re.compile(r"[\w./:@=,+-]+(\[[\w./:@=,+-]+\])*")  # shown as code as it is: nothing of it means anything there
_COMMAND = re.compile(r"[\w./:@=,+\[\]'\" -]+")


@dataclass(frozen=True, slots=True)
class _Section:
    """A part of the text: of rank 0 it says what came out, of rank 1 why, of rank 2 whatever else; with a title."""

    rank: int
    title: str
    markdown: str


def comment(told: Told, *, limit: int = LIMIT, samples: int = 3, marker: bool = True) -> str:
    """The whole text, ending in a line feed.

    Args:
        told: what there is to tell.
        limit: longest text, in bytes of UTF-8, 8,000 or more.
        samples: broken samples shown of each metric that regressed.
        marker: whether the first line is `MARKER`.
    """
    sections = [_top(told, marker)]
    for candidate in told.results.candidates:
        data = told.cards.get(candidate.name)
        sections += _candidate(told, candidate, data, samples)
    sections += [_Section(0, "the command", part) for part in _foot(told)]
    return _fitted(sections, limit)


def _fitted(sections: Sequence[_Section], limit: int) -> str:
    """As many whole sections as there is room for, by their ranks; what was left out is named."""
    left = limit - 1_200  # room to say what is missing
    kept: set[int] = set()
    for place in sorted(range(len(sections)), key=lambda place: sections[place].rank):
        size = len(sections[place].markdown.encode("utf-8", "replace")) + 2
        if size <= left:
            kept.add(place)
            left -= size
    parts = [section.markdown for place, section in enumerate(sections) if place in kept]
    missing = [section.title for place, section in enumerate(sections) if place not in kept]
    if missing:
        parts.append(f"Left out, as there is no room: {inline(text.listed(missing, 3), 120)}. The cards have it all.")
    return "\n\n".join(parts) + "\n"


def _top(told: Told, marker: bool) -> _Section:
    sign, said = told.headline
    lines = [*([MARKER] if marker else []), f"## {sign} {inline(said, 160)}"]
    if told.results.error:
        lines += ["", f"{inline(told.results.error, 600)} ({told.ended}, exit code {told.results.exit})"]
    elif not told.results.candidates:
        lines += ["", f"No candidate was evaluated: {told.ended} (exit code {told.results.exit})."]
    elif told.results.exit == 1 and not any(each.blocked for each in told.results.candidates) and not told.missing:
        lines += ["", "The gates block nothing; the session failed for another reason, which the log says."]
    elif told.results.exit > 1:
        lines += ["", f"The session ended with exit code {told.results.exit}: {told.ended}."]
    if told.missing:
        shown = ", ".join(code(each, 100) for each in told.missing[:10])
        more = f" and {len(told.missing) - 10} more" if len(told.missing) > 10 else ""
        lines += ["", f"⚠️ **Required and not run, so this is no pass:** {shown}{more}"]
    return _Section(0, "the headline", "\n".join(lines))


def _foot(told: Told) -> Iterator[str]:
    head = f"Ledger {code(short(told.results.ledger), 20)}" if told.results.ledger else ""
    run = f"[this run]({told.links.run})" if told.links.run else ""
    if told.command:
        plain = _COMMAND.fullmatch(told.command) and len(told.command) <= 1_000
        block = f"```text\n{told.command}\n```" if plain else fenced(told.command, 1_000)
        yield f"<details><summary>Run it again</summary>\n\n{block}\n\n</details>"
    if run or head:
        yield " · ".join(part for part in (run, head) if part)


def _candidate(told: Told, candidate: CandidateResult, data: CardData | None, samples: int) -> Iterator[_Section]:
    several = len(told.results.candidates) > 1
    name = inline(candidate.name, 80)
    if data is None:
        if not told.results.error:
            said = "recorded" if told.recorded else "not evaluated"
            yield _Section(0, candidate.name, f"### {name}: {said}" if several else f"{name}: {said}.")
        return
    family = data.family
    head = []
    if several:
        head.append(f"### {SYMBOLS[family.outcome]} {inline(str(family.outcome))}: {name}")
    head.append(f"{inline(view.headline(candidate.name, family.outcome), 160)}: {inline(family.reason, 500)}.")
    fallen = [verdict for verdict in family.verdicts if verdict.outcome is not Outcome.PASS]
    fallen.sort(key=lambda verdict: (verdict.outcome is not Outcome.REGRESSION, not verdict.blocking))
    passed = [verdict for verdict in family.verdicts if verdict.outcome is Outcome.PASS]
    if fallen:
        head.append(_table(fallen))
    yield _Section(0, f"the verdicts on {candidate.name}", "\n\n".join(head))
    yield _Section(0, f"the card of {candidate.name}", _card(told, candidate))
    shown: set[tuple[str, str]] = set()
    for verdict in fallen:
        yield _Section(1, _member(verdict), _fallen(verdict, data, samples, shown))
    if passed:
        count = f"{len(passed)} {'metric' if len(passed) == 1 else 'metrics'} passed"
        folded = f"<details><summary>✅ {count}</summary>\n\n{_table(passed)}\n\n</details>"
        yield _Section(2, f"what passed of {candidate.name}", folded)


def _card(told: Told, candidate: CandidateResult) -> str:
    path = candidate.card or ""
    address = told.links.file(f"{told.folder}{path}")
    return f"Card: {code(path, 200)}" + (f" ([look at it]({address}))" if address else "")


def _table(verdicts: Sequence[Verdict]) -> str:
    """Verdict, metric, values, difference with interval, samples, flips."""
    rows = ["| | metric | was → now | difference | n | broke / fixed |", "|---|---|---|---|---|---|"]
    for verdict in verdicts[:_ROWS]:
        said = str(verdict.outcome).lower() + ("" if verdict.blocking else " (informs)")
        cells = [
            f"{symbol(verdict)} {said}" + (", within the margin" if verdict.degraded else ""),
            code(_member(verdict), 120),
            *_numbers(verdict),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    more = f"\n\n… and {len(verdicts) - _ROWS} more, which the card has." if len(verdicts) > _ROWS else ""
    return "\n".join(rows) + more


def _numbers(verdict: Verdict) -> tuple[str, str, str, str]:
    comparison = verdict.comparison
    if comparison is None:
        return "" if verdict.value is None else text.share(verdict.value), "", "", ""
    metric, test, before = comparison.metric, comparison.test, comparison.baseline
    interval = text.interval(test.low, test.high, metric, before).replace("[", "\\[").replace("]", "\\]")
    values = f"{text.share(before)} → {text.share(comparison.candidate)}"
    effect = f"**{text.effect(test.delta, metric, before)}** {interval}"
    return (
        values.replace(" ", "&nbsp;"),
        effect.replace(" ", "&nbsp;"),
        f"{test.n:,}",
        f"{len(comparison.broken):,} / {len(comparison.fixed):,}",
    )


def _fallen(verdict: Verdict, data: CardData, samples: int, shown: set[tuple[str, str]]) -> str:
    """Why, which slices, which samples; one that was shown of another metric is not shown again."""
    comparison = verdict.comparison
    said = [f"**{symbol(verdict)} {code(_member(verdict), 120)}**: {inline(why(verdict), 400)}"]
    if comparison and verdict.outcome is Outcome.REGRESSION:
        facts = [f"worst slice {each}" for each in _slices(comparison)]
        tied = near_tie_counts(verdict, data.near_ties)[0]
        if tied:
            facts.append(f"{tied} of {len(comparison.broken)} broken samples are near ties")
        said += ["\n".join(f"- {fact}" for fact in facts)] if facts else []
        said += _samples(comparison, data, samples, shown)
    return "\n\n".join(said)


def _slices(comparison: Comparison) -> list[str]:
    """The slices that dropped for sure, else the one that dropped most; three at most."""
    sure = [part for part in comparison.slices if part.delta < 0 and part.q is not None and part.q <= SLICE_Q]
    worst = comparison.worst_slice
    chosen = sure[:3] or ([worst] if worst else [])
    return [
        f"{code(f'{part.name}={part.value}', 60)}: {slice_effect(part, comparison.metric)} (n = {part.n:,}"
        + (f", {inline(text.p_value(part.q, 'q'))})" if part.q is not None else ")")
        for part in chosen
    ]


def _samples(comparison: Comparison, data: CardData, limit: int, shown: set[tuple[str, str]]) -> Iterator[str]:
    """Samples that broke, golden ones first, each in a fence of its own."""
    now, was = data.candidates.get(comparison.task), data.baselines.get(comparison.task)
    if now is None or was is None:
        return
    golden = comparison.golden_broken
    ids = [*golden, *(id_ for id_ in comparison.broken if id_ not in golden)]
    new = [id_ for id_ in ids[:limit] if (comparison.task, id_) not in shown]
    rows, before = ({row.id: row for row in side.rows if row.id in new} for side in (now, was))
    ties = data.near_ties.get(f"{comparison.task}::{comparison.metric.name}", ())
    for id_ in new:
        if id_ in rows and id_ in before:
            shown.add((comparison.task, id_))
            marks = ["golden"] * (id_ in golden) + ["near tie"] * (id_ in ties)
            yield fenced(_sample(rows[id_], before[id_], comparison.metric.name, marks), 6 * _TEXT)


def _sample(now: Row, was: Row, metric: str, marks: Sequence[str]) -> str:
    """Labels in a column, texts beside them, so that no text can pass for a label."""
    # Of a long prompt the end is shown: what is asked comes after what it is asked about.
    prompt = now.prompt if len(now.prompt) <= _TEXT else f"…{now.prompt[1 - _TEXT :]}"
    parts = {
        "sample": now.id[:100] + (f" ({', '.join(marks)})" if marks else ""),
        "prompt": prompt,
        "was": _cut("\n".join(was.outputs)),
        "now": _cut("\n".join(now.outputs)),
        "target": "" if now.target is None else _cut(str(now.target)),
        "why": _cut(now.notes.get(metric, "")),
    }
    return "\n".join(
        f"{label if first else '':6}  {line}"
        for label, said in parts.items()
        if said or (label == "now" and now.outputs)
        for first, line in zip([True, *[False] * said.count("\n")], said.split("\n"), strict=True)
    )


def _cut(said: str) -> str:
    return said if len(said) <= _TEXT else f"{said[: _TEXT - 1]}…"


def _member(verdict: Verdict) -> str:
    return f"{verdict.task}::{verdict.metric}"


def code(said: str, limit: int) -> str:
    """A name or path as code, where nothing in it means anything; else as text that is escaped."""
    return f"`{said}`" if len(said) <= limit and _PLAIN.fullmatch(said) else inline(said, limit)
