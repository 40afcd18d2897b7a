"""Two versions side by side: what differs is named, from the bytes themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evalgate.diff import ROWS, Change, diff
from evalgate.errors import CheckpointError, RecordError
from evalgate.publishing import publish
from evalgate.version import LINEAGE, DataFile, Parent
from tests.faults.tiny_checkpoint import HIDDEN, floats, model_tensors, safetensors_file
from tests.unit.tiny_versions import PARENT, lora_of_rank, make_project, spoil, training, version


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made := make_project(tmp_path / "project"))
    return made


def named(changes: tuple[Change, ...]) -> dict[str, tuple[Any, Any]]:
    """What changed to both sides."""
    return {change.what: (change.a, change.b) for change in changes}


def test_the_same_version_has_no_difference(root: Path) -> None:
    """A version and itself, and the same content under two names."""
    one, two = (version(root, training=training(), parent=PARENT, extra={ROWS: b"0 a:1\n"}) for _ in range(2))
    for other in (one, two):
        found = diff(one, other)
        assert (bool(found), found.identified, found.unknown) == (False, True, ())
        assert found.as_json()["same"] is True


def test_settings_are_compared_key_by_key(root: Path) -> None:
    """Only keys that differ, by their dotted names, with both values; loss and progress beside them."""
    one = version(root, training=training(lora__r=8), parent=PARENT, epoch=1.0, step=2)
    run = training(losses=(2.0, 0.5), lora__r=16, optimizer__learning_rate=1e-4)
    two = version(root, value=0.5, training=run, parent=Parent("v1", "runs/v1", "sha256:1"), epoch=2.0, step=4)
    sections = diff(one, two).sections
    assert named(sections["configuration"]) == {"lora.r": (8, 16), "optimizer.learning_rate": (2e-4, 1e-4)}
    assert named(sections["result"]) == {"loss": (1.0, 0.5)}
    assert named(sections["progress"]) == {"epoch": (1.0, 2.0), "step": (2, 4)}
    assert named(sections["parent"])["name"] == ("base", "v1")


def test_ranks_are_read_from_the_weights(root: Path, tmp_path: Path) -> None:
    """Ranks 4 and 8 are told apart although names and configurations of the two are swapped."""
    four = lora_of_rank(tmp_path / "rank-8", root / "base", 4, stated=8)
    eight = lora_of_rank(tmp_path / "rank-4", root / "base", 8, stated=4)
    found = diff(four, eight)
    assert named(found.sections["weights"])["LoRA rank"] == (4, 8)
    assert any("adapter_config.json says r=8" in line for line in found.unknown)
    assert not found.identified
    sound = diff(lora_of_rank(tmp_path / "a", root / "base", 4), lora_of_rank(tmp_path / "b", root / "base", 8))
    assert named(sound.sections["weights"]) == {"parameters": (4 * 36, 8 * 36), "LoRA rank": (4, 8)}
    assert sound.identified


def test_equal_ranks_are_never_told_apart(root: Path, tmp_path: Path) -> None:
    """Negative control: the same weights under configurations that state other ranks have no difference of rank."""
    one = lora_of_rank(tmp_path / "one", root / "base", 4, stated=4)
    two = lora_of_rank(tmp_path / "two", root / "base", 4, stated=8)
    assert "weights" not in diff(one, two).sections


def test_modules_and_mixed_ranks_are_named(root: Path, tmp_path: Path) -> None:
    """Another set of target modules, and ranks that differ from module to module, are named by module."""
    one, two = (lora_of_rank(tmp_path / name, root / "base", 2) for name in ("one", "two"))
    prefix = "base_model.model.model.layers"
    tensors = {
        f"{prefix}.0.self_attn.q_proj.lora_A.weight": floats(2, HIDDEN),
        f"{prefix}.0.self_attn.q_proj.lora_B.weight": floats(HIDDEN, 2),
        f"{prefix}.1.self_attn.q_proj.lora_A.weight": floats(3, HIDDEN),
        f"{prefix}.1.self_attn.q_proj.lora_B.weight": floats(HIDDEN, 3),
    }
    (two / "adapter_model.safetensors").write_bytes(safetensors_file(tensors))
    changed = named(diff(one, two).sections["weights"])
    assert changed["LoRA modules"] == (["q_proj", "up_proj"], "q_proj")
    assert changed["LoRA rank"] == (2, [2, 3])
    assert changed["rank of model.layers.1.self_attn.q_proj"] == (2, 3)
    assert changed["rank of model.layers.1.mlp.up_proj"] == (2, None)
    assert "rank of model.layers.0.self_attn.q_proj" not in changed


def test_full_weights_are_compared_by_their_tensors(root: Path, tmp_path: Path) -> None:
    """A tensor that came, and one of another shape."""
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        (tmp_path / "other").mkdir(exist_ok=True)
        (tmp_path / "other" / name).write_bytes((root / "base" / name).read_bytes())
    tensors = model_tensors() | {"model.extra.weight": floats(3, HIDDEN)}
    (tmp_path / "other/model.safetensors").write_bytes(safetensors_file(tensors))
    changed = named(diff(root / "base", tmp_path / "other").sections["weights"])
    assert changed["tensor model.extra.weight"] == (None, f"F32[3, {HIDDEN}]")
    assert changed["parameters"][1] - changed["parameters"][0] == 3 * HIDDEN


ROWS_BEFORE = b"1111 a.jsonl:1\n2222 a.jsonl:2\n3333 b.jsonl:1\n3333 b.jsonl:2\n"


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (b"1111 a.jsonl:1\n9999 a.jsonl:2\n3333 b.jsonl:1\n3333 b.jsonl:2\n", {"a.jsonl:2": ("2222", "9999")}),
        (b"1111 a.jsonl:1\n3333 b.jsonl:1\n3333 b.jsonl:2\n", {"a.jsonl:2": ("2222", None)}),
        (b"1111 a.jsonl:1\n2222 a.jsonl:2\n3333 b.jsonl:1\n", {"b.jsonl:2": ("3333", None)}),
        (
            b"7777 a.jsonl:1\n1111 a.jsonl:2\n2222 a.jsonl:3\n3333 b.jsonl:1\n3333 b.jsonl:2\n",
            {"a.jsonl:1": (None, "7777")},
        ),
        (
            b"2222 a.jsonl:2\n1111 a.jsonl:1\n3333 b.jsonl:1\n3333 b.jsonl:2\n",
            {"order of rows": ("a.jsonl:1", "a.jsonl:2")},
        ),
    ],
    ids=["changed", "removed", "one of two alike", "inserted", "reordered"],
)
def test_a_changed_row_is_named(root: Path, after: bytes, expected: dict[str, tuple[Any, Any]]) -> None:
    """By file and line; what only moved to another line is the same row."""
    one = version(root, training=training(), extra={ROWS: ROWS_BEFORE})
    two = version(root, training=training(), extra={ROWS: after})
    assert named(diff(one, two).sections["rows"]) == expected


def test_data_files_are_compared(root: Path) -> None:
    """Files added, removed and changed, with their rows."""
    files = [DataFile(name, f"sha256:{digest}", 3, 3, "messages") for name, digest in (("a", 1), ("b", 1), ("b", 2))]
    runs = [training(), training()]
    one, two = (
        version(root, training=type(run)(run.key, run.config, tuple(data), f"sha256:{data[-1].digest}"))
        for run, data in zip(runs, (files[:2], files[2:]), strict=True)
    )
    changed = named(diff(one, two).sections["data"])
    assert changed["a.digest"] == ("sha256:1", None)
    assert changed["b.digest"] == ("sha256:1", "sha256:2")
    assert "b.rows" not in changed
    assert sum("rows that differ cannot be named" in line for line in diff(one, two).unknown) == 2
    assert diff(one, one).unknown == ()


def test_what_is_not_known_is_said(root: Path) -> None:
    """A folder of another trainer, and a version that was published without its training."""
    made = publish(root / "lora", root=root, environment={})
    found = diff(root / "lora", made)
    assert not found
    assert found.identified
    assert "no evalgate.json" in found.unknown[0]
    assert any("without its configuration" in line for line in diff(made, made).unknown)


def test_a_version_whose_base_is_away_is_compared_by_what_it_says(root: Path) -> None:
    """On a machine without the base, the stated digest and the tensors are compared, and that is said."""
    one, two = version(root), version(root, rank=4)
    (root / "base").rename(root / "away")
    found = diff(one, two)
    assert set(named(found.sections["content"])) == {"digest"}
    assert named(found.sections["weights"])["LoRA rank"] == (2, 4)
    assert sum("only evalgate.json says" in line for line in found.unknown) == 2


def test_a_version_that_was_changed_is_told(root: Path) -> None:
    """Weights exchanged after publishing: the digest is that of the bytes, and the lie is named."""
    one, two = version(root), version(root, value=0.5)
    spoil(one / "adapter_model.safetensors", (two / "adapter_model.safetensors").read_bytes())
    found = diff(one, two)
    assert "content" not in found.sections
    assert any("was changed after it was published" in line for line in found.unknown)


def test_trouble_is_one_line(root: Path) -> None:
    """No folder, and a damaged evalgate.json."""
    made = version(root)
    with pytest.raises(CheckpointError, match="cannot be opened"):
        diff(made, root / "nothing")
    spoil(made / LINEAGE, b"{")
    with pytest.raises(RecordError, match="is no JSON"):
        diff(made, made)


def test_a_difference_is_json(root: Path) -> None:
    """What machines get holds the same, and JSON can write it."""
    found = diff(version(root), version(root, rank=4))
    value = json.loads(json.dumps(found.as_json()))
    assert value["same"] is False
    assert {"what": "LoRA rank", "a": 2, "b": 4} in value["differs"]["weights"]
