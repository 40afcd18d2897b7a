"""How verdicts are reached: the order of the rules, the levels of many tests at once, and the words for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from evalgate import text
from evalgate.compare import Comparison, compare, incomparable, paired
from evalgate.errors import EvalgateError
from evalgate.gate.policy import Family, Member, Outcome, Policy, Verdict

if TYPE_CHECKING:
    from evalgate.evaluation import Evaluation
    from evalgate.stats import PairedTest

MIN_COLLAPSED = 20  # as many equal outputs are no coincidence


def decide(members: Sequence[Member], policy: Policy) -> Family:
    """Reach every verdict of one checkpoint, and the overall one.

    Args:
        members: everything collected before `-k`, `-m` and `--lf`, also what did not run.
        policy: alpha, margins and rules.
    """
    from evalgate.stats import holm

    places = [place for place, member in enumerate(members) if member.blocking]
    steps = len(places)
    level = policy.alpha if steps <= 1 else policy.alpha / 2
    cases = _with_false_discovery_rates([_examine(member, policy) for member in members])
    adjusted = dict(zip(places, holm([_p_values(cases[place].test)[0] for place in places]), strict=True))
    verdicts = tuple(
        case.settled or _verdict(case, policy, p_adjusted=adjusted.get(place), level=level, steps=steps)
        for place, case in enumerate(cases)
        if case.member.ran
    )
    pooled = _pooled(cases, policy)
    partial = tuple(f"{member.task}::{member.metric}" for member in members if not member.ran)
    outcome, reason = _overall(verdicts, pooled, policy, steps)
    if partial:
        reason += f"; PARTIAL: {len(partial)} of {len(members)} metrics did not run"
    return Family(
        verdicts=verdicts,
        outcome=outcome,
        reason=reason,
        pooled=pooled,
        partial=partial,
        policy=policy,
        together=_together(pooled, policy),
    )


# ---------------------------------------------------------------------------------------------------------------------
# What can be compared at all


@dataclass(frozen=True, slots=True)
class _Case:
    """A member on its way: settled without statistics, or with a comparison to judge (neither, if it did not run)."""

    member: Member
    settled: Verdict | None = None
    comparison: Comparison | None = None
    anchor: Comparison | None = None
    asides: tuple[str, ...] = ()

    @property
    def test(self) -> PairedTest | None:
        return self.comparison.test if self.comparison else None


def _examine(member: Member, policy: Policy) -> _Case:
    """The rules that come before any statistics: ERROR, NO BASELINE, INCOMPARABLE."""
    if not member.ran:
        return _Case(member)
    candidate, baseline = member.candidate, member.baseline
    fault = _fault(member)
    if fault or candidate is None:
        return _settle(member, Outcome.ERROR, fault or "it was not evaluated")
    broken = [f"; {said}" for said in _floor(member, candidate)]
    if baseline is None:
        now = f"now {text.share(candidate.mean(member.metric))}  n={len(candidate.rows)}"
        return _settle(member, Outcome.NO_BASELINE, "".join((f"no baseline yet, {now}", *broken)))
    try:
        differences = incomparable(candidate, baseline, member.metric, strict=policy.engine == "strict")
        if differences:
            named = "; ".join(str(difference) for difference in differences)
            reason = "".join((f"not comparable with the baseline: {named}", *broken))
            return _settle(member, Outcome.INCOMPARABLE, reason)
        comparison = compare(candidate, baseline, member.metric, gate=member.gate, policy=policy, golden=member.golden)
        anchor, asides = _anchored(member, candidate, baseline, policy)
    except EvalgateError as error:
        return _settle(member, Outcome.ERROR, str(error))
    if comparison.same_weights:
        asides = ("A/A: the same checkpoint on both sides", *asides)
    return _Case(member, None, comparison, anchor, asides)


def _settle(member: Member, outcome: Outcome, reason: str) -> _Case:
    scored = member.candidate if outcome is not Outcome.ERROR else None  # an error is never a score
    verdict = Verdict(
        task=member.task,
        metric=member.metric,
        blocking=member.blocking,
        outcome=outcome,
        reason=reason,
        value=scored.mean(member.metric) if scored else None,
        spec=scored.metric(member.metric) if scored else None,
    )
    return _Case(member, verdict)


def _fault(member: Member) -> str | None:
    """Why there is no evaluation that could pass or fail."""
    candidate = member.candidate
    if member.error or candidate is None:
        return member.error
    there = [metric.name for metric in candidate.metrics]
    if member.metric not in there:
        return f"the evaluation has no metric {member.metric}; it has {', '.join(there) or 'none'}"
    rows, unscored = candidate.rows, candidate.unscored(member.metric)
    if not rows:
        return "the evaluation has no samples"
    if unscored:
        first = unscored[0]
        why = first.error or f"no score for {member.metric}"
        return f"{len(unscored)} of {len(rows)} samples have no score, the first is {first.id}: {why}"
    return _collapsed(candidate)


def _collapsed(candidate: Evaluation) -> str | None:
    """Every output the same, whatever was asked: that is no bad answer but a broken model or prompt."""
    rows = candidate.rows
    texts = (output for row in rows for output in row.outputs)
    first = next(texts, None)
    if first is None or len(rows) < MIN_COLLAPSED or any(output != first for output in texts):
        return None
    if all(row.target == rows[0].target for row in rows):
        return None
    return (
        f"all {len(rows)} outputs are {first[:40]!r}, though the targets differ: "
        "the weights are broken, or a stop text cuts every answer"
    )


def _floor(member: Member, candidate: Evaluation) -> list[str]:
    """What to say of a broken floor; nothing if there is none or it holds."""
    floor, value = member.gate.floor, candidate.mean(member.metric)
    if floor is None or math.isclose(value, floor, rel_tol=1e-12, abs_tol=1e-12):
        return []
    if candidate.metric(member.metric).higher_is_better:
        return [f"below its floor of {text.share(floor)}: {text.share(value)}"] if value < floor else []
    return [f"above the {text.share(floor)} allowed: {text.share(value)}"] if value > floor else []


def _anchored(
    member: Member, candidate: Evaluation, baseline: Evaluation, policy: Policy
) -> tuple[Comparison | None, tuple[str, ...]]:
    """The comparison with the line's first baseline, or why there is none."""
    anchor = member.anchor
    if anchor is None or anchor.digest == baseline.digest:
        return None, ()
    differences = incomparable(candidate, anchor, member.metric)
    if differences:
        return None, (f"drift is unknown, the anchor is not comparable: {differences[0]}",)
    return compare(candidate, anchor, member.metric, gate=member.gate, policy=policy), ()


