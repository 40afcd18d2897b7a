"""Scorers: completion and sample to score. Each may carry its own gate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from evalgate.digest import digest
from evalgate.evaluation import Metric

if TYPE_CHECKING:
    from evalgate.gate import Gate
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
    """Completion and sample to score; make one with `exact_match()`, `numeric()`, … or `function(f)`.

    Attributes:
        name: of the metric.
        score: called with a completion (its text with reasoning stripped) and the sample.
        low, high: range of the values; `high=None` is unbounded.
        binary: every value is `low` or `high`.
        higher_is_better: orientation.
        continuations: sample to the texts whose log-likelihood is asked for; `None` scores generated text.
        weight: sample to its weight in means (bytes, for bits per byte); `None` weighs all the same.
        gate: margin and floor; a scorer with a gate blocks.
        settings: what changes the score, as JSON values; in the digest.
        version: of the scorer's code; in the digest.
    """

    name: str
    score: Callable[[Completion, Sample], Score]
    low: float | None = 0.0
    high: float | None = 1.0
    binary: bool = False
    higher_is_better: bool = True
    continuations: Callable[[Sample], tuple[str, ...]] | None = None
    weight: Callable[[Sample], float] | None = None
    gate: Gate | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    version: int = 1

    @cached_property
    def metric(self) -> Metric:
        """The metric as records keep it."""
        identity = {"name": self.name, "version": self.version, "settings": dict(self.settings)}
        return Metric(
            name=self.name,
            digest=digest(identity),
            low=self.low,
            high=self.high,
            binary=self.binary,
            higher_is_better=self.higher_is_better,
            weighted=self.weight is not None,
        )
