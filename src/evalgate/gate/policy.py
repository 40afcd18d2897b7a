"""The words of the gate: outcomes, what a metric must hold, the policy, members of a family and their verdicts."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from evalgate.errors import ConfigError, TaskError

if TYPE_CHECKING:
    from evalgate.compare import Comparison, Labels
    from evalgate.evaluation import Evaluation, Metric
    from evalgate.stats import PairedTest

CONFIRM = 0.05  # level at which a regression is confirmed on samples that had no part in finding it
SLICE_Q = 0.10  # slices with a q-value up to here are worth a warning


class Outcome(StrEnum):
    """What a verdict says."""

    PASS = "PASS"
    REGRESSION = "REGRESSION"
    INCONCLUSIVE = "INCONCLUSIVE"
    INCOMPARABLE = "INCOMPARABLE"
    NO_BASELINE = "NO BASELINE"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What a metric must hold.

    Attributes:
        margin: largest drop that is tolerated, a share of the metric's declared range (0.02 is two points); for bits
            per byte a share of the baseline's value. `None` takes the policy's default.
        floor: absolute bound in the metric's own units that holds with or without a baseline (for a metric where lower
            is better, the highest value allowed).
    """

    margin: float | None = None
    floor: float | None = None

    def __post_init__(self) -> None:
        margin = self.margin
        if margin is not None and not (isinstance(margin, int | float) and 0 < margin <= 1):
            raise TaskError(
                f"Gate(margin={margin!r}): a margin is a share of the metric's range above 0 and up to 1",
                mend="Five points are margin=0.05.",
            )
        if self.floor is not None and not (isinstance(self.floor, int | float) and math.isfinite(self.floor)):
            raise TaskError(f"Gate(floor={self.floor!r}): expected a finite number in the metric's own units")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How verdicts are reached; never identity, so tightening it invalidates no baseline.

    Attributes:
        alpha: level of the family of blocking metrics.
        power: at which minimum detectable effects and samples needed are computed.
        margin: default margin of a metric, a share of its range.
        bits_per_byte_margin: default margin of weighted unbounded metrics, a share of the baseline's value.
        pooled_margin: of the pooled test, a share of the range.
        min_n: fewer samples can only be inconclusive, unless the regression is significant.
        inconclusive: `warn` lets an inconclusive metric pass with a warning, `fail` does not.
        engine: `warn` names a baseline made by another engine, version, dtype or device; `strict` refuses it.
        pass_rule: `pooled`, or `all`: every blocking metric must show non-inferiority by itself.
        reserve: what the samples that a task keeps back are for in this run: `keep` leaves them alone, `top-up` draws
            them in steps and looks after each, `confirm` lets a regression stand only where it shows on them too.
    """

    alpha: float = 0.05
    power: float = 0.80
    margin: float = 0.05
    bits_per_byte_margin: float = 0.01
    pooled_margin: float = 0.02
    min_n: int = 30
    inconclusive: str = "warn"
    pass_rule: str = "pooled"
    engine: str = "warn"
    reserve: str = "keep"

    def __post_init__(self) -> None:
        for name, expected, good in (
            ("alpha", "a level above 0 and below .5", 0 < self.alpha < 0.5),
            ("power", "a probability from .5 to below 1", 0.5 <= self.power < 1),
            ("margin", "a share above 0 and up to 1", 0 < self.margin <= 1),
            ("bits_per_byte_margin", "a share above 0 and up to 1", 0 < self.bits_per_byte_margin <= 1),
            ("pooled_margin", "a share above 0 and up to 1", 0 < self.pooled_margin <= 1),
            ("min_n", "5 or more", self.min_n >= 5),
            ("inconclusive", "'warn' or 'fail'", self.inconclusive in ("warn", "fail")),
            ("pass_rule", "'pooled' or 'all'", self.pass_rule in ("pooled", "all")),
            ("engine", "'warn' or 'strict'", self.engine in ("warn", "strict")),
            ("reserve", "'keep', 'top-up' or 'confirm'", self.reserve in ("keep", "top-up", "confirm")),
        ):
            if not good:
                raise ConfigError(f"{name} is {getattr(self, name)!r}, expected {expected}", where="policy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One metric of one task as the gate sees it, whether it ran or not.

    Attributes:
        task: `suite/task`.
        metric: name of the scorer.
        blocking: whether it can fail the build.
        gate: its margin and floor.
        golden: ids that must not break.
        blocking_slices: names of slices that are gated by themselves.
        labels: what people say of outputs, see `compare`.
        last_look: step that draws the last of the task's reserve, 0 without one.
        ran: `False` for what was collected, then deselected: it counts in the family with p = 1, shown as PARTIAL.
        candidate: the evaluation, if there is one.
        baseline: the accepted evaluation, if there is one.
        anchor: the first accepted evaluation of the baseline's line, if there is another.
        error: why there is no (usable) candidate evaluation; an error is never a score.
        leaked: ids of samples that stand in the candidate's training text; those that an evaluation itself names count
            as well, whichever side it is.
        asides: what is said beside the verdict, whatever it is.
        relative: whether the metric prefers one side's answers to the other's: without a baseline there is none.
    """

    task: str
    metric: str
    blocking: bool
    gate: Gate
    golden: tuple[str, ...] = ()
    blocking_slices: tuple[str, ...] = ()
    labels: Labels = field(default_factory=dict)
    last_look: int = 0
    ran: bool = True
    candidate: Evaluation | None = None
    baseline: Evaluation | None = None
    anchor: Evaluation | None = None
    error: str | None = None
    leaked: frozenset[str] = frozenset()
    asides: tuple[str, ...] = ()
    relative: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the gate says of one member.

    Attributes:
        task, metric, blocking: of the member.
        outcome: see `Outcome`.
        reason: one line that says why, with numbers.
        comparison: `None` where nothing could be compared.
        value: the candidate's mean in the metric's own units, `None` without an evaluation.
        spec: what was measured, `None` without an evaluation.
        p_adjusted: Holm-adjusted p_reg over the blocking metrics; `None` for metrics that only inform.
        level: what p_adjusted is held against.
        degraded: passes within the margin, yet significantly worse.
        detectable: minimum detectable effect at this n and level, in the metric's own units, if compared.
        needed: samples that would decide, where the outcome is INCONCLUSIVE.
        anchor: the comparison with the line's first accepted evaluation, where there is another than the baseline.
        look: (this look, the last one) where the task's reserve is drawn in steps.
        confirmation: the comparison on the reserve, where a regression had to be confirmed there.
        wants_reserve: samples of the reserve that were not drawn yet could change what is said.
        leaked: how many of the samples stand in training text.
        clean: the verdict where these are left out; `None` without any.
        asides: what the member is said to be, such as the metric of a judge that is not calibrated.
    """

    task: str
    metric: str
    blocking: bool
    outcome: Outcome
    reason: str
    comparison: Comparison | None = None
    value: float | None = None
    spec: Metric | None = None
    p_adjusted: float | None = None
    level: float | None = None
    degraded: bool = False
    detectable: float | None = None
    needed: int | None = None
    anchor: Comparison | None = None
    look: tuple[int, int] | None = None
    confirmation: Comparison | None = None
    wants_reserve: bool = False
    leaked: int = 0
    clean: Verdict | None = None
    asides: tuple[str, ...] = ()

    def fails(self, policy: Policy) -> bool:
        """Whether the metric's own test fails: never where it only informs."""
        return self.blocking and _fails(self.outcome, policy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """All verdicts of one checkpoint.

    Attributes:
        verdicts: in the order of the members that ran.
        outcome: overall.
        reason: one line.
        pooled: the pooled test over blocking metrics with a range, in shares of the range; `None` with fewer than two.
        together: what the pooled test says by itself.
        partial: `task::metric` of members that did not run.
        policy: in force.
        wants_reserve: tasks of which more samples should be drawn before this is the last word.
        clean: the pooled test on the samples that no side was trained on; `None` where nothing leaked.
    """

    verdicts: tuple[Verdict, ...]
    outcome: Outcome
    reason: str
    pooled: PairedTest | None
    partial: tuple[str, ...]
    policy: Policy
    together: Outcome | None = None
    wants_reserve: tuple[str, ...] = ()
    clean: PairedTest | None = None

    def fails(self, policy: Policy) -> bool:
        """Whether the checkpoint as a whole is blocked."""
        return _fails(self.outcome, policy)

    def fails_together(self, policy: Policy) -> bool:
        """Whether the test of all metrics together fails, by what it says itself and not by what single metrics say."""
        return _fails(self.together or self.outcome, policy)


def _fails(outcome: Outcome, policy: Policy) -> bool:
    if outcome is Outcome.INCONCLUSIVE:
        return policy.inconclusive == "fail"
    return outcome is not Outcome.PASS
