"""A factory of bad checkpoint folders: each is a small valid one with a single thing wrong.

Code and pickles in them write a canary when anything runs them.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.tiny_checkpoint import (
    HIDDEN,
    INNER,
    RANK,
    Room,
    adapter_tensors,
    floats,
    model_tensors,
    safetensors_file,
    shard,
    write_adapter,
    write_checkpoint,
    write_json,
)

Spoil = Callable[[Room], object]


@dataclass(frozen=True)
class Hostile:
    """One bad folder.

    Attributes:
        name: of the fault.
        spoil: makes it of the two valid folders.
        says: what the message must contain.
        adapter: whether the adapter is what is read.
    """

    name: str
    spoil: Spoil
    says: str
    adapter: bool = False

    def make(self, path: Path) -> Path:
        """Build the folder below `path`; return what `--model` would be given."""
        room = Room(path)
        write_adapter(room.adapter, write_checkpoint(room.full))
        self.spoil(room)
        return room.adapter if self.adapter else room.full


def _gone(room: Room) -> None:
    shutil.rmtree(room.full)


def _file(room: Room) -> None:
    shutil.rmtree(room.full)
    room.full.write_text("x")


def _code_below(room: Room) -> None:
    (room.full / "sub").mkdir()
    (room.full / "sub" / "setup.PY").write_text(room.code)


def _strange_ia3(room: Room) -> None:
    room.edit("adapter_config.json", peft_type="IA3")
    tensors = {"base_model.model.x.7.y.ia3_l": floats(4)}
    (room.adapter / "adapter_model.safetensors").write_bytes(safetensors_file(tensors))


def _adapter_config(**changes: Any) -> Spoil:
    return lambda room: room.edit("adapter_config.json", **changes)


def _empty(room: Room) -> None:
    shutil.rmtree(room.full)
    room.full.mkdir()


def _only_pickled(name: str) -> Spoil:
    def spoil(room: Room) -> None:
        (room.full / "model.safetensors").unlink()
        (room.full / name).write_bytes(room.pickle)

    return spoil


def _config_text(text: str) -> Spoil:
    return lambda room: (room.full / "config.json").write_text(text, encoding="utf-8")


def _large_config(room: Room) -> None:
    with (room.full / "config.json").open("wb") as file:
        file.truncate(200 << 20)


def _zip(room: Room) -> None:
    with zipfile.ZipFile(room.full / "model.safetensors", "w") as archive:
        archive.writestr("archive/data.pkl", room.pickle)


def _link(name: str, target: str) -> Spoil:
    def spoil(room: Room) -> None:
        (room.full / name).unlink(missing_ok=True)
        (room.full / name).symlink_to(target)

    return spoil


def _fifo(room: Room) -> None:
    (room.full / "config.json").unlink()
    os.mkfifo(room.full / "config.json")


def _socket(room: Room) -> None:
    here = Path.cwd()
    os.chdir(room.full)  # a socket's path may have 107 bytes only
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("s")
    finally:
        os.chdir(here)


def _sharded(change: Callable[[Room, Path], object]) -> Spoil:
    def spoil(room: Room) -> None:
        change(room, shard(room.full)["model-00002-of-00002.safetensors"])

    return spoil


def _index(change: Callable[[dict[str, str]], object]) -> Callable[[Room, Path], None]:
    def edit(room: Room, _: Path) -> None:
        path = room.full / "model.safetensors.index.json"
        index = json.loads(path.read_text())
        change(index["weight_map"])
        write_json(path, index)

    return edit


def _one_element(dtype: str, width: int, pattern: int, shape: list[int], at: int) -> Spoil:
    """A norm of another dtype whose element `at` has the given bits; all others are zero."""
    count = 1
    for extent in shape:
        count *= extent
    data = bytearray(width * count)
    data[at * width : (at + 1) * width] = pattern.to_bytes(width, "little")
    return lambda room: room.weights(model__norm__weight=(dtype, shape, bytes(data)))


def _base_with(**changes: Any) -> Spoil:
    return lambda room: room.edit("config.json", **changes)


def _tensor(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def _zero_b(room: Room) -> None:
    tensors = {
        name: floats(*entry[1], value=-0.0) if "lora_B" in name else entry for name, entry in adapter_tensors().items()
    }
    (room.adapter / "adapter_model.safetensors").write_bytes(safetensors_file(tensors))


def _pickled_adapter(room: Room) -> None:
    (room.adapter / "adapter_model.safetensors").unlink()
    (room.adapter / "adapter_model.bin").write_bytes(room.pickle)


def _other_base(room: Room) -> None:
    """A base of the same names and another width."""
    wide = {
        name: floats(*(8 if n == HIDDEN else n for n in entry[1])) if "layers" in name else entry
        for name, entry in model_tensors().items()
    }
    (room.full / "model.safetensors").write_bytes(safetensors_file(wide))


def _nan_in_adapter(room: Room) -> None:
    room.lora(self_attn__q_proj__lora_A__weight=floats(RANK, HIDDEN, value=float("nan")))


_CHECKPOINTS: tuple[tuple[str, Spoil, str], ...] = (
    # the folder
    ("empty folder", _empty, "empty"),
    ("no folder", _gone, "No such file"),
    ("a file for a folder", _file, "is a file"),
    ("code beside the weights", lambda r: (r.full / "modeling_x.py").write_text(r.code), "is code"),
    (
        "code below the folder",
        _code_below,
        "is code",
    ),
    ("a compiled module", lambda r: (r.full / "kernel.so").write_bytes(b"\x7fELF"), "is code"),
    ("a link that leaves", _link("config.json", "/etc/hostname"), "leaves the folder"),
    ("a relative link that leaves", _link("model.safetensors", "../a3/adapter_model.safetensors"), "leaves"),
    ("a linked folder that leaves", _link("logs", "../a3"), "leaves the folder"),
    ("a link to nothing", _link("model.safetensors", "gone"), "link to nothing"),
    ("a link to itself", _link("model.safetensors", "model.safetensors"), "link to nothing"),
    ("a link to a device", _link("model.safetensors", "/dev/zero"), "leaves the folder"),
    ("a pipe", _fifo, "is a pipe"),
    ("a socket", _socket, "is a socket"),
    # config.json
    ("no config", lambda r: (r.full / "config.json").unlink(), "no config.json"),
    ("config cut", _config_text('{\n  "model_type": "lla'), "line 2:17"),
    ("config with a key twice", _config_text('{"a": {"b": 1, "b": 2}}'), "'b' twice"),
    ("config nested deep", _config_text('{"a":' * 10_000 + "1" + "}" * 10_000), "nested"),
    ("config nested less deep", _config_text('{"a":' * 200 + "1" + "}" * 200), "nested more than 64"),
    ("config of 200 MB", _large_config, "209,715,200 bytes"),
    ("config is a list", _config_text("[]"), "no JSON object"),
    ("config not UTF-8", lambda r: (r.full / "config.json").write_bytes(b'{"a": "\xff"}'), "byte 7"),
    ("config in UTF-16", lambda r: (r.full / "config.json").write_bytes("{}".encode("utf-16")), "UTF-8"),
    ("config with NaN", _config_text('{"rms_norm_eps": NaN}'), "NaN"),
    ("config with a huge number", _config_text('{"rope_theta": 1e999}'), "1e999"),
    ("config with a long number", _config_text('{"a": ' + "9" * 5000 + "}"), "too many digits"),
    ("config without architecture", _base_with(architectures=None), "architectures"),
    ("eos is a text", _base_with(eos_token_id="</s>"), "eos_token_id"),
    # code by configuration
    ("auto_map", _base_with(auto_map={"AutoModelForCausalLM": "modeling_x.X"}), "auto_map"),
    ("auto_map of the tokenizer", lambda r: r.edit("tokenizer_config.json", auto_map=["x.X", None]), "auto_map"),
    ("nested trust_remote_code", _base_with(text_config={"a": [{"trust_remote_code": True}]}), "trust_remote"),
    ("attention from a repository", _base_with(_attn_implementation="evil/kernel"), "evil/kernel"),
    ("attention of a part", _base_with(_attn_implementation_internal={"": "evil/k@main:f"}), "evil/k@main"),
    ("experts from a repository", _base_with(text_config={"experts_implementation": "evil/k"}), "evil/k"),
    ("model_file", _base_with(model_file="modeling.py"), "model_file"),
    ("code to generate", lambda r: r.edit("generation_config.json", custom_generate="evil/g"), "custom_generate"),
    (
        "code of a processor",
        lambda r: write_json(r.full / "processor_config.json", {"auto_map": {"AutoProcessor": "x.X"}}),
        "auto_map",
    ),
    # pickles
    ("only pytorch_model.bin", _only_pickled("pytorch_model.bin"), "from_pretrained"),
    ("only a .pt", _only_pickled("model.pt"), "a pickle"),
    ("only a sharded .bin", _only_pickled("pytorch_model-00001-of-00002.bin"), "a pickle"),
    ("a ZIP named .safetensors", _zip, "pickle under another name"),
    ("a pickle named .safetensors", lambda r: (r.full / "model.safetensors").write_bytes(r.pickle), "pickle"),
    ("no weights", lambda r: (r.full / "model.safetensors").unlink(), "neither model.safetensors"),
    # the header of the weights
    ("an empty file", lambda r: (r.full / "model.safetensors").write_bytes(b""), "has 0 bytes"),
    (
        "header of 2^63 bytes",
        lambda r: (r.full / "model.safetensors").write_bytes(struct.pack("<Q", 1 << 63) + b"{}"),
        "9,223,372,036,854,775,808",
    ),
    (
        "header past the end",
        lambda r: (r.full / "model.safetensors").write_bytes(struct.pack("<Q", 999) + b"{}"),
        "999 bytes",
    ),
    ("header is no JSON", lambda r: r.raw(b"{'a': 1}"), "line 1:2"),
    ("no tensors", lambda r: r.head(), "holds no tensors"),
    (
        "tensor name twice",
        lambda r: r.raw(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8"}}', b"x"),
        "'a' twice",
    ),
    ("overlapping tensors", lambda r: r.head(a=_tensor(), b=_tensor(shape=[1], offsets=[4, 8])), "overlaps"),
    (
        "a hole between tensors",
        lambda r: r.head(a=_tensor("U8", [2], [0, 2]), b=_tensor("U8", [2], [6, 8])),
        "leaves a hole",
    ),
    ("bytes before the first tensor", lambda r: r.head(a=_tensor(shape=[1], offsets=[4, 8])), "expected 0"),
    ("bytes after the last tensor", lambda r: r.head(a=_tensor(shape=[1], offsets=[0, 4])), "4 more"),
    ("one byte short", lambda r: r.head(a=_tensor("U8", [9], [0, 9])), "1 fewer"),
    ("shape overflows", lambda r: r.head(a=_tensor(shape=[1 << 40, 1 << 40])), "overflows"),
    ("shape and bytes differ", lambda r: r.head(a=_tensor(shape=[3])), "12 bytes, but has 8"),
    ("negative shape", lambda r: r.head(a=_tensor(shape=[-2])), "whole numbers"),
    ("shape of fractions", lambda r: r.head(a=_tensor(shape=[2.0])), "whole numbers"),
    ("unknown dtype", lambda r: r.head(a=_tensor("F31")), "'F31'"),
    ("dtype is a list", lambda r: r.head(a=_tensor(["F32"])), "unknown dtype"),
    ("offsets backwards", lambda r: r.head(a=_tensor(offsets=[8, 0])), "[begin, end]"),
    ("entry is a number", lambda r: r.head(a=1), "needs exactly"),
    ("metadata is a list", lambda r: r.head(__metadata__=[], a=_tensor()), "__metadata__"),
    ("terminal codes in a name", lambda r: r.head(**{"\x1b[2J\n": _tensor("F31")}), "\\x1b[2J\\n"),
    # shards
    ("a missing shard", _sharded(lambda r, p: p.unlink()), "not in the folder"),
    ("a shard one byte short", _sharded(lambda r, p: p.write_bytes(p.read_bytes()[:-1])), "1 fewer"),
    (
        "a tensor in the index only",
        _sharded(_index(lambda m: m.update({"extra.weight": "model-00002-of-00002.safetensors"}))),
        "in the index but not in",
    ),
    ("a tensor in the shard only", _sharded(_index(lambda m: m.pop("model.norm.weight"))), "not in the index"),
    ("a shard elsewhere", _sharded(_index(lambda m: m.update({"x": "../a3/x.safetensors"}))), "../a3"),
    ("a pickled shard", _sharded(_index(lambda m: m.update({"x": "README.md"}))), "README.md"),
    ("an index of nothing", _sharded(_index(lambda m: m.clear())), "no weight_map"),
    (
        "index and single file",
        _sharded(lambda r, p: (r.full / "model.safetensors").write_bytes(safetensors_file(model_tensors()))),
        "disagree",
    ),
    ("index gone", _sharded(lambda r, p: (r.full / "model.safetensors.index.json").unlink()), "model-00001-of-00002"),
    (
        "a layer gone",
        lambda r: r.weights(
            model__layers__1__self_attn__q_proj__weight=None, model__layers__1__mlp__up_proj__weight=None
        ),
        "model.layers.1",
    ),
    # numbers
    (
        "NaN in float32",
        _one_element("F32", 4, 0x7FC00000, [2, 3], 4),
        "'model.norm.weight' is NaN or infinite at [1, 1]",
    ),
    ("infinity in float32", _one_element("F32", 4, 0x7F800000, [4], 3), "at [3]"),
    ("minus infinity in float64", _one_element("F64", 8, 0xFFF0 << 48, [4], 0), "at [0]"),
    ("NaN in float16", _one_element("F16", 2, 0x7C01, [4], 2), "at [2]"),
    ("NaN in bfloat16", _one_element("BF16", 2, 0xFFC0, [4], 1), "at [1]"),
    ("NaN in float8 e4m3", _one_element("F8_E4M3", 1, 0xFF, [4], 1), "at [1]"),
    ("infinity in float8 e5m2", _one_element("F8_E5M2", 1, 0x7C, [4], 1), "at [1]"),
    ("NaN in float8 e4m3fnuz", _one_element("F8_E4M3FNUZ", 1, 0x80, [4], 1), "at [1]"),
    ("NaN behind the first chunk", _one_element("BF16", 2, 0x7FC0, [600, 1000], 599_999), "at [599, 999]"),
    ("NaN in a scalar", _one_element("F32", 4, 0x7FC00000, [], 0), "at []"),
    # vocabulary and tokenizer
    ("vocabulary and embedding differ", _base_with(vocab_size=9), "vocab_size is 9"),
    ("vocabulary and head differ", lambda r: r.weights(lm_head__weight=floats(7, HIDDEN)), "'lm_head.weight' has 7"),
    ("no tokenizer", lambda r: (r.full / "tokenizer.json").unlink(), "no tokenizer"),
    ("a token without a row", lambda r: r.edit("tokenizer.json", added_tokens=[{"id": 8, "content": "<x>"}]), "id 8"),
    ("tokenizer of nothing", lambda r: r.edit("tokenizer.json", model=[]), "is no tokenizer"),
    ("token ids as text", lambda r: r.edit("tokenizer.json", model={"vocab": {"a": "1"}}), "is no tokenizer"),
    (
        "another tokenizer file",
        lambda r: r.edit("tokenizer_config.json", fast_tokenizer_files=["tokenizer.9.json"]),
        "fast_tokenizer_files",
    ),
    ("template is a number", lambda r: r.edit("tokenizer_config.json", chat_template=7), "chat_template"),
    (
        "template not UTF-8",
        lambda r: (r.full / "chat_template.jinja").write_bytes(b"\xff\xfe"),
        "not UTF-8",
    ),
)

_ADAPTERS: tuple[tuple[str, Spoil, str], ...] = (
    ("base of other shapes", _other_base, "not the base it was trained on"),
    (
        "base of other names",
        lambda r: r.edit("adapter_config.json", target_modules=["x"]).lora(
            self_attn__q_proj__lora_A__weight=None,
            self_attn__q_proj__lora_B__weight=None,
            attn__x__lora_A__weight=floats(RANK, HIDDEN),
            attn__x__lora_B__weight=floats(HIDDEN, RANK),
        ),
        "attn.x",
    ),
    ("other targets than tensors", _adapter_config(target_modules=["q_proj"]), "up_proj"),
    ("all B zero", _zero_b, "every lora_B is zero"),
    ("rank other than stated", _adapter_config(r=4), "rank 2"),
    (
        "ranks of A and B differ",
        lambda r: r.lora(mlp__up_proj__lora_B__weight=floats(INNER, 3)),
        "ranks differ",
    ),
    ("A without B", lambda r: r.lora(mlp__up_proj__lora_B__weight=None), "no lora_B"),
    (
        "shape other than the base's",
        lambda r: r.lora(mlp__up_proj__lora_B__weight=floats(5, RANK)),
        "changes a weight of [5, 4]",
    ),
    ("adapter_model.bin", _pickled_adapter, "adapter_model.bin, a pickle"),
    ("adapter without weights", lambda r: (r.adapter / "adapter_model.safetensors").unlink(), "has no adapter_model"),
    ("unknown peft_type", _adapter_config(peft_type="MAGIC"), "'MAGIC'"),
    ("peft_type is a list", _adapter_config(peft_type=["LORA"]), "peft_type"),
    ("prompt tuning", _adapter_config(peft_type="PROMPT_TUNING"), "cannot be merged"),
    ("IA3 of another model", _strange_ia3, "1 of its 1"),
    (
        "LoRA without LoRA",
        lambda r: (r.adapter / "adapter_model.safetensors").write_bytes(safetensors_file({"x": floats(4)})),
        "no LoRA tensors",
    ),
    ("auto_mapping of a module", _adapter_config(auto_mapping={"parent_library": "evil"}), "'evil'"),
    ("megatron_core of a module", _adapter_config(megatron_core="evil"), "megatron"),
    ("base on the hub", _adapter_config(base_model_name_or_path="org/name"), "--eval-base"),
    ("base with NUL", _adapter_config(base_model_name_or_path="a\0b"), "--eval-base"),
    ("base with a long name", _adapter_config(base_model_name_or_path="x" * 5000), "--eval-base"),
    ("base is the adapter", _adapter_config(base_model_name_or_path="."), "an adapter too"),
    ("base is a system folder", _adapter_config(base_model_name_or_path="/dev"), "/dev"),
    ("base is bad itself", lambda r: (r.full / "x.py").write_text(r.code), "is code"),
    (
        "base other than the lineage says",
        lambda r: write_json(r.adapter / "evalgate.json", {"base": {"digest": "sha256:" + "0" * 64}}),
        "was trained on the base 000000000000",
    ),
    ("adapter and full weights", lambda r: shutil.copy(r.full / "model.safetensors", r.adapter), "at once"),
    ("NaN in an adapter", _nan_in_adapter, "lora_A.weight' is NaN"),
)

HOSTILE = (*(Hostile(*row) for row in _CHECKPOINTS), *(Hostile(*row, adapter=True) for row in _ADAPTERS))
