"""Evaluations for tests, made from scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evalgate.digest import digest
from evalgate.evaluation import Evaluation, Metric, Row

EXACT = Metric("exact_match", digest("exact_match"), binary=True)
SCORE = Metric("chrf", digest("chrf"))
TOXIC = Metric("toxicity", digest("toxicity"), binary=True, higher_is_better=False)
BITS = Metric("bits_per_byte", digest("bits"), high=None, higher_is_better=False, weighted=True)

SAMPLING = {"max_tokens": 8, "temperature": 0.0, "top_p": 1.0, "top_k": 0, "stop": ["\n"], "n": 1, "json_schema": None}
ENGINE = {"name": "vllm", "version": "0.32.0", "dtype": "bfloat16", "device": "cpu", "determinism": "batch"}


def evaluation(
    scores: Sequence[float | None],
    *,
    metric: Metric = EXACT,
    name: str = "v3",
    task: str = "arithmetic/addition",
    ids: Sequence[str] | None = None,
    pairs: Mapping[int, str] | None = None,
    slices: Sequence[Mapping[str, str]] | None = None,
    clusters: Sequence[str | None] | None = None,
    weights: Sequence[float] | None = None,
    outputs: Sequence[str] | None = None,
    errors: Mapping[int, str] | None = None,
    sampling: Mapping[str, Any] | None = None,
    engine: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Evaluation:
    """One row per score; `pairs` and `errors` are given by position, `sampling` and `engine` by what is changed."""
    rows = [
        Row(
            id=ids[i] if ids else f"q{i:05}",
            pair=(pairs or {}).get(i, f"{i:012x}"),
            prompt=f"Q{i}",
            target=str(i),
            outputs=(outputs[i] if outputs else f"answer {i}",),
            scores={} if score is None else {metric.name: score},
            slices=slices[i] if slices else {},
            cluster=clusters[i] if clusters else None,
            weight=weights[i] if weights else 1.0,
            error=(errors or {}).get(i),
        )
        for i, score in enumerate(scores)
    ]
    return Evaluation(
        task=task,
        checkpoint={"name": name, "digest": digest(name), "identity": {}},
        prompt=digest("Q"),
        sampling=SAMPLING | dict(sampling or {}),
        seed=seed,
        samples=digest("samples"),
        metrics=(metric,),
        rows=tuple(rows),
        environment={"engine": ENGINE | dict(engine or {})},
    )


def answers(*, n: int, loss: int = 0, gain: int = 0, wrong: int = 0) -> tuple[list[float], list[float]]:
    """Right-or-wrong scores of baseline and candidate with that many losses and gains, losses first."""
    both = n - loss - gain - wrong
    baseline = [1.0] * loss + [0.0] * gain + [1.0] * both + [0.0] * wrong
    candidate = [0.0] * loss + [1.0] * gain + [1.0] * both + [0.0] * wrong
    return baseline, candidate
