"""Where trackers write, and the environment that makes their libraries write there: offline unless a key is set."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from evalgate.errors import ConfigError, MissingExtraError, TrackerError

PLACES = "EVALGATE_TRACKERS"
LIBRARIES = {
    "mlflow": "mlflow",
    "wandb": "wandb",
    "tensorboard": "tensorboard",
    "comet": "comet_ml",
    "trackio": "trackio",
    "neptune": "neptune",
}
EXTRAS = {"neptune": "neptune"}
_FIELDS = {  # without which a run is not found again
    "mlflow": ("dir", "project", "uri", "run_id"),
    "wandb": ("dir", "project", "id"),
    "tensorboard": ("dir",),
    "comet": ("dir", "project", "key"),
    "trackio": ("dir", "project", "name"),
    "neptune": ("dir", "project"),
}
# Against what these libraries do unasked. transformers imports comet_ml wherever it is installed, and comet_ml then
# patches other libraries (mlflow among them) and writes what they log into experiments of its own.
ALWAYS = {
    "COMET_DISABLE_AUTO_LOGGING": "1",
    "COMET_INTERNAL_REPORTING": "0",
    "COMET_INTERNAL_SENTRY_DSN": "",
    "DO_NOT_TRACK": "true",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
}


def environment(
    tracking: Mapping[str, Any], *, root: Path, state: Path, run: str, environ: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The variables under which a training's trackers write where they should; keys are not among them.

    Args:
        tracking: the `tracking` group of a training configuration.
        root: of the project.
        state: its `.evalgate`.
        run: a name of this training that a resumed one has too.
        environ: says whether there are keys; by default this process's.

    Raises:
        ConfigError: an address with a password in it, which would be kept wherever the address is.
        MissingExtraError: a tracker is named and not installed.
    """
    environ = os.environ if environ is None else environ
    names = list(tracking["trackers"])
    for name in names:
        require(name)
    places = {name: _place(name, tracking, root, state, run) for name in names}
    variables = dict(ALWAYS)
    for name, place in places.items():
        variables |= variables_of(name, place, root, environ)
    return variables | (
        {PLACES: json.dumps({"root": str(root.resolve()), "run": run, "places": places})} if places else {}
    )


def require(name: str) -> None:
    """Raise MissingExtraError where a tracker's library is not installed."""
    if find_spec(LIBRARIES[name]) is None:
        raise MissingExtraError(LIBRARIES[name], EXTRAS.get(name, "trackers"))


def require_own(name: str, run: Mapping[str, Any], root: Path, known: Collection[str | None]) -> None:
    """Refuse a run that lies elsewhere than this project's: what a version says of itself is not trusted with keys.

    Args:
        name: of the tracker.
        run: as a version's `evalgate.json` has it.
        root: of the project.
        known: addresses of MLflow that are in order.

    Raises:
        TrackerError: there is no such tracker, a field is missing, or the run lies elsewhere.
    """
    if name not in LIBRARIES:
        raise TrackerError(f"there is no tracker of this name, only {', '.join(LIBRARIES)}")
    damaged = [f for f in _FIELDS[name] if not isinstance(run.get(f), str)]
    if damaged:
        raise TrackerError(f"the version does not say how its run is found: {', '.join(damaged)}")
    uri = run["uri"] if "uri" in _FIELDS[name] else ""
    paths = [run["dir"], *([uri.removeprefix("sqlite:///")] if uri.startswith("sqlite:///") else [])]
    for path in paths:
        if "\0" in path or not (root / path).resolve().is_relative_to(root.resolve()):
            raise TrackerError(f"the version names {path!a}, which lies outside of the project")
    if uri and not uri.startswith("sqlite:///") and uri not in known:
        raise TrackerError(
            f"the version names {uri!a}, and nobody here does", mend="If it is yours, put it into MLFLOW_TRACKING_URI."
        )


