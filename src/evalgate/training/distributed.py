"""Who shares the work: how several processes begin, what must be in force before the first step, how weights are saved.

One way for the CPU and for GPUs: `accelerate launch` starts the ranks, transformers' Trainer wraps for DDP and for
DeepSpeed, and for FSDP `from_pretrained` shards by torch's `fully_shard`. accelerate's own FSDP is not used: on a CPU
it silently becomes DDP.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalgate.errors import TrainingError
from evalgate.training.schema import Distribution, TrainingConfig

if TYPE_CHECKING:
    import torch

LAUNCH = "accelerate.json"
BUCKET = 50_000_000  # elements of DeepSpeed's buffers; its own default of 5e8 takes gigabytes before the first step


def launch_environment(distribution: Distribution, environ: Mapping[str, str]) -> dict[str, str]:
    """Variables of ranks that talk to each other on this machine only; what `environ` says itself stays."""
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")
    ours = {
        "GLOO_SOCKET_IFNAME": loopback,
        "NCCL_SOCKET_IFNAME": loopback,
        "PYTHONSAFEPATH": "1",  # the launcher starts the ranks without -P
    }
    chosen = {name: environ.get(name, value) for name, value in ours.items()}
    if distribution.device == "cpu":
        chosen["CUDA_VISIBLE_DEVICES"] = ""  # DeepSpeed and transformers' sharding take a GPU wherever they see one
    return chosen


def write_launch(distribution: Distribution, folder: Path) -> Path:
    """Write what `accelerate launch` reads, so that nobody's own default configuration has a say."""
    settings = {
        "compute_environment": "LOCAL_MACHINE",
        # MULTI_CPU would start one process only. This starts all, and the worker says which device they use.
        "distributed_type": "MULTI_GPU",
        "num_machines": 1,
        "num_processes": distribution.processes,
        "main_process_port": 0,  # a free one: two trainings at once do not meet
        "mixed_precision": "no",  # Trainer's arguments say it
        "use_cpu": False,
        "debug": False,
    }
    path = folder / LAUNCH
    path.write_text(json.dumps(settings, indent=2) + "\n", "utf-8")
    return path


def trainer_arguments(config: TrainingConfig, *, cpu: bool) -> dict[str, Any]:
    """What transformers' TrainingArguments get besides the rest; to be made before the model is loaded (ZeRO-3).

    Raises:
        TrainingError: there are fewer GPUs than processes.
    """
    sharing = config.distribution
    if sharing.kind != "none" and not cpu:
        _require_gpus(sharing.processes)
    if sharing.kind == "ddp":
        return {"ddp_find_unused_parameters": False}
    if sharing.kind != "deepspeed":
        return {}
    if cpu:
        _without_compiler()
    zero = {
        "stage": sharing.zero_stage,
        "reduce_bucket_size": BUCKET,
        "allgather_bucket_size": BUCKET,
        "stage3_gather_16bit_weights_on_model_save": True,  # whole weights, in their own type
    }
    auto = ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")
    settings: dict[str, Any] = {"zero_optimization": zero, "zero_allow_untested_optimizer": True}
    settings |= dict.fromkeys(auto, "auto") | {"bf16": {"enabled": "auto"}, "fp16": {"enabled": "auto"}}
    return {"deepspeed": settings}


def model_arguments(distribution: Distribution) -> dict[str, Any]:
    """What `from_pretrained` gets: with `fsdp` each rank reads its shards, and `fully_shard` manages every layer."""
    if distribution.kind != "fsdp":
        return {}
    from transformers.distributed.configuration_utils import DistributedConfig

    return {"distributed_config": DistributedConfig(fsdp_size=distribution.processes)}


def resumable(distribution: Distribution) -> bool:
    """Whether a killed training goes on from its last state; sharded by `fully_shard`, it begins again."""
    return distribution.kind != "fsdp"


