"""The gate as a person starts it: pytest in a process of its own, one at a time, and what came out of it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path

from evalgate.errors import EvalgateError
from evalgate.report.results import Results, read_results
from evalgate.report.terminal import safe

_PATIENCE = 10.0  # seconds that an interrupted pytest has to close its engine


@contextmanager
def alone(path: Path, what: str, *, wait: bool = False) -> Iterator[int]:
    """Hold a lock file while the body runs.

    Whoever inherits the handle holds the lock as well: where the holder was killed, the lock is free once what it had
    started has ended too, and not before.

    Args:
        path: of the lock file; it says who holds it and since when.
        what: is done under the lock, for the message.
        wait: for somebody else who holds it, instead of giving up.

    Yields:
        The handle, for children that go on with the work.

    Raises:
        EvalgateError: somebody else holds it, and there is no waiting.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EvalgateError(
                f"{what} is running already, {_holder(handle)}", where=str(path), mend="Wait for it, or end it."
            ) from None
        os.ftruncate(handle, 0)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        os.pwrite(handle, json.dumps({"pid": os.getpid(), "since": now}).encode(), 0)
        yield handle
    finally:
        os.close(handle)


def _holder(handle: int) -> str:
    with suppress(ValueError, KeyError, TypeError):
        found = json.loads(os.pread(handle, 1000, 0))
        return f"since {safe(str(found['since']))}, started by process {int(found['pid'])}"
    return "it has just begun"


def run_gate(arguments: Sequence[str], *, cwd: Path, results: Path, holding: int, log: Path | None = None) -> Results:
    """Run `pytest ARGUMENTS --eval-results RESULTS`.

    Args:
        arguments: as they would be typed.
        cwd: where.
        results: file that is written; its content from before is gone.
        holding: handle of the lock that pytest is to hold too.
        log: where pytest's output goes, and then it has a process group of its own; without, to the terminal.

    Raises:
        EvalgateError: pytest was killed, or ended before it could say what came out.
    """
    results.parent.mkdir(parents=True, exist_ok=True)
    results.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", *arguments, "--eval-results", os.path.relpath(results, cwd)]
    with log.open("wb") if log else nullcontext() as output:
        child = subprocess.Popen(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
            pass_fds=(holding,),
            start_new_session=output is not None,
        )
        try:
            code = child.wait()
        except BaseException:
            _end(child, grouped=output is not None)
            raise
    if not results.exists():
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        last = _last_line(log) if log else "what it said stands above"
        mend = f"{last}. Its output is in {log}." if log else f"{last}."
        raise EvalgateError(f"pytest {how} and left no results", mend=mend)
    return read_results(results)


def _end(child: subprocess.Popen[bytes], *, grouped: bool) -> None:
    """Interrupt it, as Ctrl-C does where it shares the terminal; kill it where that does not help."""
    with suppress(ProcessLookupError):
        if grouped:
            os.killpg(child.pid, signal.SIGINT)
        try:
            child.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _last_line(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    return safe(lines[-1], 300) if lines else "It said nothing"
