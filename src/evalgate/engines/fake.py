"""A deterministic fake engine for tests of suites, gates and scorers: no model, the same child and the same protocol.

`EngineSettings(name="fake", options={...})`, or `FakeEngine(...)` where no process is wanted. The options:

- `answers`: prompt to text; a prompt that is not in it is answered by a word derived from its hash.
- `checkpoints`: checkpoint name to a mapping like `answers`, which comes first there: how a candidate differs.
- `margins`: prompt to the margin in nats of its greedy answer; others have a margin of 1.
- `fail`: texts; a request whose prompt holds one of them has an error.
- `refuse`: names of checkpoints that cannot be served.
- `slow`: seconds per answer. `crash_after`: the child kills itself (SIGKILL) after so many answers. `noise`: the child
  writes to its standard output between answers, as libraries do.
"""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evalgate.checkpoint import Checkpoint
from evalgate.engines.backend import Refused
from evalgate.request import Completion, Request

FAKE_VERSION = "1"
# Options that change no answer, so that a run which crashed on purpose resumes from the cache.
FAULTS = frozenset({"fail", "refuse", "slow", "crash_after", "noise"})
SURE, UNSURE = -0.05, -3.0


@dataclass(frozen=True, kw_only=True)
class FakeEngine:
    """Answers by a mapping or by a hash; implements `evalgate.request.Engine`.

    Attributes:
        answers: prompt to text.
        checkpoints: checkpoint digest (options: name) to a mapping like `answers`.
        margins: prompt to the margin of its greedy answer, in nats.
        fail: texts that make a prompt fail.
    """

    answers: Mapping[str, str] = field(default_factory=dict)
    checkpoints: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    margins: Mapping[str, float] = field(default_factory=dict)
    fail: Sequence[str] = ()

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Answer every request in the order given."""
        return map(self.complete, requests)

    def complete(self, request: Request) -> Completion:
        """The answer to one request: always the same, whatever was asked before."""
        failing = [text for text in self.fail if text in request.prompt]
        if failing:
            return Completion(request.id, error=f"the fake engine fails prompts with {failing[0]!r}")
        answers = {**self.answers, **self.checkpoints.get(request.checkpoint, {})}
        known = answers.get(request.prompt)
        prompt_tokens = len(request.prompt.split())
        if request.continuations:
            wanted = None if known is None else known.strip()
            pairs = [
                (SURE, True) if text.strip() == wanted else (UNSURE - _unit(request.prompt + "\0" + text), False)
                for text in request.continuations
            ]
            return Completion(
                request.id,
                finish="score",
                logprobs=tuple(value for value, _ in pairs),
                greedy=tuple(greedy for _, greedy in pairs),
                prompt_tokens=prompt_tokens,
                completion_tokens=sum(len(text.split()) for text in request.continuations),
            )
        draw = "" if request.temperature == 0 else str(request.seed)
        words = (f"fake-{_hash(request.prompt + draw):08x}" if known is None else known).split(" ")
        text = " ".join(words[: request.max_tokens])
        cuts = [place for stop in request.stop if (place := text.find(stop)) >= 0]
        return Completion(
            request.id,
            text=text[: min(cuts)] if cuts else text,
            finish="length" if len(words) > request.max_tokens and not cuts else "stop",
            prompt_tokens=prompt_tokens,
            completion_tokens=min(len(words), request.max_tokens),
            margin=self.margins.get(request.prompt, 1.0) if request.temperature == 0 else None,
        )


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:4], "big")


def _unit(text: str) -> float:
    return _hash(text) / 2**32


class FakeBackend:
    """The fake inside the child, with the faults."""

    def __init__(self, options: Mapping[str, Any], checkpoints: Sequence[Checkpoint]) -> None:
        names = {checkpoint.name: checkpoint.digest for checkpoint in checkpoints}
        by_name = options.get("checkpoints", {})
        self.engine = FakeEngine(
            answers=options.get("answers", {}),
            checkpoints={names[name]: answers for name, answers in by_name.items() if name in names},
            margins=options.get("margins", {}),
            fail=options.get("fail", ()),
        )
        self.refuse, self.slow = options.get("refuse", ()), options.get("slow", 0)
        self.left, self.noise = options.get("crash_after"), options.get("noise", False)

    def prepare(self, checkpoint: Checkpoint) -> None:
        """Nothing to load."""
        if checkpoint.name in self.refuse:
            raise Refused(f"{checkpoint.name}: the fake engine refuses it")

    def environment(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """What a real engine would say."""
        return {
            "name": "fake",
            "version": FAKE_VERSION,
            "device": "cpu",
            "device_name": "none",
            "dtype": "none",
            "determinism": "batch-invariant",  # an answer is a function of its request alone
        }

    def answer(self, checkpoint: Checkpoint, requests: Sequence[Request]) -> Iterator[Completion]:
        """Answer, and fail where told to."""
        for request in requests:
            if self.left is not None:
                if self.left <= 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                self.left -= 1
            if self.noise:
                print("a library prints to standard output")  # noqa: T201 - the fault itself
                os.write(1, b'{"answer": "a C library writes to descriptor 1"}\n')
            time.sleep(self.slow)
            yield self.engine.complete(request)
