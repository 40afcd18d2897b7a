"""What the ranks are started with, as far as no torch is needed to say it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evalgate.training.distributed import launch_environment, resumable, trainer_arguments, write_launch
from evalgate.training.schema import Distribution, TrainingConfig


def test_the_launcher_reads_our_file_only(tmp_path: Path) -> None:
    """All processes of one machine, a free port, and nothing that the user's own accelerate configuration could add."""
    path = write_launch(Distribution("ddp", processes=3), tmp_path)
    said = json.loads(path.read_text())
    assert path.parent == tmp_path
    assert (said["num_processes"], said["num_machines"], said["main_process_port"]) == (3, 1, 0)
    assert said["distributed_type"] == "MULTI_GPU"  # with MULTI_CPU accelerate starts one process
    assert said["use_cpu"] is False


def test_ranks_talk_over_loopback() -> None:
    """Gloo and NCCL get the loopback interface, unless the person says another one."""
    ours = launch_environment(Distribution("ddp", 2), {})
    assert ours["GLOO_SOCKET_IFNAME"].startswith("lo")
    assert ours["NCCL_SOCKET_IFNAME"] == ours["GLOO_SOCKET_IFNAME"]
    theirs = launch_environment(Distribution("ddp", 2), {"GLOO_SOCKET_IFNAME": "eth7"})
    assert theirs["GLOO_SOCKET_IFNAME"] == "eth7"


def test_the_launcher_keeps_the_current_folder_out() -> None:
    """accelerate starts the ranks without -P, so the variable says it."""
    assert launch_environment(Distribution("fsdp", 2), {})["PYTHONSAFEPATH"] == "1"


@pytest.mark.parametrize(("device", "seen"), [("cpu", ""), ("auto", "0,1"), ("cuda", "0,1")])
def test_no_gpu_is_seen_where_the_cpu_is_asked_for(device: str, seen: str) -> None:
    """DeepSpeed and FSDP would take one by themselves, whatever the trainer was told."""
    environ = {"CUDA_VISIBLE_DEVICES": "0,1"}
    chosen = launch_environment(Distribution("fsdp", 2, device=device), environ)
    assert (environ | chosen)["CUDA_VISIBLE_DEVICES"] == seen


@pytest.mark.parametrize(("kind", "resumes"), [("none", True), ("ddp", True), ("deepspeed", True), ("fsdp", False)])
def test_what_resumes(kind: str, resumes: bool) -> None:
    """A training sharded by `fully_shard` begins again: half of its states would be silently wrong."""
    assert resumable(Distribution(kind, 2)) is resumes


def test_kinds_differ_in_their_arguments() -> None:
    """DDP is told that no weight is left out; one process and FSDP need nothing of the trainer."""
    sharing = {kind: TrainingConfig(distribution=Distribution(kind, 2)) for kind in ("none", "ddp", "fsdp")}
    said = {kind: trainer_arguments(config, cpu=True) for kind, config in sharing.items()}
    assert said == {"none": {}, "ddp": {"ddp_find_unused_parameters": False}, "fsdp": {}}
