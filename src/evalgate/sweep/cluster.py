"""The search by Ray Tune: random points, several at once, on as many machines as Ray has."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evalgate.errors import EvalgateError, MissingExtraError
from evalgate.sweep.definition import Dimension, Sweep
from evalgate.sweep.trial import Done, Outcome, Runner

# No usage statistics, one plain table instead of Ray's own, and no loggers that ask for more packages.
_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AIR_NEW_OUTPUT": "0", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1"}


def search(sweep: Sweep, runner: Runner, folder: Path, say: Callable[[Done], None]) -> list[Done]:
    """Run every trial; the caller holds the sweep's lock.

    The seed decides the points, and a point that ended is never run again: so a sweep that was killed is started again
    from the first trial, and those that had ended return at once. Where Ray is connected to a cluster already
    (`RAY_ADDRESS`), the project must lie on storage that its machines share.

    Args:
        sweep: what is searched.
        runner: of its points.
        folder: for Ray's own files.
        say: is told of each trial, once all have ended.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        from ray import tune
    except ImportError:
        raise MissingExtraError("ray", "ray") from None
    ray.init(
        num_cpus=None if os.environ.get("RAY_ADDRESS") else sweep.parallel,
        include_dashboard=False,
        logging_level=logging.ERROR,
        log_to_driver=False,
    )
    try:
        tuner = tune.Tuner(
            _trainable(sweep, runner),
            param_space={each.key: _domain(each) for each in sweep.space},
            tune_config=tune.TuneConfig(
                num_samples=sweep.trials,
                search_alg=tune.search.BasicVariantGenerator(max_concurrent=sweep.parallel, random_state=sweep.seed),
            ),
            run_config=tune.RunConfig(name=sweep.name, storage_path=str(folder.absolute()), verbose=0),
        )
        found = tuner.fit()
    finally:
        ray.shutdown()
    done = [_done(number, found[number], sweep) for number in range(len(found))]
    for each in done:
        say(each)
    return done


def _trainable(sweep: Sweep, runner: Runner) -> Callable[[Mapping[str, Any]], None]:
    def trial(params: Mapping[str, Any]) -> None:
        from ray import tune

        try:
            tune.report({"outcome": asdict(runner.run(_overrides(params, sweep))), "error": None})
        except EvalgateError as error:
            tune.report({"outcome": None, "error": str(error)})

    return trial


def _done(number: int, result: Any, sweep: Sweep) -> Done:
    overrides = _overrides(result.config, sweep)
    if result.error:
        return Done(number, overrides, error=" ".join(str(result.error).split())[-300:])
    outcome = result.metrics["outcome"]
    return Done(number, overrides, Outcome(**outcome) if outcome else None, error=result.metrics["error"])


def _overrides(params: Mapping[str, Any], sweep: Sweep) -> tuple[str, ...]:
    return tuple(f"{each.key}={each.text(params[each.key])}" for each in sweep.space)


def _domain(dimension: Dimension) -> Any:
    from ray import tune

    low, high, step = dimension.low, dimension.high, dimension.step
    if dimension.choices:
        return tune.choice(list(dimension.choices))
    if dimension.whole:
        if dimension.log:
            return tune.lograndint(int(low), int(high) + 1)
        return tune.qrandint(int(low), int(high), int(step)) if step else tune.randint(int(low), int(high) + 1)
    if dimension.log:
        return tune.loguniform(low, high)
    return tune.quniform(low, high, step) if step else tune.uniform(low, high)
