"""Files that are whole or absent, and names that are safe in any folder."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from evalgate.digest import digest, short
from evalgate.errors import RecordError
from evalgate.evaluation import Evaluation
from evalgate.store.record import parse, serialise


def write_atomically(path: Path, data: bytes) -> None:
    """Put a file in place whole or not at all: temporary file, fsync, rename, fsync of the folder.

    Raises:
        RecordError: the disk refused; what stood at `path` is untouched, or replaced as a whole.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        os.makedirs(path.parent, exist_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(handle, rest) :]
            os.fsync(handle)
        finally:
            os.close(handle)
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as exc:
        mend = "Make room or mend the disk, then run the same command again."
        raise RecordError(f"could not be written: {exc.strerror}", where=str(path), mend=mend) from exc
    finally:
        with suppress(OSError):
            os.unlink(temporary)


def publish(path: Path, evaluation: Evaluation) -> None:
    """Write the record of an evaluation, known to read back as the same evaluation (RecordError)."""
    data = serialise(evaluation)
    try:
        parse(data, evaluation.task)
    except RecordError as exc:
        mend = (
            "A scorer or an engine returned what no record can hold; answers stay in the cache: mend it and run again."
        )
        raise RecordError(f"cannot be recorded: {exc.what}", where=exc.where, mend=mend) from exc
    write_atomically(path, data)


def read_bytes(path: Path) -> bytes | None:
    """The content of a file, `None` where there is none (RecordError for every other trouble)."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise RecordError(f"could not be read: {exc.strerror}", where=str(path), mend="Check the path.") from exc


def file_name(text: str) -> str:
    """A safe name, another for every text: percent-encoded, and a long one cut and completed by its digest."""
    name = quote(text, safe="[]=,+", errors="surrogatepass") or "%"
    name = f"%2E{name[1:]}" if name.startswith(".") else name
    return name if len(name) <= 120 else f"{name[:100]}-{short(digest(text))}"


def suite_folder(suite: str) -> Path:
    """The relative folder of a suite, which may itself lie in folders."""
    return Path(*map(file_name, suite.split("/")))
