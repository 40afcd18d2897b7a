"""Requests to token ids: once per request, with the checkpoint's own fast tokenizer, the same way for every engine."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from evalgate.checkpoint import Checkpoint
from evalgate.engines.families import tokenizer_folder
from evalgate.errors import CheckpointError
from evalgate.request import Completion, Request

MARGIN_DECIMALS = 6  # of a nat: float32 has no more to say, and records stay small


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request in token ids.

    Attributes:
        request: what was asked.
        tokens: ids of the prompt.
        targets: for each continuation the ids before it and its own; the ids before it are `tokens` unless the
            tokenizer joins prompt and continuation differently.
        stop_ids: ids that end a completion.
    """

    request: Request
    tokens: list[int]
    targets: tuple[tuple[list[int], list[int]], ...]
    stop_ids: tuple[int, ...]

    @property
    def labels(self) -> list[int]:
        """The continuations as one token each after the same prompt; empty where they are not."""
        if all(len(target) == 1 and context == self.tokens for context, target in self.targets):
            return [target[0] for _, target in self.targets]
        return []

    @property
    def length(self) -> int:
        """Tokens that must fit: the prompt, with the longest continuation, and one more that is drawn."""
        return max([len(self.tokens), *(len(context) + len(target) for context, target in self.targets)]) + 1

    @property
    def seed(self) -> int:
        """Of this request's draws, in the range of a signed 64-bit integer; without one its own content is the seed."""
        seed = int(self.request.id[-12:], 16) if self.request.seed is None else self.request.seed
        return seed % (1 << 63)

    @property
    def greedy(self) -> bool:
        """Whether it is generated without a draw, so that its margin is asked for."""
        return not self.targets and self.request.temperature == 0

    def written(self, text: str, finish: str, count: int, limit: int, margin: float) -> Completion:
        """The completion for a text of `count` tokens; an error where the context's limit cut it and nobody asked.

        Args:
            text: without the stop text.
            finish: `stop` or `length`.
            count: tokens generated.
            limit: longest sequence in tokens.
            margin: smallest gap of best and second-best token in nats, infinite where there was no choice.
        """
        if finish == "length" and count < self.request.max_tokens:
            return Completion(
                self.request.id,
                error=f"cut at the limit of {limit} tokens: {len(self.tokens)} of the prompt and {count} generated, "
                f"max_tokens is {self.request.max_tokens}",
            )
        return Completion(
            self.request.id,
            text=text,
            finish=finish,
            prompt_tokens=len(self.tokens),
            completion_tokens=count,
            margin=round(margin, MARGIN_DECIMALS) if self.greedy and math.isfinite(margin) else None,
        )

    def scored(self, scores: Sequence[tuple[float, bool]]) -> Completion:
        """The completion for log-likelihoods (nats) of the continuations and whether greedy decoding writes them."""
        if not all(math.isfinite(value) for value, _ in scores):
            return Completion(self.request.id, error="a log-probability is NaN or infinite")
        return Completion(
            self.request.id,
            finish="score",
            logprobs=tuple(value for value, _ in scores),
            greedy=tuple(greedy for _, greedy in scores),
            prompt_tokens=len(self.tokens),
            completion_tokens=sum(len(target) for _, target in self.targets),
        )


class Tokenizer:
    """A checkpoint's tokenizer; raises CheckpointError where there is none that is fast."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        from transformers import AutoTokenizer

        folder = tokenizer_folder(checkpoint)
        try:
            self.fast: Any = AutoTokenizer.from_pretrained(
                str(folder), use_fast=True, trust_remote_code=False, local_files_only=True
            )
        except (OSError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"its tokenizer cannot be loaded ({type(error).__name__}: {error})", where=checkpoint.name
            ) from error
        if not self.fast.is_fast:
            raise CheckpointError(
                "it has no fast tokenizer",
                where=checkpoint.name,
                mend="Save one: AutoTokenizer.from_pretrained(…).save_pretrained(…) writes tokenizer.json.",
            )
        ends = (*checkpoint.stop_token_ids, self.fast.eos_token_id)
        self.stop_ids = tuple(dict.fromkeys(end for end in ends if end is not None))

    def encode(self, texts: Sequence[str], special: bool) -> list[list[int]]:
        """Ids of each text, with the tokenizer's own special tokens or without."""
        return list(self.fast(list(texts), add_special_tokens=special, verbose=False)["input_ids"]) if texts else []

    def prompts(self, requests: Sequence[Request], limit: int) -> Iterator[Prompt | Completion]:
        """Each request in token ids, or a completion that says why it cannot be asked; in any order.

        Args:
            requests: of one checkpoint.
            limit: longest sequence in tokens.
        """
        for special in (True, False):
            group = [request for request in requests if request.special_tokens is special]
            try:
                encoded = self.encode([request.prompt for request in group], special)
            except (TypeError, UnicodeError):  # a lone surrogate somewhere: find out where
                encoded = []
            for place, request in enumerate(group):
                try:
                    tokens = encoded[place] if encoded else self.encode([request.prompt], special)[0]
                    yield self._prompt(request, tokens, limit)
                except (TypeError, UnicodeError):
                    yield Completion(request.id, error="the text is not valid Unicode (a lone surrogate)")

    def _prompt(self, request: Request, tokens: list[int], limit: int) -> Prompt | Completion:
        if not tokens:  # a model needs something to start from
            start = self.fast.bos_token_id if self.fast.bos_token_id is not None else self.fast.eos_token_id
            if start is None:
                return Completion(request.id, error="the prompt is empty, and the tokenizer has no token to start with")
            tokens = [start]
        targets = tuple(self._targets(request, tokens)) if request.continuations else ()
        if not all(target for _, target in targets):
            return Completion(request.id, error="a continuation is empty: it has no tokens to score")
        prompt = Prompt(request, tokens, targets, self.stop_ids)
        if prompt.length > limit:
            return Completion(
                request.id,
                error=f"too long: it needs {prompt.length} tokens (one of them to answer), the limit is {limit}",
            )
        return prompt

    def _targets(self, request: Request, tokens: list[int]) -> Iterator[tuple[list[int], list[int]]]:
        together = self.encode([request.prompt + text for text in request.continuations], request.special_tokens)
        apart = self.encode(request.continuations, False)
        for joined, alone in zip(together, apart, strict=True):
            # Ids that a tokenizer puts at the end of a text do not stand between a prompt and what follows it.
            if request.prompt and joined[: len(tokens)] == tokens and len(joined) > len(tokens):
                yield tokens, joined[len(tokens) :]
            else:
                yield tokens, alone
