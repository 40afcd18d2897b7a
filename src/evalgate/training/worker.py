"""The trainer's process: `python -P -m evalgate.training.worker FOLDER`, started by `process.train` only.

It reads `job.json`, writes into its folder and nowhere else, and ends with the process that started it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from evalgate.errors import EvalgateError
from evalgate.training.job import read_job
from evalgate.training.log import Log

PR_SET_PDEATHSIG = 1
# What a rank says when another one is gone: that one has told why, or the launcher will.
ANOTHERS = ("gloo/transport", "ncclRemoteError", "Connection closed by peer")
MEMORY_WORDS = ("out of memory", "outofmemory", "can't allocate memory")
# The system's own, and what torch says where a state does not fit on the disk.
DISK_WORDS = ("no space left", "disk quota exceeded", "file too large", "inline_container", "file write failed")


def main() -> None:
    """Train, and end with status 0, or with a `fail` line and status 1."""
    if not end_with_parent():
        return
    folder = Path(sys.argv[1])
    log = Log(folder)
    try:
        job = read_job(folder)
        from evalgate.training.trainer import run

        run(job, log)
    except BaseException as error:
        traceback.print_exc()
        if not any(word in str(error) for word in ANOTHERS):
            with contextlib.suppress(OSError):  # the disk may be full
                log.write("fail", **explain(error))
        sys.stderr.flush()
        os._exit(1)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # nothing is left to save, and the interpreter's way out of these libraries can hang


def end_with_parent() -> bool:
    """A parent that is killed leaves no orphan: the kernel ends the child with the thread that started it.

    Returns:
        Whether the parent still lives.
    """
    parent = os.getppid()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    return os.getppid() == parent


def explain(error: BaseException) -> dict[str, Any]:
    """One line for the parent; the traceback is in the log."""
    if isinstance(error, EvalgateError):
        return {"what": error.what, "where": error.where, "mend": error.mend}
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")[:500]
    if isinstance(error, MemoryError) or any(word in str(error).lower() for word in MEMORY_WORDS):
        mend = "Lower schedule.batch_size (and raise schedule.accumulation), or set precision.gradient_checkpointing."
        return {"what": f"the trainer is out of memory: {text}", "where": None, "mend": mend}
    if any(word in str(error).lower() for word in DISK_WORDS):
        mend = "Make room on the disk, then run the same command again to resume."
        return {"what": f"the trainer could not write: {text}", "where": None, "mend": mend}
    return {"what": f"the trainer failed: {type(error).__name__}: {text}", "where": None, "mend": None}


if __name__ == "__main__":
    main()
