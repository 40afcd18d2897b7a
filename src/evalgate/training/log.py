"""`log.jsonl`: the trainer's structured log, and at the same time what the parent knows of it.

One JSON object per line, each with its `kind` and the `seconds` since this life of the trainer began:

- `start`: steps, epochs, world_size, distributed, resumed_from (a step, or null), ignored (resume states that were
  not used, and why), trainable (parameters), rows, cut (rows longer than `max_length`), dropped (nothing left to learn)
- `step`: step, epoch, loss, grad_norm (null where float16 overflowed and the step was skipped), learning_rate, tokens,
  tokens_per_second, data_seconds, step_seconds
- `saved`: step, of a state from which training can resume
- `exported`: name, epoch, step
- `fail`: what, where, mend
- `end`: held_out_loss

A trainer that resumes from step s appends a new `start`: of what was written before, lines after step s count no more.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from evalgate.errors import TrainingError

LOG = "log.jsonl"
Line = Mapping[str, Any]


class Log:
    """The trainer's end: appends whole lines, each in one write, so that ranks and readers never see half of one."""

    def __init__(self, folder: Path) -> None:
        self._file = os.open(folder / LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._born = time.monotonic()

    def write(self, kind: str, **values: Any) -> None:
        """Append one line, whole or not at all (OSError); a value that is no finite number is refused (ValueError)."""
        line = {"kind": kind, **values, "seconds": round(time.monotonic() - self._born, 3)}
        data = json.dumps(line, allow_nan=False).encode("ascii") + b"\n"
        if (written := os.write(self._file, data)) < len(data):  # the rest would be glued to the next line
            os.ftruncate(self._file, os.fstat(self._file).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), LOG)


class Tail:
    """The parent's end: yields what was appended since it was made."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOG
        self._path.touch()
        _cut_torn_line(self._path)
        self._at = self._path.stat().st_size

    def read(self) -> list[Line]:
        """Every whole line that is new."""
        with self._path.open("rb") as file:
            file.seek(self._at)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._at += len(whole) + len(newline)
        return _lines(self._path, whole)


def read_log(folder: Path) -> list[Line]:
    """Every whole line of every life, oldest first; a last line torn by a kill is left out.

    Raises:
        TrainingError: another line is damaged.
    """
    path = folder / LOG
    return _lines(path, path.read_bytes().rpartition(b"\n")[0]) if path.exists() else []


def in_force(lines: Iterable[Line]) -> list[Line]:
    """The lines of one straight run: what a resumed trainer did again replaces what it had done before."""
    kept: list[Line] = []
    for line in lines:
        if line["kind"] == "start":
            resumed = line["resumed_from"] or 0
            kept = [old for old in kept if old["kind"] in ("step", "saved", "exported") and old["step"] <= resumed]
        kept.append(line)
    return kept


def wall_seconds(lines: Iterable[Line]) -> float:
    """Seconds of all lives together: a life lasts from its beginning to its last line."""
    total = last = 0.0
    for line in lines:
        if line["kind"] == "start":
            total, last = total + last, 0.0
        last = line["seconds"]
    return round(total + last, 3)


def _lines(path: Path, data: bytes) -> list[Line]:
    try:
        return [json.loads(line) for line in data.splitlines() if line]
    except ValueError:
        raise TrainingError(
            "a line is damaged", where=str(path), mend="Delete the folder that it lies in, and train again."
        ) from None


def _cut_torn_line(path: Path) -> None:
    """A kill may tear the last line; the next one must not be glued to it."""
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        os.truncate(path, data.rfind(b"\n") + 1)
