"""Asking an engine: what the cache knows is not asked again, and what an engine answers is in the cache first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any, Protocol

from evalgate.cache import Cache, cache_key
from evalgate.chat import ChatRenderer
from evalgate.checkpoint import Checkpoint
from evalgate.config import EngineConfig
from evalgate.digest import digest
from evalgate.engines import EngineProcess, EngineSettings, engine_identity, length_bound
from evalgate.errors import CheckpointError
from evalgate.preflight import clean_view, load_template, verify_unchanged
from evalgate.request import Completion, Request
from evalgate.task import Messages

FLUSH_ANSWERS = 200
FLUSH_SECONDS = 0.5


def settings_of(engine: EngineConfig, state: Path) -> EngineSettings:
    """How an engine of the settings is started; its logs lie in the state folder (ConfigError where it is none)."""
    return EngineSettings(
        name=engine.name,
        options=engine.options,
        python=engine.python,
        start_timeout=engine.start_timeout,
        log_dir=state / "logs",
    )


class Progress(Protocol):
    """Who is told how far the engine is."""

    def start(self, total: int, known: int, unit: str = "answers") -> None:
        """`total` answers or steps are needed, `known` of them are there already."""

    def advance(self, count: int, note: str = "") -> None:
        """`count` more are there; what there is to say of the last."""

    def say(self, text: str) -> None:
        """One line about what happens now."""

    def stop(self) -> None:
        """Nothing more will come."""


class Relay:
    """A `Progress` that passes on what is said, and counts only where it is told to: its owner knows the total."""

    def __init__(self, progress: Progress) -> None:
        self.progress, self.counting = progress, False

    def start(self, total: int, known: int, unit: str = "answers") -> None:
        """The owner has started."""

    def advance(self, count: int, note: str = "") -> None:
        """So many more, where they count."""
        if self.counting:
            self.progress.advance(count, note)

    def say(self, text: str) -> None:
        """Passed on."""
        self.progress.say(text)

    def stop(self) -> None:
        """The owner stops."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Completions by request id, and where they came from.

    Attributes:
        completions: request id to completion.
        cached: how many were known.
        generated: how many the engine answered.
        seconds: of the engine stage.
        canary: request id to completion, made now: of the canary's requests, where an engine answered any.
    """

    completions: Mapping[str, Completion]
    cached: int
    generated: int
    seconds: float
    canary: Mapping[str, Completion] = field(default_factory=dict)


class Asker:
    """Asks a fixed set of checkpoints: one cache, one engine that starts at the first miss.

    Args:
        known: every checkpoint that can be asked.
        settings: of the engine.
        cache: of answers, rendered prompts and environments.
        progress: who is told how far the engine is.
    """

    def __init__(self, known: Sequence[Checkpoint], settings: EngineSettings, cache: Cache, progress: Progress) -> None:
        self.known = tuple(known)
        self.settings, self.cache, self.progress = settings, cache, progress
        self.engine_identity = engine_identity(settings)
        self.engine_digest = digest(self.engine_identity)
        self._engine: EngineProcess | None = None
        self._renderer: ChatRenderer | None = None
        self._views: TemporaryDirectory[str] | None = None
        self.room = 0  # tokens that an engine is to have room for, where longer requests than the first may follow

    @property
    def started(self) -> bool:
        """Whether an engine had to be started."""
        return self._engine is not None

    def render(self, checkpoint: Checkpoint, conversations: Sequence[Messages], kwargs: Mapping[str, Any]) -> list[str]:
        """Conversations through the checkpoint's chat template: in a child, remembered.

        Args:
            checkpoint: whose template it is.
            conversations: messages with role and content.
            kwargs: the template's further arguments.

        Raises:
            CheckpointError: it has no template, or a hostile one.
        """
        template = load_template(checkpoint)
        if template is None:
            raise CheckpointError(
                "has no chat template, and a task asks it as a chat",
                where=checkpoint.name,
                mend="Add chat_template.jinja to the checkpoint, or declare the prompt as plain text.",
            )
        keys = [digest([template.digest, list(messages), dict(kwargs)]) for messages in conversations]
        known = self.cache.get_texts(keys)
        missing = [i for i, key in enumerate(keys) if key not in known]
        if missing:
            self._renderer = self._renderer or ChatRenderer()
            texts = self._renderer.render(template, [conversations[i] for i in missing], kwargs=kwargs)
            fresh = {keys[i]: text for i, text in zip(missing, texts, strict=True)}
            self.cache.put_texts(fresh)
            known = known | fresh
        return [known[key] for key in keys]

    def answer(self, requests: Sequence[Request], canary: Sequence[Request] = (), *, remember: bool = True) -> Answers:
        """Every request answered: from the cache where it can be, by the engine where it must be.

        Each finished completion is in the cache before it counts, so a killed run resumes where it was. The canary's
        requests ride along where an engine is needed anyway: they are answered now, neither from the cache nor for it,
        and only by children that serve the others too.

        Raises:
            EngineError: the engine failed; what it had answered is kept.
        """
        keys = {cache_key(request, self.engine_digest): request for request in requests}
        known = {keys[key].id: completion for key, completion in (self.cache.get(keys) if remember else {}).items()}
        missing = {request.id: request for request in requests if request.id not in known}
        self.progress.start(len(keys), len(known))
        began = monotonic()
        try:
            made = dict(self._generate(missing, canary, remember)) if missing else {}
        finally:
            self.progress.stop()
        fresh = {name: completion for name, completion in made.items() if name in missing}
        again = {request.id: made[request.id] for request in canary if request.id in made}
        return Answers(known | fresh, len(known), len(fresh), monotonic() - began, again)

    def forget(self, requests: Iterable[Request]) -> None:
        """Answer these requests from the cache no longer."""
        self.cache.forget(requests, self.engine_digest)

    def _generate(
        self, requests: Mapping[str, Request], canary: Sequence[Request], remember: bool
    ) -> Iterator[tuple[str, Completion]]:
        """Stream answers from the engine into the cache; what counts is stored, also when the stream breaks."""
        pending: list[Completion] = []
        verified: set[str] = set()
        flushed = monotonic()

        def flush() -> None:
            nonlocal flushed
            for checkpoint in self.known:  # weights that changed while they loaded: their answers are nobody's
                answered = any(asked[completion.request].checkpoint == checkpoint.digest for completion in pending)
                if answered and checkpoint.digest not in verified:
                    verify_unchanged(checkpoint, self.cache.files)
                    verified.add(checkpoint.digest)
            kept = [completion for completion in pending if completion.request in requests]
            if remember:
                self.cache.put(((requests[done.request], done) for done in kept), self.engine_digest)
            self.progress.advance(len(kept))
            pending.clear()
            flushed = monotonic()

        # An endpoint that has answered may be silent for minutes: what it has said is kept at once.
        many = 1 if any(checkpoint.kind == "endpoint" for checkpoint in self.known) else FLUSH_ANSWERS
        engine = self._open([*requests.values(), *canary])
        asked = {**requests, **{request.id: request for request in engine.beside(requests.values(), canary)}}
        try:
            for completion in engine.generate(asked.values()):
                pending.append(completion)
                if len(pending) >= many or monotonic() - flushed > FLUSH_SECONDS:
                    flush()
                yield completion.request, completion
        finally:
            flush()
        for checkpoint in verified.intersection(request.checkpoint for request in requests.values()):
            self.cache.put_environment(self.engine_digest, checkpoint, engine.environment(checkpoint))

    def _open(self, requests: Sequence[Request]) -> EngineProcess:
        """The engine: it sees only clean views of the checkpoints, and plans for the longest request so far."""
        longest = max(self.room, *map(length_bound, requests))
        if self._engine and self._engine.max_length and longest > self._engine.max_length:
            longest = 2 * longest  # requests that come one by one grow little by little, and a start costs seconds
            self._engine.close()
            self._engine = None
        if self._engine is None:
            self._views = self._views or TemporaryDirectory(prefix="evalgate-")
            seen = [_viewed(checkpoint, Path(self._views.name)) for checkpoint in self.known]
            self._engine = EngineProcess(self.settings, seen, max_length=longest, on_event=self.progress.say)
        return self._engine

    def environment(self, checkpoint: Checkpoint) -> Mapping[str, Any]:
        """What the engine reported when this checkpoint's answers were made, now or in the run that cached them."""
        return self.cache.get_environment(self.engine_digest, checkpoint.digest) or self.engine_identity

    def reported(self, checkpoint: Checkpoint) -> Mapping[str, Any]:
        """What the engine of this run reports behind a checkpoint's answers, whatever the cache knows of another's."""
        return self._engine.environment(checkpoint.digest) if self._engine else self.engine_identity

    def close(self) -> None:
        """End the children; the cache stays open."""
        for child in (self._engine, self._renderer):
            if child is not None:
                child.close()
        if self._views:
            self._views.cleanup()
        self._engine = self._renderer = self._views = None


def _viewed(checkpoint: Checkpoint, into: Path) -> Checkpoint:
    if checkpoint.kind == "endpoint":
        return checkpoint
    base = _viewed(checkpoint.base, into) if checkpoint.base else None
    return replace(checkpoint, path=str(clean_view(checkpoint, into)), base=base)
