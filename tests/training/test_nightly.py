"""`evalgate nightly`: train, evaluate, gate, card, promote or not; one exit code; safe to start twice and to kill."""

from __future__ import annotations

import json
import os
import signal

import pytest

from evalgate.lock import alone
from evalgate.promote import Aliases
from evalgate.versions import list_versions
from tests.training.arena import kill, make_arena, start, until
from tests.training.project import Project


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """v1 and v3 hold, v2 regresses, in the order in which they are trained."""
    return make_arena(tmp_path_factory.mktemp("nights"), {"v1": 9, "v2": 60, "v3": 10})


def champion(project: Project) -> str | None:
    """Where the alias points."""
    return Aliases(project.path / "runs").current().get("champion")


def test_a_good_night_is_promoted(arena: Project) -> None:
    """A version, a verdict by the nightly rules, a card, the alias; exit code 0 and one last line that says it."""
    done = arena.evalgate("nightly", "conf/tiny.yaml", "--promote", "champion")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "nightly: runs/v1 passed, card reports/v1/index.html; champion is v1"
    assert (arena.path / "reports/v1/index.html").is_file()
    assert "would be blocked" in done.stdout  # the nightly rules were in force
    assert champion(arena) == "v1"
    assert json.loads((arena.path / ".evalgate/nightly.json").read_text())["exit"] == 0


def test_the_same_night_again_trains_nothing(arena: Project) -> None:
    """Configuration and data have not changed: the same version, the same verdict, the alias as before."""
    done = arena.evalgate("nightly", "conf/tiny.yaml", "--promote", "champion")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].endswith("champion is v1, as before")
    assert [folder.name for folder, _ in list_versions(arena.path / "runs")] == ["v1"]


def test_a_registry_follows_the_night(arena: Project) -> None:
    """As after `evalgate promote`; one that does not answer is exit code 2 and undoes nothing."""
    settings = arena.path / "pyproject.toml"
    before = settings.read_text()
    settings.write_text('[tool.evalgate]\nregistry = "shop"\nregistry_uri = "http://127.0.0.1:9"\n' + before)
    night = ("nightly", "conf/tiny.yaml", "--promote", "champion")
    done = arena.evalgate(*night, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    settings.write_text(before)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "shop@champion could not be set to v1" in done.stderr
    assert champion(arena) == "v1"


def test_a_regression_is_not_promoted(arena: Project) -> None:
    """Exit code 1, and the alias stays."""
    done = arena.evalgate("nightly", "conf/tiny.yaml", "--train-set", "lora.r=2", "--promote", "champion")
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("nightly: runs/v2 was blocked, card reports/v2/index.html")
    assert done.stdout.splitlines()[-1].endswith("champion stays where it is")
    assert champion(arena) == "v1"


def test_killed_in_the_middle_the_next_start_goes_on(arena: Project) -> None:
    """The kill frees the lock; the next start ends with the version, and it is promoted."""
    night = ("nightly", "conf/tiny.yaml", "--train-set", "lora.r=3", "--promote", "champion")
    first = start(arena, *night)
    until(lambda: [*(arena.path / ".evalgate/training").glob("*/log.jsonl")])
    second = arena.evalgate(*night)
    assert (second.returncode, second.stdout, len(second.stderr.splitlines())) == (2, "", 1)
    assert "evalgate nightly is running already, since 20" in second.stderr
    assert f"started by process {first.pid}" in second.stderr
    kill(first, below=True)
    done = arena.evalgate(*night)
    assert done.returncode == 0, done.stdout + done.stderr
    assert champion(arena) == "v3"
    assert [folder.name for folder, _ in list_versions(arena.path / "runs")] == ["v1", "v2", "v3"]


def test_what_cannot_be_done_is_two(arena: Project) -> None:
    """A mistyped key, a bad name for an alias, a suite that is not there: exit code 2, nothing trained or promoted."""
    before = sorted(path.name for path in (arena.path / "runs").iterdir())
    for wrong, said in (
        (["conf/tiny.yaml", "--train-set", "lora.rank=2"], "rank"),
        (["conf/tiny.yaml", "--train-set", "lora.r=5", "--promote", "v9"], "not of an alias"),
        (["conf/tini.yaml"], "tiny.yaml"),
    ):
        done = arena.evalgate("nightly", *wrong)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
        assert said in done.stderr
    missing = arena.evalgate("nightly", "conf/tiny.yaml", "evalsuites/test_missing.py", "--promote", "champion")
    assert missing.returncode == 2
    assert "could not be gated" in missing.stdout.splitlines()[-1]
    assert sorted(path.name for path in (arena.path / "runs").iterdir()) == before
    with alone(arena.path / ".evalgate/nightly.lock", "it"):
        pass  # nobody holds it any more


def test_an_interrupt_is_no_verdict(arena: Project) -> None:
    """Ctrl-C ends pytest too, with exit code 2 and one line, and the lock is free."""
    slow = arena.path / "evalsuites/test_slow.py"
    slow.write_text("import time\n\ntime.sleep(120)\n")
    night = start(arena, "nightly", "conf/tiny.yaml", "--train-set", "lora.r=6", group=True)
    until(lambda: (arena.path / "said").read_text())  # pytest has begun to collect
    os.killpg(night.pid, signal.SIGINT)
    assert night.wait(60) == 2
    slow.unlink()
    assert "evalgate: interrupted. The same command goes on where it was." in (arena.path / "said").read_text()
    with alone(arena.path / ".evalgate/nightly.lock", "it"):
        pass


def test_half_a_verdict_is_not_promoted(arena: Project) -> None:
    """A night over one test of several passes, and is no reason to ship: exit code 2, and the alias stays."""
    test = "evalsuites/test_arithmetic.py::addition::numeric"
    done = arena.evalgate("nightly", "conf/tiny.yaml", test, "--promote", "champion")
    assert done.returncode == 2, done.stdout + done.stderr
    assert champion(arena) == "v3"
