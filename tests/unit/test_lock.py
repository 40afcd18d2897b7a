"""The lock that makes a night safe to start twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evalgate.errors import EvalgateError
from evalgate.lock import alone

HOLD = """
import subprocess, sys
from pathlib import Path
from evalgate.lock import alone

with alone(Path(sys.argv[1]), "the night") as lock:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(lock,))
    print(child.pid, flush=True)
    child.wait()
"""


def test_the_second_is_told_who_is_first(tmp_path: Path) -> None:
    """Since when, and by which process; once the first has ended, the lock is free."""
    with alone(tmp_path / "lock", "the night"):
        with pytest.raises(EvalgateError) as caught, alone(tmp_path / "lock", "the night"):
            pass
        assert "the night is running already, since 20" in str(caught.value)
        assert f"started by process {os.getpid()}" in str(caught.value)
        assert "\n" not in str(caught.value)
    with alone(tmp_path / "lock", "the night"):
        pass


def test_a_crash_frees_the_lock_once_its_children_have_ended(tmp_path: Path) -> None:
    """A holder that was killed left a child: whoever comes then would work beside it, and is refused until it ends."""
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        child = int(holder.stdout.readline())
        holder.kill()
    with pytest.raises(EvalgateError, match=f"started by process {holder.pid}"), alone(path, "the night"):
        pass
    os.kill(child, signal.SIGKILL)
    began = time.monotonic()
    with alone(path, "the night", wait=lambda _: None):
        assert time.monotonic() - began < 10


def test_who_waits_is_told_for_whom(tmp_path: Path) -> None:
    """The second gets the lock once the first has let it go, and knew before what it was waiting for."""
    path, said = tmp_path / "lock", list[str]()
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        child = int(holder.stdout.readline())

        def told(what: str) -> None:
            said.append(what)
            os.kill(child, signal.SIGKILL)  # which ends the holder

        with alone(path, "the night", wait=told):
            assert holder.wait(10) == 0
    assert len(said) == 1
    assert said[0].endswith(f"started by process {holder.pid}")


def test_a_lock_that_says_nothing_still_holds(tmp_path: Path) -> None:
    """Between taking it and writing into it a holder may be seen: then there is less to say, and no entry."""
    with alone(tmp_path / "lock", "the night") as handle:
        os.ftruncate(handle, 0)
        with pytest.raises(EvalgateError, match="it has just begun"), alone(tmp_path / "lock", "the night"):
            pass
