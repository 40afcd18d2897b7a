"""The child: reads batches, runs one engine library, writes answers. Started by `process.EngineProcess` only."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from typing import Any

from evalgate.engines import protocol
from evalgate.engines.backend import Backend, Declined, Refused
from evalgate.engines.identity import missing_extra
from evalgate.errors import CheckpointError, EngineError, EvalgateError
from evalgate.request import Completion, Request

PR_SET_PDEATHSIG = 1
MEMORY_WORDS = ("out of memory", "outofmemory", "can't allocate memory", "available memory", "kv cache is needed")
LIBRARIES = {
    "vllm": "vllm",
    "torch": "transformers",
    "transformers": "transformers",
    "peft": "transformers",
    "httpx": "endpoints",
}


def main() -> None:
    """Serve until the parent closes the pipe."""
    parent = os.getppid()
    # A parent that is killed leaves no orphan: the kernel ends the child with the thread that started it.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    incoming, outgoing = _private_pipes()
    with incoming, outgoing:
        _, first = protocol.message(incoming.readline())
        start = protocol.start_from_json(first)

        def send(kind: str, value: Any = None) -> None:
            outgoing.write(protocol.line(kind, value))
            outgoing.flush()

        try:
            with contextlib.suppress(BrokenPipeError):
                _serve(start, incoming, send)
        except BaseException as error:
            traceback.print_exc()
            with contextlib.suppress(OSError):
                send("fail", _explain(error, start))
            sys.stderr.flush()
            os._exit(1)
    sys.stderr.flush()
    os._exit(0)  # the interpreter's way out of an engine takes seconds and can hang; nothing is left to save


def _private_pipes() -> tuple[io.TextIOWrapper, io.TextIOWrapper]:
    """Move the protocol to descriptors of its own: what libraries print goes to the log, what they read is empty."""
    incoming, outgoing = os.dup(0), os.dup(1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.dup2(2, 1)
    os.close(empty)
    return os.fdopen(incoming, encoding="ascii", newline="\n"), os.fdopen(outgoing, "w", encoding="ascii", newline="\n")


def _serve(start: protocol.Start, incoming: Iterator[str], send: Any) -> None:
    backend = _backend(start)
    checkpoints = {checkpoint.digest: checkpoint for checkpoint in start.checkpoints}
    refusals: dict[str, str] = {}
    send("ready")
    batch: list[Request] = []
    for text in incoming:
        kind, value = protocol.message(text)
        if kind == "ask":
            batch.append(protocol.request_from_json(value))
            continue
        checkpoint, requests, batch = checkpoints[value], batch, []
        try:
            if value not in refusals:
                backend.prepare(checkpoint)
        except (Refused, CheckpointError) as refusal:
            refusals[value] = " ".join(str(refusal).split())
            send("event", f"refused: {refusals[value]}")
        except Declined as reason:
            send("decline", {"checkpoint": value, "why": " ".join(str(reason).split())})
            continue
        if value in refusals:
            for request in requests:
                send("answer", protocol.completion_to_json(Completion(request.id, error=refusals[value])))
        else:
            before = backend.environment(checkpoint)
            send("environment", {"checkpoint": value, "environment": before})
            for completion in backend.answer(checkpoint, requests):
                send("answer", protocol.completion_to_json(completion))
            after = backend.environment(checkpoint)  # an endpoint says with its answers who answered
            if after != before:
                send("environment", {"checkpoint": value, "environment": after})
        send("done", value)


def _backend(start: protocol.Start) -> Backend:
    if start.engine == "vllm":
        from evalgate.engines.vllm import VllmBackend

        return VllmBackend(start)
    if start.engine == "transformers":
        from evalgate.engines.transformers import TransformersBackend

        return TransformersBackend(start)
    if start.engine == "openai":
        from evalgate.engines.openai import OpenAiBackend

        return OpenAiBackend(start)
    from evalgate.engines.fake import FakeBackend

    return FakeBackend(start.options, start.checkpoints)


def _explain(error: BaseException, start: protocol.Start) -> dict[str, Any]:
    """One line for the parent; the traceback is in the log."""
    if isinstance(error, EvalgateError):
        return protocol.error_to_json(error)
    if isinstance(error, ModuleNotFoundError) and error.name in LIBRARIES:
        extra = missing_extra("vllm") if start.engine == "vllm" else LIBRARIES[error.name]
        return {"kind": "MissingExtraError", "library": error.name, "extra": extra}
    text = first_line(error)
    if isinstance(error, MemoryError) or any(word in str(error).lower() for word in MEMORY_WORDS):
        return protocol.error_to_json(
            EngineError(
                f"{start.engine} is out of memory: {text}",
                mend="Lower max_model_len, gpu_memory_utilization or max_num_seqs, or choose a smaller dtype, "
                "in [tool.evalgate.engine].",
            )
        )
    return protocol.error_to_json(EngineError(f"{start.engine} failed: {text}"))


def first_line(error: BaseException) -> str:
    """The line of an exception that says most: pydantic's `Value error, …`, else the first."""
    lines = [text.strip() for text in str(error).splitlines() if text.strip()]
    telling = [text for text in lines if text.startswith(("Value error, ", "Assertion failed, "))]
    said = (telling or lines or [""])[0].removeprefix("Value error, ").partition(" [type=")[0]
    return f"{type(error).__name__}: {said[:500]}" if said else type(error).__name__


if __name__ == "__main__":
    main()
