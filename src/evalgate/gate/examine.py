"""What can be compared at all: the rules that come before any statistics."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from evalgate import text
from evalgate.compare import Comparison, compare, incomparable
from evalgate.errors import EvalgateError
from evalgate.gate.policy import Member, Outcome, Policy, Verdict

if TYPE_CHECKING:
    from evalgate.evaluation import Evaluation, Metric
    from evalgate.stats import PairedTest

MIN_COLLAPSED = 20  # as many equal outputs are no coincidence


@dataclass(frozen=True, slots=True)
class Case:
    """A member on its way: settled without statistics, or with a comparison to judge (neither, if it did not run).

    Attributes:
        member: what is judged.
        settled: ERROR, NO BASELINE or INCOMPARABLE.
        comparison: with the baseline.
        value: the candidate's mean over all its samples that are in play, in the metric's own units.
        anchor: comparison with the line's first baseline.
        confirmation: comparison on the reserve, where that is what the reserve is for.
        look: (this look, the last one) where the reserve is drawn in steps.
        reserve: whether both sides could have more samples than they have.
        asides: what to say besides.
        leaked: ids of its samples that stand in training text; they are left out where `clean` was asked for.
    """

    member: Member
    settled: Verdict | None = None
    comparison: Comparison | None = None
    value: float | None = None
    anchor: Comparison | None = None
    confirmation: Comparison | None = None
    look: tuple[int, int] | None = None
    reserve: bool = False
    asides: tuple[str, ...] = ()
    leaked: frozenset[str] = frozenset()

    @property
    def test(self) -> PairedTest | None:
        """The comparison's test."""
        return self.comparison.test if self.comparison else None

    @property
    def slices(self) -> int:
        """How many slices of it are gated by themselves; of what did not run, as many as the baseline has."""
        names, of = self.member.blocking_slices, self.member.baseline
        if not self.member.blocking or not names:
            return 0
        if self.comparison:
            return sum(part.blocking for part in self.comparison.slices)
        return sum(name in names for name, _ in of.slices) if of else 0


def examine(member: Member, policy: Policy, *, clean: bool = False) -> Case:
    """ERROR, NO BASELINE and INCOMPARABLE; else the comparisons on the samples that are in play.

    Args:
        member: what is judged.
        policy: in force.
        clean: leave out what leaked, everything else being as it is on all samples.
    """
    if not member.ran:
        return Case(member)
    candidate, baseline = member.candidate, member.baseline
    if member.relative and baseline is None and not member.error and candidate is not None:
        if silent := [row for row in candidate.rows if row.error]:
            said = f"{len(silent)} of {len(candidate.rows)} samples have no answer, the first is {silent[0].id}"
            return _settle(member, Outcome.ERROR, f"{said}: {silent[0].error}")
        return _settle(member, Outcome.NO_BASELINE, "no baseline yet, whose answers these could be preferred to")
    fault = _fault(member)
    if fault or candidate is None:
        return _settle(member, Outcome.ERROR, fault or "it was not evaluated")
    leaked = _leaked(member)
    broken = [f"; {said}" for said in floor(member, candidate.metric(member.metric), candidate.mean(member.metric))]
    if baseline is None:
        now = f"now {text.share(candidate.mean(member.metric))}  n={len(candidate.rows)}"
        known = f"; {len(leaked)} samples stand in the training text" if leaked else ""
        return _settle(member, Outcome.NO_BASELINE, "".join((f"no baseline yet, {now}{known}", *broken)))
    last = min(member.last_look, baseline.look)
    stepwise = policy.reserve == "top-up" and last > 0 and not member.labels and _countable(candidate, member.metric)
    look = min(candidate.look, last) if stepwise else 0
    left_out = leaked if clean else frozenset[str]()
    after, before = (side.drawn(0, look).without(left_out) for side in (candidate, baseline))
    if clean:
        member = replace(member, golden=tuple(name for name in member.golden if name not in left_out))
    try:
        differences = incomparable(after, before, member.metric, strict=policy.engine == "strict")
        if differences:
            named = "; ".join(str(difference) for difference in differences)
            reason = "".join((f"not comparable with the baseline: {named}", *broken))
            return _settle(member, Outcome.INCOMPARABLE, reason)
        comparison = _compare(member, after, before, policy, sequential=stepwise)
        anchor, asides = _anchored(member, candidate, baseline, policy, left_out)
        confirmation = _confirmation(member, candidate, baseline, policy, left_out)
    except EvalgateError as error:
        return _settle(member, Outcome.ERROR, str(error))
    if comparison.same_weights:
        asides = ("A/A: the same checkpoint on both sides", *asides)
    if policy.reserve != "keep" and member.last_look > 0 and baseline.look == 0:
        asides = (*asides, "the baseline has no reserve: accept one that was recorded with --eval-record-only")
    return Case(
        member,
        comparison=comparison,
        value=after.mean(member.metric),
        anchor=anchor,
        confirmation=confirmation,
        look=(look, last) if stepwise else None,
        reserve=candidate.look < last and (stepwise or policy.reserve == "confirm"),
        asides=asides,
        leaked=leaked,
    )


