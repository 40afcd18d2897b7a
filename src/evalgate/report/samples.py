"""The samples of a card as JSON: side by side, sorted into buckets, identical texts once."""

from __future__ import annotations

import heapq
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evalgate.evaluation import Evaluation, Row
    from evalgate.gate import Family, Verdict

BUCKETS = {
    "R": "Regressed",
    "E": "No answer",
    "F": "Fixed",
    "S": "Still failing",
    "N": "Not compared",
    "U": "Unchanged",
}
"""In the order in which they are shown, and kept where there are too many samples for one page."""

SAMPLE_LIMIT = 20_000
TEXT_LIMIT = 20_000
_RANK = {bucket: rank for rank, bucket in enumerate(BUCKETS)}


@dataclass(frozen=True)
class View:
    """One metric of one task, as its samples are sorted by it; those of the reserve by the look or the confirmation."""

    verdict: Verdict
    near_ties: frozenset[str] = frozenset()
    broken: frozenset[str] = field(init=False)
    fixed: frozenset[str] = field(init=False)
    alone: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        compared = [c for c in (self.verdict.comparison, self.verdict.confirmation) if c]
        for name, ids in (
            ("broken", [c.broken for c in compared]),
            ("fixed", [c.fixed for c in compared]),
            ("alone", [c.only_candidate for c in compared]),
        ):
            object.__setattr__(self, name, frozenset[str]().union(*ids))

    def compares(self, row: Row) -> bool:
        """Whether a candidate's row had a part in a comparison."""
        looked = row.look <= (self.verdict.look[0] if self.verdict.look else 0) or self.verdict.confirmation
        return bool(self.verdict.comparison and looked) and row.id not in self.alone

    def bucket(self, row: Row) -> str:
        """The letter of the bucket that a candidate's row falls into."""
        score, spec = row.scores.get(self.verdict.metric), self.verdict.spec
        if row.error or score is None:
            return "E"
        if not self.compares(row):
            return "N"
        if row.id in self.broken:
            return "R"
        if row.id in self.fixed:
            return "F"
        worst = None if spec is None else spec.low if spec.higher_is_better else spec.high
        return "S" if score == worst else "U"


def payload(
    family: Family,
    candidates: Mapping[str, Evaluation],
    baselines: Mapping[str, Evaluation],
    near_ties: Mapping[str, Collection[str]] | None = None,
) -> dict[str, Any]:
    """What the card's script reads.

    A sample's `k` holds its bucket over the blocking metrics of its task, then one bucket per metric; its `n` the
    places in `k` that are near ties. Beyond `SAMPLE_LIMIT` samples the least telling are left out and counted; texts
    are cut at `TEXT_LIMIT` characters.

    Args:
        family: all verdicts.
        candidates: task id to evaluation.
        baselines: task id to accepted evaluation.
        near_ties: "suite/task::metric" to the ids of flipped samples where numeric noise alone can make the flip.
    """
    ties = {member: frozenset(ids) for member, ids in (near_ties or {}).items()}
    views = {
        task: [View(v, ties.get(f"{task}::{v.metric}", frozenset())) for v in family.verdicts if v.task == task]
        for task in candidates
    }
    tasks = [task for task in dict.fromkeys(v.task for v in family.verdicts) if task in candidates]
    ranked = (
        (_RANK[buckets[0]], number, position, buckets)
        for number, task in enumerate(tasks)
        for position, buckets in enumerate(_buckets(views[task], candidates[task].rows))
    )
    kept = heapq.nsmallest(SAMPLE_LIMIT, ranked)
    before = [{row.id: row for row in baselines[task].rows} if task in baselines else {} for task in tasks]
    rows = [candidates[task].rows for task in tasks]
    names = [[view.verdict.metric for view in views[task]] for task in tasks]
    common = [_common(some) for some in rows]
    return {
        "buckets": BUCKETS,
        "tasks": [{"id": task, "metrics": metrics} for task, metrics in zip(tasks, names, strict=True)],
        "views": [
            [tasks.index(v.task), names[tasks.index(v.task)].index(v.metric)] if v.task in tasks else None
            for v in family.verdicts
        ],
        "left_out": sum(map(len, rows)) - len(kept),
        "samples": [
            {"a": number, "k": buckets}
            | _sample(row, was, names[number], reserve=candidates[tasks[number]].look > 0, common=common[number])
            | _near(row, was, views[tasks[number]], buckets)
            for _, number, position, buckets in kept
            for row in (rows[number][position],)
            for was in (before[number].get(row.id),)
        ],
    }


