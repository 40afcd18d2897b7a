"""What the answers cost: tokens per task and side, and how the candidate's length compares with the baseline's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalgate import text

if TYPE_CHECKING:
    from evalgate.evaluation import Evaluation


@dataclass(frozen=True, slots=True)
class Spent:
    """One task's tokens; an empty text is not known.

    Attributes:
        task: whose.
        n: samples that both sides answered; the candidate's where the baseline answered none of them.
        prompt, completion: the candidate's tokens of these, summed over generations.
        was_prompt, was_completion: the baseline's.
        mean, was_mean: completion tokens per sample.
        change: of the mean, in per cent of the baseline's.
    """

    task: str
    n: str
    prompt: str
    completion: str
    was_prompt: str
    was_completion: str
    mean: str
    was_mean: str
    change: str


def spent(candidates: Mapping[str, Evaluation], baselines: Mapping[str, Evaluation]) -> tuple[Spent, ...]:
    """Per task whose records count tokens on either side; several are summed in a last row."""
    counts = {task: _counts(side, baselines.get(task)) for task, side in candidates.items()}
    known = {task: sides for task, sides in counts.items() if any(map(_counted, sides))}
    rows = [_row(task, now, was) for task, (now, was) in known.items()]
    both = [sides for sides in known.values() if all(map(_counted, sides))]
    if len(both) > 1:
        now, was = (tuple(map(sum, zip(*side, strict=True))) for side in zip(*both, strict=True))
        rows.append(_row(f"{len(both)} tasks that both sides answered", now, was))
    return tuple(rows)


def _counts(candidate: Evaluation, baseline: Evaluation | None) -> tuple[tuple[int, ...], ...]:
    """Of both sides samples, prompt tokens, completion tokens, over the samples of both where there are such.

    A baseline is recorded with its reserve, which a candidate may not have been asked.
    """
    ours, theirs = ({row.id: row.tokens for row in side.rows} if side else {} for side in (candidate, baseline))
    both = ours.keys() & theirs.keys()
    asked = (side.items() for side in (ours, theirs))
    known = ([tokens for id_, tokens in side if not both or id_ in both] for side in asked)
    return tuple((len(side), sum(read for read, _ in side), sum(written for _, written in side)) for side in known)


def _counted(count: tuple[int, ...]) -> bool:
    return count[1] + count[2] > 0


def _row(task: str, now: tuple[int, ...], was: tuple[int, ...]) -> Spent:
    (mean, was_mean), change = (side[2] / side[0] if _counted(side) else None for side in (now, was)), ""
    if mean is not None and was_mean:
        change = text.percent(mean / was_mean - 1)
    said = [[f"{amount:,}" if _counted(side) else "" for amount in side[1:]] for side in (now, was)]
    return Spent(
        task=task,
        n=f"{now[0]:,}",
        prompt=said[0][0],
        completion=said[0][1],
        was_prompt=said[1][0],
        was_completion=said[1][1],
        mean="" if mean is None else f"{mean:,.1f}",
        was_mean="" if was_mean is None else f"{was_mean:,.1f}",
        change=change,
    )
