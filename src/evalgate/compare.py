"""The paired difference of two evaluations of one task, or the named reasons why there is none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from evalgate.digest import PREFIX, canonical, digest, short
from evalgate.errors import RecordError, TaskError
from evalgate.evaluation import Evaluation, Metric

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from evalgate.gate import Gate, Policy
    from evalgate.stats import PairedTest

    Vector = npt.NDArray[np.float64]
    Positions = npt.NDArray[np.intp]

COVERAGE = 0.99  # of the larger evaluation's samples must be paired
MIN_PAIRS = 5  # fewer are refused, in a slice as in a task
_ROUNDING = 1e-12  # what floating point may leave of a difference that is none, relative to the scores
_ENGINE = ("name", "version", "dtype", "device", "determinism")


@dataclass(frozen=True, slots=True)
class Difference:
    """One field in which two evaluations differ, so that they are refused or, by policy, compared with a warning."""

    field: str
    candidate: str
    baseline: str

    def __str__(self) -> str:
        return f"{self.field}: candidate {self.candidate}, baseline {self.baseline}"


@dataclass(frozen=True, slots=True)
class SliceResult:
    """One value of one slice: exploratory, warns only.

    Attributes:
        name, value: such as `digits`, `2`.
        n: paired samples in it.
        candidate, baseline: means in the metric's own units.
        delta: mean oriented difference (higher is better) as a share of the range, or of the baseline's mean in the
            whole task where the metric has no range.
        p_reg: one-sided p-value; `None` below 5 samples.
        q: Benjamini-Hochberg over all slices of the family; `None` until the family is known.
    """

    name: str
    value: str
    n: int
    candidate: float
    baseline: float
    delta: float
    p_reg: float | None
    q: float | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric of one task, candidate against baseline, paired sample by sample.

    Attributes:
        task, metric: what was compared.
        baseline_digest: of the accepted evaluation.
        same_weights: candidate and baseline are the same checkpoint (an A/A comparison).
        candidate, baseline: means over the paired samples in the metric's own units.
        margin: largest tolerated drop in the metric's own units.
        test: differences, oriented so that higher is better, in the metric's own units.
        broken, fixed: ids of samples that got worse and better (d < 0, d > 0), sorted.
        golden_broken: golden samples that were right before and are wrong now.
        only_candidate, only_baseline: ids that found no partner.
        slices: one entry per slice value, worst first.
        notes: differences that the policy lets pass with a warning (engine, dtype, device, seed).
    """

    task: str
    metric: Metric
    baseline_digest: str
    same_weights: bool
    candidate: float
    baseline: float
    margin: float
    test: PairedTest
    broken: tuple[str, ...]
    fixed: tuple[str, ...]
    golden_broken: tuple[str, ...] = ()
    only_candidate: tuple[str, ...] = ()
    only_baseline: tuple[str, ...] = ()
    slices: tuple[SliceResult, ...] = ()
    notes: tuple[Difference, ...] = ()

    @property
    def worst_slice(self) -> SliceResult | None:
        """The slice with the largest drop, if any slice dropped."""
        return next((s for s in self.slices if s.delta < 0), None)


@dataclass(frozen=True, slots=True)
class Paired:
    """The rows of two evaluations that answer the same questions, sorted by sample id, with one metric's scores.

    Attributes:
        positions: of these rows among the candidate's.
        candidate, baseline: scores in the metric's own units; equal where they differ by rounding only.
        difference: candidate minus baseline, negated where lower is better.
        clusters: one number per row; `None` where every question stands for itself.
        weights: of a weighted metric, else `None`.
    """

    positions: Positions
    candidate: Vector
    baseline: Vector
    difference: Vector
    clusters: Positions | None
    weights: Vector | None


def paired(candidate: Evaluation, baseline: Evaluation, metric: str) -> Paired:
    """Pair by sample id and by the digest of prompt and target, and take one metric's scores."""
    import numpy as np

    spec = candidate.metric(metric)
    ours, theirs = _positions(candidate, baseline)
    after, before = candidate.columns[metric][ours], baseline.columns[metric][theirs]
    same = np.abs(after - before) <= _ROUNDING * np.maximum(np.abs(after), np.abs(before))
    after = np.where(same, before, after)
    return Paired(
        positions=ours,
        candidate=after,
        baseline=before,
        difference=after - before if spec.higher_is_better else before - after,
        clusters=None if candidate.clusters is None else candidate.clusters[ours],
        weights=candidate.weights[ours] if spec.weighted else None,
    )


