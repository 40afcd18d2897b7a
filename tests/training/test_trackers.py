"""A real training with five trackers, offline, then gated: each tracker's own reader reads it back; the registry."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from evalgate.preflight import read_checkpoint
from evalgate.version import Lineage
from evalgate.versions import read_lineage
from tests.training.project import Project, make_project

CANARY = "canary-5e1b07c4"
# Keys of every kind; those of the trackers come with a word that says offline.
SECRETS = {
    "HF_TOKEN": CANARY,
    "OPENAI_API_KEY": CANARY,
    "AWS_SECRET_ACCESS_KEY": CANARY,
    "WANDB_API_KEY": CANARY * 3,
    "WANDB_MODE": "offline",
    "COMET_API_KEY": CANARY,
    "COMET_START_ONLINE": "0",
    "MLFLOW_TRACKING_PASSWORD": CANARY,
    "TRACKIO_WRITE_TOKEN": CANARY,
}
GATE = ("evalsuites/test_words.py", "--model")
VERDICT = "evalgate/verdict"
SAID = "INCONCLUSIVE"  # the same answers to 40 samples, too few for a PASS
DIFFERENCE = "evalgate/difference/words/words::exact_match"


@dataclass(frozen=True)
class Tracked:
    """The project after the base was accepted and `pytest --train` has run."""

    project: Project
    gated: subprocess.CompletedProcess[str]

    @property
    def lineage(self) -> Lineage:
        """Of the version."""
        return read_lineage(self.project.path / "runs/v1")

    def run_of(self, name: str) -> dict[str, Any]:
        """What finds a tracker's run."""
        assert self.lineage.training
        return dict(self.lineage.training.trackers[name])

    @property
    def losses(self) -> Any:
        """Of every step, as every tracker must have them."""
        assert self.lineage.training
        return pytest.approx(list(self.lineage.training.losses), rel=1e-6)

    @property
    def config_digest(self) -> str:
        """Of the configuration, as every tracker must have it."""
        assert self.lineage.training
        return self.lineage.training.config_digest

    def read(self, script: str, **environment: str) -> Any:
        """What a tracker's own reader says, in a process of its own, as JSON."""
        return json.loads(self.say([sys.executable, "-W", "ignore", "-c", script], **environment))

    def say(self, command: list[str], **environment: str) -> str:
        """What a tracker's own command prints."""
        done = self.project.command(command, **environment)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Tracked:
    """One training for all tests."""
    project = make_project(tmp_path_factory.mktemp("trackers") / "project")
    config = project.path / "conf/tiny.yaml"
    text = config.read_text("utf-8").replace("epochs: 2", "epochs: 1")
    five = "tracking: {trackers: [mlflow, wandb, tensorboard, comet, trackio], project: shop}\n"
    config.write_text(text + five, "utf-8")
    settings = project.path / "pyproject.toml"
    settings.write_text('[tool.evalgate]\nregistry = "shop"\n' + settings.read_text("utf-8"), "utf-8")
    project.run(*GATE, "base")
    accepted = project.evalgate("accept", "base", "-m", "the first")
    assert accepted.returncode == 0, accepted.stderr
    return Tracked(project, project.run("evalsuites/test_words.py", "--train", "conf/tiny.yaml", **SECRETS))


def test_every_tracker_says_where_it_wrote(tracked: Tracked) -> None:
    """A line each, with the run, after publishing and after the gate; none has gaps."""
    assert tracked.gated.returncode == 0, tracked.gated.stdout
    for name, found in (("mlflow", "run_id"), ("wandb", "id"), ("comet", "key"), ("trackio", "name")):
        where = tracked.run_of(name)[found]
        assert any(line.startswith(f"{name}: verdict of v1 written to") and where in line for line in _lines(tracked))
    assert f"tensorboard: verdict of v1 written to {tracked.run_of('tensorboard')['dir']}" in _lines(tracked)
    assert "lineage of v1 written to" in tracked.gated.stdout
    assert "could not be written" not in tracked.gated.stdout
    assert "curves have gaps" not in tracked.gated.stdout


def _lines(tracked: Tracked) -> list[str]:
    return tracked.gated.stdout.splitlines()


