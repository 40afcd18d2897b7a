"""A job survives its file, and keeps secrets out of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from evalgate.training.job import JOB, Job, read_job, write_job
from evalgate.training.schema import Data, Distribution, Lora, Model, Schedule, TrainingConfig

CONFIG = TrainingConfig(
    method="qlora",
    model=Model(base="runs/v1", chat_template="chat.jinja"),
    data=Data(files=["a.jsonl", "b.jsonl"], rows=7),
    lora=Lora(target_modules=["q_proj"]),
    schedule=Schedule(epochs=1.5, max_steps=9),
    distribution=Distribution(kind="ddp", processes=2),
)


def test_a_job_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Every setting, in its own type."""
    job = Job(tmp_path, CONFIG, tmp_path / "base", tmp_path / "adapter", tmp_path / "chat.jinja", "sha256:1")
    write_job(job)
    assert read_job(tmp_path) == job


def test_what_is_not_given_stays_none(tmp_path: Path) -> None:
    """No adapter and no template do not become the path `None`."""
    write_job(Job(tmp_path, CONFIG, tmp_path, None, None, "sha256:1"))
    assert (read_job(tmp_path).adapter, read_job(tmp_path).chat_template) == (None, None)


def test_the_trackers_secrets_are_not_written_or_shown(tmp_path: Path) -> None:
    """An API key goes to the child's environment; it stands neither in the file nor in a traceback."""
    job = Job(tmp_path, CONFIG, tmp_path, None, None, "sha256:1", tracker_environment={"WANDB_API_KEY": "s3cret"})
    write_job(job)
    assert "s3cret" not in (tmp_path / JOB).read_text() + repr(job)
    assert read_job(tmp_path) == replace(job, tracker_environment={})
