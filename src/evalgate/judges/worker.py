"""The child in which judge libraries run: reads jobs, asks the gateway, writes judgements. Started by `process` only.

A library is a module of this package with one function, its plug:

    async def measure(
        spec: Mapping[str, Any],     # `Instrument.settings`
        case: Mapping[str, Any],     # `Case.content`: question, answer, reference, fields, other
        client: AsyncOpenAI | None,  # of the gateway, shared by all jobs, without retries; None where no model is asked
        model: str | None,           # what to call the model by
    ) -> tuple[float, str | None]:   # value and explanation

Whatever it raises is an error of that job alone, and so is a value that is no finite number in the instrument's range.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import io
import os
import signal
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextvars import ContextVar
from importlib import import_module
from typing import TYPE_CHECKING, Any

from evalgate.judges.wire import checked, describe, failure, first_line, line, message

if TYPE_CHECKING:
    from openai import AsyncOpenAI

LIBRARIES = ("deepeval", "ragas", "uptrain")
AT_ONCE = 32
PR_SET_PDEATHSIG = 1

_questions: ContextVar[list[None]] = ContextVar("questions")  # that a job has put to its model


def main() -> None:
    """Judge what comes through the pipe until it ends."""
    parent = os.getppid()
    # A parent that is killed leaves no orphan: the kernel ends the child with the thread that started it.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    incoming, outgoing = _private_pipes()
    with incoming, outgoing:

        def send(kind: str, value: Any = None) -> None:
            outgoing.write(line(kind, value))
            outgoing.flush()

        try:
            _, start = message(incoming.readline())
            jobs = [message(text)[1] for text in incoming]
            with contextlib.suppress(BrokenPipeError):
                asyncio.run(_judge_all(start, jobs, send))
        except BaseException as error:
            traceback.print_exc()
            with contextlib.suppress(OSError):
                send("fail", explain(error))
            sys.stderr.flush()
            os._exit(1)
    sys.stderr.flush()
    os._exit(0)  # libraries leave threads that would not let the interpreter end; nothing is left to save


def _private_pipes() -> tuple[io.TextIOWrapper, io.TextIOWrapper]:
    """Move the protocol to descriptors of its own: what libraries print goes to the log, what they read is empty."""
    incoming, outgoing = os.dup(0), os.dup(1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.dup2(2, 1)
    os.close(empty)
    return os.fdopen(incoming, encoding="ascii", newline="\n"), os.fdopen(outgoing, "w", encoding="ascii", newline="\n")


async def _judge_all(start: Mapping[str, Any], jobs: list[dict[str, Any]], send: Callable[[str, Any], None]) -> None:
    limit = asyncio.Semaphore(AT_ONCE)
    plugs = {kind: import_module(f"evalgate.judges.{kind}") for kind in {job["kind"] for job in jobs} & {*LIBRARIES}}
    async with contextlib.AsyncExitStack() as open_things:
        client = None
        if start["endpoint"] is not None:
            client = await open_things.enter_async_context(_client(start["endpoint"], start["seconds"]))

        async def judge(job: Mapping[str, Any]) -> None:
            async with limit:
                send("judgement", await _judge(job, plugs[job["kind"]].measure, client, start["seconds"]))

        await asyncio.gather(*map(judge, jobs))


def _client(endpoint: Mapping[str, str], seconds: float) -> AsyncOpenAI:
    """The one client of all libraries; retries are the gateway's, which counts them."""
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient

    async def count(_: object) -> None:
        _questions.get([]).append(None)

    http = DefaultAsyncHttpxClient(event_hooks={"request": [count]}, trust_env=False, timeout=seconds)
    return AsyncOpenAI(
        base_url=endpoint["url"], api_key=endpoint["token"], max_retries=0, timeout=seconds, http_client=http
    )


async def _judge(
    job: Mapping[str, Any],
    measure: Callable[..., Awaitable[tuple[float, str | None]]],
    client: AsyncOpenAI | None,
    seconds: float,
) -> dict[str, Any]:
    """One judgement as JSON."""
    began = time.monotonic()
    asked: list[None] = []
    _questions.set(asked)  # each job is a task with a context of its own
    value, explanation, said = None, None, None
    try:
        async with asyncio.timeout(seconds):
            found, why = await measure(job["settings"], job["case"], client, job["model"])
        value = checked(found, job["low"], job["high"])
        explanation = None if why is None else str(why)
    except TimeoutError as error:
        late = time.monotonic() - began >= seconds
        said = f"no judgement within {seconds:g} s" if late else explain(error)
    except Exception as error:  # whatever a library does wrong is this sample's error and nobody else's
        traceback.print_exc()
        said = explain(error)
    if said is not None:
        name = describe(job["settings"], job["kind"])
        said = failure(job["sample"], f"{name}: {said}", len(asked) if client else None, time.monotonic() - began)
    return {"job": job["id"], "value": value, "explanation": explanation, "error": said}


def explain(error: BaseException) -> str:
    """Class and first line of an exception; where the model's side said what is wrong, its words."""
    for link in _chain(error):
        body = getattr(link, "body", None)
        if isinstance(body, Mapping) and isinstance(body.get("message"), str):
            return first_line(body["message"])
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed beside the judges"
    said = first_line(error)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and those that it was raised from."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        yield error
        seen.append(error)
        error = error.__cause__ or error.__context__


if __name__ == "__main__":
    main()
