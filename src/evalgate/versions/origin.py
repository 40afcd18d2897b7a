"""Where a version comes from: the commit of the code, and what is installed here. Nothing is imported for it."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from evalgate.digest import PREFIX

PACKAGES = (
    "torch", "transformers", "peft", "trl", "accelerate", "datasets", "tokenizers", "safetensors", "bitsandbytes",
    "deepspeed", "lightning", "numpy",
)  # fmt: skip


def environment_of() -> dict[str, Any]:
    """Interpreter, platform and versions of the packages that train, as they are installed here."""
    found: dict[str, str] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return {"python": platform.python_version(), "platform": platform.platform(), "packages": found}


def code_of(root: Path, leaving_out: Sequence[str] = ()) -> dict[str, Any]:
    """The state of the code in git; empty where the project is in no repository, or git is not there.

    Args:
        root: of the project.
        leaving_out: folders below it that hold no code.

    Returns:
        `commit` (`None` before the first), `dirty`, and `diff`: the digest of what tracked files say differently and
        of the names of untracked ones, `None` where nothing differs.
    """
    paths = (".", *(f":(exclude){name}" for name in leaving_out))
    status = _git(root, "status", "--porcelain", "-z", "--untracked-files=all", "--", *paths)
    if status is None:
        return {}
    commit = _git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    difference = _git(root, "diff", "--binary", "--no-ext-diff", "HEAD", "--", *paths) if commit else b""
    digest = sha256(status + b"\0" + (difference or b"")).hexdigest()
    return {
        "commit": commit.decode().strip() if commit else None,
        "dirty": bool(status),
        "diff": PREFIX + digest if status else None,
    }


def _git(root: Path, *arguments: str) -> bytes | None:
    command = ("git", "-c", "core.fsmonitor=false", "-c", "core.quotePath=false", *arguments)
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
