"""What is unusual and still right, and what may happen between two looks at a folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from evalgate.errors import CheckpointError
from evalgate.preflight import files, read_checkpoint, verify_unchanged
from evalgate.preflight.files import open_folder, open_regular
from evalgate.preflight.safetensors import read_header
from evalgate.preflight.scan import digest_files
from tests.faults.tiny_checkpoint import HIDDEN, VOCABULARY, Room, floats

FINE: Mapping[str, Mapping[str, object]] = {
    "infinity in the configuration": {"time_step_limit": float("inf")},
    "no code after all": {"auto_map": None, "trust_remote_code": False, "_attn_implementation": "flash_attention_2"},
    "a part without attention": {"_attn_implementation_internal": {"": "sdpa", "vision": None}},
    "no vocab_size": {"vocab_size": None},
    "no number of layers": {"num_hidden_layers": None},
    "one end and several": {"eos_token_id": [1, 2]},
}


@pytest.mark.parametrize("changes", FINE.values(), ids=FINE)
def test_an_unusual_configuration_passes(room: Room, changes: Mapping[str, object]) -> None:
    """What looks like a fault and is none is accepted."""
    room.edit("config.json", **changes)
    assert read_checkpoint(room.full).kind == "full"


def test_without_vocab_size_the_embedding_says_it(room: Room) -> None:
    """A tokenizer that is too large is found either way."""
    room.edit("config.json", vocab_size=None)
    room.weights(model__embed_tokens__weight=floats(VOCABULARY - 1, HIDDEN))
    with pytest.raises(CheckpointError, match="the embedding has 7 rows"):
        read_checkpoint(room.full)


def test_an_embedding_of_no_known_name_says_nothing(room: Room) -> None:
    """Where neither configuration nor tensors tell the rows, no tokenizer is refused for them."""
    room.edit("config.json", vocab_size=None)
    room.weights(model__embed_tokens__weight=None, lm_head__weight=None, model__strange=floats(3, HIDDEN))
    assert read_checkpoint(room.full).context == 128


def test_settings_of_the_text_part_count(room: Room) -> None:
    """Models that also see keep vocabulary and context in text_config."""
    room.edit("config.json", vocab_size=None, max_position_embeddings=None)
    room.edit("config.json", text_config={"vocab_size": VOCABULARY, "max_position_embeddings": 64, "eos_token_id": 3})
    found = read_checkpoint(room.full)
    assert (found.context, found.stop_token_ids) == (64, (1, 3, 7))


def test_integers_are_not_scanned(room: Room) -> None:
    """A quantized weight of all ones bits is no NaN."""
    room.weights(model__norm__weight=("U8", [4], b"\xff" * 4))
    assert read_checkpoint(room.full).kind == "full"


def test_a_unigram_vocabulary_is_counted(room: Room) -> None:
    """Tokenizers of the SentencePiece kind list their tokens in the order of ids."""
    room.edit("tokenizer.json", added_tokens=[], model={"type": "Unigram", "vocab": [["a", -1.0]] * VOCABULARY})
    assert read_checkpoint(room.full).kind == "full"
    room.edit("tokenizer.json", model={"type": "Unigram", "vocab": [["z", -1.0]] * (VOCABULARY + 1)})
    with pytest.raises(CheckpointError, match="'z' has id 8"):
        read_checkpoint(room.full)


def test_links_inside_the_folder_are_followed(room: Room) -> None:
    """`latest -> checkpoint-5` and a linked file are how trainers and people arrange a folder."""
    (room.full / "checkpoint-5").mkdir()
    (room.full / "latest").symlink_to("checkpoint-5", target_is_directory=True)
    before = read_checkpoint(room.full)
    (room.full / "config.json").rename(room.full / "checkpoint-5" / "config.json")
    (room.full / "config.json").symlink_to("latest/config.json")
    assert read_checkpoint(room.full) == before


def test_a_folder_one_level_too_high_is_hinted_at(room: Room) -> None:
    """Naming the folder of all versions says which checkpoint lies below."""
    with pytest.raises(CheckpointError, match="but a3/ in it is a checkpoint"):
        read_checkpoint(room.path)


def test_a_folder_without_end_is_refused(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home directory given by mistake is not walked to its end."""
    monkeypatch.setattr(files, "MAX_ENTRIES", 5)
    with pytest.raises(CheckpointError, match="more than 5 entries"):
        read_checkpoint(room.full)


def test_a_file_that_became_a_pipe_is_not_waited_for(room: Room) -> None:
    """A file may be swapped between the look at the folder and its reading; opening never waits or follows a link."""
    path = room.full / "config.json"
    folder = open_folder(room.full)
    path.unlink()
    with pytest.raises(CheckpointError, match="No such file"):
        folder.read("config.json")
    os.mkfifo(path)
    with pytest.raises(CheckpointError, match="is a pipe"):
        folder.read("config.json")
    path.unlink()
    path.symlink_to("/etc/hostname")
    with pytest.raises(CheckpointError, match="cannot be read"):
        folder.read("config.json")


def test_a_fault_of_the_disk_is_typed(room: Room) -> None:
    """An input/output error while reading is the checkpoint's error."""
    with pytest.raises(CheckpointError, match="cannot be read: broken"), open_regular(room.full / "config.json", "x"):
        raise OSError(5, "broken")


def test_a_file_cut_while_it_is_read_is_refused(room: Room) -> None:
    """A header that was read before the file became shorter does not make up its tensors."""
    folder = open_folder(room.full)
    header = read_header(folder, "model.safetensors")
    path = room.full / "model.safetensors"
    os.truncate(path, path.stat().st_size - 1)
    now = path.stat()
    stamp = (str(path), now.st_size, max(now.st_mtime_ns, now.st_ctime_ns), now.st_ino)
    with pytest.raises(CheckpointError, match="was cut"):
        digest_files(folder, {"model.safetensors": replace(header, stamp=stamp)}, None)
    with pytest.raises(CheckpointError, match="changed while it was read"):
        digest_files(folder, {"model.safetensors": header}, None)


def test_a_record_cannot_be_verified(room: Room) -> None:
    """A checkpoint that is known only from a record has no files to look at."""
    with pytest.raises(CheckpointError, match="only from a record"):
        verify_unchanged(replace(read_checkpoint(room.full), path=None))


def test_a_relative_base_may_count_from_the_working_directory(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainers write the base's path as it was typed."""
    path = room.path / "elsewhere"
    path.mkdir()
    room.full.rename(path / "base")
    monkeypatch.chdir(path)
    room.edit("adapter_config.json", base_model_name_or_path="base")
    assert read_checkpoint(Path("../a3")).base is not None


def test_a_version_finds_its_base_from_anywhere(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """A published version names its base from its project's root: that is looked for above the version's folder."""
    (room.path / "models").mkdir()
    room.full.rename(room.path / "models/base")
    room.edit("adapter_config.json", base_model_name_or_path="models/base")
    monkeypatch.chdir(room.path / "models")
    with pytest.raises(CheckpointError, match="is no folder here"):
        read_checkpoint(room.adapter)
    (room.adapter / "evalgate.json").write_text("{}")
    assert read_checkpoint(room.adapter).base is not None
