"""Scoring again: what the suite's scorers of today say of the outputs that a record stores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from evalgate.cases import cases_of
from evalgate.evaluate import judged_row, row_weight, scored
from evalgate.evaluation import Evaluation, Metric, Row
from evalgate.instrument import Case, Instrument, Judgements
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
    return tuple(scorer for scorer in task.scorers if not _same(known.get(scorer.name), scorer))


def _same(known: Metric | None, scorer: Scorer) -> bool:
    """Whether a record's metric is what the scorer measures today.

    A preference belongs to the baseline it was held against, and is never made again. A judge that no session has bound
    has no models yet: there its rubric and settings decide, which are in the metric's own digest.
    """
    if scorer.judge is None:
        return known == scorer.metric
    if scorer.judge.pairwise and known is None:
        return True
    wanted = (
        scorer.metric
        if scorer.judge.identity is not None
        else replace(scorer.metric, judge=known.judge if known else None)
    )
    return known is not None and replace(known, against=None) == wanted


def asked_again(evaluation: Evaluation, task: Task, samples: Iterable[Sample]) -> Iterator[tuple[Instrument, Case]]:
    """Every case that judges are to see before `rescore` can ask for their judgements."""
    judges = [scorer.judge for scorer in _again(evaluation, task) if scorer.judge]
    if judges:
        for row, sample in _pairs(evaluation, task, samples):
            for judge in judges:
                for case in cases_of(task, judge, sample, row.outputs):
                    yield judge, case


def rescore(
    evaluation: Evaluation, task: Task, samples: Iterable[Sample], judgements: Judgements | None = None
) -> Evaluation | None:
    """The evaluation with its stored outputs scored by the task's scorers as they are now; it is never written.

    Only scorers of text are asked: log-likelihoods are not stored, so a changed scorer of those stays incomparable. A
    row whose question is asked otherwise today has no score of the scorers that changed, since they may look at what
    changed; a row on which one of them fails has that as its fault.

    Args:
        evaluation: a record.
        task: as the suite declares it now.
        samples: the task's eval data.
        judgements: of the cases of `asked_again`.

    Returns:
        A view whose `record` is that of the evaluation; `None` where there is nothing that can be scored again.
    """
    again = _again(evaluation, task)
    pairs = {row.id: sample for row, sample in _pairs(evaluation, task, samples)}
    if not again or not pairs:
        return None
    metrics = {metric.name: metric for metric in evaluation.metrics} | {s.name: s.metric for s in again}
    return replace(
        evaluation,
        metrics=tuple(metrics.values()),
        rows=tuple(_row(row, task, pairs.get(row.id), again, judgements or Judgements()) for row in evaluation.rows),
        environment=_without_judges(evaluation.environment, again),
        origin=evaluation.record,
    )


def _again(evaluation: Evaluation, task: Task) -> list[Scorer]:
    """The scorers that stored outputs can be scored with again."""
    return [
        scorer
        for scorer in outdated(evaluation, task)
        if scorer.continuations is None and (scorer.judge is None or _askable(scorer.judge))
    ]


def _askable(judge: Instrument) -> bool:
    """Whether a session can ask it about one stored answer."""
    return judge.identity is not None and not judge.pairwise


def _without_judges(environment: Mapping[str, Any], again: Sequence[Scorer]) -> dict[str, Any]:
    """What was recorded of judges holds no more where another one has judged again."""
    names = {scorer.name for scorer in again}
    kept = {name: said for name, said in (environment.get("judges") or {}).items() if name not in names}
    rest = {name: value for name, value in environment.items() if name != "judges"}
    return {**rest, "judges": kept} if kept else rest


def _pairs(evaluation: Evaluation, task: Task, samples: Iterable[Sample]) -> Iterator[tuple[Row, Sample]]:
    by_id = {sample.id: sample for sample in samples}
    for row in evaluation.rows:
        if row.id in by_id and _asked(row, task, by_id[row.id]):
            yield row, by_id[row.id]


def _asked(row: Row, task: Task, sample: Sample) -> bool:
    """Whether a row has outputs, and they answer the question as it stands in the eval data now."""
    options = {s.name: s.continuations(sample) for s in task.scorers if s.continuations is not None}
    return bool(row.outputs) and not row.error and row.pair == pair_digest(row.prompt, sample.target, options)


def _row(row: Row, task: Task, sample: Sample | None, again: Sequence[Scorer], judgements: Judgements) -> Row:
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
    code = dict.fromkeys((scorer for scorer in again if scorer.judge is None), answers)
    judges = [scorer for scorer in again if scorer.judge]
    made = judged_row(scored(bare, task, sample, code), task, sample, judges, judgements, None)
    return replace(made, weight=row_weight(task, sample))
