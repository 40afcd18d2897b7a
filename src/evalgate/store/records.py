"""The records of a project, and records from elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from glob import escape
from pathlib import Path

from evalgate.digest import short
from evalgate.errors import MissingExtraError, RecordError
from evalgate.evaluation import Evaluation
from evalgate.store.files import file_name, publish, read_bytes, suite_folder
from evalgate.store.record import Header, parse, read_header
from evalgate.text import without_secrets


class Store:
    """The records below a folder: `records/<checkpoint>-<digest>/<suite>/<task>-<digest>.jsonl`."""

    def __init__(self, root: Path) -> None:
        self.records = root / "records"

    def path(self, evaluation: Evaluation) -> Path:
        """Where the record of an evaluation lies: one place per content."""
        suite, _, task = evaluation.task.rpartition("/")
        checkpoint = f"{file_name(evaluation.checkpoint['name'])}-{short(evaluation.checkpoint['digest'])}"
        return self.records / checkpoint / suite_folder(suite) / f"{file_name(task)}-{short(evaluation.digest)}.jsonl"

    def write(self, evaluation: Evaluation) -> Path:
        """Record an evaluation; the same content again only becomes the newest, and no record is ever replaced.

        Raises:
            RecordError: the evaluation holds what no record can, the disk refused, or the file in its place is damaged.
        """
        path = self.path(evaluation)
        present = read_bytes(path)
        if present is None:
            publish(path, evaluation)
        elif parse(present, str(path)).digest != evaluation.digest:
            raise RecordError(
                "another evaluation is recorded here", where=str(path), mend="Move it away and run again."
            )
        _stamp(path, evaluation)
        return path

    def read(self, path: Path) -> Evaluation:
        """The evaluation in a file, after every check (RecordError)."""
        return parse(_there(path), str(path))

    def paths(self) -> tuple[Path, ...]:
        """Every record's file, the one recorded longest ago first; `evalgate verify` reads each."""
        return tuple(sorted(self.records.rglob("*.jsonl"), key=_recorded))

    def list(self) -> tuple[Header, ...]:
        """Every record's header, the one recorded longest ago first (RecordError for a damaged one)."""
        return tuple(map(read_header, self.paths()))

    def all(self) -> Iterator[Evaluation]:
        """Every record, the one recorded longest ago first (RecordError for a damaged one)."""
        return map(self.read, self.paths())

    def by_digest(self, task: str, evaluation_digest: str) -> Evaluation | None:
        """The record of a task with that digest, `None` without one (RecordError for a damaged one)."""
        suite, _, name = task.rpartition("/")
        file = f"{file_name(name)}-{short(evaluation_digest)}.jsonl"
        found = (self.read(path) for path in self.records.glob(f"*/{escape(str(suite_folder(suite) / file))}"))
        return next((record for record in found if record.digest == evaluation_digest), None)

    def latest(self, checkpoint_digest: str, task: str) -> Evaluation | None:
        """The newest record of a checkpoint on a task, `None` without one (RecordError for a damaged one)."""
        header = self._newest(checkpoint_digest).get(task)
        return self.read(header.path) if header else None

    def for_checkpoint(self, checkpoint_digest: str) -> dict[str, Evaluation]:
        """The newest record of a checkpoint on every task that it has one of (RecordError for a damaged one)."""
        return {task: self.read(header.path) for task, header in self._newest(checkpoint_digest).items()}

    def _newest(self, checkpoint_digest: str) -> dict[str, Header]:
        paths = self.records.glob(f"*-{short(checkpoint_digest)}/**/*.jsonl")
        headers = map(read_header, sorted(paths, key=_recorded))
        return {header.task: header for header in headers if header.checkpoint["digest"] == checkpoint_digest}


def _stamp(path: Path, evaluation: Evaluation) -> None:
    """Note on the file, which never changes, when its content was last recorded: going back to old data must count."""
    try:
        at = datetime.fromisoformat(evaluation.provenance["created"]).astimezone(UTC)
    except (KeyError, TypeError, ValueError):
        at = datetime.now(UTC)
    try:
        os.utime(path, (at.timestamp(), at.timestamp()))
    except OSError as exc:
        raise RecordError(
            f"could not be written: {exc.strerror}", where=str(path), mend="Mend its permissions."
        ) from exc


def _recorded(path: Path) -> tuple[float, Path]:
    return path.stat().st_mtime, path


def _there(path: Path) -> bytes:
    data = read_bytes(path)
    if data is None:
        raise RecordError(
            "there is no such file", where=str(path), mend="Records lie in .evalgate/records: evalgate ls"
        )
    return data


def read_records(source: str) -> list[Evaluation]:
    """Every record in a file, in a folder and the folders below it, or at an fsspec URL (`s3://…`), oldest first.

    Raises:
        RecordError: there is none, or one is damaged.
        MissingExtraError: a URL, and fsspec is not installed.
    """
    evaluations = [parse(data, where) for where, data in (_remote(source) if "://" in source else _local(Path(source)))]
    if not evaluations:
        mend = "Records end in .jsonl and lie in .evalgate/records of the machine that ran the evaluation."
        raise RecordError("holds no records", where=without_secrets(source), mend=mend)
    return sorted(evaluations, key=lambda evaluation: str(evaluation.provenance.get("created", "")))


def _local(source: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(source.rglob("*.jsonl")) if source.is_dir() else [source]:
        yield str(path), _there(path)


def _remote(source: str) -> Iterator[tuple[str, bytes]]:
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise MissingExtraError("fsspec", "store") from None
    try:
        system, root = url_to_fs(source)
        names = [name for name in sorted(system.find(root)) if name.endswith(".jsonl")]
        for name in names:
            yield without_secrets(system.unstrip_protocol(name)), system.cat_file(name)
    except Exception as exc:  # every kind of store brings its own exceptions
        shown = without_secrets(source)
        what = f"could not be read: {type(exc).__name__} {exc}".replace(source, shown)
        raise RecordError(what, where=shown, mend="Check the address and the credentials for it.") from exc
