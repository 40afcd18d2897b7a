"""Several processes really share the work: DDP, DeepSpeed and FSDP over two ranks of this machine, on gloo."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evalgate.errors import TrainingError
from evalgate.preflight import read_checkpoint
from evalgate.training.distributed import LAUNCH
from evalgate.training.job import write_job
from evalgate.training.log import Line, read_log
from evalgate.training.process import train
from tests.training.conftest import ROWS, Shared, children, sharing
from tests.training.jobs import V1, make_job

HERE = Path(__file__).parent


def test_what_is_in_force_is_read_from_the_model(tmp_path: Path) -> None:
    """DDP under the name of FSDP, a half-sharded model, a wrong number of ranks and unequal ranks are all refused."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*command, str(HERE / "together.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        check=False,
    )
    said = sorted(set(done.stdout.splitlines()))
    refused = "distribution.kind: asked for {} over {} processes, in force is {} over 2 processes"
    assert said == sorted(
        [
            "ddp: ddp",
            f"ddp as fsdp: {refused.format('fsdp', 2, 'ddp')}",
            f"ddp as zero: {refused.format('deepspeed-2', 2, 'ddp')}",
            f"ddp of 3: {refused.format('ddp', 3, 'ddp')}",
            f"bare as ddp: {refused.format('ddp', 2, 'none')}",
            "fsdp: fsdp",
            "half: ('fsdp that left 2 of 4 tensors whole', 2)",
            "gpus: distribution.processes: 64 processes need as many GPUs, torch sees too few. "
            "Lower it, or write distribution.device=cpu.",
            "unequal: the processes hold different weights: their gradients were not shared",
        ]
    ), done.stderr[-2000:]
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "kind", "method"),
    [
        ("ddp", "ddp", "lora"),
        ("fsdp", "fsdp", "lora"),
        ("fsdp_full", "fsdp", "full"),
        ("deepspeed", "deepspeed-2", "full"),
    ],
)
def test_two_processes_train_one_version(name: str, kind: str, method: str, request: pytest.FixtureRequest) -> None:
    """What was asked for is in force, steps count both ranks' rows, one rank writes, and a version comes of it."""
    made: Shared = request.getfixturevalue(name)
    starts = [line for line in made.lines if line["kind"] == "start"]
    steps = [line["step"] for line in made.lines if line["kind"] == "step"]
    assert [(line["distributed"], line["world_size"]) for line in starts] == [(kind, 2)]
    assert steps == list(range(1, 9))  # 32 rows, twice, by 2 processes of 4 rows each
    assert [export.name for export in made.trained.exports] == ["epoch-1", "final"]
    assert made.trained.environment["world_size"] == 2
    assert made.trained.losses[-1] < made.trained.losses[0]
    assert made.checkpoint.kind == ("full" if method == "full" else "adapter")
    assert made.checkpoint.digest != read_checkpoint(V1).digest


def test_fsdp_gives_what_ddp_gives(ddp: Shared, fsdp: Shared) -> None:
    """The same adapter by sharded and by whole bases: the same losses, and nothing of the shards in the files."""
    assert fsdp.trained.losses == pytest.approx(ddp.trained.losses, rel=1e-5)
    assert sizes(fsdp) == sizes(ddp)


def test_full_weights_are_what_one_process_writes(fsdp_full: Shared, deepspeed: Shared) -> None:
    """Gathered shards give every tensor of the base once, tied ones too, and its own configuration."""
    base = {path.name: path.stat().st_size for path in V1.iterdir()}
    for made in (fsdp_full, deepspeed):
        assert sizes(made).items() <= base.items()
        assert (made.trained.exports[-1].folder / "config.json").read_bytes() == (V1 / "config.json").read_bytes()
    assert fsdp_full.trained.losses == pytest.approx(deepspeed.trained.losses, rel=1e-4)


def test_deepspeed_compiles_nothing(deepspeed: Shared) -> None:
    """On a CPU gloo talks; DeepSpeed's own extension would need a compiler at the first training."""
    log = (deepspeed.job.folder / "trainer.log").read_text()
    assert "DeepSpeed" not in log
    assert "built successfully" not in log


def test_trainings_at_once_do_not_meet(fsdp: Shared, fsdp_full: Shared) -> None:
    """Two trainings of two ranks each ran at the same time, each over a port of its own."""
    assert json.loads((fsdp.job.folder / LAUNCH).read_text())["main_process_port"] == 0
    assert fsdp.began < fsdp_full.ended
    assert fsdp_full.began < fsdp.ended


def test_a_killed_parent_takes_all_ranks_along_and_ddp_resumes(tmp_path: Path, ddp: Shared) -> None:
    """Kill -9 of the parent leaves no process; started again it resumes, and ends with the straight run's bytes."""
    job = make_job(tmp_path / "work", ddp.job.config, ROWS[:32], ROWS[32:])
    write_job(job)
    parent = subprocess.Popen([sys.executable, str(HERE / "parent.py"), str(job.folder)])
    wait_for(job.folder, "saved")
    assert len(children(job.folder)) == 3  # the launcher and two ranks
    parent.kill()
    parent.wait()
    assert_no_process(job.folder)
    assert read_log(job.folder)[-1]["kind"] != "end"
    trained = train(job)
    starts = [line for line in read_log(job.folder) if line["kind"] == "start"]
    assert [line["resumed_from"] for line in starts] == [None, 4]
    assert trained.losses == ddp.trained.losses
    for export, straight in zip(trained.exports, ddp.trained.exports, strict=True):
        weights = "adapter_model.safetensors"
        assert (export.folder / weights).read_bytes() == (straight.folder / weights).read_bytes()


def test_a_killed_rank_ends_all(tmp_path: Path) -> None:
    """The other rank and the launcher end, the error says what happened, and no state of FSDP is left to resume."""
    job = make_job(tmp_path / "work", sharing("fsdp"), ROWS[:32])

    def kill(line: Line) -> None:
        if line["kind"] == "exported":
            os.kill(max(children(job.folder)), signal.SIGKILL)

    with pytest.raises(TrainingError) as failed:
        train(job, kill)
    assert str(failed.value).startswith("the trainer ended with status 1 at step ")
    assert "Signal 9 (SIGKILL) received by PID" in str(failed.value)
    assert_no_process(job.folder)
    assert not [*job.folder.glob("checkpoint-*")]
    assert not (job.folder / "exports/final").exists()


def sizes(made: Shared) -> dict[str, int]:
    """Names and sizes of the files of the last export."""
    return {path.name: path.stat().st_size for path in made.trained.exports[-1].folder.glob("*.safetensors")}


def wait_for(folder: Path, kind: str) -> None:
    """Until the log has such a line."""
    deadline = time.monotonic() + 120
    while not any(line["kind"] == kind for line in read_log(folder)):
        assert time.monotonic() < deadline, (folder / "trainer.log").read_text()[-2000:]
        time.sleep(0.01)


def assert_no_process(folder: Path) -> None:
    """Nothing that trains there lives on."""
    deadline = time.monotonic() + 5
    while left := children(folder):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
