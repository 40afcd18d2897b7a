"""The format of a record: JSON Lines, checked in full whenever it is read.

The first line is the header: identity, digest, number of rows, environment, provenance, policy, acceptance and a
checksum over all of these. Then comes one row per line, sorted by sample id. The digest guards identity and rows, the
checksum guards the header, and with it the digest of the margins, which the evaluation's own leaves out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evalgate.digest import canonical, digest
from evalgate.errors import RecordError
from evalgate.evaluation import Acceptance, Evaluation, Metric, Row
from evalgate.store.shape import ACCEPTANCE, HEADER, MEND, METRIC, METRIC_REQUIRED, ROW, ROW_REQUIRED, check, shown

FORMAT = 1


def serialise(evaluation: Evaluation) -> bytes:
    """The file of an evaluation.

    Raises:
        RecordError: a value is none that JSON can hold (NaN, infinity, an object).
    """
    rows = [_line(row.as_json(), f"{evaluation.task}, sample {row.id!r}") for row in evaluation.rows]
    header = {
        "evalgate": FORMAT,
        "kind": "evaluation",
        "rows": len(rows),
        **evaluation.identity,
        "environment": dict(evaluation.environment),
        "provenance": dict(evaluation.provenance),
        "policy": dict(evaluation.policy),
        "acceptance": asdict(evaluation.acceptance) if evaluation.acceptance else None,
    }
    if margins := _margins(evaluation.rows):
        header["margins"] = margins
    _line(header, evaluation.task)  # refuses what has no digest either
    header["digest"] = evaluation.digest
    header["checksum"] = digest(header)
    return b"".join([_line(header, evaluation.task), *rows])


def _margins(rows: Iterable[Row]) -> str | None:
    """Digest of the margins, for the header: the evaluation's own digest does not cover them."""
    margins = [row.margin for row in rows]
    return None if all(margin is None for margin in margins) else digest(margins)


def _line(value: Mapping[str, Any], where: str) -> bytes:
    try:
        # Half an emoji, cut by max_tokens, is no UTF-8: backslashreplace writes a lone surrogate as JSON's own escape.
        return canonical(value).encode("utf-8", "backslashreplace") + b"\n"
    except (TypeError, ValueError, RecursionError) as exc:
        mend = "Records hold texts, finite numbers, lists and objects."
        raise RecordError(f"cannot be recorded: {exc}", where=where, mend=mend) from exc


def parse(data: bytes, where: str) -> Evaluation:
    """The evaluation in the bytes of a record, after every check.

    Args:
        data: the whole file.
        where: what error messages call it.

    Raises:
        RecordError: torn, damaged, of a newer format, or no record at all; names the line.
    """
    *lines, rest = data.split(b"\n")
    header = _header(lines[0] if lines else rest, where)
    if rest:
        raise RecordError("the last line is cut off", where=f"{where}:{len(lines) + 1}", mend=MEND)
    if len(lines) - 1 != header["rows"]:
        what = f"has {len(lines) - 1} rows, its header says {header['rows']}: rows were lost or added"
        raise RecordError(what, where=where, mend=MEND)
    metrics = tuple(Metric(**metric) for metric in header["metrics"])
    evaluation = Evaluation(
        **{name: header[name] for name in ("task", "checkpoint", "prompt", "sampling", "seed", "samples")},
        metrics=metrics,
        rows=_rows(lines[1:], metrics, where),
        **{name: header[name] for name in ("environment", "provenance", "policy")},
        acceptance=Acceptance(**header["acceptance"]) if header["acceptance"] else None,
    )
    try:
        intact = evaluation.digest == header["digest"] and _margins(evaluation.rows) == header.get("margins")
    except (ValueError, RecursionError):  # 1e999 in a target, which no record holds
        intact = False
    if not intact:
        raise RecordError("the rows are not those that were recorded: their digest differs", where=where, mend=MEND)
    return evaluation


def _rows(lines: list[bytes], metrics: tuple[Metric, ...], where: str) -> tuple[Row, ...]:
    rows: list[Row] = []
    for number, line in enumerate(lines, start=2):
        row = _row(line, metrics, f"{where}:{number}")
        if rows and row.id <= rows[-1].id:
            fault = (
                "appears twice" if row.id == rows[-1].id else f"comes after {rows[-1].id!r}: rows are not sorted by id"
            )
            raise RecordError(f"sample {row.id!r} {fault}", where=f"{where}:{number}", mend=MEND)
        rows.append(row)
    return tuple(rows)


