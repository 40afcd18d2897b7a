"""From a plan to evaluations: what the cache knows, what the engine answers, what the scorers say of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from evalgate.asking import Answers, Asker, Progress
from evalgate.cache import Cache
from evalgate.cases import cases_of
from evalgate.checkpoint import Checkpoint
from evalgate.digest import canonical
from evalgate.engines import EngineSettings
from evalgate.errors import ConfigError, ScorerError
from evalgate.evaluation import Evaluation, Metric, Row
from evalgate.instrument import Case, Instrument, Judgements
from evalgate.plan import Plan, Question, TaskPlan, plan_task
from evalgate.prompt import render_prompt
from evalgate.request import Completion, Request
from evalgate.samples import read_samples, samples_digest
from evalgate.scoring import Score, Scorer, apply, strip_reasoning
from evalgate.task import Messages, Sample, Task


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
        self.asker = Asker(self.known, settings, cache, progress)

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
        """Rendered prompts: as declared, or through the checkpoint's chat template."""
        if not task.is_chat:
            return [text for text in declared if isinstance(text, str)]
        conversations = [messages for messages in declared if not isinstance(messages, str)]
        if checkpoint.kind == "endpoint":  # it applies its own template: records show the messages
            if task.template_kwargs:
                raise ConfigError(
                    "template_kwargs never reach an endpoint's template",
                    where=task.name or "task",
                    mend="Say them in engine.extra_body, as vLLM's chat_template_kwargs.",
                )
            return [canonical(messages) for messages in conversations]
        return self.asker.render(checkpoint, conversations, task.template_kwargs)

    def answer(self, plan: Plan, canary: Sequence[Request] = ()) -> Answers:
        """Every request of the plan answered, see `Asker.answer` (EngineError)."""
        return self.asker.answer(plan.requests, canary)

    def close(self) -> None:
        """End the children; the cache stays open."""
        self.asker.close()


def assemble(
    plan: TaskPlan,
    completions: Mapping[str, Completion],
    *,
    environment: Mapping[str, Any],
    provenance: Mapping[str, Any],
    policy: Mapping[str, Any],
    judgements: Judgements | None = None,
    baseline: Evaluation | None = None,
) -> Evaluation:
    """Score every answer of one task on one checkpoint and put the evaluation together.

    Args:
        plan: what was asked.
        completions: the answers by request id.
        environment: as the evaluation keeps it.
        provenance: as the evaluation keeps it.
        policy: as the evaluation keeps it.
        judgements: what judges said of the cases of `asked_of_judges`.
        baseline: whose answers preferences are held against; without one they have no metric yet.
    """
    task, checkpoint = plan.task, plan.checkpoint
    said, rivals = judgements or Judgements(), rivals_of(baseline)
    return Evaluation(
        task=plan.id,
        checkpoint={"name": checkpoint.name, "digest": checkpoint.digest, "identity": checkpoint.identity},
        prompt=task.prompt_digest,
        sampling=task.asked,
        seed=plan.seed,
        samples=plan.samples,
        metrics=metrics_of(task, baseline),
        rows=tuple(_row(task, question, completions, said, rivals) for question in plan.questions),
        environment=environment,
        provenance=provenance,
        policy=policy,
    )


def metrics_of(task: Task, baseline: Evaluation | None) -> tuple[Metric, ...]:
    """What the task measures; a preference only beside a baseline, which is in its identity."""
    return tuple(
        replace(scorer.metric, against=baseline.record) if _prefers(scorer) and baseline else scorer.metric
        for scorer in task.scorers
        if baseline or not _prefers(scorer)
    )


def rivals_of(baseline: Evaluation | None) -> dict[tuple[str, str], Row]:
    """The baseline's rows by what they are paired by: whose answers preferences are held against."""
    return {(row.id, row.pair): row for row in baseline.rows if row.outputs} if baseline else {}


