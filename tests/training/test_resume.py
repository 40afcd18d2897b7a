"""Interrupted and resumed is bit for bit what a straight run is, whoever is killed and when."""

from __future__ import annotations

import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evalgate.errors import TrainingError
from evalgate.training.job import Job, write_job
from evalgate.training.log import Line, read_log
from evalgate.training.process import train
from evalgate.training.state import MARKER, latest, mark
from tests.training.conftest import children
from tests.training.jobs import SUMS, Run, config, make_job

PARENT = Path(__file__).with_name("parent.py")


class Poison:
    """A pickle that leaves a file behind when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


def test_killed_five_times_is_a_straight_run(tmp_path: Path, straight: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five kills at steps that are drawn, each time resumed under another PYTHONHASHSEED.

    The parent is killed, interrupted, and three times the child is. After each there is no orphan, no half export and
    something to resume from; at last every loss and every byte of every export is that of the straight run.
    """
    job = make_job(tmp_path / "work", config(), held_out=SUMS[:8])
    write_job(job)
    draw = random.Random(os.urandom(8))
    plant_states(job, tmp_path / "poisoned")
    lives: list[Callable[[int], None]] = [
        lambda step: kill_parent(job, step, signal.SIGKILL),
        lambda step: kill_parent(job, step, signal.SIGINT),
        *[lambda step: kill_child(job, step)] * 3,
    ]
    reached = []
    for number, life in enumerate(lives):
        monkeypatch.setenv("PYTHONHASHSEED", str(number))
        step = draw.randint(5 * number + 1, 5 * number + 4)
        life(step)
        reached.append(step)
        assert_no_process(job.folder)
        assert_whole_exports(job, straight)
    monkeypatch.setenv("PYTHONHASHSEED", "5")
    trained = train(job)
    starts = [line for line in read_log(job.folder) if line["kind"] == "start"]
    said = f"killed at {reached}, resumed from {[line['resumed_from'] for line in starts]}"
    assert len(starts) == 6, said
    assert starts[-1]["resumed_from"], said
    assert trained.losses == straight.trained.losses, said
    assert trained.held_out_loss == straight.trained.held_out_loss, said
    assert [export.name for export in trained.exports] == ["epoch-1", "final"], said
    assert_whole_exports(job, straight)
    assert starts[0]["ignored"] == ["checkpoint-12: was written with another key"]
    assert not (tmp_path / "poisoned").exists()


def plant_states(job: Job, canary: Path) -> None:
    """Two states that must not be loaded: of another training, and one that is not whole. Both are poison."""
    for step in (12, 15):
        state = job.folder / f"checkpoint-{step}"
        state.mkdir()
        for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
            (state / name).write_bytes(pickle.dumps(Poison(canary)))
        (state / "trainer_state.json").write_text(json.dumps({"global_step": step}))
        mark(state, "sha256:other")
    (job.folder / "checkpoint-15" / MARKER).unlink()


def kill_child(job: Job, step: int) -> None:
    """SIGKILL for the trainer when it has done a step; the error says how, when, and what to do."""

    def on_line(line: Line) -> None:
        if line["kind"] == "step" and line["step"] >= step:
            for child in children(job.folder):  # none, at a second line that was read together with the first
                os.kill(child, signal.SIGKILL)

    with pytest.raises(TrainingError, match=r"killed by signal 9 \(SIGKILL\).* at step \d+ of 32") as caught:
        train(job, on_line)
    assert "Run the same command again to resume. Log: " in str(caught.value)


def kill_parent(job: Job, step: int, number: signal.Signals) -> None:
    """A signal for the process that trains when the trainer has done a step; it is gone within ten seconds."""
    before = len(read_log(job.folder))
    parent = subprocess.Popen([sys.executable, PARENT, job.folder], stderr=subprocess.PIPE)
    until(lambda: any(line.get("step", 0) >= step for line in read_log(job.folder)[before:]))
    parent.send_signal(number)
    began = time.monotonic()
    _, said = parent.communicate(timeout=10)
    assert time.monotonic() - began < 10
    assert parent.returncode == -number
    assert (b"KeyboardInterrupt" in said) == (number == signal.SIGINT)
    if number == signal.SIGINT:  # Ctrl-C loses nothing: it leaves a state of the last step
        steps = [line["step"] for line in read_log(job.folder) if line["kind"] == "step"]
        assert latest(job.folder) == job.folder / f"checkpoint-{steps[-1]}"


def assert_no_process(folder: Path) -> None:
    """Whoever was killed, nobody trains on."""
    until(lambda: not children(folder), seconds=5)


def assert_whole_exports(job: Job, straight: Run) -> None:
    """What is visible is whole: byte for byte an export of the straight run, lists of the configuration apart."""
    for folder in (job.folder / "exports").glob("[!.]*"):
        wanted = straight.job.folder / "exports" / folder.name
        assert {path.name for path in folder.iterdir()} == {path.name for path in wanted.iterdir()}
        for name in ("adapter_model.safetensors", "adapter_config.json"):
            assert content(folder / name) == content(wanted / name), folder.name


def content(path: Path) -> Any:
    """The bytes; of a configuration its values, whose lists PEFT writes in the order of a set."""
    if path.suffix != ".json":
        return path.read_bytes()
    values = json.loads(path.read_bytes())
    return {key: sorted(value) if isinstance(value, list) else value for key, value in values.items()}


def until(happened: Callable[[], bool], seconds: float = 240) -> None:
    """Wait for something."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)
