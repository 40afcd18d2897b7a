"""The cache: every finished answer in one SQLite file, which is how a killed run goes on where it was.

A row keeps the key, the material that the key is made of, the value and a digest over all three, as JSON.
A row that does not verify is a miss, never an answer. The file can always be rebuilt: a damaged one is set aside.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import math
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from evalgate.digest import PREFIX, canonical, digest
from evalgate.errors import EngineError, RecordError
from evalgate.request import Completion, Request

BATCH = 200
"""Answers per transaction: what a kill can cost at most is one batch that was not yet acknowledged."""

_APPLICATION = 0x45564741  # "EVGA", in SQLite's header: tells our file from another program's
_VERSION = 1
_SCHEMA = """CREATE TABLE IF NOT EXISTS entries
    (kind TEXT, key TEXT, material BLOB, value BLOB, digest TEXT, at INTEGER, PRIMARY KEY (kind, key))"""

_OUTSIDE = {  # what SQLite says when not the content is at fault
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
}

T = TypeVar("T")
StatKey = tuple[str, int, int, int]
"""Path, size, time of the last change in nanoseconds and inode of a file."""


def cache_key(request: Request, engine_identity: str) -> str:
    """Key of an answer: digest of the request's id and the engine's identity (itself a digest)."""
    return digest({"request": request.id, "engine": engine_identity})


class Cache:
    """Answers, environments and memos in one file; several processes and threads may use it at once.

    Attributes:
        bad: rows met that did not verify, and were misses.
        notes: what was found damaged and set aside, one line each, for people.
        files: digests of files that were read before.

    Raises:
        RecordError: the disk refuses (full, read-only, held by another process for half a minute); from every method.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bad = 0
        self.notes: list[str] = []
        self.files = FileMemo(self)
        self._lock = threading.RLock()
        self._database: sqlite3.Connection | None = None
        self._inode = 0
        self._run(lambda database: None)

    def __enter__(self) -> Cache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; the next use opens it again."""
        with self._lock:
            if self._database:
                with suppress(sqlite3.Error):
                    self._database.close()
            self._database = None

    # -- answers -------------------------------------------------------------------------------------------------------

    def get(self, keys: Iterable[str]) -> dict[str, Completion]:
        """The answers there are to these keys (see `cache_key`)."""
        found = {}
        for key, material, value in self.select("completion", keys):
            completion = _completion(material, value, key)
            if completion:
                found[key] = completion
            else:
                self.bad += 1
        return found

    def put(self, entries: Iterable[tuple[Request, Completion]], engine_identity: str) -> None:
        """Keep answers; when it returns they survive a kill of the process. Errors are no answers and are left out.

        Raises:
            EngineError: a completion that answers another request.
        """
        rows = (row for entry in entries if (row := _answer(*entry, engine_identity)))
        while batch := list(itertools.islice(rows, BATCH)):
            self.insert("completion", batch)

    def forget(self, requests: Iterable[Request], engine_identity: str) -> None:
        """Keep the answers to these requests no longer: they are asked again."""
        self.drop("completion", [cache_key(request, engine_identity) for request in requests])

    # -- rendered chat prompts -----------------------------------------------------------------------------------------

    def get_texts(self, keys: Iterable[str]) -> dict[str, str]:
        """The rendered chat prompts there are, by the digest of everything that they are made of."""
        return {key: value for key, _, value in self.select("text", keys)}

    def put_texts(self, texts: Mapping[str, str]) -> None:
        """Keep rendered chat prompts."""
        self.insert("text", [(key, None, text) for key, text in texts.items()])

    # -- environments --------------------------------------------------------------------------------------------------

    def put_environment(self, engine_identity: str, checkpoint: str, environment: Mapping[str, Any]) -> None:
        """Keep what the worker reported, so that a run answered from here records the same environment."""
        material = {"engine": engine_identity, "checkpoint": checkpoint}
        self.insert("environment", [(digest(material), material, dict(environment))])

    def get_environment(self, engine_identity: str, checkpoint: str) -> dict[str, Any] | None:
        """What the worker reported for an engine and a checkpoint, both by digest."""
        key = digest({"engine": engine_identity, "checkpoint": checkpoint})
        return next((value for _, _, value in self.select("environment", [key])), None)

    # -- the file ------------------------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(file.stat().st_size for file in self._parts() if file.exists())

    def prune(self, older_than_days: float) -> int:
        """Drop what was kept before that many days ago, and say how many entries that were."""
        oldest = time.time() - older_than_days * 86400

        def work(database: sqlite3.Connection) -> int:
            dropped = database.execute("DELETE FROM entries WHERE at < ?", (oldest,)).rowcount
            database.execute("VACUUM")
            return dropped

        return self._run(work)

    def select(self, kind: str, keys: Iterable[str]) -> Iterator[tuple[str, Any, Any]]:
        """Key, material and value of the entries that verify; the others are counted as bad."""
        keys = iter(keys)
        while some := list(itertools.islice(keys, 500)):
            marks = ",".join("?" * len(some))
            sql = f"SELECT key, material, value, digest FROM entries WHERE kind = ? AND key IN ({marks})"  # noqa: S608
            for row in self._run(partial(_fetch, sql=sql, values=[kind, *some])):
                if entry := _verified(kind, *row):
                    yield entry
                else:
                    self.bad += 1

    def insert(self, kind: str, entries: Iterable[tuple[str, Any, Any]]) -> None:
        """Keep entries (key, material, value) in one transaction."""
        now = int(time.time())
        rows = []
        for key, *json_values in entries:
            material, value = (canonical(each).encode("utf-8", "surrogatepass") for each in json_values)
            rows.append((kind, key, material, value, _seal(kind, key, material, value), now))

        def work(database: sqlite3.Connection) -> None:
            database.execute("BEGIN IMMEDIATE")
            database.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?, ?)", rows)
            database.execute("COMMIT")

        self._run(work)

    def drop(self, kind: str, keys: Iterable[str]) -> None:
        """Keep these entries no longer."""
        rows = [(kind, key) for key in keys]

        def work(database: sqlite3.Connection) -> None:
            database.execute("BEGIN IMMEDIATE")
            database.executemany("DELETE FROM entries WHERE kind = ? AND key = ?", rows)
            database.execute("COMMIT")

        self._run(work)

    def _run(self, work: Callable[[sqlite3.Connection], T], *, again: bool = True) -> T:
        """Do some work; on a damaged file set that aside and do it once more on a new one."""
        with self._lock:
            try:
                return work(self._open())
            except (sqlite3.Error, OSError, UnicodeDecodeError) as exc:
                self._roll_back()
                if not (again and self._is_damage(exc)):
                    reason = exc.strerror if isinstance(exc, OSError) else str(exc)
                    mend = "The cache can be rebuilt: make room, or delete it and run again."
                    raise RecordError(f"the cache failed: {reason}", where=str(self.path), mend=mend) from exc
                self._set_aside(str(exc))
            return self._run(work, again=False)

    def _roll_back(self) -> None:
        if self._database and self._database.in_transaction:
            with suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")

    def _open(self) -> sqlite3.Connection:
        if self._database:
            return self._database
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._exclusive(), ExitStack() as undo:
            database = sqlite3.connect(self.path, timeout=30, isolation_level=None, check_same_thread=False)
            undo.callback(database.close)
            self._inode = self.path.stat().st_ino
            database.text_factory = bytes  # damaged text must reach our own checks
            if database.execute("PRAGMA schema_version").fetchone()[0] == 0:  # new, or empty
                database.execute(f"PRAGMA application_id = {_APPLICATION}")
                database.execute(f"PRAGMA user_version = {_VERSION}")
                database.execute("PRAGMA journal_mode = WAL")
                database.execute(_SCHEMA)
            marks = [database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
            if marks != [_APPLICATION, _VERSION]:
                raise sqlite3.DatabaseError("it is no cache of this version of evalgate")
            database.execute("PRAGMA synchronous = NORMAL")  # a commit survives the process, not a power cut
            database.execute("PRAGMA cell_size_check = ON")
            undo.pop_all()
        self._database = database
        return database

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """One process at a time makes the file or sets it aside."""
        handle = os.open(self.path.with_name(f"{self.path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _parts(self) -> list[Path]:
        return [self.path.with_name(self.path.name + end) for end in ("", "-wal", "-shm")]

    def _is_damage(self, exc: Exception) -> bool:
        """Whether the content is at fault, and not the disk, its permissions or another process."""
        if isinstance(exc, UnicodeDecodeError):  # Python could not read SQLite's message about a damaged name
            return True
        if not isinstance(exc, sqlite3.DatabaseError):
            return False
        full = getattr(exc, "sqlite_errorcode", None)
        if full is None:  # raised in `_open`, or by Python for our own mistake
            return type(exc) is sqlite3.DatabaseError
        code = full & 0xFF
        if code == sqlite3.SQLITE_READONLY:  # a damaged header can say so too
            return os.access(self.path, os.W_OK) and os.access(self.path.parent, os.W_OK)
        return code not in _OUTSIDE or full == sqlite3.SQLITE_IOERR_SHORT_READ

    def _set_aside(self, reason: str) -> None:
        self.close()  # before a new file stands there: closing removes the log of whatever bears this name
        with self._exclusive():
            if self.path.exists() and self.path.stat().st_ino == self._inode:  # else another process has done it
                stamp = f".damaged-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
                for part in self._parts():
                    with suppress(FileNotFoundError):
                        part.rename(part.with_name(part.name + stamp))
                note = f"{self.path} was damaged ({reason}); it was set aside as {self.path.name}{stamp} and begun anew"
                self.notes.append(note)


class FileMemo:
    """Digests of large files, by what the file system says of them."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def get(self, stat_key: StatKey) -> str | None:
        """The digest of the file in that state, `None` where it is not known."""
        return next((value for _, _, value in self._cache.select("file", [digest(stat_key)])), None)

    def put(self, stat_key: StatKey, digest_of_content: str) -> None:
        """Keep the digest of a file in that state."""
        self._cache.insert("file", [(digest(stat_key), stat_key, digest_of_content)])


