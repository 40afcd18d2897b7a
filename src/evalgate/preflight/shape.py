"""The shape of weights as their own headers say it: parameters, LoRA ranks, target modules. Nothing else is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from evalgate.preflight import adapter, weights
from evalgate.preflight.files import open_folder


@dataclass(frozen=True, slots=True)
class WeightShape:
    """What the tensors of a folder are.

    Attributes:
        tensors: name to dtype and extents.
        ranks: module to the rank of its LoRA pair, empty without any.
    """

    tensors: Mapping[str, tuple[str, tuple[int, ...]]]
    ranks: Mapping[str, int]

    @property
    def parameters(self) -> int:
        """Numbers in all tensors."""
        return sum(prod(shape) for _, shape in self.tensors.values())

    @property
    def targets(self) -> dict[str, tuple[int, ...]]:
        """Kind of module (`q_proj`) to the ranks that it has in the layers."""
        found: dict[str, set[int]] = {}
        for module, rank in self.ranks.items():
            found.setdefault(module.rsplit(".", 1)[-1], set()).add(rank)
        return {kind: tuple(sorted(ranks)) for kind, ranks in sorted(found.items())}


def read_shape(path: Path) -> WeightShape:
    """Read the headers of a folder's weights, an adapter's or full ones (CheckpointError)."""
    folder = open_folder(path)
    if adapter.is_adapter(folder):
        headers = {adapter.WEIGHTS: adapter.read_adapter_header(folder)}
    else:
        headers = dict(weights.read_headers(folder))
    tensors = {t.name: (t.dtype, t.shape) for header in headers.values() for t in header.tensors.values()}
    ranks: dict[str, int] = {}
    for name, (_, shape) in tensors.items():
        found = adapter.LORA.fullmatch(name.removeprefix(adapter.PREFIX))
        if found and found["side"] == "A" and shape:
            ranks[found["module"]] = shape[0]
    return WeightShape(dict(sorted(tensors.items())), dict(sorted(ranks.items())))
