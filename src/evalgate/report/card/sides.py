"""Candidate and baseline beside each other, field by field: what identifies them, and how they were made."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from evalgate import text
from evalgate.digest import short

if TYPE_CHECKING:
    from evalgate.evaluation import Evaluation, Metric
    from evalgate.gate import Family

_DETERMINISM = {
    "batch-invariant": "batch-invariant: batch invariance on, an answer depends on its request alone",
    "scheduling": "scheduling: batch invariance off, the last bits of an answer depend on what runs beside it",
}


@dataclass(frozen=True)
class Field:
    """One fact about both sides; an empty text means that nothing is stated."""

    name: str
    candidate: str
    baseline: str

    @property
    def differs(self) -> bool:
        """Whether both are stated and not the same."""
        return bool(self.candidate and self.baseline and self.candidate != self.baseline)


def checkpoint(candidates: Mapping[str, Evaluation], baselines: Mapping[str, Evaluation]) -> list[Field]:
    """Names and digests of the two checkpoints."""
    return _sides(candidates, baselines, lambda evaluation: by_name(evaluation.checkpoint), first=("name", "digest"))


def environment(candidates: Mapping[str, Evaluation], baselines: Mapping[str, Evaluation]) -> list[Field]:
    """Engine, versions, device, determinism in words, platform."""
    return _sides(candidates, baselines, _environment)


def _environment(evaluation: Evaluation) -> Mapping[str, str]:
    facts = flat(by_name({name: value for name, value in evaluation.environment.items() if name != "judges"}))
    mode = "engine.determinism"
    return facts | {mode: _DETERMINISM.get(facts[mode], facts[mode])} if mode in facts else facts


def provenance(candidates: Mapping[str, Evaluation], baselines: Mapping[str, Evaluation]) -> list[Field]:
    """When, where and by which command the records were made; to the minute, so that one run is one time."""
    return _sides(candidates, baselines, _provenance)


def _provenance(evaluation: Evaluation) -> Mapping[str, Any]:
    made = {**evaluation.provenance, "leaked": len(evaluation.leaked) if evaluation.leaked else "none"}
    if isinstance(created := made.get("created"), str):
        made["created"] = re.sub(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d):\d\d(\.\d+)?\+00:00$", r"\1 \2 UTC", created)
    return by_name(made)


def policy(family: Family) -> list[tuple[str, str]]:
    """The gate's settings in force."""
    return [(name.replace("_", " "), _text(value)) for name, value in asdict(family.policy).items()]


def task_fields(candidate: Evaluation, baseline: Evaluation | None) -> list[Field]:
    """Everything that identifies one task's evaluation, and who accepted the baseline."""
    return _sides({"": candidate}, {"": baseline} if baseline else {}, _task_facts)


def _task_facts(evaluation: Evaluation) -> Mapping[str, Any]:
    gates = evaluation.policy.get("gates") or {}
    accepted = asdict(evaluation.acceptance) if evaluation.acceptance else None
    return {
        "record": evaluation.record,
        "samples": f"{len(evaluation.rows):,}",
        **({"samples of the reserve": f"{sum(row.look > 0 for row in evaluation.rows):,}"} if evaluation.look else {}),
        "samples without an answer or a score": f"{len(evaluation.errors):,}",
        "answers cut at max_tokens": f"{sum('length' in row.finish for row in evaluation.rows):,}",
        "eval data": evaluation.samples,
        "prompt": evaluation.prompt,
        "sampling": evaluation.sampling,
        "seed": evaluation.seed,
        **{f"metric {metric.name}": _metric(metric, gates.get(metric.name)) for metric in evaluation.metrics},
        **_judges(evaluation),
        **({"accepted": accepted} if accepted else {}),
    }


def _metric(metric: Metric, gate: Mapping[str, Any] | None) -> str:
    high = "∞" if metric.high is None else f"{metric.high:g}"
    low = "-∞" if metric.low is None else f"{metric.low:g}"
    better = "higher" if metric.higher_is_better else "lower"
    stated = [f"{name} {value:g}" for name, value in (gate or {}).items() if value is not None]
    return ", ".join([f"{low} to {high}", f"{better} is better", *stated, metric.digest])


def _judges(evaluation: Evaluation) -> Mapping[str, str]:
    """Who judged, how far that is known to agree with people, by which rubric and versions."""
    found: dict[str, str] = {}
    for metric in evaluation.metrics:
        said = evaluation.judge(metric.name)
        if metric.judge is None or not said:
            continue
        models = [f"{each['name']}: {each['model']} {short(each['digest'])}" for each in said["models"]]
        agreement = "uncalibrated"
        if said["kappa"] is not None:
            agreement = f"kappa {said['kappa']:.2f} on {said['labels']:,} labels"
        facts = {
            "judge": f"{said['kind']}, {', '.join(models) or 'asks no model'}",
            "agrees with people": agreement,
            **flat(by_name(said["versions"]), "version."),
            **{f"setting.{name}": _text(value) for name, value in by_name(said["settings"]).items()},
            "identity": metric.judge,
        }
        found |= {f"metric {metric.name}, {name}": value for name, value in facts.items()}
    return found


def _sides(
    candidates: Mapping[str, Evaluation],
    baselines: Mapping[str, Evaluation],
    read: Callable[[Evaluation], Mapping[str, Any]],
    first: Sequence[str] = (),
) -> list[Field]:
    ours, theirs = (_merged({task: flat(read(e)) for task, e in side.items()}) for side in (candidates, baselines))
    names = dict.fromkeys([*(name for name in first if name in ours or name in theirs), *ours, *theirs])
    return [Field(name, ours.get(name, ""), theirs.get(name, "")) for name in names]


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested mappings as dotted names with texts; what is nested is sorted by name."""
    found: dict[str, str] = {}
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            found |= flat(by_name(inner), f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = _text(inner)
    return found


def by_name(value: Mapping[str, Any]) -> dict[str, Any]:
    """Sorted: the order of what a record holds has no meaning, and a card made again shall be the same."""
    return dict(sorted(value.items(), key=lambda item: str(item[0])))


def _text(value: Any) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


def _merged(by_task: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """One text per field: the value that all tasks share, or each value with its tasks."""
    tasks: dict[str, dict[str, list[str]]] = {name: {} for fields in by_task.values() for name in fields}
    for name, values in tasks.items():
        for task, fields in by_task.items():
            values.setdefault(fields.get(name, "not stated"), []).append(task)
    return {
        name: next(iter(values))
        if len(values) == 1
        else "; ".join(f"{value} ({text.listed(where, 3)})" for value, where in values.items())
        for name, values in tasks.items()
    }
