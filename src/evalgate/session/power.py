"""What a session knows of its power before anything runs: its samples, its baselines, its last comparisons."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from evalgate.evaluation import Evaluation
from evalgate.gate import Family, Policy
from evalgate.ledger import Ledger
from evalgate.power import Observed, Planned, PowerPlan, family_steps, plan_power
from evalgate.session.baselines import Baselines
from evalgate.session.words import Declared
from evalgate.task import Sample

RECENT = 50  # verdicts that are looked through for a metric's last comparison


def power_of(
    declared: Mapping[str, Declared],
    samples: Mapping[str, Sequence[Sample]],
    selected: Collection[tuple[str, str]],
    *,
    policy: Policy,
    baselines: Baselines,
    ledger: Ledger,
) -> PowerPlan:
    """The power of the blocking metrics that will run.

    Args:
        declared: every task that was collected: all of them count in the level.
        samples: task id to the samples of those that will run.
        selected: (task id, metric) of what will run.
        policy: of the gate.
        baselines: read only where a margin is a share of one, or where the ledger has comparisons with several.
        ledger: of the project, with its last comparisons and the flip rate that was last measured.
    """
    last = _LastComparisons(ledger, baselines)
    family = [(each.task, samples.get(id_, ())) for id_, each in declared.items()]
    planned = list(_planned(declared, samples, selected, baselines, last))
    return plan_power(planned, policy, steps=family_steps(family), flip_rate=_flip_rate(ledger))


def _planned(
    declared: Mapping[str, Declared],
    samples: Mapping[str, Sequence[Sample]],
    selected: Collection[tuple[str, str]],
    baselines: Baselines,
    last: _LastComparisons,
) -> Iterator[Planned]:
    for id_, rows in samples.items():
        task = declared[id_].task
        for scorer in task.blocking:
            if (id_, scorer.name) in selected:
                unbounded = scorer.metric.range is None
                baseline = baselines.of(declared[id_]) if unbounded else None
                yield Planned(
                    task=id_,
                    scorer=scorer,
                    n=len(rows),
                    clusters=len({sample.cluster for sample in rows}) if task.cluster is not None else None,
                    generations=task.sampling.n,
                    baseline=_mean(baseline, scorer.name),
                    observed=last.of(declared[id_], scorer.name),
                )


def _mean(baseline: Evaluation | None, metric: str) -> float | None:
    known = baseline is not None and any(each.name == metric for each in baseline.metrics)
    return baseline.mean(metric) if baseline and known else None


def comparisons_entry(family: Family) -> dict[str, dict[str, float]]:
    """`suite/task::metric` to what its comparison showed, for the ledger.

    A checkpoint compared with itself is left out: it says nothing of how much two checkpoints differ.
    """
    return {
        f"{verdict.task}::{verdict.metric}": Observed.of(verdict.comparison.test, family.policy.alpha).as_json()
        for verdict in family.verdicts
        if verdict.comparison and not verdict.comparison.same_weights
    }


def _flip_rate(ledger: Ledger) -> float:
    """Share of answers that asking the baseline again changed, when that was last measured; 0 where it never was."""
    measured = (entry.body.get("noise") for entry in islice(ledger.newest("verdict"), RECENT))
    noise = next((found for found in measured if found and found["prompts"]), None)
    return float(noise["flipped"]) / noise["prompts"] if noise else 0.0


class _LastComparisons:
    """What the ledger's recent verdicts say of each metric; a ledger that says nothing is no error."""

    def __init__(self, ledger: Ledger, baselines: Baselines) -> None:
        self._baselines, self._path = baselines, str(ledger.path)
        self._seen: dict[str, dict[str | None, Any]] = {}  # metric, then the baseline compared with, newest first
        for entry in islice(ledger.newest("verdict"), RECENT):
            compared = entry.body.get("baselines", {})
            for name, numbers in entry.body.get("tests", {}).items():
                self._seen.setdefault(name, {}).setdefault(compared.get(name.rpartition("::")[0]), numbers)

    def of(self, declared: Declared, metric: str) -> Observed | None:
        """The newest comparison, if possible with the baseline that counts now."""
        name = f"{declared.id}::{metric}"
        by_baseline = self._seen.get(name)
        if not by_baseline:
            return None
        newest = next(iter(by_baseline.values()))
        if len(by_baseline) > 1 and (baseline := self._baselines.of(declared)):
            newest = by_baseline.get(baseline.digest, newest)
        return Observed.from_json(newest, f"{self._path}, verdict of {name}")