# ---------------------------------------------------------------------------------------------------------------------
# One metric


def _p_values(test: PairedTest | None) -> tuple[float, float]:
    """p_reg and p_ni; both 1 for what was not compared.

    No p-value is smaller than the few clusters there are can show (2^-G), however equal their differences.
    """
    if test is None:
        return 1.0, 1.0
    least = 0.0 if test.method.startswith("mcnemar") else 2.0**-test.clusters
    return max(test.p_reg, least), max(test.p_ni, least)


def _verdict(case: _Case, policy: Policy, *, p_adjusted: float | None, level: float, steps: int) -> Verdict:
    """The first rule that applies to a comparison. A metric that only informs is tested by itself, at alpha."""
    member, comparison, candidate = case.member, case.comparison, case.member.candidate
    assert comparison is not None and candidate is not None  # noqa: S101, PT018  # _examine has settled the rest
    if not member.blocking:
        level, steps = policy.alpha, 1
    p_reg, p_ni = _p_values(comparison.test)
    held = p_reg if p_adjusted is None else p_adjusted
    worse, tested = held <= level, f"{text.p_value(held)} at level {text.probability(level)}"
    metric, test = comparison.metric, comparison.test
    margin = text.effect(comparison.margin, metric, comparison.baseline, sign=False)
    power = _power(comparison, level / steps, policy)

    broken = [*_floor(member, candidate), *_drift(case.anchor, policy)]
    if comparison.golden_broken:
        broken.insert(0, f"golden samples broke: {text.listed(comparison.golden_broken)}")
    if broken:
        outcome, why = Outcome.REGRESSION, "; ".join(broken)
    elif p_ni <= policy.alpha and test.n >= policy.min_n:
        outcome = Outcome.PASS
        why = f"significantly worse ({tested}), yet within {margin}" if worse else f"no more than {margin} worse"
    elif worse:
        outcome, why = Outcome.REGRESSION, f"worse: {tested}"
    else:
        outcome, why = Outcome.INCONCLUSIVE, _too_little(comparison, level / steps, policy, power)
    return Verdict(
        task=member.task,
        metric=member.metric,
        blocking=member.blocking,
        outcome=outcome,
        reason="; ".join((text.headline(comparison), why, *case.asides)),
        comparison=comparison,
        value=candidate.mean(member.metric),
        spec=metric,
        p_adjusted=p_adjusted,
        level=level,
        degraded=outcome is Outcome.PASS and worse,
        detectable=power.detectable if power else None,
        needed=power.needed if power and outcome is Outcome.INCONCLUSIVE else None,
        anchor=case.anchor,
    )


def _drift(anchor: Comparison | None, policy: Policy) -> list[str]:
    """What to say where tolerated drops have added up: even the interval's upper end lies beyond the margin."""
    if anchor is None or anchor.test.high >= -anchor.margin:
        return []
    if anchor.test.n < policy.min_n or _p_values(anchor.test)[0] > policy.alpha:
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


# ---------------------------------------------------------------------------------------------------------------------
# The family