def variables_of(name: str, place: Mapping[str, Any], root: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """What one tracker's library needs to know; what the user set and it does not name stays in force."""
    return _VARIABLES[name](place, root.resolve(), environ)


def _place(name: str, tracking: Mapping[str, Any], root: Path, state: Path, run: str) -> dict[str, str]:
    """Where a tracker writes, as far as it is known before; relative to the root where it lies inside."""
    folder = state.resolve()
    kept = folder.relative_to(root.resolve()) if folder.is_relative_to(root.resolve()) else folder
    own = kept / "trackers" / name
    project = {"project": str(tracking["project"])}
    if name == "mlflow":
        return project | {"uri": _address(tracking["uri"]) or f"sqlite:///{kept / 'mlflow.db'}", "dir": str(own)}
    if name in ("tensorboard", "comet"):
        return (project if name == "comet" else {}) | {"dir": str(own / run)}
    return project | {"dir": str(own)}


def _address(uri: str | None) -> str | None:
    if uri and urlsplit(uri).password:
        raise ConfigError(
            "the address holds a password, which would be stored with every version",
            where="tracking.uri",
            mend="Take it out and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.",
        )
    return uri


def from_root(uri: str, root: Path) -> str:
    """An MLflow address that is the same wherever it is used: SQLite paths are relative to the root."""
    path = uri.removeprefix("sqlite:///")
    return uri if path == uri else f"sqlite:///{root.resolve() / path}"


def _mlflow(place: Mapping[str, Any], root: Path, environ: Mapping[str, str]) -> dict[str, str]:
    return {
        "MLFLOW_TRACKING_URI": from_root(place["uri"], root),
        "MLFLOW_EXPERIMENT_NAME": place["project"],
        "MLFLOW_HTTP_REQUEST_TIMEOUT": environ.get("MLFLOW_HTTP_REQUEST_TIMEOUT", "20"),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": environ.get("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2"),
    }


def _wandb(place: Mapping[str, Any], root: Path, environ: Mapping[str, str]) -> dict[str, str]:
    folder = root / place["dir"]
    return {
        "WANDB_MODE": environ.get("WANDB_MODE") or ("online" if environ.get("WANDB_API_KEY") else "offline"),
        "WANDB_PROJECT": place["project"],
        "WANDB_DIR": str(folder),
        "WANDB_CACHE_DIR": str(folder / "cache"),
        "WANDB_CONFIG_DIR": str(folder / "config"),
        "WANDB_DATA_DIR": str(folder / "data"),
        # Neither what the console showed, nor code, nor a remote's address, in which tokens are found.
        "WANDB_CONSOLE": "off",
        "WANDB_DISABLE_CODE": "true",
        "WANDB_DISABLE_GIT": "true",
        "WANDB_SILENT": "true",
    }


def _tensorboard(place: Mapping[str, Any], root: Path, _: Mapping[str, str]) -> dict[str, str]:
    return {"TENSORBOARD_LOGGING_DIR": str(root / place["dir"])}


def _comet(place: Mapping[str, Any], root: Path, environ: Mapping[str, str]) -> dict[str, str]:
    # Left alone it keeps the source of the running program, the git patch, every package of the system and the console.
    unasked = ("CODE", "GIT_METADATA", "GIT_PATCH", "ENV_DETAILS", "CLI_ARGUMENTS", "OUTPUT_LOGGER")
    return {f"COMET_AUTO_LOG_{name}": "0" for name in unasked} | {
        "COMET_START_ONLINE": environ.get("COMET_START_ONLINE") or str(int(bool(environ.get("COMET_API_KEY")))),
        "COMET_OFFLINE_DIRECTORY": str(root / place["dir"]),
        "COMET_PROJECT_NAME": place["project"],
        "COMET_DISPLAY_SUMMARY_LEVEL": "0",
        "COMET_LOGGING_CONSOLE": "ERROR",
    }


def _trackio(place: Mapping[str, Any], root: Path, _: Mapping[str, str]) -> dict[str, str]:
    return {"TRACKIO_DIR": str(root / place["dir"])}


def _neptune(place: Mapping[str, Any], root: Path, _: Mapping[str, str]) -> dict[str, str]:
    return {
        "NEPTUNE_MODE": "offline",
        "NEPTUNE_PROJECT": place["project"],
        "NEPTUNE_DATA_DIRECTORY": str(root / place["dir"]),
    }


_VARIABLES: dict[str, Callable[[Mapping[str, Any], Path, Mapping[str, str]], dict[str, str]]] = {
    "mlflow": _mlflow,
    "wandb": _wandb,
    "tensorboard": _tensorboard,
    "comet": _comet,
    "trackio": _trackio,
    "neptune": _neptune,
}
