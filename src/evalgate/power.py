"""Power before anything runs: what the samples of each blocking metric can see, and how many it would take.

Power is computed at the level really used. What is expected of the differences comes from the last comparison; before
the first one a spread is assumed, and said to be.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from evalgate.errors import RecordError

if TYPE_CHECKING:
    from evalgate.evaluation import Metric
    from evalgate.gate import Policy
    from evalgate.scoring import Scorer
    from evalgate.stats import PairedTest
    from evalgate.task import Sample, Task

ASSUMED_DISCORDANCE = 0.20  # share of questions that two checkpoints of one line answer differently, before it is known
Source = Literal["last comparison", "assumed", "noise floor", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What a comparison showed of a metric's differences.

    Attributes:
        loss, gain: questions on which the candidate was worse, and better.
        n: paired questions.
        clusters: independent groups of them, n where there are none.
        sd: of the differences, in the metric's own units.
        deff: design effect: by how much clusters and weights raise the variance of the mean, at least 1.
    """

    loss: int
    gain: int
    n: int
    clusters: int
    sd: float
    deff: float

    @classmethod
    def of(cls, test: PairedTest, alpha: float) -> Observed:
        """The part of a paired test that planning needs; `alpha` is the level of the test's interval.

        The design effect is read off that interval, which knows of clusters and weights; counted answers have neither.
        """
        from statistics import NormalDist

        means = test.sd and not test.method.startswith("mcnemar")
        error = (test.high - test.low) / 2 / NormalDist().inv_cdf(1 - alpha)
        deff = max(1.0, test.n * (error / test.sd) ** 2) if means else 1.0
        return cls(loss=test.loss, gain=test.gain, n=test.n, clusters=test.clusters, sd=test.sd, deff=deff)

    @classmethod
    def from_json(cls, value: Any, where: str) -> Observed:
        """What `as_json` wrote (RecordError for anything else)."""
        try:
            seen = cls(**value)
            counts = (seen.loss, seen.gain, seen.n, seen.clusters)
            good = all(type(count) is int and count >= 0 for count in counts) and 0 < seen.clusters <= seen.n
            good = good and seen.loss + seen.gain <= seen.n and 0 <= seen.sd < math.inf and 1 <= seen.deff < math.inf
        except TypeError:
            good = False
        if not good:
            names = ", ".join(field.name for field in fields(cls))
            raise RecordError(f"expected the numbers {names} of a comparison, found {value!r:.120}", where=where)
        return seen

    def as_json(self) -> dict[str, float]:
        """Its numbers by name, for the ledger."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A blocking metric that will be compared.

    Attributes:
        task: `suite/task`.
        scorer: of the metric.
        n: questions.
        clusters: groups of them that stand for themselves; `None` without clusters.
        generations: per question.
        baseline: the baseline's mean in the metric's own units, where there is one; only unbounded metrics need it.
        observed: the last comparison's numbers, if there was one.
    """

    task: str
    scorer: Scorer
    n: int
    clusters: int | None = None
    generations: int = 1
    baseline: float | None = None
    observed: Observed | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerLine:
    """What one blocking metric's samples can see; amounts are in the metric's own units.

    Attributes:
        task, metric: `suite/task`, and what is measured.
        n, clusters: questions, and groups of them that stand for themselves (`None` without clusters).
        min_n: fewer questions show a large drop at most.
        level: of its test, the strictest step of Holm's method.
        psi: expected share of questions answered differently; `None` where means are compared.
        sd: expected standard deviation of the differences; `None` where answers are counted, or nothing is known.
        deff: design effect of clusters and weights.
        source: where psi or sd come from.
        margin: largest tolerated drop; `None` for a share of a baseline that is not there yet.
        baseline: the baseline's mean where it is known.
        detectable: smallest drop that is found with the policy's power; `None` where sd is unknown.
        needed: samples that find a drop of the margin; `None` where either is unknown.
    """

    task: str
    metric: Metric
    n: int
    clusters: int | None
    min_n: int
    level: float
    psi: float | None
    sd: float | None
    deff: float
    source: Source
    margin: float | None
    baseline: float | None
    detectable: float | None
    needed: int | None

    @property
    def name(self) -> str:
        """`suite/task::metric`."""
        return f"{self.task}::{self.metric.name}"

    @property
    def undecidable(self) -> bool:
        """So few clusters that no result is significant: not even all of them worse (p = 2^-G)."""
        return self.clusters is not None and self.clusters < self.clusters_needed

    @property
    def clusters_needed(self) -> int:
        """Clusters from which a drop can be significant."""
        return math.ceil(-math.log2(self.level) - 1e-9)

    @property
    def too_few(self) -> bool:
        """Fewer samples than the policy asks for."""
        return self.n < self.min_n

    @property
    def blind(self) -> bool:
        """The smallest drop that is found exceeds the margin."""
        return self.detectable is not None and self.margin is not None and self.detectable > self.margin

    @property
    def underpowered(self) -> bool:
        """For any of these reasons a drop of the margin would go unnoticed."""
        return self.blind or self.undecidable or self.too_few

    @property
    def unknown(self) -> bool:
        """Nothing says yet how much the scores vary, or what the margin is a share of."""
        return self.detectable is None or self.margin is None


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerPlan:
    """The power of a family.

    Attributes:
        lines: one per blocking metric that will run.
        steps: tests of the family, also of those that will not run.
        alpha: level of the family.
        level: of the strictest single test.
        power: at which drops are found.
    """

    lines: tuple[PowerLine, ...]
    steps: int
    alpha: float
    level: float
    power: float

    @property
    def underpowered(self) -> tuple[PowerLine, ...]:
        """The lines that cannot see a drop of their margin."""
        return tuple(line for line in self.lines if line.underpowered)


