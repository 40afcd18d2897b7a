"""One at a time: a lock file that the kernel frees when its holder, and all that inherited it, is gone."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from evalgate.errors import EvalgateError, InputError


@contextmanager
def alone(path: Path, what: str, *, wait: Callable[[str], None] | None = None) -> Iterator[int]:
    """Hold a lock file while the body runs.

    Whoever inherits the handle holds the lock as well: where the holder was killed, the lock is free once what it had
    started has ended too, and not before.

    Args:
        path: of the lock file; it says who holds it and since when.
        what: is done under the lock, for the message.
        wait: told who holds it, and then the lock is waited for; without, somebody else's lock is an error.

    Yields:
        The handle, for children that go on with the work.

    Raises:
        EvalgateError: somebody else holds it, and there is no waiting.
        InputError: the file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        mend = "Give this user the right to write there, or make room."
        raise InputError(f"{what}: {error.strerror}", where=str(error.filename), mend=mend) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            running = f"{what} is running already, {_holder(handle)}"
            if wait is None:
                raise EvalgateError(running, where=str(path), mend="Wait for it, or end it.") from None
            wait(running)
            fcntl.flock(handle, fcntl.LOCK_EX)
        os.ftruncate(handle, 0)
        now = datetime.now(UTC).isoformat(" ", timespec="seconds")
        os.pwrite(handle, json.dumps({"pid": os.getpid(), "since": now}).encode(), 0)
        yield handle
    finally:
        os.close(handle)


def _holder(handle: int) -> str:
    with suppress(ValueError, KeyError, TypeError):
        found = json.loads(os.pread(handle, 1000, 0))
        return f"since {datetime.fromisoformat(found['since'])}, started by process {int(found['pid'])}"
    return "it has just begun"
