"""Digests of large files remembered between runs, by what the file system says of them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Protocol

Stamp = tuple[str, int, int, int]
"""Resolved path, size in bytes, time of the last change in nanoseconds, inode.

The time is the later of mtime and ctime. A program can set mtime back after writing into a file, but not ctime: so
a retraining that keeps path, size, inode and mtime is still noticed, as long as nobody turns the machine's clock back.
"""

RACY_NS = 2_000_000_000
"""A file changed this shortly before it is read could change again within one tick of its clock: not remembered yet."""


class DigestMemo(Protocol):
    """Remembers that a file was read to its end, found good, and had this digest."""

    def get(self, stat_key: Stamp) -> str | None:
        """The digest of the file in that state, `None` where it is not known."""
        ...

    def put(self, stat_key: Stamp, digest: str) -> None:
        """Remember it."""
        ...


def stamp_of(path: Path, status: os.stat_result) -> Stamp:
    """The state of a file under which its digest is remembered."""
    return str(path), status.st_size, max(status.st_mtime_ns, status.st_ctime_ns), status.st_ino


def settled(stamp: Stamp) -> bool:
    """Whether any later change is sure to show in the stamp."""
    return stamp[2] < time.time_ns() - RACY_NS