def family_steps(family: Iterable[tuple[Task, Sequence[Sample]]]) -> int:
    """The tests that Holm's method steps through: one per blocking metric, and per value of its blocking slices.

    Args:
        family: every task that was collected, with the samples of those that will run.
    """

    def values(task: Task, samples: Sequence[Sample]) -> int:
        return sum(len({sample.slices[name] for sample in samples}) for name in task.blocking_slices)

    return sum(len(task.blocking) * (1 + values(task, samples)) for task, samples in family)


def strictest_level(alpha: float, steps: int) -> float:
    """The level of the strictest of so many tests: alpha alone, else Holm's first step beside the pooled test."""
    return alpha if steps <= 1 else alpha / 2 / steps


def plan_power(metrics: Sequence[Planned], policy: Policy, *, steps: int, flip_rate: float = 0.0) -> PowerPlan:
    """What every blocking metric will be able to see.

    Args:
        metrics: those that will run.
        policy: alpha, power, margins and minimum n.
        steps: tests of the whole family, `family_steps`.
        flip_rate: share of answers that a repeated run changes by itself, measured on the baseline (the noise floor).
    """
    level = strictest_level(policy.alpha, steps)
    lines = tuple(_line(planned, policy, level, flip_rate) for planned in metrics)
    return PowerPlan(lines=lines, steps=steps, alpha=policy.alpha, level=level, power=policy.power)


def _line(planned: Planned, policy: Policy, level: float, flip_rate: float) -> PowerLine:
    from evalgate.stats import minimum_detectable_effect, samples_needed

    metric, gate, wide = planned.scorer.metric, planned.scorer.gate, planned.scorer.metric.range
    declared = gate.margin if gate else None
    if wide is not None:
        margin: float | None = (declared or policy.margin) * wide
    else:
        margin = (declared or policy.bits_per_byte_margin) * abs(planned.baseline) if planned.baseline else None
    psi, sd, deff, source = _spread(planned, flip_rate)
    unit = wide if psi and wide else 1.0  # counted answers are planned in shares of the range
    level_and_power = {"alpha": level, "power": policy.power, "deff": deff}
    detectable = needed = None
    if psi or sd:
        detectable = unit * minimum_detectable_effect(planned.n, psi=psi, sd=sd, **level_and_power)
        detectable = detectable if wide is None else min(detectable, wide)
        if margin is not None:
            drop = margin / unit
            needed = samples_needed(drop, psi=psi and max(psi, drop), sd=sd, **level_and_power)
            needed = max(needed, policy.min_n)
    return PowerLine(
        task=planned.task,
        metric=metric,
        n=planned.n,
        clusters=planned.clusters,
        min_n=policy.min_n,
        level=level,
        psi=psi,
        sd=sd,
        deff=deff,
        source=source,
        margin=margin,
        baseline=planned.baseline,
        detectable=detectable,
        needed=needed,
    )


def _spread(planned: Planned, flip_rate: float) -> tuple[float | None, float | None, float, Source]:
    """What to expect of the differences: psi of counted answers or sd of means, the design effect, and their source.

    A comparison without any difference bounds psi, and says nothing about the spread of means.
    """
    from evalgate.stats import discordance_bound

    metric, seen = planned.scorer.metric, planned.observed
    counted = metric.binary and planned.generations == 1 and planned.clusters is None
    if seen and seen.sd and not counted:
        return None, seen.sd, seen.deff, "last comparison"
    if metric.range is None:
        return None, None, 1.0, "unknown"
    psi = ASSUMED_DISCORDANCE
    source: Source = "assumed"
    if seen and counted:
        psi, source = discordance_bound(seen.loss + seen.gain, seen.n), "last comparison"
    if flip_rate > psi:
        psi, source = flip_rate, "noise floor"
    # Of means: as if each of these questions went from one end of the range to the other.
    return (psi, None, 1.0, source) if counted else (None, math.sqrt(psi) * metric.range, 1.0, source)
