"""An alias on disk: a relative link beside the versions, moved in one step. The journal is the truth, not the link."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from evalgate.errors import RecordError


def linked(runs: Path) -> dict[str, str]:
    """Alias to version, as the links in the folder say."""
    if not runs.is_dir():
        return {}
    return {path.name: os.readlink(path) for path in runs.iterdir() if path.is_symlink() and path.name[0] != "."}


def point(runs: Path, alias: str, version: str) -> None:
    """Let `runs/<alias>` lead to `runs/<version>` in one step (RecordError)."""
    temporary = runs / f".{secrets.token_hex(8)}.link"
    try:
        os.symlink(version, temporary)
        os.replace(temporary, runs / alias)
    except OSError as error:
        raise RecordError(
            f"the link could not be set: {error.strerror}",
            where=str(runs / alias),
            mend="Mend it and run the same command again: the move itself is in the journal.",
        ) from error
    finally:
        with suppress(OSError):
            os.unlink(temporary)
