"""Weights & Biases: configuration, summary and an artifact. Offline it is a second folder with the same run id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalgate.trackers.note import Note


def write(run: Mapping[str, Any], note: Note) -> str:
    """See `Tracker`. `wandb sync` joins the folders of one id; steps are not logged, since they would start at 0."""
    import wandb

    with wandb.init(id=run["id"], resume="allow", project=run["project"], dir=run["dir"]) as live:
        live.config.update(dict(note.params), allow_val_change=True)
        live.summary.update({**note.tags, **note.metrics})
        if note.files:
            artifact = wandb.Artifact(f"evalgate-{note.version}", type="evalgate")
            for file in note.files:
                artifact.add_file(file)
            live.log_artifact(artifact)
    return f"run {run['id']}"
