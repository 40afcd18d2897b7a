"""The lock that makes a night safe to start twice, and pytest in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evalgate.errors import EvalgateError
from evalgate.gated import alone, run_gate

HOLD = """
import subprocess, sys
from pathlib import Path
from evalgate.gated import alone

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
    with alone(path, "the night", wait=True):
        assert time.monotonic() - began < 10


def test_a_lock_that_says_nothing_still_holds(tmp_path: Path) -> None:
    """Between taking it and writing into it a holder may be seen: then there is less to say, and no entry."""
    with alone(tmp_path / "lock", "the night") as handle:
        os.ftruncate(handle, 0)
        with pytest.raises(EvalgateError, match="it has just begun"), alone(tmp_path / "lock", "the night"):
            pass


def gate(folder: Path, test: str, *, log: bool = True) -> Path:
    """Run the gate over a test file; where its results are kept."""
    (folder / "test_it.py").write_text(test)
    results = folder / "kept/results.json"
    results.parent.mkdir(exist_ok=True)
    results.write_text("from an earlier session")
    with alone(folder / "lock", "this") as lock:
        run_gate(["-q", "test_it.py"], cwd=folder, results=results, holding=lock, log=folder / "log" if log else None)
    return results


def test_what_came_out_is_read(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The command that a person would type, its output in the log, or on the terminal."""
    assert '"exit": 1' in gate(tmp_path, "def test_a():\n    assert False\n").read_text()
    assert "1 failed" in (tmp_path / "log").read_text()
    assert '"exit": 0' in gate(tmp_path, "def test_a():\n    pass\n", log=False).read_text()
    assert "1 passed" in capfd.readouterr().out


def test_a_pytest_that_was_killed_left_no_results(tmp_path: Path) -> None:
    """Neither its own nor those of an earlier session: an error, with the last line that was said."""
    killed = "import os, signal, sys\nsys.__stderr__.write('out of memory\\n')\nos.kill(os.getpid(), signal.SIGKILL)\n"
    with pytest.raises(EvalgateError) as caught:
        gate(tmp_path, killed)
    assert "pytest was killed by signal 9 and left no results" in str(caught.value)
    with pytest.raises(EvalgateError, match="ended with exit code 3 and left no results"):
        gate(tmp_path, "import os\nos._exit(3)\n", log=False)


def test_an_interrupt_ends_what_was_started(tmp_path: Path) -> None:
    """Ctrl-C at the command line is passed on to a pytest that has a process group of its own."""
    (tmp_path / "test_it.py").write_text(
        "import time\n\ndef test_a():\n    open('began', 'w').close()\n    time.sleep(60)\n"
    )
    code = f"""
from pathlib import Path
from evalgate.gated import alone, run_gate
here = Path({str(tmp_path)!r})
with alone(here / "lock", "this") as lock:
    run_gate(["test_it.py"], cwd=here, results=here / "results.json", holding=lock, log=here / "log")
"""
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) as parent:
        while not (tmp_path / "began").exists():
            time.sleep(0.05)
        parent.send_signal(signal.SIGINT)
        assert parent.wait(15) != 0
    assert "KeyboardInterrupt" in (tmp_path / "log").read_text()
    with alone(tmp_path / "lock", "this"):  # nobody is left who holds it
        pass
