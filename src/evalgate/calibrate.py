"""Calibrating a judge: it judges answers that people have labelled, twice, and what comes of it is measured."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalgate import __version__, text
from evalgate.calibration import FOLDER, Annotators, Report
from evalgate.digest import digest
from evalgate.errors import JudgeError, SampleError, TaskError
from evalgate.instrument import Case, Instrument, Judgement
from evalgate.report.terminal import safe
from evalgate.samples import read_rows
from evalgate.scoring.answer import kind
from evalgate.stats import (
    Estimate,
    cohen_kappa,
    flip_rate,
    krippendorff_alpha,
    position_consistency,
    require_evalica,
    side_error,
    true_rates,
    weighted_kappa,
)
from evalgate.store import write_atomically
from evalgate.task import JsonLines

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MIN_LABELS = 30  # fewer say next to nothing of kappa: its interval is then about .6 wide
SIDES = ("baseline", "candidate")
Judge = Callable[[Sequence[Case]], Mapping[str, Judgement]]
"""Cases to judgements by case id; it may answer from a cache, or ask anew."""
# What `judges.native` says of a preference: who won with either answer first.
_ORDERS = re.compile(r"\b(candidate|baseline) first: (the candidate|the baseline|neither)\b")
_WINS = {"the candidate": 1.0, "the baseline": 0.0, "neither": 0.5}


@dataclass(frozen=True, slots=True)
class Labelled:
    """One answer with what people say of it.

    Attributes:
        case: as the judge is shown it.
        label: in the units of the scale.
        second: another person's label, where there is one.
        side: `candidate` or `baseline`, where the labels say whose answer it is.
    """

    case: Case
    label: float
    second: float | None = None
    side: str | None = None


def read_labelled(
    instrument: Instrument, labels: Path | Iterable[Mapping[str, Any]]
) -> tuple[tuple[Labelled, ...], str]:
    """Labelled answers, and the digest of all their rows, in which the order counts for nothing.

    Args:
        instrument: says which fields a row must have and what a label may be.
        labels: a JSON Lines file, or rows: `id`, `question`, `answer`, `label` in the units of the scale, `reference`
            and the fields that the instrument is shown; `other` for preferences, whose labels are 1 (the answer is
            better), 0 (the other) or .5; where known `label_2`, of another person, and `side`.

    Raises:
        SampleError: rows are malformed, doubled, outside the scale, fewer than `MIN_LABELS`, or of one class only.
    """
    source = JsonLines(labels) if isinstance(labels, Path) else tuple(labels)
    where = str(labels) if isinstance(labels, Path) else "labels"
    rows: list[tuple[str, str]] = []
    found: dict[str, Labelled] = {}
    places: dict[str, str] = {}
    for place, row in read_rows(source, where):
        labelled = _labelled(instrument, row, place)
        for what, key in (("id", f"id {labelled.case.sample}"), ("question and answer", labelled.case.id)):
            if key in places:
                raise SampleError(f"has the {what} of {places[key]}: label each answer once", where=place)
            places[key] = place
        found[labelled.case.id] = labelled
        rows.append((labelled.case.sample, digest(row)))
    _check_together(instrument, tuple(found.values()), where)
    return tuple(found.values()), digest([content for _, content in sorted(rows)])


def _labelled(instrument: Instrument, row: Mapping[str, Any], place: str) -> Labelled:
    missing = [name for name in instrument.fields if name not in row]
    if missing:
        raise SampleError(f"no field {missing[0]!r}, which the judge is shown", where=place)
    side = row.get("side")
    if side is not None and side not in SIDES:
        raise SampleError(f"the side is {side!r:.40}, expected {' or '.join(SIDES)}", where=place)
    return Labelled(
        case=Case(
            sample=_text(row, "id", place),
            question=_text(row, "question", place),
            answer=_text(row, "answer", place),
            reference=_text(row, "reference", place) if instrument.reference else None,
            fields={name: row[name] for name in instrument.fields},
            other=_text(row, "other", place) if instrument.pairwise else None,
        ),
        label=_label(instrument, row, "label", place),
        second=_label(instrument, row, "label_2", place) if row.get("label_2") is not None else None,
        side=side,
    )


def _text(row: Mapping[str, Any], field: str, place: str) -> str:
    value = row.get(field)
    if not isinstance(value, str):
        found = kind(value) if field in row else "not there"
        raise SampleError(f"the field {field!r} is {found}, expected text", where=place)
    return value


def _label(instrument: Instrument, row: Mapping[str, Any], field: str, place: str) -> float:
    value = row.get(field)
    if isinstance(value, bool) or not isinstance(value, int | float):
        found = kind(value) if field in row else "not there"
        raise SampleError(f"the field {field!r} is {found}, expected a number", where=place)
    if instrument.pairwise and value not in (0, 0.5, 1):
        raise SampleError(f"the {field} is {value}, expected 1 (the answer is better), 0 or 0.5", where=place)
    if not instrument.low <= value <= instrument.high:
        scale = f"{instrument.low:g} to {instrument.high:g}"
        raise SampleError(f"the {field} is {value}, outside the judge's scale of {scale}", where=place)
    return float(value)


def _check_together(instrument: Instrument, found: Sequence[Labelled], where: str) -> None:
    if len(found) < MIN_LABELS:
        raise SampleError(f"{len(found)} labelled answers, expected {MIN_LABELS} at least", where=where)
    right = sum(each.label > _middle(instrument) for each in found)
    if right in (0, len(found)):
        said = f"people call {'every' if right else 'no'} answer right (above {_middle(instrument):g})"
        raise SampleError(
            f"{said}: a judge that always says the same would agree",
            where=where,
            mend="Label answers of both kinds, about as often as they occur.",
        )
    sides = {side: sum(each.side == side for each in found) for side in SIDES}
    if any(sides.values()) and (sum(sides.values()) < len(found) or min(sides.values()) < 2):
        told = ", ".join(f"{count} of the {side}'s" for side, count in sides.items())
        raise SampleError(
            f"of {len(found)} answers {told}", where=where, mend="Say the side of every answer, and label both sides."
        )


def _middle(instrument: Instrument) -> float:
    return (instrument.low + instrument.high) / 2


def calibrate(
    instrument: Instrument,
    labels: Path | Iterable[Mapping[str, Any]],
    judge: Judge,
    again: Judge,
    *,
    metric: str,
    names: Sequence[str],
    by: str,
) -> Report:
    """Measure how far a judge agrees with people and with itself.

    Args:
        instrument: bound to its models.
        labels: see `read_labelled`.
        judge: asked for every labelled answer.
        again: asked the same a second time, past any cache.
        metric: `suite/task::metric` that it is measured for.
        names: what the settings call its models.
        by: who measures.

    Raises:
        TaskError: the instrument is bound to no models.
        SampleError: see `read_labelled`.
        JudgeError: a judgement is an error: nothing is left out, so nothing is measured.
        MissingExtraError: evalica is not installed.
    """
    if instrument.identity is None:
        raise TaskError("the judge is bound to no models", where=metric)
    require_evalica()
    import numpy as np

    found, labels_digest = read_labelled(instrument, labels)
    cases = [each.case for each in found]
    human = np.array([each.label for each in found])
    judgements = _judged(instrument, judge, cases)
    seen = _values(judgements)
    middle = _middle(instrument)
    right, called = human > middle, seen > middle
    positive, negative = true_rates(right, called)
    of_candidate = [each.side == "candidate" for each in found]
    return Report(
        metric=metric,
        judge=instrument.digest,
        instrument=instrument.content,
        models=tuple(names),
        labels=labels_digest,
        n=len(found),
        right=int(right.sum()),
        kappa=cohen_kappa(right, called),
        weighted_kappa=weighted_kappa(human, seen),
        alpha=_alpha(instrument, human, seen),
        true_positive=positive,
        true_negative=negative,
        flips=flip_rate(seen, _values(_judged(instrument, again, cases)), middle=middle),
        positions=_positions(judgements) if instrument.pairwise else None,
        side_error=side_error(seen, human, of_candidate) if found[0].side else None,
        annotators=_annotators(instrument, found),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        by=by,
        evalgate=__version__,
    )


def _judged(instrument: Instrument, judge: Judge, cases: Sequence[Case]) -> list[Judgement]:
    """One judgement per case, in their order (JudgeError where one is missing, an error, or no value of the scale)."""
    judgements = judge(cases)
    found: list[Judgement] = []
    faults: list[str] = []
    for case in cases:
        judgement = judgements.get(case.id)
        value = judgement.value if judgement else None
        if judgement and value is not None and instrument.low <= value <= instrument.high:  # NaN is nowhere between
            found.append(judgement)
        else:
            why = "the judge said nothing of it" if judgement is None else f"{value!r} is no value of the scale"
            faults.append((judgement.error if judgement else None) or f"sample {case.sample}: {why}")
    if faults:
        what = f"{len(faults)} of {len(cases)} labelled answers have no judgement, the first: {safe(faults[0], 400)}"
        raise JudgeError(what, mend="Mend the judge and measure again: answers that it fails on are not left out.")
    return found


def _values(judgements: Sequence[Judgement]) -> npt.NDArray[np.float64]:
    import numpy as np

    return np.array([judgement.value for judgement in judgements], dtype=np.float64)


def _positions(judgements: Sequence[Judgement]) -> Estimate | None:
    """Of all preferences, of each model of a panel, the share that both orders agree on; `None` if not all say so."""
    said = [_ORDERS.findall(judgement.explanation or "") for judgement in judgements]
    if not all(said):
        return None
    found = [(order, _WINS[winner]) for each in said for order, winner in each]
    first, second = ([win for order, win in found if order == side] for side in ("candidate", "baseline"))
    return position_consistency(first, second)


def _alpha(instrument: Instrument, *raters: npt.NDArray[np.float64]) -> float:
    """Krippendorff's alpha, to a hundredth of the scale: its time grows with the number of different values."""
    unit = (instrument.high - instrument.low) / 100
    return krippendorff_alpha([(values / unit).round() for values in raters])


