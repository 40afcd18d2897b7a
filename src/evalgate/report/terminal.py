"""Verdicts as lines of text. Pure: objects in, text out; whatever a model or a data file wrote is made inert first."""

from __future__ import annotations

import re
import shutil
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from evalgate import text
from evalgate.digest import short
from evalgate.gate import SLICE_Q, Outcome
from evalgate.gate.verdicts import p_values

if TYPE_CHECKING:
    from evalgate.compare import Comparison, SliceResult
    from evalgate.evaluation import Evaluation, Metric, Row
    from evalgate.gate import Family, Verdict
    from evalgate.stats import PairedTest

_WORDS = {Outcome.PASS: "PASSED", Outcome.REGRESSION: "FAILED"}
_COLORS = {Outcome.PASS: "green", Outcome.REGRESSION: "red", Outcome.ERROR: "red"}
# What a CI runner reads as a command: `::` at a line's start (GitHub), `##[` and `##word[` anywhere (GitHub, Azure).
_COMMAND = re.compile(r"^(?P<space>\s*):(?=:)|#(?=#\w*\[)", re.MULTILINE)
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_LIMIT = 100
_SLICES = 5


def safe(value: str, limit: int = 200) -> str:
    r"""Text made inert for terminals and CI logs: one line, nothing invisible, no command of a CI runner, not too long.

    Control, format (so also bidi) and unassigned characters become visible escapes (`\x1b`), line feeds become `⏎`.

    Args:
        value: anything a model, a judge or a data file may have written.
        limit: longest result in characters, the ellipsis included.
    """
    head = value[: limit + 1].replace("\r\n", "\n")
    inert = "".join(map(_visible, _COMMAND.sub(_disarmed, head)))
    return inert if len(inert) <= limit and len(value) <= limit else f"{inert[: limit - 1]}…"


def _disarmed(command: re.Match[str]) -> str:
    return r"\x23" if command["space"] is None else rf"{command['space']}\x3a"


def _visible(char: str) -> str:
    if char == "\n":
        return "⏎"
    if unicodedata.category(char) not in _INVISIBLE:
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


# -- one metric -------------------------------------------------------------------------------------------------------


def word(verdict: Verdict) -> str:
    """The outcome as pytest's readers know it; a metric that only informs cannot fail anything, and says so."""
    if verdict.outcome is not Outcome.PASS and not verdict.blocking:
        return f"{verdict.outcome} (informs)"
    return _WORDS.get(verdict.outcome, str(verdict.outcome))


def _numbers(verdict: Verdict) -> str:
    if verdict.comparison:
        return text.headline(verdict.comparison) + ("  degraded within the margin" if verdict.degraded else "")
    return f"now {text.share(verdict.value)}" if verdict.value is not None else ""


def status_word(verdict: Verdict) -> str:
    """For pytest's verbose status column: `FAILED  -6.2 pt [-9.1, -3.4]  n=500  was .914, now .852`."""
    return f"{word(verdict)}  {_numbers(verdict)}".rstrip()


def why(verdict: Verdict) -> str:
    """The reason without the numbers that stand beside it anyway."""
    return verdict.reason.removeprefix(f"{text.headline(verdict.comparison)}; " if verdict.comparison else "")


def clean_words(verdict: Verdict) -> str:
    """What is said on the samples that did not leak: `PASS  -1.0 pt [-2.4, +0.3]  n=380  was .914, now .904`."""
    clean = verdict.clean
    if clean is None:
        return ""
    return f"{clean.outcome}  {text.headline(clean.comparison) if clean.comparison else safe(clean.reason)}"


def near_tie_counts(verdict: Verdict, near_ties: Mapping[str, Collection[str]] | None) -> tuple[int, int]:
    """How many of the samples that broke, and of those that were fixed, are near ties.

    Args:
        verdict: of the metric.
        near_ties: "suite/task::metric" to the ids of flipped samples where numeric noise alone can make the flip.
    """
    ids = frozenset((near_ties or {}).get(f"{verdict.task}::{verdict.metric}", ()))
    comparison = verdict.comparison
    return (len(ids.intersection(comparison.broken)), len(ids.intersection(comparison.fixed))) if comparison else (0, 0)


