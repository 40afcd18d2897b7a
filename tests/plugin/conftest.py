"""A small project for pytester: one suite of sums, tiny checkpoint folders, the public fake engine."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy  # noqa: F401 - pytester forgets what a test imported first, and numpy cannot be imported twice
import pytest

with suppress(ImportError):  # of the extra `sign`: likewise
    import cryptography.hazmat.primitives.asymmetric.ec  # noqa: F401

V1 = Path(__file__).parents[2] / "fixtures/checkpoints/v1"
SUITE = """
from evalgate import Gate, Sampling, Task, exact_match, jsonl, numeric

addition = Task(
    samples=jsonl("data/addition.jsonl"),
    prompt="{{ a }}+{{ b }}=",
    sampling=Sampling(max_tokens=8),
    scorers=[exact_match(gate=Gate(margin=0.05)), numeric(tolerance=1)],
    slices=("digits",),
)
"""
SECOND = """
from evalgate import Sampling, Task, exact_match, jsonl

doubling = Task(
    samples=jsonl("data/addition.jsonl"),
    prompt="double: {{ a }}+{{ b }}=",
    sampling=Sampling(max_tokens=8),
    scorers=[exact_match()],
)
"""

OTHER_PLUGINS = " ".join(f"-p no:{name}" for name in ("hydra_pytest", "deepeval", "langsmith_plugin", "asyncio"))


@pytest.fixture(autouse=True)
def no_other_plugins(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inner runs do without the plugins that judge libraries and Hydra bring: they cost seconds each."""
    monkeypatch.setenv("PYTEST_ADDOPTS", OTHER_PLUGINS)


@dataclass(frozen=True)
class Project:
    """A project on disk and ways to run pytest and evalgate in it."""

    pytester: pytest.Pytester
    rows: tuple[Mapping[str, Any], ...]

    @property
    def path(self) -> Path:
        """Its root."""
        return self.pytester.path

    def configure(self, wrong: Mapping[str, int] | None = None, settings: str = "", **faults: Any) -> None:
        """Write pyproject.toml: how many sums each checkpoint gets wrong, more settings, faults of the fake engine."""
        answers: dict[str, dict[str, str]] = {}
        for name, count in (wrong or {}).items():
            answers[name] = {
                prompt: "?" if i < count else row["target"]
                for i, row in enumerate(self.rows)
                for prompt in (f"{row['a']}+{row['b']}=", f"double: {row['a']}+{row['b']}=")
            }
        engine = "\n".join(f"{key} = {json.dumps(value)}" for key, value in faults.items())
        tables = "\n".join(
            f"[tool.evalgate.engine.checkpoints.{name}]\n"
            + "\n".join(f"{json.dumps(prompt)} = {json.dumps(text)}" for prompt, text in texts.items())
            for name, texts in answers.items()
        )
        (self.path / "pyproject.toml").write_text(
            '[tool.pytest.ini_options]\naddopts = "-p no:cacheprovider"\n'
            f'[tool.evalgate]\n{settings}\n[tool.evalgate.engine]\nname = "fake"\n{engine}\n{tables}\n'
        )

    def suite(self, name: str, text: str) -> Path:
        """Write evalsuites/<name>.py."""
        path = self.path / "evalsuites" / f"{name}.py"
        path.write_text(text)
        return path

    def checkpoint(self, name: str) -> str:
        """A folder of full weights with content of its own: one number of its config differs."""
        folder = self.path / "runs" / name
        shutil.copytree(V1, folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "of_test": name}))
        return f"runs/{name}"

    def run(self, *args: str) -> pytest.RunResult:
        """Pytest in a process of its own, as a person runs it."""
        return self.pytester.runpytest_subprocess("-p", "no:cacheprovider", *args, timeout=120)

    def evalgate(self, *args: str) -> subprocess.CompletedProcess[str]:
        """The command line, in the project's root."""
        command = [sys.executable, "-m", "evalgate", *args]
        return subprocess.run(command, cwd=self.path, capture_output=True, text=True, timeout=120, check=False)

    def accept(self, model: str, *args: str) -> None:
        """Evaluate a checkpoint and make it the baseline."""
        self.run("evalsuites", "--model", model, "--eval-record-only", "-q")
        done = self.evalgate("accept", model, "-m", "the first", *args)
        assert done.returncode == 0, done.stderr


WRONG = {"v1": 10, "v2": 9, "v3": 60}
ROWS = tuple(
    {"id": f"s{i:03d}", "a": i % 20, "b": i // 20 + 5, "target": str(i % 20 + i // 20 + 5), "digits": 1 + (i % 20 > 9)}
    for i in range(200)
)


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    """200 sums, suite `arithmetic`, checkpoints v1 (10 wrong), v2 (9 wrong), v3 (60 wrong)."""
    monkeypatch.delenv("CI", raising=False)
    made = Project(pytester, ROWS)
    (made.path / "evalsuites/data").mkdir(parents=True)
    (made.path / "evalsuites/data/addition.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    made.suite("test_arithmetic", SUITE)
    made.configure(WRONG)
    for name in WRONG:
        made.checkpoint(name)
    return made


MADE = (".evalgate", "evalsuites/baselines", "reports")  # what evalgate writes into a project


@pytest.fixture(scope="session")
def _templates() -> Iterator[Path]:
    """Where finished projects are kept: each made once by the real commands, then copied for whoever wants it."""
    with TemporaryDirectory() as folder:
        yield Path(folder)


def _finished(project: Project, template: Path, make: Callable[[Project], None]) -> Project:
    if not template.exists():
        make(project)
        for made in filter(lambda made: (project.path / made).exists(), MADE):
            shutil.copytree(project.path / made, template / made)
    shutil.copytree(template, project.path, dirs_exist_ok=True)
    return project


def _accept(project: Project) -> None:
    project.accept("runs/v1")
    shutil.rmtree(project.path / "reports")  # a comment that says that nothing was compared


def _gate(project: Project) -> None:
    assert project.run("evalsuites", "--model", "runs/v2", "-q").ret == 0
    assert project.run("evalsuites", "--model", "runs/v3", "-q").ret == 1


@pytest.fixture
def accepted(project: Project, _templates: Path) -> Project:
    """The project with v1 as the baseline."""
    return _finished(project, _templates / "accepted", _accept)


@pytest.fixture
def two_suites(project: Project, _templates: Path) -> Project:
    """The project with a second suite, `second`, and v1 as the baseline of both."""
    project.suite("test_second", SECOND)
    return _finished(project, _templates / "two_suites", _accept)


@pytest.fixture
def gated(accepted: Project, _templates: Path) -> Project:
    """The project with v1 as the baseline; v2 passed, then v3 was blocked."""
    return _finished(accepted, _templates / "gated", _gate)
