"""All verdicts of one checkpoint: the levels of many tests at once, the pooled test, the overall outcome."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from evalgate import text
from evalgate.compare import Comparison
from evalgate.gate.clean import on_both
from evalgate.gate.examine import Case, examine
from evalgate.gate.policy import CONFIRM, Family, Member, Outcome, Policy, Verdict
from evalgate.gate.verdicts import p_values, reach

if TYPE_CHECKING:
    from evalgate.stats import PairedTest


def decide(members: Sequence[Member], policy: Policy) -> Family:
    """Reach every verdict of one checkpoint, and the overall one.

    Args:
        members: everything collected before `-k`, `-m` and `--lf`, also what did not run.
        policy: alpha, margins and rules.
    """
    cases = [examine(member, policy) for member in members]
    if not any(case.leaked for case in cases):
        return decide_cases(cases, policy)
    clean = [examine(case.member, policy, clean=True) if case.leaked else case for case in cases]
    return decide_cases(cases, policy, clean)


def decide_cases(cases: Sequence[Case], policy: Policy, clean: Sequence[Case] | None = None) -> Family:
    """The same, where it is known what can be compared, on all samples and, where some leaked, on the clean ones."""
    verdicts, pooled = _judged(cases, policy)
    together, doubt = _together(pooled, cases, policy)
    pooled_clean = None
    if clean is not None:
        verdicts_clean, pooled_clean = _judged(clean, policy)
        ran = [case for case in cases if case.member.ran]
        verdicts = tuple(on_both(*each) for each in zip(ran, verdicts, verdicts_clean, strict=True))
        together, doubt = _together_on_both(together, _together(pooled_clean, clean, policy)[0], doubt)
    partial = tuple(f"{case.member.task}::{case.member.metric}" for case in cases if not case.member.ran)
    blocking = sum(case.member.blocking for case in cases)
    outcome, reason = _overall(verdicts, pooled, together, policy, blocking)
    reason += doubt
    if partial:
        reason += f"; PARTIAL: {len(partial)} of {len(cases)} metrics did not run"
    more = {verdict.task for verdict in verdicts if verdict.wants_reserve}
    if together is Outcome.REGRESSION and policy.reserve == "confirm":
        more |= {case.member.task for case in cases if case.reserve}
    return Family(
        verdicts=verdicts,
        outcome=outcome,
        reason=reason,
        pooled=pooled,
        partial=partial,
        policy=policy,
        together=together,
        wants_reserve=tuple(sorted(more)),
        clean=pooled_clean,
    )


def _judged(cases: Sequence[Case], policy: Policy) -> tuple[tuple[Verdict, ...], PairedTest | None]:
    """The verdicts on the members that ran, and the pooled test."""
    blocking = [case for case in cases if case.member.blocking]
    steps = len(blocking) + sum(case.slices for case in blocking)
    level = policy.alpha if steps <= 1 else policy.alpha / 2
    cases, adjusted = _adjusted(_with_false_discovery_rates(cases))
    verdicts = tuple(
        case.settled or reach(case, policy, p_adjusted=adjusted[place], level=level, steps=steps)
        for place, case in enumerate(cases)
        if case.member.ran
    )
    return verdicts, _pooled([(case, case.comparison) for case in cases if case.comparison], policy)


def expected_false_alarms(members: Sequence[Member], policy: Policy, runs: int = 30) -> float:
    """How often a model that never changed would be blocked in so many runs, each of a new candidate.

    A regression that must show again, at level `CONFIRM`, on a reserve that had no part in finding it is a false alarm
    so much less often; where one blocking metric has no reserve on both sides that is not counted on.
    """
    blocking = [member for member in members if member.blocking]
    kept = all(member.last_look and member.baseline and member.baseline.look for member in blocking)
    return runs * policy.alpha * (CONFIRM if policy.reserve == "confirm" and blocking and kept else 1.0)


def _adjusted(cases: Sequence[Case]) -> tuple[list[Case], list[float | None]]:
    """Holm over the blocking metrics and blocking slices; what did not run, or was not compared, counts with p = 1."""
    from evalgate.stats import holm

    rows: list[tuple[int, int | None, float]] = []  # which case, which of its slices, p
    for place, case in enumerate(cases):
        if not case.member.blocking:
            continue
        rows.append((place, None, p_values(case.test)[0]))
        parts = case.comparison.slices if case.comparison else ()
        gated = [number for number, part in enumerate(parts) if part.blocking]
        for number in gated:
            p = parts[number].p_reg
            rows.append((place, number, 1.0 if p is None else p))
        rows += [(place, -1, 1.0)] * (case.slices - len(gated))
    own: list[float | None] = [None] * len(cases)
    found: dict[int, dict[int, float]] = {}
    for (place, part, _), p in zip(rows, holm([p for *_, p in rows]), strict=True):
        if part is None:
            own[place] = p
        else:
            found.setdefault(place, {})[part] = p

    def filled(case: Case, by_number: dict[int, float]) -> Case:
        if not by_number or not case.comparison:
            return case
        parts = (replace(part, p_adjusted=by_number.get(i)) for i, part in enumerate(case.comparison.slices))
        return replace(case, comparison=replace(case.comparison, slices=tuple(parts)))

    return [filled(case, found.get(place, {})) for place, case in enumerate(cases)], own


def _with_false_discovery_rates(cases: Sequence[Case]) -> list[Case]:
    """The same cases, every slice with its q-value over all slices of the family."""
    from evalgate.stats import benjamini_hochberg

    slices = [each for case in cases if case.comparison for each in case.comparison.slices]
    q_values = iter(benjamini_hochberg([each.p_reg for each in slices if each.p_reg is not None]))

    def filled(comparison: Comparison) -> Comparison:
        found = (part if part.p_reg is None else replace(part, q=next(q_values)) for part in comparison.slices)
        return replace(comparison, slices=tuple(found))

    return [replace(case, comparison=filled(case.comparison)) if case.comparison else case for case in cases]


def _unit(comparison: Comparison) -> float | None:
    """What its differences are divided by in the pool; `None` without a range, or where labels corrected them."""
    return None if comparison.test.labelled else comparison.metric.range


def _pooled(pairs: Sequence[tuple[Case, Comparison]], policy: Policy) -> PairedTest | None:
    """All blocking metrics that can be pooled at once, every task weighing the same; `None` with fewer than two."""
    import numpy as np

    from evalgate.stats import PooledMetric, pooled

    tests, questions = [], {}
    for case, comparison in pairs:
        unit = _unit(comparison)
        if not case.member.blocking or unit is None:
            continue
        found, task = comparison.pairs, case.member.task
        clusters = found.positions if found.clusters is None else found.clusters
        tests.append(PooledMetric(task, found.difference / unit, np.asarray(clusters)))
        if comparison.test.method.startswith("mcnemar"):
            questions[task] = comparison.test.n
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


def _together(pooled: PairedTest | None, cases: Sequence[Case], policy: Policy) -> tuple[Outcome | None, str]:
    """What the pooled test says by itself, `None` where there is none; and what the reserve says against it."""
    if pooled is None:
        return None, ""
    p_reg, p_ni = p_values(pooled)
    if p_ni <= policy.alpha and pooled.n >= policy.min_n:
        return Outcome.PASS, ""
    if p_reg > policy.alpha / 2:
        return Outcome.INCONCLUSIVE, ""
    shared = [case for case in cases if case.member.blocking and case.comparison and _unit(case.comparison)]
    if policy.reserve == "confirm" and all(case.confirmation for case in shared):
        again = _pooled([(case, case.confirmation) for case in shared if case.confirmation], policy)
        if again and p_values(again)[0] > CONFIRM:
            said = f"{text.points(again.delta)}, {text.p_value(again.p_reg)} at level {text.probability(CONFIRM)}"
            return Outcome.INCONCLUSIVE, f"; worse together, not confirmed on the reserve: {said}"
    return Outcome.REGRESSION, ""


def _together_on_both(whole: Outcome | None, clean: Outcome | None, doubt: str) -> tuple[Outcome | None, str]:
    """The pooled test where samples leaked: one that says another thing on the clean ones says nothing."""
    if whole is clean or whole is None:
        return whole, doubt
    said = f"; together {whole} on all samples, {clean or 'not to be tested'} on the clean ones"
    return Outcome.INCOMPARABLE, doubt + said


def _overall(
    verdicts: Sequence[Verdict], pooled: PairedTest | None, together: Outcome | None, policy: Policy, steps: int
) -> tuple[Outcome, str]:
    """Section 5 of the procedure: the overall outcome, and one line that says why."""
    blocking = [verdict for verdict in verdicts if verdict.blocking]
    if not steps:
        said = "none of these metrics blocks: this is no gate (a judge blocks once it is calibrated)"
        return Outcome.INCONCLUSIVE, said
    if not blocking:
        return Outcome.INCONCLUSIVE, "no blocking metric ran"
    if steps == 1:
        return blocking[0].outcome, blocking[0].reason
    named = {outcome: [f"{v.task}::{v.metric}" for v in blocking if v.outcome is outcome] for outcome in Outcome}
    numbers, no_worse, worse = "", False, False
    if pooled:
        shared = [v for v in blocking if v.comparison and _unit(v.comparison)]
        margin, level = text.points(policy.pooled_margin, sign=False), policy.alpha / 2
        ends = (text.points(end).split()[0] for end in (pooled.low, pooled.high))
        numbers = f"pooled {text.points(pooled.delta)} [{', '.join(ends)}] over {len(shared)} metrics"
        no_worse, worse = (together is outcome for outcome in (Outcome.PASS, Outcome.REGRESSION))
    for outcome in (Outcome.ERROR, Outcome.REGRESSION, Outcome.INCOMPARABLE, Outcome.NO_BASELINE):
        if named[outcome]:
            reason = f"{len(named[outcome])} of {len(blocking)} metrics {outcome}: {text.listed(named[outcome])}"
            return outcome, f"{reason}; {numbers}" if numbers else reason
        if outcome is Outcome.REGRESSION and worse and pooled:
            tested = f"{text.p_value(pooled.p_reg)} at level {text.probability(level)}"
            return outcome, f"{numbers}: worse together, {tested}"
        if outcome is Outcome.INCOMPARABLE and together is outcome:
            return outcome, f"{numbers}: not the same on samples that leaked"
    undecided = named[Outcome.INCONCLUSIVE]
    alone = f"{len(undecided)} of {len(blocking)} metrics undecided: {text.listed(undecided)}" if undecided else ""
    if policy.pass_rule == "all" or pooled is None:
        outcome = Outcome.INCONCLUSIVE if undecided else Outcome.PASS
        reason = alone or (
            "the one metric that ran passes" if len(blocking) == 1 else f"all {len(blocking)} metrics pass"
        )
        return outcome, f"{reason}; {numbers}" if numbers else reason
    outcome = Outcome.PASS if no_worse else Outcome.INCONCLUSIVE
    reason = f"{numbers}: " + (f"no more than {margin} worse" if no_worse else f"cannot exclude a drop of {margin}")
    return outcome, f"{reason}; {alone}" if alone else reason
