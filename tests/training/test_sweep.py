"""`evalgate sweep` over real trainings: killed in the middle, taken up, none done twice; and by Ray Tune."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from evalgate.ledger import Ledger
from evalgate.versions import list_versions
from tests.training.arena import OBJECTIVE, descendants, kill, make_arena, start, until
from tests.training.project import Project

# Eight points, but two trainings: how much leakage is allowed changes no weight.
SWEEP = f"""
name: twenty
train: conf/tiny.yaml
objective: {OBJECTIVE}
trials: 20
space:
  lora.r: {{choices: [2, 4]}}
  data.max_leaked: {{choices: [0.0, 0.1, 0.2, 0.3]}}
"""


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """v1, trained first, holds; v2 regresses."""
    project = make_arena(tmp_path_factory.mktemp("arena"), {"v1": 9, "v2": 60})
    (project.path / "conf/sweep.yaml").write_text(SWEEP)
    (project.path / "conf/ray.yaml").write_text(
        SWEEP.replace("twenty", "rays\nbackend: ray\nparallel: 2").replace("20", "2")
    )
    return project


def finished(project: Project) -> dict[Path, int]:
    """Results of points that were run, and when."""
    found = (project.path / ".evalgate/sweeps/twenty").glob("*/results.json")
    return {path: path.stat().st_mtime_ns for path in found}


def test_a_sweep_killed_in_the_middle_ends_with_twenty_trials(arena: Project) -> None:
    """Killed twice, once with and once without the pytest below it: 20 trials end, and no point was run twice."""
    import optuna

    def runs_pytest(pid: int) -> bool:
        return any(b"pytest" in (Path("/proc") / str(child) / "cmdline").read_bytes() for child in descendants(pid))

    for count, below in ((1, True), (3, False)):
        sweep = start(arena, "sweep", "conf/sweep.yaml")
        until(lambda count=count: len(finished(arena)) >= count)  # type: ignore[misc]
        seen = len(finished(arena))
        until(lambda seen=seen, pid=sweep.pid: len(finished(arena)) > seen or runs_pytest(pid))  # type: ignore[misc]
        assert sweep.poll() is None, (arena.path / "said").read_text()
        before = finished(arena)
        kill(sweep, below=below)
    done = arena.evalgate("sweep", "conf/sweep.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    after = finished(arena)
    assert {path: after[path] for path in before} == before

    study = optuna.load_study(study_name="twenty", storage=f"sqlite:///{arena.path}/.evalgate/sweeps/twenty.sqlite")
    states = [trial.state.name for trial in study.trials]
    assert (states.count("COMPLETE"), states.count("RUNNING")) == (20, 0)
    killed = [trial for trial in study.trials if trial.state.name == "FAIL"]
    assert len(killed) == 2
    again = {trial.user_attrs["retries"]: trial.params for trial in study.trials if "retries" in trial.user_attrs}
    assert again == {trial.number: trial.params for trial in killed}

    # Two trainings, one run of pytest for each point, and one more for the one that was killed with its pytest.
    assert [folder.name for folder, _ in list_versions(arena.path / "runs")] == ["v1", "v2"]
    points = {tuple(sorted(trial.params.items())) for trial in study.trials}
    assert len(after) == len(points) <= 8
    plans = [entry for entry in Ledger(arena.path / ".evalgate/ledger.jsonl").entries() if entry.kind == "plan"]
    assert len(plans) <= len(points) + 2  # the first is that of the baseline


def test_the_table_names_the_best_that_passes(arena: Project) -> None:
    """Started again there is nothing left to do: the same table, the version, and the command that promotes it."""
    before = finished(arena)
    done = arena.evalgate("sweep", "conf/sweep.yaml")
    assert (done.returncode, finished(arena)) == (0, before)
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["trial", "score", "verdict", "version", "parameters"]
    assert len(lines) == 1 + 20 + 2
    assert any("REGRESSION  runs/v2" in line for line in lines)
    assert lines[-1] == "evalgate promote runs/v1 --as champion"
    assert arena.evalgate("promote", "runs/v1", "--as", "champion").returncode == 0


def test_a_trial_is_the_command_that_a_person_types(arena: Project) -> None:
    """The records say which command made them."""
    (record, *_) = (arena.path / ".evalgate/records").glob("v1-*/arithmetic/*.jsonl")
    command = json.loads(record.read_text().splitlines()[0])["provenance"]["command"]
    assert command.startswith("pytest evalsuites -q --eval-train conf/tiny.yaml --eval-train-set lora.r=")
    assert str(arena.path) not in command


def test_ray_tune_searches_too(arena: Project) -> None:
    """The same definition on Ray: what was trained is not trained again, and a second start repeats nothing."""
    done = arena.evalgate("sweep", "conf/ray.yaml", RAY_AUTH_MODE="disabled")
    assert done.returncode in (0, 1), done.stdout + done.stderr
    assert len(done.stdout.split("trial  score")[-1].splitlines()) >= 3
    results = {path: path.stat().st_mtime_ns for path in (arena.path / ".evalgate/sweeps/rays").glob("*/results.json")}
    assert results
    trained = [folder.name for folder, _ in list_versions(arena.path / "runs")]
    again = arena.evalgate("sweep", "conf/ray.yaml", RAY_AUTH_MODE="disabled")
    assert again.stdout == done.stdout
    assert results == {path: path.stat().st_mtime_ns for path in results}
    assert [folder.name for folder, _ in list_versions(arena.path / "runs")] == trained


def test_the_wandb_example_logs_what_the_command_came_to(arena: Project) -> None:
    """As its agent calls it, offline: the score of what passes under the name that is searched for, else another."""
    script = Path(__file__).parents[2] / "examples/sweeps/wandb_trial.py"
    logged = {}
    for rank in (4, 2):
        words = [OBJECTIVE, "evalsuites", "--train", "conf/tiny.yaml", "--", f"lora.r={rank}"]
        done = subprocess.run(
            [sys.executable, str(script), *words],
            cwd=arena.path,
            env={**os.environ, "WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        summary = dict(line.split()[1:] for line in done.stderr.splitlines() if len(line.split()) == 3)
        logged[summary["version"]] = {name: summary.get(name) for name in ("score", "blocked_score", "passed")}
    assert logged == {
        "runs/v1": {"score": "0.955", "blocked_score": None, "passed": "1"},
        "runs/v2": {"score": None, "blocked_score": "0.7", "passed": "0"},
    }
    assert len([*(arena.path / "wandb").glob("offline-run-*")]) == 2


def test_an_objective_that_no_suite_declares_is_one_line(arena: Project) -> None:
    """Said before anything is trained, with the nearest one there is."""
    path = arena.path / "conf/other.yaml"
    path.write_text(SWEEP.replace("twenty", "other").replace("exact_match", "exact_mach"))
    done = arena.evalgate("sweep", "conf/other.yaml")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert f"Did you mean {OBJECTIVE}?" in done.stderr
    assert not (arena.path / ".evalgate/sweeps/other.sqlite").exists()
