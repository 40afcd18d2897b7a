"""From what `--model` was given to a folder on this machine. Nothing is downloaded from the model hub."""

from __future__ import annotations

import os
import re
from importlib import import_module
from pathlib import Path

from evalgate.errors import CheckpointError, MissingExtraError
from evalgate.preflight.files import quoted

_NAME = re.compile(r"[\w.-]+(?:/[\w.-]+)?", re.ASCII)
_REVISION = re.compile(r"[0-9a-f]{40}")
_CONFIGS = ("config.json", "adapter_config.json")


def resolve_model(text: str, *, cache: Path | None = None) -> Path:
    """The folder that a version's name means.

    Args:
        text: a folder, `name@40-hex-revision` of a hub model, or `models:/name@alias` of an MLflow registry.
        cache: the hub's cache on this machine; by default where HF_HUB_CACHE, HF_HOME or XDG_CACHE_HOME put it.

    Raises:
        CheckpointError: there is no such folder, the revision is not pinned, or it is not in the cache.
        MissingExtraError: an MLflow name, and mlflow is not installed.
    """
    if text.startswith("models:/"):
        return _from_mlflow(text)
    if not text or "\0" in text:
        raise CheckpointError("the model's name is empty or no path", where="--model", mend="Name a folder.")
    try:
        if Path(text).exists():
            return Path(text)
    except OSError:  # too long for a path
        pass
    name, _, revision = text.rpartition("@") if "@" in text else (text, "", "")
    if not _NAME.fullmatch(name) or (not revision and name.count("/") != 1):
        raise CheckpointError(
            f"'{quoted(text)}' is no folder",
            where="--model",
            mend="Name a version folder, name@40-hex-revision of a hub model, or models:/name@alias.",
        )
    if not _REVISION.fullmatch(revision):
        given = f"the revision '{quoted(revision)}'" if revision else "no revision"
        raise CheckpointError(
            f"'{quoted(text)}' is no folder, and as a hub model it has {given}, expected 40 hex digits",
            where="--model",
            mend=f"Names and tags can be moved: pin the commit, {name}@<40 hex digits>.",
        )
    cache = cache or _hub_cache()
    snapshot = cache / f"models--{name.replace('/', '--')}" / "snapshots" / revision
    if not snapshot.is_dir():
        raise CheckpointError(
            f"{name} at {revision} is not in the cache {cache}, and evalgate downloads nothing",
            where="--model",
            mend=f"Run: hf download {name} --revision {revision}",
        )
    return snapshot


def _hub_cache() -> Path:
    """Where huggingface_hub keeps models."""
    if found := os.environ.get("HF_HUB_CACHE"):
        return Path(found).expanduser()
    caches = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("HF_HOME", f"{caches}/huggingface")).expanduser() / "hub"


def _from_mlflow(text: str) -> Path:
    """Fetch a registered version's artifacts; the checkpoint is the one folder among them that has a configuration."""
    try:
        artifacts, exceptions = import_module("mlflow.artifacts"), import_module("mlflow.exceptions")
    except ImportError:
        raise MissingExtraError("mlflow", "trackers") from None
    try:
        root = Path(artifacts.download_artifacts(artifact_uri=text))
    except (exceptions.MlflowException, OSError) as error:
        raise CheckpointError(
            f"the registry gives nothing for '{quoted(text)}': {quoted(str(error), 200)}",
            where="--model",
            mend="Check the name, the alias and MLFLOW_TRACKING_URI.",
        ) from None
    found = sorted({config.parent for name in _CONFIGS for config in root.rglob(name)}, key=lambda p: len(p.parts))
    if not found or (len(found) > 1 and len(found[0].parts) == len(found[1].parts)):
        raise CheckpointError(
            f"'{quoted(text)}' holds {len(found)} folders with config.json or adapter_config.json, expected one",
            where="--model",
            mend="Register the version's folder itself.",
        )
    return found[0]
