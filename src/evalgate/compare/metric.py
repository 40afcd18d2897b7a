"""One metric, compared sample by sample: the test, the slices, what broke."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from evalgate.compare.comparable import MIN_PAIRS, tolerated
from evalgate.compare.pairing import paired, unpaired
from evalgate.compare.words import Comparison, Difference, Paired, SliceResult
from evalgate.errors import RecordError, TaskError
from evalgate.evaluation import Evaluation, Metric

if TYPE_CHECKING:
    from evalgate.compare.words import Positions, Vector
    from evalgate.gate import Gate, Policy
    from evalgate.stats import PairedTest


MIN_LABELS = 100  # pairs that people labelled: fewer correct a judge worse than they say
Labels = Mapping[tuple[str, str], float]  # (sample id, output text) to what people say of it, in the metric's units


def compare(
    candidate: Evaluation,
    baseline: Evaluation,
    metric: str,
    *,
    gate: Gate,
    policy: Policy,
    golden: Sequence[str] = (),
    blocking_slices: Sequence[str] = (),
    labels: Labels | None = None,
    sequential: bool = False,
) -> Comparison:
    """Compare one metric sample by sample; only for evaluations that `incomparable` finds nothing against.

    Args:
        candidate: the new evaluation.
        baseline: the accepted one.
        metric: name.
        gate: its margin, if it declares one.
        policy: margins of gates that declare none, and alpha.
        golden: ids that must not break.
        blocking_slices: names of slices that are gated by themselves.
        labels: what people say of outputs; from `MIN_LABELS` pairs labelled on both sides they correct the judge.
        sequential: the samples are drawn in steps, and this is a look at those drawn so far.

    Raises:
        RecordError: scores that the metric cannot have, such as a binary one of .5, or that cannot be drawn in steps.
        TaskError: the margin is a share of a baseline of 0, or labels are given for clusters or weights.
    """
    spec, pairs = candidate.metric(metric), paired(candidate, baseline, metric)
    known, human = _labelled(candidate, baseline, pairs, spec, labels or {})
    enough = len(known) >= MIN_LABELS
    comparison, test = _compared(
        spec,
        pairs,
        task=candidate.task,
        gate=gate,
        policy=policy,
        generations=int(candidate.sampling.get("n", 1)),
        labels=(known, human) if enough else None,
        sequential=sequential,
    )
    ids = candidate.keys[0]
    notes = [*tolerated(candidate, baseline), *_golden_unpaired(pairs, ids, golden)]
    if len(known) and not enough:
        said = f"{len(known)} of {len(pairs.positions)} pairs labelled by people"
        notes.append(Difference("labels", said, f"{MIN_LABELS} correct the judge"))
    unit = comparison.margin / _margin(spec, gate, policy)
    return replace(
        comparison,
        baseline_digest=baseline.record,
        same_weights=candidate.checkpoint["digest"] == baseline.checkpoint["digest"],
        broken=tuple(ids[i] for i in pairs.positions[pairs.difference < 0].tolist()),
        fixed=tuple(ids[i] for i in pairs.positions[pairs.difference > 0].tolist()),
        golden_broken=_golden_broken(spec, pairs, ids, golden),
        only_candidate=unpaired(candidate, baseline),
        only_baseline=unpaired(baseline, candidate),
        slices=_slices(candidate, pairs, test, unit, blocking_slices, sequential=sequential),
        notes=tuple(notes),
    )


def compare_pairs(
    spec: Metric,
    pairs: Paired,
    *,
    task: str,
    gate: Gate,
    policy: Policy,
    generations: int = 1,
    labels: tuple[Positions, Vector] | None = None,
    sequential: bool = False,
) -> Comparison:
    """Compare scores that are paired already: `compare` without what only records know (ids, slices, environments).

    Args:
        spec: what was measured.
        pairs: the scores.
        task: named in errors and verdicts.
        gate: see `compare`.
        policy: see `compare`.
        generations: per question; several make means of right-or-wrong scores.
        labels: positions among the pairs and human differences (oriented, own units); shape (m,) each.
        sequential: see `compare`.
    """
    return _compared(
        spec,
        pairs,
        task=task,
        gate=gate,
        policy=policy,
        generations=generations,
        labels=labels,
        sequential=sequential,
    )[0]


def _margin(spec: Metric, gate: Gate, policy: Policy) -> float:
    """A share of the range, or of the baseline's mean where there is none."""
    return gate.margin or (policy.margin if spec.range is not None else policy.bits_per_byte_margin)


def _compared(
    spec: Metric,
    pairs: Paired,
    *,
    task: str,
    gate: Gate,
    policy: Policy,
    generations: int,
    labels: tuple[Positions, Vector] | None,
    sequential: bool,
) -> tuple[Comparison, _Test]:
    import numpy as np

    before, after = (float(np.average(side, weights=pairs.weights)) for side in (pairs.baseline, pairs.candidate))
    unit = abs(before) if spec.range is None else spec.range
    if not unit:
        raise TaskError(
            f"the baseline's {spec.name} is 0, and the margin a share of it",
            where=task,
            mend="Declare the metric's range (low=…, high=…).",
        )
    if labels and (pairs.clusters is not None or pairs.weights is not None):
        raise TaskError("human labels correct only independent questions of one weight", where=f"{task}::{spec.name}")
    margin = _margin(spec, gate, policy) * unit
    test = _Test(
        spec=spec,
        pairs=pairs,
        binary=spec.binary and generations == 1 and not spec.against,
        margin=margin,
        alpha=policy.alpha,
        where=f"{task}::{spec.name}",
    )
    found = test.corrected(*labels) if labels else test(slice(None), sequential=sequential)
    return Comparison(
        task=task,
        metric=spec,
        baseline_digest="",
        same_weights=False,
        candidate=after,
        baseline=before,
        margin=margin,
        test=found,
        pairs=pairs,
    ), test


