"""The judges' child as its parent sees it: jobs in, judgements out, a library behind them."""

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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import evalgate
from evalgate.errors import JudgeError
from evalgate.instrument import Endpoint, Job, Judgement
from evalgate.judges.wire import (
    SECONDS,
    checked,
    describe,
    failure,
    first_line,
    job_to_json,
    line,
    message,
    start_to_json,
)

# The child runs this very package, whichever interpreter it is, and finds nothing else of this environment.
BOOTSTRAP = """
import sys
from importlib.util import module_from_spec, spec_from_file_location
folder = sys.argv.pop(1)
spec = spec_from_file_location("evalgate", folder + "/__init__.py", submodule_search_locations=[folder])
package = sys.modules["evalgate"] = module_from_spec(spec)
spec.loader.exec_module(package)
from evalgate.judges.worker import main
main()
"""
START_SECONDS = 120.0  # that importing a library may take
LOG_TAIL = 64 * 1024
TELLING = re.compile(r"\b(\w*(Error|Exception)\b|error:|fatal|Killed|Aborted|Segmentation)", re.IGNORECASE)

# What the child gets of our environment: no keys, no tokens, no proxies.
NAMES = frozenset({"PATH", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONPATH"})
ALWAYS = {
    "DEEPEVAL_TELEMETRY_OPT_OUT": "1",
    "DEEPEVAL_FILE_SYSTEM": "READ_ONLY",
    "DEEPEVAL_DISABLE_DOTENV": "1",
    "DEEPEVAL_EVAL_MODE": "llm",
    "DEEPEVAL_DISABLE_TIMEOUTS": "1",  # a job has one deadline, ours
    "CONFIDENT_TRACE_INTERNAL": "0",
    "RAGAS_DO_NOT_TRACK": "true",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
    "LANGSMITH_TRACING": "false",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONUTF8": "1",
    "NO_PROXY": "*",
}
FOLDERS = {
    "HOME": "home",
    "TMPDIR": "tmp",
    "XDG_CACHE_HOME": "cache",
    "XDG_CONFIG_HOME": "config",
    "XDG_DATA_HOME": "data",
    "XDG_STATE_HOME": "state",
    "HF_HOME": "cache/huggingface",
    "DEEPEVAL_CACHE_FOLDER": "cache/deepeval",
    "MPLCONFIGDIR": "cache/matplotlib",
    "NLTK_DATA": "cache/nltk",
    "TIKTOKEN_CACHE_DIR": "cache/tiktoken",
}


def judge_in_child(
    jobs: Sequence[Job],
    endpoint: Endpoint | None,
    *,
    python: str | None,
    folder: Path,
    log: Path,
    on_event: Callable[[str], None] | None = None,
    seconds: float = SECONDS,
    environ: Mapping[str, str] | None = None,
) -> Iterator[Judgement]:
    """Let judge libraries judge in a child process; judgements come as they finish, one for every different job.

    Every value is checked here again: whatever is no finite number in the instrument's range is an error that names the
    sample. The child ends with this generator, and with this process.

    Args:
        jobs: of instruments of the libraries (`deepeval`, `ragas`, `uptrain`).
        endpoint: that they ask; `None` where no job asks a model.
        python: interpreter of the environment that has the libraries; `None` is this one.
        folder: in which everything is written that a library writes, wherever it thinks that it does.
        log: what the libraries print.
        on_event: told in one line what happens.
        seconds: total deadline of a job, all its questions together.
        environ: by default this process's; the child gets little of it.

    Raises:
        JudgeError: the child could not be started, died, fell silent, or could not judge anything. What was yielded
            before is good.
    """
    waiting = {job.id: job for job in jobs}
    if not waiting:
        return
    kinds = ", ".join(sorted({job.instrument.kind for job in waiting.values()}))
    (on_event or (lambda text: None))(f"starting {kinds}: {len(waiting)} judgements")
    lines = [line("start", start_to_json(endpoint, seconds))]
    lines += [line("judge", job_to_json(job)) for job in waiting.values()]
    total = len(waiting)
    child = _Child(python, child_environment(python, folder, environ), folder, log, lines)
    try:
        while waiting and (text := child.receive(START_SECONDS + seconds)) is not None:
            judgement = _judgement(text, waiting, log)
            del waiting[judgement.job]
            yield judgement
        if waiting:
            child.require_end(f"after {total - len(waiting)} of {total} judgements")
    finally:
        child.stop()
    for job in waiting.values():
        yield Judgement(job.id, None, error=failure(job.case.sample, f"{_name(job)} gave no judgement", None, 0.0))


def child_environment(python: str | None, folder: Path, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables of the child: an allow-list, telemetry off, and every place to write in below `folder`."""
    environ = os.environ if environ is None else environ
    kept = {name: value for name, value in environ.items() if name in NAMES or name.startswith("LC_")}
    if python is not None:
        kept.pop("PYTHONPATH", None)  # it names this environment's libraries, not the other's
    return kept | ALWAYS | {name: str(folder / place) for name, place in FOLDERS.items()}


class _Child:
    """One worker in a process group of its own, and the two pipes to it."""

    def __init__(
        self, python: str | None, environment: Mapping[str, str], folder: Path, log: Path, lines: Iterable[str]
    ) -> None:
        empty = folder / "cwd"
        for place in (empty, log.parent, *(folder / place for place in FOLDERS.values())):
            place.mkdir(parents=True, exist_ok=True)
        self.log, self._buffer = log, b""
        born: Future[subprocess.Popen[bytes]] = Future()
        with log.open("wb") as errors:
            # -P: nothing is imported from the current folder. A session of its own: the terminal's Ctrl-C ends the
            # parent, and the parent ends the whole group.
            spawn = partial(
                subprocess.Popen,
                [python or sys.executable, "-P", "-c", BOOTSTRAP, str(Path(evalgate.__file__).parent)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=dict(environment),
                cwd=empty,
                start_new_session=True,
            )
            # The kernel ends the child with the thread that started it, so that is a thread of its own.
            self._writer = threading.Thread(
                target=self._write, args=(spawn, born, lines), name="evalgate-judges", daemon=True
            )
            self._writer.start()
            try:
                self.process = born.result()
            except OSError as error:
                raise JudgeError(
                    f"the judges' process could not be started: {error.strerror}",
                    where=python or sys.executable,
                    mend="Name an interpreter that has the judges' libraries: judges.python in [tool.evalgate].",
                ) from None

    def _write(
        self, spawn: Callable[[], subprocess.Popen[bytes]], born: Future[subprocess.Popen[bytes]], lines: Iterable[str]
    ) -> None:
        try:
            process = spawn()
        except OSError as error:
            born.set_exception(error)
            return
        born.set_result(process)
        assert process.stdin is not None  # noqa: S101 - opened above
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
            for text in lines:
                pipe.write(text.encode("ascii"))
        process.wait()

    def receive(self, timeout: float) -> bytes | None:
        """The next line; `None` when there are no more (JudgeError after `timeout` seconds without one)."""
        pipe = self.process.stdout
        assert pipe is not None  # noqa: S101 - opened above
        deadline = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            if not select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise JudgeError(f"the judges' process said nothing for {timeout:g} s", mend=f"Log: {self.log}")
            chunk = os.read(pipe.fileno(), 1 << 16)
            if not chunk:
                return None
            self._buffer += chunk
        text, _, self._buffer = self._buffer.partition(b"\n")
        return text

    def require_end(self, progress: str) -> None:
        """Whether the child, whose pipe is closed, came to its end by itself (JudgeError)."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        code = self.process.returncode
        if code == 0:
            return
        how = "stopped answering" if code is None else f"ended with status {code}"
        if code is not None and code < 0:
            how = f"was killed by signal {-code} ({signal.Signals(-code).name})"
            how += ", perhaps for want of memory" if -code == signal.SIGKILL else ""
        said = _last_telling(self.log)
        raise JudgeError(
            f"the judges' process {how} {progress}{f': {said}' if said else ''}",
            mend=f"Finished judgements are kept: run again to resume. Log: {self.log}",
        )

    def stop(self) -> None:
        """End the child and all that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._writer.join(1.0)
        if self.process.stdout:
            self.process.stdout.close()


def _judgement(text: bytes, waiting: Mapping[str, Job], log: Path) -> Judgement:
    """What one line says, and nothing that it must not say."""
    try:
        kind, said = message(text)
        job = waiting[said["job"]] if kind == "judgement" else None
        value, explanation, error = (None,) * 3 if job is None else (said[n] for n in ("value", "explanation", "error"))
    except (ValueError, TypeError, LookupError):
        raise JudgeError("the judges' process wrote what is no judgement", mend=f"Log: {log}") from None
    if job is None:
        raise JudgeError(f"the judges' process failed: {first_line(said)}", mend=f"Log: {log}")
    if error is not None:
        return Judgement(job.id, None, error=first_line(error, 1000))
    try:
        value = checked(value, job.instrument.low, job.instrument.high)
    except ValueError as fault:
        return Judgement(job.id, None, error=failure(job.case.sample, f"{_name(job)} {fault}", None, 0.0))
    return Judgement(job.id, value, explanation=None if explanation is None else str(explanation))


def _name(job: Job) -> str:
    return describe(job.instrument.settings, job.instrument.kind)


def _last_telling(log: Path) -> str:
    """The last line of a log that names an error, else its last; at most 300 characters, printable ones only."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LOG_TAIL))
        lines = [text.strip() for text in file.read().decode("utf-8", "replace").splitlines() if text.strip()]
    telling = [text for text in lines if TELLING.search(text)]
    return first_line((telling or lines or [""])[-1], 300)
