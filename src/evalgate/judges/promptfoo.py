"""promptfoo's real command line: one call for all jobs of all tasks, texts by reference, grading by our gateway.

Its configuration holds names only. `promptfoo.mjs` lets the texts in, and asks the judge; what a judge failed to say
stands in a file of its own, whatever promptfoo makes of it.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalgate.digest import canonical
from evalgate.errors import JudgeError, TaskError
from evalgate.instrument import Endpoint, Job, Judgement
from evalgate.judges.node import ENTRY, PROMPTFOO
from evalgate.judges.wire import SECONDS, checked, failure, first_line
from evalgate.scoring.assertions import base, is_graded, leaves, of_case

AT_ONCE = 256  # cases: the gateway asks in batches what comes in together
START_SECONDS = 300.0
TOKENS = 1024  # of a reply
EXPLANATION = 2000  # characters
OURS = "promptfoo.mjs"
GUARD = Path(__file__).with_name("promptfoo_guard.mjs")
NAMES = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "SSL_CERT_FILE")
_OFF = (
    *("TELEMETRY", "UPDATE", "TEMPLATING", "TEMPLATE_ENV_VARS", "SHARING", "ERROR_LOG", "DEBUG_LOG"),
    *("REMOTE_GENERATION", "REDTEAM_REMOTE_GENERATION"),
)
ENVIRONMENT = {
    **{f"PROMPTFOO_DISABLE_{name}": "1" for name in _OFF},
    "PROMPTFOO_FAILED_TEST_EXIT_CODE": "0",
    "PROMPTFOO_INLINE_MEDIA": "1",  # else an answer with a data: address becomes a file and its name
    "DO_NOT_TRACK": "1",
    "NODE_NO_WARNINGS": "1",
    "TZ": "UTC",
}
_PASSED, _FAILED = 0, 1  # reasons of a row that was judged; all others are errors
# What promptfoo gives for an assertion that could not be judged: score 0, told apart by its reason alone.
_BROKEN = {
    "javascript": ("Custom function threw error",),
    "regex": ("Invalid regex pattern",),
    "context-faithfulness": ("Could not ",),
}


def judge_with_promptfoo(
    jobs: Sequence[Job],
    endpoint: Endpoint | None,
    *,
    tool: Path,
    node: Path,
    folder: Path,
    log: Path,
    timeout_s: float | None = None,
    on_event: Callable[[str], None] = lambda text: None,
) -> Iterator[Judgement]:
    """Judge all jobs with one call of promptfoo; a judgement for each, in the order of the jobs.

    Args:
        jobs: of instruments of the kind promptfoo.
        endpoint: that answers for the models; `None` where no job asks one.
        tool: where promptfoo is installed.
        node: Node.js.
        folder: of the project, in which everything is written, and removed at the end.
        log: gets what promptfoo prints.
        timeout_s: seconds for the whole call; by default what the deadlines of all questions add up to.
        on_event: told in one line what happens.

    Raises:
        JudgeError: promptfoo did not start, did not come to its end, or wrote no results.
    """
    asked, lost = _prepare(jobs)
    rows: dict[str, Any] = {}
    failures: dict[str, str] = {}
    if asked:
        on_event(f"promptfoo {PROMPTFOO} judges {len(asked)} answer{'' if len(asked) == 1 else 's'}")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="promptfoo-", dir=folder) as name:
            scratch = Path(name).absolute()
            _write(scratch, asked, endpoint)
            begun = time.monotonic()
            _run(scratch, endpoint, tool, node, log, timeout_s or _longest(asked.values()))
            rows = _rows(scratch / "results.json", log)
            failures = _failures(scratch / "failures.jsonl", asked)
            on_event(f"promptfoo ended after {time.monotonic() - begun:.1f} s")
    for job in {job.id: job for job in jobs}.values():
        if job.id in lost:
            yield _error(job, lost[job.id])
        elif job.id in failures:
            yield Judgement(job.id, None, error=failures[job.id])
        elif job.id not in rows:
            yield _error(job, "gave no result")
        else:
            yield _judgement(asked[job.id], rows[job.id])


@dataclass(frozen=True, slots=True)
class _Asked:
    """A job as promptfoo gets it; `assertions` are rendered, `variables` are what JavaScript and rubrics may name."""

    job: Job
    assertions: Sequence[Mapping[str, Any]]
    threshold: float | None
    variables: Mapping[str, Any]


def _prepare(jobs: Sequence[Job]) -> tuple[dict[str, _Asked], dict[str, str]]:
    """What is asked, by the id of the job; and why other jobs cannot even be asked."""
    asked: dict[str, _Asked] = {}
    lost: dict[str, str] = {}
    for job in jobs:
        try:
            asked[job.id] = _Asked(job, *of_case(job.instrument, job.case))
        except TaskError as error:
            lost[job.id] = f"cannot be asked: {first_line(error.what)}"
        except KeyError as error:
            lost[job.id] = f"cannot be asked: the sample has no field {error}"
    return asked, lost


def _longest(asked: Collection[_Asked]) -> float:
    """Seconds after which promptfoo hangs: its own start, and two questions in turn for each graded assertion."""
    graded = max(sum(map(is_graded, leaves(each.assertions))) for each in asked)
    return START_SECONDS + 2 * SECONDS * graded * math.ceil(len(asked) / AT_ONCE)


def _write(scratch: Path, asked: Mapping[str, _Asked], endpoint: Endpoint | None) -> None:
    """The configuration, which names texts, and the texts, which only our own code reads."""
    if endpoint is None and any(is_graded(leaf) for each in asked.values() for leaf in leaves(each.assertions)):
        raise JudgeError("an assertion asks a model, and there is no endpoint", where="promptfoo")
    mark = secrets.token_hex(16)  # a name of a text is in no text
    values: list[Any] = []
    places: dict[str, int] = {}

    def configured(assertion: Mapping[str, Any]) -> dict[str, Any]:
        if assertion["type"] == "assert-set":
            return {**assertion, "assert": [configured(each) for each in assertion["assert"]]}
        found = dict(assertion)
        if not is_graded(assertion):
            found["transform"] = f"file://{OURS}:answer"
        if base(assertion) != "javascript" and isinstance(value := assertion.get("value"), str | list | dict):
            # One object for equal values: a JSON schema with an $id may be compiled only once.
            place = places.setdefault(canonical(value), len(values))
            if place == len(values):
                values.append(value)
            found |= {"value": f"file://{OURS}:value", "config": {"evalgate": place}}
        return found

    tests = [
        {
            "vars": {"evalgate": name},
            "metadata": {"case_id": name},
            "options": {"provider": {"id": f"file://{OURS}", "config": {"grades": name}}},
            "assert": [configured(assertion) for assertion in each.assertions],
            **({} if each.threshold is None else {"threshold": each.threshold}),
        }
        for name, each in asked.items()
    ]
    texts = {
        "answer": f"answer-{mark}",
        "question": f"question-{mark}",
        "values": values,
        "cases": {
            name: {
                "answer": each.job.case.answer,
                "question": each.job.case.question,
                "vars": each.variables,
                "model": each.job.model.name if each.job.model else None,
            }
            for name, each in asked.items()
        },
        "endpoint": {"url": endpoint.url, "token": endpoint.token} if endpoint else None,
        "failures": str(scratch / "failures.jsonl"),
        "seconds": SECONDS,
        "tokens": TOKENS,
    }
    config = {
        "prompts": [texts["question"]],
        "providers": [{"id": f"file://{OURS}", "config": {}}],
        "tests": tests,
        "evaluateOptions": {"maxConcurrency": AT_ONCE},
    }
    for child in ("home", "state", "tmp"):
        (scratch / child).mkdir()
    shutil.copyfile(Path(__file__).with_name(OURS), scratch / OURS)
    for name, content in (("config.json", config), ("texts.json", texts)):
        (scratch / name).write_text(json.dumps(content), "ascii")


def _run(scratch: Path, endpoint: Endpoint | None, tool: Path, node: Path, log: Path, timeout_s: float) -> None:
    """promptfoo, which can write in the scratch folder alone, start nothing and reach our gateway alone."""
    command = [
        *(
            str(node),
            f"--import={GUARD.as_uri()}",
            "--permission",
            "--allow-fs-read=*",
            f"--allow-fs-write={scratch}",
            "--allow-addons",
        ),
        *(str(tool / ENTRY), "eval", "--config", str(scratch / "config.json")),
        *("--output", str(scratch / "results.json")),
        *("--no-cache", "--no-table", "--no-write", "--no-progress-bar", "--no-share"),
    ]
    kept = {name: os.environ[name] for name in NAMES if name in os.environ}
    own = {"HOME": scratch / "home", "TMPDIR": scratch / "tmp", "PROMPTFOO_CONFIG_DIR": scratch / "state"}
    gateway = {"EVALGATE_GATEWAY": endpoint.url} if endpoint else {}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as said:
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env=kept | ENVIRONMENT | gateway | {name: str(path) for name, path in own.items()},
                cwd=scratch,
                start_new_session=True,
            )
        except OSError as error:
            raise JudgeError(f"promptfoo could not be started: {error.strerror}", where=str(node)) from None
        try:
            status = child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise JudgeError(f"promptfoo did not end within {timeout_s:g} s", mend=f"Log: {log}") from None
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    if status != 0:
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        raise JudgeError(f"promptfoo {how}", mend=f"Log: {log}")


def _rows(path: Path, log: Path) -> dict[str, Any]:
    """Rows by the id of their case: they come as they were finished."""
    try:
        found = json.loads(path.read_bytes())["results"]["results"]
        named = [(row["metadata"]["case_id"], row) for row in found]
        rows = dict(named)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise JudgeError(f"promptfoo wrote no results: {type(error).__name__}", mend=f"Log: {log}") from None
    if len(rows) < len(named):
        raise JudgeError("promptfoo gave two results for one answer", mend=f"Log: {log}")
    return rows


def _failures(path: Path, asked: Mapping[str, _Asked]) -> dict[str, str]:
    """Why the judge did not answer, by case: one line, the first that was written."""
    failures: dict[str, str] = {}
    if path.exists():
        for line in path.read_text("utf-8").splitlines():
            said = json.loads(line)
            sample = asked[said["id"]].job.case.sample
            told = failure(sample, f"promptfoo {first_line(said['what'])}", said["asked"], said["seconds"])
            failures.setdefault(said["id"], told)
    return failures


def _judgement(asked: _Asked, row: Mapping[str, Any]) -> Judgement:
    """Of one row; everything that was not judged is an error."""
    job = asked.job
    try:
        if row["failureReason"] not in (_PASSED, _FAILED):
            return _error(job, f"failed: {first_line(row['error'])}")
        result = row["gradingResult"]
        parts = [part for part in result["componentResults"] if "assertion" in part]
        expected = sum(1 for _ in leaves(asked.assertions))
        if len(parts) != expected:
            return _error(job, f"judged {len(parts)} of {expected} assertions")
        for part in parts:
            if _is_broken(part):
                return _error(job, f"{part['assertion']['type']}: {first_line(part['reason'])}")
            checked(part["score"], 0, 1)
        value = checked(result["score"], job.instrument.low, job.instrument.high)
        told = "; ".join(f"{part['assertion']['type']} {part['score']:g}: {part['reason']}" for part in parts)
        if asked.threshold is not None:
            value = float(result["pass"])
    except ValueError as error:
        return _error(job, str(error))
    except (KeyError, TypeError) as error:
        return _error(job, f"gave a row that is none: {type(error).__name__}")
    return Judgement(job.id, value, explanation=told[:EXPLANATION])


def _is_broken(part: Mapping[str, Any]) -> bool:
    """Whether the score 0 of an assertion is promptfoo's word for one that it could not judge."""
    failed = (part.get("metadata") or {}).get("graderError") is True
    return failed or str(part["reason"]).startswith(_BROKEN.get(base(part["assertion"]), ()))


def _error(job: Job, what: str) -> Judgement:
    return Judgement(job.id, None, error=f"sample {job.case.sample}: promptfoo {what}")
