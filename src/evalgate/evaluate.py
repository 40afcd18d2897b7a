"""From a plan to evaluations: what the cache knows, what the engine answers, what the scorers say of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any, Protocol

from evalgate.cache import Cache, cache_key
from evalgate.chat import ChatRenderer
from evalgate.checkpoint import Checkpoint
from evalgate.digest import digest
from evalgate.engines import EngineProcess, EngineSettings, engine_identity, length_bound
from evalgate.errors import CheckpointError, ScorerError
from evalgate.evaluation import Evaluation, Row
from evalgate.plan import Plan, Question, TaskPlan, plan_task
from evalgate.preflight import clean_view, load_template, verify_unchanged
from evalgate.prompt import render_prompt
from evalgate.request import Completion, Request
from evalgate.samples import read_samples, samples_digest
from evalgate.scoring import Score, Scorer, apply, strip_reasoning
from evalgate.task import Messages, Task

FLUSH_ANSWERS = 200
FLUSH_SECONDS = 0.5


class Progress(Protocol):
    """Who is told how far the engine is."""

    def start(self, total: int, cached: int) -> None:
        """`total` distinct requests are needed, `cached` of them are known already."""

    def advance(self, count: int) -> None:
        """`count` more are answered."""

    def say(self, text: str) -> None:
        """One line about what happens now."""

    def stop(self) -> None:
        """Nothing more will come."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Completions by request id, and where they came from.

    Attributes:
        completions: request id to completion.
        cached: how many were known.
        generated: how many the engine answered.
        seconds: of the engine stage.
    """

    completions: Mapping[str, Completion]
    cached: int
    generated: int
    seconds: float


class Evaluator:
    """Plans and answers tasks on a fixed set of checkpoints: one cache, one engine that starts at the first miss."""

    def __init__(
        self, checkpoints: Sequence[Checkpoint], settings: EngineSettings, cache: Cache, progress: Progress
    ) -> None:
        self.checkpoints = tuple(checkpoints)
        self.settings, self.cache, self.progress = settings, cache, progress
        self.engine_identity = engine_identity(settings)
        self._engine: EngineProcess | None = None
        self._engine_digest = digest(self.engine_identity)
        self._renderer: ChatRenderer | None = None
        self._views: TemporaryDirectory[str] | None = None

    @property
    def started(self) -> bool:
        """Whether an engine had to be started."""
        return self._engine is not None

    def plan(self, task_id: str, task: Task) -> tuple[TaskPlan, ...]:
        """Read the eval data and render the prompts, one plan per checkpoint; every fault is the user's and typed."""
        samples = read_samples(task, task_id)
        content = samples_digest(samples)
        declared = [render_prompt(task, sample) for sample in samples]
        return tuple(
            plan_task(task_id, task, samples, self._texts(task, declared, checkpoint), checkpoint, content)
            for checkpoint in self.checkpoints
        )

    def _texts(self, task: Task, declared: Sequence[str | Messages], checkpoint: Checkpoint) -> Sequence[str]:
        """Rendered prompts: as declared, or through the checkpoint's chat template (in a child, remembered)."""
        if not task.is_chat:
            return [text for text in declared if isinstance(text, str)]
        template = load_template(checkpoint)
        if template is None:
            raise CheckpointError(
                "has no chat template, and a task asks it as a chat",
                where=checkpoint.name,
                mend="Add chat_template.jinja to the checkpoint, or declare the prompt as plain text.",
            )
        conversations = [messages for messages in declared if not isinstance(messages, str)]
        keys = [digest([template.digest, list(messages), dict(task.template_kwargs)]) for messages in conversations]
        known = self.cache.get_texts(keys)
        missing = [i for i, key in enumerate(keys) if key not in known]
        if missing:
            self._renderer = self._renderer or ChatRenderer()
            texts = self._renderer.render(template, [conversations[i] for i in missing], kwargs=task.template_kwargs)
            fresh = {keys[i]: text for i, text in zip(missing, texts, strict=True)}
            self.cache.put_texts(fresh)
            known = known | fresh
        return [known[key] for key in keys]

    def answer(self, plan: Plan) -> Answers:
        """Every request of the plan answered: from the cache where it can be, by the engine where it must be.

        Each finished completion is in the cache before it counts, so a killed run resumes where it was.

        Raises:
            EngineError: the engine failed; what it had answered is kept.
        """
        keys = {cache_key(request, self._engine_digest): request for request in plan.requests}
        known = {keys[key].id: completion for key, completion in self.cache.get(keys).items()}
        missing = [request for request in plan.requests if request.id not in known]
        self.progress.start(len(keys), len(known))
        began = monotonic()
        try:
            fresh = dict(self._generate(missing)) if missing else {}
        finally:
            self.progress.stop()
        return Answers(known | fresh, len(known), len(fresh), monotonic() - began)

    def _generate(self, requests: Sequence[Request]) -> Iterator[tuple[str, Completion]]:
        """Stream answers from the engine into the cache; what counts is stored, also when the stream breaks."""
        by_id = {request.id: request for request in requests}
        pending: list[Completion] = []
        verified: set[str] = set()
        flushed = monotonic()

        def flush() -> None:
            nonlocal flushed
            for checkpoint in self.checkpoints:  # weights that changed while they loaded: their answers are nobody's
                answered = any(by_id[completion.request].checkpoint == checkpoint.digest for completion in pending)
                if answered and checkpoint.digest not in verified:
                    verify_unchanged(checkpoint, self.cache.files)
                    verified.add(checkpoint.digest)
            self.cache.put(((by_id[c.request], c) for c in pending), self._engine_digest)
            self.progress.advance(len(pending))
            pending.clear()
            flushed = monotonic()

        engine = self._open(requests)
        try:
            for completion in engine.generate(requests):
                pending.append(completion)
                if len(pending) >= FLUSH_ANSWERS or monotonic() - flushed > FLUSH_SECONDS:
                    flush()
                yield completion.request, completion
        finally:
            flush()
        for asked in verified:
            self.cache.put_environment(self._engine_digest, asked, engine.environment(asked))

    def _open(self, requests: Sequence[Request]) -> EngineProcess:
        """The engine: it sees only clean views of the checkpoints, and plans for the longest request so far."""
        longest = max(map(length_bound, requests))
        if self._engine and self._engine.max_length and longest > self._engine.max_length:
            self._engine.close()
            self._engine = None
        if self._engine is None:
            self._views = self._views or TemporaryDirectory(prefix="evalgate-")
            seen = [_viewed(checkpoint, Path(self._views.name)) for checkpoint in self.checkpoints]
            self._engine = EngineProcess(self.settings, seen, max_length=longest, on_event=self.progress.say)
        return self._engine

    def environment(self, checkpoint: Checkpoint) -> Mapping[str, Any]:
        """What the engine reported when this checkpoint's answers were made, now or in the run that cached them."""
        return self.cache.get_environment(self._engine_digest, checkpoint.digest) or self.engine_identity

    def close(self) -> None:
        """End the children; the cache stays open."""
        for child in (self._engine, self._renderer):
            if child is not None:
                child.close()
        if self._views:
            self._views.cleanup()
        self._engine = self._renderer = self._views = None


