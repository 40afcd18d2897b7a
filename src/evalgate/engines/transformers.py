"""transformers in the child: the fallback where vLLM does not run. Slower, the same answers."""

from __future__ import annotations

import difflib
import importlib.util
import math
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
import transformers
from peft import PeftModel
from tokenizers.decoders import DecodeStream
from transformers import GenerationConfig, LogitsProcessor, StoppingCriteria, TopKLogitsWarper, TopPLogitsWarper

from evalgate.checkpoint import Checkpoint
from evalgate.engines.backend import PROBE, Refused, check_effect, check_finite
from evalgate.engines.families import read_adapter
from evalgate.engines.identity import default_dtype
from evalgate.engines.merge import load_full, probe, untie
from evalgate.engines.prompts import Prompt, Tokenizer
from evalgate.engines.protocol import Start
from evalgate.errors import ConfigError, EngineError
from evalgate.request import Completion, Request

OPTIONS = ("device", "dtype", "max_model_len", "batch_size", "structured_outputs_config")
LOGITS_BYTES = 1 << 28  # float32 logits of one scoring batch


class TransformersBackend:
    """One model at a time; its adapters beside it by PEFT."""

    def __init__(self, start: Start) -> None:
        for name in start.options:
            if name not in OPTIONS:
                near = difflib.get_close_matches(name, OPTIONS, 1)
                raise ConfigError(
                    f"the transformers engine has no such option, only {', '.join(OPTIONS)}",
                    where=f"engine.{name}",
                    mend=f"Did you mean {near[0]!r}?" if near else None,
                )
        self.device = str(start.options.get("device", start.device))
        if self.device.startswith("cuda") and not torch.cuda.is_available():
            raise EngineError(
                "torch sees no GPU", where="engine.device", mend='Write device = "cpu" in [tool.evalgate.engine].'
            )
        self.dtype = default_dtype(start.options.get("dtype"), start.device)
        self.batch_size = int(start.options.get("batch_size", 16))
        self.max_length = start.options.get("max_model_len")
        structured = start.options.get("structured_outputs_config", {})
        self.white_space = not structured.get("disable_any_whitespace", True)  # vLLM's name for it, and its meaning
        self._key: str | None = None
        self._model: Any = None
        self._base_probe: list[float] = []
        self._effective: set[str] = set()
        self._tokenizers: dict[str, Tokenizer] = {}

    def prepare(self, checkpoint: Checkpoint) -> None:
        """Load the weights where they are not, switch the adapter on, and check by the probe that it does something."""
        adapter = read_adapter(checkpoint) if checkpoint.kind == "adapter" else None
        # An adapter that may change the base under it gets a copy of its own.
        key = checkpoint.digest if adapter and adapter.obstacle else checkpoint.root.digest
        tokens = self._tokenizer(checkpoint).encode([PROBE], False)[0]
        if key != self._key:
            self._model = self._key = None  # before the next one is loaded
            self._effective.clear()
            model = load_full(checkpoint.root, self.dtype).to(self.device)
            if adapter and adapter.touches_head and model.config.tie_word_embeddings:
                untie(model)
            self._base_probe = probe(model, tokens)
            check_finite(checkpoint.name, self._base_probe)
            self._model, self._key = model, key
        if adapter is None:
            if isinstance(self._model, PeftModel):
                self._model.base_model.disable_adapter_layers()
            return
        name = checkpoint.digest.removeprefix("sha256:")
        if checkpoint.digest not in self._effective:
            try:
                if isinstance(self._model, PeftModel):
                    self._model.load_adapter(str(checkpoint.path), adapter_name=name)
                else:
                    self._model = PeftModel.from_pretrained(self._model, str(checkpoint.path), adapter_name=name)
            except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
                self._model = self._key = None  # it may be half changed
                raise Refused(f"{checkpoint.name}: PEFT cannot load the adapter ({error})") from error
        self._model.base_model.enable_adapter_layers()
        self._model.set_adapter(name)
        self._model.eval()
        if checkpoint.digest not in self._effective:
            check_effect(checkpoint.name, self._base_probe, probe(self._model, tokens))
            self._effective.add(checkpoint.digest)

    def _tokenizer(self, checkpoint: Checkpoint) -> Tokenizer:
        if checkpoint.digest not in self._tokenizers:
            self._tokenizers[checkpoint.digest] = Tokenizer(checkpoint)
        return self._tokenizers[checkpoint.digest]

    def environment(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """Versions, dtype, device and threads."""
        on_gpu = self.device.startswith("cuda")
        return {
            "name": "transformers",
            "version": transformers.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "device": self.device.partition(":")[0],
            "device_name": torch.cuda.get_device_name() if on_gpu else platform.machine(),
            "dtype": str(self._model.dtype).removeprefix("torch."),
            "determinism": "scheduling",
            "threads": torch.get_num_threads(),
            "served": "peft" if checkpoint.kind == "adapter" else "full",
        }

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def answer(self, checkpoint: Checkpoint, requests: Sequence[Request]) -> Iterator[Completion]:
        """Answer in batches of similar length; what is in a batch depends on the requests alone."""
        tokenizer = self._tokenizer(checkpoint)
        limit = min(filter(None, (checkpoint.root.context, self.max_length)), default=1 << 20)
        scoring: list[Prompt] = []
        writing: list[Prompt] = []
        for prompt in tokenizer.prompts(requests, limit):
            if isinstance(prompt, Completion):
                yield prompt
            else:
                (scoring if prompt.targets else writing).append(prompt)
        yield from self._score(sorted(scoring, key=lambda prompt: prompt.request.id))
        writing.sort(key=lambda prompt: (prompt.request.json_schema is not None, prompt.length, prompt.request.id))
        for place in range(0, len(writing), self.batch_size):
            yield from self._write(tokenizer, writing[place : place + self.batch_size], limit)

    def _score(self, prompts: list[Prompt]) -> Iterator[Completion]:
        vocabulary = self._model.get_output_embeddings().weight.shape[0]
        # Continuations of one token share one row: the logits after the prompt hold them all.
        rows = [
            (prompt, part, context, target)
            for prompt in prompts
            for part, (context, target) in enumerate(prompt.targets[: 1 if prompt.labels else None])
        ]
        rows.sort(key=lambda row: len(row[2]) + len(row[3]))
        scores: dict[str, dict[int, tuple[float, bool]]] = {prompt.request.id: {} for prompt in prompts}
        while rows:
            size = LOGITS_BYTES // (4 * vocabulary * (len(rows[-1][2]) + len(rows[-1][3])))
            batch, rows = rows[: max(1, min(self.batch_size, size))], rows[max(1, min(self.batch_size, size)) :]
            spans = self._log_probs([(context, target) for _, _, context, target in batch])
            for (prompt, part, _, target), span in zip(batch, spans, strict=True):
                known = scores[prompt.request.id]
                best = span.argmax(-1).tolist()
                if prompt.labels:
                    known |= {at: (float(span[0, label]), label == best[0]) for at, label in enumerate(prompt.labels)}
                else:
                    chosen = span.gather(-1, torch.tensor(target, device=span.device)[:, None])
                    known[part] = (float(chosen.sum()), best == target)
                if len(known) == len(prompt.targets):
                    yield prompt.scored([known[at] for at in range(len(known))])

    def _log_probs(self, rows: Sequence[tuple[list[int], list[int]]]) -> list[Any]:
        """For each row (context, target) the log-probs [len(target), vocabulary] where the target is predicted."""
        width = max(len(context) + len(target) for context, target in rows) - 1
        ids = torch.zeros((len(rows), width), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for place, (context, target) in enumerate(rows):
            row = (context + target)[:-1]  # the last token is predicted, never read
            ids[place, : len(row)] = torch.tensor(row)
            mask[place, : len(row)] = 1  # padding on the right: no token attends to what follows it
        logits = self._model(input_ids=ids.to(self.device), attention_mask=mask.to(self.device)).logits
        return [
            logits[place, len(context) - 1 : len(context) - 1 + len(target)].float().log_softmax(-1)
            for place, (context, target) in enumerate(rows)
        ]

    def _write(self, tokenizer: Tokenizer, prompts: list[Prompt], limit: int) -> Iterator[Completion]:
        processors: list[LogitsProcessor] = []
        constrained = [prompt for prompt in prompts if prompt.request.json_schema is not None]
        if constrained:
            masks = JsonMasks.for_prompts(
                tokenizer, self._model.config.vocab_size, constrained, white_space=self.white_space
            )
            if isinstance(masks, str):
                yield from (Completion(prompt.request.id, error=masks) for prompt in constrained)
                prompts = [prompt for prompt in prompts if prompt.request.json_schema is None]
            else:
                yield from (Completion(id_, error=why) for id_, why in masks.errors.items())
                prompts = [prompt for prompt in prompts if prompt.request.id not in masks.errors]
                masks.order = [prompt.request.id for prompt in prompts]
                processors.append(masks)
        if not prompts:
            return
        rows = [Row(tokenizer, prompt, limit) for prompt in prompts]
        width = max(len(prompt.tokens) for prompt in prompts)
        ids = torch.zeros((len(prompts), width), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for place, prompt in enumerate(prompts):
            ids[place, width - len(prompt.tokens) :] = torch.tensor(prompt.tokens)
            mask[place, width - len(prompt.tokens) :] = 1
        processors += [Margins(rows), Draws(prompts)]
        self._model.generate(
            input_ids=ids.to(self.device),
            attention_mask=mask.to(self.device),
            # A fresh configuration: the checkpoint's own must not change its exam.
            generation_config=GenerationConfig(
                do_sample=False, max_new_tokens=max(row.room for row in rows), pad_token_id=0, eos_token_id=None
            ),
            logits_processor=processors,
            stopping_criteria=[Ends(rows)],
        )
        yield from (row.prompt.written(row.text, row.finish, row.count, limit, row.margin) for row in rows)


@dataclass
class Row:
    """One completion as it grows: text and end are found token by token, as vLLM does."""

    tokenizer: Tokenizer
    prompt: Prompt
    limit: int
    text: str = ""
    count: int = 0
    finish: str = ""
    margin: float = math.inf

    def __post_init__(self) -> None:
        self.room = min(self.prompt.request.max_tokens, self.limit - len(self.prompt.tokens))
        self._stream = DecodeStream(ids=self.prompt.tokens, skip_special_tokens=True)

    def feed(self, token: int) -> bool:
        """Take the next token; whether the completion has ended."""
        if self.finish:
            return True
        self.count += 1
        if token in self.prompt.stop_ids:
            self.finish = "stop"
            return True
        self.text += self._stream.step(self.tokenizer.fast._tokenizer, token) or ""
        cuts = [place for stop in self.prompt.request.stop if (place := self.text.find(stop)) >= 0]
        if cuts:
            self.text, self.finish = self.text[: min(cuts)], "stop"
        elif self.count >= self.room:
            self.finish = "length"
        return bool(self.finish)


class Ends(StoppingCriteria):  # type: ignore[misc]
    """Which rows of a batch are done."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        """One flag per row."""
        done = [row.feed(token) for row, token in zip(self.rows, input_ids[:, -1].tolist(), strict=True)]
        return torch.tensor(done, device=input_ids.device)


class Margins(LogitsProcessor):  # type: ignore[misc]
    """How close the second-best token came, step by step: two numbers a row are kept, never the logits."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """The scores as they are."""
        best = scores.topk(2).values
        for row, gap in zip(self.rows, (best[:, 0] - best[:, 1]).tolist(), strict=True):
            if not row.finish:
                row.margin = min(row.margin, gap)
        return scores


class Draws(LogitsProcessor):  # type: ignore[misc]
    """Sampling with a seed per request: the largest of log-probs plus Gumbel noise is a draw from the distribution.

    Source: Gumbel, Statistical Theory of Extreme Values, 1954 (the "Gumbel-max trick").
    """

    def __init__(self, prompts: Sequence[Prompt]) -> None:
        self.rows = [(prompt.request, torch.Generator().manual_seed(prompt.seed)) for prompt in prompts]

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """The scores, made so that in rows that sample the largest is the draw."""
        for place, (request, generator) in enumerate(self.rows):
            if request.temperature == 0:
                continue
            row = scores[place : place + 1].float() / request.temperature
            if request.top_k:
                row = TopKLogitsWarper(request.top_k)(None, row)
            if request.top_p < 1:
                row = TopPLogitsWarper(request.top_p)(None, row)
            noise = -torch.empty(row.shape).exponential_(generator=generator).log()
            scores[place] = (row.log_softmax(-1) + noise.to(row.device))[0].to(scores.dtype)
        return scores


@dataclass
class JsonMasks(LogitsProcessor):  # type: ignore[misc]
    """Structured output by xgrammar, which comes with vLLM; a request is refused where it is not there."""

    grammars: dict[str, Any]
    errors: dict[str, str]
    order: list[str] = field(default_factory=list)

    @classmethod
    def for_prompts(
        cls, tokenizer: Tokenizer, vocabulary: int, prompts: Sequence[Prompt], *, white_space: bool
    ) -> JsonMasks | str:
        """Compiled schemas by request id, or why there are none."""
        if importlib.util.find_spec("xgrammar") is None:
            return "json_schema needs xgrammar beside the transformers engine: pip install xgrammar, or use vLLM"
        import xgrammar

        info = xgrammar.TokenizerInfo.from_huggingface(
            tokenizer.fast, vocab_size=vocabulary, stop_token_ids=list(tokenizer.stop_ids) or None
        )
        compiler = xgrammar.GrammarCompiler(info)
        made = cls({}, {})
        for prompt in prompts:
            try:
                schema = dict(prompt.request.json_schema or {})
                made.grammars[prompt.request.id] = compiler.compile_json_schema(
                    schema, any_whitespace=white_space, separators=None if white_space else (",", ":")
                )
            except (RuntimeError, ValueError, TypeError) as error:
                why = " ".join(str(error).split())
                made.errors[prompt.request.id] = f"xgrammar cannot enforce the schema: {why}"
        return made

    @cached_property
    def _masks(self) -> list[tuple[int, Any]]:
        from xgrammar.contrib.hf import LogitsProcessor as Masks

        return [(place, Masks(self.grammars[name])) for place, name in enumerate(self.order) if name in self.grammars]

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """The scores without tokens that the schema forbids."""
        for place, mask in self._masks:
            scores[place : place + 1] = mask(input_ids[place : place + 1], scores[place : place + 1])
        return scores
