"""The samples of a card: side by side, sorted into buckets, identical texts once, packed so that a page holds them."""

from __future__ import annotations

import base64
import heapq
import json
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
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
TEXT_LIMIT = 20_000  # characters of one text
PACKED_LIMIT = 18_000_000  # bytes; in base64 they are 24 MB
UNPACKED_LIMIT = 64_000_000  # bytes, which a browser has to search through
LEAST = 600  # bytes of text that stay for every sample
_RANK = {bucket: rank for rank, bucket in enumerate(BUCKETS)}
_TEXTS = ("p", "t", "e", "q", "o", "w", "x", "v")  # where a sample keeps texts: each by itself, in lists, by metric


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


def packed(
    name: str,
    family: Family,
    candidates: Mapping[str, Evaluation],
    baselines: Mapping[str, Evaluation],
    near_ties: Mapping[str, Collection[str]],
) -> str:
    """The payload as JSON, gzipped, in base64: no model's text stands in a page as text; the same data, the same bytes.

    In turn each sample keeps its texts, up to `TEXT_LIMIT` characters each, while `LEAST` bytes are left for every
    later one; what does not fit is cut to that. A text that is cut stands as [its beginning, its whole length], and its
    sample says with `l` in which line of `samples.jsonl` it is whole. A lone surrogate stays itself, as JSON's escape.
    Arguments as for `payload`.
    """
    told = payload(name, family, candidates, baselines, near_ties)
    samples = told.pop("samples")
    gzip, done, unpacked = zlib.compressobj(6, wbits=31), bytearray(), 0
    done += gzip.compress(_json(told)[:-1] + b',"samples":[')
    for place, sample in enumerate(samples):
        line, rest = _json(_cut_down(sample, None)), LEAST * (len(samples) - place)
        if len(done) + len(line) + rest > PACKED_LIMIT or unpacked + len(line) + rest > UNPACKED_LIMIT:
            line = _json(_cut_down(sample, LEAST))
        done += gzip.compress(b"," * (place > 0) + line)
        unpacked += len(line)
    return base64.b64encode(done + gzip.compress(b"]}") + gzip.flush()).decode()


def _json(value: Any) -> bytes:
    """Compact JSON; what UTF-8 cannot hold is escaped, which JSON reads back."""
    dumped = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return dumped.encode("utf-8", "backslashreplace")


def payload(
    name: str,
    family: Family,
    candidates: Mapping[str, Evaluation],
    baselines: Mapping[str, Evaluation],
    near_ties: Mapping[str, Collection[str]] | None = None,
) -> dict[str, Any]:
    """What the card's script reads, with every text whole, the most telling samples first.

    A sample's `k` holds its bucket over the blocking metrics of its task, then one bucket per metric; its `n` the
    places in `k` that are near ties; its `l` its line in `samples.jsonl`. Beyond `SAMPLE_LIMIT` samples the least
    telling are left out and counted.

    Args:
        name: of the checkpoint.
        family: all verdicts.
        candidates: task id to evaluation, in the order of `samples.jsonl`.
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
    reserves = [candidates[task].look > 0 for task in tasks]
    first = dict(zip(candidates, accumulate((len(e.rows) for e in candidates.values()), initial=1), strict=False))
    return {
        "name": name,
        "buckets": BUCKETS,
        "tasks": [
            {"id": task, "metrics": metrics, "judges": [i for i, view in enumerate(views[task]) if _judged(view)]}
            for task, metrics in zip(tasks, names, strict=True)
        ],
        "views": [
            [tasks.index(v.task), names[tasks.index(v.task)].index(v.metric)] if v.task in tasks else None
            for v in family.verdicts
        ],
        "left_out": sum(map(len, rows)) - len(kept),
        "samples": [
            {"a": number, "k": buckets, "l": first[tasks[number]] + position}
            | _sample(row, was, names[number], reserve=reserves[number], common=common[number])
            | _near(row, was, views[tasks[number]], buckets)
            for _, number, position, buckets in kept
            for row in (rows[number][position],)
            for was in (before[number].get(row.id),)
        ],
    }


def _judged(view: View) -> bool:
    return view.verdict.spec is not None and view.verdict.spec.judge is not None


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
    notes = _notes(row, metrics)
    found = {
        "i": row.id,
        "p": row.prompt,
        "t": None if row.target is None else _text(row.target),
        "o": list(row.outputs),
        "s": [[_score(was, name), _score(row, name)] for name in metrics],
        "x": notes,
        "g": [
            *(f"{name}={value}" for name, value in sorted(row.slices.items())),
            *([f"reserve={row.look or 'no'}"] if reserve else []),
        ],
        "c": row.cluster,
        "e": row.error
        or "\n".join(f"{name}: {why}" for name, why in row.faults.items() if (name, why) not in common)
        or None,
        "z": "length" in row.finish,
    }
    sides: dict[str, Any] = {}
    if was is None:
        sides["only"] = True
    else:
        if was.outputs != row.outputs:
            sides["w"] = list(was.outputs)
        if (before := _notes(was, metrics)) != notes:
            sides["v"] = before
        if was.prompt != row.prompt:
            sides["q"] = was.prompt
    return {key: value for key, value in found.items() if value not in (None, [], {}, False)} | sides


def _notes(row: Row, metrics: Iterable[str]) -> dict[str, str]:
    return {name: row.notes[name] for name in metrics if name in row.notes}


def _score(row: Row | None, metric: str) -> float | None:
    value = None if row is None else row.scores.get(metric)
    return None if value is None else float(f"{value:.6g}")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _cut_down(sample: Mapping[str, Any], size: int | None) -> dict[str, Any]:
    """A sample with its texts cut, those together to about so many bytes if given; without its line if none is."""
    share = None if size is None else size // (sum(1 for _ in _texts(sample)) or 1)
    cut = {key: _cut(value, share) if key in _TEXTS else value for key, value in sample.items()}
    if cut == sample:
        del cut["l"]
    return cut


def _texts(sample: Mapping[str, Any]) -> Iterator[str]:
    """Every text of a sample."""
    for key in _TEXTS:
        value = sample.get(key, ())
        yield from (value,) if isinstance(value, str) else value.values() if isinstance(value, dict) else value


def _cut(value: Any, share: int | None) -> Any:
    """A text, or a list or mapping of texts, each cut at `TEXT_LIMIT` characters and, if given, at about a share."""
    if isinstance(value, dict):
        return {name: _cut(text, share) for name, text in value.items()}
    if isinstance(value, list):
        return [_cut(text, share) for text in value]
    limit = TEXT_LIMIT if share is None else min(TEXT_LIMIT, share * len(value) // (_size(value) or 1))
    return value if len(value) <= limit else [value[:limit], len(value)]


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
