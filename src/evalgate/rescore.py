"""Scoring again: what the suite's scorers of today say of the outputs that a record stores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import cast

from evalgate.evaluate import row_weight, scored
from evalgate.evaluation import Evaluation, Row
from evalgate.plan import pair_digest
from evalgate.request import Completion
from evalgate.scoring import Scorer
from evalgate.task import Sample, Task


@dataclass(frozen=True)
class StoredAnswer:
    """What a record keeps of a completion.

    A scorer that asks for more (tokens, log-likelihoods) finds no such attribute: that is an error of the row, where an
    invented value would be a wrong score.
    """

    text: str
    finish: str | None
    error: None = None


def outdated(evaluation: Evaluation, task: Task) -> tuple[Scorer, ...]:
    """The task's scorers that the evaluation was not scored with: they changed since, or they are new."""
    known = {metric.name: metric for metric in evaluation.metrics}
    return tuple(scorer for scorer in task.scorers if known.get(scorer.name) != scorer.metric)


def rescore(evaluation: Evaluation, task: Task, samples: Iterable[Sample]) -> Evaluation | None:
    """The evaluation with its stored outputs scored by the task's scorers as they are now; it is never written.

    Only scorers of text are asked: log-likelihoods are not stored, so a changed scorer of those stays incomparable. A
    row whose question is asked otherwise today has no score of the scorers that changed, since they may look at what
    changed; a row on which one of them fails has that as its fault.

    Args:
        evaluation: a record.
        task: as the suite declares it now.
        samples: the task's eval data.

    Returns:
        A view whose `record` is that of the evaluation; `None` where there is nothing that can be scored again.
    """
    again = [scorer for scorer in outdated(evaluation, task) if scorer.continuations is None]
    by_id = {sample.id: sample for sample in samples}
    pairs = {row.id: by_id[row.id] for row in evaluation.rows if row.id in by_id and _asked(row, task, by_id[row.id])}
    if not again or not pairs:
        return None
    metrics = {metric.name: metric for metric in evaluation.metrics} | {s.name: s.metric for s in again}
    return replace(
        evaluation,
        metrics=tuple(metrics.values()),
        rows=tuple(_row(row, task, pairs.get(row.id), again) for row in evaluation.rows),
        origin=evaluation.record,
    )


def _asked(row: Row, task: Task, sample: Sample) -> bool:
    """Whether a row has outputs, and they answer the question as it stands in the eval data now."""
    options = {s.name: s.continuations(sample) for s in task.scorers if s.continuations is not None}
    return bool(row.outputs) and not row.error and row.pair == pair_digest(row.prompt, sample.target, options)


def _row(row: Row, task: Task, sample: Sample | None, again: Sequence[Scorer]) -> Row:
    names = {scorer.name for scorer in again}
    bare = replace(
        row,
        scores={name: score for name, score in row.scores.items() if name not in names},
        notes={name: note for name, note in row.notes.items() if name not in names},
        faults={name: why for name, why in row.faults.items() if name not in names},
    )
    if sample is None:
        return bare
    # To scorers an answer is what has a text; a record has one for each, with why it ended.
    finish = row.finish or (None,) * len(row.outputs)
    stored = [StoredAnswer(text, why) for text, why in zip(row.outputs, finish, strict=True)]
    answers = cast("list[Completion]", stored)
    return replace(
        scored(bare, task, sample, dict.fromkeys(again, answers)),
        weight=row_weight(task, sample),
    )
