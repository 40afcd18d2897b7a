"""May two evaluations be compared at all? If not, every reason by name, with both values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from evalgate.compare.pairing import unpaired
from evalgate.compare.words import Difference
from evalgate.digest import PREFIX, canonical, digest, short
from evalgate.evaluation import Evaluation

COVERAGE = 0.99  # of the larger evaluation's samples must be paired
MIN_PAIRS = 5  # fewer are refused, in a slice as in a task
_ENGINE = ("name", "version", "dtype", "device", "determinism")


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
    if ours.against is not None:  # preferred to the answers of one baseline, which needs no score of its own
        found += _differing((("against", ours.against, baseline.record),))
        return (*found, *_coverage(candidate, baseline))
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
    if ours.judge != theirs.judge:
        changed = _judges(candidate.judge(metric), baseline.judge(metric))
        found += changed or _differing((("judge", ours.judge, theirs.judge),))
    asked = set(zip(*candidate.keys, strict=True))
    unscored = [row for row in baseline.unscored(metric) if (row.id, row.pair) in asked]
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


def _coverage(candidate: Evaluation, baseline: Evaluation) -> Iterable[Difference]:
    """Too few pairs: too small a share of what was asked, or too few to say anything at all."""
    ours, theirs = len(candidate.rows), len(baseline.rows)
    pairs = ours - len(unpaired(candidate, baseline))
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


def _judges(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[Difference, ...]:
    """What changed of a judge, as far as both records describe theirs; names in the settings are no change."""
    if not ours or not theirs:
        return ()
    found = _differing((("judge.kind", ours.get("kind"), theirs.get("kind")),))
    for part in ("versions", "settings"):
        found += _differing(_items(f"judge.{part}", ours.get(part) or {}, theirs.get(part) or {}))
    models, others = ours.get("models") or [], theirs.get("models") or []
    if len(models) != len(others):
        return (
            *found,
            Difference("judge.models", *(", ".join(map(_model, each)) or "none" for each in (models, others))),
        )
    for place, (one, other) in enumerate(zip(models, others, strict=True), 1):
        name = "judge" if len(models) == 1 else f"judge {place}"
        if one.get("weights") != other.get("weights"):
            found += (Difference(f"{name}.model", _model(one), _model(other)),)
        found += _differing(_items(f"{name}.engine", one.get("engine") or {}, other.get("engine") or {}))
    return found


def _model(model: Mapping[str, Any]) -> str:
    return f"{model.get('model')} ({_shown(model.get('weights'))})"


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
