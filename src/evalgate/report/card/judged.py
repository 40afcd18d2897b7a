"""Who judged, and how far that is to be believed: one entry per metric with a judge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evalgate.digest import digest, short

if TYPE_CHECKING:
    from evalgate.evaluation import Evaluation, Metric
    from evalgate.gate import Family, Verdict

UNCALIBRATED = "uncalibrated: nobody measured how far this judge, with this rubric and these models, agrees with people"


@dataclass(frozen=True, slots=True)
class Judged:
    """What the card says of the judge behind one metric.

    Attributes:
        task, metric: whose.
        calibrated: whether its agreement with people was measured.
        facts: names and values, in the order in which people ask.
    """

    task: str
    metric: str
    calibrated: bool
    facts: tuple[tuple[str, str], ...]


def judged(
    family: Family, candidates: Mapping[str, Evaluation], baselines: Mapping[str, Evaluation]
) -> tuple[Judged, ...]:
    """The judges behind the verdicts, as the records describe them."""
    found = []
    for verdict in family.verdicts:
        candidate = candidates.get(verdict.task)
        spec = _metric(candidate, verdict.metric)  # an ERROR has none, and there canaries matter most
        said = candidate.judge(verdict.metric) if candidate and spec and spec.judge else None
        if candidate and spec and said:
            facts = tuple(_facts(verdict, spec, said, candidate, baselines.get(verdict.task)))
            found.append(Judged(verdict.task, verdict.metric, said["kappa"] is not None, facts))
    return tuple(found)


def _metric(side: Evaluation | None, name: str) -> Metric | None:
    return next((metric for metric in side.metrics if metric.name == name), None) if side else None


def _facts(
    verdict: Verdict, spec: Metric, said: Mapping[str, Any], candidate: Evaluation, baseline: Evaluation | None
) -> Iterator[tuple[str, str]]:
    models = [f"{each['name']}: {each['model']} ({short(each['digest'])})" for each in said["models"]]
    yield "Judge", f"{said['kind']}, {', '.join(models) or 'asks no model'}"
    yield "Agreement with people", _agreement(said)
    yield "Blocks", "yes" if verdict.blocking else "no, it informs"
    rubric = said["settings"].get("rubric")
    if isinstance(rubric, str):
        yield "Rubric", f"{rubric} ({short(digest(rubric))})"
    yield "Settings", short(digest(dict(said["settings"])))
    if said["versions"]:
        yield "Versions", ", ".join(f"{name} {version}" for name, version in sorted(said["versions"].items()))
    yield "Identity (weights, prompt, rubric, decoding)", spec.judge or ""
    yield "Canaries and refused replies", _refused(candidate, verdict.metric)
    yield "Baseline's scores", _same(spec, baseline)
    for aside in verdict.asides:
        yield "Beside the verdict", aside


def _agreement(said: Mapping[str, Any]) -> str:
    """Cohen's kappa on right or wrong, with its interval where the record has one."""
    if said["kappa"] is None:
        return UNCALIBRATED
    interval = said.get("interval")
    ends = f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else ""
    return f"kappa {said['kappa']:.2f}{ends} on {said['labels']:,} labels"


def _refused(candidate: Evaluation, metric: str) -> str:
    """A judge that misses its canaries is given no score at all, and every row says why."""
    faults = [row.faults[metric] for row in candidate.rows if metric in row.faults]
    if not faults:
        return "no score was refused: no canary was misjudged, no reply unusable"
    told = max(dict.fromkeys(faults), key=faults.count)
    return f"{len(faults):,} of {len(candidate.rows):,} samples have no score: {told}"


def _same(spec: Metric, baseline: Evaluation | None) -> str:
    if baseline is None:
        return "there is no baseline"
    before = _metric(baseline, spec.name)
    if before is None or before.judge is None:
        return "not judged"
    return "by the same judge" if before.judge == spec.judge else f"by another judge: {before.judge}"
