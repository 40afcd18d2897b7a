"""Calibrations as files: what was measured of a judge, committed beside the suites and reviewed like baselines."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from evalgate.digest import digest, short
from evalgate.errors import RecordError
from evalgate.instrument import Calibration
from evalgate.scoring.structure import parse_strictly
from evalgate.stats import Estimate

FORMAT = 1
FOLDER = "calibrations"
"""Beside the suites, as their baselines are."""
_MAX_BYTES = 4 << 20
_AGAIN = "Restore it from git, or measure again: evalgate judge calibrate."


@dataclass(frozen=True, slots=True)
class Annotators:
    """How far two people agree who labelled the same answers: no judge can be held to more.

    Attributes:
        kappa: on right or wrong.
        weighted_kappa: on the scale.
        alpha: Krippendorff's, on the scale.
        n: answers that both labelled.
    """

    kappa: Estimate
    weighted_kappa: Estimate
    alpha: float
    n: int


@dataclass(frozen=True, slots=True)
class Report:
    """What `evalgate judge calibrate` measured of one judge; intervals hold 95 %.

    Attributes:
        metric: `suite/task::metric` that it was measured for.
        judge: digest of the bound instrument.
        instrument: its content: rubric, scale, digests of models, versions; it has that digest.
        models: what the settings call the models that it asks, for people.
        labels: digest of the labelled rows.
        n: labelled answers.
        right: of those, how many people call right: above the middle of the scale.
        kappa: judge and people, on right or wrong.
        weighted_kappa: judge and people, on the scale, with quadratic weights.
        alpha: Krippendorff's, judge and people, on the scale.
        true_positive: of what people call right, the share that the judge does.
        true_negative: of what they do not call right, the share that the judge does not.
        flips: share of verdicts that another one came of when the judge was asked again.
        positions: of preferences, the share that did not hang on which answer stood first.
        side_error: the judge's error on the candidate's answers minus that on the baseline's, in units of the scale.
        annotators: agreement of people, where a second one labelled too.
        at: UTC time, ISO 8601.
        by: who measured.
        evalgate: version that wrote this.
    """

    metric: str
    judge: str
    instrument: Mapping[str, Any]
    models: tuple[str, ...]
    labels: str
    n: int
    right: int
    kappa: Estimate
    weighted_kappa: Estimate
    alpha: float
    true_positive: Estimate
    true_negative: Estimate
    flips: Estimate
    positions: Estimate | None
    side_error: Estimate | None
    annotators: Annotators | None
    at: str
    by: str
    evalgate: str

    @property
    def name(self) -> str:
        """Of the file: the metric, safe in any folder, and the first digits of the judge's digest."""
        metric = re.sub(r"[^A-Za-z0-9_.,=+-]", "_", self.metric.rpartition("::")[2]).lstrip(".")[:80]
        return f"{metric or 'judge'}-{short(self.judge)}.json"

    def as_bytes(self) -> bytes:
        """The file's content: keys sorted, a line each, with a digest over all the rest."""
        value = {"format": FORMAT, **asdict(self)}
        value["digest"] = digest(value)
        return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"

    def known(self, path: Path) -> Calibration:
        """What an instrument carries of it."""
        interval = (self.kappa.low, self.kappa.high)
        return Calibration(judge=self.judge, kappa=self.kappa.value, n=self.n, path=str(path), interval=interval)


def read_reports(folder: Path) -> dict[Path, Report]:
    """Every calibration in a folder, by path, in the order of the names; none where there is no such folder.

    Raises:
        RecordError: a file is damaged, was edited by hand, or is of a newer format.
    """
    return {path: parse(_content(path), str(path)) for path in sorted(folder.glob("*.json"))}


def read_calibrations(folder: Path) -> dict[str, Calibration]:
    """Digest of the judge to its calibration; where several files measure one judge, the lowest kappa counts.

    Args:
        folder: `calibrations` beside a suite; one that is not there holds none.

    Raises:
        RecordError: see `read_reports`.
    """
    found: dict[str, Calibration] = {}
    for path, report in read_reports(folder).items():
        before = found.get(report.judge)
        if before is None or report.kappa.value < before.kappa:
            found[report.judge] = report.known(path)
    return found


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise RecordError(f"could not be read: {error.strerror}", where=str(path), mend=_AGAIN) from error
    if len(data) > _MAX_BYTES:
        raise RecordError(f"has more than {_MAX_BYTES:,} bytes", where=str(path), mend=_AGAIN)
    return data


def parse(data: bytes, where: str) -> Report:
    """The calibration in the bytes of a file.

    Args:
        data: the whole file.
        where: what error messages call it.

    Raises:
        RecordError: it is damaged, was edited by hand, or is of a newer format; one line with what to do.
    """
    try:
        value = parse_strictly(data.decode())
    except (ValueError, RecursionError) as error:
        raise RecordError(f"is no calibration: {error}", where=where, mend=_AGAIN) from None
    if not isinstance(value, dict) or not isinstance(value.get("format"), int):
        raise RecordError("is no calibration", where=where, mend=_AGAIN)
    if value["format"] > FORMAT:
        what = f"has format {value['format']}, this evalgate reads up to {FORMAT}"
        raise RecordError(what, where=where, mend="Update evalgate.")
    said = value.pop("digest", None)
    if said != digest(value):
        raise RecordError("was damaged or edited: its digest does not fit its content", where=where, mend=_AGAIN)
    del value["format"]
    try:
        report = _report(value)
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f"is no calibration: {error}", where=where, mend=_AGAIN) from None
    return report


def _report(value: dict[str, Any]) -> Report:
    """The report of an object that has exactly its fields (KeyError, TypeError or ValueError says what has not)."""
    estimates = ("kappa", "weighted_kappa", "true_positive", "true_negative", "flips")
    optional = ("positions", "side_error")
    people = value["annotators"]
    report = Report(
        **value
        | {name: _estimate(value[name]) for name in estimates}
        | {name: None if value[name] is None else _estimate(value[name]) for name in optional}
        | {"models": tuple(value["models"]), "annotators": None if people is None else _annotators(people)}
    )
    for name in ("metric", "judge", "labels", "at", "by", "evalgate"):
        _require(isinstance(value[name], str), name, "text", value[name])
    _require(isinstance(report.instrument, dict), "instrument", "an object", report.instrument)
    _require(all(isinstance(name, str) for name in report.models), "models", "names", report.models)
    _require(digest(report.instrument) == report.judge, "judge", "the digest of the instrument", report.judge)
    _require(_is_count(report.n) and _is_count(report.right), "n and right", "counts", (report.n, report.right))
    _require(_is_number(report.alpha), "alpha", "a number", report.alpha)
    _require(-1 <= report.kappa.value <= 1, "kappa", "-1 to 1", report.kappa.value)
    return report


def _annotators(value: dict[str, Any]) -> Annotators:
    kappas = {name: _estimate(value[name]) for name in ("kappa", "weighted_kappa")}
    people = Annotators(**value | kappas)
    _require(_is_number(people.alpha) and _is_count(people.n), "annotators", "alpha and n", value)
    return people


def _estimate(value: dict[str, Any]) -> Estimate:
    _require(isinstance(value, dict) and value.keys() == {f.name for f in fields(Estimate)}, "estimate", "one", value)
    _require(all(map(_is_number, value.values())) and _is_count(value["n"]), "estimate", "finite numbers", value)
    return Estimate(**value)


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _require(holds: bool, what: str, expected: str, actual: object) -> None:
    if not holds:
        raise ValueError(f"{what}: expected {expected}, got {str(actual)[:60]!r}")
