"""Eval data: rows of a file or of the suite become samples, or an error that names the line."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from difflib import get_close_matches
from io import BufferedReader
from pathlib import Path
from typing import Any

from evalgate.digest import PREFIX, canonical, digest
from evalgate.errors import SampleError, TaskError
from evalgate.scoring.answer import kind
from evalgate.scoring.structure import parse_strictly
from evalgate.task import JsonLines, Sample, Task

MAX_ROW_BYTES = 1_000_000
MAX_LABEL = 200
MAX_SLICE_VALUES = 50
RESERVE_STEPS = 4  # in which a reserve is drawn, as far as it has so many samples
_BOMS = {b"\xef\xbb\xbf": "UTF-8", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def read_samples(task: Task, where: str, look: int = 0) -> tuple[Sample, ...]:
    """A task's samples and what is drawn of its reserve, sorted by id; the order of the rows changes nothing.

    A file is read line by line, and a line beyond `MAX_ROW_BYTES` is refused unread. Rows given in the suite are held
    to the same rules as if they stood in a file.

    Args:
        task: whose samples, target, slices, cluster, golden ids and scorers say what a row must have.
        where: what messages call rows that stand in no file, such as `suite/task`.
        look: up to which step the reserve is drawn; all of it is read and checked anyhow.

    Raises:
        SampleError: the data is missing, malformed, not what its digest says, or cannot be scored; with file and line.
        TaskError: a field with more than `MAX_SLICE_VALUES` values is declared as a slice.
    """
    source, rows = _rows(task.samples, where)
    places: dict[str, str] = {}
    samples = _read(task, rows, places)
    if not samples:
        raise SampleError("holds no rows", where=source, mend="A task needs at least one sample.")
    _check_together(task, samples, places, source)
    if task.reserve is not None:
        samples |= {name: sample for name, sample in _reserve(task, where, places).items() if sample.look <= look}
    return tuple(samples[name] for name in sorted(samples))


def _read(task: Task, rows: Iterable[tuple[str, str]], places: dict[str, str]) -> dict[str, Sample]:
    """Samples by id, in the order of the rows; `places` learns where each stands, and refuses it a second time."""
    samples: dict[str, Sample] = {}
    for place, text in rows:
        sample = _sample(task, _object(text, place), place)
        if sample.id in places:
            raise SampleError(f"the id {sample.id!r} is also that of {places[sample.id]}", where=place)
        samples[sample.id], places[sample.id] = sample, place
    return samples


def _reserve(task: Task, where: str, places: dict[str, str]) -> dict[str, Sample]:
    """The samples kept back, each with its step: by the digest of its id, so that no order of the data decides."""
    source, rows = _rows(task.reserve or (), f"{where}, reserve")
    samples = _read(task, rows, places)
    if not samples:
        raise SampleError("holds no rows", where=source, mend="Give the reserve samples, or drop reserve=….")
    steps = min(RESERVE_STEPS, len(samples))
    drawn = sorted(samples, key=lambda name: digest(name))
    return {name: replace(samples[name], look=1 + place * steps // len(drawn)) for place, name in enumerate(drawn)}


def last_look(task: Task, where: str) -> int:
    """The step that draws the last of a task's reserve; 0 without one."""
    return 0 if task.reserve is None else min(RESERVE_STEPS, sum(1 for _ in _rows(task.reserve, where)[1]))


def read_labels(task: Task, where: str) -> dict[str, dict[tuple[str, str], float]]:
    """What people say of outputs: metric name to (sample id, output text) to a score in the metric's units.

    Raises:
        SampleError: a row is malformed, labels an output twice, or gives no metric of the task a score in its range.
    """
    metrics = {scorer.name: scorer.metric for scorer in task.scorers}
    found: dict[str, dict[tuple[str, str], float]] = {}
    for place, text in _rows(task.labels or (), f"{where}, labels")[1]:
        row = _object(text, place)
        name, output = _label(row, "id", place, plain_text=True), row.get("output")
        if not isinstance(output, str):
            raise SampleError(f"the field 'output' is {kind(output)}, expected the text that was labelled", where=place)
        preferred = next((s.name for s in task.scorers if s.judge and s.judge.pairwise and s.name in row), None)
        if preferred:  # which is of two outputs: the difference of two labels is no preference
            raise SampleError(f"labels {preferred}, and no single output has a preference", where=place)
        scores = {metric: row[metric] for metric in metrics if metric in row}
        if not scores:
            raise SampleError(f"labels no metric of the task, which has {', '.join(metrics)}", where=place)
        for metric, score in scores.items():
            low, high = metrics[metric].low, metrics[metric].high
            if isinstance(score, bool) or not isinstance(score, int | float) or abs(score) > sys.float_info.max:
                raise SampleError(f"the label of {metric} is {kind(score)}, expected a finite number", where=place)
            if (low is not None and score < low) or (high is not None and score > high):
                raise SampleError(f"the label of {metric} is {score}, expected {low} to {high}", where=place)
            if (name, output) in found.setdefault(metric, {}):
                raise SampleError(f"this output of {name} has a label of {metric} already", where=place)
            found[metric][name, output] = float(score)
    return found


