"""The example jobs: valid, free of machines' paths, and every command and flag in them exists."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from evalgate.cli import app
from evalgate.plugin.metrics import declared_metrics
from evalgate.sweep import load_sweep
from evalgate.training.config import load_training

ROOT = Path(__file__).parents[2]
EXAMPLES = [path for path in sorted((ROOT / "examples").rglob("*")) if path.is_file() and path.suffix != ".pyc"]
JOBS = ("github-actions.yml", "gitlab-ci.yml", "crontab")


def commands(name: str) -> list[list[str]]:
    """The evalgate and pytest commands of a job, as words."""
    path = ROOT / "examples/ci" / name
    lines = path.read_text().splitlines() if name == "crontab" else list(scripts(yaml.safe_load(path.read_text())))
    found = []
    for line in lines:
        if line.startswith("#"):
            continue
        for part in re.split(r"&&|\|\||>|;", line):
            words = shlex.split(part)
            start = next((i for i, word in enumerate(words) if Path(word).name in ("evalgate", "pytest")), None)
            if start is not None and "install" not in words:
                found.append([Path(words[start]).name, *words[start + 1 :]])
    return found


def scripts(value: Any) -> Iterator[str]:
    """Every shell line of a workflow or pipeline."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "run":
                yield from inner.splitlines()
            elif key in ("script", "before_script"):
                yield from inner
            else:
                yield from scripts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from scripts(inner)


@cache
def pytest_flags() -> frozenset[str]:
    """Every long option of pytest with the plugin."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--help"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    return frozenset(re.findall(r"--[a-z][a-z-]*", done.stdout))


@pytest.mark.parametrize("name", JOBS)
def test_every_command_and_flag_exists(name: str) -> None:
    """A renamed command or flag breaks no user's night unseen; a configuration that is named has a form that works."""
    found = commands(name)
    assert any(words[:2] == ["evalgate", "nightly"] for words in found)
    group: Any = typer.main.get_command(app)
    for program, *words in found:
        flags = {word.partition("=")[0] for word in words if word.startswith("--")}
        if program == "pytest":
            assert flags <= pytest_flags(), words
            continue
        command = group.commands[words[0]]
        known = {option for parameter in command.params for option in parameter.opts}
        assert flags <= known, words
        assert len(words) - 1 >= sum(parameter.required for parameter in command.params)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_no_machine_and_no_address_is_in_them(path: Path) -> None:
    """What people copy names neither our folders nor a registry."""
    text = path.read_text()
    assert not re.search(r"/(home|root|work|tmp|usr|opt)/|https?://|index-url", text)
    assert "\t" not in text


def test_the_workflow_is_one() -> None:
    """GitHub: triggers, jobs, steps; the night keeps what git ignores, since versions and cache are the resume."""
    workflow = yaml.safe_load((ROOT / "examples/ci/github-actions.yml").read_text())
    assert {"schedule", "pull_request"} <= set(workflow[True])  # YAML 1.1 reads `on` as true
    gates = {
        name: job for name, job in workflow["jobs"].items() if name != "comment"
    }  # tests/report/test_ci_examples.py
    assert set(gates) == {"nightly", "pull-request"}
    for job in gates.values():
        assert "self-hosted" in job["runs-on"]
        checkout = next(step for step in job["steps"] if "checkout" in step.get("uses", ""))
        assert checkout["with"]["clean"] is False
        assert all(("uses" in step) != ("run" in step) for step in job["steps"])


def test_the_pipeline_is_one() -> None:
    """GitLab: every job has a script and extends what there is; runs/ and .evalgate/ survive the clean-up."""
    pipeline = yaml.safe_load((ROOT / "examples/ci/gitlab-ci.yml").read_text())
    jobs = {name: job for name, job in pipeline.items() if isinstance(job, dict) and "script" in job}
    assert set(jobs) == {"nightly", "merge-request"}
    assert all(job["extends"] in pipeline for job in jobs.values())
    for folder in ("runs/", ".evalgate/"):
        assert f"-e {folder}" in pipeline["variables"]["GIT_CLEAN_FLAGS"]


