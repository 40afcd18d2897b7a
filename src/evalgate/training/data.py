"""Training data: rows of JSON Lines files, checked, shuffled, split and known by their digests."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from evalgate.digest import PREFIX, canonical, digest, short
from evalgate.errors import ConfigError, SampleError, TrainingError
from evalgate.scoring.answer import kind
from evalgate.scoring.structure import parse_strictly
from evalgate.training.schema import TrainingConfig
from evalgate.version import DataFile

MAX_ROW_BYTES = 10_000_000
TRAIN, HELD_OUT = "train.jsonl", "held_out.jsonl"
PROMPT_COMPLETION, MESSAGES = "prompt-completion", "messages"
ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class RowDigest:
    """Which row it is: file, line and 16 hex digits of what is trained on of it."""

    file: str
    line: int
    digest: str

    @property
    def where(self) -> str:
        """`file:line`."""
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What a model is trained on.

    Attributes:
        rows: in the order in which they were kept: `{"prompt", "completion"}` or `{"messages"}`, and nothing else.
        held_out: rows that the loss on unseen data is taken on.
        files: where they come from and what was done to them.
        digest: of all kept rows in their order, and of which are held out; the names of files don't matter to it.
        row_digests: of `rows`, then of `held_out`, in their order.
    """

    rows: tuple[Mapping[str, Any], ...]
    held_out: tuple[Mapping[str, Any], ...]
    files: tuple[DataFile, ...]
    digest: str
    row_digests: tuple[RowDigest, ...]

    def texts(self) -> Iterator[tuple[str, str]]:
        """`file:line` and text of every row that is trained on, for the search for leaked eval samples."""
        for row, place in zip(self.rows, self.row_digests, strict=False):
            yield place.where, _text(row)

    def rows_text(self) -> str:
        """A line `digest file:line` for every row that is trained on, in order: what `diff` names changed rows by."""
        return "".join(f"{row.digest} {row.where}\n" for row in self.row_digests[: len(self.rows)])

    def write(self, folder: Path) -> None:
        """Write `train.jsonl`, and `held_out.jsonl` where rows are held out, each whole or not at all.

        Raises:
            TrainingError: the disk refused.
        """
        _write(folder / TRAIN, self.rows)
        if self.held_out:
            _write(folder / HELD_OUT, self.held_out)


@dataclass(frozen=True, slots=True)
class _Row:
    file: int
    line: int
    content: Mapping[str, Any]
    digest: str


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    digest: str
    format: str
    rows: tuple[_Row, ...]
    steps: tuple[str, ...]


def read_data(config: TrainingConfig, root: Path) -> TrainingData:
    """Read, check, shuffle and split the rows of a configuration's files.

    The order comes from `random.Random(seed).random()`, the one method whose numbers Python promises never to change:
    each row gets a number, and the rows are sorted by them.

    Args:
        config: from `load_training`.
        root: of the project.

    Raises:
        SampleError: a file or row that cannot be trained on, with file and line.
        ConfigError: fewer rows than are asked for, or none left to train on.
    """
    files = [_read(root / name, number, name) for number, name in enumerate(config.data.files)]
    _require_one_format(files)
    rows = [row for file in files for row in file.rows]
    wanted = config.data.rows
    if wanted is not None and wanted > len(rows):
        raise ConfigError(f"data.rows = {wanted}: the files hold {len(rows)}", where="data.rows")
    kept = _shuffled(rows, config.data.shuffle_seed)[:wanted]
    train, held_out = _split(kept, config.data.held_out, config.data.split_seed)
    return TrainingData(
        rows=tuple(row.content for row in train),
        held_out=tuple(row.content for row in held_out),
        files=tuple(_described(file, number, train, held_out, config) for number, file in enumerate(files)),
        digest=digest({"rows": [row.digest for row in train], "held_out": [row.digest for row in held_out]}),
        row_digests=tuple(RowDigest(files[row.file].path, row.line, short(row.digest, 16)) for row in train + held_out),
    )


