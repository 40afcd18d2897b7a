"""The end of a run for one checkpoint, as a terminal or a log shows it. Pure: objects in, lines out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from evalgate import text
from evalgate.digest import short
from evalgate.gate import SLICE_Q, Outcome
from evalgate.report.screen import SYMBOLS, Cell, Screen
from evalgate.report.terminal import clean_words, near_tie_counts, safe, slice_effect, slice_name, why

if TYPE_CHECKING:
    from evalgate.compare import SliceResult
    from evalgate.evaluation import Evaluation
    from evalgate.gate import Family, Verdict
    from evalgate.stats import PairedTest

_COLORS = {Outcome.PASS: "green", Outcome.REGRESSION: "red", Outcome.ERROR: "red"}
_UNDECIDED = (Outcome.INCONCLUSIVE, Outcome.INCOMPARABLE)
_FEW, _MANY = 3, 20  # slices that are shown without -v, and with it; notes
_LOWER = "↓"


def style_of(outcome: Outcome, *, blocking: bool = True) -> str:
    """Colour of an outcome; what only informs is never red."""
    color = _COLORS.get(outcome, "yellow")
    return f"bold {'yellow' if color == 'red' and not blocking else color}"


def said(verdict: Verdict) -> str:
    """The outcome, and that it cannot fail anything where that is so: `REGRESSION (informs)`."""
    return str(verdict.outcome) if verdict.blocking else f"{verdict.outcome} (informs)"


def one_line(family: Family, *, name: str, card: str) -> str:
    """All that `-q` says: `evalgate: v3 REGRESSION  1 of 9 metrics …  Card: reports/v3/index.html`."""
    return f"{_family_line(family, name)}  Card: {safe(card)}"


def summary_lines(
    family: Family,
    *,
    name: str,
    card: str,
    ledger_head: str | None = None,
    near_ties: Mapping[str, Collection[str]] | None = None,
    screen: Screen | None = None,
    verbose: bool = False,
) -> list[str]:
    """Overall verdict, a line per metric, then whatever needs saying.

    Metrics that block come first, and among them those that failed. A terminal gets a table where that fits, else two
    lines per metric, and is spared metrics that inform and pass. A log gets each metric in a line of its own, which
    starts with `evalgate: NAME`.

    Args:
        family: all verdicts.
        name: of the checkpoint.
        card: path of the card.
        ledger_head: hash of the ledger's last entry.
        near_ties: see `near_tie_counts`.
        screen: where the lines go; by default a log.
        verbose: nothing is left out: metrics that inform and pass, the pooled test in full, near ties, slices, notes.
    """
    screen = screen or Screen()
    verdicts = sorted(family.verdicts, key=lambda each: (not each.blocking, _severity(each, family)))
    if screen.width is None:
        lines = [screen.text(line) for line in (_family_line(family, name), *(_log_line(v, name) for v in verdicts))]
    else:
        lines = _headline(family, name, screen)
        shown = [v for v in verdicts if verbose or v.blocking or v.outcome is not Outcome.PASS or _remarkable(v)]
        lines += _table(shown, family, screen) or _stacked(shown, screen)
        if hidden := len(verdicts) - len(shown):
            lines += screen.lines(
                f"  {hidden} more that only {'informs passes' if hidden == 1 else 'inform pass'}; -v shows all"
            )
    for note in _notes(family, near_ties, verbose=verbose, reasons=screen.width is not None):
        lines += screen.lines(f"  {note}")
    ledger = f"  Ledger: {short(ledger_head)}" if ledger_head else ""
    return [*lines, *screen.lines(f"  Card: {safe(card)}{ledger}")]


def tokens_line(evaluations: Iterable[Evaluation]) -> str | None:
    """What the answers of a checkpoint cost, cached ones included; `None` where no engine counted."""
    counted = [row.tokens for evaluation in evaluations for row in evaluation.rows if any(row.tokens)]
    if not counted:
        return None
    read, written = (sum(each[side] for each in counted) for side in (0, 1))
    return f"tokens: {read:,} read, {written:,} written for {len(counted):,} samples"


def _severity(verdict: Verdict, family: Family) -> int:
    return 0 if verdict.fails(family.policy) else 1 if verdict.outcome is not Outcome.PASS else 2


def _remarkable(verdict: Verdict) -> bool:
    return verdict.degraded or verdict.clean is not None


def _member(verdict: Verdict, limit: int = 80) -> str:
    return safe(f"{verdict.task}::{verdict.metric}", limit)


# -- a log ------------------------------------------------------------------------------------------------------------


def _family_line(family: Family, name: str) -> str:
    return f"evalgate: {safe(name, 80)} {family.outcome}  {safe(family.reason, 400)}"


def _log_line(verdict: Verdict, name: str) -> str:
    """`evalgate: v3 arithmetic/sums::exact_match REGRESSION -33.1 pt [-36.9, -29.6] n=450 was .996 now .664`."""
    parts = [f"evalgate: {safe(name, 80)} {_member(verdict, 400)} {said(verdict)}"]  # found by its whole name
    if verdict.comparison:
        parts.append(text.headline(verdict.comparison).replace("  ", " ").replace(", now ", " now "))
        if verdict.degraded:
            parts.append("degraded within the margin")
    if not verdict.comparison or verdict.outcome in _UNDECIDED:
        parts.append(safe(why(verdict), 400))
    return " ".join(parts)


# -- a terminal -------------------------------------------------------------------------------------------------------


def _headline(family: Family, name: str, screen: Screen) -> list[str]:
    """`✗ v3: REGRESSION  1 of 9 metrics …`, the outcome painted."""
    begin = f"{SYMBOLS[family.outcome]} {safe(name, 80)}: "
    first, *rest = screen.lines(f"{begin}{family.outcome}  {safe(family.reason, 400)}")
    begin = screen.text(begin)
    style = style_of(family.outcome)
    if first.startswith(f"{begin}{family.outcome}"):  # a narrow screen may have broken it before
        first = f"{begin}{screen.painted(family.outcome, style)}{first.removeprefix(f'{begin}{family.outcome}')}"
    return [first, *rest]


def _verdict(verdict: Verdict) -> str:
    return f"{SYMBOLS[verdict.outcome]} {verdict.outcome}{', degraded' if verdict.degraded else ''}"


def _name(verdict: Verdict) -> str:
    return _member(verdict) if verdict.blocking else f"{_member(verdict)} (informs)"


def _table(verdicts: Sequence[Verdict], family: Family, screen: Screen) -> list[str] | None:
    """Verdict, metric, difference, interval, n, was and now, broke and fixed; `None` where that is too wide."""
    header = (
        Cell("verdict"),
        Cell("metric"),
        Cell("difference", right=True),
        Cell(f"{100 * (1 - 2 * family.policy.alpha):g} % interval", right=True),
        Cell("n", right=True),
        Cell("was → now", right=True),
        Cell("broke/fixed", right=True),
    )
    sections = [[_row(v) for v in verdicts if v.blocking is blocking] for blocking in (True, False)]
    lines = screen.table(header, [rows for rows in sections if rows])
    if lines and any(v.comparison and not v.comparison.metric.higher_is_better for v in verdicts):
        lines += screen.lines(f"  {_LOWER} lower is better; a difference with a minus is always worse")
    return lines


def _row(verdict: Verdict) -> list[Cell]:
    style = style_of(verdict.outcome, blocking=verdict.blocking)
    cells = [Cell(_verdict(verdict), style), Cell(_name(verdict), "bold" if verdict.blocking else "")]
    comparison = verdict.comparison
    if comparison is None:
        now = "" if verdict.value is None else f"{text.share(verdict.value)}"
        return [*cells, *map(Cell, ("–", "–", "–", now or "–", "–"))]
    metric, test, before = comparison.metric, comparison.test, comparison.baseline
    was_now = f"{text.share(before)} → {text.share(comparison.candidate)}"
    return [
        *cells,
        Cell(text.effect(test.delta, metric, before)),
        Cell(text.interval(test.low, test.high, metric, before)),
        Cell(f"{test.n}"),
        Cell(was_now if metric.higher_is_better else f"{was_now} {_LOWER}"),
        Cell(f"{len(comparison.broken)}/{len(comparison.fixed)}"),
    ]


def _stacked(verdicts: Sequence[Verdict], screen: Screen) -> list[str]:
    """The same where a table is too wide: the numbers of each metric on a line of their own."""
    lines: list[str] = []
    for verdict in verdicts:
        begin = screen.text(_verdict(verdict))
        first, *rest = screen.lines(f"  {_verdict(verdict)}  {_name(verdict)}")
        style = style_of(verdict.outcome, blocking=verdict.blocking)
        lines += [first.replace(begin, screen.painted(begin, style), 1), *rest]
        if verdict.comparison:
            counts = f"{len(verdict.comparison.broken)} broke, {len(verdict.comparison.fixed)} fixed"
            lines += screen.lines(f"      {text.headline(verdict.comparison)}  {counts}")
        elif verdict.value is not None:
            lines += screen.lines(f"      now {text.share(verdict.value)}")
    return lines


# -- what needs saying ------------------------------------------------------------------------------------------------


def _notes(
    family: Family, near_ties: Mapping[str, Collection[str]] | None, *, verbose: bool, reasons: bool
) -> Iterator[str]:
    """In a line of their own: the pooled test, what did not run or is undecided, near ties, slices, environments."""
    if family.pooled and verbose:
        yield _pooled(family.pooled, family.policy.pooled_margin)
    if family.clean:
        yield f"clean samples alone, {_pooled(family.clean, family.policy.pooled_margin)}"
    if family.partial:
        yield f"did not run: {_ids(family.partial)}"
    for verdict in family.verdicts:
        if reasons and not verdict.comparison:
            yield f"{verdict.outcome} {_member(verdict)}: {safe(verdict.reason)}"
        elif reasons and verdict.outcome in _UNDECIDED:
            yield f"{verdict.outcome} {_member(verdict)}: {safe(why(verdict), 400)}"
        elif verdict.clean:
            yield f"{_member(verdict)}: {verdict.leaked} samples leaked; the others alone: {clean_words(verdict)}"
        elif (verbose or verdict.blocking) and (tied := _tied(verdict, near_ties)):
            yield tied
    asides: dict[str, list[str]] = {}
    for verdict in family.verdicts:
        for aside in verdict.asides:
            asides.setdefault(aside, []).append(_member(verdict))
    for aside, members in asides.items():
        yield f"{', '.join(members)}: {safe(aside, 400)}"
    limit = _MANY if verbose else _FEW
    where = "the card has them" if verbose else "-v shows them"
    yield from _some(_slices(family), limit, f"more dropped slices; {where}")
    # A baseline that was made otherwise is named field by field: whoever believes the difference must have read it.
    yield from _some(_environments(family), _MANY, "more notes on how both sides were made; the card has them")


def _some(lines: Sequence[str], limit: int, more: str) -> Iterator[str]:
    yield from lines[:limit]
    if len(lines) > limit:
        yield f"{len(lines) - limit} {more}"


def _tied(verdict: Verdict, near_ties: Mapping[str, Collection[str]] | None) -> str:
    tied = near_tie_counts(verdict, near_ties)[0]
    if verdict.outcome is not Outcome.REGRESSION or not verdict.comparison or not tied:
        return ""
    are = "is a near tie" if tied == 1 else "are near ties"
    return f"{_member(verdict)}: {tied} of {len(verdict.comparison.broken)} broken samples {are}"


def _slices(family: Family) -> list[str]:
    """Slices that got worse, the worst first; those that block are never among the uncounted."""
    dropped = [
        (verdict, part)
        for verdict in family.verdicts
        if verdict.blocking and verdict.comparison
        for part in verdict.comparison.slices
        if part.q is not None and part.q <= SLICE_Q
    ]
    dropped.sort(key=lambda each: (not each[1].blocking, each[1].delta))
    return [_dropped(verdict, part) for verdict, part in dropped]


def _dropped(verdict: Verdict, part: SliceResult) -> str:
    """A slice that got worse: a warning, or with its adjusted p where it is gated by itself."""
    assert verdict.comparison  # noqa: S101 - it has the slice
    effect, numbers = slice_effect(part, verdict.comparison.metric), f"n={part.n}, {text.p_value(part.q or 0.0, 'q')}"
    if part.p_adjusted is not None and verdict.level is not None:
        numbers += f", adjusted {text.p_value(part.p_adjusted)} at level {text.probability(verdict.level)}"
    return f"{'blocking ' if part.blocking else ''}slice {_member(verdict)} {slice_name(part)}: {effect} ({numbers})"


def _environments(family: Family) -> list[str]:
    counted = Counter(str(note) for v in family.verdicts if v.comparison for note in v.comparison.notes)
    return [f"note: {safe(note)} ({n} {'metric' if n == 1 else 'metrics'})" for note, n in counted.items()]


def _pooled(test: PairedTest, margin: float) -> str:
    low, high = (text.points(end).split()[0] for end in (test.low, test.high))
    return (
        f"pooled over blocking metrics: {text.points(test.delta)} [{low}, {high}]  n={test.n}  "
        f"regression {text.p_value(test.p_reg)}, non-inferiority within {text.points(margin, sign=False)} "
        f"{text.p_value(test.p_ni)}"
    )


def _ids(ids: Sequence[str]) -> str:
    return text.listed([safe(id_, 60) for id_ in ids])
