"""Pytest in a process of its own, and what came out of it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evalgate.errors import EvalgateError
from evalgate.gated import run_gate
from evalgate.lock import alone


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
from evalgate.gated import run_gate
from evalgate.lock import alone
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