def _fetch(database: sqlite3.Connection, sql: str, values: list[str]) -> list[tuple[Any, ...]]:
    return database.execute(sql, values).fetchall()


def _seal(kind: str, key: str, material: bytes, value: bytes) -> str:
    # Canonical JSON holds no line break, so the parts cannot run into each other.
    return PREFIX + hashlib.sha256(b"\n".join([kind.encode(), key.encode(), material, value])).hexdigest()


def _verified(kind: str, key: Any, material: Any, value: Any, seal: Any) -> tuple[str, Any, Any] | None:
    try:
        name = key.decode()
        if _seal(kind, name, material, value) != seal.decode():
            return None
        return name, *(json.loads(part.decode("utf-8", "surrogatepass")) for part in (material, value))
    except (AttributeError, TypeError, ValueError, RecursionError):  # damage can change a column's type
        return None


def _answer(request: Request, completion: Completion, engine: str) -> tuple[str, Any, Any] | None:
    if completion.request != request.id:
        raise EngineError(f"the engine answered request {completion.request} when asked {request.id}")
    # An infinite log-likelihood has no JSON: it is asked for again, never rounded.
    if completion.error is not None or not all(map(math.isfinite, completion.logprobs)):
        return None
    value = {f.name: getattr(completion, f.name) for f in fields(completion) if f.name != "error"}
    return cache_key(request, engine), {"request": request.content, "engine": engine}, value


def _completion(material: Any, value: Any, key: str) -> Completion | None:
    """The completion of an entry whose material makes its key and whose value answers that request."""
    try:
        request = digest(material["request"])
        if digest({"request": request, "engine": material["engine"]}) != key or value["request"] != request:
            return None
        value["logprobs"], value["greedy"] = tuple(value["logprobs"]), tuple(value["greedy"])
        return Completion(**value)
    except (KeyError, TypeError):  # another version's entry
        return None
