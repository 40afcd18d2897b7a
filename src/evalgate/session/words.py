"""What a session is about: tasks where they were collected, candidates, and the tests selected from both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
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
        task: as declared; in a session with its judges bound.
        suite: the suite's file.
        source: the task as it stands in the suite, where `task` is another object.
    """

    id: str
    task: Task
    suite: Path
    source: Task | None = None

    @property
    def written(self) -> Task:
        """The task as it stands in the suite."""
        return self.source or self.task


def declare(known: dict[str, Declared], declared: Declared, bind: Callable[[Declared], Task]) -> Declared:
    """Add a task to those that were collected, with its judges bound (ConfigError where another one has its id)."""
    other = known.get(declared.id)
    if other is None:
        known[declared.id] = other = replace(declared, task=bind(declared), source=declared.written)
    if other.written is not declared.written:
        raise ConfigError(
            f"{declared.suite} and {other.suite} both declare {declared.id}",
            mend="Rename one of the files or tasks.",
        )
    return other


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
