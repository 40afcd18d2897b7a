"""What is written into a tracker's run once the training is over, and the protocol of those that write it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from evalgate.gate import Family
from evalgate.version import LINEAGE, Lineage

PREFIX = "evalgate/"


@dataclass(frozen=True, slots=True)
class Note:
    """Facts of one version, under names that begin with `evalgate/`.

    Attributes:
        version: its name.
        step: optimizer steps behind it: versions of one training share a run and differ in this.
        params: of the training; they never change.
        tags: of the version and its verdict; a later note replaces them.
        metrics: differences from the baseline and means, in the metrics' own units, higher differences are better.
        files: to be kept with the run, absolute.
    """

    version: str
    step: int = 0
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    files: tuple[str, ...] = ()


class Tracker(Protocol):
    """One tracker; the modules of this package that bear its name are it."""

    def write(self, run: Mapping[str, Any], note: Note) -> str:
        """Write a note into a run, and say in words which that was; called in a child process, in the project's root.

        Args:
            run: what finds it again, as `evalgate.json` keeps it; paths are relative to the root.
            note: what is written.
        """


def note_of(
    lineage: Lineage, folder: Path, *, family: Family | None = None, card: Path | None = None, ledger: str | None = None
) -> Note:
    """What trackers are told of a version.

    Args:
        lineage: of the version.
        folder: of the version.
        family: its verdicts, once it was gated.
        card: its model card.
        ledger: head of the ledger after the verdict.
    """
    training, parent = lineage.training, lineage.parent
    params = {
        "config_digest": training.config_digest if training else None,
        "data_digest": training.data_digest if training else None,
        "training_key": training.key if training else None,
        "parent": parent.path if parent else None,
        "parent_digest": parent.digest if parent else None,
    }
    tags = {"version": lineage.name, "digest": lineage.digest, "why": lineage.why, "ledger": ledger}
    metrics: dict[str, float] = {}
    if family:
        tags |= {"verdict": str(family.outcome), "reason": family.reason}
        for verdict in family.verdicts:
            name = f"{verdict.task}::{verdict.metric}"
            tags[f"verdict/{name}"] = str(verdict.outcome)
            if verdict.value is not None:
                metrics[f"value/{name}"] = verdict.value
            if verdict.comparison is not None:
                metrics[f"difference/{name}"] = verdict.comparison.test.delta
    return Note(
        version=lineage.name,
        step=lineage.step or 0,
        params={PREFIX + key: value for key, value in params.items() if value},
        tags={PREFIX + key: value for key, value in tags.items() if value},
        metrics={PREFIX + key: value for key, value in metrics.items()},
        files=tuple(str(path.resolve()) for path in (folder / LINEAGE, card) if path is not None and path.is_file()),
    )
