"""Requests that touch every way an engine answers, and the comparison of two engines' answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from evalgate.checkpoint import Checkpoint
from evalgate.engines import EngineProcess
from evalgate.request import Completion, Request

LONG = "Once upon a time there was a quick brown fox that jumped over the lazy dogs of the town. "
SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}, "ok": {"type": "boolean"}},
    "required": ["n", "ok"],
    "additionalProperties": False,
}


def requests(*checkpoints: Checkpoint, questions: int = 12) -> list[Request]:
    """Greedy, seeded, scored (one token and several), with shared prefixes longer than a cache block; interleaved."""
    asked = []
    for number in range(questions):
        for checkpoint in checkpoints:
            name, few = checkpoint.digest, LONG + f"Q: {number}+{number}=\nA:"
            asked += [
                Request(name, few, max_tokens=8),
                Request(name, few, max_tokens=8, temperature=0.8, top_p=0.9, top_k=50, seed=number),
                Request(name, few, continuations=(" the mat", " 12", "the cat sat")),
                Request(name, f"label {number}:", continuations=("a", "b", "c")),
                Request(name, f"the cat {number}", max_tokens=5, special_tokens=False, stop=("e", "sat")),
            ]
    return asked


def answers(engine: EngineProcess, asked: Iterable[Request]) -> dict[str, Completion]:
    """Completions by request id; each exactly once."""
    given: dict[str, Completion] = {}
    for completion in engine.generate(asked):
        assert completion.request not in given
        given[completion.request] = completion
    return given


def _greedy(asked: Iterable[Request]) -> list[str]:
    return [request.id for request in asked if not request.continuations and request.temperature == 0]


def _identical(one: Completion, two: Completion) -> bool:
    return replace(one, margin=None) == replace(two, margin=None)


def greedy_share(asked: Sequence[Request], one: dict[str, Completion], two: dict[str, Completion]) -> float:
    """Share of greedy completions that are identical: text, end and token counts."""
    ids = _greedy(asked)
    return sum(_identical(one[name], two[name]) for name in ids) / len(ids)


def largest_margin_gap(asked: Sequence[Request], one: dict[str, Completion], two: dict[str, Completion]) -> float:
    """Largest difference of two margins in nats, among greedy completions that are identical."""
    pairs = [(one[name].margin, two[name].margin) for name in _greedy(asked) if _identical(one[name], two[name])]
    assert all((a is None) == (b is None) for a, b in pairs)
    gaps = [abs(a - b) for a, b in pairs if a is not None and b is not None]
    assert gaps, "nothing was compared"
    return max(gaps)


def largest_gap(asked: Sequence[Request], one: dict[str, Completion], two: dict[str, Completion]) -> float:
    """Largest difference of two log-likelihoods in nats."""
    ids = [request.id for request in asked if request.continuations]
    assert all(len(one[name].logprobs) == len(two[name].logprobs) > 0 for name in ids)
    return max(abs(a - b) for name in ids for a, b in zip(one[name].logprobs, two[name].logprobs, strict=True))
