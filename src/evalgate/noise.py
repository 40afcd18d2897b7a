"""The noise floor: what changes when nothing changed. Some baseline prompts are asked again of the baseline's weights.

The same engine, settings and seeds should write the same texts. Where they do not (another batch, another GPU, another
release), a candidate's flips are partly noise, and how large a part that is can only be measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from heapq import nsmallest
from typing import Any

from evalgate.checkpoint import Checkpoint
from evalgate.evaluate import scored
from evalgate.evaluation import Evaluation, Row
from evalgate.plan import Question, TaskPlan, plan_task
from evalgate.request import Completion, Request
from evalgate.stats import discordance_bound

PROMPTS = 48
CONFIDENCE = 0.8  # of the bound on the flip rate, as of the discordance that power is planned with


@dataclass(frozen=True, slots=True)
class Again:
    """A baseline prompt to be asked again: the first generation of one row.

    Attributes:
        plan: of its task, on the baseline's checkpoint and with the baseline's seed.
        question: as it was asked.
        row: as it was recorded.
    """

    plan: TaskPlan
    question: Question
    row: Row

    @property
    def request(self) -> Request:
        """What was asked, and is asked again."""
        return self.question.generations[0]


@dataclass(frozen=True, slots=True)
class Canary:
    """Baseline prompts to be asked again of the weights that answered them.

    Attributes:
        checkpoint: of the baselines.
        asked: at most `PROMPTS`, spread over the tasks; empty where no baseline is of this checkpoint.
    """

    checkpoint: Checkpoint
    asked: tuple[Again, ...]

    @property
    def requests(self) -> tuple[Request, ...]:
        """For `Evaluator.answer`."""
        return tuple(again.request for again in self.asked)


@dataclass(frozen=True, slots=True)
class NoiseFloor:
    """What came of asking again.

    Attributes:
        checkpoint: name of the baseline's.
        prompts: how many were answered again.
        differ: `suite/task::sample` of answers with another text, end or number of tokens.
        flips: `suite/task::metric` to the samples whose score is another.
        noise: largest change of a margin in nats among identical greedy answers; `None` where no margin is recorded.
        engine: what the engine reports: name, device, determinism.
        errors: why prompts were not answered or not scored again, one line each.
    """

    checkpoint: str
    prompts: int
    differ: tuple[str, ...] = ()
    flips: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    noise: float | None = None
    engine: Mapping[str, Any] = field(default_factory=dict)
    errors: tuple[str, ...] = ()

    @property
    def identical(self) -> bool:
        """Whether every prompt was answered again, token for token as recorded."""
        return self.prompts > 0 and not self.differ and not self.errors

    @property
    def flipped(self) -> int:
        """Prompts with at least one other score."""
        return len({(name.rpartition("::")[0], sample) for name, samples in self.flips.items() for sample in samples})

    @property
    def flip_rate(self) -> float:
        """Share of prompts with another score: the discordance that two runs of the same weights show (NaN of none)."""
        return self.flipped / self.prompts if self.prompts else float("nan")

    @property
    def flip_bound(self) -> float:
        """Upper bound of the flip rate (Clopper–Pearson, one-sided, `CONFIDENCE`)."""
        return discordance_bound(self.flipped, self.prompts, confidence=CONFIDENCE)

    @property
    def said(self) -> str:
        """One line for people; the checkpoint's name and the errors are others' text."""
        failed = f"; {len(self.errors)} failed: {self.errors[0]}" if self.errors else ""
        if not self.prompts:
            return f"noise floor: not measured{failed}"
        if self.differ:
            flips = f"{self.flipped} score{'s' if self.flipped != 1 else ''} flip{'s' if self.flipped == 1 else ''}"
            found = (
                f"{len(self.differ)} of {self.prompts} answers of {self.checkpoint} differ when asked again, "
                f"{flips} ({self.flip_rate:.1%}, at most {self.flip_bound:.1%} with {CONFIDENCE:.0%} confidence)"
            )
        else:
            found = f"{self.prompts} baseline prompts of {self.checkpoint} answered again, token-identical"
        moved = f", margins within {self.noise:.1g} nat" if self.noise else ""
        return f"noise floor: {found}{moved} ({mode(self.engine)}){failed}"


def mode(engine: Mapping[str, Any]) -> str:
    """Batch invariance and device, as an engine reports them."""
    known = {"batch-invariant": "batch invariance on", "scheduling": "batch invariance off"}
    return (
        f"{known.get(engine.get('determinism', ''), 'determinism unknown')}, {engine.get('device', 'device unknown')}"
    )


def canary(baselines: Mapping[str, Evaluation], plans: Iterable[TaskPlan], checkpoint: Checkpoint) -> Canary:
    """Choose baseline prompts to ask again: the same ones every time, spread over the tasks that generate text.

    A task takes part where its baseline is of this very checkpoint and was asked as the suite asks now; a row takes
    part where its prompt, target and options are what the record says they were.

    Args:
        baselines: task id to its baseline.
        plans: of the tasks that run, on whichever checkpoints; they bring the samples, which scorers need.
        checkpoint: that would answer.
    """
    ranked: list[tuple[int, str, Again]] = []
    for plan in {plan.id: plan for plan in plans}.values():
        baseline = baselines.get(plan.id)
        if baseline is None or baseline.checkpoint["digest"] != checkpoint.digest:
            continue
        if (baseline.prompt, dict(baseline.sampling)) == (plan.task.prompt_digest, plan.task.asked):
            chosen = _chosen(plan, baseline, checkpoint)
            ranked += [(rank, again.row.pair, again) for rank, again in enumerate(chosen)]
    ranked.sort(key=lambda entry: entry[:2])
    return Canary(checkpoint, tuple(again for _, _, again in ranked[:PROMPTS]))


def _chosen(plan: TaskPlan, baseline: Evaluation, checkpoint: Checkpoint) -> Iterator[Again]:
    """Rows of one task, in the order of their pair: a digest of what was asked, so neither first nor easiest."""
    samples = {question.sample.id: question.sample for question in plan.questions}
    answered = (row for row in baseline.rows if row.outputs and row.finish and not row.error and row.id in samples)
    rows = nsmallest(PROMPTS, answered, key=lambda row: (row.pair, row.id))
    sampling = replace(plan.task.sampling, seed=baseline.seed, n=1)  # the seeds of the record, its first generation
    asked = plan_task(
        plan.id,
        replace(plan.task, sampling=sampling),
        [samples[row.id] for row in rows],
        [row.prompt for row in rows],
        checkpoint,
        baseline.samples,
    )
    for row, question in zip(rows, asked.questions, strict=True):
        if question.generations and question.pair == row.pair:
            yield Again(asked, question, row)


def measure(asked: Canary, completions: Mapping[str, Completion], engine: Mapping[str, Any]) -> NoiseFloor:
    """Compare what was answered again with what the baselines hold.

    Args:
        asked: the canary.
        completions: by request id, as `Answers.canary` has them.
        engine: what the engine reports behind them, see `Evaluator.reported`.
    """
    differ: list[str] = []
    flips: dict[str, tuple[str, ...]] = {}
    errors: list[str] = []
    moved: list[float] = []
    prompts = 0
    for again in asked.asked:
        row, completion = again.row, completions.get(again.request.id)
        if completion is None:
            continue
        if completion.error is not None:
            errors.append(f"{again.plan.id}, sample {row.id}: {completion.error}")
            continue
        prompts += 1
        if _recorded(again, completion) == completion:
            if completion.margin is not None and row.margin is not None:
                moved.append(abs(completion.margin - row.margin))
            continue
        differ.append(f"{again.plan.id}::{row.id}")
        then, now = (_scored(again, answer) for answer in (_recorded(again, completion), completion))
        if fault := then.fault or now.fault:
            errors.append(f"{again.plan.id}: {fault}")
        for name in (name for name, score in now.scores.items() if score != then.scores.get(name, score)):
            flips[f"{again.plan.id}::{name}"] = (*flips.get(f"{again.plan.id}::{name}", ()), row.id)
    noise = max(moved, default=None)
    return NoiseFloor(asked.checkpoint.name, prompts, tuple(differ), flips, noise, dict(engine), tuple(errors))


def _recorded(again: Again, completion: Completion) -> Completion:
    """The answer that the row holds, in the form of the one that was made now."""
    row = again.row
    # A row's tokens are those of all its requests: they can be held against one only where there was one.
    alone = len(row.outputs) == 1 and not again.question.scored
    prompt, written = row.tokens if alone else (completion.prompt_tokens, completion.completion_tokens)
    return replace(
        completion, text=row.outputs[0], finish=row.finish[0], prompt_tokens=prompt, completion_tokens=written
    )


def _scored(again: Again, answer: Completion) -> Row:
    """The scores of one text, by today's scorers on either side, so that a changed scorer flips nothing."""
    task = again.plan.task
    readers = {s: (answer,) for s in task.scorers if s.continuations is None and s.judge is None}
    return scored(replace(again.row, scores={}, notes={}), task, again.question.sample, readers)


def near_ties(candidate: Evaluation, baseline: Evaluation, noise: float, metric: str) -> tuple[str, ...]:
    """Flips that numeric noise alone can make: samples whose score changed where one side was less sure than the noise.

    Args:
        candidate: against `baseline`; rows pair by sample id and what was asked.
        baseline: see `candidate`.
        noise: in nats, see `NoiseFloor.noise`.
        metric: whose scores are compared.

    Returns:
        Sample ids, sorted.
    """
    before = {(row.id, row.pair): row for row in baseline.rows}
    return tuple(
        row.id
        for row in candidate.rows
        if (other := before.get((row.id, row.pair))) is not None
        and metric in row.scores
        and metric in other.scores
        and row.scores[metric] != other.scores[metric]
        and min((margin for margin in (row.margin, other.margin) if margin is not None), default=noise) < noise
    )
