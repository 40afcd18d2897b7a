"""What a session is about: tasks where they were collected, candidates, and the tests selected from both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from evalgate.checkpoint import Checkpoint
from evalgate.errors import ConfigError
from evalgate.evaluation import Evaluation
from evalgate.task import Task
from evalgate.version import Lineage


@dataclass(frozen=True, slots=True)
class Declared:
    """A task where it was collected.

    Attributes:
        id: `suite/task`.
        task: as declared.
        suite: the suite's file.
    """

    id: str
    task: Task
    suite: Path


def declare(known: dict[str, Declared], declared: Declared) -> None:
    """Add a task to those that were collected (ConfigError where another one has its id)."""
    other = known.setdefault(declared.id, declared)
    if other.task is not declared.task:
        raise ConfigError(
            f"{declared.suite} and {other.suite} both declare {declared.id}",
            mend="Rename one of the files or tasks.",
        )


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is gated: a checkpoint on this machine, one still to be trained, or records of one evaluated elsewhere.

    Attributes:
        name: in test ids, tables and report folders.
        digest: of the checkpoint; of the recipe until it is trained.
        checkpoint: `None` where only records are known, and until it is trained.
        recorded: task id to evaluation, where records are gated.
        lineage: how it was made, for a version that evalgate published.
    """

    name: str
    digest: str
    checkpoint: Checkpoint | None = None
    recorded: Mapping[str, Evaluation] = field(default_factory=dict)
    lineage: Lineage | None = None


@dataclass(frozen=True, slots=True)
class Selected:
    """One test: a metric of a task on a candidate."""

    task: str
    metric: str
    candidate: str