def incomparable(
    candidate: Evaluation, baseline: Evaluation, metric: str, *, strict: bool = False
) -> tuple[Difference, ...]:
    """Every reason why a number must not be made of the two; empty where they may be compared.

    Args:
        candidate: has the metric.
        baseline: the accepted evaluation.
        metric: name.
        strict: also refuse what `tolerated` names, but for the seed.
    """
    found = list(_differing((("task", candidate.task, baseline.task),)))
    found += _differing(_items("sampling", candidate.sampling, baseline.sampling))
    if strict:
        found += [each for each in tolerated(candidate, baseline) if each.field != "seed"]
    ours, theirs = candidate.metric(metric), next((m for m in baseline.metrics if m.name == metric), None)
    if theirs is None:
        there = ", ".join(m.name for m in baseline.metrics) or "none"
        return (*found, Difference("metric", metric, f"absent (it has {there})"))
    found += _differing(
        (
            ("scorer", ours.digest, theirs.digest),
            ("range", [ours.low, ours.high], [theirs.low, theirs.high]),
            ("higher_is_better", ours.higher_is_better, theirs.higher_is_better),
            ("binary", ours.binary, theirs.binary),
            ("weighted", ours.weighted, theirs.weighted),
        )
    )
    unscored = baseline.unscored(metric)
    if unscored:
        found.append(
            Difference("completeness", "every sample scored", f"{len(unscored)} of {len(baseline.rows)} without score")
        )
    return (*found, *_coverage(candidate, baseline))


def tolerated(candidate: Evaluation, baseline: Evaluation) -> tuple[Difference, ...]:
    """What is named beside a comparison but refuses it only where the policy is strict: the engine, and seeds.

    A seed is named only where something is drawn with it.
    """
    ours, theirs = (dict(side.environment.get("engine") or {}) for side in (candidate, baseline))
    found = _differing((f"engine.{key}", ours.get(key), theirs.get(key)) for key in _ENGINE)
    if candidate.sampling.get("temperature"):
        found += _differing((("seed", candidate.seed, baseline.seed),))
    return found


def compare(
    candidate: Evaluation,
    baseline: Evaluation,
    metric: str,
    *,
    gate: Gate,
    policy: Policy,
    golden: Sequence[str] = (),
) -> Comparison:
    """Compare one metric sample by sample; only for evaluations that `incomparable` finds nothing against.

    Args:
        candidate: the new evaluation.
        baseline: the accepted one.
        metric: name.
        gate: its margin, if it declares one.
        policy: margins of gates that declare none, and alpha.
        golden: ids that must not break.

    Raises:
        RecordError: scores that the metric cannot have, such as a binary one of .5.
        TaskError: the margin is a share of a baseline of 0.
    """
    import numpy as np

    spec, pairs = candidate.metric(metric), paired(candidate, baseline, metric)
    before, after = (float(np.average(side, weights=pairs.weights)) for side in (pairs.baseline, pairs.candidate))
    unit = abs(before) if spec.range is None else spec.range
    if not unit:
        raise TaskError(
            f"the baseline's {metric} is 0, and the margin a share of it",
            where=candidate.task,
            mend="Declare the metric's range (low=…, high=…).",
        )
    default = policy.margin if spec.range is not None else policy.bits_per_byte_margin
    margin = (gate.margin or default) * unit
    binary = spec.binary and candidate.sampling.get("n", 1) == 1
    test = _Test(
        spec=spec, pairs=pairs, binary=binary, margin=margin, alpha=policy.alpha, where=f"{candidate.task}::{metric}"
    )
    ids = candidate.keys[0]
    return Comparison(
        task=candidate.task,
        metric=spec,
        baseline_digest=baseline.digest,
        same_weights=candidate.checkpoint["digest"] == baseline.checkpoint["digest"],
        candidate=after,
        baseline=before,
        margin=margin,
        test=test(slice(None)),
        broken=tuple(ids[i] for i in pairs.positions[pairs.difference < 0].tolist()),
        fixed=tuple(ids[i] for i in pairs.positions[pairs.difference > 0].tolist()),
        golden_broken=_golden_broken(spec, pairs, ids, golden),
        only_candidate=_unpaired(candidate, baseline),
        only_baseline=_unpaired(baseline, candidate),
        slices=_slices(candidate, pairs, test, unit),
        notes=(*tolerated(candidate, baseline), *_golden_unpaired(pairs, ids, golden)),
    )


