"""What `--model` may be given, and what is said where it means nothing on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalgate.errors import CheckpointError, MissingExtraError
from evalgate.preflight import resolve_model
from tests.faults.tiny_checkpoint import Room, write_checkpoint

REVISION = "0123456789abcdef0123456789abcdef01234567"


def test_a_folder_is_itself(room: Room) -> None:
    """A path that exists is taken as it is, also with an @ in it."""
    assert resolve_model(str(room.full)) == room.full
    odd = write_checkpoint(room.path / "v3@best")
    assert resolve_model(str(odd)) == odd


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME"])
def test_a_pinned_hub_model_comes_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """The cache lies where huggingface_hub would put it, by each of its variables."""
    for name in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    below = {
        "HF_HUB_CACHE": "",
        "HF_HOME": "hub",
        "XDG_CACHE_HOME": "huggingface/hub",
        "HOME": ".cache/huggingface/hub",
    }
    snapshot = tmp_path / below[variable] / "models--org--tiny" / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    assert resolve_model(f"org/tiny@{REVISION}") == snapshot


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("runs/v9", "expected 40 hex digits"),
        ("v9", "is no folder"),
        ("org/tiny@main", "the revision 'main'"),
        ("org/tiny@" + REVISION[:39], "expected 40 hex digits"),
        ("org/tiny@" + REVISION.upper(), "expected 40 hex digits"),
        ("../../etc@" + REVISION, "is no folder"),
        ("org/tiny@" + REVISION, f"hf download org/tiny --revision {REVISION}"),
        ("", "empty"),
        ("a\0b", "empty or no path"),
        ("x" * 5000, "is no folder"),
        ("\x1b[2J", r"\x1b[2J"),
    ],
)
def test_a_name_without_a_meaning_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    """Each message says what was expected, or the command that fetches it."""
    with pytest.raises(CheckpointError) as caught:
        resolve_model(text, cache=tmp_path)
    assert says in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_registry_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without mlflow the message names the extra that brings it."""
    monkeypatch.setattr("evalgate.preflight.hub.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pytest-evalgate\[trackers\]"):
        resolve_model("models:/shop@champion")


def registry(monkeypatch: pytest.MonkeyPatch, path: Path, script: str) -> None:
    """An interpreter that answers as a registry does; `tests/training/test_trackers.py` asks a real one."""
    interpreter = path / "python"
    interpreter.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
    interpreter.chmod(0o755)
    monkeypatch.setattr("evalgate.preflight.hub.find_spec", lambda name: True)
    monkeypatch.setattr("sys.executable", str(interpreter))


def test_a_registered_version_is_the_folder_in_its_artifacts(
    room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one folder with a configuration is the checkpoint, whatever is printed before; none or two are said."""
    registry(monkeypatch, tmp_path, f"echo 'Downloading artifacts'; echo {room.full}")
    assert resolve_model("models:/shop@champion") == room.full
    registry(monkeypatch, tmp_path, f"echo {room.path}")
    with pytest.raises(CheckpointError, match="holds 2 folders"):
        resolve_model("models:/shop@champion")
    registry(monkeypatch, tmp_path, f"echo {tmp_path}/nothing")
    with pytest.raises(CheckpointError, match="holds 0 folders"):
        resolve_model("models:/shop@champion")


def test_a_registry_is_asked_where_the_settings_say(
    room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its address wins over MLflow's variables, which hold where nobody says one; what it says last is the reason."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://environment")
    registry(monkeypatch, tmp_path, 'echo first >&2; echo "no alias at $MLFLOW_TRACKING_URI" >&2; exit 1')
    with pytest.raises(CheckpointError, match="gives nothing for 'models:/shop@nobody': no alias at http://settings"):
        resolve_model("models:/shop@nobody", registry="http://settings")
    with pytest.raises(CheckpointError, match="no alias at http://environment"):
        resolve_model("models:/shop@nobody")


def test_a_registry_that_hangs_is_given_up(room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says how long was waited."""
    registry(monkeypatch, tmp_path, "exec sleep 60")
    monkeypatch.setattr("evalgate.preflight.hub.FETCH_SECONDS", 0.2)
    with pytest.raises(CheckpointError, match=r"no answer within 0\.2 s"):
        resolve_model("models:/shop@champion")