def in_force(wrapped: torch.nn.Module) -> tuple[str, int]:
    """Who really shares the work of a model that is ready to be trained, read from the model itself.

    Returns:
        `none`, `ddp`, `fsdp` or `deepspeed-<stage>`, and the number of processes; or words for something else.
    """
    import torch
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor

    world = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    if hasattr(wrapped, "zero_optimization_stage"):  # a DeepSpeedEngine, without importing DeepSpeed
        return f"deepspeed-{wrapped.zero_optimization_stage()}", int(wrapped.dp_world_size)
    if isinstance(wrapped, torch.nn.parallel.DistributedDataParallel):
        return "ddp", torch.distributed.get_world_size(wrapped.process_group)
    if any(isinstance(module, FSDPModule) for module in wrapped.modules()):
        # An adapter is added after the base was sharded: each rank has all of it.
        base = [value for name, value in wrapped.named_parameters() if "lora_" not in name]
        whole = sum(not isinstance(value, DTensor) for value in base)
        return (f"fsdp that left {whole} of {len(base)} tensors whole" if whole else "fsdp"), world
    return "none", world


def confirm(wrapped: torch.nn.Module, distribution: Distribution) -> str:
    """Before the first step, on every rank: what was asked for is in force.

    Returns:
        What is in force, for the log.

    Raises:
        TrainingError: something else is.
    """
    kind = distribution.kind
    asked = f"deepspeed-{distribution.zero_stage}" if kind == "deepspeed" else kind
    found, world = in_force(wrapped)
    if (found, world) != (asked, distribution.processes):
        wanted, real = _processes(distribution.processes), _processes(world)
        raise TrainingError(
            f"asked for {asked} over {wanted}, in force is {found} over {real}", where="distribution.kind"
        )
    return found


def save_weights(trainer: Any, folder: Path) -> None:
    """Write the model as Hugging Face or PEFT folder; every rank calls this, the main one writes.

    Raises:
        TrainingError: the ranks hold different weights.
    """
    from torch.distributed.fsdp import FSDPModule

    accelerator, wrapped = trainer.accelerator, trainer.model_wrapped
    shards = [module for module in wrapped.modules() if isinstance(module, FSDPModule)]
    for module in shards:
        module.reshard()  # a forward pass without a backward one, of held-out rows, left some of them whole
    found, world = in_force(wrapped)
    if world > 1:
        _confirm_equal(wrapped)
    weights = accelerator.get_state_dict(wrapped) if found == "deepspeed-3" else None
    if accelerator.is_main_process or shards:  # which come together inside save_pretrained
        model = accelerator.unwrap_model(trainer.model)
        model.save_pretrained(folder, is_main_process=accelerator.is_main_process, state_dict=weights)
    accelerator.wait_for_everyone()


def largest_weight(model: torch.nn.Module) -> float:
    """Of what this rank holds of the trained weights, by magnitude; not finite where one of them is not."""
    import torch

    own = [_local(value).detach().abs().max() for value in model.parameters() if value.requires_grad]
    return float(torch.stack(own).max())


def _local(value: Any) -> Any:
    """This rank's part of a parameter: ZeRO-3 keeps it beside an empty shell, a DTensor inside."""
    part = getattr(value, "ds_tensor", value)
    return part.to_local() if hasattr(part, "to_local") else part


def _confirm_equal(wrapped: torch.nn.Module) -> None:
    """What every rank holds whole and trains must be the same everywhere, else the ranks have not shared anything."""
    import torch
    from torch.distributed.tensor import DTensor

    sums = [
        value.detach().double().sum()
        for value in wrapped.parameters()
        if value.requires_grad and not isinstance(value, DTensor) and value.numel()  # ZeRO-3 leaves empty shells
    ]
    if not sums:
        return
    mine = torch.stack(sums)
    every = [torch.empty_like(mine) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(every, mine)
    if any(not torch.equal(mine, other) for other in every):
        raise TrainingError("the processes hold different weights: their gradients were not shared")


def _require_gpus(processes: int) -> None:
    import torch

    if (count := torch.cuda.device_count()) < processes:
        raise TrainingError(
            f"{_processes(processes)} need as many GPUs, torch sees {count}",
            where="distribution.processes",
            mend="Lower it, or write distribution.device=cpu.",
        )


def _without_compiler() -> None:
    """Let gloo talk: DeepSpeed would compile a C++ extension of its own at the first use on a CPU."""
    import deepspeed  # type: ignore[import-untyped]

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def _processes(count: int) -> str:
    return f"{count} process{'' if count == 1 else 'es'}"
