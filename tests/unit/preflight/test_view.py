"""The clean view: an engine finds the files that were checked, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from evalgate.errors import CheckpointError
from evalgate.preflight import clean_view, read_checkpoint
from tests.faults.tiny_checkpoint import Room, shard


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def test_only_allowed_files_are_linked(room: Room, tmp_path: Path) -> None:
    """Pickles, cards, leftovers and strangers stay outside; the view is the same checkpoint by content."""
    for leftover in ("optimizer.pt", "pytorch_model.bin", "training_args.bin", "notes.json", "other.safetensors"):
        (room.full / leftover).write_bytes(b"\x80\x04.")
    (room.full / "additional_chat_templates").mkdir()
    (room.full / "additional_chat_templates" / "tool_use.jinja").write_text("x")
    checkpoint = read_checkpoint(room.full)
    view = clean_view(checkpoint, tmp_path / "views")
    assert names(view) == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "additional_chat_templates/tool_use.jinja",
    }
    assert all(path.is_symlink() for path in view.iterdir() if not path.is_dir())
    assert clean_view(checkpoint, tmp_path / "views") == view


def test_shards_and_their_index_are_linked(room: Room, tmp_path: Path) -> None:
    """What the index names is there; a shard that it does not name is not."""
    shard(room.full)
    (room.full / "model-00003-of-00003.safetensors").write_bytes(b"")
    view = clean_view(read_checkpoint(room.full), tmp_path / "views")
    assert {name for name in names(view) if "model-" in name} == {
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    }
    assert "model.safetensors.index.json" in names(view)


def test_an_adapter_and_its_base_have_a_view_each(room: Room, tmp_path: Path) -> None:
    """One call makes both; the base's is found by asking for the root."""
    checkpoint = read_checkpoint(room.adapter)
    view = clean_view(checkpoint, tmp_path / "views")
    assert names(view) == {"adapter_config.json", "adapter_model.safetensors"}
    assert len(list((tmp_path / "views").iterdir())) == 2
    assert (clean_view(checkpoint.root, tmp_path / "views") / "config.json").exists()


def test_a_record_has_no_view(room: Room, tmp_path: Path) -> None:
    """A checkpoint that is known only from a record cannot be served."""
    checkpoint = replace(read_checkpoint(room.full), path=None)
    with pytest.raises(CheckpointError, match="only from a record"):
        clean_view(checkpoint, tmp_path)
