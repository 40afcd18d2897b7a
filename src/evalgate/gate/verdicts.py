"""The verdict of one metric: the first rule that applies to its comparison, and the words for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalgate import text
from evalgate.compare import Comparison, SliceResult
from evalgate.gate.examine import Case, floor
from evalgate.gate.policy import CONFIRM, Outcome, Policy, Verdict

if TYPE_CHECKING:
    from evalgate.stats import PairedTest


def p_values(test: PairedTest | None) -> tuple[float, float]:
    """p_reg and p_ni that verdicts are read from; both 1 for what was not compared."""
    return (1.0, 1.0) if test is None else test.p_values


def reach(case: Case, policy: Policy, *, p_adjusted: float | None, level: float, steps: int) -> Verdict:
    """The verdict on a comparison. A metric that only informs is tested by itself, at alpha."""
    member, comparison = case.member, case.comparison
    assert comparison is not None  # noqa: S101  # examine has settled the rest
    if not member.blocking:
        level, steps = policy.alpha, 1
    p_reg, p_ni = p_values(comparison.test)
    held = p_reg if p_adjusted is None else p_adjusted
    worse, tested = held <= level, f"{text.p_value(held)} at level {text.probability(level)}"
    metric, test = comparison.metric, comparison.test
    margin = text.effect(comparison.margin, metric, comparison.baseline, sign=False)
    power = _power(comparison, level / steps, policy)
    final = case.look is None or case.look[0] == case.look[1]

    value = comparison.candidate if case.value is None else case.value
    broken = [*floor(member, metric, value), *_drift(case.anchor, policy), *_slices(comparison, level, policy)]
    if comparison.golden_broken:
        broken.insert(0, f"golden samples broke: {text.listed(comparison.golden_broken)}")
    pending = False
    if broken:
        outcome, why = Outcome.REGRESSION, "; ".join(broken)
    elif final and p_ni <= policy.alpha and test.n >= policy.min_n:
        outcome = Outcome.PASS
        why = f"significantly worse ({tested}), yet within {margin}" if worse else f"no more than {margin} worse"
    elif worse:
        outcome, why = Outcome.REGRESSION, f"worse: {tested}"
        if policy.reserve == "confirm" and member.blocking:
            pending = case.reserve
            outcome, why = _confirmed(case.confirmation, why)
    else:
        outcome, why = Outcome.INCONCLUSIVE, _too_little(comparison, level / steps, policy, power)
        pending = case.reserve and case.look is not None and member.blocking  # a reserve that confirms decides nothing
    if case.look:
        why += f"; look {case.look[0]} of {case.look[1]} at the reserve"
    asides = (*case.asides, *member.asides)
    if metric.judge and not test.labelled and not member.asides:
        asides = (*asides, "uncalibrated judge: no human labels say how far it errs")
    return Verdict(
        task=member.task,
        metric=member.metric,
        blocking=member.blocking,
        outcome=outcome,
        reason="; ".join((text.headline(comparison), why, *asides)),
        comparison=comparison,
        value=value,
        spec=metric,
        p_adjusted=p_adjusted,
        level=level,
        degraded=outcome is Outcome.PASS and worse,
        detectable=power.detectable if power else None,
        needed=power.needed if power and outcome is Outcome.INCONCLUSIVE else None,
        anchor=case.anchor,
        look=case.look,
        confirmation=case.confirmation,
        wants_reserve=pending,
        asides=member.asides,
    )


def _confirmed(confirmation: Comparison | None, why: str) -> tuple[Outcome, str]:
    """A regression stands unless samples that had no part in finding it fail to show it."""
    if confirmation is None:
        return Outcome.REGRESSION, why
    held = p_values(confirmation.test)[0]
    said = f"the reserve: {text.headline(confirmation)}, {text.p_value(held)} at level {text.probability(CONFIRM)}"
    if held <= CONFIRM:
        return Outcome.REGRESSION, f"{why}; confirmed on {said}"
    return Outcome.INCONCLUSIVE, f"{why}; not confirmed on {said}"


def _slices(comparison: Comparison, level: float, policy: Policy) -> list[str]:
    """What to say of slices that are gated by themselves and got worse by more than may be."""

    def holds(part: SliceResult) -> bool:
        return part.p_ni is not None and part.p_ni <= policy.alpha and part.n >= policy.min_n

    metric, before = comparison.metric, comparison.baseline
    unit = metric.range or abs(before)
    return [
        f"slice {part.name}={part.value} worse: {text.effect(part.delta * unit, metric, before)} (n={part.n}), "
        f"{text.p_value(part.p_adjusted)} at level {text.probability(level)}"
        for part in comparison.slices
        if part.blocking and part.p_adjusted is not None and part.p_adjusted <= level and not holds(part)
    ]


def _drift(anchor: Comparison | None, policy: Policy) -> list[str]:
    """What to say where tolerated drops have added up: even the interval's upper end lies beyond the margin."""
    if anchor is None or anchor.test.high >= -anchor.margin:
        return []
    if anchor.test.n < policy.min_n or p_values(anchor.test)[0] > policy.alpha:
        return []
    return [f"drifted from the anchor: {text.headline(anchor)}"]


