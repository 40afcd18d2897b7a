"""What the formats of other tools have in common: strict reading, metrics that are what they seem, honest identity."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from statistics import fmean
from typing import Any, TypeGuard

from evalgate.digest import digest, short
from evalgate.errors import RecordError
from evalgate.evaluation import Metric, Row

MAX_FILE = 2 << 30  # bytes of text held in memory at once
AGAIN = "Copy the file again from where it was made, or run the evaluation again."
_LM_EVAL = ("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match", "em")
_INSPECT_AI = ("answer", "choice", "exact", "includes", "match", "math", "pattern")
RIGHT_OR_WRONG = frozenset((*_LM_EVAL, *_INSPECT_AI))
SHARES = frozenset(("f1", "mc2", "likelihood", "model_graded_fact", "model_graded_qa"))
_SECRET = re.compile(
    r"(?:.*_)?(?:api_?key|key|token|secret|password|credentials?|authorization|headers)", re.IGNORECASE
)
_AGREES = 1e-6  # what another order of addition may leave between their mean and ours


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric of a foreign log, before it is known whether it can be one of ours.

    Attributes:
        name: what it will be called.
        kind: what the tool calls the scorer or metric.
        values: sample id to value; samples without one are missing.
        identity: what the tool says of how the values were made: task version, scorer, filter.
        higher: whether more is better; `None` where the tool does not say.
        right_or_wrong: every single value, before epochs were averaged, is 0 or 1.
        graded: every single value is a truth value or a grade that counts from 0 to 1.
        reported: the tool's own aggregate, where it gives one.
        aggregation: how the tool says that it aggregates; empty for the mean.
        weights: sample id to its weight; bits per byte only, in bytes.
    """

    name: str
    kind: str
    values: Mapping[str, float]
    identity: Mapping[str, Any]
    higher: bool | None
    right_or_wrong: bool
    graded: bool = False
    reported: float | None = None
    aggregation: str = ""
    weights: Mapping[str, float] = field(default_factory=dict)


def settle(measure: Measure, where: str) -> Metric | str:
    """The metric, or one line that says why its values cannot be compared sample by sample.

    Raises:
        RecordError: the tool's own mean is not that of its samples: the files do not belong together.
    """
    values = list(measure.values.values())
    if not values:
        return "no sample has a value of it"
    if measure.higher is None:
        return f"nothing says whether more is better (--higher-is-better {measure.name} or --lower-is-better …)"
    weights = [measure.weights[sample] for sample in measure.values] if measure.weights else None
    mean, theirs = fmean(values, weights), measure.reported
    agrees = theirs is not None and math.isclose(mean, theirs, rel_tol=_AGREES, abs_tol=_AGREES)
    if measure.aggregation and not agrees:
        return f"it is no mean over samples but their {' '.join(measure.aggregation.split())[:40]}"
    if theirs is not None and not agrees:
        what = f"the samples' mean {measure.name} is {mean:.6g}, but the tool reported {theirs:.6g}"
        raise RecordError(
            what, where=where, mend=f"Samples were lost or changed, or the tool does not average them. {AGAIN}"
        )
    known = measure.graded or measure.kind in RIGHT_OR_WRONG | SHARES
    low, high = (0.0, 1.0) if known and min(values) >= 0 and max(values) <= 1 else (None, None)
    if measure.weights:
        low, high = 0.0, None
    binary = high == 1 and measure.right_or_wrong and measure.kind not in SHARES
    return Metric(
        name=measure.name,
        digest=digest(dict(measure.identity)),
        low=low,
        high=high,
        binary=binary,
        higher_is_better=measure.higher,
        weighted=bool(measure.weights),
    )


def settle_all(
    measures: Iterable[Measure], refused: Mapping[str, str], where: str
) -> tuple[list[Metric], dict[str, str]]:
    """Every metric that can be compared, in order, and the reason for each that is left out.

    Args:
        measures: with values.
        refused: metric name to reason, for what is known to have no values.
        where: file name for messages.

    Raises:
        RecordError: nothing is left, two share a name, or as `settle`.
    """
    found, left_out = [], dict(refused)
    for measure in measures:
        metric = settle(measure, where)
        if isinstance(metric, str):
            left_out[measure.name] = metric
        else:
            found.append(metric)
    names = [metric.name for metric in found]
    if twin := next((name for name in names if names.count(name) > 1), None):
        raise RecordError(f"two metrics are called {twin!r}", where=where, mend="Rename one where it is declared.")
    if not found:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items()) or "it was run without scores"
        raise RecordError(
            f"holds no metric that can be compared sample by sample ({reasons})",
            where=where,
            mend="Run it again with a metric that is a mean over samples, and log the samples.",
        )
    return found, left_out


