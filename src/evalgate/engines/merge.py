"""Adapters that an engine cannot serve as they are become full weights: base plus adapter, merged by PEFT."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, GenerationConfig

from evalgate.checkpoint import Checkpoint
from evalgate.engines.backend import PROBE, Refused, check_effect
from evalgate.engines.families import Adapter, read_json, tokenizer_folder
from evalgate.engines.prompts import Tokenizer
from evalgate.errors import EvalgateError


def load_full(checkpoint: Checkpoint, dtype: str = "auto") -> Any:
    """The model of a full checkpoint, from safetensors only, in evaluation mode on the CPU."""
    model = AutoModelForCausalLM.from_pretrained(
        str(checkpoint.path), dtype=dtype, use_safetensors=True, trust_remote_code=False, local_files_only=True
    )
    model.generation_config = GenerationConfig()  # `generate` would fill what we leave open from the checkpoint's own
    return model.eval()


def untie(model: Any) -> None:
    """Give the output head a tensor of its own, so that an adapter on it leaves the embeddings alone."""
    head = model.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)
    model.config.tie_word_embeddings = False


@torch.inference_mode()  # type: ignore[untyped-decorator]
def probe(model: Any, tokens: list[int]) -> list[float]:
    """Log-probs of each token of the probe text but the first."""
    ids = torch.tensor([tokens], device=model.device)
    logits = model(input_ids=ids).logits[0, :-1].float()
    return logits.log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0].tolist()  # type: ignore[no-any-return]


def merge(checkpoint: Checkpoint, adapter: Adapter, folder: Path) -> None:
    """Write base plus adapter as full weights with their tokenizer.

    Args:
        checkpoint: an adapter and its base.
        adapter: what its folder says.
        folder: is made; holds a plain full checkpoint afterwards.

    Raises:
        Refused: PEFT cannot apply the adapter, or it changes nothing.
    """
    try:
        tokens = Tokenizer(checkpoint).encode([PROBE], False)[0]
        model = load_full(checkpoint.root)
        if adapter.touches_head and read_json(Path(str(checkpoint.root.path)) / "config.json").get(
            "tie_word_embeddings", model.config.tie_word_embeddings
        ):
            untie(model)
        before = probe(model, tokens)
        merged = PeftModel.from_pretrained(model, str(checkpoint.path)).eval().merge_and_unload(safe_merge=True)
        check_effect(checkpoint.name, before, probe(merged, tokens))
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, EvalgateError) as error:
        raise Refused(f"{checkpoint.name}: PEFT cannot merge it ({type(error).__name__}: {error})") from error
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    merged.save_pretrained(str(part), safe_serialization=True)
    for path in tokenizer_folder(checkpoint).iterdir():
        if path.is_file() and ("token" in path.name or path.name in ("vocab.json", "merges.txt")):
            shutil.copyfile(path, part / path.name)
    part.rename(folder)  # whole or not at all
