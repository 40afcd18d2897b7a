"""What the child's loop needs of an engine library, and the probe by which every engine checks what it serves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from evalgate.checkpoint import Checkpoint
from evalgate.request import Completion, Request

# Log-probs of this text tell whether weights are finite, a swap took place and an adapter does anything.
PROBE = 'Q: 17+25=\nA: 42. The quick brown fox jumps over the lazy dog; {"id": 7, "ok": true} costs $9.50 (50%)!'


class Refused(Exception):  # noqa: N818 - a decision, not a fault
    """This checkpoint cannot be served, here or in any child; its requests are answered with this one line."""


class Declined(Exception):  # noqa: N818 - a decision, not a fault
    """This checkpoint cannot be served beside what is loaded: it needs a child of its own."""


class Backend(Protocol):
    """An engine library inside the child."""

    def prepare(self, checkpoint: Checkpoint) -> None:
        """Make this checkpoint the one that answers; raises `Refused` or `Declined`."""

    def environment(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """Name, versions, dtype, device and mode behind the answers of this (prepared) checkpoint."""

    def answer(self, checkpoint: Checkpoint, requests: Sequence[Request]) -> Iterator[Completion]:
        """Answer every request of the prepared checkpoint once, as they finish."""


def check_finite(name: str, probe: Sequence[float]) -> None:
    """Refuse weights whose log-probs are not numbers: they come out as "!!!!" instead of an error."""
    if not all(math.isfinite(value) for value in probe):
        raise Refused(f"{name}: log-probabilities are NaN or infinite; the weights are broken or overflow this dtype")


def check_effect(name: str, base: Sequence[float], adapter: Sequence[float]) -> None:
    """Refuse an adapter that changes nothing: engines serve the base in its place without a word."""
    check_finite(name, adapter)
    if list(base) == list(adapter):
        raise Refused(
            f"{name}: the adapter changes no log-probability of the probe prompt: "
            "it matches no module of this base, or is all zero"
        )
