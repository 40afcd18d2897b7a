"""MLflow's model registry as a mirror of versions and aliases, so that `--model models:/name@champion` finds them.

The journal of moves stays the truth: what cannot be mirrored is shown, and the next move mirrors again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evalgate.errors import TrackerError
from evalgate.trackers.process import ask
from evalgate.trackers.settings import from_root, require
from evalgate.version import Lineage

SECONDS = 600.0  # weights are copied
DIGEST, NAME = "evalgate.digest", "evalgate.name"


def mirror(
    uri: str, model_name: str, alias: str, folder: Path, lineage: Lineage, *, root: Path, artifacts: Path
) -> str:
    """Register a published version, if its content is not registered yet, and let an alias of the registry name it.

    Args:
        uri: of the MLflow server or database.
        model_name: in the registry.
        alias: of the registered model.
        folder: of the version.
        lineage: of the version.
        root: of the project.
        artifacts: where files go in a database of this machine; a server has a place of its own.

    Returns:
        One line: what the alias names now.

    Raises:
        TrackerError: the registry did not take it.
        MissingExtraError: mlflow is not installed.
    """
    require("mlflow")
    run = lineage.training.trackers.get("mlflow", {}) if lineage.training else {}
    kept = run.get("uri")  # a version says of itself what it likes
    own = isinstance(kept, str) and from_root(kept, root) == from_root(uri, root)
    request = {
        "uri": from_root(uri, root),
        "name": model_name,
        "alias": alias,
        "folder": str(folder.resolve()),
        "version": lineage.name,
        "digest": lineage.digest,
        "run": run.get("run_id") if own else None,
        "artifacts": str(artifacts.resolve()),
    }
    place = {"uri": uri, "project": model_name}
    try:
        return ask("registry", request, place, root, tracker="mlflow", seconds=SECONDS)
    except TrackerError as error:
        raise TrackerError(
            f"{model_name}@{alias} could not be set to {lineage.name}: {error.what}",
            where=uri,
            mend="Run the same command again once the registry answers; the version and its alias here are in order.",
        ) from None


def register(
    uri: str, name: str, alias: str, folder: str, version: str, digest: str, run: str | None, artifacts: str
) -> str:
    """The same in the child, where MLflow may be imported."""
    from mlflow import MlflowClient

    client = MlflowClient(uri, uri)
    model = _registered(client, name)
    known = [found for found in client.search_model_versions(f"name='{model}'") if found.tags.get(DIGEST) == digest]
    if known:
        number = max(int(found.version) for found in known)
    else:
        number = _add(client, uri, model, Path(folder), {DIGEST: digest, NAME: version}, run, Path(artifacts))
    client.set_registered_model_alias(model, alias, str(number))
    return f"models:/{model}@{alias} is {version}, number {number}"


def _registered(client: Any, name: str) -> str:
    """The registered model, made where there is none."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return name


def _add(
    client: Any, uri: str, model: str, folder: Path, tags: Mapping[str, str], run: str | None, artifacts: Path
) -> int:
    from evalgate.trackers.mlflow import experiment_of

    if run is None:
        local = artifacts if uri.startswith("sqlite:") else None
        run = client.create_run(experiment_of(client, model, local), run_name=tags[NAME]).info.run_id
    # A path of its own each time: what an interrupted copy left is read-only, as the version is.
    path = f"versions/{len(client.list_artifacts(run, 'versions')) + 1}/{tags[NAME]}"
    client.log_artifacts(run, str(folder), path)
    source = f"{client.get_run(run).info.artifact_uri}/{path}"
    return int(client.create_model_version(model, source, run, tags=dict(tags)).version)
