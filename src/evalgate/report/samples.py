"""The samples of a card as JSON: side by side, sorted into buckets, identical texts once."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator, Mapping
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
    """One metric of one task, as its samples are sorted by it."""

    verdict: Verdict
    broken: frozenset[str] = field(init=False)
    fixed: frozenset[str] = field(init=False)
    alone: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        comparison = self.verdict.comparison
        for name, ids in (
            ("broken", comparison.broken if comparison else ()),
            ("fixed", comparison.fixed if comparison else ()),
            ("alone", comparison.only_candidate if comparison else ()),
        ):
            object.__setattr__(self, name, frozenset(ids))

    def bucket(self, row: Row) -> str:
        """The letter of the bucket that a candidate's row falls into."""
        score, spec = row.scores.get(self.verdict.metric), self.verdict.spec
        if row.error or score is None:
            return "E"
        if self.verdict.comparison is None or row.id in self.alone:
            return "N"
        if row.id in self.broken:
            return "R"
        if row.id in self.fixed:
            return "F"
        worst = None if spec is None else spec.low if spec.higher_is_better else spec.high
        return "S" if score == worst else "U"


def payload(
    family: Family, candidates: Mapping[str, Evaluation], baselines: Mapping[str, Evaluation]
) -> dict[str, Any]:
    """What the card's script reads.

    A sample's `k` holds its bucket over the blocking metrics of its task, then one bucket per metric. Beyond
    `SAMPLE_LIMIT` samples the least telling are left out and counted; texts are cut at `TEXT_LIMIT` characters.

    Args:
        family: all verdicts.
        candidates: task id to evaluation.
        baselines: task id to accepted evaluation.
    """
    views = {task: [View(v) for v in family.verdicts if v.task == task] for task in candidates}
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
            | _sample(rows[number][position], before[number].get(rows[number][position].id), names[number])
            for _, number, position, buckets in kept
        ],
    }


def _buckets(views: list[View], rows: Iterable[Row]) -> Iterator[str]:
    """Per row: the most telling bucket over the blocking metrics (over all, where none blocks), then one per metric."""
    blocking = [i for i, view in enumerate(views) if view.verdict.blocking] or range(len(views))
    for row in rows:
        each = "".join(view.bucket(row) for view in views)
        yield min((each[i] for i in blocking), key=_RANK.__getitem__) + each


def _sample(row: Row, was: Row | None, metrics: Iterable[str]) -> dict[str, Any]:
    """One sample under short keys, without what is empty or the same on both sides."""
    outputs, notes = [_cut(text) for text in row.outputs], _notes(row, metrics)
    found = {
        "i": row.id,
        "p": _cut(row.prompt),
        "t": None if row.target is None else _cut(_text(row.target)),
        "o": outputs,
        "s": [[_score(was, name), _score(row, name)] for name in metrics],
        "x": notes,
        "g": [f"{name}={value}" for name, value in sorted(row.slices.items())],
        "c": row.cluster,
        "e": row.error,
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
