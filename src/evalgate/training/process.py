"""The trainer as its parent sees it: a child process, followed through its log. Nothing here imports torch."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from evalgate.errors import ConfigError, MissingExtraError, TrainingError
from evalgate.training.distributed import launch_environment, write_launch
from evalgate.training.job import ENVIRONMENT, EXPORTS, FINAL, TRACKERS, Export, Job, Trained, write_job
from evalgate.training.log import Line, Tail, in_force, read_log, wall_seconds
from evalgate.training.schema import TrainingConfig

STDERR = "trainer.log"
LOCK = "lock"
LOCK_SECONDS = 10.0
POLL_SECONDS = 0.05
POLITE_SECONDS = 5.0
TELLING = re.compile(r"\b(\w*(Error|Exception)\b|error:|fatal|Killed|Aborted|Segmentation|SIG[A-Z]+)", re.IGNORECASE)
AGAIN = "Run the same command again to resume."

# What the child gets of our environment: where things are, and what decides the last bits of a sum. No tokens, no keys.
NAMES = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "PYTHONPATH", "PYTHONHASHSEED"),
        *("LD_LIBRARY_PATH", "LD_PRELOAD", "XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "TRITON_CACHE_DIR"),
        *("ATEN_CPU_CAPABILITY", "DS_BUILD_OPS", "CC", "CXX"),
    }
)
PREFIXES = ("LC_", "CUDA_", "NVIDIA_", "NCCL_", "GLOO_", "OMP_", "MKL_", "KMP_", "GOMP_", "DNNL_", "ONEDNN_")
TRACKERS_OWN = {"wandb": "WANDB_", "comet": "COMET_", "mlflow": "MLFLOW_", "trackio": "TRACKIO_", "neptune": "NEPTUNE_"}
ALWAYS = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONUTF8": "1",
    # glibc gives large blocks back to the kernel at every step and gets them zeroed again: on a CPU most of a step of a
    # tiny model goes there (36 s of 20 steps became 21 s).
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
}


def train(job: Job, on_line: Callable[[Line], None] | None = None) -> Trained:
    """Train in a child process until all exports are there; an interrupted training goes on where it was.

    A training that is finished already returns at once. Ctrl-C ends the child with this process; one process, without
    `distribution`, keeps a state of its last step first.

    Args:
        job: what is trained; its folder holds the rows.
        on_line: gets every line of `log.jsonl` (see `training.log`) as it is written, for a progress bar.

    Raises:
        TrainingError: the trainer failed, was killed, met a loss that is no number, or another one is at work here.
        ConfigError: the configuration cannot be carried out.
        MissingExtraError: a library is not installed.
    """
    with _alone(job.folder) as lock:
        if (finished := _finished(job.folder)) is not None:
            return finished
        _check(job)
        lines: list[Line] = []
        with writing(job.folder):
            write_job(job)
            tail, child = Tail(job.folder), _start(job, lock)
        code = _follow(child, tail, lines, on_line or (lambda line: None))
        if code != 0:
            raise _died(job, code, lines)
        if (finished := _finished(job.folder)) is None:
            raise _died(job, code, lines)
        return finished


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """What the disk refuses in a work folder is a training that failed, not a crash (TrainingError)."""
    try:
        yield
    except OSError as error:
        mend = "Make room, or give this user the right to write there, then run the same command again."
        where = str(error.filename or folder)
        raise TrainingError(f"could not be written: {error.strerror}", where=where, mend=mend) from error


def child_environment(job: Job, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables of the child: an allow-list, the named trackers' own, and the number of threads."""
    environ = os.environ if environ is None else environ
    config = job.config
    prefixes = PREFIXES + tuple(TRACKERS_OWN[name] for name in config.tracking.trackers if name in TRACKERS_OWN)
    kept = {name: value for name, value in environ.items() if name in NAMES or name.startswith(prefixes)}
    threads = str(config.distribution.threads)
    # Threads that wait by spinning starve each other as soon as anything else runs.
    ours = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE"}
    if config.distribution.kind == "none":
        # One process takes one GPU: the first of those that it may see.
        ours["CUDA_VISIBLE_DEVICES"] = environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]
    else:
        ours |= launch_environment(config.distribution, kept)
    return kept | ALWAYS | ours | dict(job.tracker_environment)


