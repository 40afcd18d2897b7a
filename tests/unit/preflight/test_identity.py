"""What a checkpoint's digest covers, what it leaves out, and when a remembered digest counts."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from evalgate.digest import PREFIX
from evalgate.errors import CheckpointError
from evalgate.preflight import DigestMemo, read_checkpoint, scan, verify_unchanged
from evalgate.preflight.memo import RACY_NS, Stamp
from tests.faults.tiny_checkpoint import (
    HIDDEN,
    RANK,
    VOCABULARY,
    Room,
    adapter_tensors,
    floats,
    safetensors_file,
    shard,
    write_checkpoint,
    write_json,
    write_tokenizer,
)

Change = Callable[[Room], object]


class Memo:
    """A real memo: a dictionary."""

    def __init__(self) -> None:
        self.known: dict[Stamp, str] = {}

    def get(self, stat_key: Stamp) -> str | None:
        return self.known.get(stat_key)

    def put(self, stat_key: Stamp, digest: str) -> None:
        self.known[stat_key] = digest


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as settled at once, as they are two seconds after they were written."""
    monkeypatch.setattr("evalgate.preflight.memo.RACY_NS", -(10**12))


def test_a_full_checkpoint(room: Room) -> None:
    """Every field of a full checkpoint comes from its files."""
    found = read_checkpoint(room.full)
    assert (found.name, found.path, found.kind) == ("v3", str(room.full), "full")
    assert (found.architecture, found.context, found.stop_token_ids) == ("LlamaForCausalLM", 128, (1, 7))
    assert found.base is None
    assert all(text and text.startswith(PREFIX) for text in (found.weights, found.tokenizer, found.template))


def test_an_adapter_has_its_bases_tokenizer_and_template(room: Room) -> None:
    """An adapter without a tokenizer is served with its base's, and says so in its identity."""
    found, base = read_checkpoint(room.adapter, name="mine"), read_checkpoint(room.full)
    assert (found.name, found.kind, found.base) == ("mine", "adapter", base)
    assert (found.tokenizer, found.template, found.stop_token_ids) == (base.tokenizer, base.template, (1, 7))
    assert found.weights != base.weights


def test_an_adapter_with_its_own_tokenizer_keeps_it(room: Room) -> None:
    """A tokenizer beside the adapter counts, and with it its template or the lack of one."""
    write_tokenizer(room.adapter)
    path = room.adapter / "tokenizer_config.json"
    write_json(path, {"tokenizer_class": "X"})
    found = read_checkpoint(room.adapter)
    assert found.tokenizer != read_checkpoint(room.full).tokenizer
    assert found.template is None


def test_an_adapter_may_bring_more_tokens_with_their_rows(room: Room) -> None:
    """A token beyond the base's embedding needs the larger embedding among the adapter's tensors."""
    write_tokenizer(room.adapter)
    content = json.loads((room.adapter / "tokenizer.json").read_text())
    content["added_tokens"].append({"id": VOCABULARY, "content": "<x>"})
    write_json(room.adapter / "tokenizer.json", content)
    with pytest.raises(CheckpointError, match="'<x>' has id 8, but the embedding has 8 rows"):
        read_checkpoint(room.adapter)
    grown = {"base_model.model.model.embed_tokens.weight": floats(VOCABULARY + 1, HIDDEN)}
    (room.adapter / "adapter_model.safetensors").write_bytes(safetensors_file(adapter_tensors() | grown))
    assert read_checkpoint(room.adapter).kind == "adapter"


@pytest.mark.parametrize("way", ["copy", "move", "link"])
def test_name_and_place_are_no_identity(room: Room, way: str) -> None:
    """The same bytes under another path, with other times and through a link, are the same checkpoint."""
    before = read_checkpoint(room.full)
    elsewhere = room.path / "other"
    if way == "copy":
        shutil.copytree(room.full, elsewhere, copy_function=shutil.copyfile)
    elif way == "move":
        room.full.rename(elsewhere)
    else:
        elsewhere.symlink_to(room.full, target_is_directory=True)
    after = read_checkpoint(elsewhere)
    assert after.digest == before.digest
    assert after.name == ("v3" if way == "link" else "other")


