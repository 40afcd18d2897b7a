"""A small valid checkpoint and adapter, written by hand, and a room in which one of them can be spoilt."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

HIDDEN, INNER, VOCABULARY, LAYERS, RANK = 4, 6, 8, 2, 2
Entry = tuple[str, list[int], bytes]


def floats(*shape: int, value: float = 0.5) -> Entry:
    """A float32 tensor of one value."""
    count = 1
    for extent in shape:
        count *= extent
    return "F32", list(shape), struct.pack("<f", value) * count


def header_of(tensors: Mapping[str, Entry]) -> dict[str, Any]:
    """The header of a safetensors file with these tensors in this order."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    return header


def with_header(header: bytes, data: bytes) -> bytes:
    """A safetensors file of a given header."""
    return struct.pack("<Q", len(header)) + header + data


def safetensors_file(tensors: Mapping[str, Entry]) -> bytes:
    """A safetensors file, written by hand."""
    return with_header(json.dumps(header_of(tensors)).encode(), b"".join(data for _, _, data in tensors.values()))


def model_tensors() -> dict[str, Entry]:
    """The weights of a tiny Llama."""
    tensors = {"model.embed_tokens.weight": floats(VOCABULARY, HIDDEN)}
    for layer in range(LAYERS):
        tensors[f"model.layers.{layer}.self_attn.q_proj.weight"] = floats(HIDDEN, HIDDEN)
        tensors[f"model.layers.{layer}.mlp.up_proj.weight"] = floats(INNER, HIDDEN)
    return tensors | {"model.norm.weight": floats(HIDDEN), "lm_head.weight": floats(VOCABULARY, HIDDEN)}


def adapter_tensors() -> dict[str, Entry]:
    """LoRA on both linear layers of every layer."""
    tensors: dict[str, Entry] = {}
    for layer in range(LAYERS):
        for module, rows in (("self_attn.q_proj", HIDDEN), ("mlp.up_proj", INNER)):
            name = f"base_model.model.model.layers.{layer}.{module}"
            tensors[f"{name}.lora_A.weight"] = floats(RANK, HIDDEN)
            tensors[f"{name}.lora_B.weight"] = floats(rows, RANK, value=0.25)
    return tensors


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")


def write_tokenizer(folder: Path) -> None:
    """A tokenizer of words, with a chat template in its configuration."""
    words = ["<s>", "</s>", "a", "b", "c", "d", "e", "f"]
    special = [{"id": i, "content": words[i], "special": True} for i in (0, 1)]
    model = {"type": "WordLevel", "vocab": {word: i for i, word in enumerate(words)}, "unk_token": "<s>"}
    write_json(
        folder / "tokenizer.json",
        {"version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "model": model},
    )
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<s>",
            "eos_token": {"content": "</s>", "lstrip": False},
            "chat_template": "{{ bos_token }}{% for message in messages %}{{ message.content }}{% endfor %}",
        },
    )


def write_checkpoint(folder: Path) -> Path:
    """A small valid folder of full weights."""
    folder.mkdir(parents=True)
    write_json(
        folder / "config.json",
        {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": HIDDEN,
            "num_hidden_layers": LAYERS,
            "vocab_size": VOCABULARY,
            "max_position_embeddings": 128,
            "eos_token_id": 1,
            "_name_or_path": "/somewhere/v3",
            "transformers_version": "5.19.0",
        },
    )
    write_json(folder / "generation_config.json", {"eos_token_id": [1, 7]})
    (folder / "model.safetensors").write_bytes(safetensors_file(model_tensors()))
    write_tokenizer(folder)
    (folder / "README.md").write_text("# v3\n")
    return folder


def write_adapter(folder: Path, base: Path) -> Path:
    """A small valid LoRA adapter of a base."""
    folder.mkdir(parents=True)
    write_json(
        folder / "adapter_config.json",
        {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": str(base),
            "r": RANK,
            "lora_alpha": 4,
            "target_modules": ["up_proj", "q_proj"],
            "modules_to_save": None,
            "inference_mode": True,
        },
    )
    (folder / "adapter_model.safetensors").write_bytes(safetensors_file(adapter_tensors()))
    return folder


def shard(folder: Path) -> dict[str, Path]:
    """Split the weights into two shards with an index; return the shards by name."""
    tensors = model_tensors()
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[:3], "model-00002-of-00002.safetensors": names[3:]}
    for file, part in parts.items():
        (folder / file).write_bytes(safetensors_file({name: tensors[name] for name in part}))
    places = {name: file for file, part in parts.items() for name in part}
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": places})
    return {file: folder / file for file in parts}


@dataclass(frozen=True)
class Room:
    """Where one bad folder is made: a valid checkpoint `v3` and adapter `a3` beside each other."""

    path: Path

    @property
    def full(self) -> Path:
        return self.path / "v3"

    @property
    def adapter(self) -> Path:
        return self.path / "a3"

    @property
    def canary(self) -> Path:
        return self.path / "canary"

    @property
    def code(self) -> str:
        """Python that writes the canary."""
        return f"open({str(self.canary)!r}, 'w').close()\n"

    @property
    def pickle(self) -> bytes:
        """A pickle that writes the canary when it is loaded."""
        return pickle.dumps(_Bomb(str(self.canary)))

    def edit(self, name: str, **changes: Any) -> Self:
        """Change keys of a JSON file of the checkpoint or, by name, of the adapter."""
        path = (self.adapter if name == "adapter_config.json" else self.full) / name
        write_json(path, json.loads(path.read_text()) | changes)
        return self

    def weights(self, **tensors: Entry | None) -> None:
        """Replace, add or (with `None`) drop tensors of the checkpoint; `__` in a name stands for a dot."""
        self._rewrite(self.full / "model.safetensors", model_tensors(), tensors)

    def lora(self, **tensors: Entry | None) -> Self:
        """The same for the adapter's first layer: `q_proj__lora_A__weight=…`."""
        prefix = "base_model__model__model__layers__0__"
        changes = {prefix + name: entry for name, entry in tensors.items()}
        self._rewrite(self.adapter / "adapter_model.safetensors", adapter_tensors(), changes)
        return self

    @staticmethod
    def _rewrite(path: Path, tensors: dict[str, Entry], changes: Mapping[str, Entry | None]) -> None:
        merged = tensors | {name.replace("__", "."): entry for name, entry in changes.items()}
        path.write_bytes(safetensors_file({name: entry for name, entry in merged.items() if entry}))

    def raw(self, header: bytes, data: bytes = b"") -> None:
        """Weights with a header of any bytes."""
        (self.full / "model.safetensors").write_bytes(with_header(header, data))

    def head(self, **entries: Any) -> None:
        """Weights with these header entries and eight bytes of data."""
        self.raw(json.dumps(entries).encode(), bytes(8))


class _Bomb:
    def __init__(self, canary: str) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.canary,)
