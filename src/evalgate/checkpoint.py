"""A checkpoint: a model version on disk, identified by the digest of its content, or one behind an endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from evalgate.digest import digest
from evalgate.errors import CheckpointError

TEMPLATE_DATE = "2026-01-01"
"""What `strftime_now` says in every template: prompts must not change from day to day. In every template's digest."""


@dataclass(frozen=True)
class Checkpoint:
    """What evalgate knows of a version after preflight; nothing here names a path except `path`, which is no identity.

    Attributes:
        name: what tables, test ids and reports call it (the folder's name; of an endpoint, the model asked for).
        path: the absolute folder, the address of an endpoint, or `None` for a checkpoint that is known only from a
            record.
        kind: `full` weights, a PEFT `adapter` over `base`, or an `endpoint` whose weights nobody here sees.
        weights: digest of the weights and the configuration that gives them meaning (an adapter's canonical config);
            of an endpoint, of address, model and revision: names, since it shows nothing else.
        tokenizer: digest of the tokenizer's files (the base's, where an adapter brings none).
        template: digest of the chat template, `None` without one.
        architecture: the first of config.json's `architectures`, of the base for an adapter.
        context: longest sequence in tokens (`max_position_embeddings`), 0 where the config does not say.
        stop_token_ids: end-of-sequence ids of config.json and generation_config.json.
        base: the full checkpoint under an adapter.
    """

    name: str
    path: str | None
    kind: Literal["full", "adapter", "endpoint"]
    weights: str
    tokenizer: str
    template: str | None
    architecture: str
    context: int
    stop_token_ids: tuple[int, ...] = ()
    base: Checkpoint | None = None

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The content behind the digest, as it stands in records."""
        return {
            "kind": self.kind,
            "weights": self.weights,
            "tokenizer": self.tokenizer,
            "template": self.template,
            "architecture": self.architecture,
            "stop_token_ids": list(self.stop_token_ids),
            "base": self.base.digest if self.base else None,
        }

    @cached_property
    def digest(self) -> str:
        """`sha256:…` of the identity: the same bytes under any name or path have the same digest."""
        return digest(self.identity)

    @property
    def root(self) -> Checkpoint:
        """The full checkpoint that the engine loads: the base of an adapter, else itself."""
        return self.base or self


@dataclass(frozen=True)
class ChatTemplate:
    """A checkpoint's chat templates with what they may refer to.

    Attributes:
        checkpoint: name of the checkpoint, for messages.
        texts: by name; `default` renders, `tool_use` where `tools` are among the arguments.
        tokens: special tokens by name, such as `bos_token`.
    """

    checkpoint: str
    texts: Mapping[str, str]
    tokens: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """Of all that a rendering depends on, but the messages and the keyword arguments."""
        return digest({"texts": dict(self.texts), "tokens": dict(self.tokens), "date": TEMPLATE_DATE})

    def choose(self, kwargs: Mapping[str, Any]) -> str:
        """The text that renders with these arguments (`CheckpointError` where only others have a name)."""
        name = "tool_use" if kwargs.get("tools") and "tool_use" in self.texts else "default"
        if name not in self.texts:
            raise CheckpointError(
                f"has chat templates named {', '.join(sorted(self.texts))}, but none named default",
                where=self.checkpoint,
                mend="Save the one to use as chat_template.jinja.",
            )
        return self.texts[name]
