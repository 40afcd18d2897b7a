"""The child in which a tracker runs: what it gets to know, how it ends, and that its failures are lines."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evalgate.errors import TrackerError
from evalgate.trackers import Note, mirror, write_all
from evalgate.trackers.process import ask, child_environment
from evalgate.version import Lineage, TrainingRun

NOTE = Note("v3", tags={"evalgate/verdict": "PASS"})
MLFLOW = {"dir": "mlflow", "project": "shop", "uri": "sqlite:///m.db", "run_id": "nobody"}
TENSORBOARD = {"dir": "tensorboard"}
SECRETS = {"HF_TOKEN": "s", "AWS_SECRET_ACCESS_KEY": "s", "WANDB_API_KEY": "s", "MLFLOW_TRACKING_TOKEN": "s"}


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes every call and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_tracker_gets_its_own_keys_and_no_others(tmp_path: Path) -> None:
    """Everything else that is secret stays out of a process full of somebody's code."""
    environ = {**SECRETS, "PATH": "/bin", "LC_ALL": "C", "MLFLOW_TRACKING_URI": "http://overridden"}
    found = child_environment("mlflow", MLFLOW, tmp_path, environ)
    assert {name for name in SECRETS if name in found} == {"MLFLOW_TRACKING_TOKEN"}
    assert (found["PATH"], found["LC_ALL"]) == ("/bin", "C")
    assert found["MLFLOW_TRACKING_URI"] == f"sqlite:///{tmp_path}/m.db"


def test_nothing_to_write_is_no_line(tmp_path: Path) -> None:
    """A version without runs starts no process."""
    assert write_all({}, NOTE, tmp_path) == []


def test_one_broken_tracker_does_not_hinder_another(tmp_path: Path) -> None:
    """Each is a line, in order of the names: the broken say why, the other is written, and gaps in curves are named."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    runs: dict[str, dict[str, Any]] = {
        "tensorboard": {**TENSORBOARD, "error": "OSError: disk full"},
        "comet": {"dir": "/elsewhere", "project": "shop", "key": "k"},
        "neptune": {"dir": "neptune", "project": "shop"},
    }
    lines = write_all(runs, NOTE, tmp_path)
    assert lines[0].startswith("comet: the verdict of v3 could not be written: the version names '/elsewhere'")
    assert lines[1].endswith("neptune is not installed. pip install 'pytest-evalgate[neptune]'")
    assert lines[2] == ("tensorboard: verdict of v3 written to tensorboard; its curves have gaps: OSError: disk full")
    assert list((tmp_path / "tensorboard").iterdir())
    [line] = write_all({"tensorboard": {"dir": "file"}}, NOTE, tmp_path)
    assert line.startswith("tensorboard: the verdict of v3 could not be written: ")
    assert "\n" not in line


def test_a_server_that_never_answers_is_given_up(tmp_path: Path, silent: str) -> None:
    """After the time allowed the child and all that it started are killed."""
    began = time.monotonic()
    [line] = write_all({"mlflow": {**MLFLOW, "uri": silent}}, NOTE, tmp_path, trusted=[silent], seconds=1.5)
    assert line == "mlflow: the verdict of v3 could not be written: no answer within 1.5 s"
    assert time.monotonic() - began < 10
    alive = [
        path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.parent.stat().st_uid == os.getuid()
    ]
    assert not [words for words in alive if b"evalgate.trackers" in words and b"mlflow" in words]


def test_a_child_that_dies_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it wrote last goes into the message, without what a terminal would obey."""
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho first >&2\nprintf 'Fatal: no\\033[2J memory\\n' >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(broken))
    with pytest.raises(TrackerError, match=r"its process ended with status 3: Fatal: no \[2J memory"):
        ask("tensorboard", {}, TENSORBOARD, tmp_path)
    monkeypatch.setattr("sys.executable", str(tmp_path / "none"))
    with pytest.raises(TrackerError, match="could not be started: No such file"):
        ask("tensorboard", {}, TENSORBOARD, tmp_path)


@pytest.mark.parametrize("run", [{"run_id": "r"}, {"run_id": "r", "uri": 5}])
def test_a_version_without_an_address_is_mirrored_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: dict[str, Any]
) -> None:
    """What its evalgate.json says of MLflow is not to be relied on: the registry is asked, and here it is not there."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    training = TrainingRun("k", {}, (), "d", trackers={"mlflow": run})
    made = Lineage("v1", "sha256:0", "full", {}, "2026-01-01", training=training)
    with pytest.raises(TrackerError, match="shop@champion could not be set to v1"):
        mirror("http://127.0.0.1:9", "shop", "champion", tmp_path, made, root=tmp_path, artifacts=tmp_path)
