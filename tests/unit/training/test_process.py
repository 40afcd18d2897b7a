"""The parent's side without a trainer: the child's environment, the lock, and what is refused before a child starts."""

from __future__ import annotations

import fcntl
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evalgate.errors import ConfigError, MissingExtraError, TrainingError
from evalgate.training import process
from evalgate.training.job import Job
from evalgate.training.process import child_environment, train
from evalgate.training.schema import Data, Distribution, Model, Tracking, TrainingConfig


def make_job(folder: Path, *, adapter: Path | None = None, environment: Any = None, **changes: Any) -> Job:
    """A job that will not be trained."""
    config = TrainingConfig(model=Model(base="base"), data=Data(files=["x.jsonl"]), **changes)
    return Job(folder, config, folder, adapter, None, "sha256:1", tracker_environment=environment or {})


SECRETS = {
    *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "COMET_API_KEY", "MLFLOW_TRACKING_PASSWORD"),
    *("AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "OPENAI_API_KEY", "DATABASE_URL", "PIP_INDEX_URL", "SSH_AUTH_SOCK"),
}


def test_the_child_gets_what_it_needs_and_no_secret(tmp_path: Path) -> None:
    """An allow-list: what nobody thought of is not in it."""
    needed = {"PATH": "/bin", "HOME": "/home/me", "LD_LIBRARY_PATH": "/lib", "ATEN_CPU_CAPABILITY": "default"}
    child = child_environment(make_job(tmp_path), needed | dict.fromkeys(SECRETS, "secret"))
    assert child.items() >= needed.items()
    assert "secret" not in child.values()
    assert child["HF_HUB_OFFLINE"] == child["TRANSFORMERS_OFFLINE"] == child["HF_HUB_DISABLE_TELEMETRY"] == "1"


def test_a_named_tracker_gets_its_own_variables_only(tmp_path: Path) -> None:
    """W&B's key reaches a training that writes to W&B; Comet's does not."""
    job = make_job(tmp_path, tracking=Tracking(trackers=["wandb"]), environment={"WANDB_MODE": "offline"})
    child = child_environment(job, dict.fromkeys(SECRETS, "secret") | {"WANDB_MODE": "online"})
    assert {name for name, value in child.items() if value == "secret"} == {"WANDB_API_KEY"}
    assert child["WANDB_MODE"] == "offline"  # what the trackers' module says comes last


def test_threads_are_the_configurations(tmp_path: Path) -> None:
    """The order of sums depends on them, so a variable of the parent has no say."""
    job = make_job(tmp_path, distribution=Distribution(threads=3))
    child = child_environment(job, {"OMP_NUM_THREADS": "16", "MKL_NUM_THREADS": "16"})
    assert child["OMP_NUM_THREADS"] == child["MKL_NUM_THREADS"] == "3"


@pytest.mark.parametrize(("visible", "first"), [("2,3", "2"), ("GPU-a,GPU-b", "GPU-a"), ("", ""), (None, "0")])
def test_one_process_sees_one_gpu(tmp_path: Path, visible: str | None, first: str) -> None:
    """The first that the parent may see; transformers would split batches over all of them."""
    child = child_environment(make_job(tmp_path), {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})
    assert child["CUDA_VISIBLE_DEVICES"] == first


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Path]:
    """A work folder that another trainer holds."""
    handle = os.open(tmp_path / process.LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    yield tmp_path
    os.close(handle)


def test_a_folder_is_trained_in_by_one(held: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second waits for a moment, and then says who is in its way."""
    monkeypatch.setattr(process, "LOCK_SECONDS", 0.2)
    with pytest.raises(TrainingError, match=r"another process is training here\. Wait until it has ended"):
        train(make_job(held))


def test_the_lock_is_free_again_after_a_failure(tmp_path: Path) -> None:
    """What failed does not stand in its own way."""
    job = make_job(tmp_path, method="full", adapter=tmp_path)
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"model.base: full fine-tuning cannot begin from an adapter"):
            train(job)


@pytest.mark.parametrize(
    ("library", "extra", "changes"),
    [
        ("trl", "train", {}),
        ("bitsandbytes", "qlora", {"method": "qlora"}),
        ("deepspeed", "deepspeed", {"distribution": Distribution(kind="deepspeed", processes=2)}),
    ],
)
def test_a_missing_library_is_told_before_a_child_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, extra: str, changes: dict[str, Any]
) -> None:
    """With the command that installs it."""
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == library else real(name))
    with pytest.raises(
        MissingExtraError, match=rf"{library} is not installed. pip install 'pytest-evalgate\[{extra}\]'"
    ):
        train(make_job(tmp_path, **changes))
    assert not (tmp_path / process.STDERR).exists()


@pytest.mark.parametrize(
    ("code", "lines", "told"),
    [
        (-11, [], "was killed by signal 11 (SIGSEGV) before its first step: RuntimeError: boom [31m."),
        (
            -9,
            [{"kind": "start", "steps": 9}],
            "was killed by signal 9 (SIGKILL), perhaps for want of memory at step 0 of 9",
        ),
        (1, [{"kind": "start", "steps": 9}, {"kind": "step", "step": 4}], "ended with status 1 at step 4 of 9"),
        (0, [], "ended with status 0 before its first step"),  # without an end in its log nothing is finished
    ],
)
def test_a_child_that_ends_without_a_word_is_told_by_its_log(
    tmp_path: Path, code: int, lines: list[dict[str, Any]], told: str
) -> None:
    """How it ended, when, the last line of its log that names an error (printable), and that it can be resumed."""
    (tmp_path / process.STDERR).write_text("ValueError: old\nRuntimeError: boom\x1b[31m\nand so on\n")
    error = str(process._died(make_job(tmp_path), code, lines))
    assert error.startswith(f"the trainer {told}")
    assert "RuntimeError: boom" in error
    assert "\x1b" not in error
    assert error.endswith(f"Run the same command again to resume. Log: {tmp_path / process.STDERR}")