def scored(row: Row, metrics: Iterable[Metric], measures: Iterable[Measure]) -> Row:
    """The row with its scores; without a value of one metric it has an error and no score at all."""
    by_name = {measure.name: measure for measure in measures}
    names = [metric.name for metric in metrics]
    missing = [name for name in names if row.id not in by_name[name].values]
    if row.error or missing:
        return replace(row, error=row.error or f"sample {row.id}: no value of {', '.join(missing)}")
    weights = [by_name[name].weights[row.id] for name in names if by_name[name].weights]
    scores = {name: float(by_name[name].values[row.id]) for name in names}
    return replace(row, scores=scores, weight=weights[0] if weights else 1.0)


def checkpoint(tool: str, name: str, told: Mapping[str, Any], run: str | None) -> dict[str, Any]:
    """Name, digest and identity of a model of which no tool knows the weights.

    Args:
        tool: that ran it.
        name: as the tool calls it; of a path the last part.
        told: what the tool says about the model.
        run: what tells this run from others, since the same name may have meant other weights; `None` where the tool
            names the revision of what it loaded.
    """
    identity = {"imported": tool, "weights": "unknown: the tool records none", **plain(dict(told))}
    if run is None:
        identity["weights"] = "the revision that the tool names"
    else:
        identity["run"] = run
    return {"name": last_part(name) or tool, "digest": digest(identity), "identity": identity}


def plain(value: Any) -> Any:
    """What a tool says of the model as it may be committed: no secrets, and of absolute paths only the last part."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items() if not _SECRET.fullmatch(key)}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, str) and (PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute()):
        return last_part(value)
    return value


def last_part(path: str) -> str:
    """The last part of a path or of a hub's `owner/name`."""
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2]


def metric_name(text: str) -> str:
    """A name that may stand in test ids: no white space, brackets, slashes or `::`."""
    name = "".join(c if c.isprintable() and c not in " []/\\" else "_" for c in text.replace("::", "_"))
    return name[:100]


def pair(*content: Any) -> str:
    """Short digest of what was asked and what was expected."""
    return short(digest(list(content)), 16)


def samples_digest(rows: Iterable[Row]) -> str:
    """Of ids, prompts and targets."""
    return digest(sorted((row.id, row.pair) for row in rows))


def is_number(value: Any) -> TypeGuard[float]:
    """A number or a truth value, and not NaN or infinity."""
    return isinstance(value, int | float) and math.isfinite(value)


def one_line(text: str, length: int = 300) -> str:
    """What a foreign log says, on one line of bounded length."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 1]}…"


def shown(path: Path) -> str:
    """What messages and records call a file: never where it lies on this machine."""
    return path.name or str(path)


def read_bytes(path: Path) -> bytes:
    """A file's content, unless it is too large to be one (RecordError)."""
    try:
        if (size := path.stat().st_size) > MAX_FILE:
            raise RecordError(
                f"has {size:,} bytes, more than {MAX_FILE:,}", where=shown(path), mend="Import a part of it."
            )
        return path.read_bytes()
    except OSError as error:
        raise RecordError(f"could not be read: {error.strerror}", where=shown(path), mend="Check the path.") from error


def read_object(data: bytes, where: str) -> dict[str, Any]:
    """A JSON object; NaN is let through, since tools write it, and refused where it would be a score (RecordError)."""
    try:
        value = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise RecordError(f"is no JSON: {one_line(str(error), 100)}", where=where, mend=AGAIN) from error
    if not isinstance(value, dict):
        raise RecordError(f"is JSON, but no object: {value!r:.40}", where=where, mend=AGAIN)
    return value


def get(value: Mapping[str, Any], name: str, kind: type | tuple[type, ...], where: str) -> Any:
    """A field that must be there and of that type (RecordError)."""
    found = value.get(name)
    if not isinstance(found, kind):
        what = f"{name} is {found!r:.40}" if name in value else f"has no {name}"
        raise RecordError(f"{what}: not what the tool writes", where=where, mend=AGAIN)
    return found
