"""A Lightning module's model becomes versions, by a callback."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from evalgate.errors import InputError
from evalgate.preflight import read_checkpoint
from evalgate.reproduce import recipe_again
from evalgate.versions import read_lineage
from tests.training.conftest import Lit
from tests.training.jobs import V1


def test_epochs_and_end_are_published(lit: Lit) -> None:
    """Two epochs are two versions, read-only, with epoch, step, the loss of every step, hyperparameters and the why."""
    first, last = (read_lineage(lit.runs / name) for name in ("lit-epoch-1", "lit"))
    assert (first.epoch, first.step, last.epoch, last.step) == (1, 4, 2, 8)
    assert first.digest != last.digest
    assert first.training is not None
    assert last.training is not None
    assert len(last.training.losses) == 8
    assert last.training.losses[:4] == first.training.losses
    assert last.training.losses[-1] < last.training.losses[0]
    assert last.training.config == {"method": "full", "learning_rate": 1e-3}
    assert last.why == "sums by Lightning"
    assert not (lit.runs / "lit").stat().st_mode & stat.S_IWUSR
    assert read_checkpoint(lit.runs / "lit").digest == last.digest != read_checkpoint(V1).digest


def test_an_adapter_is_published_over_its_base(lit: Lit) -> None:
    """Four batches, two a step, are two losses, and the adapter is an ordinary checkpoint."""
    lineage = read_lineage(lit.runs / "lit-lora")
    assert (lineage.kind, lineage.step) == ("adapter", 2)
    assert lineage.training is not None
    assert len(lineage.training.losses) == 2
    assert read_checkpoint(lit.runs / "lit-lora", base=V1).digest == lineage.digest


def test_what_lightning_trained_only_lightning_trains_again(lit: Lit, tmp_path: Path) -> None:
    """`evalgate reproduce` says so, since the lineage names no data."""
    with pytest.raises(InputError, match="published by another program, which did not say how it was trained"):
        recipe_again(read_lineage(lit.runs / "lit"), root=tmp_path, state=tmp_path)


def test_only_what_trained_to_its_end_is_published(lit: Lit) -> None:
    """Epochs without a name, a training that fails, one without a model to save and a dry run leave no version."""
    assert sorted(path.name for path in lit.runs.iterdir()) == ["lit", "lit-epoch-1", "lit-lora"]
    assert lit.errors == [
        "PublishVersion: epochs can be published only below a name. Give name=….",
        "as it should",
        "PublishVersion: Sums.model is no model of transformers or PEFT. "
        "Name the attribute that holds it: PublishVersion(model=…).",
    ]


def test_lightning_is_asked_for_by_name(tmp_path: Path) -> None:
    """Without Lightning the module's import says which extra brings it; evalgate itself needs none."""
    (tmp_path / "lightning").mkdir()
    (tmp_path / "lightning/__init__.py").write_text("raise ImportError('hidden')\n")
    done = subprocess.run(
        [sys.executable, "-c", "import evalgate, evalgate.lightning"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .endswith("lightning is not installed. pip install 'pytest-evalgate[lightning]'")
    )
