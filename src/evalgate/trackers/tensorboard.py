"""TensorBoard: texts and scalars at the version's step. It keeps no files: their paths are a text."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from evalgate.trackers.note import PREFIX, Note


def write(run: Mapping[str, Any], note: Note) -> str:
    """See `Tracker`."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.text.summary import text_pb
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    files = {PREFIX + "files": "\n".join(note.files)} if note.files else {}
    texts = [text_pb(key, value) for key, value in {**note.params, **note.tags, **files}.items()]
    scalars = [Summary(value=[Summary.Value(tag=key, simple_value=value)]) for key, value in note.metrics.items()]
    writer = EventFileWriter(run["dir"])
    for summary in (*texts, *scalars):
        writer.add_event(Event(wall_time=time.time(), step=note.step, summary=summary))
    writer.close()
    return f"{run['dir']}"
