"""PEFT adapters: a configuration that fits the base, tensors that fit the configuration, and an effect."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from evalgate.errors import CheckpointError
from evalgate.preflight import weights
from evalgate.preflight.config_json import read_config
from evalgate.preflight.files import Folder, quoted
from evalgate.preflight.safetensors import Header, Tensor, read_header
from evalgate.preflight.scan import has_nonzero
from evalgate.version import LINEAGE

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"

MERGEABLE = frozenset({
    "ADALORA", "BOFT", "C3A", "FOURIERFT", "HRA", "IA3", "LN_TUNING", "LOHA", "LOKR", "LORA", "MISS", "OFT",
    "RANDLORA", "ROAD", "SHIRA", "TRAINABLE_TOKENS", "VBLORA", "VERA", "WAVEFT",
})  # fmt: skip
"""Kinds that PEFT can merge into full weights; LoRA is served as it is where the engine can."""

# PEFT writes sets in any order, the path of the base on that machine, and what the last process did with the adapter.
UNORDERED = ("target_modules", "modules_to_save", "exclude_modules", "target_parameters", "layers_to_transform")
_OF_NO_MEANING = frozenset(
    ("base_model_name_or_path", "revision", "inference_mode", "peft_version", "auto_mapping", "parent_library")
)

PREFIX = "base_model.model."
LORA = re.compile(r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(?:\.weight)?")
_FROM_LAYER = re.compile(r"(?:.*?\.)?([^.]+\.\d+\..+)")
# With these, rows or columns of A and B are no longer those of the module's weight.
_RESHAPED = ("use_qalora", "use_bdlora", "target_parameters", "layer_replication")


def is_adapter(folder: Folder) -> bool:
    """Whether the folder holds a PEFT adapter.

    Raises:
        CheckpointError: it holds an adapter and full weights, and libraries disagree on what that means.
    """
    if CONFIG not in folder.files:
        return False
    full = next(
        (n for n in folder.files if n.startswith("model") and n.endswith((".safetensors", ".index.json"))), None
    )
    if full:
        raise CheckpointError(
            f"lies beside {quoted(full)}: the folder is an adapter and full weights at once",
            where=folder.where(CONFIG),
            mend="Keep each in a folder of its own.",
        )
    return True


def read_adapter_config(folder: Folder) -> dict[str, Any]:
    """The adapter's configuration.

    Raises:
        CheckpointError: a kind that PEFT cannot merge, or a key that makes PEFT import a module.
    """
    config = read_config(folder, CONFIG)
    where = folder.where(CONFIG)
    kind = config.get("peft_type")
    if not isinstance(kind, str) or kind not in MERGEABLE:
        raise CheckpointError(
            f"peft_type is '{quoted(str(kind))}', which cannot be merged into weights or is unknown",
            where=where,
            mend=f"Train one of {', '.join(sorted(MERGEABLE))}.",
        )
    mapping = config.get("auto_mapping") or {}
    library = str(mapping.get("parent_library") if isinstance(mapping, dict) else mapping)
    if mapping and not re.fullmatch(r"transformers(\.\w+)*", library):
        raise CheckpointError(
            f"auto_mapping names the module '{quoted(library)}' to import, and evalgate imports none for a checkpoint",
            where=where,
            mend="Remove auto_mapping.",
        )
    if config.get("megatron_config") or config.get("megatron_core") not in (None, "megatron.core"):
        raise CheckpointError(
            "megatron_config or megatron_core names a module to import, and evalgate imports none for a checkpoint",
            where=where,
            mend="Remove both keys.",
        )
    return config


def canonical_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of the configuration gives the tensors their meaning, in one order."""
    kept = {key: value for key, value in config.items() if key not in _OF_NO_MEANING}
    return kept | {key: sorted(kept[key], key=str) for key in UNORDERED if isinstance(kept.get(key), list)}