def _labelled(
    candidate: Evaluation, baseline: Evaluation, pairs: Paired, spec: Metric, labels: Labels
) -> tuple[Positions, Vector]:
    """Positions among the pairs of those whose outputs people have labelled on both sides, and their differences."""
    import numpy as np

    places, found = [], []
    if labels:
        theirs = {row.id: row for row in baseline.rows}
        for place, position in enumerate(pairs.positions.tolist()):
            row = candidate.rows[position]
            sides = [[labels.get((row.id, text)) for text in side.outputs] for side in (row, theirs[row.id])]
            if all(side and None not in side for side in sides):
                now, was = (sum(said for said in side if said is not None) / len(side) for side in sides)
                places.append(place)
                found.append(now - was if spec.higher_is_better else was - now)
    return np.array(places, dtype=np.intp), np.array(found, dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Test:
    """The test of one metric, for all pairs or a slice of them."""

    spec: Metric
    pairs: Paired
    binary: bool
    margin: float
    alpha: float
    where: str

    def corrected(self, places: Positions, human: Vector) -> PairedTest:
        """The judge's differences, corrected by people's; people's alone where they labelled every pair."""
        import numpy as np

        from evalgate.stats import paired_scores, prediction_powered

        judged = self.pairs.difference
        try:
            if np.array_equal(np.sort(places), np.arange(len(judged))):
                test = paired_scores(np.zeros(len(judged)), human, margin=self.margin, alpha=self.alpha)
                return replace(test, method=f"human-labels/{test.method}")
            return prediction_powered(judged, human, places, margin=self.margin, alpha=self.alpha)
        except ValueError as error:
            raise RecordError(str(error), where=self.where) from error

    def __call__(self, rows: Positions | slice, *, sequential: bool = False) -> PairedTest:
        from evalgate.stats import compare_arrays

        spec, pairs = self.spec, self.pairs
        scale, sides = 1.0, (pairs.baseline[rows], pairs.candidate[rows])
        if self.binary and spec.low is not None and spec.high is not None:  # counted as right or wrong
            scale, wrong = spec.high - spec.low, spec.low if spec.higher_is_better else spec.high
            sides = abs(sides[0] - wrong) / scale, abs(sides[1] - wrong) / scale
        elif not spec.higher_is_better:
            sides = -sides[0], -sides[1]
        try:
            test = compare_arrays(
                *sides,
                binary=self.binary,
                margin=self.margin / scale,
                alpha=self.alpha,
                clusters=None if pairs.clusters is None else pairs.clusters[rows],
                weights=None if pairs.weights is None else pairs.weights[rows],
                sequential=sequential,
            )
        except ValueError as error:
            raise RecordError(str(error), where=self.where) from error
        own = {name: getattr(test, name) * scale for name in ("delta", "low", "high", "sd")}
        return replace(test, **own)


def _slices(
    candidate: Evaluation, pairs: Paired, test: _Test, unit: float, blocking: Sequence[str], *, sequential: bool
) -> tuple[SliceResult, ...]:
    """One result per slice value that any pair has, worst first; those that block are looked at as the whole is."""
    import numpy as np

    place = np.full(len(candidate.rows), -1)
    place[pairs.positions] = np.arange(len(pairs.positions))
    found = []
    for (name, value), positions in candidate.slices.items():
        rows = place[positions]
        rows = rows[rows >= 0]
        if not len(rows):
            continue
        weights = None if pairs.weights is None else pairs.weights[rows]
        alone = pairs.clusters is not None and len(set(pairs.clusters[rows].tolist())) < 2
        before, after, delta = (
            float(np.average(column[rows], weights=weights))
            for column in (pairs.baseline, pairs.candidate, pairs.difference)
        )
        gated = name in blocking
        tested = None if len(rows) < MIN_PAIRS or alone else test(rows, sequential=sequential and gated)
        p_reg, p_ni = tested.p_values if tested else (None, None)
        found.append(SliceResult(name, value, len(rows), after, before, delta / unit, p_reg, blocking=gated, p_ni=p_ni))
    return tuple(sorted(found, key=lambda each: (each.delta, each.name, each.value)))


def _golden_broken(spec: Metric, pairs: Paired, ids: Sequence[str], golden: Sequence[str]) -> tuple[str, ...]:
    """Golden samples at the best end of the range before, and short of it now."""
    best = spec.high if spec.higher_is_better else spec.low
    if not golden or best is None:
        return ()
    broken = (pairs.baseline == best) & (pairs.difference < 0)
    return tuple(ids[i] for i in pairs.positions[broken].tolist() if ids[i] in set(golden))


def _golden_unpaired(pairs: Paired, ids: Sequence[str], golden: Sequence[str]) -> Iterable[Difference]:
    """Golden samples that nobody can say anything about, because they were not asked the same way twice."""
    missing = sorted(set(golden) - {ids[i] for i in pairs.positions.tolist()}) if golden else []
    if missing:
        yield Difference("golden", f"{', '.join(missing)} not asked as before", "asked")
