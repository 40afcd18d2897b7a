"""A project that trains in seconds and whose gate decides: sums on the fake engine, which knows versions by name."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.plugin.conftest import ROWS, SUITE
from tests.training.project import Project, make_project

OBJECTIVE = "arithmetic/addition::exact_match"


def make_arena(path: Path, wrong: Mapping[str, int]) -> Project:
    """Write the project, with `base` as the baseline: how many of 200 sums each version gets wrong."""
    project = make_project(path)
    for suite in (path / "evalsuites").glob("*.py"):
        suite.unlink()
    (path / "evalsuites/data").mkdir()
    (path / "evalsuites/data/addition.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (path / "evalsuites/test_arithmetic.py").write_text(SUITE)
    conf = path / "conf/tiny.yaml"
    conf.write_text(conf.read_text().replace("epochs: 2", "epochs: 1, max_steps: 2"))
    tables = []
    for name, count in {"base": 10, **wrong}.items():
        answers = [
            f"{json.dumps('{a}+{b}='.format(**row))} = {json.dumps('?' if number < count else row['target'])}"
            for number, row in enumerate(ROWS)
        ]
        tables.append("\n".join([f"[tool.evalgate.engine.checkpoints.{name}]", *answers]))
    (path / "pyproject.toml").write_text("\n".join(['[tool.evalgate.engine]\nname = "fake"', *tables]) + "\n")
    recorded = project.run("evalsuites", "--model", "base", "--eval-record-only", "-q")
    assert recorded.returncode == 0, recorded.stdout
    accepted = project.evalgate("accept", "base", "-m", "the first")
    assert accepted.returncode == 0, accepted.stderr
    return project


def start(project: Project, *arguments: str, group: bool = False) -> subprocess.Popen[str]:
    """A command of evalgate in the background, as a group where that is asked for; it says what it says to `said`."""
    with (project.path / "said").open("w") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "evalgate", *arguments],
            cwd=project.path,
            env={key: value for key, value in os.environ.items() if key != "CI"},
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=group,
        )


def until(condition: Callable[[], object], seconds: float = 180) -> None:
    """Wait for something that happens in another process."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def descendants(pid: int) -> list[int]:
    """Ids of all processes below one."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            rest = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(rest[1]), []).append(int(stat.parent.name))
    found, todo = [], [pid]
    while todo:
        children = parents.get(todo.pop(), [])
        found += children
        todo += children
    return found


def kill(process: subprocess.Popen[str], *, below: bool) -> None:
    """SIGKILL, also for everything below where that is asked for."""
    for pid in [process.pid, *(descendants(process.pid) if below else [])]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()
