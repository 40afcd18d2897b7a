"""A baseline that was the best of several candidates: counted, said, and measured again."""

from __future__ import annotations

from evalgate.store import read_baseline
from tests.plugin.conftest import SUITE, WRONG, Project

DRAWN = SUITE.replace("max_tokens=8", "max_tokens=8, temperature=0.7")


def record(project: Project, *args: str) -> None:
    """Evaluate and record."""
    assert project.run("evalsuites", "--eval-record-only", *args).ret == 0


def of(project: Project) -> int:
    """Among how many the baseline was chosen, by its own header."""
    baseline = read_baseline(project.path / "evalsuites/baselines/arithmetic/addition.jsonl")
    assert baseline is not None
    assert baseline.acceptance is not None
    return baseline.acceptance.selected_from


def test_the_best_of_three_is_said_and_measured_again(project: Project) -> None:
    """Accepting counts three, the next run notes it in one line, and the command that accept prints mends it."""
    project.suite("test_arithmetic", DRAWN)
    record(project, "--model", "runs/v1", "--model", "runs/v2")
    record(project, "--model", "runs/v3")
    done = project.evalgate("accept", "runs/v2", "-m", "the best")
    command = "pytest evalsuites/ --model runs/v2 --eval-seed 1 --eval-record-only"
    (line,) = (line for line in done.stdout.splitlines() if "chosen among" in line)
    assert "arithmetic/addition (of 3)" in line
    assert command in line
    assert of(project) == 3
    noted = project.run("evalsuites", "--model", "runs/v1")
    (note,) = (line for line in noted.stdout.lines if "chosen among" in line)
    assert note.startswith("baseline chosen among 3: arithmetic/addition;")

    record(project, *command.split()[2:-1])
    again = project.evalgate("accept", "runs/v2", "-m", "measured again")
    assert "chosen among" not in again.stdout
    assert of(project) == 1
    assert "chosen among" not in project.run("evalsuites", "--model", "runs/v1").stdout.str()


def test_no_seed_helps_a_greedy_task(project: Project) -> None:
    """Greedy answers are the same by any seed: the advice says so, and another seed resets nothing."""
    record(project, "--model", "runs/v1", "--model", "runs/v2")
    done = project.evalgate("accept", "runs/v2", "-m", "the best")
    assert "arithmetic/addition: no seed changes the answers; only new questions help." in done.stdout
    assert "--eval-seed" not in done.stdout
    record(project, "--model", "runs/v2", "--eval-seed", "1")
    assert project.evalgate("accept", "runs/v2", "-m", "again").returncode == 0
    assert of(project) == 2


def test_one_candidate_is_no_choice(accepted: Project) -> None:
    """The negative control: nothing is printed and nothing noted, also after gating a second one and accepting it."""
    assert of(accepted) == 1
    assert "chosen among" not in accepted.run("evalsuites", "--model", "runs/v2").stdout.str()
    done = accepted.evalgate("accept", "runs/v2", "-m", "better")
    assert "chosen among" not in done.stdout
    assert of(accepted) == 1


def test_one_line_for_all_tasks(two_suites: Project) -> None:
    """Two tasks, one of them accepted among two and the other among one: one note names only the first."""
    record(two_suites, "--model", "runs/v2", "-k", "addition")
    record(two_suites, "--model", "runs/v3")
    done = two_suites.evalgate("accept", "runs/v3", "-m", "why not")
    assert "arithmetic/addition (of 2)" in done.stdout
    assert "second/doubling (" not in done.stdout
    two_suites.configure(WRONG)
    result = two_suites.run("evalsuites", "--model", "runs/v1")
    (note,) = (line for line in result.stdout.lines if "chosen among" in line)
    assert "among 2: arithmetic/addition;" in note
    assert "second/doubling" not in note
