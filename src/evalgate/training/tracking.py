"""Trackers as the trainer's process sees them: transformers' own callbacks, one run per training, failures contained.

The parent says by its environment where each tracker writes (`evalgate.trackers.environment`). The ids of the runs are
chosen here at the first start and kept in the work folder, so that a resumed training goes on with the same runs.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from evalgate.errors import TrainingError
from evalgate.training.job import TRACKERS
from evalgate.training.schema import TrainingConfig

PLACES = "EVALGATE_TRACKERS"
INTEGRATIONS = {  # name to what transformers calls it; Neptune's callback needs the service, which is gone
    "mlflow": "mlflow",
    "wandb": "wandb",
    "tensorboard": "tensorboard",
    "comet": "comet_ml",
    "trackio": "trackio",
}

Runs = dict[str, dict[str, Any]]


class Tracking:
    """The runs of one training.

    Args:
        config: says which trackers.
        folder: of work; `trackers.json` in it says how each run is found again.

    Raises:
        TrainingError: the parent did not say where trackers write.
    """

    def __init__(self, config: TrainingConfig, folder: Path) -> None:
        self._names = config.tracking.trackers if os.environ.get("RANK", "0") == "0" else []
        self._project = config.tracking.project
        self._file = folder / TRACKERS
        self._broken: set[str] = set()
        self.runs: Runs = self._begin() if self._names else {}

    def arguments(self) -> dict[str, Any]:
        """For TrainingArguments: what the callbacks call a run, and its project where the environment says none."""
        run = next(iter(self.runs.values()), None)
        return {"run_name": run["name"], "project": self._project} if run else {}

    def callbacks(self) -> list[Any]:
        """What `report_to` makes of the names, each with a fence around it."""
        if not self._names:
            return []
        from transformers.integrations import get_reporting_integration_callbacks

        fenced: list[Any] = []
        for name in self._names:
            if name not in INTEGRATIONS or name in self._broken:
                continue
            try:
                (make,) = get_reporting_integration_callbacks([INTEGRATIONS[name]])
                fenced.append(Fenced(make(), partial(self._broke, name)))
            except Exception as error:
                self._broke(name, error)
        return fenced

    def finish(self) -> None:
        """End what the callbacks leave open: the process may end without the hooks that would do it."""
        for name, end in _END.items():
            try:
                if name in self._names and name not in self._broken:
                    end()
            except Exception as error:
                self._broke(name, error)

    def _begin(self) -> Runs:
        try:
            told = json.loads(os.environ[PLACES])
        except (KeyError, ValueError):
            raise TrainingError(f"{PLACES} does not say where the trackers write", where="tracking.trackers") from None
        root, runs = Path(told["root"]), _read(self._file)
        id_ = next((run["name"] for run in runs.values()), f"{told['run']}-{secrets.token_hex(4)}")
        for name, place in told["places"].items():
            run = runs[name] = {**place, "name": id_, **runs.get(name, {})}
            try:
                (root / run["dir"]).mkdir(parents=True, exist_ok=True)
                _BEGIN.get(name, _as_it_is)(run, root)
            except Exception as error:
                self._gave_up(name, run, error)
        _write(self._file, runs)
        return runs

    def _broke(self, name: str, error: Exception) -> None:
        self._gave_up(name, self.runs[name], error)
        _write(self._file, self.runs)

    def _gave_up(self, name: str, run: dict[str, Any], error: Exception) -> None:
        """Remember for the parent that a tracker has gaps; the training goes on without it."""
        said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        print(f"tracker {name}: {said}", file=sys.stderr)  # noqa: T201 - the trainer's log
        run["error"] = said
        self._broken.add(name)


class Fenced:
    """A callback whose first exception ends it, and not the training."""

    def __init__(self, callback: Any, broke: Callable[[Exception], None]) -> None:
        self._callback: Any | None = callback
        self._broke = broke

    def __getattr__(self, event: str) -> Any:
        if not event.startswith("on_"):
            raise AttributeError(event)

        def call(*arguments: Any, **named: Any) -> None:
            if self._callback is None:
                return
            try:
                getattr(self._callback, event)(*arguments, **named)
            except Exception as error:
                self._callback = None
                self._broke(error)

        return call


def _mlflow(run: dict[str, Any], root: Path) -> None:
    """A run of its own: MLflow gives ids itself, and its default puts artifacts into the current folder."""
    from mlflow import MlflowClient

    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    if "run_id" not in run:
        local = run["uri"].startswith("sqlite:")
        artifacts = (root / run["dir"]).as_uri() if local else None
        known = client.get_experiment_by_name(run["project"])
        experiment = known.experiment_id if known else client.create_experiment(run["project"], artifacts)
        run["run_id"] = client.create_run(experiment, run_name=run["name"]).info.run_id
    os.environ["MLFLOW_RUN_ID"] = run["run_id"]


def _wandb(run: dict[str, Any], _: Path) -> None:
    run.setdefault("id", secrets.token_hex(4))
    os.environ.update(WANDB_RUN_ID=run["id"], WANDB_RESUME="allow")


def _comet(run: dict[str, Any], root: Path) -> None:
    run.setdefault("key", secrets.token_hex(16))
    # An archive is named by `random`, which the trainer seeds: a resumed training would overwrite the first one.
    starts = root / run["dir"]
    archive = starts / str(sum(path.is_dir() for path in starts.iterdir()) + 1)
    archive.mkdir()
    os.environ.update(COMET_EXPERIMENT_KEY=run["key"], COMET_MODE="get_or_create", COMET_OFFLINE_DIRECTORY=str(archive))


def _as_it_is(_: dict[str, Any], __: Path) -> None:
    """The environment and the run's name say everything."""


_BEGIN = {"mlflow": _mlflow, "wandb": _wandb, "comet": _comet}


def _end_wandb() -> None:
    import wandb

    wandb.finish()


def _end_comet() -> None:
    import comet_ml

    if (experiment := comet_ml.get_global_experiment()) is not None:
        experiment.end()


def _end_mlflow() -> None:
    import mlflow

    mlflow.flush_async_logging()


_END = {"mlflow": _end_mlflow, "wandb": _end_wandb, "comet": _end_comet}


def _read(file: Path) -> Runs:
    return json.loads(file.read_text("utf-8")) if file.exists() else {}


def _write(file: Path, runs: Runs) -> None:
    growing = file.with_suffix(".new")
    growing.write_text(json.dumps(runs, indent=2) + "\n", "utf-8")
    os.replace(growing, file)
