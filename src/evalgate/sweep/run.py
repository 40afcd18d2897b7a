"""A whole sweep: checked, one at a time, over one unchanging project, by the search that was chosen."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from evalgate.config import Config, load_config, project_root
from evalgate.digest import PREFIX, digest
from evalgate.errors import ConfigError, RecordError
from evalgate.lock import alone
from evalgate.preflight import read_checkpoint, resolve_model
from evalgate.store import write_atomically
from evalgate.sweep.definition import Sweep
from evalgate.sweep.trial import Done, Runner
from evalgate.training.config import load_training
from evalgate.training.schema import TrainingConfig

_MAY_CHANGE = ("trials", "parallel")  # of a definition: more trials go on with the same search


def run_sweep(
    sweep: Sweep, *, metrics: Callable[[tuple[str, ...]], Collection[str]], say: Callable[[Done], None], start: Path
) -> list[Done]:
    """Search, or go on with a search of the same name.

    Args:
        sweep: checked.
        metrics: from suites to the `suite/task::metric` that they declare.
        say: is told of each trial that ended.
        start: a folder in the project.

    Returns:
        Every trial that ended, and those that failed in this start.

    Raises:
        ConfigError: the space or the objective does not fit the project, or the project changed since the sweep began.
        EvalgateError: another process runs the same sweep.
    """
    root = project_root(start)
    config = load_config(root, {})
    suites = sweep.suites or (config.suites,)
    configs = _require_trainable(sweep, root)
    _require_objective(sweep, metrics(tuple(os.path.relpath(root / suite, start) for suite in suites)))
    folder = root / config.state / "sweeps" / sweep.name
    with alone(folder.with_name(f"{sweep.name}.lock"), f"the sweep {sweep.name}"):
        _require_unchanged(folder / "about.json", _about(sweep, root, config, configs, suites), sweep.name)
        runner = Runner(sweep, root, folder, suites)
        if sweep.backend == "ray":
            from evalgate.sweep.cluster import search as ray_search

            return ray_search(sweep, runner, folder / "ray", say)
        from evalgate.sweep.study import search

        return search(sweep, runner, folder.with_name(f"{sweep.name}.sqlite"), say)


def _require_trainable(sweep: Sweep, root: Path) -> list[TrainingConfig]:
    """The training configuration takes every choice, every end and every rung."""
    configs = [load_training(root / sweep.train, overrides, root) for overrides in sweep.checks()]
    if configs[0].name is not None:
        mend = "Leave it out: the next free name is taken."
        raise ConfigError(f"name: {configs[0].name} can be one trial's only", where=sweep.train, mend=mend)
    return configs


def _require_objective(sweep: Sweep, metrics: Collection[str]) -> None:
    if sweep.objective not in metrics:
        near = get_close_matches(sweep.objective, metrics, 1)
        listed = ", ".join(sorted(metrics)) or "none"
        mend = f"Did you mean {near[0]}?" if near else f"There are: {listed}."
        raise ConfigError(f"objective = {sweep.objective} is declared by no suite", where=sweep.name, mend=mend)


def _about(
    sweep: Sweep, root: Path, config: Config, configs: list[TrainingConfig], suites: tuple[str, ...]
) -> dict[str, str]:
    """What scores of different trials must have in common to be compared, by digest."""
    definition = {key: value for key, value in asdict(sweep).items() if key not in _MAY_CHANGE}
    data = sorted({file for each in configs for file in each.data.files})
    named = {each.model.base for each in configs}
    bases = sorted(str(root / base) if (root / base).exists() else base for base in named)
    templates = sorted({each.model.chat_template for each in configs if each.model.chat_template})
    return {
        "the sweep's definition": digest(definition),
        "the training configuration": digest([each.as_json() for each in configs]),
        "the base model": digest(
            [
                read_checkpoint(resolve_model(str(root / base) if (root / base).exists() else base)).digest
                for base in bases
            ]
            + [_bytes(root / template) for template in templates]
        ),
        "the training data": digest({file: _bytes(root / file) for file in data}),
        "the suites": digest({str(path.relative_to(root)): _bytes(path) for path in _files(root, suites)}),
        "[tool.evalgate]": digest(_plain(asdict(config))),
    }


def _files(root: Path, suites: tuple[str, ...]) -> list[Path]:
    """Everything in the folders of the suites that may change a score or a verdict."""
    folders = {path if path.is_dir() else path.parent for path in (root / each.partition("::")[0] for each in suites)}
    found = (path for folder in folders for path in folder.rglob("*") if path.suffix in (".py", ".jsonl", ".jinja"))
    return sorted(set(found))


def _bytes(path: Path) -> str:
    return PREFIX + hashlib.sha256(path.read_bytes()).hexdigest()


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=list))


def _require_unchanged(path: Path, about: dict[str, str], name: str) -> None:
    """A score from before a change says nothing beside one from after it."""
    if not path.exists():
        write_atomically(path, json.dumps(about, indent=1).encode() + b"\n")
        return
    try:
        before = dict(json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError) as exc:
        mend = "Give the sweep another name: nobody can say what its scores were measured on."
        raise RecordError(f"is damaged: {exc}", where=str(path), mend=mend) from exc
    changed = [part for part, now in about.items() if before.get(part) != now]
    if changed:
        raise ConfigError(
            f"{' and '.join(changed)} changed since the sweep {name} began: its scores cannot be compared any more",
            where=str(path.parent),
            mend="Give the sweep another name, or undo the change.",
        )
