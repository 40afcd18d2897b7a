"""What is kept of a run: the report, the ledger's entry, what records say of the gates they were made under."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalgate.evaluation import Evaluation
from evalgate.gate import Family, Member
from evalgate.noise import NoiseFloor, near_ties
from evalgate.rescore import outdated
from evalgate.session.power import comparisons_entry
from evalgate.session.words import Candidate
from evalgate.task import Task


@dataclass(frozen=True, slots=True)
class Report:
    """What came out for one candidate; near ties by `suite/task::metric`."""

    candidate: Candidate
    family: Family
    card: Path
    near_ties: Mapping[str, tuple[str, ...]]


def verdict_entry(
    candidate: Candidate, family: Family, members: Sequence[Member], floor: NoiseFloor | None
) -> dict[str, Any]:
    """The ledger's entry: what came out, from which records, against which baselines, over how much noise."""
    return {
        "candidate": candidate.digest,
        "name": candidate.name,
        "outcome": str(family.outcome),
        "blocked": family.fails(family.policy),
        "partial": list(family.partial),
        "verdicts": {f"{v.task}::{v.metric}": str(v.outcome) for v in family.verdicts},
        "tests": comparisons_entry(family),
        "noise": {"prompts": floor.prompts, "flipped": floor.flipped} if floor else None,
        "records": {m.task: m.candidate.record for m in members if m.candidate},
        "seeds": {m.task: m.candidate.seed for m in members if m.candidate},
        "baselines": {m.task: m.baseline.record for m in members if m.ran and m.baseline},
    }


def ties_of(members: Iterable[Member], floor: NoiseFloor | None) -> dict[str, tuple[str, ...]]:
    """`suite/task::metric` to the flipped samples that numeric noise alone can flip, where it was measured."""
    if floor is None or floor.noise is None:
        return {}
    found = {
        f"{member.task}::{member.metric}": near_ties(member.candidate, member.baseline, floor.noise, member.metric)
        for member in members
        if member.candidate and member.baseline
    }
    return {name: ids for name, ids in found.items() if ids}


def gates_of(task: Task) -> dict[str, Any]:
    """Margin and floor of each scorer that has a gate."""
    return {
        scorer.name: {"margin": scorer.gate.margin, "floor": scorer.gate.floor} if scorer.gate else None
        for scorer in task.scorers
    }


def changed_since(record: Evaluation, task: Task) -> list[str]:
    """What a record was made with that the suite no longer declares."""
    pairs = {
        "prompt": (record.prompt, task.prompt_digest),
        "sampling": (dict(record.sampling), task.asked),
    }
    scorers = ", ".join(scorer.name for scorer in outdated(record, task))
    return [*(name for name, (was, now) in pairs.items() if was != now), *([f"scorer {scorers}"] if scorers else [])]


def track(
    candidate: Candidate, family: Family, card: Path, ledger: str, root: Path, trusted: Collection[str]
) -> list[str]:
    """Write verdict and card into the runs of the candidate's training; a tracker that fails is a line like the rest.

    A version that another program published, or that was trained without trackers, has none.
    """
    made, folder = candidate.lineage, candidate.checkpoint and candidate.checkpoint.path
    if not (made and made.training and made.training.trackers and folder):
        return []
    from evalgate.trackers import note_of, write_all

    note = note_of(made, Path(folder), family=family, card=card, ledger=ledger)
    return write_all(made.training.trackers, note, root, trusted=trusted)