def _json(path: str, **changes: object) -> Change:
    def change(room: Room) -> None:
        file = room.path / path
        write_json(file, json.loads(file.read_text()) | changes)

    return change


def _write(path: str, data: bytes) -> Change:
    def change(room: Room) -> None:
        (room.path / path).parent.mkdir(parents=True, exist_ok=True)
        (room.path / path).write_bytes(data)

    return change


NO_CONTENT: dict[str, Change] = {
    "trainer leftovers": lambda r: [
        _write(f"v3/{n}", b"\x80\x04.")(r)
        for n in ("optimizer.pt", "scheduler.pt", "training_args.bin", "rng_state_0.pth", "trainer_state.json")
    ],
    "pickled copy of the weights": _write("v3/pytorch_model.bin", b"\x80\x04."),
    "model card": _write("v3/README.md", b"# another"),
    "git attributes": _write("v3/.gitattributes", b"* lfs"),
    "lineage": _write("v3/evalgate.json", b'{"why": "because"}'),
    "a trainer's checkpoint inside": _write("v3/checkpoint-5/config.json", b"{}"),
    "path in config": _json("v3/config.json", _name_or_path="/elsewhere", transformers_version="6", use_cache=False),
    "path in tokenizer": _json("v3/tokenizer_config.json", name_or_path="/x", is_local=True, local_files_only=True),
    "last call of the tokenizer": _json("v3/tokenizer.json", truncation={"max_length": 3}, padding={"length": 3}),
    "base path in adapter": _json("a3/adapter_config.json", base_model_name_or_path="../v3", revision="main"),
    "order of a set": _json("a3/adapter_config.json", target_modules=["q_proj", "up_proj"], inference_mode=False),
    "indent": lambda r: (r.full / "config.json").write_text(
        json.dumps(json.loads((r.full / "config.json").read_text()))
    ),
    "template in its own file": lambda r: [
        _write(
            "v3/chat_template.jinja",
            json.loads((r.full / "tokenizer_config.json").read_text())["chat_template"].encode(),
        )(r),
        _json("v3/tokenizer_config.json", chat_template=None)(r),
    ],
}

CONTENT: dict[str, Change] = {
    "one bit of the weights": lambda r: _flip(r.full / "model.safetensors"),
    "one bit of the adapter": lambda r: _flip(r.adapter / "adapter_model.safetensors"),
    "configuration": _json("v3/config.json", rope_theta=1e6),
    "quantization": _write("v3/quantize_config.json", b'{"bits": 4}'),
    "stop ids": _json("v3/generation_config.json", eos_token_id=[1]),
    "template": _json("v3/tokenizer_config.json", chat_template="x"),
    "another template": _write("v3/additional_chat_templates/tool_use.jinja", b"x"),
    "special token": _json("v3/tokenizer_config.json", bos_token="a"),
    "vocabulary": _json("v3/tokenizer.json", model={"vocab": {"z": 0}}),
    "merges": _write("v3/merges.txt", b"a b"),
    "adapter's scale": _json("a3/adapter_config.json", lora_alpha=8),
    "adapter's own template": _write("a3/chat_template.jinja", b"x"),
}


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 0x80  # the sign of the last number
    path.write_bytes(data)


@pytest.mark.parametrize("change", NO_CONTENT.values(), ids=NO_CONTENT)
def test_what_is_no_content_changes_nothing(room: Room, change: Change) -> None:
    """Leftovers, paths, order and the way of writing are no part of the identity."""
    before = read_checkpoint(room.adapter)
    change(room)
    assert read_checkpoint(room.adapter).identity == before.identity


