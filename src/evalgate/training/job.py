"""What the parent tells the trainer's process, and what comes of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from evalgate.training.schema import TrainingConfig

JOB = "job.json"
EXPORTS = "exports"
FINAL = "final"
ENVIRONMENT = "environment.json"
TRACKERS = "trackers.json"


@dataclass(frozen=True, slots=True)
class Job:
    """Everything that the trainer needs; it reads and writes nothing outside of `folder` but the base and the adapter.

    Attributes:
        folder: the work folder, absolute; `train.jsonl` and, where rows are held out, `held_out.jsonl` lie in it.
        config: the resolved configuration.
        base: folder of the full weights, absolute, examined by preflight.
        adapter: folder of the adapter that is trained on, `None` for a fresh one.
        chat_template: a file to train and publish with instead of the base's.
        key: of this training: resume state with another key is not used.
        tracker_environment: variables of the trackers that the configuration names; they may hold secrets, so they
            go to the child's environment and never into `job.json`.
    """

    folder: Path
    config: TrainingConfig
    base: Path
    adapter: Path | None
    chat_template: Path | None
    key: str
    tracker_environment: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Export:
    """A folder of weights that the trainer finished: `epoch-1` … or `final`, at a (fractional) epoch and a step."""

    name: str
    folder: Path
    epoch: float
    step: int


@dataclass(frozen=True, slots=True)
class Trained:
    """What a finished training left.

    Attributes:
        exports: in the order in which they appeared; the last is `final`.
        losses: of every optimizer step, in order, in nats per token.
        grad_norms: of every step, `None` where float16 overflowed and it was skipped.
        learning_rates: of every step.
        held_out_loss: on the held-out rows after the last step, in nats per token; `None` without any.
        seconds: of wall time, over all interruptions.
        environment: package versions, processor, threads, GPU and flags of the process that trained.
        trackers: by name, what finds the run again.
    """

    exports: tuple[Export, ...]
    losses: tuple[float, ...]
    grad_norms: tuple[float | None, ...]
    learning_rates: tuple[float, ...]
    held_out_loss: float | None
    seconds: float
    environment: Mapping[str, Any]
    trackers: Mapping[str, Mapping[str, Any]]


def write_job(job: Job) -> None:
    """Write `job.json` into the work folder; tracker variables stay out of it."""
    value = {
        "config": job.config.as_json(),
        "base": str(job.base),
        "adapter": str(job.adapter) if job.adapter else None,
        "chat_template": str(job.chat_template) if job.chat_template else None,
        "key": job.key,
    }
    (job.folder / JOB).write_text(json.dumps(value, indent=2) + "\n", "utf-8")


def read_job(folder: Path) -> Job:
    """Read what `write_job` wrote."""
    value = json.loads((folder / JOB).read_text("utf-8"))
    return Job(
        folder=folder,
        config=config_from_json(value["config"]),
        base=Path(value["base"]),
        adapter=Path(value["adapter"]) if value["adapter"] else None,
        chat_template=Path(value["chat_template"]) if value["chat_template"] else None,
        key=value["key"],
    )


def config_from_json(value: Mapping[str, Any]) -> TrainingConfig:
    """The configuration that `TrainingConfig.as_json` wrote."""
    parts: dict[str, Any] = {}
    for each in fields(TrainingConfig):
        group = each.default_factory
        parts[each.name] = group(**value[each.name]) if is_dataclass(group) else value[each.name]
    return TrainingConfig(**parts)