def _start(job: Job, lock: int) -> subprocess.Popen[bytes]:
    program = "worker"
    if job.config.distribution.kind != "none":
        write_launch(job.config.distribution, job.folder)
        program = "launcher"
    # -P: nothing is imported from the current folder. A session of its own: the terminal's Ctrl-C ends the parent, and
    # the parent ends the child. The lock is held as long as any process of this training lives.
    with (job.folder / STDERR).open("wb") as errors:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", f"evalgate.training.{program}", str(job.folder)],
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            env=child_environment(job),
            cwd=job.folder,
            start_new_session=True,
            pass_fds=(lock,),
        )


def _follow(child: subprocess.Popen[bytes], tail: Tail, lines: list[Line], on_line: Callable[[Line], None]) -> int:
    """Hand every new line on until the child has ended; whatever happens here ends it, with a moment to keep its state.

    The moment is no promise: what a kill leaves is resumable too.
    """
    try:
        ended = False
        while not ended:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(POLL_SECONDS)
            ended = child.returncode is not None  # before the last read: what it wrote before its end is read after it
            for line in tail.read():
                lines.append(line)
                on_line(line)
    except BaseException:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(POLITE_SECONDS)
        raise
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    return child.returncode


def _finished(folder: Path) -> Trained | None:
    """What a training left that came to its end."""
    written = read_log(folder)
    lines = in_force(written)
    if not lines or lines[-1]["kind"] != "end" or not (folder / EXPORTS / FINAL).is_dir():
        return None
    trackers = folder / TRACKERS
    steps = [line for line in lines if line["kind"] == "step"]
    return Trained(
        exports=tuple(
            Export(line["name"], folder / EXPORTS / line["name"], line["epoch"], line["step"])
            for line in lines
            if line["kind"] == "exported"
        ),
        losses=tuple(line["loss"] for line in steps),
        grad_norms=tuple(line["grad_norm"] for line in steps),
        learning_rates=tuple(line["learning_rate"] for line in steps),
        held_out_loss=lines[-1]["held_out_loss"],
        seconds=wall_seconds(written),
        environment=json.loads((folder / ENVIRONMENT).read_text("utf-8")),
        trackers=json.loads(trackers.read_text("utf-8")) if trackers.exists() else {},
    )


def _died(job: Job, code: int, lines: Sequence[Line]) -> TrainingError:
    """The error for a child that did not come to its end: what it said, else how it ended and what its log says."""
    said = next((line for line in lines if line["kind"] == "fail"), None)
    log = f"Log: {job.folder / STDERR}"
    if said is not None:
        return TrainingError(said["what"], where=said["where"], mend=f"{said['mend'] or ''} {log}".strip())
    how = f"was killed by signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"ended with status {code}"
    how += ", perhaps for want of memory" if -code == signal.SIGKILL else ""
    steps = [line["step"] for line in lines if line["kind"] == "step"]
    total = next((line["steps"] for line in lines if line["kind"] == "start"), None)
    when = f"at step {steps[-1] if steps else 0} of {total}" if total else "before its first step"
    last = _last_telling(job.folder / STDERR)
    return TrainingError(f"the trainer {how} {when}{f': {last}' if last else ''}", mend=f"{AGAIN} {log}")


def _last_telling(path: Path) -> str:
    """The last line of a log that names an error; at most 300 characters, printable ones only."""
    text = path.read_bytes()[-64 * 1024 :].decode("utf-8", "replace")
    telling = [line.strip() for line in text.splitlines() if TELLING.search(line)]
    return "".join(char if char.isprintable() else " " for char in (telling or [""])[-1][:300])


def _check(job: Job) -> None:
    """What can be said before a child is started."""
    config = job.config
    for library, extra in _libraries(config):
        if importlib.util.find_spec(library) is None:
            raise MissingExtraError(library, extra)
    if config.method == "full" and job.adapter is not None:
        raise ConfigError(
            "full fine-tuning cannot begin from an adapter",
            where="model.base",
            mend="Merge it into full weights first, or write method=lora.",
        )


def _libraries(config: TrainingConfig) -> Iterator[tuple[str, str]]:
    for library in ("torch", "transformers", "peft", "datasets", "accelerate", "trl"):
        yield library, "train"
    if config.method == "qlora":
        yield "bitsandbytes", "qlora"
    if config.distribution.kind == "deepspeed":
        yield "deepspeed", "deepspeed"


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[int]:
    """Hold the folder's lock: two trainers in one folder would destroy each other's states."""
    with writing(folder):
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    deadline = time.monotonic() + LOCK_SECONDS
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TrainingError(
                        "another process is training here", where=str(folder), mend="Wait until it has ended."
                    ) from None
                time.sleep(POLL_SECONDS)
        yield lock
    finally:
        os.close(lock)
