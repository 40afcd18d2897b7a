"""Small jobs on the tiny base: 64 sums, a few steps."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalgate.training.data import HELD_OUT, TRAIN
from evalgate.training.job import Job, Trained
from evalgate.training.log import Line
from evalgate.training.schema import Data, Distribution, Lora, Model, Optimizer, Schedule, TrainingConfig

V1, V2 = (Path(__file__).parents[2] / "fixtures/checkpoints" / name for name in ("v1", "v2"))
SUMS = [{"prompt": f"Q: {n}+{n % 7}=\nA:", "completion": f" {n + n % 7}"} for n in range(64)]
CHATS = [
    {"messages": [{"role": "user", "content": f"Add {n} and 2"}, {"role": "assistant", "content": f"{n + 2}."}]}
    for n in range(32)
]


@dataclass(frozen=True)
class Run:
    """A finished training: what went in, what came out, and every line that was told."""

    job: Job
    trained: Trained
    lines: tuple[Line, ...]


def config(**changes: Any) -> TrainingConfig:
    """A LoRA with dropout (so that the random state matters), two epochs of 16 steps, a state every 3."""
    values: dict[str, Any] = {
        "model": Model(base="base"),
        "data": Data(files=["rows.jsonl"], max_length=64),
        "lora": Lora(r=4, alpha=8, dropout=0.1),
        "optimizer": Optimizer(learning_rate=1e-3),
        "schedule": Schedule(epochs=2, batch_size=4, save_steps=3),
        "distribution": Distribution(device="cpu"),
    }
    return TrainingConfig(**(values | changes))


def make_job(
    folder: Path,
    config: TrainingConfig,
    rows: Iterable[Mapping[str, Any]] = SUMS,
    held_out: Iterable[Mapping[str, Any]] = (),
    **changes: Any,
) -> Job:
    """A job in a new work folder."""
    folder.mkdir(parents=True)
    for name, some in ((TRAIN, [*rows]), (HELD_OUT, [*held_out])):
        if some:
            (folder / name).write_text("".join(json.dumps(row) + "\n" for row in some), "utf-8")
    values: dict[str, Any] = {"base": V1, "adapter": None, "chat_template": None, "key": "sha256:" + "0" * 64}
    return Job(folder=folder, config=config, **(values | changes))
