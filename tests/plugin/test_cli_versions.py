"""The command line over versions: publish, runs, diff, promote, rollback, verify."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from evalgate.version import LINEAGE
from tests.plugin.conftest import WRONG, Project


@pytest.fixture
def published(accepted: Project) -> Project:
    """Versions `good` (9 sums wrong, passes) and `bad` (60 wrong, blocked), published and gated; v1 is the baseline."""
    accepted.configure({**WRONG, "good": 9, "bad": 60})
    for name, source in (("good", "v2"), ("bad", "v3")):
        done = accepted.evalgate("publish", f"runs/{source}", "--name", name, "-m", f"the {name} one")
        assert done.returncode == 0, done.stderr
        assert f"pytest evalsuites/ --model runs/{name}" in done.stdout
        accepted.run("evalsuites", "--model", f"runs/{name}", "-q")
    return accepted


def one_line(text: str) -> str:
    """The only line of an error."""
    (line,) = text.splitlines()
    assert line.startswith("evalgate: ")
    return line


def test_a_version_goes_from_publishing_to_champion_and_back(published: Project) -> None:
    """Listed, filtered, promoted because it passes, loaded by its alias, verified, and rolled back."""
    table = published.evalgate("runs").stdout.splitlines()
    assert " ".join(table[0].split()) == "name parent method r lr epochs loss verdict aliases why created"
    assert [line.split()[0] for line in table[1:]] == ["bad", "good"]
    assert "blocked (REGRESSION)" in table[1]
    assert "passed" in table[2]
    passing = published.evalgate("runs", "--where", "passed", "--json")
    assert [each["name"] for each in json.loads(passing.stdout)] == ["good"]

    done = published.evalgate("promote", "runs/good", "--as", "champion")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "champion is runs/good now"
    assert 'evalgate accept runs/good -m "why"' in done.stdout
    assert os.readlink(published.path / "runs/champion") == "good"
    assert "champion" in published.evalgate("runs", "champion").stdout

    gated = published.run("evalsuites", "--model", "runs/champion")
    assert gated.ret == 0
    gated.stdout.fnmatch_lines(["*good*"])

    refused = published.evalgate("promote", "runs/bad", "--as", "champion")
    assert refused.returncode == 2
    assert "its newest verdict is REGRESSION" in one_line(refused.stderr)
    forced = published.evalgate("promote", "bad", "--as", "champion", "--force", "--why", "a drill")
    assert forced.returncode == 0, forced.stderr
    assert "it was good" in forced.stdout
    assert "forced without a verdict that passes: a drill" in forced.stdout

    assert published.evalgate("rollback", "champion").stdout == "champion is runs/good again, it was bad\n"
    again = published.evalgate("rollback", "champion")
    assert again.returncode == 2
    assert "at nothing before" in one_line(again.stderr)
    checked = published.evalgate("verify")
    assert checked.returncode == 0, checked.stderr
    assert "2 versions in runs/" in checked.stdout


def test_promotion_needs_every_task_with_a_baseline(two_suites: Project) -> None:
    """A passing run of one suite is not enough where another has a baseline too, nor is a selection of tests."""
    two_suites.configure({**WRONG, "good": 9})
    two_suites.evalgate("publish", "runs/v2", "--name", "good")
    assert two_suites.run("evalsuites/test_second.py", "--model", "runs/good", "-q").ret == 0
    refused = two_suites.evalgate("promote", "good", "--as", "champion")
    assert refused.returncode == 2
    assert "arithmetic/addition did not run" in one_line(refused.stderr)
    assert two_suites.run("evalsuites", "--model", "runs/good", "-q", "-k", "addition").ret == 0
    refused = two_suites.evalgate("promote", "good", "--as", "champion")
    assert "PARTIAL: second/doubling::exact_match did not run" in one_line(refused.stderr)
    assert not (two_suites.path / "runs/champion").exists()


def test_diff_is_like_diff(project: Project) -> None:
    """0 the same, 1 different, 2 trouble; the table pastes, JSON is for machines."""
    for name, source in (("a", "v1"), ("b", "v2"), ("c", "v1")):
        assert project.evalgate("publish", f"runs/{source}", "--name", name).returncode == 0
    same = project.evalgate("diff", "runs/a", "runs/c")
    assert same.returncode == 0, same.stderr
    assert same.stdout.splitlines()[-1] == "no difference"
    other = project.evalgate("diff", "runs/a", "runs/b")
    assert other.returncode == 1
    assert other.stdout.splitlines()[0].split() == ["content", "a", "b"]
    assert any(line.split()[:1] == ["config.json"] for line in other.stdout.splitlines())
    value = json.loads(project.evalgate("diff", "runs/a", "runs/b", "--json").stdout)
    assert (value["same"], value["a"]) == (False, "runs/a")
    trouble = project.evalgate("diff", "runs/a", "runs/nothing")
    assert trouble.returncode == 2
    assert "runs/nothing" in one_line(trouble.stderr)


def test_a_name_that_is_taken_is_one_line(project: Project) -> None:
    """A version is never overwritten from the command line either."""
    assert project.evalgate("publish", "runs/v2", "--name", "a").returncode == 0
    before = (project.path / "runs/a/config.json").read_bytes()
    done = project.evalgate("publish", "runs/v3", "--name", "a")
    assert done.returncode == 2
    assert "Versions are never overwritten" in one_line(done.stderr)
    assert (project.path / "runs/a/config.json").read_bytes() == before


def test_verify_finds_a_changed_version_and_a_moved_link(project: Project) -> None:
    """A flipped byte, a link that was moved by hand and a damaged lineage are named, exit code 2."""
    for source in ("v1", "v2"):
        project.evalgate("publish", f"runs/{source}", "--name", f"of-{source}")
    assert project.evalgate("promote", "of-v1", "--as", "champion", "--force", "--why", "x").returncode == 0
    assert project.evalgate("verify").returncode == 0
    (project.path / "runs/champion").unlink()
    (project.path / "runs/champion").symlink_to("of-v2")
    weights = project.path / "runs/of-v1/model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x07")
    lineage = project.path / "runs/of-v2" / LINEAGE
    lineage.chmod(0o644)
    lineage.write_text('{"name": "\x1b[31m"}')
    done = project.evalgate("verify")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 3
    for part in ("of-v1/model.safetensors: was changed", "leads to 'of-v2', but the journal says 'of-v1'", "of-v2/"):
        assert part in done.stderr
    listed = project.evalgate("runs")
    assert listed.returncode == 2
    assert "of-v1" in listed.stdout
    assert "\x1b" not in listed.stderr + listed.stdout


def test_what_a_version_says_cannot_command_a_terminal(project: Project) -> None:
    """Escapes and line breaks in a rationale are shown, not obeyed, and break no row of the table."""
    project.evalgate("publish", "runs/v1", "--name", "a", "-m", "x\x1b[2J\n::error::y")
    for command in (("runs",), ("runs", "a")):
        shown = project.evalgate(*command).stdout
        assert "\x1b" not in shown
        assert "\n::error" not in shown
    assert len(project.evalgate("runs").stdout.splitlines()) == 2


def test_a_bad_condition_and_an_unknown_version_are_one_line(project: Project) -> None:
    """Exit code 2 and the nearest name."""
    project.evalgate("publish", "runs/v1", "--name", "good")
    assert "Did you mean lora?" in one_line(project.evalgate("runs", "--where", "lorra.r == 8").stderr)
    assert "Did you mean good?" in one_line(project.evalgate("runs", "goood").stderr)
    for name in ((), ("good",)):
        said = project.evalgate("runs", *name, "--where", "passed").stdout
        assert said == "no version for which that holds in runs/\n"


def test_signed_versions_are_verified_with_a_key(project: Project) -> None:
    """`verify --key` wants every version signed; without a key signatures are no business of it."""
    pytest.importorskip("model_signing", reason="the extra `sign`")
    from tests.unit.test_publishing import make_keys

    private, public = make_keys(Path(project.path), "one")
    assert project.evalgate("publish", "runs/v1", "--name", "a", "--sign-key", str(private)).returncode == 0
    done = project.evalgate("verify", "--key", str(public))
    assert done.returncode == 0, done.stderr
    project.evalgate("publish", "runs/v2", "--name", "b")
    done = project.evalgate("verify", "--key", str(public))
    assert done.returncode == 2
    assert "runs/b: is not signed" in one_line(done.stderr)
    assert project.evalgate("verify").returncode == 0