def _with_false_discovery_rates(cases: list[_Case]) -> list[_Case]:
    """The same cases, every slice with its q-value over all slices of the family."""
    from evalgate.stats import benjamini_hochberg

    slices = [each for case in cases if case.comparison for each in case.comparison.slices]
    q_values = iter(benjamini_hochberg([each.p_reg for each in slices if each.p_reg is not None]))

    def filled(comparison: Comparison) -> Comparison:
        found = (part if part.p_reg is None else replace(part, q=next(q_values)) for part in comparison.slices)
        return replace(comparison, slices=tuple(found))

    return [replace(case, comparison=filled(case.comparison)) if case.comparison else case for case in cases]


def _pooled(cases: Sequence[_Case], policy: Policy) -> PairedTest | None:
    """All blocking metrics with a range at once, every task weighing the same; `None` with fewer than two."""
    from evalgate.stats import PooledMetric, pooled

    tests, questions = [], {}
    for case in cases:
        member, comparison = case.member, case.comparison
        if not member.blocking or comparison is None or member.candidate is None or member.baseline is None:
            continue
        if comparison.metric.range is None:
            continue
        pairs = paired(member.candidate, member.baseline, member.metric)
        clusters = pairs.positions if pairs.clusters is None else pairs.clusters
        tests.append(PooledMetric(member.task, pairs.difference / comparison.metric.range, clusters))
        if comparison.test.method.startswith("mcnemar"):
            questions[member.task] = comparison.test.n
    if len(tests) < 2:
        return None
    margin, tasks = policy.pooled_margin, {test.task for test in tests}
    test = pooled(tests, margin=margin, alpha=policy.alpha)
    # Right-or-wrong answers that fall by the margin differ by at least this much from sample to sample. Without it a
    # few questions, all answered as before, would have a standard error of 0 and prove whatever was asked.
    error = math.sqrt(sum(margin * (1 - margin) / n for n in questions.values())) / len(tasks)
    if not error:
        return test
    from statistics import NormalDist

    normal = NormalDist()
    p_ni = 1 - normal.cdf((test.delta + margin) / error)
    low = test.delta - normal.inv_cdf(1 - policy.alpha) * error
    return replace(test, p_ni=max(test.p_ni, p_ni), low=min(test.low, low))


def _together(pooled: PairedTest | None, policy: Policy) -> Outcome | None:
    """What the pooled test says by itself; `None` where there is none."""
    if pooled is None:
        return None
    p_reg, p_ni = _p_values(pooled)
    if p_ni <= policy.alpha and pooled.n >= policy.min_n:
        return Outcome.PASS
    return Outcome.REGRESSION if p_reg <= policy.alpha / 2 else Outcome.INCONCLUSIVE


def _overall(verdicts: Sequence[Verdict], pooled: PairedTest | None, policy: Policy, steps: int) -> tuple[Outcome, str]:
    """Section 5 of the procedure: the overall outcome, and one line that says why."""
    blocking = [verdict for verdict in verdicts if verdict.blocking]
    if not blocking:
        return Outcome.INCONCLUSIVE, "no blocking metric ran"
    if steps == 1:
        return blocking[0].outcome, blocking[0].reason
    named = {outcome: [f"{v.task}::{v.metric}" for v in blocking if v.outcome is outcome] for outcome in Outcome}
    numbers, no_worse, worse = "", False, False
    if pooled:
        shared = [v for v in blocking if v.comparison and v.comparison.metric.range is not None]
        margin, level = text.points(policy.pooled_margin, sign=False), policy.alpha / 2
        ends = (text.points(end).split()[0] for end in (pooled.low, pooled.high))
        numbers = f"pooled {text.points(pooled.delta)} [{', '.join(ends)}] over {len(shared)} metrics"
        no_worse, worse = (_together(pooled, policy) is outcome for outcome in (Outcome.PASS, Outcome.REGRESSION))
    for outcome in (Outcome.ERROR, Outcome.REGRESSION, Outcome.INCOMPARABLE, Outcome.NO_BASELINE):
        if named[outcome]:
            reason = f"{len(named[outcome])} of {len(blocking)} metrics {outcome}: {text.listed(named[outcome])}"
            return outcome, f"{reason}; {numbers}" if numbers else reason
        if outcome is Outcome.REGRESSION and worse and pooled:
            tested = f"{text.p_value(pooled.p_reg)} at level {text.probability(level)}"
            return outcome, f"{numbers}: worse together, {tested}"
    undecided = named[Outcome.INCONCLUSIVE]
    alone = f"{len(undecided)} of {len(blocking)} metrics undecided: {text.listed(undecided)}" if undecided else ""
    if policy.pass_rule == "all" or pooled is None:
        outcome = Outcome.INCONCLUSIVE if undecided else Outcome.PASS
        reason = alone or f"all {len(blocking)} metrics pass"
        return outcome, f"{reason}; {numbers}" if numbers else reason
    outcome = Outcome.PASS if no_worse else Outcome.INCONCLUSIVE
    reason = f"{numbers}: " + (f"no more than {margin} worse" if no_worse else f"cannot exclude a drop of {margin}")
    return outcome, f"{reason}; {alone}" if alone else reason
