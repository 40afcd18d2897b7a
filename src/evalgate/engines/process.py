"""The engine as the rest of evalgate sees it: requests in, completions out, children behind it."""

from __future__ import annotations

import itertools
import json
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import IO, Any

from evalgate.checkpoint import Checkpoint
from evalgate.digest import short
from evalgate.engines import protocol
from evalgate.engines.child import Child
from evalgate.engines.families import Family, families
from evalgate.engines.identity import device_class, engine_identity
from evalgate.engines.settings import EngineSettings
from evalgate.errors import EngineError
from evalgate.request import Completion, Request

BATCH = 8192  # requests of one checkpoint that are answered together
IN_FLIGHT = 2  # batches sent: one is answered while the next one travels
_numbers = itertools.count(1)


class EngineProcess:
    """Answers requests with an engine in a child process; implements `evalgate.request.Engine`; a context manager.

    The child starts with the first request and lives until `close`. Requests are gathered into batches of one
    checkpoint each, so that no checkpoint's answers depend on which others are asked in the same run. Checkpoints that
    one engine cannot hold together get children one after the other; their requests wait in a temporary file.

    Args:
        settings: which engine, and how to start it.
        checkpoints: all that may be asked; adapters bring their base.
        max_length: longest request in tokens (see `length_bound`), which limits the memory that is set apart for one
            sequence; `None` plans for the checkpoint's whole context.
        on_event: told in one line what happens (starting, ready, refused).
    """

    def __init__(
        self,
        settings: EngineSettings,
        checkpoints: Sequence[Checkpoint],
        *,
        max_length: int | None = None,
        on_event: Callable[[str], None] | None = None,
    ) -> None:
        self.settings, self.max_length = settings, max_length
        self._say = on_event or (lambda text: None)
        self._home = {
            member.digest: family for family in families(tuple(checkpoints), settings.name) for member in family.members
        }
        self._environments: dict[str, dict[str, Any]] = {}
        self._child: Child | None = None
        self._serving: Family | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._sent = self._answered = 0

    def __enter__(self) -> EngineProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child; a later request starts a new one."""
        self._stop(finished=True)
        if self._scratch:
            self._scratch.cleanup()
            self._scratch = None

    def environment(self, checkpoint_digest: str) -> dict[str, Any]:
        """What the worker reported behind a checkpoint's answers; the engine's identity where it has not answered.

        Versions, dtype, device and its name, determinism mode, threads, and whether an adapter was served as LoRA or
        merged.
        """
        return dict(self._environments.get(checkpoint_digest) or engine_identity(self.settings))

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Answer every request once, in any order, as they finish.

        Raises:
            EngineError: the engine failed; what was yielded before is good.
            InputError: its library is missing, or an option is wrong.
        """
        self._sent = self._answered = 0
        stream = iter(requests)
        with ExitStack() as files:
            while (first := next(stream, None)) is not None:
                later = files.enter_context(tempfile.TemporaryFile("w+", encoding="ascii"))
                yield from self._serve(self._family_of(first), itertools.chain([first], stream), later)
                later.seek(0)
                stream = (protocol.request_from_json(json.loads(text)) for text in later)

    def beside(self, needed: Iterable[Request], wanted: Iterable[Request]) -> list[Request]:
        """Those of the wanted requests that are answered by the same children as the needed ones: no other starts."""
        homes = [self._home[checkpoint] for checkpoint in {request.checkpoint for request in needed}]
        return [request for request in wanted if any(request.checkpoint in home for home in homes)]

    def _family_of(self, request: Request) -> Family:
        try:
            return self._home[request.checkpoint]
        except KeyError:
            raise EngineError(
                f"a request names the checkpoint {short(request.checkpoint)}, which this engine was not given",
                where="EngineProcess",
            ) from None

    def _serve(self, family: Family, requests: Iterator[Request], later: IO[str]) -> Iterator[Completion]:
        """Answer the requests of one family; those of other families, and what the child declines, are put off."""
        waiting: deque[dict[str, Request]] = deque()
        finished = False
        try:
            for batch in self._batches(family, requests, later):
                checkpoint = next(iter(batch.values())).checkpoint
                child = self._child_for(family, checkpoint)
                asked = tuple(batch.values())  # the writer's own: `batch` shrinks as answers come
                lines = (protocol.line("ask", protocol.request_to_json(request)) for request in asked)
                child.send(itertools.chain(lines, [protocol.line("run", checkpoint)]))
                waiting.append(batch)
                self._sent += len(batch)
                if len(waiting) == IN_FLIGHT:
                    yield from self._receive(child, waiting[0], later)
                    waiting.popleft()
            while waiting:
                yield from self._receive(child, waiting[0], later)
                waiting.popleft()
            finished = True
        finally:
            if not finished:  # interrupted, abandoned or failed: whatever the child still does is for nobody
                self._stop(finished=False)

    def _batches(self, family: Family, requests: Iterator[Request], later: IO[str]) -> Iterator[dict[str, Request]]:
        """Batches of one checkpoint: where they are cut depends on that checkpoint's own requests alone."""
        # By id: the same question asked twice in a batch is answered once.
        gathered: dict[str, dict[str, Request]] = {member.digest: {} for member in family.members}
        for request in requests:
            if self._family_of(request) is not family:
                _put_off(request, later)
                continue
            batch = gathered[request.checkpoint]
            batch[request.id] = request
            if len(batch) == BATCH:
                gathered[request.checkpoint] = {}
                yield batch
        yield from filter(None, gathered.values())

    def _receive(self, child: Child, batch: dict[str, Request], later: IO[str]) -> Iterator[Completion]:
        """The answers to one batch."""
        while True:
            received = child.receive()
            if received is None:
                raise child.died(f"after {self._answered} of {self._sent} answers")
            kind, value = received
            if kind == "answer":
                completion = protocol.completion_from_json(value)
                del batch[completion.request]
                self._answered += 1
                yield completion
            elif kind == "environment":
                self._environments[value["checkpoint"]] = value["environment"]
            elif kind == "event":
                self._say(value)
            elif kind == "fail":
                raise protocol.error_from_json(value)
            elif kind == "decline":
                self._move_out(value["checkpoint"], value["why"])
                for request in batch.values():
                    _put_off(request, later)
                self._sent -= len(batch)
                return
            elif batch:
                raise EngineError(f"the engine left {len(batch)} requests unanswered", where=str(child.log))
            else:
                return

    def _move_out(self, declined: str, why: str) -> None:
        """Give a checkpoint, with all that shares its weights, a child of its own."""
        family = self._home[declined]
        root = next(member.root.digest for member in family.members if member.digest == declined)
        leaving = Family(tuple(member for member in family.members if member.root.digest == root))
        self._home |= {member.digest: leaving for member in leaving.members}
        self._say(why)

    def _child_for(self, family: Family, first: str) -> Child:
        if self._child and self._serving is family:
            return self._child
        self._stop(finished=True)
        self._scratch = self._scratch or tempfile.TemporaryDirectory(prefix="evalgate-engine-")
        start = protocol.Start(
            engine=self.settings.name,
            options=self.settings.options,
            device=device_class(self.settings),
            checkpoints=family.members,
            first=first,
            max_length=self.max_length,
            scratch=self._scratch.name,
        )
        names = ", ".join(member.name for member in family.members)
        self._say(f"starting {self.settings.name} on {start.device} for {names}")
        begun = time.monotonic()
        log = self.settings.log_dir.absolute() / f"{self.settings.name}-{os.getpid()}-{next(_numbers)}.log"
        self._child = child = Child(self.settings, start, log)
        self._serving = family
        try:
            received = child.receive(self.settings.start_timeout)
        except TimeoutError:
            raise EngineError(
                f"{self.settings.name} did not start within {self.settings.start_timeout:g} s",
                mend=f"Raise engine.start_timeout, or see {log}",
            ) from None
        if received is None:
            raise child.died("while starting")
        if received[0] == "fail":
            raise protocol.error_from_json(received[1])
        self._say(f"{self.settings.name} ready in {time.monotonic() - begun:.1f} s")
        return child

    def _stop(self, *, finished: bool) -> None:
        child, self._child, self._serving = self._child, None, None
        if child:
            child.stop(finished=finished)


def _put_off(request: Request, later: IO[str]) -> None:
    later.write(json.dumps(protocol.request_to_json(request)) + "\n")
