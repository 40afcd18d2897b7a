"""A version appears by one rename: until then it is a hidden folder beside its place, swept once its maker is dead.

The maker holds a lock (flock) on a file beside the folder. It ends with the process, however that ended, so that a
sweeper that gets the lock knows that nobody is at work there; process ids would lie across containers.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self

from evalgate.digest import PREFIX
from evalgate.errors import RecordError

PREFIX_OF_STAGING = ".staging-"
_LOCK = ".lock"
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)


class Staging:
    """A folder in the making, removed on exit unless it was published.

    Args:
        runs: the folder of versions; made where it is missing.

    Attributes:
        path: of the hidden folder.
        digests: name to `sha256:…` of what was written into it, in the order of writing.

    Raises:
        RecordError: the disk refused, here and in every method.
    """

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self.digests: dict[str, str] = {}
        try:
            os.makedirs(runs, exist_ok=True)
            sweep(runs)
            self.path, self._lock_file, self._lock = _make(runs)
        except OSError as error:
            raise _refused(error, runs) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove what was not published, and let go."""
        if self.path.name.startswith(PREFIX_OF_STAGING):
            _remove(self.path)
        with suppress(OSError):
            os.unlink(self._lock_file)
        os.close(self._lock)

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        """Write a file, to the disk; one that is there is replaced. `name` may lie one folder down."""
        path = self.path / name
        digest = sha256()
        try:
            os.makedirs(path.parent, exist_ok=True)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            try:
                for chunk in chunks:
                    digest.update(chunk)
                    rest = memoryview(chunk)
                    while rest:
                        rest = rest[os.write(handle, rest) :]
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise _refused(error, self.runs) from error
        self.digests[name] = PREFIX + digest.hexdigest()

    def publish(self, name: str) -> Path | None:
        """Make everything read-only and put it in place under a name, whole; `None` where the name is taken."""
        target = self.runs / name
        try:
            for path in _below(self.path):
                os.chmod(path, 0o555 if path.is_dir() else 0o444)
                _sync(path)
            if not self._renamed(target):
                for path in _below(self.path):
                    os.chmod(path, 0o755 if path.is_dir() else 0o644)
                return None
            self.path = target
        except OSError as error:
            raise _refused(error, self.runs) from error
        try:
            _sync(self.runs)
        except OSError as error:
            raise RecordError(
                f"the version stands there whole, but the disk did not confirm it: {error.strerror}",
                where=str(target),
                mend="Mend the disk.",
            ) from error
        return target

    def _renamed(self, target: Path) -> bool:
        if os.path.lexists(target):  # rename would replace an empty folder
            return False
        try:
            os.rename(self.path, target)
        except OSError as error:
            if error.errno in _TAKEN:  # by somebody else, in this moment
                return False
            raise
        return True


def sweep(runs: Path) -> None:
    """Remove what dead makers left in the folder of versions; what living ones are at is locked."""
    for name in sorted({path.name.removesuffix(_LOCK) for path in runs.glob(f"{PREFIX_OF_STAGING}*")}):
        with suppress(OSError):  # locked, or gone in this moment
            handle = os.open(runs / f"{name}{_LOCK}", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(runs / name)
                os.unlink(runs / f"{name}{_LOCK}")
            finally:
                os.close(handle)


def _make(runs: Path) -> tuple[Path, Path, int]:
    """A new hidden folder, its lock's file and the lock; again where a sweeper came between file and lock."""
    while True:
        path = runs / f"{PREFIX_OF_STAGING}{secrets.token_hex(8)}"
        file = path.with_name(path.name + _LOCK)
        handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if file.exists() and os.path.samestat(file.stat(), os.fstat(handle)):
                os.mkdir(path, 0o755)
                return path, file, handle
        except FileNotFoundError:  # the file went between the two questions
            pass
        except OSError:
            with suppress(OSError):
                os.unlink(file)
            os.close(handle)
            raise
        os.close(handle)


def _below(folder: Path) -> Iterator[Path]:
    """Everything in a folder, then the folder: what must be on the disk first comes first."""
    yield from sorted(folder.rglob("*"), reverse=True)
    yield folder


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(folder: Path) -> None:
    """Remove a folder that may have been made read-only; what cannot be removed now, the next sweep takes."""
    with suppress(OSError):
        for path in (folder, *folder.rglob("*")):
            if stat.S_ISDIR(path.lstat().st_mode):
                path.chmod(0o755)
    shutil.rmtree(folder, ignore_errors=True)


def _refused(error: OSError, runs: Path) -> RecordError:
    return RecordError(
        f"no version could be published: {error.strerror}",
        where=str(runs),
        mend="Make room or mend the disk, then publish again: what is there is whole.",
    )
