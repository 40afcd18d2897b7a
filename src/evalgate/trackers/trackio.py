"""Trackio: the configuration and metrics of the run that holds the curves, files as an artifact; all in one folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalgate.trackers.note import Note


def write(run: Mapping[str, Any], note: Note) -> str:
    """See `Tracker`."""
    import trackio

    trackio.init(
        project=run["project"], name=run["name"], resume="must", embed=False, auto_log_gpu=False, auto_log_cpu=False
    )
    trackio.config.update({**note.params, **note.tags}, allow_val_change=True)
    trackio.log({**note.metrics, **note.tags})
    if note.files:
        artifact = trackio.Artifact(f"evalgate-{note.version}", type="evalgate")
        for file in note.files:
            artifact.add_file(file)
        trackio.log_artifact(artifact)
    trackio.finish()
    return f"run {run['name']}"
