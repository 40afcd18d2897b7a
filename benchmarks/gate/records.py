"""The way over records: columns written down as two evaluations each, and decided by `decide`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from evalgate.digest import digest
from evalgate.evaluation import Evaluation, Row
from evalgate.gate import Columns, Family, Member, Policy, decide

_QUESTIONS = [f"q{number:05}" for number in range(10_000)]  # ids in the order of the columns


def decide_records(looks: Sequence[Sequence[Columns]], at: int, policy: Policy) -> Family:
    """Decide one look at a candidate over evaluations.

    Args:
        looks: one family of columns per look; most often one. Each goes on from the one before.
        at: number of the look; the baseline has the samples of all of them.
        policy: of the gate.
    """
    sizes = [len(np.asarray(look[0].baseline)) for look in looks]
    drawn_at = np.repeat(np.arange(len(looks)), np.diff(sizes, prepend=0)) if len(looks) > 1 else np.zeros(10_000, int)
    steps = drawn_at.tolist()
    members = [_member(now, whole, steps) for now, whole in zip(looks[at], looks[-1], strict=True)]
    return decide(members, policy if len(looks) == 1 else replace(policy, reserve="top-up"))


def _member(now: Columns, whole: Columns, steps: Sequence[int]) -> Member:
    labels: dict[tuple[str, str], float] = {}
    if now.labels is not None:
        for place, human in zip(*(np.asarray(part).tolist() for part in now.labels), strict=True):
            labels[_QUESTIONS[place], "was"] = max(0.0, -human)
            labels[_QUESTIONS[place], "now"] = max(0.0, human)
    return Member(
        task=now.task,
        metric=now.metric.name,
        blocking=now.blocking,
        gate=now.gate,
        labels=labels,
        last_look=now.sequential[1] if now.sequential else 0,
        candidate=_evaluation(now, now.candidate, "now", steps),
        baseline=_evaluation(whole, whole.baseline, "was", steps),
    )


def _evaluation(given: Columns, scores: npt.ArrayLike, text: str, steps: Sequence[int]) -> Evaluation:
    values = np.asarray(scores, dtype=float).tolist()
    clusters = [None] * len(values) if given.clusters is None else [f"c{of}" for of in np.asarray(given.clusters)]
    rows = [
        Row(
            id=name,
            pair=name,
            prompt="",
            target="",
            outputs=(text,),
            scores={given.metric.name: score},
            cluster=cluster,
            look=look,
        )
        for name, score, cluster, look in zip(_QUESTIONS, values, clusters, steps, strict=False)
    ]
    return Evaluation(
        task=given.task,
        checkpoint={"name": text, "digest": digest(text), "identity": {}},
        prompt="",
        sampling={"n": given.generations},
        seed=0,
        samples="",
        metrics=(given.metric,),
        rows=tuple(rows),
    )
