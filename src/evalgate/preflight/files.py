"""The folder as untrusted data: what lies in it, which links may be followed, and how a file is opened."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from evalgate.errors import CheckpointError

CODE_SUFFIXES = (".py", ".pyc", ".pyd", ".so")
TEMPLATE_FOLDER = "additional_chat_templates"
MAX_ENTRIES = 20_000
MAX_SMALL_FILE = 4 << 20


@dataclass(frozen=True, slots=True)
class Folder:
    """A checkpoint folder whose every entry was looked at.

    Attributes:
        path: resolved.
        shown: as it was typed, for messages.
        files: name (with `/` for the files of `additional_chat_templates`) to the real path of a regular file.
    """

    path: Path
    shown: str
    files: Mapping[str, Path]

    def where(self, name: str) -> str:
        """How a message names one of its files."""
        return f"{self.shown}/{quoted(name)}"

    def read(self, name: str, limit: int = MAX_SMALL_FILE) -> bytes:
        """The content of a small file.

        Raises:
            CheckpointError: it is larger than `limit` bytes, or cannot be read.
        """
        with open_regular(self.files[name], self.where(name)) as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                raise CheckpointError(
                    f"has {size:,} bytes, at most {limit:,} are read",
                    where=self.where(name),
                    mend="No model needs a file of this kind that large: get it from its source again.",
                )
            return file.read(limit)

    def text(self, name: str, limit: int = MAX_SMALL_FILE) -> str:
        """The content of a small UTF-8 file (`CheckpointError` with the byte offset where it is none)."""
        return decoded(self.read(name, limit), self.where(name))


def quoted(text: str, limit: int = 80) -> str:
    """A name from the folder, fit for a one-line message: what cannot be printed is escaped, long ones are cut."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[: limit + 1])
    return shown if len(text) <= limit else shown[:limit] + "…"


def decoded(data: bytes, where: str) -> str:
    """UTF-8 bytes as text, without a byte order mark."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(
            f"is not UTF-8 (byte {error.start})", where=where, mend="Save it as UTF-8, without a byte order mark."
        ) from None


@contextmanager
def open_regular(path: Path, where: str) -> Iterator[FileIO]:
    """Open a regular file for reading, unbuffered; never waits for a pipe or a device that took its place."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise CheckpointError(
            f"cannot be read: {error.strerror}", where=where, mend="Check its owner and permissions."
        ) from None
    with FileIO(descriptor) as file:
        _require_regular(os.fstat(descriptor).st_mode, where)
        try:
            yield file
        except OSError as error:
            raise CheckpointError(
                f"cannot be read: {error.strerror}", where=where, mend="Copy the checkpoint again."
            ) from None


def open_folder(path: Path) -> Folder:
    """Look at every entry of a checkpoint folder without opening any.

    A link is followed when it ends inside the folder. In the hub's cache (`…/snapshots/<revision>`) it may also end in
    the repository's own `blobs` beside `snapshots`, which is where that cache keeps every file.

    Raises:
        CheckpointError: no folder, a file with code, a link that leaves it, a pipe, socket or device.
    """
    shown = quoted(str(path), 300)
    try:
        root = path.resolve(strict=True)
        entries = list(_walk(root, shown))
    except NotADirectoryError:
        raise CheckpointError("is a file, expected a folder", where=shown, mend="Name the folder it lies in.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no path can be written so"
        raise CheckpointError(
            f"cannot be opened as a folder: {reason}", where=shown, mend="Check the path that was given."
        ) from None
    if not entries and not any(root.iterdir()):
        raise CheckpointError(
            "the folder is empty", where=shown, mend="Save or download the model into it, or name another folder."
        )
    return Folder(root, shown, dict(sorted(entries)))


def _walk(root: Path, shown: str) -> Iterator[tuple[str, Path]]:
    """Check every entry below a folder; yield the regular files that evalgate may read."""
    blobs = root.parent.parent / "blobs" if root.parent.name == "snapshots" else None
    homes = tuple(home.resolve() for home in (root, blobs) if home is not None)
    waiting, seen = [root], 0
    while waiting:
        folder = waiting.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                seen += 1
                if seen > MAX_ENTRIES:
                    raise CheckpointError(
                        f"has more than {MAX_ENTRIES:,} entries, which no checkpoint has",
                        where=shown,
                        mend="Name the folder of one version.",
                    )
                name = os.path.relpath(entry.path, root)
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                    continue
                real = _checked(entry, name, f"{shown}/{quoted(name)}", homes)
                if real is not None and (folder == root or folder == root / TEMPLATE_FOLDER):
                    yield name, real


def _checked(entry: os.DirEntry[str], name: str, where: str, homes: tuple[Path, ...]) -> Path | None:
    """The real path of an entry that is a harmless regular file, `None` for a link to a folder inside."""
    if name.lower().endswith(CODE_SUFFIXES):
        raise CheckpointError(
            "is code, and evalgate runs none from a checkpoint",
            where=where,
            mend="Copy the checkpoint without it (hf download … --exclude '*.py'): supported models need no code.",
        )
    real = Path(entry.path)
    if entry.is_symlink():
        try:
            real = real.resolve(strict=True)
        except (OSError, RuntimeError):
            raise CheckpointError(
                "is a link to nothing", where=where, mend="Copy the checkpoint again, with its files."
            ) from None
        if not any(real.is_relative_to(home) for home in homes):
            raise CheckpointError(
                f"is a link that leaves the folder, to {quoted(str(real), 200)}",
                where=where,
                mend="Put the file itself there (cp -L).",
            )
        if real.is_dir():
            return None
    _require_regular(real.stat().st_mode, where)
    return real


def _require_regular(mode: int, where: str) -> None:
    if not stat.S_ISREG(mode):
        kinds = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISDIR, "a folder"))
        kind = next((word for test, word in kinds if test(mode)), "a device")
        raise CheckpointError(f"is {kind}, expected a file", where=where, mend="Remove it.")
