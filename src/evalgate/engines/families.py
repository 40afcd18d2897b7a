"""Which checkpoints one engine process serves: versions of one dense architecture and vocabulary, and their adapters.

Standard library only: read by the parent to plan children, and by the child to limit its adapters. Files are read as
data; preflight has bounded their size and shape before.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalgate.checkpoint import Checkpoint
from evalgate.digest import digest

# In-place swaps are right for dense models only (upstream issues: Mamba, hybrid, padded quantised and MoE models).
# Every name here has a test that swaps it and compares with transformers.
DENSE = frozenset(
    {
        "LlamaForCausalLM",
        "MistralForCausalLM",
        "Qwen2ForCausalLM",
        "Qwen3ForCausalLM",
        "GemmaForCausalLM",
        "GPT2LMHeadModel",
    }
)
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
PLAIN_INITS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")  # these set starting values and leave the base alone
UNKNOWN_KINDS = (
    "target_parameters",
    "trainable_token_indices",
    "alora_invocation_tokens",
    "use_bdlora",
    "use_qalora",
    "kasa_config",
    "velora_config",
)
# Keys of config.json that change no tensor and no arithmetic: stop ids are the request's, names are names.
INDIFFERENT = ("_name_or_path", "transformers_version", "use_cache", "bos_token_id", "eos_token_id", "pad_token_id")


@dataclass(frozen=True)
class Adapter:
    """What an adapter folder says about itself.

    Attributes:
        rank: largest rank of any module.
        modules: last names of the modules it changes, sorted.
        obstacle: why vLLM cannot serve it as it is (it is merged then), `None` where it can.
    """

    rank: int
    modules: tuple[str, ...]
    obstacle: str | None

    @property
    def touches_head(self) -> bool:
        """Whether it changes the embeddings or the output head, which may share one tensor."""
        return any(name in ("lm_head", "embed_tokens", "wte", "embed_in", "embed_out") for name in self.modules)


@dataclass(frozen=True)
class Family:
    """Checkpoints that one child serves, roots before their adapters."""

    members: tuple[Checkpoint, ...]

    def __contains__(self, checkpoint: str) -> bool:
        return any(member.digest == checkpoint for member in self.members)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object in a file; an empty one where there is no file."""
    return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}


def tensor_names(path: Path) -> tuple[str, ...]:
    """Names of the tensors in a safetensors file, from its header."""
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        return tuple(sorted(name for name in json.loads(file.read(size)) if name != "__metadata__"))


def read_adapter(checkpoint: Checkpoint) -> Adapter:
    """Rank, modules and obstacles of an adapter, from its tensors rather than from patterns in its config."""
    folder = Path(str(checkpoint.path))
    config = read_json(folder / "adapter_config.json")
    names = tensor_names(folder / "adapter_model.safetensors")
    modules = {name.partition(".lora_")[0].rpartition(".")[2] for name in names if ".lora_" in name}
    plain = {name for name in names if ".lora_" not in name}
    modules |= {name.removesuffix(".weight").rpartition(".")[2] for name in plain if name.endswith(".weight")}
    rank = max([int(config.get("r") or 1), *(config.get("rank_pattern") or {}).values()])
    init = config.get("init_lora_weights", True)
    reasons = {
        "it is no LoRA adapter": config.get("peft_type", "LORA") != "LORA",
        "DoRA": bool(config.get("use_dora")),
        f"init_lora_weights={init!r} changes the base": isinstance(init, str) and init.lower() not in PLAIN_INITS,
        "it trains biases": config.get("bias", "none") != "none" or bool(config.get("lora_bias")),
        "it replaces whole modules": bool(config.get("modules_to_save")) or bool(plain),
        "it changes lm_head or the embeddings": any("embedding" in name for name in names) or "lm_head" in modules,
        "it replicates layers": bool(config.get("layer_replication")),
        "it is of a kind that vLLM does not know": any(config.get(name) for name in UNKNOWN_KINDS),
        "its rank is above 512": rank > LORA_RANKS[-1],
        f"vLLM serves no adapters on {checkpoint.architecture}": checkpoint.architecture == "GPT2LMHeadModel",
    }
    return Adapter(rank, tuple(sorted(modules)), next((reason for reason, holds in reasons.items() if holds), None))


def families(checkpoints: Sequence[Checkpoint], engine: str) -> tuple[Family, ...]:
    """Group checkpoints into children, in the order given.

    vLLM serves versions that share architecture, shapes and vocabulary by swapping weights in place; the other engines
    load anything into the same process.
    """
    if engine != "vllm":
        return (Family(by_root(checkpoints)),) if checkpoints else ()
    groups: dict[str, list[Checkpoint]] = {}
    for checkpoint in checkpoints:
        groups.setdefault(_family_key(checkpoint), []).append(checkpoint)
    return tuple(Family(by_root(members)) for members in groups.values())


def by_root(checkpoints: Iterable[Checkpoint]) -> tuple[Checkpoint, ...]:
    """Checkpoints of one root together, the root itself first: the fewest swaps; equal digests once."""
    unique = list({checkpoint.digest: checkpoint for checkpoint in checkpoints}.values())
    roots = list(dict.fromkeys(checkpoint.root.digest for checkpoint in unique))
    return tuple(
        sorted(unique, key=lambda checkpoint: (roots.index(checkpoint.root.digest), checkpoint.kind != "full"))
    )


def _family_key(checkpoint: Checkpoint) -> str:
    root = checkpoint.root
    config = read_json(Path(str(root.path)) / "config.json")
    adapter = read_adapter(checkpoint) if checkpoint.kind == "adapter" else None
    merged = adapter is not None and adapter.obstacle is not None
    key: dict[str, Any] = {"tokenizer": _vocabulary(checkpoint)}
    if adapter and adapter.touches_head and config.get("tie_word_embeddings", True):
        return digest(key | {"untied": checkpoint.digest})  # merging unties the head: other tensors than the base
    if root.architecture not in DENSE or config.get("quantization_config"):
        return digest(key | {"alone": checkpoint.digest if merged else root.digest})
    return digest(key | {"config": {name: value for name, value in config.items() if name not in INDIFFERENT}})


def _vocabulary(checkpoint: Checkpoint) -> str:
    """Digest of what a tokenizer needs to turn ids into text; each version still encodes with its own."""
    content = read_json(tokenizer_folder(checkpoint) / "tokenizer.json")
    return (
        digest({name: content.get(name) for name in ("model", "added_tokens", "decoder")})
        if content
        else (checkpoint.tokenizer)
    )


def tokenizer_folder(checkpoint: Checkpoint) -> Path:
    """Where a checkpoint's tokenizer lies: in its own folder, or its base's where an adapter brings none."""
    own = Path(str(checkpoint.path))
    brings = any((own / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json"))
    return own if checkpoint.base is None or brings else Path(str(checkpoint.base.path))