def _shuffled(rows: list[_Row], seed: int) -> list[_Row]:
    rng = Random(seed)  # noqa: S311 (an order, no secret)
    keys = [rng.random() for _ in rows]
    return [rows[index] for index in sorted(range(len(rows)), key=keys.__getitem__)]


def _split(rows: list[_Row], share: float, seed: int) -> tuple[list[_Row], list[_Row]]:
    """Training and held-out rows, both in the order of `rows`; a share above 0 holds out one row at least."""
    if not share:
        return rows, []
    size = max(1, round(share * len(rows)))
    if size >= len(rows):
        raise ConfigError(
            f"data.held_out = {share:g} of {len(rows)} rows leaves none to train on",
            where="data.held_out",
            mend="Hold out less, or give more rows.",
        )
    chosen = {id(row) for row in _shuffled(rows, seed)[:size]}
    return [row for row in rows if id(row) not in chosen], [row for row in rows if id(row) in chosen]


def _described(file: _File, number: int, train: list[_Row], held_out: list[_Row], config: TrainingConfig) -> DataFile:
    kept, unseen = (sum(row.file == number for row in rows) for rows in (train, held_out))
    steps = [*file.steps, f"shuffled with seed {config.data.shuffle_seed}"]
    if config.data.rows is not None:
        steps.append(f"the first {config.data.rows} rows of all files: {kept + unseen} of {len(file.rows)}")
    if held_out:
        steps.append(
            f"held out {config.data.held_out:g} of all files with seed {config.data.split_seed}: {unseen} rows"
        )
    return DataFile(file.path, file.digest, len(file.rows), kept, file.format, tuple(steps))


def _require_one_format(files: list[_File]) -> None:
    """The trainer prepares a data set by its first row: others of another format would be read as empty."""
    for file in files[1:]:
        if file.format != files[0].format:
            raise SampleError(
                f"holds {file.format} rows, and {files[0].path} {files[0].format} rows",
                where=file.path,
                mend="Train on one format: write messages as prompt and completion, or prompts as messages.",
            )


def _read(path: Path, number: int, name: str) -> _File:
    rows: list[_Row] = []
    ignored, seen = Counter[str](), Counter[str]()
    content, form = hashlib.sha256(), ""
    for line, row in _objects(path, name, content.update):
        place = f"{name}:{line}"
        this = _format(row, place)
        if form and this != form:
            raise SampleError(f"a {this} row in a file of {form} rows", where=place, mend="Keep one format in a file.")
        form = this
        trained = _FORMATS[form](row, place)
        ignored.update(key for key in row if key not in trained)
        rows.append(_Row(number, line, trained, digest(trained)))
        seen[rows[-1].digest] += 1
    if not rows:
        raise SampleError("holds no rows", where=name, mend="Training needs at least one.")
    steps = []
    if ignored:
        steps.append(f"ignored the keys {', '.join(sorted(ignored))}")
    if doubled := seen.total() - len(seen):
        steps.append(f"kept {doubled} rows that repeat another")
    return _File(name, PREFIX + content.hexdigest(), form, tuple(rows), tuple(steps))


