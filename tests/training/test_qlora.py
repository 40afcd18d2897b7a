"""A LoRA over a 4-bit base, really trained where bitsandbytes works on this processor."""

from __future__ import annotations

import json
from typing import Any

import pytest

from evalgate.preflight import read_checkpoint
from evalgate.versions import read_lineage
from tests.training.conftest import Shared, train_and_publish
from tests.training.jobs import V1, config


def test_the_adapter_stands_over_the_original_base(qlora: Shared) -> None:
    """Quantised is the base in training only: the version is a float32 adapter of the base as it was."""
    lineage = read_lineage(qlora.version)
    assert lineage.kind == "adapter"
    assert lineage.base is not None
    assert lineage.base["digest"] == read_checkpoint(V1).digest
    said: dict[str, Any] = json.loads((qlora.version / "adapter_config.json").read_text())
    assert "quant" not in json.dumps({key: value for key, value in said.items() if value})
    assert {tensor["dtype"] for tensor in tensors(qlora)} == {"F32"}


def test_it_trains_in_four_bits(qlora: Shared) -> None:
    """It learns, its libraries are on record, and its first loss is near the one over whole weights, not the same."""
    schedule = qlora.job.config.schedule
    whole = train_and_publish(qlora.version.parents[1], "whole", config(schedule=schedule))
    assert qlora.trained.losses[-1] < qlora.trained.losses[0]
    assert qlora.trained.losses[0] != whole.trained.losses[0]
    assert qlora.trained.losses[0] == pytest.approx(whole.trained.losses[0], rel=0.2)
    assert qlora.trained.held_out_loss == pytest.approx(whole.trained.held_out_loss, rel=0.2)
    assert "bitsandbytes" in qlora.trained.environment["packages"]


def tensors(made: Shared) -> list[dict[str, Any]]:
    """The header of the adapter's weights."""
    data = (made.version / "adapter_model.safetensors").read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return [value for name, value in header.items() if name != "__metadata__"]
