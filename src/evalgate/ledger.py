"""The ledger: plans before generation, verdicts, acceptances, promotions and rollbacks, chained by their hashes."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from evalgate.digest import canonical, digest
from evalgate.errors import RecordError

Kind = Literal["plan", "verdict", "accept", "promote", "rollback"]
_MEND = "See what is left with `evalgate verify`; restore the file, or move it away to begin a new ledger."


@dataclass(frozen=True, slots=True)
class Entry:
    """One line.

    Attributes:
        n: its number, from 1.
        at: UTC time, ISO 8601.
        kind: what happened.
        previous: hash of the line before, `None` in the first.
        body: what there is to say about it, as JSON values.
        hash: `sha256:…` of the canonical JSON of everything else.
    """

    n: int
    at: str
    kind: str
    previous: str | None
    body: Mapping[str, Any]
    hash: str


class Ledger:
    """A file to which entries are only ever added; a file that is not there is an empty ledger.

    Attributes:
        notes: what a crash had left unfinished and `append` put right, one line each, for people.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: list[str] = []

    def append(self, kind: Kind, body: Mapping[str, Any]) -> Entry:
        """Add an entry; when it returns the entry is on disk.

        Raises:
            RecordError: the last entry is damaged, the body has no JSON, or the disk refused: then nothing was added.
        """
        try:
            with self._locked() as handle:
                data = _content(handle)
                last, end = self._last(data)
                if end < len(data):
                    os.ftruncate(handle, end)
                entry = _entry(last.n + 1 if last else 1, kind, last.hash if last else None, body)
                line = _line(entry)
                if end and not data[:end].endswith(b"\n"):  # a whole entry whose line break a crash had cut off
                    line = b"\n" + line
                try:
                    os.lseek(handle, 0, os.SEEK_END)
                    while line:
                        line = line[os.write(handle, line) :]
                    os.fsync(handle)
                except OSError:
                    with suppress(OSError):
                        os.ftruncate(handle, end)
                    raise
        except OSError as exc:
            mend = "Make room or mend the disk, then run the same command again."
            raise RecordError(f"could not be written: {exc.strerror}", where=str(self.path), mend=mend) from exc
        return entry

    @property
    def head(self) -> str | None:
        """Hash of the last entry, which stands for all before it; `None` without entries (RecordError if damaged)."""
        lines, _ = _split(self._read())
        return _parse(lines[-1], f"{self.path}:{len(lines)}").hash if lines else None

    def entries(self) -> tuple[Entry, ...]:
        """All entries that were finished, oldest first (RecordError where the chain does not hold)."""
        lines, _ = _split(self._read())
        return tuple(self._chain(lines))

    def newest(self, kind: Kind) -> Iterator[Entry]:
        """Finished entries of a kind, the last one first (RecordError at one that was changed).

        Each is held to its own hash; that the chain holds is for `entries` and `verify` to say.
        """
        lines, _ = _split(self._read())
        for number in range(len(lines), 0, -1):
            entry = _parse(lines[number - 1], f"{self.path}:{number}")
            if entry.kind == kind:
                yield entry

    def verify(self, heads: Iterable[str] = ()) -> list[str]:
        """Hash everything again.

        Args:
            heads: heads known from elsewhere (a baseline, a card); one that is gone shows that the end was cut off.

        Returns:
            What is wrong, one line each, first the line at which the chain breaks; nothing where all holds.
        """
        lines, torn = _split(self._read())
        problems: list[str] = []
        hashes: set[str] = set()
        try:
            hashes.update(entry.hash for entry in self._chain(lines))
        except RecordError as exc:
            problems.append(str(exc))
        if torn:
            problems.append(f"{self.path}:{len(lines) + 1}: the last line was never finished")
        return problems + [f"{self.path}: the entry {head} is gone" for head in heads if head not in hashes]

    def _chain(self, lines: Iterable[bytes]) -> Iterator[Entry]:
        previous = None
        for number, line in enumerate(lines, start=1):
            where = f"{self.path}:{number}"
            entry = _parse(line, where)
            if (entry.n, entry.previous) != (number, previous):
                what = f"entry {entry.n} does not follow the line before it: entries were removed, added or moved"
                raise RecordError(what, where=where, mend=_MEND)
            previous = entry.hash
            yield entry

    def _last(self, data: bytes) -> tuple[Entry | None, int]:
        """The last whole entry, and where it ends: what follows is the torn line of a writer that was killed."""
        lines, torn = _split(data)
        end = len(data) - len(torn)
        if torn:
            self.notes.append(f"{self.path}: dropped a line of {len(torn)} bytes that a killed run had not finished")
        return (_parse(lines[-1], f"{self.path}:{len(lines)}") if lines else None), end

    def _read(self) -> bytes:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as exc:
            raise RecordError(
                f"could not be read: {exc.strerror}", where=str(self.path), mend="Check the path."
            ) from exc

    @contextmanager
    def _locked(self) -> Iterator[int]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield handle
        finally:
            os.close(handle)


def _content(handle: int) -> bytes:
    return b"".join(iter(lambda: os.read(handle, 1 << 20), b""))


def _entry(n: int, kind: Kind, previous: str | None, body: Mapping[str, Any]) -> Entry:
    try:
        content = json.loads(canonical(body))  # the hash must be that of what is read back
    except (TypeError, ValueError, RecursionError) as exc:
        raise RecordError(
            f"the ledger cannot hold this {kind}: {exc}", mend="It holds texts and finite numbers."
        ) from exc
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    unsealed = {"n": n, "at": at, "kind": kind, "previous": previous, "body": content}
    return Entry(**unsealed, hash=digest(unsealed))


def _line(entry: Entry) -> bytes:
    # Half an emoji (a lone surrogate) is no UTF-8: backslashreplace writes it as JSON's own escape.
    return canonical(asdict(entry)).encode("utf-8", "backslashreplace") + b"\n"


def _split(data: bytes) -> tuple[list[bytes], bytes]:
    """The lines, and what a killed writer left of the next one: an entry lacking only its line break is a line."""
    *lines, rest = data.split(b"\n")
    if rest:
        try:
            _parse(rest, "")
        except RecordError:
            return lines, rest
        return [*lines, rest], b""
    return lines, b""


def _parse(line: bytes, where: str) -> Entry:
    try:
        value = json.loads(line.decode("utf-8"))
        entry = Entry(**value)
        intact = digest({name: part for name, part in value.items() if name != "hash"}) == entry.hash
    except (TypeError, ValueError, RecursionError) as exc:
        raise RecordError(f"is no entry of a ledger: {exc}", where=where, mend=_MEND) from exc
    if not intact:
        raise RecordError("the entry was changed after it was written: its hash differs", where=where, mend=_MEND)
    return entry