def _leaked(member: Member) -> frozenset[str]:
    """Ids of the candidate's samples that any side was trained on: to know an answer by heart flatters either."""
    sides = [side for side in (member.candidate, member.baseline, member.anchor) if side]
    named = member.leaked.union(*(side.leaked for side in sides))
    return named.intersection(member.candidate.keys[0]) if named and member.candidate else frozenset()


def _compare(
    member: Member, candidate: Evaluation, baseline: Evaluation, policy: Policy, *, sequential: bool = False
) -> Comparison:
    import numpy as np

    comparison = compare(
        candidate,
        baseline,
        member.metric,
        gate=member.gate,
        policy=policy,
        golden=member.golden,
        blocking_slices=member.blocking_slices if member.blocking else (),
        labels=member.labels,
        sequential=sequential,
    )
    whole = member.candidate
    if whole is None or candidate is whole:
        return comparison
    # Metrics of one task may be at different looks: the pooled test must still know which rows are one question.
    drawn = set(candidate.keys[0])
    places = np.array([place for place, name in enumerate(whole.keys[0]) if name in drawn])
    pairs = replace(comparison.pairs, positions=places[comparison.pairs.positions])
    return replace(comparison, pairs=pairs)


def _countable(candidate: Evaluation, metric: str) -> bool:
    """Whether its samples may be drawn in steps: independent right-or-wrong answers, one generation each."""
    spec = candidate.metric(metric)
    plain = spec.binary and not spec.weighted and spec.against is None
    return plain and candidate.clusters is None and candidate.sampling.get("n", 1) == 1


def _confirmation(
    member: Member, candidate: Evaluation, baseline: Evaluation, policy: Policy, left_out: frozenset[str]
) -> Comparison | None:
    """The comparison on samples that had no part in the verdict, where both sides have them."""
    if policy.reserve != "confirm" or not (candidate.look and baseline.look):
        return None
    last = max(candidate.look, baseline.look)
    after, before = (side.drawn(1, last).without(left_out) for side in (candidate, baseline))
    return None if incomparable(after, before, member.metric) else _compare(member, after, before, policy)


def _settle(member: Member, outcome: Outcome, reason: str) -> Case:
    known = member.candidate if outcome is not Outcome.ERROR else None  # an error is never a score
    scored = known if known and any(metric.name == member.metric for metric in known.metrics) else None
    verdict = Verdict(
        task=member.task,
        metric=member.metric,
        blocking=member.blocking,
        outcome=outcome,
        reason=reason,
        value=scored.mean(member.metric) if scored else None,
        spec=scored.metric(member.metric) if scored else None,
        asides=member.asides,
    )
    return Case(member, verdict)


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
        why = first.error or first.faults.get(member.metric) or f"no score for {member.metric}"
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


def floor(member: Member, spec: Metric, value: float) -> list[str]:
    """What to say of a broken floor; nothing if there is none or it holds."""
    bound = member.gate.floor
    if bound is None or math.isclose(value, bound, rel_tol=1e-12, abs_tol=1e-12):
        return []
    if spec.higher_is_better:
        return [f"below its floor of {text.share(bound)}: {text.share(value)}"] if value < bound else []
    return [f"above the {text.share(bound)} allowed: {text.share(value)}"] if value > bound else []


def _anchored(
    member: Member, candidate: Evaluation, baseline: Evaluation, policy: Policy, left_out: frozenset[str]
) -> tuple[Comparison | None, tuple[str, ...]]:
    """The comparison with the line's first baseline, on the task's own samples, or why there is none."""
    if member.anchor is None or member.anchor.record == baseline.record:
        return None, ()
    after, anchor = (side.drawn(0, 0).without(left_out) for side in (candidate, member.anchor))
    differences = incomparable(after, anchor, member.metric)
    if differences:
        return None, (f"drift is unknown, the anchor is not comparable: {differences[0]}",)
    return compare(after, anchor, member.metric, gate=member.gate, policy=policy, labels=member.labels), ()