def _buckets(views: list[View], rows: Iterable[Row]) -> Iterator[str]:
    """Per row: the most telling bucket over the blocking metrics (over all, where none blocks), then one per metric."""
    blocking = _blocking(views)
    for row in rows:
        each = "".join(view.bucket(row) for view in views)
        yield min((each[i] for i in blocking), key=_RANK.__getitem__) + each


def _blocking(views: list[View]) -> Sequence[int]:
    return [i for i, view in enumerate(views) if view.verdict.blocking] or range(len(views))


def _near(row: Row, was: Row | None, views: list[View], buckets: str) -> dict[str, Any]:
    """Where in `buckets` a flip is a near tie (over several metrics: in all that flipped so), and the gap in nats."""
    ties = [i for i, view in enumerate(views) if row.id in view.near_ties and buckets[i + 1] in "RF"]
    if not ties:
        return {}
    told = [i for i in _blocking(views) if buckets[i + 1] == buckets[0]]
    places = [*([0] if buckets[0] in "RF" and set(told) <= set(ties) else []), *(i + 1 for i in ties)]
    gaps = [side.margin for side in (row, was) if side is not None and side.margin is not None]
    return {"n": places} | ({"m": float(f"{min(gaps):.2g}")} if gaps else {})


def _common(rows: Sequence[Row]) -> set[tuple[str, str]]:
    """Faults of a metric that every row has: a judge that is not to be trusted is told once, beside the metric."""
    return set.intersection(*(set(row.faults.items()) for row in rows)) if len(rows) > 1 else set()


def _sample(
    row: Row, was: Row | None, metrics: Iterable[str], *, reserve: bool, common: set[tuple[str, str]]
) -> dict[str, Any]:
    """One sample under short keys, without what is empty or the same on both sides.

    Where the task has drawn from its reserve, a sample says whether it is of it, and from which step.
    """
    outputs, notes = [_cut(text) for text in row.outputs], _notes(row, metrics)
    found = {
        "i": row.id,
        "p": _cut(row.prompt),
        "t": None if row.target is None else _cut(_text(row.target)),
        "o": outputs,
        "s": [[_score(was, name), _score(row, name)] for name in metrics],
        "x": notes,
        "g": [
            *(f"{name}={value}" for name, value in sorted(row.slices.items())),
            *([f"reserve={row.look or 'no'}"] if reserve else []),
        ],
        "c": row.cluster,
        "e": row.error
        or "\n".join(f"{name}: {_cut(why)}" for name, why in row.faults.items() if (name, why) not in common)
        or None,
        "z": "length" in row.finish,
    }
    if was is not None:
        old_outputs, old_notes = [_cut(text) for text in was.outputs], _notes(was, metrics)
        if old_outputs != outputs:
            found["w"] = old_outputs
        if old_notes != notes:
            found["v"] = old_notes
        if (was.prompt, was.target) != (row.prompt, row.target):
            found["q"] = _cut(was.prompt)
    return {key: value for key, value in found.items() if key == "w" or value not in (None, [], {}, False)} | (
        {} if was is not None else {"only": True}
    )


def _notes(row: Row, metrics: Iterable[str]) -> dict[str, str]:
    return {name: _cut(row.notes[name]) for name in metrics if name in row.notes}


def _score(row: Row | None, metric: str) -> float | None:
    value = None if row is None else row.scores.get(metric)
    return None if value is None else float(f"{value:.6g}")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _cut(text: str) -> str:
    if len(text) <= TEXT_LIMIT:
        return text
    return f"{text[:TEXT_LIMIT]}… (cut: {len(text):,} characters; the record holds them all)"
