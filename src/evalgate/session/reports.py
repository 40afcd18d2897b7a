"""What comes out for one candidate and is kept: verdicts, ledger entry, card, notes to the trackers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalgate.cards import publish, publish_overview, relative
from evalgate.evaluation import Evaluation
from evalgate.gate import Family, Member, decide, expected_false_alarms
from evalgate.noise import NoiseFloor, near_ties
from evalgate.records import accepted_headers
from evalgate.report import CardData
from evalgate.rescore import outdated
from evalgate.session.baselines import chosen_among
from evalgate.session.members import members_of
from evalgate.session.power import comparisons_entry
from evalgate.session.words import Candidate, Selected
from evalgate.task import Task

if TYPE_CHECKING:
    from evalgate.session.run import Session


@dataclass(frozen=True, slots=True)
class Report:
    """What came out for one candidate.

    Attributes:
        candidate: that was gated.
        family: its verdicts.
        card: the page that says so.
        near_ties: `suite/task::metric` to the samples that numeric noise alone can flip.
        data: what the card is made of.
    """

    candidate: Candidate
    family: Family
    card: Path
    near_ties: Mapping[str, tuple[str, ...]]
    data: CardData


def report_of(session: Session, candidate: Candidate, selected: Collection[Selected]) -> Report:
    """Decide, keep what the card says beside the ledger's verdict, write the card from there, tell the trackers."""
    members = members_of(session, candidate, selected)
    family = decide(members, session.config.policy)
    ties = ties_of(members, session.floor)
    notes = _notes(session, selected)
    if session.config.policy.reserve == "confirm":
        alarms = expected_false_alarms(members, session.config.policy)
        notes.append(f"{candidate.name}: a model that never changed would be blocked {alarms:.2g} times in 30 runs")
    folder = candidate.checkpoint.path if candidate.checkpoint else None
    data = CardData(
        name=candidate.name,
        family=family,
        candidates={m.task: m.candidate for m in members if m.candidate},
        baselines={m.task: m.baseline for m in members if m.baseline},
        statement=session.statement,
        statements=session.statements,
        ledger_head=None,  # the verdict's own entry, which names this card
        command=session.command,
        noise=session.floor.said if session.floor else None,
        near_ties=ties,
        lines=tuple(notes),
        lineage=candidate.lineage,
        folder=relative(session.root, Path(folder)) if folder else None,
        power=session.power,
        costs=session.costs if candidate.checkpoint else None,
        generated=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    entry = session.cards.keep(data, verdict_entry(candidate, family, members, session.floor))
    reports = session.root / session.config.reports
    card = publish(session.cards.load(entry), reports)
    baselines = accepted_headers(session.root, session.config).values()
    publish_overview(session.cards.history(), reports, project=session.root.name, baselines=baselines)
    session.say(notes)
    named = [session.config.registry_at(session.root), (session.recipe and session.recipe.config.tracking.uri) or ""]
    session.lines += track(candidate, family, card, entry.hash, session.root, named)
    return Report(candidate, family, card, ties, replace(data, ledger_head=entry.hash))


def _notes(session: Session, selected: Collection[Selected]) -> list[str]:
    """What people should know of the baselines: scored again, chosen among several."""
    tasks = dict.fromkeys(s.task for s in selected)
    baselines = [found for task in tasks if (found := session.baselines.of(session.declared[task]))]
    adrift = [f"{task}: {why}" for task, why in session.baselines.adrift.items()]
    return [*session.views.lines, *adrift, *filter(None, [chosen_among(baselines)])]


def plan_entry(session: Session, selected: Collection[Selected]) -> dict[str, Any]:
    """What is registered before anything is generated: nobody can choose a margin after seeing the result."""
    return {
        "candidates": {c.name: c.digest for c in session.candidates.values() if c.checkpoint},
        "family": sorted(session.declared),
        "selected": sorted(f"{s.task}::{s.metric}" for s in selected),
        "samples": {plan.id: plan.samples for plan in session.plans.values()},
        "eval_seed": session.config.seed,
        "seeds": {plan.id: plan.seed for plan in session.plans.values()},
        "policy": session.policy_entry(),
        "reserve": {task: last for task, last in session.last_looks.items() if last},
        "gates": {id_: gates_of(declared.task) for id_, declared in sorted(session.declared.items())},
    }


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
