"""From a plan to evaluations: what the cache knows, what the engine answers, what the scorers say of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from evalgate.task import Messages, Sample, Task

FLUSH_ANSWERS = 200
FLUSH_SECONDS = 0.5


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


class Evaluator:
    """Plans and answers tasks on a fixed set of checkpoints: one cache, one engine that starts at the first miss.

    Args:
        checkpoints: what is evaluated.
        settings: of the engine.
        cache: of answers, rendered prompts and environments.
        progress: who is told how far the engine is.
        also: further checkpoints that a canary may ask; the bases of adapters are among them anyway.

    Attributes:
        known: every checkpoint that the engine can be asked, those that are evaluated first.
    """

    def __init__(
        self,
        checkpoints: Sequence[Checkpoint],
        settings: EngineSettings,
        cache: Cache,
        progress: Progress,
        also: Sequence[Checkpoint] = (),
    ) -> None:
        self.checkpoints = tuple(checkpoints)
        bases = [checkpoint.base for checkpoint in checkpoints if checkpoint.base]
        self.known = tuple({one.digest: one for one in (*checkpoints, *bases, *also)}.values())
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

    def plan(self, task_id: str, task: Task, again: int | None = None, look: int = 0) -> tuple[TaskPlan, ...]:
        """Read the eval data and render the prompts, one plan per checkpoint; every fault is the user's and typed.

        Args:
            task_id: `suite/task`.
            task: as declared.
            again: number of another measurement with fresh seeds (`--eval-seed`), `None` for the task's own seed.
            look: up to which step the task's reserve is drawn.
        """
        samples = read_samples(task, task_id, look)
        content = samples_digest(samples)
        declared = [render_prompt(task, sample) for sample in samples]
        return tuple(
            plan_task(task_id, task, samples, self._texts(task, declared, checkpoint), checkpoint, content, again)
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

    def answer(self, plan: Plan, canary: Sequence[Request] = ()) -> Answers:
        """Every request of the plan answered: from the cache where it can be, by the engine where it must be.

        Each finished completion is in the cache before it counts, so a killed run resumes where it was. The canary's
        requests ride along where an engine is needed anyway: they are answered now, neither from the cache nor for it,
        and only by children that serve the plan too.

        Raises:
            EngineError: the engine failed; what it had answered is kept.
        """
        keys = {cache_key(request, self._engine_digest): request for request in plan.requests}
        known = {keys[key].id: completion for key, completion in self.cache.get(keys).items()}
        missing = {request.id: request for request in plan.requests if request.id not in known}
        self.progress.start(len(keys), len(known))
        began = monotonic()
        try:
            made = dict(self._generate(missing, canary)) if missing else {}
        finally:
            self.progress.stop()
        fresh = {name: completion for name, completion in made.items() if name in missing}
        again = {request.id: made[request.id] for request in canary if request.id in made}
        return Answers(known | fresh, len(known), len(fresh), monotonic() - began, again)

    def _generate(self, requests: Mapping[str, Request], canary: Sequence[Request]) -> Iterator[tuple[str, Completion]]:
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
            self.cache.put(((requests[completion.request], completion) for completion in kept), self._engine_digest)
            self.progress.advance(len(kept))
            pending.clear()
            flushed = monotonic()

        engine = self._open([*requests.values(), *canary])
        asked = {**requests, **{request.id: request for request in engine.beside(requests.values(), canary)}}
        try:
            for completion in engine.generate(asked.values()):
                pending.append(completion)
                if len(pending) >= FLUSH_ANSWERS or monotonic() - flushed > FLUSH_SECONDS:
                    flush()
                yield completion.request, completion
        finally:
            flush()
        for checkpoint in verified.intersection(request.checkpoint for request in requests.values()):
            self.cache.put_environment(self._engine_digest, checkpoint, engine.environment(checkpoint))

    def _open(self, requests: Sequence[Request]) -> EngineProcess:
        """The engine: it sees only clean views of the checkpoints, and plans for the longest request so far."""
        longest = max(map(length_bound, requests))
        if self._engine and self._engine.max_length and longest > self._engine.max_length:
            self._engine.close()
            self._engine = None
        if self._engine is None:
            self._views = self._views or TemporaryDirectory(prefix="evalgate-")
            seen = [_viewed(checkpoint, Path(self._views.name)) for checkpoint in self.known]
            self._engine = EngineProcess(self.settings, seen, max_length=longest, on_event=self.progress.say)
        return self._engine

    def environment(self, checkpoint: Checkpoint) -> Mapping[str, Any]:
        """What the engine reported when this checkpoint's answers were made, now or in the run that cached them."""
        return self.cache.get_environment(self._engine_digest, checkpoint.digest) or self.engine_identity

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
        sampling=task.asked,
        seed=plan.seed,
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
        weight=row_weight(task, sample),
        look=sample.look,
        finish=tuple(completion.finish for completion in texts),
        tokens=(sum(c.prompt_tokens for c in answers), sum(c.completion_tokens for c in answers)),
        margin=min((completion.margin for completion in texts if completion.margin is not None), default=None),
    )
    fault = next((completion.error for completion in answers if completion.error), None)
    if fault:
        return replace(row, outputs=(), margin=None, error=f"sample {sample.id}: {fault}")
    return scored(row, task, sample, {scorer: _asked(scorer, question, completions) for scorer in task.scorers})


def row_weight(task: Task, sample: Sample) -> float:
    """What a row weighs in weighted metrics (bytes scored); 1 where the task has none."""
    return next((scorer.weight(sample) for scorer in task.scorers if scorer.weight), 1.0)


def scored(row: Row, task: Task, sample: Sample, answers: Mapping[Scorer, Sequence[Completion]]) -> Row:
    """A row with the scores and notes of these scorers; where one of them fails it is an error without any score.

    Args:
        row: with its outputs; the scores and notes that it has of other scorers stay.
        task: says how reasoning is cut out.
        sample: the question.
        answers: scorer to what it scores: one completion per generation, or its log-likelihoods.
    """
    try:
        found = {scorer.name: _scores(task, scorer, given, sample) for scorer, given in answers.items()}
    except ScorerError as error:
        return replace(row, scores={}, notes={}, error=str(error))
    return replace(
        row,
        scores={**row.scores, **{name: fmean(score.value for score in scores) for name, scores in found.items()}},
        notes={**row.notes, **{n: note for n, scores in found.items() if (note := _note(scores[0], row.outputs))}},
    )


def _asked(scorer: Scorer, question: Question, completions: Mapping[str, Completion]) -> list[Completion]:
    """What a scorer scores: every generation, or the answer to its log-likelihood request."""
    scored = question.scored.get(scorer.name)
    return [completions[request.id] for request in ([scored] if scored else question.generations)]


def _scores(task: Task, scorer: Scorer, answers: Sequence[Completion], sample: Sample) -> list[Score]:
    if task.reasoning and scorer.continuations is None:
        answers = [replace(answer, text=strip_reasoning(answer.text, task.reasoning)) for answer in answers]
    return [apply(scorer, answer, sample) for answer in answers]


def _note(score: Score, outputs: Sequence[str]) -> str | None:
    """What was found and why, unless it is the output itself."""
    found = (
        score.answer if score.answer is not None and score.answer.strip() not in (o.strip() for o in outputs) else None
    )
    return "; ".join(part for part in (found, score.explanation) if part) or None