def find_base(folder: Folder, config: Mapping[str, Any], given: Path | None) -> Path:
    """The folder of the adapter's base: the one given, else where the configuration says, never downloaded."""
    if given is not None:
        return given
    stated = config.get("base_model_name_or_path")
    mend = "Say where its base lies: --eval-base FOLDER."
    if not isinstance(stated, str) or not stated or "\0" in stated:
        raise CheckpointError("names no base (base_model_name_or_path)", where=folder.where(CONFIG), mend=mend)
    places = [folder.path / stated, Path(stated)]  # `/` keeps an absolute path as it is
    if LINEAGE in folder.files:  # a version names its base from its project's root, and knows its digest besides
        places += [above / stated for above in folder.path.parents]
    for candidate in places:
        try:
            if candidate.is_dir():
                return candidate
        except OSError:  # a name too long for a path
            continue
    raise CheckpointError(
        f"its base '{quoted(stated)}' is no folder here, and evalgate downloads nothing",
        where=folder.where(CONFIG),
        mend=mend,
    )


def read_adapter_header(folder: Folder) -> Header:
    """The header of the adapter's weights."""
    if WEIGHTS in folder.files:
        return read_header(folder, WEIGHTS)
    if "adapter_model.bin" in folder.files:
        raise CheckpointError(
            "has its weights only as adapter_model.bin, a pickle: loading it can run code",
            where=folder.shown,
            mend='If you trust its source, convert it there: python -c "import torch, safetensors.torch as s; '
            f"s.save_file(torch.load('adapter_model.bin', weights_only=True), '{WEIGHTS}')\"",
        )
    raise CheckpointError(
        f"has no {WEIGHTS}", where=folder.shown, mend="Save the adapter again: model.save_pretrained."
    )


def embedding_rows(header: Header) -> int:
    """Rows of the largest embedding that the adapter brings whole, 0 without one."""
    whole = (t for t in header.tensors.values() if weights.is_embedding(t) and ".lora_" not in t.name)
    return max((tensor.shape[0] for tensor in whole), default=0)


def require_fit(
    folder: Folder,
    config: Mapping[str, Any],
    header: Header,
    base: Mapping[str, Tensor],
    base_shown: str,
    quantized: bool,
) -> None:
    """Refuse an adapter that does not belong to its base, or cannot change anything.

    Args:
        folder: of the adapter.
        config: of the adapter.
        header: of its tensors.
        base: the base's tensors by name.
        base_shown: how messages name the base.
        quantized: whether the base's tensors are packed, so that their shapes say nothing.
    """
    modules = _Modules(base.values())
    names = {name.removeprefix(PREFIX): tensor for name, tensor in header.tensors.items()}
    if config["peft_type"] != "LORA":
        if not any(modules.holds_part_of(name) for name in names):
            raise _stranger(folder, next(iter(names)), len(names), len(names), base_shown)
        return
    pairs: dict[tuple[str, bool], dict[str, Tensor]] = {}
    for name, tensor in names.items():
        if found := LORA.fullmatch(name):
            pairs.setdefault((found["module"], bool(found["embedding"])), {})[found["side"]] = tensor
    reshaped = quantized or any(config.get(key) for key in _RESHAPED)
    unknown = [module for module, _ in pairs if not modules.find(module)]
    if unknown and not reshaped:
        raise _stranger(folder, unknown[0], len(unknown), len(pairs), base_shown)
    for (module, embedding), sides in pairs.items():
        _require_targeted(folder, config, module)
        rows, columns = _require_rank(folder, config, module, sides, embedding)
        if not reshaped:
            _require_shape(folder, config, module, (rows, columns), modules.find(module), base_shown)
    if not pairs and not config.get("trainable_token_indices") and not config.get("modules_to_save"):
        raise CheckpointError("holds no LoRA tensors", where=folder.where(WEIGHTS), mend="Save the adapter again.")
    only_pairs = sum(len(sides) for sides in pairs.values()) == len(names)
    if only_pairs and not any(has_nonzero(folder, WEIGHTS, header, sides["B"]) for sides in pairs.values()):
        raise CheckpointError(
            "every lora_B is zero: the adapter changes nothing, it is as it was before training",
            where=folder.where(WEIGHTS),
            mend="Check that the training ran and saved this adapter.",
        )


