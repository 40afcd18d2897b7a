"""The search by Optuna: a study in one SQLite file, which goes on where it was after a kill."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalgate.errors import EvalgateError, MissingExtraError
from evalgate.sweep.definition import Dimension, Sweep
from evalgate.sweep.trial import Done, Outcome, Runner

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

PATIENCE = 3  # trials that may fail in a row
_RETRIES = "retries"  # user attribute: number of the trial whose point this one takes up


def search(sweep: Sweep, runner: Runner, path: Path, say: Callable[[Done], None]) -> list[Done]:
    """Run trials until as many as asked for have ended in full or at a rung; the caller holds the sweep's lock.

    A trial that a kill left running is told to have failed, and another takes up its point; so is one that failed with
    an error in an earlier start. The sampler is seeded anew for every trial, by how many came before: a sweep that was
    killed proposes the points that it would have proposed. Where so many in a row fail that it cannot be the points,
    the search ends.

    Args:
        sweep: what is searched.
        runner: of its points.
        path: of the SQLite file.
        say: is told of each trial that ended now.

    Returns:
        The trials that ended, and those that failed in this start, by number.
    """
    try:
        import optuna
    except ImportError:
        raise MissingExtraError("optuna", "sweep") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=f"sqlite:///{path}",
        study_name=sweep.name,
        direction="maximize" if sweep.direction == "maximize" else "minimize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=sweep.pruning.startup if sweep.pruning else 0),
        load_if_exists=True,
    )
    _take_up(study)
    failed: list[Done] = []
    in_a_row = 0
    space = {each.key: _distribution(each) for each in sweep.space}
    while (told := len(_ended(study)) + len(failed)) < sweep.trials and in_a_row < PATIENCE:
        study.sampler = optuna.samplers.TPESampler(seed=sweep.seed + told)
        done = _run(study, study.ask(space), sweep, runner)
        failed += [done] if done.error else []
        in_a_row = in_a_row + 1 if done.error else 0
        say(done)
    kept = [_done(each, sweep) for each in _ended(study)]
    return sorted([*kept, *failed], key=lambda done: done.number)


def _take_up(study: Study) -> None:
    """Every point whose trial was killed or failed is proposed once more."""
    from optuna.trial import TrialState

    for each in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(each.number, state=TrialState.FAIL)
    trials = study.get_trials()
    taken_up = {each.user_attrs.get(_RETRIES) for each in trials}
    for each in trials:
        if each.state is TrialState.FAIL and each.params and each.number not in taken_up:
            study.enqueue_trial(each.params, user_attrs={_RETRIES: each.number})


def _run(study: Study, trial: Trial, sweep: Sweep, runner: Runner) -> Done:
    """Run the point of a trial, at each rung first, and tell the study."""
    from optuna.trial import TrialState

    overrides = _overrides(trial.params, sweep)
    try:
        for step, rung in enumerate(sweep.pruning.rungs if sweep.pruning else ()):
            assert sweep.pruning  # noqa: S101 - there are no rungs without it
            outcome = runner.run([*overrides, f"{sweep.pruning.key}={rung}"])
            trial.report(outcome.value, step)
            if trial.should_prune():
                _note(trial, outcome)
                study.tell(trial, state=TrialState.PRUNED)
                return Done(trial.number, overrides, outcome, pruned=True)
        outcome = runner.run(overrides)
    except EvalgateError as error:
        study.tell(trial, state=TrialState.FAIL)
        return Done(trial.number, overrides, error=str(error))
    _note(trial, outcome)
    trial.set_constraint("gate", 0.0 if outcome.feasible else 1.0)
    study.tell(trial, outcome.value)
    return Done(trial.number, overrides, outcome)


def _note(trial: Trial, outcome: Outcome) -> None:
    for name in Outcome.__slots__:
        trial.set_user_attr(name, getattr(outcome, name))


def _ended(study: Study) -> list[FrozenTrial]:
    from optuna.trial import TrialState

    return study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))


def _done(trial: FrozenTrial, sweep: Sweep) -> Done:
    from optuna.trial import TrialState

    outcome = Outcome(**{name: trial.user_attrs[name] for name in Outcome.__slots__})
    return Done(trial.number, _overrides(trial.params, sweep), outcome, pruned=trial.state is TrialState.PRUNED)


def _overrides(params: dict[str, Any], sweep: Sweep) -> tuple[str, ...]:
    return tuple(f"{each.key}={each.text(params[each.key])}" for each in sweep.space)


def _distribution(dimension: Dimension) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if dimension.choices:
        return CategoricalDistribution(dimension.choices)
    low, high = dimension.low, dimension.high
    if dimension.whole:
        return IntDistribution(int(low), int(high), log=dimension.log, step=int(dimension.step or 1))
    return FloatDistribution(low, high, log=dimension.log, step=dimension.step)