def _positions(candidate: Evaluation, baseline: Evaluation) -> tuple[Positions, Positions]:
    """Positions of paired rows on both sides, in the order of sample ids."""
    import numpy as np

    if candidate.keys == baseline.keys:
        everyone = np.arange(len(candidate.rows))
        return everyone, everyone
    theirs = {key: position for position, key in enumerate(zip(*baseline.keys, strict=True))}
    keys = zip(*candidate.keys, strict=True)
    both = [(position, theirs[key]) for position, key in enumerate(keys) if key in theirs]
    ours_theirs = np.array(both, dtype=np.intp).reshape(-1, 2)
    return ours_theirs[:, 0], ours_theirs[:, 1]


def _unpaired(side: Evaluation, other: Evaluation) -> tuple[str, ...]:
    """Ids of one side that have no partner on the other: missing there, or asked with another prompt or target."""
    if side.keys == other.keys:
        return ()
    there = set(zip(*other.keys, strict=True))
    return tuple(key[0] for key in zip(*side.keys, strict=True) if key not in there)


def _coverage(candidate: Evaluation, baseline: Evaluation) -> Iterable[Difference]:
    """Too few pairs: too small a share of what was asked, or too few to say anything at all."""
    ours, theirs = len(candidate.rows), len(baseline.rows)
    pairs = ours - len(_unpaired(candidate, baseline))
    if pairs < COVERAGE * max(ours, theirs):
        known, asked = set(baseline.keys[0]), set(candidate.keys[0])
        changed = len(known & asked) - pairs
        yield Difference(
            "coverage",
            f"{pairs} of {ours} samples paired, {changed} with another prompt or target, {len(asked - known)} new",
            f"{pairs} of {theirs} samples paired, {len(known - asked)} not asked again",
        )
    elif pairs < MIN_PAIRS:
        yield Difference("samples", f"{ours}", f"{theirs} (a comparison needs {MIN_PAIRS})")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Test:
    """The test of one metric, for all pairs or a slice of them."""

    spec: Metric
    pairs: Paired
    binary: bool
    margin: float
    alpha: float
    where: str

    def __call__(self, rows: Positions | slice) -> PairedTest:
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
            )
        except ValueError as error:
            raise RecordError(str(error), where=self.where) from error
        own = {name: getattr(test, name) * scale for name in ("delta", "low", "high", "sd")}
        return replace(test, **own)


def _slices(candidate: Evaluation, pairs: Paired, test: _Test, unit: float) -> tuple[SliceResult, ...]:
    """One result per slice value that any pair has, worst first."""
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
        p_reg = None if len(rows) < MIN_PAIRS or alone else test(rows).p_reg
        found.append(SliceResult(name, value, len(rows), after, before, delta / unit, p_reg))
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


def _items(name: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterable[tuple[str, Any, Any]]:
    """Field by field, so that a message names the one that differs."""
    for key in sorted({*ours, *theirs}):
        yield f"{name}.{key}", ours.get(key), theirs.get(key)


def _differing(fields: Iterable[tuple[str, Any, Any]]) -> tuple[Difference, ...]:
    return tuple(Difference(name, _shown(ours), _shown(theirs)) for name, ours, theirs in fields if ours != theirs)


def _shown(value: Any, limit: int = 60) -> str:
    """A value in a message: a digest by 12 hex digits, text as it is, anything else as JSON; never long."""
    if isinstance(value, str) and value.startswith(PREFIX):
        return short(value)
    text = value if isinstance(value, str) else "none" if value is None else canonical(value)
    # Two long values that differ must not look alike.
    return text if len(text) <= limit else f"{text[:limit]}… ({short(digest(value))})"