def _annotators(instrument: Instrument, found: Sequence[Labelled]) -> Annotators | None:
    """How far two people agree; `None` where no second one labelled, or both call everything the same."""
    import numpy as np

    both = [(each.label, each.second) for each in found if each.second is not None]
    middle = _middle(instrument)
    if len({label > middle for pair in both for label in pair}) < 2:
        return None
    first, second = np.array(both, dtype=np.float64).T
    return Annotators(
        kappa=cohen_kappa(first > middle, second > middle),
        weighted_kappa=weighted_kappa(first, second),
        alpha=_alpha(instrument, first, second),
        n=len(both),
    )


def write_calibration(folder: Path, report: Report) -> Path:
    """Put a calibration below the folder of its suite, over what was measured of this judge before.

    Raises:
        RecordError: the disk refused; what was there before is untouched.
    """
    path = folder / FOLDER / report.name
    write_atomically(path, report.as_bytes())
    return path


def verdict(report: Report, floor: float) -> tuple[bool, str]:
    """Whether a metric of this judge may block, and the sentence that says so."""
    kappa, may = report.kappa, report.kappa.value >= floor
    numbers = f"kappa {text.share(kappa.value)} [{text.share(kappa.low)}, {text.share(kappa.high)}]"
    said = "may block" if may else "may not block"
    return may, f"{numbers} on {report.n} labels: {said} (floor {text.share(floor)})"
