"""Chat templates, rendered where they can do no harm: in a child without torch, secrets, files or time to waste.

A template is a program that came with the weights. The child renders it as transformers' `apply_chat_template` does, in
jinja2's immutable sandbox, under resource limits; the parent kills it when it takes too long. This module is the
parent, `python -m evalgate.chat` is the child.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from math import ceil
from pathlib import Path
from threading import Event, Timer
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from evalgate.errors import CheckpointError, SampleError

if TYPE_CHECKING:
    from evalgate.checkpoint import ChatTemplate
    from evalgate.task import Messages

MAX_CHARACTERS = 1_000_000
MEMORY_BYTES = 1 << 30
BATCH = 64
START_SECONDS = 60.0
_LINE_LIMIT = BATCH * MAX_CHARACTERS  # bytes of one answer


class ChatRenderer:
    """Renders conversations in a child that is started at the first use and killed when it exceeds its time.

    Args:
        limit_s: wall-clock seconds for a batch of up to `BATCH` conversations.
    """

    def __init__(self, limit_s: float = 10.0) -> None:
        self.limit_s = limit_s
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()  # closes its pipes and waits
            self._child = None

    def render(
        self, template: ChatTemplate, conversations: Sequence[Messages], *, kwargs: Mapping[str, Any]
    ) -> list[str]:
        """One prompt per conversation, with the generation prompt at its end.

        Args:
            template: of the checkpoint.
            conversations: messages with role and content.
            kwargs: the template's further arguments, as JSON values; they win over special tokens.

        Raises:
            CheckpointError: the template escapes its sandbox, fails, takes too long or writes too much.
            SampleError: the template itself refuses a conversation (`raise_exception`).
        """
        text = template.choose(kwargs)
        variables = {**template.tokens, "tools": None, "documents": None, "add_generation_prompt": True, **kwargs}
        prompts: list[str] = []
        for start in range(0, len(conversations), BATCH):
            batch = [[dict(message) for message in messages] for messages in conversations[start : start + BATCH]]
            reply = self._ask({"template": text, "variables": variables, "conversations": batch}, template)
            if "fault" in reply:
                _raise_fault(reply, start, template)
            prompts += _texts_of(reply, len(batch), template)
        return prompts

    def _ask(self, question: Mapping[str, Any], template: ChatTemplate) -> dict[str, Any]:
        child = self._start()
        assert child.stdin is not None  # noqa: S101  (both are pipes)
        assert child.stdout is not None  # noqa: S101
        line = b""
        with _killed_after(child, self.limit_s) as expired, suppress(BrokenPipeError):
            child.stdin.write(json.dumps(question).encode() + b"\n")
            child.stdin.flush()
            line = child.stdout.readline(_LINE_LIMIT)
        with suppress(ValueError, RecursionError):
            reply = json.loads(line)
            if isinstance(reply, dict) and not expired.is_set():
                return reply
        self.close()
        limit = f"{self.limit_s:g} s" if expired.is_set() else "the memory, processor time or output allowed to it"
        raise CheckpointError(
            f"its chat template took more than {limit}",
            where=template.checkpoint,
            mend="Correct the template, or use plain prompts.",
        )

    def _start(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is None:
            return self._child
        self.close()
        self._child = child = subprocess.Popen(
            [sys.executable, "-P", "-m", "evalgate.chat", str(ceil(self.limit_s) + 1)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for the parent, which then closes
        )
        assert child.stdout is not None  # noqa: S101
        with _killed_after(child, START_SECONDS):
            ready = child.stdout.readline(16)
        if ready != b"ready\n":
            self.close()
            raise CheckpointError(
                "the process that renders chat templates did not start",
                where="evalgate.chat",
                mend=f"Run {sys.executable} -P -m evalgate.chat 10 to see why.",
            )
        return child


def _environment() -> dict[str, str]:
    """Nothing secret: where evalgate lies, and what the interpreter needs to start at all."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "PYTHONHOME") if name in os.environ}
    return kept | {
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        "PYTHONHASHSEED": "0",
        "PYTHONUTF8": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TZ": "UTC",
    }


@contextmanager
def _killed_after(child: subprocess.Popen[bytes], seconds: float) -> Iterator[Event]:
    """Kill the child unless the block ends in time; the event says whether that happened."""
    expired = Event()

    def kill() -> None:
        expired.set()
        child.kill()

    timer = Timer(seconds, kill)
    timer.daemon = True
    timer.start()
    try:
        yield expired
    finally:
        timer.cancel()


def _raise_fault(reply: Mapping[str, Any], start: int, template: ChatTemplate) -> NoReturn:
    message, index = _one_line(str(reply.get("message"))), reply.get("index")
    where = f"{template.checkpoint}, chat template"
    at = f"conversation {start + index + 1}: " if isinstance(index, int) else ""
    match reply["fault"]:
        case "raised":
            raise SampleError(
                f"{at}the template refuses it: {message}",
                where=where,
                mend="Change the task's messages to what the template accepts.",
            )
        case "security":
            what = f"{at}it tried to leave its sandbox: {message}"
        case "size":
            what = f"{at}it wrote more than {MAX_CHARACTERS:,} characters"
        case "memory":
            what = f"{at}it needs more than {MEMORY_BYTES >> 20:,} MiB of memory"
        case _:
            what = f"{at}{message}"
    raise CheckpointError(what, where=where, mend="Correct the template, or use plain prompts.")


def _texts_of(reply: Mapping[str, Any], expected: int, template: ChatTemplate) -> list[str]:
    texts = reply.get("texts")
    if isinstance(texts, list) and len(texts) == expected and all(isinstance(text, str) for text in texts):
        return texts
    raise CheckpointError("its chat template broke the process that renders it", where=template.checkpoint)


def _one_line(text: str, limit: int = 300) -> str:
    """Text from a template, fit for a one-line message."""
    shown = "".join(c if c.isprintable() else " " for c in text[:limit])
    return " ".join(shown.split()).rstrip(".") or "no message"
