"""From what an interrupted training may resume: its own states only.

A state is pickle, so loading one runs what its writer put in. It counts only with a marker, written last, that says it
is of this training, of this machine, device and libraries, and when all its files are this user's own.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import socket
from pathlib import Path
from typing import Any

from evalgate.digest import digest

MARKER = "evalgate-state.json"
PREFIX = "checkpoint-"


def mark(folder: Path, key: str) -> None:
    """Say that a state is whole: everything in it reaches the disk first, the marker last."""
    for path in sorted(folder.rglob("*")):
        sync(path)
    marker = folder / MARKER
    marker.write_text(json.dumps(_expected(folder, key), indent=2) + "\n", "utf-8")
    sync(marker)
    sync(folder)


def clean(folder: Path, key: str) -> list[str]:
    """Remove every state of a work folder that training must not resume from.

    Returns:
        For each whole state that was not this training's own: its name and what is wrong with it.
    """
    ignored = []
    for state in folder.glob(f"{PREFIX}*"):
        if (reason := _refusal(state, key)) is None:
            continue
        if (state / MARKER).exists():
            ignored.append(f"{state.name}: {reason}")
        if state.is_symlink() or not state.is_dir():
            state.unlink()
        else:
            shutil.rmtree(state)
    return sorted(ignored)


def latest(folder: Path) -> Path | None:
    """The newest of the states that `clean` left."""
    return max(folder.glob(f"{PREFIX}*"), key=step_of, default=None)


def step_of(state: Path) -> int:
    """The step a state was written at."""
    return int(state.name.removeprefix(PREFIX))


def sync(path: Path) -> None:
    """Bring a file or a folder's list of names to the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _refusal(state: Path, key: str) -> str | None:
    if state.is_symlink() or not state.is_dir() or not state.name.removeprefix(PREFIX).isdigit():
        return "is no state of the trainer"
    if any(path.is_symlink() or path.lstat().st_uid != os.getuid() for path in [state, *state.rglob("*")]):
        return "holds links or files of another user"
    try:
        said = json.loads((state / MARKER).read_text("utf-8"))
    except (OSError, ValueError):
        return "is not whole"
    expected = _expected(state, key)
    wrong = [name for name, value in expected.items() if not isinstance(said, dict) or said.get(name) != value]
    return f"was written with another {', '.join(wrong)}" if wrong else None


def _expected(state: Path, key: str) -> dict[str, Any]:
    return {
        "key": key,
        "step": step_of(state),
        "machine": _machine(),
        "device": _device(),
        **{name: importlib.metadata.version(name) for name in ("torch", "transformers", "peft", "trl", "accelerate")},
    }


def _device() -> str:
    """A GPU's steps end in other bits than a processor's, and `auto` takes another type of numbers there."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def _machine() -> str:
    """A digest that is the same only on this machine."""
    identity = Path("/etc/machine-id")
    return digest([identity.read_text("ascii") if identity.exists() else "", socket.gethostname()])
