"""What a scorer and a score are, and the one place where a scorer is called."""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Real
from typing import TYPE_CHECKING, Any

from evalgate.digest import digest
from evalgate.errors import EvalgateError, ScorerError, TaskError
from evalgate.evaluation import Metric

if TYPE_CHECKING:
    from evalgate.gate import Gate
    from evalgate.instrument import Instrument
    from evalgate.request import Completion
    from evalgate.task import Sample


@dataclass(frozen=True, slots=True)
class Score:
    """A value with what was found and why.

    Attributes:
        value: in the scorer's declared range.
        answer: the part of the completion that was scored.
        explanation: why this value, for people.
    """

    value: float
    answer: str | None = None
    explanation: str | None = None


@dataclass(frozen=True, eq=False)
class Scorer:
    """Completion and sample to score; made by `exact_match()`, `numeric()`, … or `function(f)`, called by `apply`.

    Attributes:
        name: of the metric: no white space, brackets, slashes or `::`, because it stands in test ids.
        score: called with a completion (its text with reasoning stripped) and the sample.
        low, high: range of the values; `high=None` is unbounded.
        binary: every value is `low` or `high`.
        higher_is_better: orientation.
        continuations: sample to the texts whose log-likelihood is asked for; `None` scores generated text.
        weight: sample to its weight in means (bytes, for bits per byte); `None` weighs all the same.
        gate: margin and floor; a scorer with a gate blocks.
        settings: what changes the score, as JSON values; in the digest.
        version: of the scorer's code; in the digest.
        code: a function of the user whose source, and all that it names, is in the digest.
        check: says why a sample can never be scored (no target, a label that is no option), else `None`; asked when
            eval data is read, so that no engine starts for data that cannot be scored.
        judge: what gives the score where no code does; its range is the scorer's, and `score` is never called.
    """

    name: str
    score: Callable[[Completion, Sample], Score | float | bool]
    low: float | None = 0.0
    high: float | None = 1.0
    binary: bool = False
    higher_is_better: bool = True
    continuations: Callable[[Sample], tuple[str, ...]] | None = None
    weight: Callable[[Sample], float] | None = None
    gate: Gate | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    version: int = 1
    code: Callable[..., Any] | None = None
    check: Callable[[Sample], str | None] | None = None
    judge: Instrument | None = None

    def __post_init__(self) -> None:
        where = f"scorer {self.name!r}"
        named = isinstance(self.name, str)
        if not named or not re.fullmatch(r"(?:(?!::)[^\s\[\]/\\]){1,100}", self.name) or not self.name.isprintable():
            raise TaskError(
                "a scorer's name stands in test ids: up to 100 characters without white space, brackets, slashes or ::",
                where=where,
                mend='Give it one, such as name="politeness".',
            )
        if self.gate is not None:
            from evalgate.gate import Gate

            if not isinstance(self.gate, Gate):
                raise TaskError(
                    f"the gate is {self.gate!r:.80}, expected a Gate", where=where, mend="Write gate=Gate(margin=0.05)."
                )
        ends = [end for end in (self.low, self.high) if end is not None]
        if not all(isinstance(end, int | float) and math.isfinite(end) for end in ends) or sorted(set(ends)) != ends:
            raise TaskError(f"the range from {self.low!r} to {self.high!r} holds no values", where=where)
        if self.binary and len(ends) < 2:
            raise TaskError("a binary scorer needs both low and high", where=where)
        try:
            digest(dict(self.settings))
        except (TypeError, ValueError) as error:
            raise TaskError(f"settings must be JSON values: {error}", where=where) from None

    @cached_property
    def metric(self) -> Metric:
        """The metric as records keep it (TaskError where a function of the user has no source to identify it by)."""
        identity: dict[str, Any] = {"name": self.name, "version": self.version, "settings": dict(self.settings)}
        if self.code is not None:
            from evalgate.scoring.code import code_digest

            identity["code"] = code_digest(self.code)
        if self.judge is not None:  # all but models and versions, which have a digest of their own
            identity["judge"] = {name: value for name, value in self.judge.content.items() if name != "identity"}
        return Metric(
            name=self.name,
            digest=digest(identity),
            low=self.low,
            high=self.high,
            binary=self.binary,
            higher_is_better=self.higher_is_better,
            weighted=self.weight is not None,
            judge=self.judge.digest if self.judge else None,
        )


def judged(
    name: str, judge: Instrument, *, gate: Gate | None = None, check: Callable[[Sample], str | None] | None = None
) -> Scorer:
    """The scorer of a judge: its range is the judge's, and sessions ask the judge where they would call code."""

    def score(completion: Completion, sample: Sample) -> Score:
        raise ScorerError("is a judge's: it is asked by a session", where=f"scorer {name}, sample {sample.id}")

    return Scorer(name, score, low=judge.low, high=judge.high, gate=gate, check=check, judge=judge)


def apply(scorer: Scorer, completion: Completion, sample: Sample) -> Score:
    """Score one completion.

    An empty or unparseable text is the model's answer and scores as the scorer says; a fault of the scorer or of the
    engine is never a score.

    Args:
        scorer: whose `score` is called.
        completion: text with reasoning stripped, or log-likelihoods that align with the scorer's continuations.
        sample: the question.

    Raises:
        ScorerError: the completion is an error, or the scorer raised, or returned anything but a finite number in its
            declared range.
    """
    where = f"scorer {scorer.name}, sample {sample.id}"
    if completion.error is not None:
        raise ScorerError(f"there is no answer to score: {completion.error}", where=where)
    try:
        result = scorer.score(completion, sample)
        score = result if isinstance(result, Score) else Score(result)
        value = _number(score.value)
    except Exception as error:  # whatever a scorer does wrong is this metric's error and nobody else's
        what = str(error) if isinstance(error, EvalgateError) else f"{type(error).__name__}: {error}"
        raise ScorerError(f"raised {_brief(what)}", where=where) from error
    if value is None or not _allowed(scorer, value):
        raise ScorerError(f"returned {reprlib.repr(score.value)}, expected {_expected(scorer)}", where=where)
    return replace(score, value=value)


def _number(value: object) -> float | None:
    """A finite number as float, true and false as 1 and 0; scalars of numpy and torch know their Python value."""
    if not isinstance(value, Real) and callable(item := getattr(value, "item", None)):
        value = item()
    return float(value) if isinstance(value, Real) and math.isfinite(value) else None


def _allowed(scorer: Scorer, value: float) -> bool:
    if scorer.binary:
        return value in (scorer.low, scorer.high)
    return (scorer.low is None or value >= scorer.low) and (scorer.high is None or value <= scorer.high)


def _expected(scorer: Scorer) -> str:
    low, high = (f"{end:g}" if end is not None else None for end in (scorer.low, scorer.high))
    if scorer.binary:
        return f"{low} or {high}"
    return "a finite number" + (f" from {low}" if low else "") + (f" to {high}" if high else "")


def _brief(text: str, length: int = 300) -> str:
    """One line of bounded length: what a scorer says may quote a whole model output."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 1]}…"
