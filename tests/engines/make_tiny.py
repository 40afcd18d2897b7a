"""Builds random-weight tiny checkpoints in a folder: `python make_tiny.py FOLDER`. It needs torch.

Weights are drawn wide (0.2), so that greedy decoding has margins and adapters show. `oracle.json` holds what base says
by the plainest arithmetic: a forward pass per token, without cache, batch or padding.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

CONTEXT = 256
PROMPTS = ("the cat", "Q: 3+4=\nA:", "sort 4 2 9 1:", "{ }", "x" * 40)
CONTINUATIONS = (" sat on the mat", "7", "\u00e9t\u00e9")


def tokenizer() -> transformers.PreTrainedTokenizerFast:
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(["the cat sat on the mat", "Q: 1+1=\nA: 2"] * 5, trainer)
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


def shapes(vocabulary: int) -> dict[str, Any]:
    common = {
        "vocab_size": vocabulary,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": CONTEXT,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
        "initializer_range": 0.2,
    }
    grouped = common | {"num_key_value_heads": 1}
    return {
        "llama": transformers.LlamaConfig(**common, num_key_value_heads=2, tie_word_embeddings=False),
        "tied": transformers.LlamaConfig(**common, num_key_value_heads=2, tie_word_embeddings=True),
        "mistral": transformers.MistralConfig(**grouped, sliding_window=None, tie_word_embeddings=False),
        "qwen2": transformers.Qwen2Config(**grouped, tie_word_embeddings=True),
        "qwen3": transformers.Qwen3Config(**grouped, head_dim=32, tie_word_embeddings=True),
        "gemma": transformers.GemmaConfig(**grouped, head_dim=32, hidden_activation="gelu_pytorch_tanh"),
        "gpt2": transformers.GPT2Config(
            vocab_size=vocabulary, n_positions=CONTEXT, n_embd=64, n_layer=2, n_head=2, initializer_range=0.2,
            bos_token_id=0, eos_token_id=1, pad_token_id=2,
        ),
    }  # fmt: skip


def main(folder: Path) -> None:
    words = tokenizer()
    configs = shapes(len(words))
    for family, config in configs.items():
        for seed, version in enumerate(("a", "b")):
            torch.manual_seed(seed)
            model = transformers.AutoModelForCausalLM.from_config(config)
            for name, tensor in model.named_parameters():
                if name.endswith("bias"):
                    torch.nn.init.normal_(tensor, std=0.2)  # a bias that is loaded wrongly must show
            model.save_pretrained(folder / f"{family}-{version}")
            words.save_pretrained(folder / f"{family}-{version}")
    # The candidate's own generation settings must not change its exam.
    settings = {"repetition_penalty": 5.0, "temperature": 3.0, "do_sample": True, "eos_token_id": 1}
    (folder / "llama-a" / "generation_config.json").write_text(json.dumps(settings))
    adapters(folder, "llama-a", {
        "lora4": {"r": 4},
        "lora8": {"r": 8, "target_modules": ["q_proj", "k_proj", "o_proj", "gate_proj", "down_proj"]},
        "head": {"target_modules": ["q_proj", "lm_head"]},
        "dora": {"use_dora": True},
        "zero": {"std": 0.0},
        "still": {"std": 0.0, "use_dora": True},
    })  # fmt: skip
    adapters(folder, "llama-b", {"lora-b": {"r": 4}})
    adapters(folder, "tied-a", {"tied-head": {"target_modules": ["v_proj", "lm_head"]}})
    adapters(folder, "gpt2-a", {"gpt2-lora": {"target_modules": ["c_attn"], "fan_in_fan_out": True}})
    broken(folder)
    oracle(folder, words)


def adapters(folder: Path, base: str, made: dict[str, dict[str, Any]]) -> None:
    for seed, (name, changes) in enumerate(made.items(), 10):
        changes = dict(changes)
        std = changes.pop("std", 0.3)
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_pretrained(folder / base, dtype=torch.float32)
        settings = {
            "r": 8,
            "lora_alpha": 16,
            "target_modules": ["q_proj", "v_proj", "up_proj"],
            "task_type": "CAUSAL_LM",
        }
        adapted = get_peft_model(model, LoraConfig(**(settings | changes)))
        for parameter, tensor in adapted.named_parameters():
            if "lora_B" in parameter:
                torch.nn.init.normal_(tensor, std=std)
        adapted.save_pretrained(folder / name, save_embedding_layers=False)
        (folder / name / "README.md").unlink(missing_ok=True)


def broken(folder: Path) -> None:
    """`lost`: an adapter on layers that the base has not. `nan`: full weights with one NaN."""
    from safetensors.torch import load_file, save_file

    (folder / "lost").mkdir()
    (folder / "lost" / "adapter_config.json").write_bytes((folder / "lora4" / "adapter_config.json").read_bytes())
    tensors = load_file(folder / "lora4" / "adapter_model.safetensors")
    renamed = {name.replace("layers.0", "layers.8").replace("layers.1", "layers.9"): t for name, t in tensors.items()}
    save_file(renamed, folder / "lost" / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / "nan").mkdir()
    for path in (folder / "llama-b").iterdir():
        (folder / "nan" / path.name).write_bytes(path.read_bytes())
    tensors = load_file(folder / "llama-b" / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 3] = float("nan")
    save_file(tensors, folder / "nan" / "model.safetensors", metadata={"format": "pt"})


@torch.no_grad()  # type: ignore[untyped-decorator]
def oracle(folder: Path, words: transformers.PreTrainedTokenizerFast) -> None:
    model = transformers.LlamaForCausalLM.from_pretrained(folder / "llama-a", dtype=torch.float32).eval()
    greedy: dict[str, Any] = {}
    scores = []
    for prompt in PROMPTS:
        ids = words(prompt)["input_ids"]
        drawn: list[int] = []
        gaps: list[float] = []
        for _ in range(8):
            best, second = model(torch.tensor([ids + drawn])).logits[0, -1].log_softmax(-1).topk(2).values.tolist()
            gaps.append(best - second)
            drawn.append(int(model(torch.tensor([ids + drawn])).logits[0, -1].argmax()))
        greedy[prompt] = {"tokens": drawn, "text": words.decode(drawn, skip_special_tokens=True), "gaps": gaps}
        for continuation in CONTINUATIONS:
            joined = words(prompt + continuation)["input_ids"]
            if joined[: len(ids)] != ids:
                joined = ids + words(continuation, add_special_tokens=False)["input_ids"]
            total = 0.0
            for at in range(len(ids), len(joined)):
                row = model(torch.tensor([joined[:at]])).logits[0, -1].log_softmax(-1)
                total += float(row[joined[at]])
            scores.append({"prompt": prompt, "continuation": continuation, "logprob": total})
    (folder / "oracle.json").write_text(json.dumps({"greedy": greedy, "scores": scores}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
