"""A recipe whose version is there already: what is found in its training text now counts, and names stay apart."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from evalgate.store import read_records
from tests.training.project import V1, Project, make_project
from tests.unit.test_finetune import export, recipe

LEAKED = "Say x. word number 7 of a list that nobody trains on: x"
TOLERANT = ("--train", "conf/tiny.yaml", "--train-set", "data.max_leaked=0.1")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Its version v1 was made before anybody declared the eval set that its data leaks."""
    from evalgate.finetune import publish_exports

    project = make_project(tmp_path / "project")
    project.sums(first=LEAKED)
    made = recipe(project)
    publish_exports(made, export(made, tmp_path), made.folder, runs=made.runs)
    return project


def own_test(project: Project, body: str) -> None:
    """A test that trains."""
    (project.path / "evalsuites/test_rank.py").write_text(
        f"from test_words import words as asked\n\n\ndef test_it(finetune, evaluate):\n    {body}\n"
    )


def test_a_leak_that_is_found_now_is_left_out_by_the_gate(project: Project) -> None:
    """The version knows of none: the gate judges on all and on clean samples all the same."""
    assert project.run("evalsuites/test_words.py", "--model", "base", "--eval-record-only").returncode == 0
    assert project.evalgate("accept", "base", "-m", "the first").returncode == 0
    done = project.run("evalsuites/test_words.py", "-v", *TOLERANT)
    assert "not trained again" in done.stdout
    assert "words/words: 1 of 40 samples (2.50%) stand in the training text" in done.stdout
    assert "on the 39 clean ones INCONCLUSIVE" in " ".join(done.stdout.split()), done.stdout
    records = {each.checkpoint["name"]: each for each in read_records(str(project.path / ".evalgate/records"))}
    assert not records["base"].leaked
    assert records["v1"].leaked == frozenset({"w7"})


@pytest.mark.parametrize("selection", [("evalsuites", "-k", "test_it"), ("evalsuites/test_rank.py",)])
def test_a_test_cannot_ask_what_was_trained_on(project: Project, selection: tuple[str, ...]) -> None:
    """Whether the eval set was deselected or only imported, its leaked sample is an error and no score."""
    own_test(project, "evaluate(asked, finetune('conf/tiny.yaml'))")
    done = project.run(*selection)
    assert done.returncode == 1
    assert "1 of 40 samples (2.50%) stand in the training text: w7" in done.stdout, done.stdout


def test_a_version_is_not_mistaken_for_a_model_of_the_same_name(project: Project) -> None:
    """Each has its own answers, and what a test admits is no candidate of the gate."""
    shutil.copytree(V1, project.path / "other/v1")
    own_test(
        project,
        "version = finetune('conf/tiny.yaml', 'data.max_leaked=0.1')\n"
        "    digests = {evaluate(asked).checkpoint['digest'], evaluate(asked, version).checkpoint['digest']}\n"
        "    assert len(digests) == 2",
    )
    done = project.run("evalsuites/test_rank.py", "--model", "other/v1", "--eval-results", "results.json")
    assert done.returncode == 0, done.stdout
    results = json.loads((project.path / "results.json").read_text())
    assert [each["folder"] for each in results["candidates"]] == ["other/v1"]


def test_what_is_trained_and_named_is_given_once(project: Project) -> None:
    """A copy of the version that --train makes is the same candidate."""
    shutil.copytree(project.path / "runs/v1", project.path / "elsewhere/copied")
    done = project.run("evalsuites/test_words.py", *TOLERANT, "--model", "elsewhere/copied")
    assert done.returncode == 4, done.stdout + done.stderr
    assert "--train makes what copied is" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