def _row(line: bytes, metrics: tuple[Metric, ...], where: str) -> Row:
    value = _load(line, where)
    check(value, ROW, where, required=ROW_REQUIRED)
    scores = value["scores"]
    if unknown := scores.keys() - {metric.name for metric in metrics}:
        raise RecordError(f"{min(unknown)!r} is no metric of this record", where=where, mend=MEND)
    for metric in metrics:
        if metric.name in scores:
            score, low, high = scores[metric.name], metric.low, metric.high
            # A mean over generations may leave the range by its last bits.
            if (low is not None and score < low - 1e-9) or (high is not None and score > high + 1e-9):
                what = f"{metric.name} is {score}, outside its range from {low} to {high}"
                raise RecordError(what, where=where, mend=MEND)
        elif "error" not in value and metric.name not in value.get("faults", {}):
            raise RecordError(f"has neither a score for {metric.name!r} nor an error", where=where, mend=MEND)
    for name in ("outputs", "finish", "tokens"):
        if name in value:
            value[name] = tuple(value[name])
    return Row(**value)


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number")


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def _load(line: bytes, where: str) -> dict[str, Any]:
    try:
        value = _DECODER.decode(line.decode("utf-8"))
    except (ValueError, RecursionError) as exc:
        raise RecordError(f"is no JSON object: {exc}", where=where, mend=MEND) from exc
    if not isinstance(value, dict):
        raise RecordError(f"is no JSON object but {shown(value)}", where=where, mend=MEND)
    return value


def _header(line: bytes, where: str) -> dict[str, Any]:
    """The header's object, its checksum verified and every field of the right type."""
    mend = "Name a file that evalgate wrote, or a folder of such files, such as .evalgate/records."
    try:
        header = _load(line, where)
    except RecordError as exc:
        raise RecordError(f"is no evalgate record: its first line {exc.what}", where=where, mend=mend) from exc
    version = header.get("evalgate")
    if type(version) is not int or version < 1:
        raise RecordError("is no evalgate record: its first line is no header", where=where, mend=mend)
    if version > FORMAT:
        what = f"written by a newer evalgate: format {version}, this one reads {FORMAT}"
        raise RecordError(what, where=where, mend="pip install -U pytest-evalgate")
    checksum = header.pop("checksum", None)
    try:
        intact = digest(header) == checksum
    except (ValueError, RecursionError):
        intact = False
    if not intact:
        what = "the header was changed after it was written: its checksum differs"
        raise RecordError(what, where=f"{where}:1", mend=MEND)
    check(header, HEADER, f"{where}:1", required=HEADER.keys() - {"margins"})
    for metric in header["metrics"]:
        check(metric, METRIC, f"{where}:1", required=METRIC_REQUIRED)
    if header["acceptance"] is not None:
        check(header["acceptance"], ACCEPTANCE, f"{where}:1")
    return header


@dataclass(frozen=True, slots=True)
class Header:
    """What the first line of a record says; the rows are not read.

    Attributes:
        path: of the file.
        digest: of the evaluation.
        rows: how many.
        task: `suite/task`.
        checkpoint: name, digest and identity.
        metrics: what was measured.
        provenance: time, command, version, ledger head.
    """

    path: Path
    digest: str
    rows: int
    task: str
    checkpoint: Mapping[str, Any]
    metrics: tuple[Metric, ...]
    provenance: Mapping[str, Any]


def read_header(path: Path) -> Header:
    """The header of a record's file (RecordError as `parse`, as far as the header goes)."""
    try:
        with path.open("rb") as file:
            header = _header(file.readline().removesuffix(b"\n"), str(path))
    except OSError as exc:
        raise RecordError(f"could not be read: {exc.strerror}", where=str(path), mend="Check the path.") from exc
    metrics = tuple(Metric(**metric) for metric in header["metrics"])
    names = ("digest", "rows", "task", "checkpoint", "provenance")
    return Header(path=path, metrics=metrics, **{name: header[name] for name in names})
