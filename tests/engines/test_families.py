from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from evalgate.checkpoint import Checkpoint
from evalgate.engines.families import by_root, families, read_adapter

Checkpoints = dict[str, Checkpoint]


def names(checkpoints: Checkpoints, *asked: str, engine: str = "vllm") -> list[list[str]]:
    groups = families([checkpoints[name] for name in asked], engine)
    return [[member.name for member in family.members] for family in groups]


def test_versions_of_one_dense_model_share_an_engine(checkpoints: Checkpoints) -> None:
    """Base, its adapters, other full weights of the same shape and their adapters: one child, roots first."""
    together = names(checkpoints, "lora4", "llama-b", "llama-a", "lora-b", "lora8")
    assert together == [["llama-a", "lora4", "lora8", "llama-b", "lora-b"]]


def test_other_shapes_and_architectures_get_their_own(checkpoints: Checkpoints) -> None:
    """A tied head has other tensors than an untied one."""
    assert names(checkpoints, "llama-a", "tied-a", "qwen2-a", "qwen2-b") == [
        ["llama-a"],
        ["tied-a"],
        ["qwen2-a", "qwen2-b"],
    ]


def test_an_architecture_off_the_list_is_never_swapped(checkpoints: Checkpoints) -> None:
    """Mamba, hybrid and MoE models reload wrongly in place."""
    one, two = (replace(checkpoints[name], architecture="MambaForCausalLM") for name in ("llama-a", "llama-b"))
    assert len(families([one, two], "vllm")) == 2


def test_quantised_weights_are_never_swapped(checkpoints: Checkpoints, tmp_path: Path) -> None:
    """Padded quantised layouts reload wrongly."""
    copies = []
    for name in ("llama-a", "llama-b"):
        folder = shutil.copytree(str(checkpoints[name].path), tmp_path / name)
        config = json.loads((tmp_path / name / "config.json").read_text()) | {"quantization_config": {"bits": 4}}
        (tmp_path / name / "config.json").write_text(json.dumps(config))
        copies.append(replace(checkpoints[name], path=str(folder)))
    assert len(families(copies, "vllm")) == 2


def test_another_vocabulary_is_another_engine(checkpoints: Checkpoints, tmp_path: Path) -> None:
    """The engine turns ids into text by one tokenizer; files that only differ in padding settings share it."""
    folder = Path(shutil.copytree(str(checkpoints["llama-b"].path), tmp_path / "copy"))
    copy = replace(checkpoints["llama-b"], path=str(folder))
    content = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(content | {"padding": {"length": 8}}, indent=1))
    assert len(families([checkpoints["llama-a"], copy], "vllm")) == 1
    content["model"]["vocab"] = {name: 299 - id_ for name, id_ in content["model"]["vocab"].items()}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    assert len(families([checkpoints["llama-a"], copy], "vllm")) == 2


def test_merging_an_untied_head_needs_another_engine(checkpoints: Checkpoints) -> None:
    """With tied embeddings the merged model has one tensor more; without, it has the base's shape."""
    assert names(checkpoints, "tied-a", "tied-head") == [["tied-a"], ["tied-head"]]
    assert names(checkpoints, "llama-a", "head") == [["llama-a", "head"]]


def test_the_other_engines_load_anything_into_one_process(checkpoints: Checkpoints) -> None:
    """They have no state to share."""
    assert names(checkpoints, "gpt2-a", "llama-a", "lora4", engine="transformers") == [["gpt2-a", "llama-a", "lora4"]]
    assert families([], "transformers") == ()


def test_roots_come_before_their_adapters_once(checkpoints: Checkpoints) -> None:
    """The fewest swaps, whatever order the command line has."""
    asked = [checkpoints[name] for name in ("lora4", "llama-b", "llama-a", "lora4")]
    assert [one.name for one in by_root(asked)] == ["llama-a", "lora4", "llama-b"]


def test_an_adapter_is_read_from_its_tensors(checkpoints: Checkpoints) -> None:
    """Rank, modules, and no obstacle for a plain LoRA."""
    adapter = read_adapter(checkpoints["lora8"])
    assert adapter.rank == 8
    assert adapter.modules == ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj")
    assert adapter.obstacle is None


@pytest.mark.parametrize(
    ("change", "obstacle"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"init_lora_weights": "pissa"}, "changes the base"),
        ({"init_lora_weights": "olora"}, "changes the base"),
        ({"bias": "all"}, "biases"),
        ({"modules_to_save": ["embed_tokens"]}, "whole modules"),
        ({"peft_type": "IA3"}, "no LoRA"),
        ({"layer_replication": [[0, 1]]}, "replicates"),
        ({"trainable_token_indices": [3]}, "does not know"),
        ({"r": 1024}, "rank"),
        ({"rank_pattern": {"q_proj": 600}}, "rank"),
        ({"init_lora_weights": "gaussian"}, None),
    ],
)
def test_what_vllm_cannot_serve_is_merged(
    checkpoints: Checkpoints, tmp_path: Path, change: dict[str, object], obstacle: str | None
) -> None:
    """Each obstacle is named; a starting value that leaves the base alone is none."""
    folder = Path(shutil.copytree(str(checkpoints["lora4"].path), tmp_path / "copy"))
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | change))
    found = read_adapter(replace(checkpoints["lora4"], path=str(folder))).obstacle
    assert (found is None) if obstacle is None else (obstacle in str(found))


def test_an_adapter_on_the_head_is_merged(checkpoints: Checkpoints) -> None:
    """vLLM drops it from log-probs on a GPU and dies of it on a CPU."""
    adapter = read_adapter(checkpoints["head"])
    assert adapter.touches_head
    assert "lm_head" in str(adapter.obstacle)
    assert not read_adapter(checkpoints["lora4"]).touches_head