def detail_lines(
    verdict: Verdict,
    card: str,
    *,
    candidate: Evaluation | None = None,
    baseline: Evaluation | None = None,
    accept: str | None = None,
) -> list[str]:
    """What to know next, indented under `status_word`.

    Args:
        verdict: of the metric.
        card: path of the card.
        candidate: where given together with the baseline, one sample that broke is shown.
        baseline: the accepted evaluation.
        accept: command that accepts what was recorded; shown where a baseline is missing or incomparable.
    """
    comparison = verdict.comparison
    lines = [safe(why(verdict), 400)]
    if comparison:
        lines.append(f"{_counts(comparison)}. Card: {safe(card)}")
        if candidate and baseline:
            lines += _example(comparison, candidate, baseline)
    else:
        lines.append(f"Card: {safe(card)}")
    if accept and verdict.outcome in (Outcome.NO_BASELINE, Outcome.INCOMPARABLE) and not verdict.clean:
        lines.append(f"If it is right, accept what was recorded: {safe(accept, 400)}")
    return [f"  {line}" for line in lines]


def _counts(comparison: Comparison) -> str:
    broken, fixed, worst = len(comparison.broken), len(comparison.fixed), comparison.worst_slice
    samples = "sample" if broken == 1 else "samples"
    said = f"{broken} {samples} got worse, {fixed} better"
    if comparison.metric.binary:
        said = f"{broken} {samples} broke, {fixed} {'was' if fixed == 1 else 'were'} fixed"
    if worst:
        said += f"; worst slice: {_slice(worst)} ({slice_effect(worst, comparison.metric)})"
    return said


def _slice(part: SliceResult) -> str:
    return safe(f"{part.name}={part.value}", 60)


def slice_effect(part: SliceResult, metric: Metric) -> str:
    """A slice's difference in points, or in per cent of the baseline where the metric has no range."""
    return text.percent(part.delta) if metric.range is None else text.points(part.delta)


def _ids(ids: Sequence[str]) -> str:
    return text.listed([safe(id_, 60) for id_ in ids])


def _example(comparison: Comparison, candidate: Evaluation, baseline: Evaluation) -> list[str]:
    """The first broken sample (golden ones first): prompt, what was answered, what is answered now."""
    ids = comparison.golden_broken or comparison.broken
    now, was = (_row(side, ids[0]) if ids else None for side in (candidate, baseline))
    if not now or not was:
        return []
    name = safe(now.id, 40)
    # Of a long prompt the end is shown: what is asked comes after what it is asked about.
    prompt = now.prompt if len(now.prompt) <= _LIMIT else f"…{now.prompt[1 - _LIMIT :]}"
    texts = {"prompt": prompt, "was": "\n".join(was.outputs), "now": "\n".join(now.outputs)}
    parts = [(label, said) for label, said in texts.items() if said or (label != "prompt" and now.outputs)]
    if now.target is not None:
        parts.append(("target", str(now.target)))
    return [
        f"{name if i == 0 else '':{len(name)}}  {label:6}  {safe(said, _LIMIT)}"
        for i, (label, said) in enumerate(parts)
    ]


def _row(evaluation: Evaluation, id_: str) -> Row | None:
    return next((row for row in evaluation.rows if row.id == id_), None)


# -- a checkpoint -----------------------------------------------------------------------------------------------------


