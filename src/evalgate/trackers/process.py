"""The child in which a tracker's library runs, as the parent sees it: a request, one line, an end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import evalgate
from evalgate.errors import EvalgateError, TrackerError
from evalgate.trackers.note import PREFIX, Note
from evalgate.trackers.settings import ALWAYS, require, require_own, variables_of

SECONDS = 60.0
NAMES = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "XDG_CACHE_HOME"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
        *("http_proxy", "https_proxy", "no_proxy"),
    }
)


def write_all(
    trackers: Mapping[str, Mapping[str, Any]],
    note: Note,
    root: Path,
    *,
    trusted: Collection[str] = (),
    seconds: float = SECONDS,
    environ: Mapping[str, str] | None = None,
) -> list[str]:
    """Write a note into every run of a training, all trackers at once; failures are lines like the rest.

    Args:
        trackers: by name, what finds the run again (`TrainingRun.trackers`). It comes out of a version's folder, which
            anybody may have made: only folders of the project and addresses that somebody here named are used.
        note: what is written.
        root: of the project.
        trusted: addresses of MLflow that are in order, beside those in MLFLOW_TRACKING_URI and MLFLOW_REGISTRY_URI.
        seconds: after which a tracker is given up.
        environ: by default this process's; the children get little of it.

    Returns:
        One line per tracker, in order of their names.
    """
    environ = os.environ if environ is None else environ
    known = {*trusted, environ.get("MLFLOW_TRACKING_URI"), environ.get("MLFLOW_REGISTRY_URI")}
    names = sorted(trackers)

    def write(name: str) -> str:
        return _write(name, trackers[name], note, root, known, seconds, environ)

    with ThreadPoolExecutor(max_workers=max(1, len(names))) as pool:
        return list(pool.map(write, names))


def _write(
    name: str,
    run: Mapping[str, Any],
    note: Note,
    root: Path,
    known: Collection[str | None],
    seconds: float,
    environ: Mapping[str, str],
) -> str:
    what = "verdict" if f"{PREFIX}verdict" in note.tags else "lineage"
    try:
        require_own(name, run, root, known)
        require(name)
        request = {"run": dict(run), "note": asdict(note)}
        said = ask(name, request, run, root, seconds=seconds, environ=environ)
    except EvalgateError as error:
        return _one_line(f"{name}: the {what} of {note.version} could not be written: {error}")
    gaps = f"; its curves have gaps: {run['error']}" if "error" in run else ""
    return _one_line(f"{name}: {what} of {note.version} written to {said}{gaps}")


def ask(
    name: str,
    request: Mapping[str, Any],
    place: Mapping[str, Any],
    root: Path,
    *,
    tracker: str | None = None,
    seconds: float = SECONDS,
    environ: Mapping[str, str] | None = None,
) -> str:
    """Let a module of this package do something in a child, and return what it says (TrackerError).

    Args:
        name: of the module.
        request: its question, as JSON.
        place: where the tracker writes.
        root: of the project, in which the child runs.
        tracker: whose library it needs, by default the module's own.
        seconds: until it is killed, with all that it started.
        environ: by default this process's.
    """
    environ = os.environ if environ is None else environ
    try:
        child = subprocess.Popen(
            # -P: nothing is imported from the project's folder. A session of its own, so that all of it can be ended.
            [sys.executable, "-P", "-m", "evalgate.trackers", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=child_environment(tracker or name, place, root, environ),
            cwd=root,
            start_new_session=True,
        )
    except OSError as error:
        raise TrackerError(f"its process could not be started: {error.strerror}") from None
    try:
        answer, errors = child.communicate(json.dumps(request).encode(), seconds)
    except subprocess.TimeoutExpired:
        raise TrackerError(f"no answer within {seconds:g} s") from None
    finally:
        # Whatever it started ends with it: W&B and Trackio leave helpers behind.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        for pipe in (child.stdin, child.stdout, child.stderr):
            if pipe:
                pipe.close()
    return _answer(answer, errors, child.returncode)


def child_environment(tracker: str, place: Mapping[str, Any], root: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """An allow-list, the tracker's own variables with its keys among them, and what makes it write where it should."""
    own = f"{tracker.upper()}_"
    kept = {key: value for key, value in environ.items() if key in NAMES or key.startswith((own, "LC_"))}
    ours = {"PYTHONPATH": str(Path(evalgate.__file__).parents[1]), "PYTHONUTF8": "1"}
    return kept | ALWAYS | variables_of(tracker, place, root, environ) | ours


def _answer(answer: bytes, errors: bytes, code: int) -> str:
    with suppress(ValueError, KeyError, TypeError):
        said = json.loads(answer)
        if "error" in said:
            raise TrackerError(_one_line(said["error"]))
        return _one_line(said["said"])
    raise TrackerError(
        f"its process ended with status {code}: {_one_line(errors.decode('utf-8', 'replace')[-2000:], last=True)}"
    )


def _one_line(text: str, limit: int = 500, *, last: bool = False) -> str:
    """Words of a library, fit for a terminal."""
    lines = [line.strip() for line in str(text).splitlines() if line.strip()] or ["it said nothing"]
    shown = lines[-1] if last else " ".join(lines)
    return "".join(char if char.isprintable() else " " for char in shown[:limit])
