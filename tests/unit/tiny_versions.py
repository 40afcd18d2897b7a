"""Tiny projects with published versions, for the tests of what is done with them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evalgate.digest import digest
from evalgate.ledger import Ledger
from evalgate.publishing import publish
from evalgate.training.schema import TrainingConfig
from evalgate.version import DataFile, Parent, TrainingRun
from evalgate.versions import read_lineage
from tests.faults.tiny_checkpoint import (
    HIDDEN,
    INNER,
    LAYERS,
    Entry,
    floats,
    safetensors_file,
    write_adapter,
    write_checkpoint,
    write_json,
)

PARENT = Parent("base", "base", "sha256:" + "0" * 64)


def make_project(root: Path) -> Path:
    """A project with the full weights `base` and the adapter `lora` over it."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "pyproject.toml").write_text("[tool.evalgate]\n")
    write_checkpoint(root / "base")
    write_adapter(root / "lora", root / "base")
    return root


def lora_of_rank(folder: Path, base: Path, rank: int, value: float = 0.25, stated: int | None = None) -> Path:
    """An adapter with tensors of a rank, whose configuration may state another."""
    write_adapter(folder, base)
    tensors: dict[str, Entry] = {}
    for layer in range(LAYERS):
        for module, rows in (("self_attn.q_proj", HIDDEN), ("mlp.up_proj", INNER)):
            name = f"base_model.model.model.layers.{layer}.{module}"
            tensors[f"{name}.lora_A.weight"] = floats(rank, HIDDEN)
            tensors[f"{name}.lora_B.weight"] = floats(rows, rank, value=value)
    (folder / "adapter_model.safetensors").write_bytes(safetensors_file(tensors))
    config = {"peft_type": "LORA", "base_model_name_or_path": str(base), "r": stated or rank}
    write_json(folder / "adapter_config.json", {**config, "target_modules": ["up_proj", "q_proj"]})
    return folder


def config_of(**settings: Any) -> dict[str, Any]:
    """A resolved configuration with some keys set: `lora__r=8` is `lora.r`."""
    config = TrainingConfig().as_json()
    for key, value in settings.items():
        *above, name = key.split("__")
        place = config
        for part in above:
            place = place[part]
        place[name] = value
    return config


def training(key: str = "k", losses: Sequence[float] = (2.0, 1.0), **settings: Any) -> TrainingRun:
    """How a version was trained."""
    data = (DataFile("data/a.jsonl", digest("a"), 3, 3, "prompt-completion"),)
    return TrainingRun(digest(key), config_of(**settings), data, digest("rows"), tuple(losses))


def version(root: Path, rank: int = 2, value: float = 0.25, **options: Any) -> Path:
    """A published adapter of a rank; other values are other content."""
    folder = lora_of_rank(root / f"trained-{rank}-{value}-{len(list(root.iterdir()))}", root / "base", rank, value)
    return publish(folder, root=root, **{"environment": {}, **options})


def judge(root: Path, folder: Path, outcome: str = "PASS", **body: Any) -> str:
    """Put a verdict on a version into the project's ledger; its hash."""
    verdicts: Mapping[str, str] = body.pop("verdicts", {"arithmetic/addition::exact_match": outcome})
    entry = {
        "candidate": read_lineage(folder).digest,
        "name": folder.name,
        "outcome": outcome,
        "blocked": outcome != "PASS",
        "partial": [],
        "verdicts": dict(verdicts),
    }
    return ledger_of(root).append("verdict", {**entry, **body}).hash


def ledger_of(root: Path) -> Ledger:
    """The project's ledger."""
    return Ledger(root / ".evalgate/ledger.jsonl")


def spoil(path: Path, data: bytes) -> None:
    """Write into a read-only file of a version."""
    mode = path.stat().st_mode
    os.chmod(path, 0o644)
    path.write_bytes(data)
    os.chmod(path, mode)
