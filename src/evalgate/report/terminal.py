"""Verdicts as lines of text. Pure: objects in, text out; whatever a model or a data file wrote is made inert first."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping
from textwrap import wrap
from typing import TYPE_CHECKING

from evalgate import text
from evalgate.gate import Outcome
from evalgate.gate.verdicts import p_values

if TYPE_CHECKING:
    from evalgate.compare import Comparison, SliceResult
    from evalgate.evaluation import Evaluation, Metric, Row
    from evalgate.gate import Verdict

_WORDS = {Outcome.PASS: "PASSED", Outcome.REGRESSION: "FAILED"}
# What a CI runner reads as a command: `::` at a line's start (GitHub), `##[` and `##word[` anywhere (GitHub, Azure).
_COMMAND = re.compile(r"^(?P<space>\s*):(?=:)|#(?=#\w*\[)", re.MULTILINE)
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_LIMIT = 100


def safe(value: str, limit: int = 200) -> str:
    r"""Text made inert for terminals and CI logs: one line, nothing invisible, no command of a CI runner, not too long.

    Control, format (so also bidi) and unassigned characters become visible escapes (`\x1b`), line feeds become `⏎`.

    Args:
        value: anything a model, a judge or a data file may have written.
        limit: longest result in characters, the ellipsis included.
    """
    head = value[: limit + 1].replace("\r\n", "\n")
    lines = _COMMAND.sub(_disarmed, head).split("\n")
    # What is printable holds nothing invisible, which most texts are known by at once.
    inert = "⏎".join(line if line.isprintable() else "".join(map(_visible, line)) for line in lines)
    return inert if len(inert) <= limit and len(value) <= limit else f"{inert[: limit - 1]}…"


def _disarmed(command: re.Match[str]) -> str:
    return r"\x23" if command["space"] is None else rf"{command['space']}\x3a"


def _visible(char: str) -> str:
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
        said += f"; worst slice: {slice_name(worst)} ({slice_effect(worst, comparison.metric)})"
    return said


def slice_name(part: SliceResult) -> str:
    """`digits=2`, inert."""
    return safe(f"{part.name}={part.value}", 60)


def slice_effect(part: SliceResult, metric: Metric) -> str:
    """A slice's difference in points, or in per cent of the baseline where the metric has no range."""
    return text.percent(part.delta) if metric.range is None else text.points(part.delta)


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
