"""What the gate is asked of one candidate: a member for each metric of each task, evaluations and baselines in it."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from evalgate.errors import RecordError
from evalgate.gate import Gate, Member
from evalgate.session.judged import asides
from evalgate.session.words import Candidate, Declared, Selected

if TYPE_CHECKING:
    from evalgate.scoring import Scorer
    from evalgate.session.run import Session


def members_of(session: Session, candidate: Candidate, selected: Collection[Selected]) -> list[Member]:
    """Every metric of every declared task, with what is known of it: the family that is decided together."""
    chosen = {(s.task, s.metric) for s in selected if s.candidate == candidate.name}
    return [
        _member(session, candidate, declared, scorer, (declared.id, scorer.name) in chosen)
        for declared in session.declared.values()
        for scorer in declared.task.scorers
    ]


def _member(session: Session, candidate: Candidate, declared: Declared, scorer: Scorer, ran: bool) -> Member:
    evaluation, error = None, session.error or session.untrained.get(candidate.name)
    # A task that did not run counts with as many blocking slices as its baseline has.
    needed = ran or bool(declared.task.blocking_slices)
    baseline, anchor = (
        session.baselines.of(declared) if needed else None,
        session.baselines.anchor(declared) if ran else None,
    )
    if ran and not error:
        try:
            evaluation = session.evaluation(declared, candidate.name)
        except RecordError as fault:
            error = str(fault)
    return Member(
        task=declared.id,
        metric=scorer.name,
        blocking=scorer in declared.task.blocking,
        gate=scorer.gate or Gate(),
        golden=tuple(declared.task.golden),
        blocking_slices=tuple(declared.task.blocking_slices),
        labels=session.labels.get(declared.id, {}).get(scorer.name, {}),
        last_look=session.last_look(declared) if ran else 0,
        ran=ran,
        leaked=session.training.leaked(candidate, declared.id),
        candidate=evaluation,
        baseline=session.views.of(declared, baseline) if baseline else None,
        anchor=session.views.of(declared, anchor) if anchor else None,
        error=error if ran else None,
        relative=scorer.judge is not None and scorer.judge.pairwise,
        asides=asides(scorer, evaluation, baseline) if ran else (),
    )
