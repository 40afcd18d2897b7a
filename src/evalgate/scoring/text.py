"""Scorers of generated text."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any

from evalgate.errors import TaskError
from evalgate.scoring.answer import as_text, last_number
from evalgate.scoring.scorer import Score, Scorer

if TYPE_CHECKING:
    from evalgate.gate import Gate
    from evalgate.request import Completion
    from evalgate.task import Sample

Check = Callable[["Sample"], str | None]


def text_target(sample: Sample) -> str | None:
    """Why the target cannot be read as text, if so."""
    try:
        as_text(sample.target)
    except TypeError as error:
        return str(error)
    return None


def filled_target(sample: Sample) -> str | None:
    """Why the target cannot be read as text that says anything, if so."""
    return text_target(sample) or (None if as_text(sample.target).strip() else "the target is empty")


def exact_match(ignore_case: bool = False, *, gate: Gate | None = None, name: str | None = None) -> Scorer:
    """1 where the answer is the target, but for white space around either; else 0.

    Args:
        ignore_case: compare case-folded.
        gate: margin and floor.
        name: of the metric, by default `exact_match`.
    """

    def score(completion: Completion, sample: Sample) -> Score:
        answer, target = completion.text.strip(), as_text(sample.target).strip()
        return Score(float(_fold(answer, ignore_case) == _fold(target, ignore_case)), answer)

    return Scorer(
        name or "exact_match",
        score,
        binary=True,
        gate=gate,
        settings={"scorer": "exact_match", "ignore_case": ignore_case},
        check=text_target,
    )


def includes(ignore_case: bool = False, *, gate: Gate | None = None, name: str | None = None) -> Scorer:
    """1 where the target, without white space around it, stands somewhere in the answer; else 0.

    Args:
        ignore_case: compare case-folded.
        gate: margin and floor.
        name: of the metric, by default `includes`.
    """

    def score(completion: Completion, sample: Sample) -> Score:
        target = _fold(as_text(sample.target).strip(), ignore_case)
        return Score(float(target in _fold(completion.text, ignore_case)), completion.text.strip())

    return Scorer(
        name or "includes",
        score,
        binary=True,
        gate=gate,
        settings={"scorer": "includes", "ignore_case": ignore_case},
        check=filled_target,
    )


def regex(pattern: str, group: int | str | None = None, *, gate: Gate | None = None, name: str | None = None) -> Scorer:
    """1 where the pattern is found in the answer and, with a group, the first match's group is the target; else 0.

    Args:
        pattern: Python regular expression, searched anywhere; flags are written inline, such as `(?i)`.
        group: number or name of the group that is compared with the target, but for white space around either;
            without one the match alone is right and no target is needed.
        gate: margin and floor.
        name: of the metric, by default `regex`.

    Raises:
        TaskError: the pattern does not compile, or has no such group.
    """
    compiled = _compile(pattern)
    if group is not None and group not in compiled.groupindex and group not in range(compiled.groups + 1):
        raise TaskError(f"regex({pattern!r}) has no group {group!r}, it has {compiled.groups} groups")

    def score(completion: Completion, sample: Sample) -> Score:
        match = compiled.search(completion.text)
        if match is None:
            return Score(0.0, explanation="no match")
        if group is None:
            return Score(1.0, match[0])
        answer = (match[group] or "").strip()
        return Score(float(match[group] is not None and answer == as_text(sample.target).strip()), answer)

    return Scorer(
        name or "regex",
        score,
        binary=True,
        gate=gate,
        settings={"scorer": "regex", "pattern": pattern, "group": group},
        check=None if group is None else text_target,
    )


def numeric(tolerance: float = 0.0, *, gate: Gate | None = None, name: str | None = None) -> Scorer:
    """1 where the last number of the answer is within the tolerance of the target's (last) number; else 0.

    Numbers may carry a sign, a currency sign, thousands separators, a decimal point and an exponent; they are compared
    exactly, as decimals. An answer without a number scores 0.

    Args:
        tolerance: largest absolute difference that is still right.
        gate: margin and floor.
        name: of the metric, by default `numeric`.

    Raises:
        TaskError: the tolerance is negative or not finite.
    """
    if not (isinstance(tolerance, int | float) and math.isfinite(tolerance) and tolerance >= 0):
        raise TaskError(f"numeric(tolerance={tolerance!r}): expected a finite number from 0")
    allowed = Decimal(str(tolerance))

    def check(sample: Sample) -> str | None:
        reason = text_target(sample)
        if reason is None and (isinstance(sample.target, bool) or last_number(as_text(sample.target)) is None):
            reason = f"the target {sample.target!r} holds no number"
        return reason

    def score(completion: Completion, sample: Sample) -> Score:
        answer, target = last_number(completion.text), last_number(as_text(sample.target))
        if answer is None or target is None:
            return Score(0.0, explanation="no number")
        return Score(float(abs(answer - target) <= allowed), str(answer))

    return Scorer(
        name or "numeric",
        score,
        binary=True,
        gate=gate,
        settings={"scorer": "numeric", "tolerance": float(tolerance)},
        check=check,
    )


def bleu(ignore_case: bool = False, *, gate: Gate | None = None, name: str | None = None) -> Scorer:
    """Sentence BLEU of the answer against the target from 0 to 1: sacrebleu, 13a tokens, exponential smoothing.

    Orders longer than the answer are left out (effective order), as sacrebleu advises for single sentences.

    Args:
        ignore_case: compare in lower case.
        gate: margin and floor.
        name: of the metric, by default `bleu`.

    Source: Post 2018, "A Call for Clarity in Reporting BLEU Scores".
    """

    def score(completion: Completion, sample: Sample) -> Score:
        return Score(_bleu(ignore_case)(completion.text, as_text(sample.target)))

    settings = {"scorer": "bleu", "ignore_case": ignore_case, "tokens": "13a", "smoothing": "exp"}
    return Scorer(name or "bleu", score, gate=gate, settings=settings, check=filled_target)


def chrf(
    word_order: int = 0, ignore_case: bool = False, *, gate: Gate | None = None, name: str | None = None
) -> Scorer:
    """Sentence chrF of the answer against the target from 0 to 1: sacrebleu, characters up to order 6, beta 2.

    Args:
        word_order: 2 makes it chrF++.
        ignore_case: compare in lower case.
        gate: margin and floor.
        name: of the metric, by default `chrf`.

    Raises:
        TaskError: the word order is no whole number from 0 to 6.

    Source: Popović 2015, "chrF: character n-gram F-score for automatic MT evaluation".
    """
    if word_order not in range(7):
        raise TaskError(f"chrf(word_order={word_order!r}): expected a whole number from 0 to 6")

    def score(completion: Completion, sample: Sample) -> Score:
        return Score(_chrf(word_order, ignore_case)(completion.text, as_text(sample.target)))

    settings = {"scorer": "chrf", "word_order": word_order, "ignore_case": ignore_case}
    return Scorer(name or "chrf", score, gate=gate, settings=settings, check=filled_target)


def rouge(kind: str = "rougeL", stem: bool = False, *, gate: Gate | None = None, name: str | None = None) -> Scorer:
    """ROUGE F1 of the answer against the target from 0 to 1, by rouge-score, which reads ASCII letters and digits only.

    Args:
        kind: `rouge1` to `rouge9`, `rougeL`, or `rougeLsum` (lines as sentences).
        stem: compare Porter stems.
        gate: margin and floor.
        name: of the metric, by default the kind.

    Raises:
        TaskError: the kind is none of these.

    Source: Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries".
    """
    if not re.fullmatch(r"rouge(?:[1-9]|L|Lsum)", kind):
        raise TaskError(f"rouge({kind!r}): expected rouge1 to rouge9, rougeL or rougeLsum")

    def check(sample: Sample) -> str | None:
        reason = text_target(sample)
        if reason is None and not re.search("[a-z0-9]", as_text(sample.target).lower()):
            reason = "the target has no ASCII letter or digit, and ROUGE reads nothing else; chrf() reads every script"
        return reason

    def score(completion: Completion, sample: Sample) -> Score:
        return Score(_rouge(kind, stem)(completion.text, as_text(sample.target)))

    return Scorer(name or kind, score, gate=gate, settings={"scorer": "rouge", "kind": kind, "stem": stem}, check=check)


def _fold(text: str, ignore_case: bool) -> str:
    return text.casefold() if ignore_case else text


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a pattern that Python is not sure about is an error here, not a warning
            return re.compile(pattern)
    except re.error as error:
        raise TaskError(f"regex({pattern!r}): {error.msg} at position {error.pos}") from None
    except (FutureWarning, DeprecationWarning) as doubt:
        raise TaskError(f"regex({pattern!r}): {doubt}") from None


@cache
def _bleu(ignore_case: bool) -> Callable[[str, str], float]:
    from sacrebleu.metrics import BLEU

    return _share(BLEU(lowercase=ignore_case, tokenize="13a", smooth_method="exp", effective_order=True).sentence_score)


@cache
def _chrf(word_order: int, ignore_case: bool) -> Callable[[str, str], float]:
    from sacrebleu.metrics import CHRF

    return _share(CHRF(word_order=word_order, lowercase=ignore_case).sentence_score)


def _share(sentence_score: Callable[[str, Sequence[str]], Any]) -> Callable[[str, str], float]:
    """From sacrebleu's per cent to a share; equal sentences come out a rounding error above 100."""
    return lambda answer, target: min(1.0, float(sentence_score(answer, [target]).score) / 100)


@cache
def _rouge(kind: str, stem: bool) -> Callable[[str, str], float]:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer([kind], use_stemmer=stem)
    return lambda answer, target: float(scorer.score(target, answer)[kind].fmeasure)
