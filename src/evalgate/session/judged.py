"""What judges have to do with a session: bound when a task is declared, asked once the answers are there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from evalgate.calibration import FOLDER, read_calibrations
from evalgate.drift import drift
from evalgate.errors import ConfigError
from evalgate.evaluate import asked_of_judges
from evalgate.evaluation import Evaluation
from evalgate.instrument import Case, Instrument, Judgements
from evalgate.plan import TaskPlan
from evalgate.request import Completion
from evalgate.session.words import Declared
from evalgate.task import Task

if TYPE_CHECKING:
    from evalgate.scoring import Scorer
    from evalgate.session.run import Session


def bind(session: Session, declared: Declared) -> Task:
    """The task with its judges bound to the models of the settings and to their calibrations.

    Where only records are gated nobody is asked: there the records say which judge it was.

    Raises:
        ConfigError: a judge has a gate, and nobody knows that it agrees with people.
    """
    task = declared.task
    if not any(scorer.judge for scorer in task.scorers):
        return task
    known = session.judges.calibrations
    for name, found in read_calibrations(declared.suite.parent / FOLDER).items():
        known[name] = min(found, known.get(name, found), key=lambda each: each.kappa)
    recorded = [c.recorded[declared.id] for c in session.candidates.values() if declared.id in c.recorded]
    if session.candidates and not any(c.checkpoint or session.recipe for c in session.candidates.values()):
        task = replace(task, scorers=tuple(_as_recorded(session, scorer, recorded) for scorer in task.scorers))
    else:
        task = session.judges.bind(task)
    for scorer in task.scorers:
        if scorer.judge and scorer.gate and not session.record_only:
            _require_calibrated(declared.id, scorer, scorer.judge)
    return task


def _as_recorded(session: Session, scorer: Scorer, records: list[Evaluation]) -> Scorer:
    known = {metric.judge for record in records for metric in record.metrics if metric.name == scorer.name}
    if scorer.judge is None or not known:
        return scorer
    found = [session.judges.calibrations.get(judge or "") for judge in known]
    measured = [each for each in found if each]
    # One verdict on blocking for all candidates: the judge that is known least well decides.
    calibration = min(measured, key=lambda each: each.kappa) if len(measured) == len(found) else None
    return replace(scorer, judge=replace(scorer.judge, calibration=calibration, floor=session.config.judges.kappa))


def _require_calibrated(task: str, scorer: Scorer, judge: Instrument) -> None:
    if judge.calibrated:
        return
    known = judge.calibration
    what = (
        f"kappa {known.kappa:.2f} on {known.n} labels is below the floor of {judge.floor:.2f}"
        if known
        else "nobody has measured how far this judge, with this rubric and these models, agrees with people"
    )
    raise ConfigError(
        f"a judge that blocks must be calibrated, and {what}",
        where=f"{task}::{scorer.name}",
        mend=f"Run evalgate judge calibrate LABELS --metric {task}::{scorer.name}, or leave out gate=…: it informs.",
    )


def judge(
    session: Session, plans: Mapping[tuple[str, str], TaskPlan], completions: Mapping[str, Completion]
) -> Judgements:
    """Everything that judges are to see after the engine stage, in one batch: new answers, and stored ones again."""
    asked: list[tuple[Instrument, Case]] = []
    for (task_id, _), plan in plans.items():
        declared = session.declared[task_id]
        if not any(scorer.judge for scorer in declared.task.scorers):
            continue
        baseline = session.baselines.of(declared)
        asked += asked_of_judges(plan, completions, baseline)
        if not session.record_only:
            for record in filter(None, (baseline, session.baselines.anchor(declared))):
                asked += session.views.asked(declared, record)
    return session.judges.judge(asked) if asked else Judgements()


def described(session: Session, task: Task) -> dict[str, Any]:
    """What records say of the judges besides their digests: models, versions, settings, how far they are calibrated."""
    found = {}
    for scorer in task.scorers:
        if judge := scorer.judge:
            known = judge.calibration
            found[scorer.name] = {
                "kind": judge.kind,
                "models": session.judges.described(judge),
                "versions": dict((judge.identity or {}).get("versions", {})),
                "settings": dict(judge.settings),
                "kappa": known.kappa if known else None,
                "interval": list(known.interval) if known and known.interval else None,
                "labels": known.n if known else None,
            }
    return found


def asides(scorer: Scorer, candidate: Evaluation | None, baseline: Evaluation | None) -> tuple[str, ...]:
    """What stands beside a judge's scores: how far it is calibrated, and what in the answers may sway it."""
    if scorer.judge is None:
        return ()
    known = scorer.judge.calibration
    if known is None:
        said = "uncalibrated judge: it informs and cannot block"
    elif scorer.judge.calibrated:
        said = f"judge calibrated: kappa {known.kappa:.2f} on {known.n} labels"
    else:
        said = f"judge below its floor: kappa {known.kappa:.2f} on {known.n} labels, {scorer.judge.floor:.2f} wanted"
    line = drift(candidate, baseline).line() if candidate and baseline else None
    return (said, line) if line else (said,)
