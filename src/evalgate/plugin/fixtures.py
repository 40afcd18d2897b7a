"""The fixtures: evaluate a task in an ordinary test, and train a candidate there."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import pytest

from evalgate.config import load_config, project_root
from evalgate.evaluation import Evaluation
from evalgate.plugin import options
from evalgate.plugin.items import COLLECTED, gated_run, suite_name
from evalgate.plugin.progress import TerminalProgress
from evalgate.session import Declared, Session
from evalgate.task import Task
from evalgate.text import typed

_SESSION = pytest.StashKey[Session]()


class Evaluate(Protocol):
    """The `evaluate` fixture."""

    def __call__(self, task: Task, version: Path | None = None) -> Evaluation:
        """Evaluate a task on the session's checkpoint, or on a version that `finetune` has made.

        Raises:
            EvalgateError: the engine or the training failed, or the task or version is wrong.
        """


class Finetune(Protocol):
    """The `finetune` fixture."""

    def __call__(self, config: str | Path, *overrides: str) -> Path:
        """Train and publish, or find what the same recipe made before: the version's folder.

        Args:
            config: a training configuration, relative to where pytest was started.
            overrides: `key=value`, as after `--train-set`.

        Raises:
            EvalgateError: the configuration, its data or the training is at fault.
        """


def evaluate_for(request: pytest.FixtureRequest) -> Evaluate:
    """The function behind the `evaluate` fixture."""
    run = gated_run(request.config)
    if run is None and "finetune" not in request.fixturenames:
        raise pytest.UsageError("the evaluate fixture needs a checkpoint: pytest evalsuites/ --model runs/v3")
    session = session_of(request.config)
    chosen = getattr(request, "param", None)

    def evaluate(task: Task, version: Path | None = None) -> Evaluation:
        name = session.admit(version) if version else chosen or next(iter(session.candidates), None)
        if name is None:
            raise pytest.UsageError("evaluate(task, version) needs a version where no --model was given")
        return session.evaluation(_declared(session, task, request), name)

    return evaluate


def finetune_for(request: pytest.FixtureRequest) -> Finetune:
    """The function behind the `finetune` fixture."""
    session = session_of(request.config)
    for declared in request.config.stash.get(COLLECTED, []):
        session.declare(declared)

    def finetune(config: str | Path, *overrides: str) -> Path:
        return session.finetune(str(config), overrides)

    return finetune


def session_of(config: pytest.Config) -> Session:
    """The session of the gated run; without one, a session of its own that gates nothing."""
    run = gated_run(config)
    if run:
        return run.session
    if _SESSION not in config.stash:
        root = project_root(config.invocation_params.dir)
        config.stash[_SESSION] = session = Session(
            load_config(root, options.overrides(config)),
            root,
            command=typed("pytest", *config.invocation_params.args),
            progress=TerminalProgress(config),
        )
        config.add_cleanup(session.close)
    return config.stash[_SESSION]


def _declared(session: Session, task: Task, request: pytest.FixtureRequest) -> Declared:
    """Where a task was collected; one that was not takes its name from the test's module."""
    known = next((d for d in session.declared.values() if d.written is task), None)
    if known:
        return known
    module = request.module
    name = task.name or next((key for key, value in vars(module).items() if value is task), request.node.originalname)
    return Declared(f"{suite_name(request.path)}/{name}", task, request.path)
