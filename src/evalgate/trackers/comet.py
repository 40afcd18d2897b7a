"""Comet: parameters, others, metrics and assets. Offline it is a second archive of the same experiment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from evalgate.trackers.note import Note


def write(run: Mapping[str, Any], note: Note) -> str:
    """See `Tracker`. `comet upload` of the training's archive, then of this one, puts both into one experiment."""
    import comet_ml

    online = os.environ["COMET_START_ONLINE"] == "1"
    experiment = comet_ml.start(experiment_key=run["key"], mode="get", project_name=run["project"], online=online)
    experiment.log_parameters(dict(note.params))
    experiment.log_others(dict(note.tags))
    experiment.log_metrics(dict(note.metrics), step=note.step)
    for file in note.files:
        experiment.log_asset(file, step=note.step)
    experiment.end()
    return f"experiment {run['key']}"
