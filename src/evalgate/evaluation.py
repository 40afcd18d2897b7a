"""An evaluation: the stored result of one checkpoint on one task, self-contained and written once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from evalgate.digest import digest
from evalgate.errors import RecordError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd


@dataclass(frozen=True)
class Metric:
    """What a scorer measures, as a record needs to know it.

    Attributes:
        name: of the scorer.
        digest: of the scorer's name, version, settings and code: a changed scorer is another metric.
        low, high: declared range in the metric's own units; `high=None` is unbounded (bits per byte).
        binary: every value is `low` or `high` (with one generation per question).
        higher_is_better: orientation; comparisons negate the values of the others.
        weighted: questions weigh by `Row.weight` (bits per byte: the bytes scored).
        judge: digest of the judge behind the scores (weights, prompt, rubric, decoding); `None` for code.
        against: digest of the baseline whose stored answers these are preferred to (1), or not (0), or neither (.5):
            such a score is a comparison already. `None` for all other metrics.
    """

    name: str
    digest: str
    low: float | None = 0.0
    high: float | None = 1.0
    binary: bool = False
    higher_is_better: bool = True
    weighted: bool = False
    judge: str | None = None
    against: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The metric's JSON object; what only judges and preferences have is left out of the others'."""
        return {name: value for name, value in asdict(self).items() if value is not None or name in ("low", "high")}

    @property
    def range(self) -> float | None:
        """Width of the declared range; `None` where it is unbounded."""
        return None if self.low is None or self.high is None else self.high - self.low


def _default(spec: Field[Any]) -> Any:
    return spec.default_factory() if spec.default_factory is not MISSING else spec.default


@dataclass(frozen=True, slots=True)
class Row:
    """One sample's result.

    Attributes:
        id: of the sample.
        pair: short digest of the rendered prompt and the target: what is paired with the baseline, beside the id.
        prompt: rendered text as the model saw it.
        target: as in the data.
        outputs: one text per generation, before reasoning is stripped; empty where only log-likelihoods were asked.
        scores: metric name to value, the mean over generations; a metric without a value here has an error.
        notes: metric name to the answer found or the reason given.
        slices: slice name to value.
        cluster: of the sample.
        weight: bytes scored, for weighted metrics; 1 elsewhere.
        finish: per generation `stop`, `length` or `score`.
        tokens: prompt and completion tokens, summed over generations.
        error: why there is no answer (an engine fault, one line); then there are no scores either.
        faults: metric name to why it has no score here (a scorer's or judge's fault, one line); the others have theirs.
        look: 0 for the samples of the task, from 1 for its reserve: the step in which it is drawn.
        margin: smallest gap in nats between the best and the second-best token of a greedy generation; outside the
            digest, since last bits differ between machines that write the same text.
    """

    id: str
    pair: str
    prompt: str
    target: Any
    outputs: tuple[str, ...]
    scores: Mapping[str, float]
    notes: Mapping[str, str] = field(default_factory=dict)
    slices: Mapping[str, str] = field(default_factory=dict)
    cluster: str | None = None
    weight: float = 1.0
    finish: tuple[str, ...] = ()
    tokens: tuple[int, int] = (0, 0)
    error: str | None = None
    look: int = 0
    margin: float | None = None
    faults: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The row's JSON object without fields that hold their default, so that baselines stay small and readable."""
        return {name: value for name, default in _DEFAULTS if (value := getattr(self, name)) != default}

    @property
    def fault(self) -> str | None:
        """Why a score is missing, the first reason of several."""
        return self.error or next(iter(self.faults.values()), None)

    @property
    def content(self) -> dict[str, Any]:
        """What of the JSON object is in the evaluation's digest: all but the margin."""
        return {name: value for name, value in self.as_json().items() if name != "margin"}


_DEFAULTS = tuple((spec.name, _default(spec)) for spec in fields(Row))  # looked up once, not for each of a million rows


