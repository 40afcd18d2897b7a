"""Where trackers write: offline unless a key is set, below the project, never with a password in an address."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from evalgate.errors import ConfigError, MissingExtraError, TrackerError
from evalgate.trackers import environment
from evalgate.trackers.settings import LIBRARIES, PLACES, from_root, require_own, variables_of

FIVE = ["mlflow", "wandb", "tensorboard", "comet", "trackio"]
RUN = {
    "dir": ".evalgate/trackers/x",
    "project": "shop",
    "uri": "sqlite:///.evalgate/mlflow.db",
    "run_id": "1",
    "id": "2",
    "key": "3",
    "name": "v3-4",
}


def told(
    root: Path, *names: str, uri: str | None = None, state: Path | None = None, environ: Mapping[str, str] | None = None
) -> dict[str, str]:
    tracking: dict[str, Any] = {"trackers": list(names), "project": "shop", "uri": uri}
    return environment(tracking, root=root, state=state or root / ".evalgate", run="v3-1a2b", environ=environ or {})


def test_all_are_offline_and_below_the_project_by_default(tmp_path: Path) -> None:
    """Without a key in sight nothing is sent anywhere, and every folder and database lies under the project's state."""
    found = told(tmp_path, *FIVE)
    assert (found["WANDB_MODE"], found["COMET_START_ONLINE"]) == ("offline", "0")
    assert found["MLFLOW_TRACKING_URI"] == f"sqlite:///{tmp_path}/.evalgate/mlflow.db"
    folders = ("WANDB_DIR", "WANDB_DATA_DIR", "TENSORBOARD_LOGGING_DIR", "COMET_OFFLINE_DIRECTORY", "TRACKIO_DIR")
    assert all(found[name].startswith(f"{tmp_path}/.evalgate/trackers/") for name in folders)
    assert found["MLFLOW_EXPERIMENT_NAME"] == found["WANDB_PROJECT"] == found["COMET_PROJECT_NAME"] == "shop"


def test_what_a_version_keeps_of_them_holds_no_path_of_the_machine(tmp_path: Path) -> None:
    """The places that go into evalgate.json are relative to the project, and a training has folders of its own."""
    places = json.loads(told(tmp_path, *FIVE)[PLACES])["places"]
    assert str(tmp_path) not in json.dumps(places)
    assert places["tensorboard"] == {"dir": ".evalgate/trackers/tensorboard/v3-1a2b"}
    assert places["mlflow"]["uri"] == "sqlite:///.evalgate/mlflow.db"
    elsewhere = told(tmp_path / "project", "mlflow", state=tmp_path / "state")
    assert elsewhere["MLFLOW_TRACKING_URI"] == f"sqlite:///{tmp_path}/state/mlflow.db"


@pytest.mark.parametrize(
    ("environ", "mode", "online"),
    [
        ({"WANDB_API_KEY": "k", "COMET_API_KEY": "k"}, "online", "1"),
        (
            {"WANDB_API_KEY": "k", "WANDB_MODE": "offline", "COMET_API_KEY": "k", "COMET_START_ONLINE": "0"},
            "offline",
            "0",
        ),
        ({"WANDB_MODE": "disabled"}, "disabled", "0"),
    ],
)
def test_a_key_puts_online_and_what_was_said_wins(
    tmp_path: Path, environ: dict[str, str], mode: str, online: str
) -> None:
    """A key is a wish to be online; who says otherwise is heard. The key itself is handed on by nobody here."""
    found = told(tmp_path, "wandb", "comet", environ=environ)
    assert (found["WANDB_MODE"], found["COMET_START_ONLINE"]) == (mode, online)
    assert "WANDB_API_KEY" not in found
    assert "COMET_API_KEY" not in found


def test_without_trackers_comet_is_still_told_to_patch_nothing(tmp_path: Path) -> None:
    """transformers imports comet_ml wherever it is installed, which would then follow other libraries around."""
    found = told(tmp_path)
    assert found["COMET_DISABLE_AUTO_LOGGING"] == "1"
    assert PLACES not in found
    assert "WANDB_DIR" not in found


def test_an_address_with_a_password_is_refused(tmp_path: Path) -> None:
    """It would be stored with every version; one without is taken as it is."""
    with pytest.raises(ConfigError, match=r"tracking\.uri: the address holds a password.*MLFLOW_TRACKING_PASSWORD"):
        told(tmp_path, "mlflow", uri="https://me:secret@mlflow.example")
    assert told(tmp_path, "mlflow", uri="https://mlflow.example")["MLFLOW_TRACKING_URI"] == "https://mlflow.example"


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_missing_library_is_said_before_training(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the extra; Neptune has one of its own, since nobody should get it unasked."""
    monkeypatch.setattr("evalgate.trackers.settings.find_spec", lambda library: None)
    extra = "neptune" if name == "neptune" else "trackers"
    with pytest.raises(MissingExtraError, match=rf"{LIBRARIES[name]} is not installed.*pytest-evalgate\[{extra}\]"):
        told(tmp_path, name)


def test_neptune_stays_offline(tmp_path: Path) -> None:
    """Its service is gone: no key changes that."""
    found = variables_of("neptune", RUN, tmp_path, {"NEPTUNE_API_TOKEN": "k", "NEPTUNE_MODE": "async"})
    assert found["NEPTUNE_MODE"] == "offline"


def test_sqlite_addresses_mean_the_same_everywhere(tmp_path: Path) -> None:
    """A relative file is the project's, an absolute one and a server stay."""
    assert from_root("sqlite:///a/m.db", tmp_path) == f"sqlite:///{tmp_path}/a/m.db"
    assert from_root("sqlite:////a/m.db", tmp_path) == "sqlite:////a/m.db"
    assert from_root("http://mlflow:5000", tmp_path) == "http://mlflow:5000"


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("mlflow", {"uri": "http://elsewhere.example"}, "names 'http://elsewhere.example', and nobody here does"),
        ("mlflow", {"uri": "file:///tmp/mlruns"}, "nobody here does"),
        ("mlflow", {"uri": "sqlite:////etc/m.db"}, "lies outside of the project"),
        ("mlflow", {"uri": "sqlite:///../m.db"}, "lies outside of the project"),
        ("tensorboard", {"dir": "/etc"}, "names '/etc', which lies outside"),
        ("wandb", {"dir": ".evalgate/../../x"}, "lies outside"),
        ("wandb", {"dir": "a\0b"}, "lies outside"),
        ("comet", {"key": None}, "does not say how its run is found: key"),
        ("trackio", {"name": 3, "project": []}, "found: project, name"),
        ("__main__", {}, "there is no tracker of this name"),
    ],
)
def test_a_version_cannot_send_keys_and_cards_elsewhere(
    tmp_path: Path, name: str, changed: dict[str, Any], message: str
) -> None:
    """evalgate.json came with the version, and its maker is not trusted with where a gate writes."""
    with pytest.raises(TrackerError, match=message):
        require_own(name, {**RUN, **changed}, tmp_path, [None, "http://mlflow:5000"])
    if name in LIBRARIES:
        require_own(name, RUN if name == "mlflow" else {**RUN, "uri": 5}, tmp_path, [])
    require_own("mlflow", {**RUN, "uri": "http://mlflow:5000"}, tmp_path, [None, "http://mlflow:5000"])
