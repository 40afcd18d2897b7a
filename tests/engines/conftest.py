"""Tiny random-weight checkpoints, built once per session in a child; pytest itself never imports torch."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evalgate.checkpoint import Checkpoint
from evalgate.engines import EngineProcess, EngineSettings

ARCHITECTURES = {"lora-b": "llama-b", "tied-head": "tied-a", "gpt2-lora": "gpt2-a"}
Describe = Callable[..., Checkpoint]
Start = Callable[..., EngineProcess]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the tiny checkpoints."""
    folder = tmp_path_factory.mktemp("tiny")
    script = Path(__file__).with_name("make_tiny.py")
    subprocess.run([sys.executable, str(script), str(folder)], check=True, capture_output=True)
    return folder


def file_digest(path: Path) -> str:
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


def describe(path: Path, base: Path | None = None, stop: tuple[int, ...] = (1,)) -> Checkpoint:
    """A Checkpoint of a folder, without preflight."""
    if base is not None:
        under = describe(base)
        weights = file_digest(path / "adapter_model.safetensors")
        return Checkpoint(
            path.name, str(path), "adapter", weights, under.tokenizer, None, under.architecture, under.context,
            stop, under,
        )  # fmt: skip
    config = json.loads((path / "config.json").read_text())
    context = config.get("max_position_embeddings") or config["n_positions"]
    return Checkpoint(
        path.name, str(path), "full", file_digest(path / "model.safetensors"), file_digest(path / "tokenizer.json"),
        None, config["architectures"][0], context, stop,
    )  # fmt: skip


@pytest.fixture(scope="session")
def checkpoints(tiny: Path) -> dict[str, Checkpoint]:
    """Every tiny checkpoint by name."""
    found = {}
    for path in sorted(path for path in tiny.iterdir() if path.is_dir()):
        adapter = (path / "adapter_config.json").is_file()
        found[path.name] = describe(path, tiny / ARCHITECTURES.get(path.name, "llama-a") if adapter else None)
    return found


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts engines that end with the session at the latest."""
    started = []
    logs = tmp_path_factory.mktemp("logs")

    def begin(
        name: str, *checkpoints: Checkpoint, on_event: Callable[[str], None] | None = None, **options: object
    ) -> EngineProcess:
        settings = EngineSettings(name=name, options=options, log_dir=logs)
        process = EngineProcess(settings, checkpoints, on_event=on_event)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.close()
