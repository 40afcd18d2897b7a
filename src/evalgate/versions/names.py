"""Names of versions and aliases: they become folders, links and words in a shell, so few characters are allowed."""

from __future__ import annotations

import re
from pathlib import Path

from evalgate.errors import ConfigError
from evalgate.version import check_version_name

ALIASES = "aliases.jsonl"
"""The journal of aliases beside the versions: a name that no version may have."""

_EPOCH = re.compile(r"-epoch-[0-9]{1,9}$")
_NUMBERED = re.compile(r"v(?P<number>[0-9]{1,18})(?:-epoch-[0-9]+)?")


def check_name(name: str) -> str:
    """The name itself, where a version or an epoch of one may have it (ConfigError)."""
    check_version_name(_EPOCH.sub("", name))
    if name == ALIASES:
        raise ConfigError(f"{name!r} is the journal of the aliases, no version", mend="Choose another name.")
    return name


def check_alias(alias: str, runs: Path) -> str:
    """The alias itself, where it cannot be taken for a version (ConfigError)."""
    check_version_name(alias)
    folder = runs / alias
    if _NUMBERED.fullmatch(alias) or alias == ALIASES or (folder.exists() and not folder.is_symlink()):
        mend = "Take another word." if folder.exists() else "Take a word, such as champion."
        raise ConfigError(f"{alias!r} is the name of a version or a file there, not of an alias", mend=mend)
    return alias


def next_name(runs: Path) -> str:
    """`v<n>` with a number above every one that is taken, also by the epochs of a version that is still to come."""
    taken = (_NUMBERED.fullmatch(path.name) for path in runs.glob("v*"))
    return f"v{max((int(found['number']) for found in taken if found), default=0) + 1}"
