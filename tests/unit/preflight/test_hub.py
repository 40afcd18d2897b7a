"""What `--model` may be given, and what is said where it means nothing on this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

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
    monkeypatch.setitem(sys.modules, "mlflow.artifacts", None)
    with pytest.raises(MissingExtraError, match=r"pytest-evalgate\[trackers\]"):
        resolve_model("models:/shop@champion")


def registry(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """MLflow's two modules with one artifact store, where the real library is not installed."""
    artifacts, exceptions = ModuleType("mlflow.artifacts"), ModuleType("mlflow.exceptions")

    class MlflowException(Exception):
        pass

    def download_artifacts(artifact_uri: str) -> str:
        if artifact_uri != "models:/shop@champion":
            raise MlflowException("no such alias")
        return str(folder)

    artifacts.download_artifacts = download_artifacts  # type: ignore[attr-defined]
    exceptions.MlflowException = MlflowException  # type: ignore[attr-defined]
    for module in (ModuleType("mlflow"), artifacts, exceptions):
        monkeypatch.setitem(sys.modules, module.__name__, module)


def test_a_registered_version_is_the_folder_in_its_artifacts(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one folder with a configuration is the checkpoint; none, two, or an unknown alias are said."""
    registry(monkeypatch, room.path)
    with pytest.raises(CheckpointError, match="holds 2 folders"):
        resolve_model("models:/shop@champion")
    registry(monkeypatch, room.full)
    assert resolve_model("models:/shop@champion") == room.full
    with pytest.raises(CheckpointError, match="no such alias"):
        resolve_model("models:/shop@nobody")