def _rows(data: JsonLines | Iterable[Mapping[str, Any]], where: str) -> tuple[str, Iterator[tuple[str, str]]]:
    """What messages call a source, and its rows."""
    if isinstance(data, JsonLines):
        source = _shown(data.path)
        return source, _file_rows(data, source)
    return where, _suite_rows(data, where)


def read_rows(data: JsonLines | Iterable[Mapping[str, Any]], where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where each row stands, and the row, by the rules that hold for samples (SampleError); ids are not looked at."""
    for place, text in _rows(data, where)[1]:
        yield place, _object(text, place)


def samples_digest(samples: Iterable[Sample]) -> str:
    """`sha256:…` of ids, fields and targets; the order of the samples changes nothing."""
    ordered = sorted(samples, key=lambda sample: sample.id)
    return digest([digest({"id": s.id, "fields": s.fields, "target": s.target}) for s in ordered])


def _shown(path: Path) -> str:
    """A path as people know it: relative where it lies below the working folder."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _file_rows(data: JsonLines, source: str) -> Iterator[tuple[str, str]]:
    """`file:line` and text of each row that is not blank."""
    try:
        with data.path.open("rb") as file:
            if data.digest is not None:
                _check_digest(file, data.digest, source)
            yield from _lines(file, source)
    except FileNotFoundError:
        raise SampleError("there is no such file", where=source, mend=_neighbour(data.path)) from None
    except OSError as error:
        raise SampleError(f"cannot be read: {error.strerror}", where=source) from None


def _neighbour(path: Path) -> str | None:
    if not path.parent.is_dir():
        return f"There is no folder {_shown(path.parent)} either."
    near = get_close_matches(path.name, sorted(other.name for other in path.parent.iterdir()), n=1)
    return f"Did you mean {near[0]}?" if near else None


def _check_digest(file: BufferedReader, expected: str, source: str) -> None:
    actual = PREFIX + hashlib.file_digest(file, "sha256").hexdigest()
    file.seek(0)
    if actual != expected:
        raise SampleError(
            f"the eval data changed: expected {expected}, found {actual}",
            where=source,
            mend=f'If that is meant, write digest="{actual}".',
        )


def _lines(file: BufferedReader, source: str) -> Iterator[tuple[str, str]]:
    offset = number = 0
    while line := file.readline(MAX_ROW_BYTES + 2):
        number += 1
        place = f"{source}:{number}"
        if number == 1:
            _check_encoding(line, place)
        body = line.rstrip(b"\r\n")
        if len(body) > MAX_ROW_BYTES:
            raise SampleError(f"the row is longer than {MAX_ROW_BYTES:,} bytes", where=place)
        try:
            text = body.decode()
        except UnicodeDecodeError as error:
            raise SampleError(
                f"not UTF-8: byte 0x{body[error.start]:02x} at offset {offset + error.start} of the file", where=place
            ) from None
        if text.strip():
            yield place, text
        offset += len(line)


def _check_encoding(line: bytes, place: str) -> None:
    mark = next((name for bom, name in _BOMS.items() if line.startswith(bom)), None)
    if mark == "UTF-8":
        raise SampleError(
            "begins with a byte order mark, expected plain UTF-8", where=place, mend="Save it as UTF-8 without one."
        )
    if mark or b"\0" in line:
        raise SampleError(
            "is UTF-16, expected UTF-8", where=place, mend="iconv -f UTF-16 -t UTF-8 OLD > NEW converts it."
        )


def _suite_rows(rows: Iterable[Mapping[str, Any]], where: str) -> Iterator[tuple[str, str]]:
    """`suite/task, row n` and JSON text of each row, so that both kinds of rows are read by the same rules."""
    for number, row in enumerate(rows, start=1):
        place = f"{where}, row {number}"
        if not isinstance(row, Mapping):
            raise SampleError(f"expected an object, found {kind(row)}", where=place)
        try:
            text = canonical(dict(row))
        except (TypeError, ValueError, RecursionError) as error:
            raise SampleError(f"a row must be JSON values: {error}", where=place) from None
        if len(text.encode("utf-8", "surrogatepass")) > MAX_ROW_BYTES:
            raise SampleError(f"the row is longer than {MAX_ROW_BYTES:,} bytes", where=place)
        yield place, text


def _object(text: str, place: str) -> dict[str, Any]:
    try:
        row = parse_strictly(text)
        if "\\u" in text or not text.isascii():  # the only ways to write half of a surrogate pair, which is no text
            canonical(row).encode()
    except json.JSONDecodeError as error:
        raise SampleError(f"not JSON: {error.msg}", where=f"{place}:{error.colno}") from None
    except UnicodeEncodeError:
        raise SampleError(
            "holds half of a surrogate pair (\\ud800 to \\udfff), which is no text", where=place
        ) from None
    except ValueError as error:
        raise SampleError(f"not JSON: {error}", where=place) from None
    if not isinstance(row, dict):
        raise SampleError(f"expected an object, found {kind(row)}", where=place)
    return row


def _sample(task: Task, row: dict[str, Any], place: str) -> Sample:
    name = _label(row, "id", place, plain_text=True)
    if "\\" in name or not {"", ".", ".."}.isdisjoint(name.split("/")):
        raise SampleError(f"the id {name!r} reads like a path; expected a name, such as sums-0001", where=place)
    if task.target not in row and task.target != "target":
        raise SampleError(
            f"no field {task.target!r}, which is declared as target", where=place, mend=_near(task.target, row)
        )
    sample = Sample(
        id=name,
        fields=row,
        target=row.get(task.target),
        slices={field: _label(row, field, place) for field in task.slices},
        cluster=_label(row, task.cluster, place) if task.cluster is not None else None,
    )
    for scorer in task.scorers:
        if scorer.check and (reason := scorer.check(sample)):
            mend = _near(task.target, row) if task.target not in row else None
            raise SampleError(f"{scorer.name} cannot score sample {name}: {reason}", where=place, mend=mend)
    return sample


def _label(row: Mapping[str, Any], field: str, place: str, *, plain_text: bool = False) -> str:
    """A field that names something, as text: an id, a slice's value or a cluster."""
    if field not in row:
        raise SampleError(f"no field {field!r}", where=place, mend=_near(field, row))
    value = row[field]
    if not isinstance(value, str) and (plain_text or not isinstance(value, int | float)):
        wanted = "a text" if plain_text else "a text, a number, or true or false"
        raise SampleError(f"the field {field!r} is {kind(value)}, expected {wanted}", where=place)
    label = value if isinstance(value, str) else json.dumps(value)
    if not 0 < len(label) <= MAX_LABEL:
        raise SampleError(f"the field {field!r} has {len(label)} characters, expected 1 to {MAX_LABEL}", where=place)
    if not label.isprintable():
        raise SampleError(f"the field {field!r} holds a character that cannot be printed: {label!a}", where=place)
    return label


def _near(field: str, row: Mapping[str, Any]) -> str:
    near = get_close_matches(field, row, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(row) or 'none'}."


def _check_together(task: Task, samples: Mapping[str, Sample], places: Mapping[str, str], source: str) -> None:
    """What no row shows alone: targets of some rows only, slices of too many values, clusters of one, golden ids."""
    bare = next((s for s in samples.values() if task.target not in s.fields), None)
    if bare and any(task.target in s.fields for s in samples.values()):
        raise SampleError(f"no field {task.target!r}, though other rows have one", where=places[bare.id])
    for field in task.slices:
        values = {sample.slices[field] for sample in samples.values()}
        if len(values) > MAX_SLICE_VALUES:
            raise TaskError(
                f"the slice {field!r} has {len(values)} values, expected up to {MAX_SLICE_VALUES}",
                where=source,
                mend="Slice by a field that groups samples.",
            )
    sizes = Counter(sample.cluster for sample in samples.values())
    if task.cluster is not None and len(samples) > 1 and max(sizes.values()) == 1:
        raise SampleError(
            f"clusters with one member each where clusters were promised: {task.cluster!r} has {len(sizes)} values"
            f" in {len(samples)} rows",
            where=source,
            mend="Name the field that says which samples belong together, or drop cluster=….",
        )
    for name in task.golden:
        if name not in samples:
            near = get_close_matches(name, samples, n=1)
            raise SampleError(
                f"the golden sample {name!r} does not exist",
                where=source,
                mend=f"Did you mean {near[0]!r}?" if near else None,
            )
