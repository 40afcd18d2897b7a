"""A checkpoint: a model version on disk, identified by the digest of its content."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from evalgate.digest import digest


@dataclass(frozen=True)
class Checkpoint:
    """What evalgate knows of a version after preflight; nothing here names a path except `path`, which is no identity.

    Attributes:
        name: what tables, test ids and reports call it (the folder's name).
        path: the absolute folder, or `None` for a checkpoint that is known only from a record.
        kind: `full` weights, or a PEFT `adapter` over `base`.
        weights: digest of the weights and the configuration that gives them meaning (an adapter's canonical config).
        tokenizer: digest of the tokenizer's files (the base's, where an adapter brings none).
        template: digest of the chat template, `None` without one.
        architecture: the first of config.json's `architectures`, of the base for an adapter.
        context: longest sequence in tokens (`max_position_embeddings`), 0 where the config does not say.
        stop_token_ids: end-of-sequence ids of config.json and generation_config.json.
        base: the full checkpoint under an adapter.
    """

    name: str
    path: str | None
    kind: Literal["full", "adapter"]
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
