"""The whole way on real vLLM: the repository's own suites, checkpoints and baselines, as `make demo` runs them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

ROOT = Path(__file__).parents[2]
PROBE = """
import json, sys
def pytest_unconfigure():
    print("LOADED", json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""


@dataclass(frozen=True)
class Clone:
    """A copy of what a clone has, without `.evalgate/`."""

    path: Path

    def pytest(self, *args: str) -> subprocess.CompletedProcess[str]:
        """Run pytest in it."""
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "probe", "evalsuites", *args]
        environment = {**os.environ, "PYTHONPATH": str(self.path)}
        return subprocess.run(command, cwd=self.path, capture_output=True, text=True, env=environment, check=False)

    def evalgate(self, *args: str) -> subprocess.CompletedProcess[str]:
        """Run the command line in it."""
        command = [sys.executable, "-m", "evalgate", *args]
        return subprocess.run(command, cwd=self.path, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def clone() -> Iterator[Clone]:
    """Suites with their committed baselines, checkpoints, settings."""
    with TemporaryDirectory() as folder:
        path = Path(folder)
        shutil.copytree(ROOT / "evalsuites", path / "evalsuites", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "fixtures/checkpoints", path / "fixtures/checkpoints")
        shutil.copy(ROOT / "pyproject.toml", path)
        (path / "probe.py").write_text(PROBE)
        yield Clone(path)


@pytest.fixture(scope="module")
def gated(clone: Clone) -> subprocess.CompletedProcess[str]:
    """v2 and v3 in one engine."""
    return clone.pytest("--model", "fixtures/checkpoints/v2", "--model", "fixtures/checkpoints/v3", "-v")


def outcomes(output: str, name: str) -> dict[str, str]:
    """Test id without the checkpoint to its word in the verbose listing."""
    pattern = rf"^evalsuites/test_(\S+?)\[{name}\] (\S+)"
    return {found[1]: found[2] for found in re.finditer(pattern, output, re.MULTILINE)}


def test_a_clone_verifies(clone: Clone) -> None:
    """The committed baselines are whole."""
    done = clone.evalgate("verify")
    assert done.returncode == 0, done.stderr
    assert "0 damaged" in done.stdout


def test_v2_passes_every_gate(gated: subprocess.CompletedProcess[str]) -> None:
    """The good candidate passes all nine tasks against the committed baselines."""
    found = outcomes(gated.stdout, "v2")
    blocking = {name: word for name, word in found.items() if word not in ("PASSED",)}
    assert len(found) >= 9, gated.stdout + gated.stderr
    assert not blocking, gated.stdout
    assert "evalgate: v2 PASS" in gated.stdout


def test_v3_is_blocked_by_sums_alone(gated: subprocess.CompletedProcess[str]) -> None:
    """The candidate that forgot sums fails there and nowhere else."""
    found = outcomes(gated.stdout, "v3")
    failed = {name for name, word in found.items() if word == "FAILED"}
    assert gated.returncode == 1
    assert {name.split("::")[1] for name in failed} <= {"sums", "test_two_digit_sums_hold"}, gated.stdout
    assert "arithmetic.py::sums::exact_match" in failed
    assert "evalgate: v3 REGRESSION" in gated.stdout


def test_the_same_again_starts_nothing(clone: Clone, gated: subprocess.CompletedProcess[str]) -> None:
    """Everything comes from the cache: same verdicts, no engine, no torch in the process."""
    began = time.monotonic()
    again = clone.pytest("--model", "fixtures/checkpoints/v3", "-v")
    seconds = time.monotonic() - began
    assert again.returncode == 1
    assert "(no engine started)" in again.stdout
    loaded = set(json.loads(again.stdout.partition("LOADED ")[2].splitlines()[0]))
    assert not loaded & {"torch", "vllm", "transformers"}
    words = {name.split("[")[0]: word for name, word in outcomes(gated.stdout, "v3").items()}
    for line in again.stdout.splitlines():
        if (found := re.match(r"^evalsuites/test_(\S+::\S+) (\S+)", line)) and found[1] in words:
            assert words[found[1]] == found[2]
    print(f"answered from the cache in {seconds:.1f} s")  # noqa: T201 - a figure for people, not a bound on a shared machine


def test_alone_and_together_are_the_same_records(clone: Clone, gated: subprocess.CompletedProcess[str]) -> None:
    """v2 evaluated alone, from nothing, gives value for value what it gave beside v3: texts and choices."""
    assert gated.returncode == 1
    folder = clone.path / ".evalgate/records"
    together = {path.name for path in folder.glob("v2-*/**/*.jsonl")}
    with TemporaryDirectory() as other:
        alone = Clone(Path(other) / "clone")
        shutil.copytree(clone.path, alone.path, ignore=shutil.ignore_patterns(".evalgate", "reports"))
        few = ("-k", "sums or reviews or refusals or chat", "--eval-record-only")
        assert alone.pytest("--model", "fixtures/checkpoints/v2", *few).returncode == 0
        found = {path.name for path in (alone.path / ".evalgate/records").glob("v2-*/**/*.jsonl")}
        assert len(found) == 4
        assert found <= together


def test_records_say_how_they_were_made(clone: Clone, gated: subprocess.CompletedProcess[str]) -> None:
    """Identity, sampling, seed, versions, device and command stand in every record."""
    assert gated.returncode == 1
    done = clone.evalgate("show", "fixtures/checkpoints/v2", "arithmetic/sums")
    assert done.returncode == 0, done.stderr
    for part in (
        "sha256:",
        '"temperature": 0.0',
        '"seed": 0',
        '"dtype"',
        '"device"',
        '"version"',
        "--model fixtures/checkpoints/v2",
    ):
        assert part in done.stdout


def test_the_cards_are_there(clone: Clone, gated: subprocess.CompletedProcess[str]) -> None:
    """One file a checkpoint, with the verdict in it."""
    assert gated.returncode == 1
    for name, verdict in (("v2", "PASS"), ("v3", "REGRESSION")):
        page = (clone.path / f"reports/{name}/index.html").read_text()
        assert verdict in page
        assert len(page) < 3_000_000
