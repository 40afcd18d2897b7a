"""A project that trains: the tiny base, 32 sums, one suite on the public fake engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

V1 = Path(__file__).parents[2] / "fixtures/checkpoints/v1"
CONFIG = """\
defaults: [evalgate, _self_]
why: more sums
hypothesis: sums get better and nothing gets worse
model: {base: base}
data: {files: [data/sums.jsonl], max_length: 64, shuffle_seed: 3}
lora: {r: 4, alpha: 8}
optimizer: {learning_rate: 1e-3}
schedule: {epochs: 2, batch_size: 8}
"""
SUITE = """
from evalgate import Sampling, Task, exact_match

words = Task(
    samples=[
        {"id": f"w{i}", "word": f"word number {i} of a list that nobody trains on", "target": "x"} for i in range(40)
    ],
    prompt="Say x. {{ word }}:",
    sampling=Sampling(max_tokens=4),
    scorers=[exact_match()],
)
"""
TESTS = """
from test_words import words as asked


def test_rank_4_is_enough(finetune, evaluate):
    small = finetune("conf/tiny.yaml")
    assert small.name == "v1"
    assert len(evaluate(asked, small).rows) == 40
"""


@dataclass(frozen=True)
class Project:
    """A project on disk and ways to run pytest and evalgate in it."""

    path: Path

    def run(self, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Pytest in a process of its own, as a person runs it."""
        return self._run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *args], environment)

    def evalgate(self, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """The command line, in the project's root."""
        return self._run([sys.executable, "-m", "evalgate", *args], environment)

    def command(self, command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
        """Any program, in the project's root."""
        return self._run(command, environment)

    def _run(self, command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        kept = {key: value for key, value in os.environ.items() if key != "CI"}
        return subprocess.run(
            command,
            cwd=self.path,
            env=kept | environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def sums(self, first: str = "Q: 1+1=\\nA:") -> None:
        """Write the training data; the first row's prompt may be another."""
        rows = [{"prompt": f"Q: {a}+{b}=\nA:", "completion": f" {a + b}"} for a in range(8) for b in range(4)]
        rows[0]["prompt"] = json.loads(f'"{first}"')
        (self.path / "data/sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def make_project(path: Path) -> Project:
    """Write it."""
    project = Project(path)
    for folder in ("evalsuites", "conf", "data"):
        (path / folder).mkdir(parents=True)
    shutil.copytree(V1, path / "base")
    (path / "conf/tiny.yaml").write_text(CONFIG)
    (path / "evalsuites/test_words.py").write_text(SUITE)
    (path / "evalsuites/test_rank.py").write_text(TESTS)
    (path / "pyproject.toml").write_text(
        "[tool.pytest.ini_options]\n"
        'addopts = "-p no:hydra_pytest -p no:deepeval -p no:langsmith_plugin -p no:asyncio"\n'
        '[tool.evalgate.engine]\nname = "fake"\n'
    )
    project.sums()
    return project
