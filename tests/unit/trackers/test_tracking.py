"""The trainer's side: the same runs after an interruption, and a fence around what trackers raise."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from evalgate.errors import TrainingError
from evalgate.trackers import environment
from evalgate.training.schema import Model, TrainingConfig
from evalgate.training.schema import Tracking as Chosen
from evalgate.training.tracking import Fenced, Tracking

LIGHT = ["wandb", "tensorboard", "comet", "trackio"]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingConfig:
    """Four trackers whose libraries are not needed to begin, in an environment as the parent makes it."""
    tracking = {"trackers": LIGHT, "project": "shop", "uri": None}
    told = environment(tracking, root=tmp_path, state=tmp_path / ".evalgate", run="v3-1a2b", environ={})
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    for name in ("WANDB_RUN_ID", "WANDB_RESUME", "COMET_EXPERIMENT_KEY", "COMET_MODE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    return TrainingConfig(model=Model(base="base"), tracking=Chosen(trackers=LIGHT, project="shop"))


def test_a_resumed_training_goes_on_with_the_same_runs(tmp_path: Path, config: TrainingConfig) -> None:
    """Ids are chosen once and kept in the work folder; only Comet's archive is another one at every start."""
    first = Tracking(config, tmp_path)
    archive = os.environ["COMET_OFFLINE_DIRECTORY"]
    second = Tracking(config, tmp_path)
    assert second.runs == first.runs == json.loads((tmp_path / "trackers.json").read_text())
    assert second.arguments() == first.arguments()
    assert second.arguments()["project"] == "shop"
    assert second.arguments()["run_name"].startswith("v3-1a2b-")
    assert os.environ["WANDB_RUN_ID"] == second.runs["wandb"]["id"]
    assert os.environ["COMET_EXPERIMENT_KEY"] == second.runs["comet"]["key"]
    assert os.environ["COMET_OFFLINE_DIRECTORY"] != archive
    (tmp_path / "other").mkdir()
    other = Tracking(config, tmp_path / "other")
    assert other.runs["wandb"]["id"] != first.runs["wandb"]["id"]
    assert other.runs["comet"]["key"] != first.runs["comet"]["key"]


def test_only_the_first_process_tracks(tmp_path: Path, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others of a distributed training would write everything again."""
    monkeypatch.setenv("RANK", "1")
    other = Tracking(config, tmp_path)
    assert (other.runs, other.arguments(), other.callbacks()) == ({}, {}, [])
    assert not (tmp_path / "trackers.json").exists()


def test_a_tracker_that_cannot_begin_does_not_stop_the_training(
    tmp_path: Path, config: TrainingConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is left out, the log says so, and the version will."""
    (tmp_path / ".evalgate/trackers").mkdir(parents=True)
    (tmp_path / ".evalgate/trackers/wandb").write_text("a file where a folder should be")
    tracking = Tracking(config, tmp_path)
    assert tracking.runs["wandb"]["error"].startswith("FileExistsError")
    assert "error" not in tracking.runs["comet"]
    assert "tracker wandb: FileExistsError" in capsys.readouterr().err


def test_nothing_begins_where_nobody_said_where(
    tmp_path: Path, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trackers without places would write into the current folder and go online as they like."""
    monkeypatch.delenv("EVALGATE_TRACKERS")
    with pytest.raises(TrainingError, match="EVALGATE_TRACKERS does not say where the trackers write"):
        Tracking(config, tmp_path)


class Callback:
    """Raises at the second step, as a tracker does whose server is gone."""

    def __init__(self) -> None:
        self.steps = 0

    def on_step_end(self, *_: Any, **__: Any) -> str:
        self.steps += 1
        if self.steps == 2:
            raise ConnectionError("the server is gone")
        return "control"


def test_a_fence_ends_the_callback_and_not_the_training() -> None:
    """Events arrive until the first exception, which is told once; afterwards nothing arrives, and nothing raises."""
    callback, told = Callback(), list[Exception]()
    fenced = Fenced(callback, told.append)
    assert [fenced.on_step_end("args", step=n) for n in range(4)] == [None] * 4
    assert callback.steps == 2
    assert [str(error) for error in told] == ["the server is gone"]
    assert not hasattr(fenced, "state")
