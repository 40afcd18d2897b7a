"""What a person may set about the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from evalgate.engines.endpoint import endpoint_options
from evalgate.errors import ConfigError
from evalgate.request import Request

ENGINES = ("vllm", "transformers", "openai", "fake")
# What evalgate decides about vLLM: results would not be comparable, or not safe, otherwise.
RESERVED = frozenset(
    {
        "model",
        "tokenizer",
        "trust_remote_code",
        "load_format",
        "generation_config",
        "seed",
        "runner",
        "convert",
        "enable_lora",
        "max_loras",
        "max_cpu_loras",
        "max_lora_rank",
        "lora_target_modules",
        "skip_tokenizer_init",
        "enable_prefix_caching",
    }
)
SPECIAL_TOKENS = 8  # more than any tokenizer wraps around a text


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """Which engine answers, and how its child process is started.

    Attributes:
        name: `vllm`, `transformers`, `openai` (endpoints) or `fake`.
        options: the engine's own settings, passed on as they are (vLLM: dtype, max_model_len, tensor_parallel_size, …);
            those of `openai` are `EndpointOptions`.
        python: interpreter of the child, where the engine is installed apart; `None` is this one.
        log_dir: folder for the child's log files, made when needed.
        start_timeout: seconds until the child must have loaded its first checkpoint.

    Raises:
        ConfigError: for an unknown name, or an option that evalgate sets itself.
    """

    name: str = "vllm"
    options: Mapping[str, Any] = field(default_factory=dict)
    python: str | None = None
    log_dir: Path
    start_timeout: float = 600

    def __post_init__(self) -> None:
        if self.name not in ENGINES:
            near = get_close_matches(str(self.name), ENGINES, 1)
            raise ConfigError(
                f"{self.name!r} is no engine, expected one of {', '.join(ENGINES)}",
                where="engine.name",
                mend=f"Did you mean {near[0]!r}?" if near else None,
            )
        for option in sorted(RESERVED.intersection(self.options) if self.name == "vllm" else ()):
            raise ConfigError("evalgate sets this itself", where=f"engine.{option}", mend="Remove it.")
        if self.name == "openai":
            endpoint_options(self.options)

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the environment variables that the child gets beside its allow-list: where an endpoint's key is."""
        key = self.options.get("api_key_env") if self.name == "openai" else None
        return (key,) if key else ()


def length_bound(request: Request) -> int:
    """Tokens that a request can need at most, known without its tokenizer: no token is shorter than one byte."""
    prompt = len(request.prompt.encode("utf-8", "surrogatepass"))
    longest = max((len(text.encode("utf-8", "surrogatepass")) for text in request.continuations), default=0)
    return prompt + (longest if request.continuations else request.max_tokens) + SPECIAL_TOKENS
