"""The gate as a person starts it: pytest in a process of its own, and what came out of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

from evalgate.errors import EvalgateError
from evalgate.report.results import Results, read_results
from evalgate.report.terminal import safe

_PATIENCE = 10.0  # seconds that an interrupted pytest has to close its engine


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
    # One of many trials writes no summary of its own: what came of all of them is for the command to say.
    told = ["--eval-ci", "none"] if log else []
    command = [sys.executable, "-m", "pytest", *arguments, *told, "--eval-results", os.path.relpath(results, cwd)]
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