@dataclass(frozen=True)
class Acceptance:
    """Who made a record the baseline, and why.

    Attributes:
        by: user name and address as git knows them, else the login name.
        at: UTC time, ISO 8601.
        why: the message given.
        previous: digest of the baseline before it, `None` for the first.
        anchor: digest of the first accepted evaluation of this line.
        selected_from: how many candidates it was chosen among.
    """

    by: str
    at: str
    why: str
    previous: str | None
    anchor: str
    selected_from: int = 1


@dataclass(frozen=True)
class Evaluation:
    """One checkpoint on one task: one row per sample, plus everything needed to compare and to repeat it.

    Attributes:
        task: `suite/task`.
        checkpoint: the checkpoint's name, digest and identity (see `Checkpoint.identity`).
        prompt: digest of the prompt as declared.
        sampling: `Sampling.identity`.
        seed: `Sampling.seed`; named, never refused.
        samples: digest of the eval data (ids, fields and targets, sorted by id).
        metrics: what was measured, in the order of the task's scorers.
        rows: sorted by sample id, whatever the order they are given in (RecordError where two share an id).
        environment: engine, versions, dtype, device, determinism, platform (outside the digest).
        provenance: UTC time, command, evalgate's version, ledger head, ids of leaked samples (outside the digest).
        policy: margins, floors, alpha and golden ids in force when it was recorded (outside the digest).
        acceptance: present in a baseline (outside the digest).
        origin: digest of the record that this one is a view of; never written (outside the digest).
    """

    task: str
    checkpoint: Mapping[str, Any]
    prompt: str
    sampling: Mapping[str, Any]
    seed: int
    samples: str
    metrics: tuple[Metric, ...]
    rows: tuple[Row, ...]
    environment: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    policy: Mapping[str, Any] = field(default_factory=dict)
    acceptance: Acceptance | None = None
    origin: str | None = None

    def __post_init__(self) -> None:
        rows = tuple(sorted(self.rows, key=lambda row: row.id))
        twin = next((row.id for row, after in pairwise(rows) if row.id == after.id), None)
        if twin is not None:
            raise RecordError(f"two rows share the sample id {twin!r}", where=self.task)
        object.__setattr__(self, "rows", rows)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What the digest covers beside the rows."""
        return {
            "task": self.task,
            "checkpoint": dict(self.checkpoint),
            "prompt": self.prompt,
            "sampling": dict(self.sampling),
            "seed": self.seed,
            "samples": self.samples,
            "metrics": [metric.as_json() for metric in self.metrics],
        }

    @cached_property
    def digest(self) -> str:
        """`sha256:…` over identity and rows; time, host, command, environment and policy change nothing."""
        name_free = self.identity | {"checkpoint": self.checkpoint["digest"]}
        return digest({"identity": name_free, "rows": [row.content for row in self.rows]})

    @property
    def record(self) -> str:
        """Digest of the record: of this evaluation, or of the one that it is a view of."""
        return self.origin or self.digest

    @property
    def look(self) -> int:
        """Up to which step the task's reserve was drawn, 0 without."""
        return max((row.look for row in self.rows), default=0)

    def drawn(self, first: int, last: int) -> Evaluation:
        """A view of the rows drawn from one look to another; the evaluation itself where that is all of them."""
        rows = tuple(row for row in self.rows if first <= row.look <= last)
        return self if len(rows) == len(self.rows) else replace(self, rows=rows, origin=self.record)

    @property
    def leaked(self) -> frozenset[str]:
        """Ids of samples that stand in the text the checkpoint was trained on, as far as that is known."""
        return frozenset(self.provenance.get("leaked", ()))

    def without(self, ids: Collection[str]) -> Evaluation:
        """A view of the rows of all other ids; the evaluation itself where that is all of them."""
        rows = tuple(row for row in self.rows if row.id not in ids)
        return self if len(rows) == len(self.rows) else replace(self, rows=rows, origin=self.record)

    @property
    def errors(self) -> tuple[Row, ...]:
        """Rows without an answer or a score; with any, the evaluation is incomplete and cannot be accepted."""
        return tuple(row for row in self.rows if row.fault)

    def unscored(self, name: str) -> tuple[Row, ...]:
        """Rows that make a metric incomplete: those with an error, and those without a score of its."""
        return tuple(row for row in self.rows if row.error or name not in row.scores)

    def metric(self, name: str) -> Metric:
        """The metric of that name (KeyError with the names there are)."""
        for metric in self.metrics:
            if metric.name == name:
                return metric
        raise KeyError(f"{name!r} is no metric of {self.task}; there are {', '.join(m.name for m in self.metrics)}")

    def judge(self, name: str) -> Mapping[str, Any]:
        """What is recorded of the judge behind a metric, for people: models, versions, settings, calibration.

        Empty for metrics without a judge. Its identity is the digest in `Metric.judge`.
        """
        return dict((self.environment.get("judges") or {}).get(name) or {})

    def mean(self, name: str) -> float:
        """Weighted mean of a metric over the rows that have it, in the metric's own units (NaN without rows)."""
        import numpy as np

        weighted, values = self.metric(name).weighted, self.columns[name]
        there = ~np.isnan(values)
        if not there.any():
            return float("nan")
        return float(np.average(values[there], weights=self.weights[there] if weighted else None))

    # One array per question that a comparison asks, made once however many metrics and slices ask it.

    @cached_property
    def keys(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What rows are paired by: all sample ids, and all digests of prompt and target."""
        return tuple(row.id for row in self.rows), tuple(row.pair for row in self.rows)

    @cached_property
    def columns(self) -> Mapping[str, npt.NDArray[np.float64]]:
        """Metric name to one score per row, NaN where a row has none."""
        nan = float("nan")
        return {m.name: _array([row.scores.get(m.name, nan) for row in self.rows], "float64") for m in self.metrics}

    @cached_property
    def weights(self) -> npt.NDArray[np.float64]:
        """One weight per row."""
        return _array([row.weight for row in self.rows], "float64")

    @cached_property
    def clusters(self) -> npt.NDArray[np.intp] | None:
        """One number per row, the same for rows of one cluster; `None` where no row has a cluster."""
        if all(row.cluster is None for row in self.rows):
            return None
        numbers: dict[tuple[str | None, str | None], int] = {}
        labels = ((None, row.id) if row.cluster is None else (row.cluster, None) for row in self.rows)
        return _array([numbers.setdefault(label, len(numbers)) for label in labels], "intp")

    @cached_property
    def slices(self) -> Mapping[tuple[str, str], npt.NDArray[np.intp]]:
        """(slice name, value) to the positions of its rows."""
        positions: dict[tuple[str, str], list[int]] = {}
        for position, row in enumerate(self.rows):
            for pair in row.slices.items():
                positions.setdefault(pair, []).append(position)
        return {pair: _array(found, "intp") for pair, found in positions.items()}

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row per sample: id, slices, one column per metric, output, target, cluster, error (imports pandas)."""
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "id": row.id,
                    **{name: _number(value) for name, value in row.slices.items()},
                    **{metric.name: row.scores.get(metric.name) for metric in self.metrics},
                    "output": row.outputs[0] if row.outputs else None,
                    "target": row.target,
                    "cluster": row.cluster,
                    "error": row.fault,
                }
                for row in self.rows
            ]
        )


def _array(values: list[Any], dtype: str) -> npt.NDArray[Any]:
    """A read-only array: it is cached in a frozen object."""
    import numpy as np

    array = np.array(values, dtype=dtype)
    array.flags.writeable = False
    return array


def _number(text: str) -> int | str:
    """Slices are text in records; in a frame whole numbers are numbers, so that `digits == 2` says what it means."""
    return int(text) if text.isascii() and text.isdecimal() else text
