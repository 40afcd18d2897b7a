"""A pytest process killed in the middle loses nothing that counted, leaves nothing behind, and resumes to the same."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

V1 = Path(__file__).parents[2] / "fixtures/checkpoints/v1"
SUITE = """
from evalgate import Sampling, Task, exact_match
rows = [{"id": f"s{i:03d}", "a": i, "target": str(i)} for i in range(240)]
task = Task(samples=rows, prompt="{{ a }}", sampling=Sampling(max_tokens=4), scorers=[exact_match()])
"""
ENGINE = '[tool.evalgate.engine]\nname = "fake"\nslow = 0.004\n'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose run takes about a second of generation."""
    (tmp_path / "evalsuites").mkdir()
    (tmp_path / "evalsuites/test_kill.py").write_text(SUITE)
    (tmp_path / "pyproject.toml").write_text(ENGINE)
    shutil.copytree(V1, tmp_path / "v1")
    return tmp_path


def start(project: Path) -> subprocess.Popen[str]:
    """Pytest in a process group of its own."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "evalsuites",
        "--model",
        "v1",
        "--eval-record-only",
    ]
    return subprocess.Popen(
        command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def kill(run: subprocess.Popen[str]) -> None:
    """SIGKILL, as an out-of-memory killer sends it."""
    assert run.stdout is not None
    with run.stdout:
        run.kill()
        run.wait()


def finish(project: Path) -> str:
    """A whole run; its output."""
    run = start(project)
    output = run.communicate(timeout=120)[0]
    assert run.returncode == 0, output
    return output


def workers(project: Path) -> list[int]:
    """Processes that work for a project: their command line or working folder lies in it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if os.readlink(entry / "cwd").startswith(str(project)):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def records(project: Path) -> set[str]:
    """Names of the records, which hold their digests."""
    return {path.name for path in (project / ".evalgate/records").rglob("*.jsonl")}


def wait_for_answers(project: Path, run: subprocess.Popen[str]) -> None:
    """Until the cache holds the first answers."""
    assert run.stdout is not None
    for line in run.stdout:
        if "answers" in line:
            return
    raise AssertionError("the run ended before it had answers")


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_run_resumes(project: Path, seed: int) -> None:
    """SIGKILL at a random point of generation: the next run generates only what is missing, with the same record."""
    run = start(project)
    wait_for_answers(project, run)
    time.sleep(random.Random(seed).uniform(0, 0.6))
    kill(run)
    resumed = finish(project)
    said = next(line for line in resumed.splitlines() if "answers generated" in line)
    generated, cached = int(said.split()[0]), int(said.split(", ")[1].split()[0])
    assert generated + cached == 240
    assert cached > 0
    names = records(project)
    shutil.rmtree(project / ".evalgate")
    finish(project)
    assert records(project) == names


def test_a_killed_parent_leaves_no_child(project: Path) -> None:
    """The engine's child ends with its parent, whatever ended the parent."""
    run = start(project)
    wait_for_answers(project, run)
    kill(run)
    deadline = time.monotonic() + 10
    while workers(project) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert workers(project) == []


def test_an_interrupt_is_quick_and_clean(project: Path) -> None:
    """Ctrl-C ends the run within seconds with pytest's exit code 2, no child, and what was answered kept."""
    run = start(project)
    wait_for_answers(project, run)
    began = time.monotonic()
    os.killpg(run.pid, signal.SIGINT)
    output = run.communicate(timeout=30)[0]
    assert time.monotonic() - began < 10
    assert run.returncode == 2, output
    assert "INTERNALERROR" not in output
    assert workers(project) == []
    assert " 0 from the cache" not in finish(project)


def test_the_measure_can_fail(project: Path) -> None:
    """The negative control: without its cache a resumed run generates everything again."""
    run = start(project)
    wait_for_answers(project, run)
    kill(run)
    time.sleep(0.5)
    shutil.rmtree(project / ".evalgate")
    assert "240 answers generated" in finish(project)