def _viewed(checkpoint: Checkpoint, into: Path) -> Checkpoint:
    base = _viewed(checkpoint.base, into) if checkpoint.base else None
    return replace(checkpoint, path=str(clean_view(checkpoint, into)), base=base)


def assemble(
    plan: TaskPlan,
    completions: Mapping[str, Completion],
    *,
    environment: Mapping[str, Any],
    provenance: Mapping[str, Any],
    policy: Mapping[str, Any],
) -> Evaluation:
    """Score every answer of one task on one checkpoint and put the evaluation together."""
    task, checkpoint = plan.task, plan.checkpoint
    return Evaluation(
        task=plan.id,
        checkpoint={"name": checkpoint.name, "digest": checkpoint.digest, "identity": checkpoint.identity},
        prompt=task.prompt_digest,
        sampling=task.sampling.identity,
        seed=task.sampling.seed,
        samples=plan.samples,
        metrics=tuple(scorer.metric for scorer in task.scorers),
        rows=tuple(_row(task, question, completions) for question in plan.questions),
        environment=environment,
        provenance=provenance,
        policy=policy,
    )


def _row(task: Task, question: Question, completions: Mapping[str, Completion]) -> Row:
    sample = question.sample
    answers = [completions[request.id] for request in question.requests]
    texts = [completions[request.id] for request in question.generations]
    row = Row(
        id=sample.id,
        pair=question.pair,
        prompt=question.prompt,
        target=sample.target,
        outputs=tuple(completion.text for completion in texts),
        scores={},
        slices=sample.slices,
        cluster=sample.cluster,
        weight=next((scorer.weight(sample) for scorer in task.scorers if scorer.weight), 1.0),
        finish=tuple(completion.finish for completion in texts),
        tokens=(sum(c.prompt_tokens for c in answers), sum(c.completion_tokens for c in answers)),
    )
    fault = next((completion.error for completion in answers if completion.error), None)
    if fault:
        return replace(row, outputs=(), error=f"sample {sample.id}: {fault}")
    try:
        scores = {scorer.name: _scores(task, scorer, question, completions) for scorer in task.scorers}
    except ScorerError as error:
        return replace(row, error=str(error))
    return replace(
        row,
        scores={name: fmean(score.value for score in found) for name, found in scores.items()},
        notes={name: note for name, found in scores.items() if (note := _note(found[0], row.outputs))},
    )


def _scores(task: Task, scorer: Scorer, question: Question, completions: Mapping[str, Completion]) -> list[Score]:
    """One score per generation, or the one of the log-likelihood request."""
    if scorer.name in question.scored:
        return [apply(scorer, completions[question.scored[scorer.name].id], question.sample)]
    answers = (completions[request.id] for request in question.generations)
    if task.reasoning:
        answers = (replace(a, text=strip_reasoning(a.text, task.reasoning)) for a in answers)
    return [apply(scorer, answer, question.sample) for answer in answers]


def _note(score: Score, outputs: Sequence[str]) -> str | None:
    """What was found and why, unless it is the output itself."""
    found = (
        score.answer if score.answer is not None and score.answer.strip() not in (o.strip() for o in outputs) else None
    )
    return "; ".join(part for part in (found, score.explanation) if part) or None
