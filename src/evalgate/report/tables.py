"""A card's samples and metrics as files for other programs: JSON lines with everything, CSV for spreadsheets.

`samples.jsonl`: one JSON object a line, in pure ASCII, tasks in the card's order and samples by id. Texts are whole.

    {
      "task": "suite/task", "id": "sums-0012",
      "buckets": {"exact_match": "Regressed"},  per metric: Regressed, No answer, Fixed, Still failing, Not compared,
                                                Unchanged; as the card sorts them
      "near_ties": ["exact_match"],             metrics in which numeric noise alone can make the flip
      "slices": {"digits": "2"}, "cluster": null, "look": 0,    look: 1 and more are steps of the task's reserve
      "prompt": "…", "target": "46",
      "candidate": {"outputs": ["45"], "scores": {"exact_match": 0.0}, "notes": {}, "faults": {}, "error": null,
                    "finish": ["stop"], "tokens": [9, 3]},      tokens: of prompts, of answers
      "baseline": {…}                           the same of the accepted baseline; null where it has no such sample
    }

`metrics.csv`: a line per metric. Numbers are in the metric's own units, `difference`, `low` and `high` oriented so that
minus is always worse. Columns: candidate, task, metric, blocking, outcome, reason, value, baseline, difference, low,
high, margin, n, p_adjusted, level, detectable, broken, fixed, near_ties, leaked.

`samples.csv`: a line per sample. Columns: task, id, slices, cluster, prompt, target, output, baseline_output, error,
then `NAME bucket`, `NAME score` and `NAME baseline` of every metric. Texts are cut at `CELL_LIMIT` characters.

Both CSV files are UTF-8 with a byte order mark, without which spreadsheets guess another encoding. A text that one of
them would run as a formula begins with an apostrophe; every text is quoted, on one line, and inert in a terminal.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from evalgate.report.samples import BUCKETS, View
from evalgate.report.terminal import near_tie_counts, safe

if TYPE_CHECKING:
    from evalgate.evaluation import Row
    from evalgate.gate import Verdict
    from evalgate.report.card import CardData

CELL_LIMIT = 8_000  # characters of a cell; the common spreadsheets hold 32,767
Cell = str | float | None
_METRIC_COLUMNS = (
    *("candidate", "task", "metric", "blocking", "outcome", "reason", "value", "baseline", "difference", "low", "high"),
    *("margin", "n", "p_adjusted", "level", "detectable", "broken", "fixed", "near_ties", "leaked"),
)
_SAMPLE_COLUMNS = ("task", "id", "slices", "cluster", "prompt", "target", "output", "baseline_output", "error")
_FORMULA = "=+-@"  # and what stands for them in full width
# Where semicolons separate cells, as in much of Europe, one inside a quoted text may still begin another.
_AFTER_SEPARATOR = re.compile(r"(;\s*)(?=[=+\-@＝＋－＠﹦﹢﹣﹫])")


def samples_jsonl(data: CardData) -> Iterator[bytes]:
    """The lines of `samples.jsonl`, see the module's docstring."""
    for task, candidate in data.candidates.items():
        views = _views(data, task)
        before = _before(data, task)
        for row in candidate.rows:
            line = _sample(task, row, before.get(row.id), views)
            yield json.dumps(line, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"


def _views(data: CardData, task: str) -> list[View]:
    verdicts = [verdict for verdict in data.family.verdicts if verdict.task == task]
    return [View(each, frozenset(data.near_ties.get(f"{task}::{each.metric}", ()))) for each in verdicts]


def _before(data: CardData, task: str) -> dict[str, Row]:
    return {row.id: row for row in data.baselines[task].rows} if task in data.baselines else {}


def _sample(task: str, row: Row, was: Row | None, views: Sequence[View]) -> dict[str, Any]:
    return {
        "task": task,
        "id": row.id,
        "buckets": {view.verdict.metric: BUCKETS[view.bucket(row)] for view in views},
        "near_ties": [view.verdict.metric for view in views if row.id in view.near_ties],
        "slices": dict(row.slices),
        "cluster": row.cluster,
        "look": row.look,
        "prompt": row.prompt,
        "target": row.target,
        "candidate": _side(row),
        "baseline": None if was is None else _side(was),
    }


def _side(row: Row) -> dict[str, Any]:
    return {
        "outputs": row.outputs,
        "scores": dict(row.scores),
        "notes": dict(row.notes),
        "faults": dict(row.faults),
        "error": row.error,
        "finish": row.finish,
        "tokens": row.tokens,
    }


def metrics_csv(data: CardData) -> str:
    """The content of `metrics.csv`, see the module's docstring."""
    return _csv(_METRIC_COLUMNS, ([data.name, *_metric(verdict, data)] for verdict in data.family.verdicts))


def _metric(verdict: Verdict, data: CardData) -> list[Cell]:
    said: list[Cell] = [verdict.task, verdict.metric, "yes" if verdict.blocking else "no", str(verdict.outcome)]
    said += [verdict.reason, verdict.value]
    comparison = verdict.comparison
    if comparison is None:
        said += [None] * 6
    else:
        test = comparison.test
        said += [comparison.baseline, test.delta, test.low, test.high, comparison.margin, test.n]
    said += [verdict.p_adjusted, verdict.level, verdict.detectable]
    said += [len(comparison.broken), len(comparison.fixed)] if comparison else [None, None]
    return [*said, near_tie_counts(verdict, data.near_ties)[0] if comparison else None, verdict.leaked]


def samples_csv(data: CardData) -> str:
    """The content of `samples.csv`, see the module's docstring."""
    metrics = list(dict.fromkeys(verdict.metric for verdict in data.family.verdicts))
    columns = [*_SAMPLE_COLUMNS, *(f"{name} {what}" for name in metrics for what in ("bucket", "score", "baseline"))]
    return _csv(columns, _samples(data, metrics))


def _samples(data: CardData, metrics: Sequence[str]) -> Iterator[list[Cell]]:
    for task, candidate in data.candidates.items():
        views = {view.verdict.metric: view for view in _views(data, task)}
        before = _before(data, task)
        for row in candidate.rows:
            was = before.get(row.id)
            cells: list[Cell] = [
                task,
                row.id,
                ", ".join(f"{name}={value}" for name, value in sorted(row.slices.items())),
            ]
            cells += [row.cluster, row.prompt, _text(row.target), "\n".join(row.outputs)]
            cells += ["\n".join(was.outputs) if was else None, row.fault]
            for name in metrics:
                cells.append(BUCKETS[views[name].bucket(row)] if name in views else None)
                cells += [row.scores.get(name), was.scores.get(name) if was else None]
            yield cells


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _csv(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Texts quoted and inert, numbers bare, nothing empty."""
    file = io.StringIO()
    writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(map(cell, columns))
    writer.writerows(map(_plain, row) for row in rows)
    return f"\ufeff{file.getvalue()}"


def _plain(value: Cell) -> Cell:
    """A number as it is; one that is not finite is a text, since `-inf` is the start of a formula."""
    if value is None or (isinstance(value, int | float) and math.isfinite(value)):
        return value
    return cell(str(value))


def cell(text: str) -> str:
    """A text that no spreadsheet takes for a formula, on one line, with nothing invisible in it."""
    shown = _AFTER_SEPARATOR.sub(r"\1'", safe(text, CELL_LIMIT))
    first = unicodedata.normalize("NFKC", shown.lstrip()[:1])
    return f"'{shown}" if first and first in _FORMULA else shown