def summary_lines(
    family: Family,
    *,
    name: str,
    card: str,
    ledger_head: str | None = None,
    near_ties: Mapping[str, Collection[str]] | None = None,
    width: int | None = None,
    color: bool = False,
) -> list[str]:
    """The end of a run for one checkpoint: overall verdict, a line per metric, then whatever needs saying.

    Args:
        family: all verdicts.
        name: of the checkpoint.
        card: path of the card.
        ledger_head: hash of the ledger's last entry.
        near_ties: see `near_tie_counts`; counted for each metric that regressed.
        width: columns, by default the terminal's; where a table does not fit, each metric takes two lines.
        color: paint outcomes (imports rich).
    """
    width = width or shutil.get_terminal_size().columns
    paint = _paint if color else _plain
    title = f"{safe(name, 80)}: "
    lines = wrapped(f"{title}{family.outcome}  {safe(family.reason, 400)}", width)
    lines[0] = title + lines[0].removeprefix(title).replace(family.outcome, paint(family.outcome, family.outcome), 1)
    lines += _table(family.verdicts, width, paint)
    for note in _notes(family, near_ties):
        lines += wrapped(f"  {note}", width)
    return lines + wrapped(f"  Card: {safe(card)}" + (f"  Ledger: {short(ledger_head)}" if ledger_head else ""), width)


def _plain(said: str, outcome: Outcome) -> str:
    return said


def _paint(said: str, outcome: Outcome) -> str:
    from rich.color import ColorSystem
    from rich.style import Style

    return Style(color=_COLORS.get(outcome, "yellow"), bold=True).render(said, color_system=ColorSystem.STANDARD)


def _member(verdict: Verdict) -> str:
    return safe(f"{verdict.task}::{verdict.metric}", 80)


def _table(verdicts: Sequence[Verdict], width: int, paint: Callable[[str, Outcome], str]) -> list[str]:
    """Columns where they fit, else the numbers on a line of their own."""
    rows = [(verdict.outcome, word(verdict), _member(verdict), _numbers(verdict)) for verdict in verdicts]
    first, second = (max((len(row[i]) for row in rows), default=0) for i in (1, 2))
    tables = [[f"  {said:{first}}  {member:{second}}  {numbers}".rstrip()] for _, said, member, numbers in rows]
    if any(len(line) > width for (line,) in tables):
        tables = [
            [*wrapped(f"  {said}  {member}", width), *(wrapped(f"      {numbers}", width) if numbers else ())]
            for _, said, member, numbers in rows
        ]
    return [
        line
        for (outcome, said, *_), (head, *rest) in zip(rows, tables, strict=True)
        for line in (head.replace(said, paint(said, outcome), 1), *rest)
    ]


def _notes(family: Family, near_ties: Mapping[str, Collection[str]] | None) -> Iterable[str]:
    """In a line of their own: the pooled test, what did not run or is undecided, near ties, slices, environments."""
    if family.pooled:
        yield _pooled(family.pooled, family.policy.pooled_margin)
    if family.clean:
        yield f"clean samples alone, {_pooled(family.clean, family.policy.pooled_margin)}"
    if family.partial:
        every = len(family.partial) + len(family.verdicts)
        yield f"PARTIAL: {len(family.partial)} of {every} did not run: {_ids(family.partial)}"
    for verdict in family.verdicts:
        if not verdict.comparison:
            yield f"{verdict.outcome} {_member(verdict)}: {safe(verdict.reason)}"
        elif verdict.outcome in (Outcome.INCONCLUSIVE, Outcome.INCOMPARABLE):
            yield f"{verdict.outcome} {_member(verdict)}: {safe(why(verdict), 400)}"
        elif verdict.clean:
            yield f"{_member(verdict)}: {verdict.leaked} samples leaked; the others alone: {clean_words(verdict)}"
        elif verdict.outcome is Outcome.REGRESSION and (tied := near_tie_counts(verdict, near_ties)[0]):
            are = "is a near tie" if tied == 1 else "are near ties"
            yield f"{_member(verdict)}: {tied} of {len(verdict.comparison.broken)} broken samples {are}"
    asides: dict[str, list[str]] = {}
    for verdict in family.verdicts:
        for aside in verdict.asides:
            asides.setdefault(aside, []).append(_member(verdict))
    for aside, members in asides.items():
        yield f"{', '.join(members)}: {safe(aside, 400)}"
    dropped = [
        (verdict, part)
        for verdict in family.verdicts
        if verdict.blocking and verdict.comparison
        for part in verdict.comparison.slices
        if part.q is not None and part.q <= SLICE_Q
    ]
    slices = sorted(dropped, key=lambda each: not each[1].blocking)  # those that block are never among the uncounted
    yield from (_dropped(verdict, part) for verdict, part in slices[:_SLICES])
    if len(slices) > _SLICES:
        yield f"{len(slices) - _SLICES} more slices dropped; the card has them"
    for said, count in Counter(
        str(note) for v in family.verdicts if v.comparison for note in v.comparison.notes
    ).items():
        yield f"note: {safe(said)} ({count} {'metric' if count == 1 else 'metrics'})"


