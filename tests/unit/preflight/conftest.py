"""A valid checkpoint and adapter, fresh for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.tiny_checkpoint import Room, write_adapter, write_checkpoint


@pytest.fixture
def room(tmp_path: Path) -> Room:
    room = Room(tmp_path)
    write_adapter(room.adapter, write_checkpoint(room.full))
    return room