@pytest.mark.parametrize("change", CONTENT.values(), ids=CONTENT)
def test_what_is_content_changes_the_digest(room: Room, change: Change) -> None:
    """Negative control: each thing that can change an answer changes the digest."""
    before = read_checkpoint(room.adapter)
    change(room)
    assert read_checkpoint(room.adapter).digest != before.digest


def test_shards_are_read_like_one_file(room: Room) -> None:
    """Sharded weights pass, and all shards are part of the identity."""
    shards = shard(room.full)
    before = read_checkpoint(room.full)
    _flip(shards["model-00001-of-00002.safetensors"])
    assert read_checkpoint(room.full).digest != before.digest


def test_links_inside_a_hub_cache_are_followed(tmp_path: Path) -> None:
    """In the hub's cache every file is a link into `blobs`; that folder, and no other outside, is allowed."""
    plain = write_checkpoint(tmp_path / "plain")
    repository = tmp_path / "models--org--tiny"
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for number, file in enumerate(sorted(plain.iterdir())):
        shutil.copy(file, repository / "blobs" / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    found = read_checkpoint(snapshot)
    assert found.digest == read_checkpoint(plain).digest
    assert found.name == "tiny@aaaaaaaa"
    (snapshot / "notes.txt").symlink_to(plain / "README.md")
    with pytest.raises(CheckpointError, match=r"notes\.txt: is a link that leaves"):
        read_checkpoint(snapshot)


def test_the_base_can_be_named(room: Room) -> None:
    """`--eval-base` wins over the path in the adapter's configuration; a relative path counts from the adapter."""
    room.full.rename(room.path / "moved")
    with pytest.raises(CheckpointError, match="--eval-base"):
        read_checkpoint(room.adapter)
    found = read_checkpoint(room.adapter, base=room.path / "moved")
    _json("a3/adapter_config.json", base_model_name_or_path="../moved")(room)
    assert read_checkpoint(room.adapter) == found


def test_the_lineages_base_is_accepted_when_it_is_the_base(room: Room) -> None:
    """Negative control of the swapped base: the digest that evalgate.json states is the base's."""
    write_json(room.adapter / "evalgate.json", {"base": {"digest": read_checkpoint(room.full).digest}})
    assert read_checkpoint(room.adapter).kind == "adapter"


@pytest.mark.parametrize(
    "tensors",
    [
        {"base_model.model.layers.0.mlp.up_proj.lora_A.weight": floats(RANK, HIDDEN)}
        | {"base_model.model.layers.0.mlp.up_proj.lora_B.weight": floats(6, RANK)},
        {"base_model.model.model.language_model.layers.1.self_attn.q_proj.lora_A.weight": floats(RANK, HIDDEN)}
        | {"base_model.model.model.language_model.layers.1.self_attn.q_proj.lora_B.weight": floats(HIDDEN, RANK)},
        {"base_model.model.model.embed_tokens.lora_embedding_A": floats(RANK, VOCABULARY)}
        | {"base_model.model.model.embed_tokens.lora_embedding_B": floats(HIDDEN, RANK)},
    ],
    ids=["without the model prefix", "inside another model", "embedding"],
)
def test_modules_are_found_under_other_prefixes(room: Room, tensors: dict[str, tuple[str, list[int], bytes]]) -> None:
    """Saved and loaded names differ in their leading part; layers and embeddings are matched by the rest."""
    (room.adapter / "adapter_model.safetensors").write_bytes(safetensors_file(tensors))
    _json("a3/adapter_config.json", target_modules="all-linear")(room)
    assert read_checkpoint(room.adapter).kind == "adapter"


def test_kinds_that_are_merged_are_accepted(room: Room) -> None:
    """DoRA with a rank of its own for one module, and IA3, pass preflight: the engine merges them."""
    magnitudes = [
        name.replace("lora_A.weight", "lora_magnitude_vector") for name in adapter_tensors() if "lora_A" in name
    ]
    dora = {name: floats(HIDDEN) for name in magnitudes}
    _json("a3/adapter_config.json", use_dora=True, r=9, rank_pattern={"q_proj": RANK, "up_proj": RANK})(room)
    (room.adapter / "adapter_model.safetensors").write_bytes(safetensors_file(adapter_tensors() | dora))
    assert read_checkpoint(room.adapter).kind == "adapter"
    _json("a3/adapter_config.json", peft_type="IA3")(room)
    ia3 = {"base_model.model.model.layers.0.mlp.up_proj.ia3_l": floats(6, 1)}
    (room.adapter / "adapter_model.safetensors").write_bytes(safetensors_file(ia3))
    assert read_checkpoint(room.adapter).kind == "adapter"


# -- the memo ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose tensors were read to the end."""
    names: list[str] = []
    original = scan._digest

    def counting(folder: object, name: str, header: object) -> str:
        names.append(name)
        return original(folder, name, header)  # type: ignore[arg-type]

    monkeypatch.setattr(scan, "_digest", counting)
    return names


@pytest.mark.usefixtures("settled")
def test_a_remembered_file_is_not_read_again(room: Room, reads: list[str]) -> None:
    """The second look reads no tensors and finds the same identity."""
    memo: DigestMemo = Memo()
    before = read_checkpoint(room.adapter, memo=memo)
    assert sorted(reads) == ["adapter_model.safetensors", "model.safetensors"]
    reads.clear()
    assert read_checkpoint(room.adapter, memo=memo) == before
    verify_unchanged(before, memo)
    assert reads == []


@pytest.mark.usefixtures("settled")
def test_retraining_in_place_is_noticed_even_with_the_old_mtime(room: Room, reads: list[str]) -> None:
    """Same path, size and inode, and mtime set back: ctime still says that the file was written."""
    memo = Memo()
    weights = room.full / "model.safetensors"
    before = read_checkpoint(room.full, memo=memo)
    was = weights.stat()
    with weights.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xbf")
    os.utime(weights, ns=(was.st_atime_ns, was.st_mtime_ns))
    now = weights.stat()
    assert (now.st_size, now.st_ino, now.st_mtime_ns) == (was.st_size, was.st_ino, was.st_mtime_ns)
    assert read_checkpoint(room.full, memo=memo).digest != before.digest
    assert len(reads) == 2


def test_a_file_written_a_moment_ago_is_not_remembered(room: Room) -> None:
    """Within one tick of the file system's clock a second writing would look the same, so the digest is not kept."""
    memo = Memo()
    read_checkpoint(room.full, memo=memo)
    assert memo.known == {}
    assert RACY_NS >= 1_000_000_000


@pytest.mark.usefixtures("settled")
def test_a_bad_file_is_never_remembered(room: Room) -> None:
    """A digest in the memo means that the scan passed."""
    memo = Memo()
    room.weights(model__norm__weight=floats(HIDDEN, value=float("inf")))
    for _ in range(2):
        with pytest.raises(CheckpointError, match="NaN or infinite"):
            read_checkpoint(room.full, memo=memo)
    assert memo.known == {}


def test_a_change_after_preflight_is_refused(room: Room) -> None:
    """What the engine loaded must be what was checked: weights, base or tokenizer changed since are found."""
    before = read_checkpoint(room.adapter)
    verify_unchanged(before)
    _flip(room.full / "model.safetensors")
    with pytest.raises(CheckpointError, match="changed while it was being loaded"):
        verify_unchanged(before)


def test_a_change_while_reading_is_refused(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is written between its header and its last byte has no digest."""
    original = scan._digest

    def late(folder: object, name: str, header: object) -> str:
        _flip(room.full / "model.safetensors")
        return original(folder, name, header)  # type: ignore[arg-type]

    monkeypatch.setattr(scan, "_digest", late)
    with pytest.raises(CheckpointError, match="changed while it was read"):
        read_checkpoint(room.full)