def test_the_crontab_is_one() -> None:
    """Five fields, then one line of shell that begins in the project."""
    lines = [line for line in (ROOT / "examples/ci/crontab").read_text().splitlines() if line[0].isdigit()]
    assert len(lines) == 2
    for line in lines:
        fields = line.split(maxsplit=5)
        assert all(re.fullmatch(r"[0-9*,/-]+", field) for field in fields[:5])
        assert fields[5].startswith('cd "$HOME/project" && ')
        subprocess.run(["sh", "-n", "-c", fields[5]], check=True)


def test_the_wandb_sweep_gives_pytest_what_the_search_chose() -> None:
    """W&B's own expansion of the command; the keys and the objective are those of the fixtures."""
    sweep = yaml.safe_load((ROOT / "examples/sweeps/wandb.yaml").read_text())
    assert (ROOT / sweep["program"]).is_file()
    values = {key: {"value": each["values"][0] if "values" in each else each["min"]} for key, each in
              sweep["parameters"].items()}  # fmt: skip
    code = "import json, sys; from wandb.sdk.launch.sweeps.utils import create_sweep_command_args as expand; "
    code += "print(json.dumps(expand({'args': json.loads(sys.argv[1])})['args_no_hyphens']))"
    done = subprocess.run([sys.executable, "-c", code, json.dumps(values)], capture_output=True, text=True, check=True)
    chosen = json.loads(done.stdout)
    assert chosen == ["lora.r=4", "optimizer.learning_rate=0.0003"]
    assert sweep["command"][-2:] == ["--", "${args_no_hyphens}"]
    objective, suites, flag, config = sweep["command"][3:7]
    assert (suites, flag) == ("evalsuites/", "--train")
    assert load_training(ROOT / config, chosen, ROOT).lora.r == 4
    assert objective in declared_metrics([str(ROOT / suites)])


def test_the_fixtures_sweep_fits_the_fixtures() -> None:
    """Its configuration takes every choice, end and rung; its objective is declared."""
    sweep = load_sweep(ROOT / "fixtures/training/conf/sweep.yaml")
    for overrides in sweep.checks():
        load_training(ROOT / sweep.train, overrides, ROOT)
    assert sweep.objective in declared_metrics([str(ROOT / "evalsuites")])


# -- AutoGluon --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the example's own script makes: `records` and `labels.jsonl`."""
    folder = tmp_path_factory.mktemp("autogluon")
    subprocess.run([sys.executable, str(ROOT / "examples/autogluon/make_data.py"), str(folder)], check=True)
    return folder


def learn() -> dict[str, Any]:
    """The names of the example's script; AutoGluon is imported only by what learns."""
    return runpy.run_path(str(ROOT / "examples/autogluon/learn.py"))


def test_scores_and_labels_are_joined_by_answer(answers: Path, tmp_path: Path) -> None:
    """A column per metric and the verdict, for labelled answers alone; a label of another text is of no answer."""
    script = learn()
    lines = (answers / "labels.jsonl").read_text().splitlines()
    labels = tmp_path / "labels.jsonl"
    labels.write_text("\n".join([*lines[:50], lines[60].replace("answer", "another")]))
    frame = script["labelled_scores"](str(answers / "records"), labels)
    assert list(frame.columns) == ["exact_match", "rouge", "judge", "length", "verdict"]
    assert len(frame) == 50
    assert list(frame["verdict"]) == [json.loads(line)["label"] for line in lines[:50]]
    labels.write_text(lines[60].replace("answer", "another"))
    with pytest.raises(SystemExit, match="no label is of an answer in the records"):
        script["labelled_scores"](str(answers / "records"), labels)


def test_the_best_single_metric_is_chosen_where_learning_is_allowed(answers: Path) -> None:
    """On made-up answers it is the judge; what is held out has no part in the choice and no row in common."""
    script = learn()
    frame = script["labelled_scores"](str(answers / "records"), answers / "labels.jsonl")
    train, held_out = script["split"](frame)
    assert (len(train), len(held_out)) == (600, 400)
    assert not set(train.index) & set(held_out.index)
    metric, threshold, accuracy = script["best_single"](train, held_out)
    assert metric == "judge"
    assert accuracy == pytest.approx(((held_out["judge"] > threshold) == held_out["verdict"]).mean())
    assert 0.6 < accuracy < 0.9
    flipped = held_out.assign(verdict=1 - held_out["verdict"])
    assert script["best_single"](train, flipped) == (metric, threshold, pytest.approx(1 - accuracy))
