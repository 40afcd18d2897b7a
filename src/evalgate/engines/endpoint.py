"""A model behind an OpenAI-compatible endpoint, as a checkpoint, and what a person may set about asking it.

An endpoint shows no bytes: its identity is address, model and revision, which are names. It can change behind them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any
from urllib.parse import urlsplit

from evalgate.checkpoint import Checkpoint
from evalgate.digest import digest
from evalgate.errors import ConfigError

REVISION = "1"  # of our own way of asking endpoints: raise it when the same request gets another answer
# What every engine says of itself; how an endpoint computes is its own affair.
LOOKS = {"name": "openai", "version": REVISION, "device": "endpoint", "dtype": "unknown", "determinism": "unknown"}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
# What evalgate says in every request: an option must not say otherwise.
_OURS = frozenset(
    {
        "model",
        "messages",
        "prompt",
        "stream",
        "n",
        "max_tokens",
        "temperature",
        "top_p",
        "top_k",
        "stop",
        "seed",
        "response_format",
        "logprobs",
        "top_logprobs",
        "echo",
    }
)


def endpoint(url: str, model: str, *, revision: str | None = None) -> Checkpoint:
    """A model behind an endpoint as a checkpoint.

    Args:
        url: base address, as `https://example.com/v1`; `/chat/completions` is put behind it.
        model: the name that the endpoint knows it by.
        revision: what its owner calls this version of it; another revision is another checkpoint.

    Raises:
        ConfigError: no address of an endpoint, or no name.
    """
    address = base_address(url)
    if not isinstance(model, str) or not model.strip() or not model.isprintable():
        raise ConfigError("the model's name is empty or not printable", where="--model", mend="Name the model to ask.")
    if revision is not None and (not isinstance(revision, str) or not revision.strip()):
        raise ConfigError("expected a text", where="engine.revision", mend="Leave it out where there is none.")
    weights = digest({"url": address, "model": model, "revision": revision})
    # Nobody here sees its tokenizer, template or context.
    return Checkpoint(model, address, "endpoint", weights, digest(None), None, "endpoint", 0)


def base_address(url: object) -> str:
    """An endpoint's base address without a slash at its end (ConfigError where it is none, or holds a secret)."""
    mend = 'Write it as in url = "http://127.0.0.1:8000/v1"; keys are read from the variable that api_key_env names.'
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if not good or not str(url).isprintable() or " " in str(url):
        raise ConfigError("expected an http(s) address", where="engine.url", mend=mend)
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        # Not shown: what stands there may be a key.
        raise ConfigError("an address has no user, password, query or fragment", where="engine.url", mend=mend)
    return str(url).rstrip("/")


@dataclass(frozen=True, kw_only=True)
class EndpointOptions:
    """`[tool.evalgate.engine]` where the engine is `openai`.

    Attributes:
        url, revision: of the models that are named by `--model`; part of their identity, see `endpoint`.
        api_key_env: name of the environment variable that holds the key; `None` sends none.
        concurrency: requests on their way at once.
        connect_timeout: seconds until a connection must stand.
        read_timeout: seconds in which an endpoint may say nothing at all.
        total_timeout: seconds for one request with all its attempts and pauses.
        max_body: longest body that is read, in bytes.
        model_says: names by which the endpoint may call the model in its replies, in place of the name that was asked
            for and that name with a date (`gpt-x` is answered by `gpt-x-2026-05-01`).
        ca_file: certificates of a private authority, in PEM.
        extra_body: further fields of every request, such as vLLM's `chat_template_kwargs`; part of the identity.

    Raises:
        ConfigError: a value of the wrong type or out of range.
    """

    url: str | None = None
    revision: str | None = None
    api_key_env: str | None = None
    concurrency: int = 16
    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    total_timeout: float = 120.0
    max_body: int = 8 * 1024 * 1024
    model_says: str | tuple[str, ...] | list[str] = ()
    ca_file: str | None = None
    extra_body: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.url is not None:
            base_address(self.url)
        for name in ("revision", "ca_file"):
            value = getattr(self, name)
            _require(value is None or (isinstance(value, str) and bool(value.strip())), name, "a text")
        variable = self.api_key_env
        if variable is not None and not (isinstance(variable, str) and _VARIABLE.fullmatch(variable)):
            # Not shown: it may be the key itself.
            raise ConfigError(
                "expected the name of an environment variable, such as 'OPENAI_API_KEY'", where="engine.api_key_env"
            )
        _require(type(self.concurrency) is int and 1 <= self.concurrency <= 1024, "concurrency", "1 to 1024")
        _require(type(self.max_body) is int and self.max_body >= 1024, "max_body", "bytes from 1024")
        for name in ("connect_timeout", "read_timeout", "total_timeout"):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            _require(number and math.isfinite(value) and value > 0, name, "seconds above 0")
        listed = [self.model_says] if isinstance(self.model_says, str) else self.model_says
        names = isinstance(listed, list | tuple) and all(isinstance(name, str) and name for name in listed)
        _require(names, "model_says", "a name, or a list of names")
        extra = self.extra_body
        _require(extra is None or isinstance(extra, Mapping), "extra_body", "a table")
        ours = sorted(_OURS.intersection(extra or ()))
        if ours:
            raise ConfigError("evalgate sets this itself", where=f"engine.extra_body.{ours[0]}", mend="Remove it.")

    @property
    def names(self) -> tuple[str, ...]:
        """What `model_says` holds, as several."""
        return (self.model_says,) if isinstance(self.model_says, str) else tuple(self.model_says)


def endpoint_options(options: Mapping[str, Any]) -> EndpointOptions:
    """The options of the settings, checked (ConfigError, with the nearest name for one that does not exist)."""
    known = [spec.name for spec in fields(EndpointOptions)]
    for name in options:
        if name in known:
            continue
        if name in ("api_key", "key", "token"):  # before anything shows its value
            mend = 'Remove the key from the file, and name its variable: api_key_env = "OPENAI_API_KEY".'
            raise ConfigError("a key is never written into settings", where=f"engine.{name}", mend=mend)
        near = get_close_matches(name, known, 1)
        mend = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(known)}."
        raise ConfigError("the openai engine has no such option", where=f"engine.{name}", mend=mend)
    return EndpointOptions(**options)


def _require(holds: bool, name: str, expected: str) -> None:
    if not holds:
        raise ConfigError(f"expected {expected}", where=f"engine.{name}")
