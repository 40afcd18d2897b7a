"""A version on disk: what its `evalgate.json` says, and whether its files are still those that were published."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evalgate.digest import PREFIX
from evalgate.errors import RecordError
from evalgate.version import LINEAGE, Lineage, lineage_from_json
from evalgate.versions.signing import SIGNATURE

MAX_LINEAGE = 64 << 20  # the losses of two million steps
_AGAIN = "Restore the version, or publish it again."


def read_lineage(folder: Path) -> Lineage:
    """What a version says of itself.

    Raises:
        RecordError: it has no `evalgate.json`, or a damaged one; the message is one line.
    """
    where = str(folder / LINEAGE)
    try:
        with open(_opened(folder / LINEAGE), "rb") as file:
            data = file.read(MAX_LINEAGE + 1)
    except FileNotFoundError:
        raise RecordError("is not there: this is no published version", where=where, mend=_AGAIN) from None
    except OSError as error:
        raise RecordError(f"could not be read: {error.strerror}", where=where, mend=_AGAIN) from error
    if len(data) > MAX_LINEAGE:
        raise RecordError(f"has more than {MAX_LINEAGE:,} bytes", where=where, mend=_AGAIN)
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"is no JSON: {error}", where=where, mend=_AGAIN) from None
    return lineage_from_json(value, where)


def version_folders(runs: Path) -> tuple[Path, ...]:
    """Every folder that holds a version or says so; links and what is in the making are left out. Natural order."""
    if not runs.is_dir():
        return ()
    found = (path for path in runs.iterdir() if path.is_dir() and not path.is_symlink())
    return tuple(sorted((p for p in found if not p.name.startswith(".") and (p / LINEAGE).exists()), key=_natural))


def list_versions(runs: Path) -> Iterator[tuple[Path, Lineage]]:
    """Every version with what it says of itself, in natural order (RecordError at a damaged one)."""
    for folder in version_folders(runs):
        yield folder, read_lineage(folder)


def verify(folder: Path) -> list[str]:
    """Hash every file of a version again.

    Returns:
        What is wrong, one line each; nothing where every byte is as it was published.
    """
    try:
        lineage = read_lineage(folder)
        stated = dict(lineage.files)
        found = {name: path for name, path in _files(folder) if name not in (LINEAGE, SIGNATURE)}
        problems = [f"{folder / name}: is missing. {_AGAIN}" for name in sorted(stated.keys() - found.keys())]
        if lineage.name != folder.name:
            problems.append(f"{folder}: was published as {lineage.name!a}. Give the folder its name back.")
        problems += [
            f"{folder}/{ascii(name)[1:-1]}: was added after publishing. Remove it."
            for name in sorted(found.keys() - stated.keys())
        ]
        for name in sorted(stated.keys() & found.keys()):
            if (digest := file_digest(found[name])) != stated[name]:
                problems.append(
                    f"{found[name]}: was changed after publishing: its digest is {digest}, not {stated[name]}. {_AGAIN}"
                )
    except RecordError as error:
        return [str(error)]
    return problems


def file_digest(path: Path) -> str:
    """`sha256:…` of the bytes of a regular file (RecordError)."""
    try:
        with open(_opened(path), "rb") as file:
            return PREFIX + hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RecordError(f"could not be read: {error.strerror}", where=str(path), mend=_AGAIN) from error


def _opened(path: Path) -> int:
    """A descriptor of a regular file; a pipe, a device or a link in its place is refused and never waited for."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise RecordError("is no regular file", where=str(path), mend=_AGAIN)
    return handle


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in folder.rglob("*"):
        if not path.is_dir() or path.is_symlink():
            yield path.relative_to(folder).as_posix(), path


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("an object has a key twice")
    return value


def _constant(name: str) -> float:
    raise ValueError(f"it holds {name}")


def _natural(path: Path) -> list[tuple[int, str]]:
    """`v10` after `v9`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", path.name) if part]
