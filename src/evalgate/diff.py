"""Two versions side by side: settings, data by row, parents, code, environment, and weights by their own headers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evalgate.digest import digest, short
from evalgate.errors import CheckpointError
from evalgate.preflight import DigestMemo, adapter, read_checkpoint
from evalgate.preflight.files import Folder, open_folder
from evalgate.preflight.shape import WeightShape, read_shape
from evalgate.preflight.view import allowed_files
from evalgate.version import LINEAGE, Lineage
from evalgate.versions import file_digest, read_lineage

ROWS = "evalgate.rows.txt"
"""A line `digest file:line` for every row that was trained on."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that differs; `None` is what is not there."""

    what: str
    a: Any
    b: Any


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs between two folders.

    Attributes:
        a, b: as they were named.
        sections: title to what differs there; those in which nothing does are left out.
        unknown: what could not be compared and why, one line each.
        identified: whether the content of both is known, so that finding no difference means that there is none.
    """

    a: str
    b: str
    sections: Mapping[str, tuple[Change, ...]]
    unknown: tuple[str, ...]
    identified: bool

    def __bool__(self) -> bool:
        return bool(self.sections)

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        sections = {title: [asdict(change) for change in changes] for title, changes in self.sections.items()}
        return {
            "a": self.a,
            "b": self.b,
            "same": self.identified and not self,
            "differs": sections,
            "unknown": list(self.unknown),
        }


@dataclass(frozen=True, slots=True)
class _Side:
    shown: str
    lineage: Lineage | None
    identity: Mapping[str, Any]
    files: Mapping[str, str]
    shape: WeightShape | None
    rows: tuple[tuple[str, str], ...] | None


def diff(a: Path, b: Path, *, base: Path | None = None, memo: DigestMemo | None = None) -> Difference:
    """Compare two folders: versions, or what any trainer saved.

    Args:
        a: one of them.
        b: the other.
        base: where the base of adapters lies, if they do not say so themselves.
        memo: digests of files read before.

    Raises:
        CheckpointError: one of them is no folder.
        RecordError: one of them has a damaged `evalgate.json`.
    """
    unknown: list[str] = []
    one, two = (_side(folder, base, memo, unknown) for folder in (a, b))
    sections: dict[str, tuple[Change, ...]] = {}
    if identified := bool(one.identity and two.identity):
        common = one.identity.keys() & two.identity.keys()
        sections["content"] = _changes(*({k: v for k, v in x.identity.items() if k in common} for x in (one, two)))
    if one.shape and two.shape:
        sections |= {"weights": tuple(_weights(one.shape, two.shape)), "files": _changes(one.files, two.files)}
    if one.lineage and two.lineage:
        sections |= _lineages(one.lineage, two.lineage, unknown)
        sections["rows"] = tuple(_rows(one, two, unknown))
    differing = {title: changes for title, changes in sections.items() if changes}
    return Difference(one.shown, two.shown, differing, tuple(unknown), identified)


def _side(folder: Path, base: Path | None, memo: DigestMemo | None, unknown: list[str]) -> _Side:
    shown = str(folder)
    found = open_folder(folder)
    lineage = read_lineage(folder) if LINEAGE in found.files else None
    if lineage is None:
        unknown.append(f"{shown} has no {LINEAGE}: its configuration, data, parent, code and environment are not known")
    identity: dict[str, Any] = {"digest": lineage.digest, "kind": lineage.kind} if lineage else {}
    try:
        checkpoint = read_checkpoint(folder, base=base, memo=memo)
        if lineage and lineage.digest != checkpoint.digest:
            unknown.append(f"{shown} was changed after it was published: {LINEAGE} speaks of other content")
        identity = {"digest": checkpoint.digest, **checkpoint.identity}
    except CheckpointError as error:
        instead = f"only {LINEAGE} says what its content is" if lineage else "nothing says what its content is"
        unknown.append(f"{shown} is not sound, and {instead}: {error}")
    try:
        shape = read_shape(folder)
    except CheckpointError as error:
        unknown.append(f"the weights of {shown} cannot be read: {error}")
        shape = None
    files = {name: _file(found, name) for name in allowed_files(found)} if shape else {}
    rows = None
    if lineage and ROWS in found.files:
        lines = (line.split(" ", 1) for line in found.text(ROWS, 1 << 30).splitlines())
        rows = tuple((line[0], line[-1]) for line in lines)
    return _Side(shown, lineage, identity, files, shape, rows)


def _file(folder: Folder, name: str) -> str:
    """Of a file's bytes; of what an adapter's configuration means, which trainers write in any order."""
    if name == adapter.CONFIG:
        return digest(adapter.canonical_config(adapter.read_adapter_config(folder)))
    return file_digest(folder.files[name])


def _lineages(a: Lineage, b: Lineage, unknown: list[str]) -> dict[str, tuple[Change, ...]]:
    sections = {
        "parent": _changes(*(_of(each.parent) for each in (a, b))),
        "code": _changes(a.code, b.code),
        "environment": _changes(a.environment, b.environment),
        "progress": _changes(*({"epoch": each.epoch, "step": each.step} for each in (a, b))),
    }
    if a.training is None or b.training is None:
        for each in (a, b):
            if each.training is None:
                unknown.append(f"{each.name} was published without its configuration and data")
        return sections
    runs = (a.training, b.training)
    return {
        "configuration": _changes(*(each.config for each in runs)),
        "data": _changes(*({"digest": each.data_digest, **_files(each.data)} for each in runs)),
        "result": _changes(
            *({"loss": each.losses[-1] if each.losses else None, "held_out": each.held_out_loss} for each in runs)
        ),
        **sections,
    }


def _of(value: Any) -> dict[str, Any]:
    return asdict(value) if value else {}


def _files(data: Any) -> dict[str, Any]:
    return {each.path: {"digest": each.digest, "rows": each.rows, "kept": each.kept} for each in data}


def _changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[Change, ...]:
    """Leaves that differ, by their dotted names, in the order in which they are met."""
    one, two = dict(_flat(a)), dict(_flat(b))
    return tuple(
        Change(key, one.get(key), two.get(key)) for key in dict.fromkeys([*one, *two]) if one.get(key) != two.get(key)
    )


def _flat(value: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, below in value.items():
        if isinstance(below, Mapping) and below:
            yield from _flat(below, f"{above}{key}.")
        else:
            yield above + key, list(below) if isinstance(below, tuple) else below


def _weights(a: WeightShape, b: WeightShape) -> Iterator[Change]:
    """What the headers of the weights say differently."""
    yield from _changes({"parameters": a.parameters}, {"parameters": b.parameters})
    ranks, modules = zip(*((sorted(set(x.ranks.values())), sorted(x.targets)) for x in (a, b)), strict=True)
    dtypes = (sorted({dtype for dtype, _ in each.tensors.values()}) for each in (a, b))
    for what, (one, two) in (("LoRA rank", ranks), ("LoRA modules", modules), ("dtype", dtypes)):
        if one != two:
            yield Change(what, _one_or_all(one), _one_or_all(two))
    if a.ranks.keys() != b.ranks.keys() or max(map(len, ranks)) > 1:  # else the line above says it of every module
        yield from (Change(f"rank of {c.what}", c.a, c.b) for c in _changes(a.ranks, b.ranks))
    others = ({k: f"{t[0]}{list(t[1])}" for k, t in x.tensors.items() if ".lora_" not in k} for x in (a, b))
    yield from (Change(f"tensor {c.what}", c.a, c.b) for c in _changes(*others))


def _one_or_all(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values or None


def _rows(a: _Side, b: _Side, unknown: list[str]) -> Iterator[Change]:
    """Rows that only one was trained on, by content; a row that only moved to another line is the same."""
    digests = [side.lineage.training.data_digest for side in (a, b) if side.lineage and side.lineage.training]
    for side in (a, b):
        if side.rows is None and len(set(digests)) > 1:
            unknown.append(f"{side.shown} has no {ROWS}: the rows that differ cannot be named")
    if a.rows is None or b.rows is None or a.rows == b.rows:
        return
    gone, come = _left(a.rows, b.rows), _left(b.rows, a.rows)
    for place in dict.fromkeys([*gone, *come]):
        yield Change(place, gone.get(place), come.get(place))
    if not gone and not come:
        yield Change("order of rows", a.rows[0][1], b.rows[0][1])


def _left(rows: tuple[tuple[str, str], ...], without: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Place to digest of the rows that the other does not have."""
    there = Counter(content for content, _ in without)
    left = {}
    for content, place in rows:
        if there[content]:
            there[content] -= 1
        else:
            left[place] = short(content, 16)
    return left
