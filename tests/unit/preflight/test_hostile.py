"""Every hostile folder of the factory ends as one typed line, quickly, and nothing in it runs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.faults.hostile_checkpoints import HOSTILE, Hostile
from tests.faults.tiny_checkpoint import Room

ROOT = Path(__file__).parents[3]


def audited(act: str, paths: Sequence[Path]) -> list[dict[str, Any]]:
    """One answer per folder from the child with the audit hook."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.preflight.audited", act],
        input="".join(json.dumps(str(path)) + "\n" for path in paths),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    root = tmp_path_factory.mktemp("hostile")
    rooms = [root / str(number) for number in range(len(HOSTILE))]
    given = [hostile.make(room) for hostile, room in zip(HOSTILE, rooms, strict=True)]
    found = audited("read", given)
    for answer, room in zip(found, rooms, strict=True):
        answer["canary"] = Room(room).canary.exists()
    return {hostile.name: answer for hostile, answer in zip(HOSTILE, found, strict=True)}


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name.replace(" ", "-"))
def test_a_hostile_folder_is_one_typed_line(hostile: Hostile, answers: dict[str, dict[str, Any]]) -> None:
    """The fault is named in one printable line within two seconds; no code, no pickle, no connection, no torch."""
    answer = answers[hostile.name]
    assert hostile.says in answer.get("error", f"no CheckpointError: {answer}")
    assert answer["error"].isprintable()
    assert len(answer["error"]) < 1000
    assert answer["seconds"] <= 2
    assert answer["seen"] == []
    assert not answer["canary"]
    assert not answer["torch"]


def test_the_factory_makes_at_least_sixty_kinds() -> None:
    """The published figure counts distinct faults."""
    assert len({hostile.name for hostile in HOSTILE}) == len(HOSTILE) >= 60


def test_the_valid_folders_pass(room: Room) -> None:
    """Negative control: what the factory spoils is accepted unspoilt."""
    for answer in audited("read", [room.full, room.adapter]):
        assert answer.keys() >= {"digest"}, answer
        assert answer["seen"] == []


@pytest.mark.parametrize("name", ["code beside the weights", "only pytorch_model.bin"])
def test_the_canary_would_sing(tmp_path: Path, name: str) -> None:
    """Negative control: a loader that runs the folder's code writes the canary, and the hook sees it."""
    hostile = next(hostile for hostile in HOSTILE if hostile.name == name)
    path = hostile.make(tmp_path)
    (answer,) = audited("detonate", [path])
    assert Room(tmp_path).canary.exists()
    assert answer["seen"]
