"""The past, as trends need it: one verdict on one version, and the numbers of its metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evalgate.digest import digest


@dataclass(frozen=True, slots=True)
class PastMetric:
    """One metric of one verdict.

    Attributes:
        outcome: see `Outcome`.
        blocking: whether it could fail the build.
        value: mean in the metric's own units, `None` without an evaluation.
        baseline: the baseline's, `None` where nothing was compared.
        low, high: interval of the difference to the baseline in the metric's own units, minus is always worse.
        n: samples compared.
        measure: digest of eval data, prompt, sampling and scorer: values of different measures are no trend.
        higher_is_better: orientation.
        range: width of the declared range, `None` where it is unbounded.
    """

    outcome: str
    blocking: bool
    value: float | None = None
    baseline: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    measure: str = ""
    higher_is_better: bool = True
    range: float | None = 1.0


@dataclass(frozen=True, slots=True)
class Past:
    """The newest verdict on one version.

    Attributes:
        name: of the checkpoint.
        digest: of its content.
        outcome: of all metrics together.
        blocked: whether the policy in force blocked it.
        reason: one line.
        at: UTC time, ISO 8601.
        metrics: "suite/task::metric" to numbers.
        partial: metrics that were collected and did not run.
        aliases: that point at this content now, such as `champion`.
        baseline: for how many of its tasks its evaluation is the accepted baseline now.
        card: its card, relative to the folder of reports; `None` where there is none.
    """

    name: str
    digest: str
    outcome: str
    blocked: bool
    reason: str
    at: str
    metrics: Mapping[str, PastMetric] = field(default_factory=dict)
    partial: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    baseline: int = 0
    card: str | None = None


def measure_of(identity: Mapping[str, Any], metric: str) -> str:
    """What a metric's value measures: eval data, prompt, sampling, scorer and judge, whatever checkpoint was asked.

    Args:
        identity: of the evaluation (`Evaluation.identity`).
        metric: its name.
    """
    spec = next((each for each in identity["metrics"] if each["name"] == metric), None)
    return digest([spec, *(identity[name] for name in ("task", "samples", "prompt", "sampling"))])