def test_mlflow(tracked: Tracked) -> None:
    """Its client finds one run with the curve, the params, the verdict, the difference at its step, and the card."""
    script = """
import json, mlflow
client = mlflow.MlflowClient("sqlite:///.evalgate/mlflow.db")
[run] = client.search_runs([client.get_experiment_by_name("shop").experiment_id])
id_ = run.info.run_id
[difference] = client.get_metric_history(id_, "evalgate/difference/words/words::exact_match")
print(json.dumps({
    "id": id_, "status": run.info.status, "params": run.data.params, "tags": run.data.tags,
    "losses": [m.value for m in client.get_metric_history(id_, "loss")],
    "difference": [difference.value, difference.step],
    "files": sorted(file.path for file in client.list_artifacts(id_, "evalgate/v1")),
}))
"""
    found = tracked.read(script)
    assert (found["id"], found["status"]) == (tracked.run_of("mlflow")["run_id"], "FINISHED")
    assert found["losses"] == tracked.losses
    assert found["params"]["evalgate/config_digest"] == tracked.config_digest
    assert (found["tags"][VERDICT], found["tags"]["evalgate/digest"]) == (SAID, tracked.lineage.digest)
    assert found["difference"] == [0.0, tracked.lineage.step]
    assert found["files"] == ["evalgate/v1/evalgate.json", "evalgate/v1/index.html"]
    assert not [path for path in tracked.project.path.iterdir() if path.name in ("mlruns", "mlflow.db")]


