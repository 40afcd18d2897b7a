"""`pytest evalsuites/ --eval-engine openai --model NAME`: what a person gets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.judges.faulty import FaultyServer
from tests.judges.test_endpoint_session import ROWS, right

SUITE = """
from evalgate import Gate, Sampling, Task, exact_match, jsonl

plain = Task(
    samples=jsonl("rows.jsonl"), prompt="twice {{ a }}:", sampling=Sampling(max_tokens=8),
    scorers=[exact_match(gate=Gate(margin=0.05))],
)
chat = Task(
    samples=jsonl("rows.jsonl"), prompt=[{"role": "user", "content": "twice {{ a }}"}],
    sampling=Sampling(max_tokens=8), scorers=[exact_match()],
)
"""


@pytest.fixture
def clever() -> Iterator[FaultyServer]:
    """A server that knows the answers."""
    with FaultyServer(reply=right) as server:
        yield server


def project(folder: Path, url: str, settings: str = "") -> None:
    """A suite of two tasks, and an endpoint in the settings."""
    (folder / "evalsuites").mkdir()
    (folder / "evalsuites/test_twice.py").write_text(SUITE)
    (folder / "evalsuites/rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (folder / "pyproject.toml").write_text(
        f'[tool.evalgate]\n{settings}\n[tool.evalgate.engine]\nurl = "{url}"\ntotal_timeout = 2\n'
        'api_key_env = "MY_KEY"\nrevision = "r1"\n'
    )


def gate(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What a person types."""
    off = (f"-pno:{name}" for name in ("deepeval", "langsmith_plugin", "hydra_pytest", "asyncio", "cacheprovider"))
    command = [sys.executable, "-m", "pytest", "evalsuites/", "--eval-engine", "openai", *off, *arguments]
    environment = os.environ | {"MY_KEY": "sk-SECRET"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def evalgate(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command."""
    command = [sys.executable, "-m", "evalgate", *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_a_model_at_an_endpoint_is_gated(clever: FaultyServer, tmp_path: Path) -> None:
    """Recorded, accepted and gated by name; nothing that is written holds the key, and a worse model fails."""
    clever.key = "sk-SECRET"
    project(tmp_path, clever.url)
    first = gate(tmp_path, "--model", "org/good", "--eval-record-only")
    assert first.returncode == 0, first.stdout + first.stderr
    accepted = evalgate(tmp_path, "accept", "org/good", "-m", "the first")
    assert accepted.returncode == 0, accepted.stdout + accepted.stderr
    same = gate(tmp_path, "--model", "org/good")
    assert same.returncode == 0, same.stdout
    assert "24 from the cache" in same.stdout
    clever.reply = lambda body: "7"
    worse = gate(tmp_path, "--model", "org/worse")
    assert worse.returncode == 1, worse.stdout
    assert "test_twice.py::plain::exact_match" in worse.stdout
    assert {seen.body["model"] for seen in clever.seen} == {"org/good", "org/worse"}
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 8
    assert not [path for path in written if b"SECRET" in path.read_bytes()]


def test_no_fault_of_an_endpoint_passes_a_gate(clever: FaultyServer, tmp_path: Path) -> None:
    """Not zero, and an error that names sample, attempts and seconds; healthy again, only the rest is asked."""
    project(tmp_path, clever.url)
    assert gate(tmp_path, "--model", "good", "--eval-record-only", "-k", "plain").returncode == 0
    clever.become("wrong-model")
    broken = gate(tmp_path, "--model", "good", "--eval-record-only")
    assert broken.returncode != 0, broken.stdout
    assert "sample s0: no answer after 1 attempt in 0." in broken.stdout, broken.stdout
    clever.become("healthy")
    mended = gate(tmp_path, "--model", "good", "--eval-record-only")
    assert mended.returncode == 0, mended.stdout
    assert "12 answers generated" in mended.stdout
    assert "12 from the cache" in mended.stdout


def test_arguments_of_a_template_that_is_not_ours_are_refused(tmp_path: Path) -> None:
    """They would be lost without a word."""
    project(tmp_path, "http://127.0.0.1:1/v1")
    suite = tmp_path / "evalsuites/test_twice.py"
    suite.write_text(SUITE.replace('content": "twice {{ a }}"}],', 'content": "{{ a }}"}], template_kwargs={"x": 1},'))
    assert "never reach an endpoint" in _misuse(gate(tmp_path, "--model", "good"))


def test_what_is_missing_in_the_settings_is_said(tmp_path: Path) -> None:
    """Exit code 4 before anything is asked: no address, an unknown option, a noise floor that cannot be."""
    project(tmp_path, "http://127.0.0.1:1/v1", settings='baseline_model = "good"')
    assert "noise of endpoints" in _misuse(gate(tmp_path, "--model", "good"))
    text = (tmp_path / "pyproject.toml").read_text().replace('baseline_model = "good"', "")
    (tmp_path / "pyproject.toml").write_text(text.replace("url =", "ulr ="))
    assert "Did you mean 'url'" in _misuse(gate(tmp_path, "--model", "good"))
    (tmp_path / "pyproject.toml").write_text(text.replace('url = "http://127.0.0.1:1/v1"', ""))
    assert "needs an address" in _misuse(gate(tmp_path, "--model", "good"))


def _misuse(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 4, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout + done.stderr