@dataclass(frozen=True, slots=True)
class _Power:
    """The smallest drop these samples would show, and how many would decide a drop; own units of the metric."""

    detectable: float
    needed: int
    drop: float


def _power(comparison: Comparison, level: float, policy: Policy) -> _Power | None:
    """What can be seen, and what it would take to decide.

    What decides is to find a drop of the margin. Where there are samples enough for that, the truth seems to lie
    between no drop and the margin, and it takes telling what was observed from the farther of the two. `None` where
    nothing varies, so that nothing says how much it could.
    """
    from statistics import NormalDist

    from evalgate.stats import discordance_bound, minimum_detectable_effect, samples_needed

    test, wide = comparison.test, comparison.metric.range
    if test.method.startswith("mcnemar") and wide:
        psi = discordance_bound(test.loss + test.gain, test.n)
        detectable = wide * minimum_detectable_effect(test.n, psi=psi, alpha=level, power=policy.power)

        def needed(drop: float) -> int:
            return samples_needed(drop / wide, psi=max(psi, drop / wide), alpha=level, power=policy.power)
    elif test.sd:
        # What clusters and weights make of the standard error, read off the interval.
        error = (test.high - test.low) / 2 / NormalDist().inv_cdf(1 - policy.alpha)
        deff = max(1.0, test.n * (error / test.sd) ** 2)
        detectable = minimum_detectable_effect(test.n, sd=test.sd, alpha=level, power=policy.power, deff=deff)

        def needed(drop: float) -> int:
            return samples_needed(drop, sd=test.sd, alpha=level, power=policy.power, deff=deff)
    else:
        return None
    drop = comparison.margin
    if needed(drop) <= test.n:
        drop = max(abs(test.delta), test.delta + drop)
    return _Power(detectable, max(needed(drop), test.n + 1, policy.min_n), drop)


def _too_little(comparison: Comparison, level: float, policy: Policy, power: _Power | None) -> str:
    """What keeps a metric from being decided, and what would decide it."""
    metric, test, before = comparison.metric, comparison.test, comparison.baseline
    said = []
    if test.n < policy.min_n:
        said.append(f"a verdict needs {policy.min_n} samples")
    if test.clusters < test.n and 2.0**-test.clusters > level:
        said.append(f"{test.clusters} clusters can never show a drop at level {text.probability(level)}")
    if power:
        seen, drop = (text.effect(size, metric, before, sign=False) for size in (power.detectable, power.drop))
        said.append(f"can see drops of {seen} at n={test.n}; {power.needed} samples would decide {drop}")
    return "; ".join(said)