class _Modules:
    """Finds the base's weight of a module, also where files and loaded model differ in the leading part of names."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self._exact = {tensor.name.removesuffix(".weight"): tensor for tensor in tensors}
        self._tails: dict[str, list[Tensor]] = {}
        for module, tensor in self._exact.items():
            self._tails.setdefault(_tail(module), []).append(tensor)

    def find(self, module: str) -> list[Tensor]:
        """The weights that the name may mean: one, or several where two parts of a model number their layers alike."""
        if module in self._exact:
            return [self._exact[module]]
        return self._tails.get(_tail(module), [])

    def holds_part_of(self, tensor: str) -> bool:
        """Whether some leading part of an adapter tensor's name is a module of the base."""
        parts = tensor.split(".")
        return any(self.find(".".join(parts[:end])) for end in range(len(parts) - 1, 0, -1))


def _tail(module: str) -> str:
    """`layers.0.mlp.up_proj` of `model.language_model.layers.0.mlp.up_proj`; without a number the last part."""
    found = _FROM_LAYER.fullmatch(module)
    return found[1] if found else module.rsplit(".", 1)[-1]


def _require_targeted(folder: Folder, config: Mapping[str, Any], module: str) -> None:
    targets = config.get("target_modules")
    if not isinstance(targets, list):  # a pattern, "all-linear", or parameters instead of modules
        return
    if not any(module == str(target) or module.endswith(f".{target}") for target in targets):
        raise CheckpointError(
            f"target_modules does not cover '{quoted(module)}', for which there are tensors: PEFT would ignore them",
            where=folder.where(CONFIG),
            mend="Configuration and tensors are of two different trainings: save the adapter again.",
        )


def _require_rank(
    folder: Folder, config: Mapping[str, Any], module: str, sides: Mapping[str, Tensor], embedding: bool
) -> tuple[int, int]:
    """Check A against B and both against the stated rank; return rows and columns of the change of the weight."""
    where, name = folder.where(WEIGHTS), quoted(module)
    if set(sides) != {"A", "B"}:
        raise CheckpointError(f"{name!r} has no lora_{'AB'['A' in sides]}", where=where, mend="Save the adapter again.")
    a, b = sides["A"].shape, sides["B"].shape
    if len(a) < 2 or len(b) < 2 or a[0] != b[1]:
        raise CheckpointError(
            f"{name!r} has lora_A {list(a)} and lora_B {list(b)}, whose ranks differ",
            where=where,
            mend="Save the adapter again.",
        )
    patterns = config.get("rank_pattern")
    ranks = [config.get("r"), *(patterns.values() if isinstance(patterns, dict) else ())]
    if a[0] not in ranks and not config.get("target_parameters"):
        raise CheckpointError(
            f"{name!r} has rank {a[0]}, but {CONFIG} says r={quoted(str(config.get('r')))}",
            where=where,
            mend="Configuration and tensors are of two different trainings: save the adapter again.",
        )
    return (a[1], b[0]) if embedding else (b[0], a[1])


def _require_shape(
    folder: Folder,
    config: Mapping[str, Any],
    module: str,
    change: tuple[int, int],
    weights: Iterable[Tensor],
    base_shown: str,
) -> None:
    stored = change[::-1] if config.get("fan_in_fan_out") else change
    if not any(tensor.shape[:2] == stored for tensor in weights):
        weight = next(iter(weights))
        raise CheckpointError(
            f"'{quoted(module)}' changes a weight of {list(stored)}, but in {base_shown} it is {list(weight.shape)}",
            where=folder.where(WEIGHTS),
            mend="This is not the base it was trained on: name the right one with --eval-base FOLDER.",
        )


def _stranger(folder: Folder, module: str, unknown: int, of: int, base_shown: str) -> CheckpointError:
    return CheckpointError(
        f"{unknown:,} of its {of:,} modules, such as '{quoted(module)}', are not in {base_shown}",
        where=folder.where(WEIGHTS),
        mend="This is not the base it was trained on: name the right one with --eval-base FOLDER.",
    )
