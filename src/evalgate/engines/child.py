"""A child process and the two pipes to it, as the parent sees them."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import evalgate
from evalgate.engines import protocol
from evalgate.engines.environment import child_environment
from evalgate.engines.settings import EngineSettings
from evalgate.errors import EngineError

# The child runs this very package, whichever interpreter it is, and finds nothing else of this environment.
BOOTSTRAP = """
import sys
from importlib.util import module_from_spec, spec_from_file_location
folder = sys.argv.pop(1)
spec = spec_from_file_location("evalgate", folder + "/__init__.py", submodule_search_locations=[folder])
package = sys.modules["evalgate"] = module_from_spec(spec)
spec.loader.exec_module(package)
from evalgate.engines.worker import main
main()
"""
POLITE_SECONDS = 1.0
ERROR_LINE = re.compile(r"\b(\w*(Error|Exception)\b|error:|fatal|Killed|Aborted|Segmentation)", re.IGNORECASE)
LOG_TAIL = 64 * 1024


class Child:
    """One worker in a process group of its own; `send` never blocks, `receive` is interrupted by Ctrl-C at once."""

    def __init__(self, settings: EngineSettings, start: protocol.Start, log: Path) -> None:
        environment = child_environment(start.device, also=settings.variables)
        if settings.python is not None:
            environment.pop("PYTHONPATH", None)  # it names this environment's libraries, not the other's
        environment["TMPDIR"] = start.scratch  # engines leave folders there at every start
        package = str(Path(evalgate.__file__).parent)
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        with log.open("wb") as errors:
            # -P: nothing is imported from the current folder. A session of its own: the terminal's Ctrl-C ends the
            # parent, and the parent ends the whole group.
            spawn = partial(
                subprocess.Popen,
                [settings.python or sys.executable, "-P", "-c", BOOTSTRAP, package],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
                cwd=start.scratch,
                start_new_session=True,
            )
            self._buffer = b""
            self._outbox: SimpleQueue[Iterable[str] | None] = SimpleQueue()
            born: Future[subprocess.Popen[bytes]] = Future()
            # Both sides write while the other may be writing too: without a thread two full pipes wait for each other.
            # The kernel ends the child with the thread that started it, so that is this thread, not a passing caller's.
            self._writer = threading.Thread(target=self._write, args=(spawn, born), name="evalgate-engine", daemon=True)
            self._writer.start()
            self.process = born.result()
        self.send([protocol.line("start", protocol.start_to_json(start))])

    def send(self, lines: Iterable[str]) -> None:
        """Queue lines for the child; a dead child shows when the next answer is received."""
        self._outbox.put(lines)

    def _write(self, spawn: Callable[[], subprocess.Popen[bytes]], born: Future[subprocess.Popen[bytes]]) -> None:
        try:
            process = spawn()
        except OSError as error:
            born.set_exception(error)
            return
        born.set_result(process)
        assert process.stdin is not None  # noqa: S101 - opened above
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
            while (lines := self._outbox.get()) is not None:
                for text in lines:
                    pipe.write(text.encode("ascii"))
                pipe.flush()
        process.wait()

    def receive(self, timeout: float | None = None) -> tuple[str, Any] | None:
        """The next message; `None` when the child is gone. TimeoutError after `timeout` seconds without one."""
        pipe = self.process.stdout
        assert pipe is not None  # noqa: S101 - opened above
        deadline = None if timeout is None else time.monotonic() + timeout
        while b"\n" not in self._buffer:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([pipe], [], [], left)[0]:
                raise TimeoutError
            chunk = os.read(pipe.fileno(), 1 << 16)
            if not chunk:
                return None
            self._buffer += chunk
        text, _, self._buffer = self._buffer.partition(b"\n")
        return protocol.message(text)

    def died(self, progress: str) -> EngineError:
        """The error for a child that is gone: how it ended, how far it came, what its log says last."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        code = self.process.returncode
        how = "stopped answering" if code is None else f"exited with status {code}"
        if code is not None and code < 0:
            how = f"was killed by signal {-code} ({signal.Signals(-code).name})"
            how += ", perhaps for want of memory" if -code == signal.SIGKILL else ""
        said = last_error(self.log)
        return EngineError(
            f"the engine's worker {how} {progress}{f': {said}' if said else ''}",
            mend=f"Finished answers are kept: run again to resume. Log: {self.log}",
        )

    def stop(self, *, finished: bool) -> None:
        """End the child and its group: at once, or after a moment to leave by itself where its work is `finished`."""
        self._outbox.put(None)
        if finished:
            self._writer.join(POLITE_SECONDS)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._writer.join(POLITE_SECONDS)
        if self.process.stdout:
            self.process.stdout.close()


def last_error(log: Path) -> str:
    """The last line of a log that names an error, else its last line; at most 300 characters, printable ones only."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LOG_TAIL))
        lines = [text.strip() for text in file.read().decode("utf-8", "replace").splitlines() if text.strip()]
    telling = [text for text in lines if ERROR_LINE.search(text)]
    chosen = (telling or lines or [""])[-1][:300]
    return "".join(char if char.isprintable() else " " for char in chosen)