def asked_of_judges(
    plan: TaskPlan, completions: Mapping[str, Completion], baseline: Evaluation | None
) -> Iterator[tuple[Instrument, Case]]:
    """Every case of a task that judges are to see, once its answers are there."""
    rivals = rivals_of(baseline)
    for question in plan.questions:
        texts = [completions[request.id] for request in question.generations]
        if any(completions[request.id].error for request in question.requests):
            continue
        rival = rivals.get((question.sample.id, question.pair))
        outputs = [completion.text for completion in texts]
        for scorer in plan.task.scorers:
            if scorer.judge and not (_prefers(scorer) and rival is None):
                for case in cases_of(plan.task, scorer.judge, question.sample, outputs, rival):
                    yield scorer.judge, case


def _prefers(scorer: Scorer) -> bool:
    return scorer.judge is not None and scorer.judge.pairwise


def _row(
    task: Task,
    question: Question,
    completions: Mapping[str, Completion],
    judgements: Judgements,
    rivals: Mapping[tuple[str, str], Row],
) -> Row:
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
    code = {s: _asked(s, question, completions) for s in task.scorers if s.judge is None}
    rival = rivals.get((row.id, row.pair))
    judges = [s for s in task.scorers if s.judge and (rivals or not _prefers(s))]
    return judged_row(scored(row, task, sample, code), task, sample, judges, judgements, rival)


def row_weight(task: Task, sample: Sample) -> float:
    """What a row weighs in weighted metrics (bytes scored); 1 where the task has none."""
    return next((scorer.weight(sample) for scorer in task.scorers if scorer.weight), 1.0)


def scored(row: Row, task: Task, sample: Sample, answers: Mapping[Scorer, Sequence[Completion]]) -> Row:
    """A row with the scores and notes of these scorers, and with the faults of those that failed.

    Args:
        row: with its outputs; the scores and notes that it has of other scorers stay.
        task: says how reasoning is cut out.
        sample: the question.
        answers: scorer to what it scores: one completion per generation, or its log-likelihoods.
    """
    found: dict[str, list[Score]] = {}
    faults = {name: why for name, why in row.faults.items() if name not in {scorer.name for scorer in answers}}
    for scorer, given in answers.items():
        try:
            found[scorer.name] = _scores(task, scorer, given, sample)
        except ScorerError as error:
            faults[scorer.name] = str(error)
    return replace(
        row,
        faults=faults,
        scores={**row.scores, **{name: fmean(score.value for score in scores) for name, scores in found.items()}},
        notes={**row.notes, **{n: note for n, scores in found.items() if (note := _note(scores[0], row.outputs))}},
    )


def judged_row(
    row: Row, task: Task, sample: Sample, scorers: Iterable[Scorer], judgements: Judgements, rival: Row | None
) -> Row:
    """A row with what judges said of its outputs; a judgement that is an error is the fault of its metric.

    Args:
        row: with its outputs.
        task: as declared.
        sample: the question.
        scorers: those of judges.
        judgements: of the cases that these outputs make.
        rival: the baseline's row, for preferences. What has none there is not compared, so its .5 never counts.
    """
    scores, notes, faults = dict(row.scores), dict(row.notes), dict(row.faults)
    for scorer in scorers:
        if scorer.judge is None:
            continue
        name = scorer.name
        if _prefers(scorer) and rival is None:
            scores[name], notes[name] = 0.5, "the baseline has no answer to prefer"
            continue
        said = [judgements.of(scorer.judge, c) for c in cases_of(task, scorer.judge, sample, row.outputs, rival)]
        values = [judgement.value for judgement in said if judgement.value is not None]
        if not values or len(values) < len(said):
            faults[name] = next((j.error for j in said if j.error), None) or f"sample {row.id}: there is no output"
            continue
        scores[name] = fmean(values)
        if explained := next((j.explanation for j in said if j.explanation), None):
            notes[name] = explained
    return replace(row, scores=scores, notes=notes, faults=faults)


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
