"""What an engine is asked and what it answers: requests, completions and the one-method protocol between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from evalgate.digest import digest


@dataclass(frozen=True)
class Request:
    """One thing asked of one checkpoint; its id is its content, so equal questions are asked once.

    Attributes:
        checkpoint: digest of the checkpoint that answers.
        prompt: the rendered text.
        special_tokens: whether the tokenizer adds its own (not for chat prompts: their template has written them).
        continuations: where given, nothing is generated: the answer is the log-likelihood of each after the prompt.
        max_tokens, temperature, top_p, top_k, stop, json_schema: as in `Sampling`.
        seed: this request's own, derived from the task's seed, the sample and the generation.
        messages: where given, a conversation whose template the engine applies itself, and `prompt` is empty: endpoints
            only, since what is behind them keeps its template to itself.
    """

    checkpoint: str
    prompt: str
    special_tokens: bool = True
    continuations: tuple[str, ...] = ()
    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    json_schema: Mapping[str, Any] | None = None
    messages: tuple[Mapping[str, str], ...] | None = None

    @cached_property
    def content(self) -> dict[str, Any]:
        """Everything that can change the answer, as JSON values."""
        asked: dict[str, Any] = {
            "checkpoint": self.checkpoint,
            "prompt": self.prompt,
            "special_tokens": self.special_tokens,
        }
        if self.messages is not None:
            asked["messages"] = [dict(message) for message in self.messages]
        if self.continuations:  # a log-likelihood depends on no sampling parameter
            return asked | {"continuations": list(self.continuations)}
        return asked | {
            "max_tokens": self.max_tokens,
            "temperature": float(self.temperature),
            "top_p": float(self.top_p),
            "top_k": self.top_k,
            "stop": list(self.stop),
            "seed": self.seed if self.temperature > 0 else None,  # greedy decoding has no draw
            "json_schema": self.json_schema,
        }

    @cached_property
    def id(self) -> str:
        """Digest of the content."""
        return digest(self.content)


@dataclass(frozen=True, slots=True)
class Completion:
    """The answer to one request.

    Attributes:
        request: id of the request.
        text: what was generated, without the stop text; empty for log-likelihoods.
        finish: `stop`, `length` (cut at max_tokens) or `score` (log-likelihoods).
        logprobs: total log-likelihood in nats of each continuation, in the order asked.
        greedy: for each continuation, whether greedy decoding would have written it.
        prompt_tokens: tokens read.
        completion_tokens: tokens generated or scored.
        error: why there is no answer (one line); everything else is then empty. An error is never a score.
        margin: how sure greedy decoding was where it was least sure: the smallest gap in nats between the best and the
            second-best token over the generated ones, to six decimals. `None` where tokens are drawn or scored, or
            where a schema left no choice anywhere.
    """

    request: str
    text: str = ""
    finish: str = "stop"
    logprobs: tuple[float, ...] = ()
    greedy: tuple[bool, ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0
    error: str | None = None
    margin: float | None = None


class Engine(Protocol):
    """Requests to completions."""

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Answer every request once, in any order, as they finish; `EngineError` when the engine itself fails."""
        ...
