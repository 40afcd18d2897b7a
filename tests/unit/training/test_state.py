"""Training resumes only from whole states of its own: they are pickle, and loading one runs what is in it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from evalgate.training import state
from evalgate.training.state import MARKER, clean, latest, mark, step_of

KEY = "sha256:" + "1" * 64


def make_state(folder: Path, step: int, *, whole: bool = True, key: str = KEY) -> Path:
    """A state with two files."""
    path = folder / f"checkpoint-{step}"
    (path / "global_step").mkdir(parents=True)
    (path / "optimizer.pt").write_bytes(b"pickle")
    (path / "global_step/shard.pt").write_bytes(b"pickle")
    if whole:
        mark(path, key)
    return path


def test_the_newest_whole_state_is_taken(tmp_path: Path) -> None:
    """Ten is after nine, and whole states of this training stay as they are."""
    for step in (2, 9, 10):
        make_state(tmp_path, step)
    assert clean(tmp_path, KEY) == []
    newest = latest(tmp_path)
    assert newest is not None
    assert step_of(newest) == 10
    assert len(list(tmp_path.glob("checkpoint-*"))) == 3


def test_without_a_state_training_begins(tmp_path: Path) -> None:
    """There is nothing to resume from in an empty folder."""
    assert clean(tmp_path, KEY) == []
    assert latest(tmp_path) is None


def test_a_state_without_its_marker_is_removed(tmp_path: Path) -> None:
    """A kill while it was written leaves the one before."""
    make_state(tmp_path, 3)
    torn = make_state(tmp_path, 6, whole=False)
    assert clean(tmp_path, KEY) == []
    assert not torn.exists()
    assert latest(tmp_path) == tmp_path / "checkpoint-3"


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_damaged_marker_is_none(tmp_path: Path, text: str) -> None:
    """Half a marker does not vouch for anything."""
    (make_state(tmp_path, 3) / MARKER).write_text(text)
    assert len(clean(tmp_path, KEY)) == 1
    assert latest(tmp_path) is None


@pytest.mark.parametrize(
    "name", ["key", "step", "machine", "device", "torch", "transformers", "peft", "trl", "accelerate"]
)
def test_a_state_from_elsewhere_is_ignored_and_named(tmp_path: Path, name: str) -> None:
    """Of another training, machine, device or library: whichever field differs is said."""
    marker = make_state(tmp_path, 3) / MARKER
    said = json.loads(marker.read_text())
    marker.write_text(json.dumps({**said, name: "other"}))
    assert clean(tmp_path, KEY) == [f"checkpoint-3: was written with another {name}"]
    assert latest(tmp_path) is None


def test_a_renamed_state_is_not_another_step(tmp_path: Path) -> None:
    """The marker knows the step that it was written at."""
    make_state(tmp_path, 3).rename(tmp_path / "checkpoint-7")
    assert clean(tmp_path, KEY) == ["checkpoint-7: was written with another step"]


def test_a_link_in_a_state_is_refused(tmp_path: Path) -> None:
    """A link could name a pickle of somebody else."""
    path = make_state(tmp_path, 3)
    (path / "optimizer.pt").unlink()
    (path / "optimizer.pt").symlink_to("/etc/hostname")
    assert clean(tmp_path, KEY) == ["checkpoint-3: holds links or files of another user"]


def test_a_linked_folder_is_unlinked_and_not_emptied(tmp_path: Path) -> None:
    """What a link points to is not ours to remove."""
    real = make_state(tmp_path / "elsewhere", 3)
    (tmp_path / "checkpoint-3").symlink_to(real)
    clean(tmp_path, KEY)
    assert latest(tmp_path) is None
    assert (real / "optimizer.pt").exists()


def test_another_users_state_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner decides what is in it."""
    make_state(tmp_path, 3)
    monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)
    assert clean(tmp_path, KEY) == ["checkpoint-3: holds links or files of another user"]


def test_the_marker_is_written_after_everything_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """First the files, then the marker, then the folder's list of names."""
    order: list[str] = []
    monkeypatch.setattr(state, "sync", lambda path: order.append(path.name))
    make_state(tmp_path, 3)
    assert set(order[:-2]) == {"optimizer.pt", "global_step", "shard.pt"}
    assert order[-2:] == [MARKER, "checkpoint-3"]
