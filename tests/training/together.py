"""Ranks that check by themselves what `training.distributed` says: `python -m torch.distributed.run … together.py`.

Each rank prints one line per question; the test reads the lines of both.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from evalgate.errors import TrainingError
from evalgate.training.distributed import confirm, in_force, save_weights, trainer_arguments
from evalgate.training.schema import Distribution, TrainingConfig


class Accelerator(SimpleNamespace):
    """What `save_weights` asks of accelerate's."""

    is_main_process = False

    def wait_for_everyone(self) -> None:
        torch.distributed.barrier()


def layers() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))


def say(question: str, answer: object) -> None:
    # One write: two ranks share the pipe.
    os.write(1, f"{question}: {answer}\n".encode())


def refusal(model: torch.nn.Module, distribution: Distribution) -> str:
    try:
        return confirm(model, distribution)
    except TrainingError as error:
        return str(error)


def main() -> None:
    torch.distributed.init_process_group("gloo")
    mesh = torch.distributed.init_device_mesh("cpu", (2,))
    two: dict[str, Any] = {"processes": 2, "device": "cpu"}
    wrapped = DistributedDataParallel(layers())
    say("ddp", refusal(wrapped, Distribution("ddp", **two)))
    say("ddp as fsdp", refusal(wrapped, Distribution("fsdp", **two)))
    say("ddp as zero", refusal(wrapped, Distribution("deepspeed", **two)))
    say("ddp of 3", refusal(wrapped, Distribution("ddp", 3)))
    say("bare as ddp", refusal(layers(), Distribution("ddp", **two)))
    whole = layers()
    for layer in whole:
        fully_shard(layer, mesh=mesh)
    say("fsdp", refusal(whole, Distribution("fsdp", **two)))
    half = layers()
    fully_shard(half[0], mesh=mesh)
    say("half", in_force(half))
    try:
        trainer_arguments(TrainingConfig(distribution=Distribution("ddp", 64)), cpu=False)
    except TrainingError as error:
        say("gpus", str(error).replace(str(torch.cuda.device_count()), "too few"))
    with torch.no_grad():
        next(wrapped.parameters()).add_(torch.distributed.get_rank())
    trainer = SimpleNamespace(accelerator=Accelerator(), model_wrapped=wrapped, model=wrapped.module)
    try:
        save_weights(trainer, Path(sys.argv[1]))
    except TrainingError as error:
        say("unequal", error)


if __name__ == "__main__":
    main()
