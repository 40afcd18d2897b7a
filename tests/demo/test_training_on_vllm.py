"""One command from a configuration to a version, a verdict and a card: the shipped configurations, on real vLLM."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from evalgate.versions import read_lineage, verify

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a person who cloned the repository has."""
    folder = tmp_path_factory.mktemp("training")
    for name in ("evalsuites", "fixtures"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def train(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Pytest with `--train`, as the README types it."""
    environment = {key: value for key, value in os.environ.items() if key != "CI"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, timeout=800, check=False
    )


def test_the_mixed_configuration_passes(project: Path) -> None:
    """A version with its epoch beside it, a verdict that passes on all suites, and a card; then it may be promoted."""
    done = train(project, "evalsuites", "--train", "fixtures/training/conf/sft.yaml")
    assert done.returncode == 0, done.stdout
    assert "evalgate: v2 PASS" in done.stdout
    assert "none of 4,168 eval samples stands in the training text" in done.stdout
    assert sorted(path.name for path in (project / "runs").iterdir()) == ["v2", "v2-epoch-1"]
    assert verify(project / "runs/v2") == []
    assert (project / "reports/v2/index.html").is_file()
    promoted = subprocess.run(
        [sys.executable, "-m", "evalgate", "promote", "runs/v2", "--as", "champion"], cwd=project, check=False
    )
    assert promoted.returncode == 0
    assert (project / "runs/champion").resolve() == project / "runs/v2"


def test_the_overfitted_configuration_is_blocked(project: Path) -> None:
    """It learns subtraction and forgets its sums: the test fails, and the version can be seen but not promoted."""
    done = train(project, "evalsuites/test_arithmetic.py", "--train", "fixtures/training/conf/overfit.yaml")
    assert done.returncode == 1, done.stdout
    assert "evalgate: v3 REGRESSION" in done.stdout
    run = read_lineage(project / "runs/v3").training
    assert run
    assert run.losses[-1] < run.losses[0]
    command = [sys.executable, "-m", "evalgate", "promote", "runs/v3", "--as", "champion"]
    refused = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "REGRESSION" in refused.stderr
    assert (project / "runs/champion").resolve() == project / "runs/v2"