def _dropped(verdict: Verdict, part: SliceResult) -> str:
    """A slice that got worse: a warning, or with its adjusted p where it is gated by itself."""
    assert verdict.comparison  # noqa: S101 - it has the slice
    effect, numbers = slice_effect(part, verdict.comparison.metric), f"n={part.n}, {text.p_value(part.q or 0.0, 'q')}"
    if part.p_adjusted is not None and verdict.level is not None:
        numbers += f", adjusted {text.p_value(part.p_adjusted)} at level {text.probability(verdict.level)}"
    return f"{'blocking ' if part.blocking else ''}slice {_member(verdict)} {_slice(part)}: {effect} ({numbers})"


def _pooled(test: PairedTest, margin: float) -> str:
    low, high = (text.points(end).split()[0] for end in (test.low, test.high))
    return (
        f"pooled over blocking metrics: {text.points(test.delta)} [{low}, {high}]  n={test.n}  "
        f"regression {text.p_value(test.p_reg)}, non-inferiority within {text.points(margin, sign=False)} "
        f"{text.p_value(test.p_ni)}"
    )


def wrapped(line: str, width: int) -> list[str]:
    """A long line broken at spaces, its continuation indented; nothing is cut, so paths can still be copied."""
    if len(line) <= width:
        return [line]
    indent = line[: len(line) - len(line.lstrip())]
    parts = wrap(line, max(width, 20), subsequent_indent=f"{indent}  ", break_long_words=False, break_on_hyphens=False)
    return [_COMMAND.sub(_disarmed, part) for part in parts]  # what was in the middle may start a line now


# -- JUnit ------------------------------------------------------------------------------------------------------------


def junit_properties(
    verdict: Verdict, *, near_ties: Mapping[str, Collection[str]] | None = None
) -> list[tuple[str, str]]:
    """`evalgate.*` properties of a test case: the verdict in words, and its numbers in the metric's own units.

    Args:
        verdict: of the metric.
        near_ties: see `near_tie_counts`; how many of the broken samples are near ties, where any is.
    """
    found: dict[str, object] = {
        "says": status_word(verdict),
        "outcome": verdict.outcome,
        "reason": safe(verdict.reason, 400),
    }
    found |= {"blocking": str(verdict.blocking).lower(), "value": verdict.value}
    comparison = verdict.comparison
    if comparison:
        test = comparison.test
        found |= {"was": comparison.baseline, "now": comparison.candidate, "margin": comparison.margin}
        of_test = ("delta", "low", "high", "p_reg", "p_ni", "n", "discordance", "method")
        found |= {name: getattr(test, name) for name in of_test}
        found |= {
            "broken": len(comparison.broken),
            "fixed": len(comparison.fixed),
            "near_ties": near_tie_counts(verdict, near_ties)[0] or None,
            "baseline": comparison.baseline_digest,
        }
    if verdict.look:
        found["look"] = "{} of {}".format(*verdict.look)
    if verdict.clean:
        found |= {"leaked": verdict.leaked, "clean": clean_words(verdict)}
    if verdict.confirmation:
        found["confirmation_p"] = p_values(verdict.confirmation.test)[0]
    found |= {"p_adjusted": verdict.p_adjusted, "level": verdict.level}
    found |= {"detectable": verdict.detectable, "needed": verdict.needed}
    return [
        (f"evalgate.{name}", f"{value:.6g}" if isinstance(value, float) else str(value))
        for name, value in found.items()
        if value is not None
    ]
