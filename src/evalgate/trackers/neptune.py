"""Neptune, deprecated: its service shut down on 2026-03-05, so this writes offline files that can go nowhere.

It is kept for projects whose own scripts read such files. There are no curves, since the trainer's callback asks the
service for an id, and the extra `neptune` is in no other. Trackio works much like it and stays on the machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from evalgate.trackers.note import Note


def write(run: Mapping[str, Any], note: Note) -> str:
    """See `Tracker`."""
    neptune = import_module("neptune")
    offline = neptune.init_run(
        mode="offline",
        project=run["project"],
        capture_stdout=False,
        capture_stderr=False,
        capture_hardware_metrics=False,
        source_files=[],
        git_ref=False,
    )
    for key, text in {**note.params, **note.tags}.items():
        offline[key] = text
    for key, value in note.metrics.items():
        offline[key].append(value, step=note.step)
    offline.stop()
    return "offline files that no service takes any more"
