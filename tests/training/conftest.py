"""Trainings that many tests look at; each costs an import of the training libraries, so they run once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from evalgate.checkpoint import Checkpoint
from evalgate.preflight import read_checkpoint
from evalgate.publishing import publish
from evalgate.training.log import Line
from evalgate.training.process import train
from evalgate.training.schema import Distribution, Schedule, TrainingConfig
from tests.training.jobs import SUMS, V1, Run, config, make_job

CANARY = "canary-7f3a9d"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def child_environ() -> dict[str, str]:
    """What the straight run's child had in its environment."""
    return {}


@pytest.fixture(scope="session")
def straight(tmp_path_factory: pytest.TempPathFactory, child_environ: dict[str, str]) -> Run:
    """A LoRA trained without an interruption, by a parent whose environment holds secrets."""
    job = make_job(tmp_path_factory.mktemp("straight") / "work", config(), held_out=SUMS[:8])
    lines: list[Line] = []

    def on_line(line: Line) -> None:
        lines.append(line)
        if line["kind"] == "start":
            child_environ.update(_environ_of_child(job.folder))

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONHASHSEED", "1")
        for name in ("HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "MY_PASSWORD"):
            patch.setenv(name, CANARY)
        trained = train(job, on_line)
    return Run(job, trained, tuple(lines))


ROWS = [{"prompt": f"Q: {n}*3=\nA:", "completion": f" {3 * n}"} for n in range(36)]  # which the base does not know


@dataclass(frozen=True)
class Shared(Run):
    """A finished training of several processes, the version that was published of it, and when it ran (seconds)."""

    version: Path
    began: float
    ended: float

    @property
    def checkpoint(self) -> Checkpoint:
        """The version as the gate sees it."""
        return read_checkpoint(self.version, base=V1)


def sharing(kind: str, method: str = "lora", epochs: float = 2) -> TrainingConfig:
    """Two processes of four rows each."""
    return config(
        method=method,
        schedule=Schedule(epochs=epochs, batch_size=4),
        distribution=Distribution(kind, processes=2, device="cpu"),
    )


def train_and_publish(project: Path, name: str, config: TrainingConfig) -> Shared:
    """A version of 32 rows; four more are asked for their loss at the end."""
    job = make_job(project / ".evalgate/training" / name, config, ROWS[:32], held_out=ROWS[32:])
    lines: list[Line] = []
    began = time.monotonic()
    trained = train(job, lines.append)
    ended = time.monotonic()
    version = publish(trained.exports[-1].folder, root=project, name=name, base=V1, tokenizer_from=V1)
    return Shared(job, trained, tuple(lines), version, began, ended)


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the versions of several processes, of Lightning and of QLoRA appear."""
    return tmp_path_factory.mktemp("project")


@pytest.fixture(scope="session")
def ddp(project: Path) -> Shared:
    """A LoRA by DDP."""
    return train_and_publish(project, "ddp", sharing("ddp"))


@pytest.fixture(scope="session")
def both_fsdp(project: Path) -> tuple[Shared, Shared]:
    """A LoRA and full weights by FSDP, trained at the same time."""
    with ThreadPoolExecutor() as pool:
        lora = pool.submit(train_and_publish, project, "fsdp-lora", sharing("fsdp"))
        full = pool.submit(train_and_publish, project, "fsdp-full", sharing("fsdp", "full"))
        return lora.result(), full.result()


@pytest.fixture(scope="session")
def fsdp(both_fsdp: tuple[Shared, Shared]) -> Shared:
    """The LoRA of the two."""
    return both_fsdp[0]


@pytest.fixture(scope="session")
def fsdp_full(both_fsdp: tuple[Shared, Shared]) -> Shared:
    """The full weights of the two."""
    return both_fsdp[1]


@pytest.fixture(scope="session")
def deepspeed(project: Path) -> Shared:
    """Full weights by DeepSpeed, ZeRO-2."""
    return train_and_publish(project, "deepspeed", sharing("deepspeed", "full"))


FOUR_BITS = """
import torch
from bitsandbytes.nn import Linear4bit

layer = Linear4bit(128, 64, bias=False, compute_dtype=torch.float32, quant_type="nf4").to("cpu").train()
given = torch.ones(2, 128, requires_grad=True)
layer(given).square().sum().backward()
if given.grad is None or not given.grad.isfinite().all():
    raise RuntimeError("a 4-bit layer passes no gradient on")
"""


@pytest.fixture(scope="session")
def no_four_bits() -> str | None:
    """Why bitsandbytes cannot train through a 4-bit layer on this processor, found by trying; `None` where it can."""
    done = subprocess.run([sys.executable, "-c", FOUR_BITS], capture_output=True, text=True, check=False)
    said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
    return None if done.returncode == 0 else f"bitsandbytes on this processor: {said[-1]}"


@pytest.fixture(scope="session")
def qlora(project: Path, no_four_bits: str | None) -> Shared:
    """A LoRA over the base in 4 bits, where this processor can do that."""
    if no_four_bits:
        pytest.skip(no_four_bits)
    schedule = Schedule(epochs=1, batch_size=8)
    return train_and_publish(project, "qlora", config(method="qlora", schedule=schedule))


@dataclass(frozen=True)
class Lit:
    """What Lightning's trainings left: the versions, and the errors of those that failed."""

    runs: Path
    errors: list[str]


@pytest.fixture(scope="session")
def lit(tmp_path_factory: pytest.TempPathFactory) -> Lit:
    """Modules that publish, in a process of their own: this one never imports torch."""
    folder = tmp_path_factory.mktemp("lightning")
    command = [sys.executable, "-m", "tests.training.fit", str(folder)]
    environ = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return Lit(folder / "runs", json.loads(done.stdout.splitlines()[-1]))


def children(folder: Path) -> list[int]:
    """Ids of the processes that train in a work folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"evalgate.training.worker" in words and os.fsencode(folder) in words:
            found.append(int(process.name))
    return found


def _environ_of_child(folder: Path) -> Mapping[str, str]:
    (child,) = children(folder)
    pairs = Path(f"/proc/{child}/environ").read_bytes().decode().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if pair)
