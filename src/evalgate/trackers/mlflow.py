"""MLflow: params, tags, metrics and files of the run that holds the curves."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evalgate.trackers.note import Note


def write(run: Mapping[str, Any], note: Note) -> str:
    """See `Tracker`."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag

    client, id_ = MlflowClient(run["uri"]), run["run_id"]
    now = time.time_ns() // 1_000_000
    client.log_batch(
        id_,
        metrics=[Metric(key, value, now, note.step) for key, value in note.metrics.items()],
        params=[Param(key, value) for key, value in note.params.items()],
        tags=[RunTag(key, value) for key, value in note.tags.items()],
    )
    for file in note.files:
        client.log_artifact(id_, file, f"evalgate/{note.version}")
    return f"run {id_}"


def experiment_of(client: Any, name: str, folder: Path | None) -> str:
    """Id of an experiment, made where there is none; MLflow's own default puts artifacts into the current folder."""
    known = client.get_experiment_by_name(name)
    return str(known.experiment_id if known else client.create_experiment(name, folder.as_uri() if folder else None))