def _objects(path: Path, name: str, seen: Callable[[bytes], None]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and object of each row that is not blank; `seen` gets every byte that they are read from."""
    try:
        with path.open("rb") as file:
            number = offset = 0
            while line := file.readline(MAX_ROW_BYTES + 2):
                number += 1
                seen(line)
                text = _decoded(line, offset, f"{name}:{number}")
                offset += len(line)
                if text.strip():
                    yield number, _object(text, f"{name}:{number}")
    except OSError as error:
        raise SampleError(f"cannot be read: {error.strerror}", where=name) from None


def _decoded(line: bytes, offset: int, place: str) -> str:
    body = line.rstrip(b"\r\n")
    if len(body) > MAX_ROW_BYTES:
        raise SampleError(f"the row is longer than {MAX_ROW_BYTES:,} bytes", where=place)
    if offset == 0 and line.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        mend = "Save it as UTF-8 without a byte order mark."
        raise SampleError("begins with a byte order mark, expected plain UTF-8", where=place, mend=mend)
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise SampleError(
            f"not UTF-8: byte 0x{body[error.start]:02x} at offset {offset + error.start} of the file", where=place
        ) from None


def _object(text: str, place: str) -> dict[str, Any]:
    try:
        row = parse_strictly(text)
        canonical(row).encode()
    except json.JSONDecodeError as error:
        raise SampleError(f"not JSON: {error.msg}", where=f"{place}:{error.colno}") from None
    except UnicodeEncodeError:
        raise SampleError("holds half of a surrogate pair, which is no text", where=place) from None
    except ValueError as error:
        raise SampleError(f"not JSON: {error}", where=place) from None
    if not isinstance(row, dict):
        raise SampleError(f"expected an object, found {kind(row)}", where=place)
    return row


def _format(row: Mapping[str, Any], place: str) -> str:
    chat, plain = "messages" in row, "prompt" in row or "completion" in row
    if chat == plain:
        found = "both" if chat else f"it has {', '.join(row) or 'no keys'}"
        what = f"expected 'prompt' and 'completion', or 'messages'; {found}"
        raise SampleError(what, where=place, mend='{"prompt": "…", "completion": "…"}')
    return MESSAGES if chat else PROMPT_COMPLETION


def _prompt_completion(row: Mapping[str, Any], place: str) -> dict[str, Any]:
    return {field: _filled(row, field, place) for field in ("prompt", "completion")}


def _messages(row: Mapping[str, Any], place: str) -> dict[str, Any]:
    messages = row["messages"]
    if not isinstance(messages, list):
        raise SampleError(f"the field 'messages' is {kind(messages)}, expected a list", where=place)
    turns = [_turn(message, f"{place}, message {number}") for number, message in enumerate(messages, start=1)]
    if not turns or turns[-1]["role"] != "assistant":
        found = f"the last is the {turns[-1]['role']}'s" if turns else "there are none"
        raise SampleError(f"the messages must end with the assistant's, which is what is learned; {found}", where=place)
    return {"messages": turns}


def _turn(message: Any, place: str) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise SampleError(f"expected an object with role and content, found {kind(message)}", where=place)
    if strange := sorted(set(message) - {"role", "content"}):
        raise SampleError(
            f"has {', '.join(map(repr, strange))} beside role and content, which would not be trained on", where=place
        )
    role = _filled(message, "role", place)
    if role not in ROLES:
        raise SampleError(f"the role {role[:40]!a} is unknown, expected one of {', '.join(ROLES)}", where=place)
    return {"role": role, "content": _filled(message, "content", place)}


_FORMATS: Mapping[str, Callable[[Mapping[str, Any], str], dict[str, Any]]] = {
    PROMPT_COMPLETION: _prompt_completion,
    MESSAGES: _messages,
}


def _filled(row: Mapping[str, Any], field: str, place: str) -> str:
    if field not in row:
        raise SampleError(f"no field {field!r}", where=place)
    value = row[field]
    if not isinstance(value, str):
        raise SampleError(f"the field {field!r} is {kind(value)}, expected a text", where=place)
    if not value.strip():
        raise SampleError(f"the field {field!r} is empty", where=place)
    return value


def _text(row: Mapping[str, Any]) -> str:
    if "messages" in row:
        return "\n".join(turn["content"] for turn in row["messages"])
    return f"{row['prompt']}{row['completion']}"


def _write(path: Path, rows: tuple[Mapping[str, Any], ...]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        mend = "Make room or mend the disk, then run the same command again."
        raise TrainingError(f"could not be written: {error.strerror}", where=str(path), mend=mend) from error