def test_wandb(tracked: Tracked) -> None:
    """`wandb leet inspect` reads the offline folders of one run id: the curve in the first, the verdict in the last."""
    id_ = tracked.run_of("wandb")["id"]
    records: list[dict[str, Any]] = []
    for folder in sorted((tracked.project.path / ".evalgate/trackers/wandb/wandb").glob(f"offline-run-*-{id_}")):
        said = tracked.say([str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", str(folder)])
        records += [json.loads(line) for line in said.splitlines()]
    history = [record["history"]["item"] for record in records if record["type"] == "history"]
    assert [item["train/loss"] for item in history if "train/loss" in item] == tracked.losses
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    for record in records:
        config |= record.get("config", {}).get("update", {})
        summary |= record.get("summary", {}).get("update", {})
    assert config["evalgate/config_digest"] == tracked.config_digest
    assert (summary[VERDICT], summary[DIFFERENCE]) == (SAID, 0)
    artifacts = [record["artifact"] for record in records if record["type"] == "artifact"]
    assert {entry["path"] for entry in artifacts[-1]["manifest"]["contents"]} == {"evalgate.json", "index.html"}


def test_tensorboard(tracked: Tracked) -> None:
    """Its event accumulator reads the curve's file and those of the notes as one run."""
    script = """
import json
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
run = EventAccumulator(FOLDER)
run.Reload()
text = lambda tag: run.Tensors(tag)[-1].tensor_proto.string_val[0].decode()
difference = run.Scalars("evalgate/difference/words/words::exact_match")[-1]
print(json.dumps({
    "losses": [event.value for event in run.Scalars("train/loss")],
    **{name: text(f"evalgate/{name}") for name in ("config_digest", "verdict", "files")},
    "difference": [difference.value, difference.step],
}))
"""
    found = tracked.read(f"FOLDER = {tracked.run_of('tensorboard')['dir']!r}\n{script}")
    assert found["losses"] == tracked.losses
    assert (found["config_digest"], found["verdict"]) == (tracked.config_digest, SAID)
    assert found["difference"] == [0.0, tracked.lineage.step]
    assert found["files"].endswith("reports/v1/index.html")


def test_comet(tracked: Tracked) -> None:
    """`comet offline` reads the archives of one experiment: the curve in the first, the verdict in the last."""
    run = tracked.run_of("comet")
    archives = sorted((tracked.project.path / run["dir"]).rglob(f"{run['key']}*.zip"), key=lambda p: p.stat().st_mtime)
    assert len(archives) == 3  # the curve, the lineage, the verdict
    command = str(Path(sys.executable).with_name("comet"))
    said = tracked.say([command, "offline", "--csv", "--level", "detail", *map(str, archives)])
    rows = list(csv.DictReader(io.StringIO(said)))
    assert {row["experiment"] for row in rows} == {run["key"]}
    assert [float(row["value"]) for row in rows if row["name"] == "train/loss"] == tracked.losses
    params = {row["name"]: row["value"] for row in rows if row["section"] == "param"}
    assert params["evalgate/config_digest"] == tracked.config_digest
    metrics = {row["name"]: row["value"] for row in rows if row["section"] == "metric"}
    assert float(metrics[DIFFERENCE]) == 0.0
    others = [row["value"] for row in rows if row["name"] in ("key", "value")]
    assert others[others.index(VERDICT) + 1] == SAID


def test_trackio(tracked: Tracked) -> None:
    """Its Api finds one run whose configuration has the digests and the verdict, and its storage the curve."""
    script = """
import json, trackio
from trackio.sqlite_storage import SQLiteStorage
[run] = trackio.Api().runs("shop")
logs = SQLiteStorage.get_logs("shop", run.name, run_id=run.id)
print(json.dumps({"name": run.name, "config": run.config, "logs": logs}))
"""
    found = tracked.read(script, TRACKIO_DIR=".evalgate/trackers/trackio")
    assert found["name"] == tracked.run_of("trackio")["name"]
    assert [row["train/loss"] for row in found["logs"] if "train/loss" in row] == tracked.losses
    assert found["config"]["evalgate/config_digest"] == tracked.config_digest
    assert found["config"][VERDICT] == SAID
    assert found["logs"][-1][DIFFERENCE] == 0.0


def test_no_secret_is_in_anything_that_was_written(tracked: Tracked) -> None:
    """Neither in files nor inside archives; and the search that says so finds what is there."""
    assert not _holding(tracked.project.path, CANARY)
    found = _holding(tracked.project.path / ".evalgate/trackers", tracked.config_digest)
    assert {path.relative_to(tracked.project.path).parts[2] for path in found} >= {
        "wandb",
        "tensorboard",
        "comet",
        "trackio",
    }


def _holding(folder: Path, text: str) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in _content(path)]


def _content(path: Path) -> bytes:
    if path.suffix != ".zip":
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        return b"".join(archive.read(name) for name in archive.namelist())


# -- the registry -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def promoted(tracked: Tracked) -> subprocess.CompletedProcess[str]:
    """The version is the champion, here and in a registry of this machine."""
    return tracked.project.evalgate("promote", "runs/v1", "--as", "champion")


@pytest.fixture(scope="module")
def from_registry(tracked: Tracked, promoted: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    """The champion of the registry, gated, while one of the trackers is broken."""
    assert promoted.returncode == 0
    folder = tracked.project.path / tracked.run_of("tensorboard")["dir"]
    folder.rename(folder.with_name("away"))
    folder.write_text("a file where a folder should be", "utf-8")
    return tracked.project.run(*GATE, "models:/shop@champion")


def test_promoting_mirrors_into_the_registry(tracked: Tracked, promoted: subprocess.CompletedProcess[str]) -> None:
    """The files lie with the training's run, the registered version has digest and name; a second time adds nothing."""
    assert promoted.returncode == 0, promoted.stderr
    assert "models:/shop@champion is v1, number 1" in promoted.stdout
    again = tracked.project.evalgate("promote", "runs/v1", "--as", "champion")
    assert "models:/shop@champion is v1, number 1" in again.stdout
    script = """
import json, mlflow
client = mlflow.MlflowClient("sqlite:///.evalgate/mlflow.db")
[version] = client.search_model_versions("name='shop'")
champion = client.get_model_version_by_alias("shop", "champion").version
print(json.dumps({"run": version.run_id, "tags": version.tags, "numbers": [version.version, champion]}))
"""
    assert tracked.read(script) == {
        "run": tracked.run_of("mlflow")["run_id"],
        "tags": {"evalgate.digest": tracked.lineage.digest, "evalgate.name": "v1"},
        "numbers": [1, 1],
    }


def test_the_champion_of_the_registry_is_gated(
    tracked: Tracked, from_registry: subprocess.CompletedProcess[str]
) -> None:
    """Byte for byte the version that was promoted: it finds its base, and its answers are in the cache."""
    assert from_registry.returncode == 0, from_registry.stdout + from_registry.stderr
    assert "no engine started" in from_registry.stdout
    [copy] = (tracked.project.path / ".evalgate/trackers/mlflow").rglob("adapter_config.json")
    base = tracked.project.path / "base"
    original = read_checkpoint(tracked.project.path / "runs/v1", base=base)
    assert read_checkpoint(copy.parent, base=base).digest == original.digest == tracked.lineage.digest


def test_a_broken_tracker_is_shown_and_changes_no_verdict(from_registry: subprocess.CompletedProcess[str]) -> None:
    """The gate passes as before; the line says which tracker has not got it, and the others have."""
    assert from_registry.returncode == 0
    assert "tensorboard: the verdict of v1 could not be written: " in from_registry.stdout
    assert "mlflow: verdict of v1 written to run" in from_registry.stdout


def test_a_registry_that_does_not_answer_undoes_no_promotion(
    tracked: Tracked, promoted: subprocess.CompletedProcess[str]
) -> None:
    """The alias has moved; the command says that the mirror has not, and ends with 2."""
    settings = tracked.project.path / "pyproject.toml"
    before = settings.read_text("utf-8")
    settings.write_text(before.replace('"shop"\n', '"shop"\nregistry_uri = "http://127.0.0.1:9"\n'), "utf-8")
    try:
        done = tracked.project.evalgate("promote", "runs/v1", "--as", "canary", MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    finally:
        settings.write_text(before, "utf-8")
    assert done.returncode == 2
    assert "canary is runs/v1 now" in done.stdout
    assert "http://127.0.0.1:9: shop@canary could not be set to v1: " in done.stderr
    assert (tracked.project.path / "runs/canary").resolve().name == "v1"
