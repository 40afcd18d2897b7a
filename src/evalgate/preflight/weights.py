"""Full weights: which files hold them, and whether they are all there and fit the configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from evalgate.errors import CheckpointError
from evalgate.preflight.config_json import read_object
from evalgate.preflight.files import Folder, quoted
from evalgate.preflight.safetensors import Header, Tensor, read_header

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
MAX_INDEX = 64 << 20

_PICKLED = re.compile(r"(pytorch_model|model|consolidated|adapter_model).*\.(bin|pt|pth|ckpt|pkl|pickle)")
_LAYER = re.compile(r"((?:.*?\.)?(?:layers|h|blocks|block))\.(\d+)\..+")
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_EMBEDDINGS = {"embed_tokens", "wte", "word_embeddings", "embed_in", "tok_embeddings", "embeddings"}


def tensor_files(folder: Folder) -> dict[str, frozenset[str]]:
    """The files that hold the weights, and for each the tensors that the index expects there (empty without an index).

    Raises:
        CheckpointError: only pickled weights, no weights, an index that names what is not there, or two sets.
    """
    if INDEX not in folder.files:
        if SINGLE not in folder.files:
            _refuse_other_formats(folder)
        return {SINGLE: frozenset()}
    where = folder.where(INDEX)
    if SINGLE in folder.files:
        raise CheckpointError(
            f"lies beside {SINGLE}, and libraries disagree on which of the two they load",
            where=where,
            mend="Remove the one that is not meant.",
        )
    places = read_object(folder, INDEX, MAX_INDEX).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
        raise CheckpointError(
            "has no weight_map of tensors to files", where=where, mend="Save or download the model again."
        )
    shards: dict[str, set[str]] = {}
    for tensor, shard in places.items():
        shards.setdefault(shard, set()).add(tensor)
    for shard in sorted(shards):
        if "/" in shard or shard not in folder.files or not shard.endswith(".safetensors"):
            raise CheckpointError(
                f"names the shard '{quoted(shard)}', which is not in the folder",
                where=where,
                mend="Copy or download the missing file: without it libraries start from random weights.",
            )
    return {shard: frozenset(shards[shard]) for shard in sorted(shards)}


def read_headers(folder: Folder) -> dict[str, Header]:
    """The headers of all files of weights, checked against the index both ways."""
    headers = {}
    for name, expected in tensor_files(folder).items():
        header = headers[name] = read_header(folder, name)
        if not expected:
            continue
        for tensor in sorted(expected ^ header.tensors.keys()):
            what = "is in the index but not in" if tensor in expected else "is not in the index but in"
            raise CheckpointError(
                f"tensor '{quoted(tensor)}' {what} {quoted(name)}",
                where=folder.where(INDEX),
                mend="Index and shards are of two different versions: save or download the model again.",
            )
    return headers


def all_tensors(headers: Mapping[str, Header]) -> dict[str, Tensor]:
    """Every tensor by name."""
    return {name: tensor for header in headers.values() for name, tensor in header.tensors.items()}


def text_setting(config: Mapping[str, Any], *keys: str) -> int | None:
    """The first of the keys that is a whole number, at the top or in `text_config` (models that also see or hear)."""
    nested = config.get("text_config")
    for place in (config, nested if isinstance(nested, dict) else {}):
        for key in keys:
            if type(place.get(key)) is int:
                return int(place[key])
    return None


def vocabulary(folder: Folder, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> int | None:
    """Rows of the embedding, `None` where neither configuration nor a tensor of a known name says it.

    Raises:
        CheckpointError: config.json says another number than the embedding or the head has.
    """
    stated = text_setting(config, "vocab_size")
    for names in (_EMBEDDINGS, {"lm_head", "embed_out"}):
        rows = {t.name: t.shape[0] for t in tensors.values() if len(t.shape) == 2 and _module(t.name) in names}
        if stated is None and rows:
            return min(rows.values())
        if rows and stated not in rows.values():
            name, found = next(iter(rows.items()))
            raise CheckpointError(
                f"vocab_size is {stated:,}, but '{quoted(name)}' has {found:,} rows",
                where=folder.where("config.json"),
                mend="Save the model again after resizing its embeddings (resize_token_embeddings).",
            )
    return stated


def is_embedding(tensor: Tensor) -> bool:
    """Whether this is a matrix with one row per token."""
    return len(tensor.shape) == 2 and _module(tensor.name) in _EMBEDDINGS


def require_layers(folder: Folder, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Refuse weights that lack a whole layer: transformers would fill it with random numbers and only warn."""
    count = text_setting(config, *_LAYERS)
    stacks: dict[str, set[int]] = {}
    for name in tensors:
        if found := _LAYER.fullmatch(name):
            stacks.setdefault(found[1], set()).add(int(found[2][:9]))
    if not count or not stacks:
        return
    # further layers (multi-token prediction) and further stacks (a vision tower) may lie beside
    best = max(stacks, key=lambda stack: sum(1 for layer in stacks[stack] if layer < count))
    present = sum(1 for layer in stacks[best] if layer < count)
    if present < count:
        absent = next(layer for layer in range(count) if layer not in stacks[best])
        raise CheckpointError(
            f"has no tensors for {quoted(best)}.{absent}: {present:,} of {count:,} layers are there",
            where=folder.shown,
            mend="Save or download the model again: libraries would fill the gap with random weights.",
        )


def _module(tensor: str) -> str:
    """`embed_tokens` of `model.embed_tokens.weight`."""
    parts = tensor.rsplit(".", 2)
    return parts[-2] if len(parts) > 1 and parts[-1] == "weight" else ""


def _refuse_other_formats(folder: Folder) -> None:
    pickled = sorted(name for name in folder.files if _PICKLED.fullmatch(name))
    if pickled:
        raise CheckpointError(
            f"has its weights only as {quoted(pickled[0])}, a pickle: loading it can run code",
            where=folder.shown,
            mend='If you trust its source, convert it there: python -c "import transformers as t; '
            "t.AutoModelForCausalLM.from_pretrained('.').save_pretrained('safe')\" and add the tokenizer's files.",
        )
    others = sorted(name for name in folder.files if name.endswith((".safetensors", ".gguf")))
    found = f"; it has {quoted(others[0])}" if others else ""
    raise CheckpointError(
        f"has neither {SINGLE} nor {INDEX}{found}",
        where=folder.shown,
        mend="Save the model with save_pretrained, or copy the missing file.",
    )
