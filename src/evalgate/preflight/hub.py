"""From what `--model` was given to a folder on this machine. Nothing is downloaded from the model hub."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from evalgate.errors import CheckpointError, MissingExtraError
from evalgate.preflight.files import quoted

_NAME = re.compile(r"[\w.-]+(?:/[\w.-]+)?", re.ASCII)
_REVISION = re.compile(r"[0-9a-f]{40}")
_CONFIGS = ("config.json", "adapter_config.json")
_FETCH = """
import sys
from mlflow.artifacts import download_artifacts
print("\\n" + download_artifacts(artifact_uri=sys.argv[1]))
"""
FETCH_SECONDS = 1800.0


def resolve_model(text: str, *, cache: Path | None = None, registry: str | None = None) -> Path:
    """The folder that a version's name means.

    Args:
        text: a folder, `name@40-hex-revision` of a hub model, or `models:/name@alias` of an MLflow registry.
        cache: the hub's cache on this machine; by default where HF_HUB_CACHE, HF_HOME or XDG_CACHE_HOME put it.
        registry: address of the MLflow registry; by default what MLflow's own variables say.

    Raises:
        CheckpointError: there is no such folder, the revision is not pinned, or it is not in the cache.
        MissingExtraError: an MLflow name, and mlflow is not installed.
    """
    if text.startswith("models:/"):
        return _from_mlflow(text, registry)
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


def _from_mlflow(text: str, registry: str | None) -> Path:
    """Fetch a registered version's artifacts, in a child: MLflow prints, warns, and keeps its addresses in globals."""
    if find_spec("mlflow") is None:
        raise MissingExtraError("mlflow", "trackers")
    # Passed as arguments, the addresses are not heard everywhere, and MLflow then makes a database where one stands.
    named = {"MLFLOW_TRACKING_URI": registry, "MLFLOW_REGISTRY_URI": registry} if registry else {}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-W", "ignore", "-c", _FETCH, text],
            env=os.environ | named,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=FETCH_SECONDS,
            check=False,
        )
        said = (done.stdout if done.returncode == 0 else done.stderr).strip().rpartition("\n")[2]
    except subprocess.TimeoutExpired:
        done, said = None, f"no answer within {FETCH_SECONDS:g} s"
    if done is None or done.returncode:
        raise CheckpointError(
            f"the registry gives nothing for '{quoted(text)}': {quoted(said, 200)}",
            where="--model",
            mend="Check the name, the alias and registry_uri in [tool.evalgate], or MLFLOW_TRACKING_URI.",
        )
    return _the_checkpoint(Path(said), text)


def _the_checkpoint(root: Path, text: str) -> Path:
    """The one folder among the artifacts that has a configuration."""
    found = sorted({config.parent for name in _CONFIGS for config in root.rglob(name)}, key=lambda p: len(p.parts))
    if not found or (len(found) > 1 and len(found[0].parts) == len(found[1].parts)):
        raise CheckpointError(
            f"'{quoted(text)}' holds {len(found)} folders with config.json or adapter_config.json, expected one",
            where="--model",
            mend="Register the version's folder itself.",
        )
    return found[0]
