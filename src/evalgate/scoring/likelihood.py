"""Scorers that read how likely given texts are after the prompt; nothing is generated."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from evalgate.errors import TaskError
from evalgate.scoring.answer import as_text, kind
from evalgate.scoring.scorer import Score, Scorer
from evalgate.scoring.text import filled_target, text_target

if TYPE_CHECKING:
    from evalgate.gate import Gate
    from evalgate.request import Completion
    from evalgate.task import Sample


def choice(
    *labels: str,
    field: str | None = None,
    normalise: Literal["none", "bytes"] = "none",
    gate: Gate | None = None,
    name: str | None = None,
) -> Scorer:
    """1 where the right label is the likeliest continuation of the prompt; else 0. Ties go to the first label.

    Labels follow the prompt exactly as they are written, so `" A"` after a prompt that ends in `Answer:`; the target is
    the right label, but for white space around either.

    Args:
        labels: the options of every sample.
        field: name of the sample's field that lists its options, where they differ; `options` by default.
        normalise: `bytes` divides each log-likelihood by its label's UTF-8 bytes, so that long options can win.
        gate: margin and floor.
        name: of the metric, by default `choice`.

    Raises:
        TaskError: fewer than two labels, an empty or doubled label, labels and a field, or an unknown `normalise`.
    """
    if labels and field is not None:
        raise TaskError(f"choice() has labels and field={field!r}: give one of them")
    if normalise not in ("none", "bytes"):
        raise TaskError(f'choice(normalise={normalise!r}): expected "none" or "bytes"')
    if labels and (fault := _fault(labels)):
        raise TaskError(f"choice({', '.join(map(repr, labels))}): {fault}")
    source = field or "options"

    def options(sample: Sample) -> tuple[str, ...]:
        return labels or tuple(as_text(option) for option in sample.fields[source])

    def check(sample: Sample) -> str | None:
        if not labels:
            listed = sample.fields.get(source)
            if not isinstance(listed, list):
                return f"expected a list of options in the field {source!r}, found {kind(listed)}"
            if fault := _fault(listed):
                return f"field {source!r}: {fault}"
        if reason := text_target(sample):
            return reason
        known = [option.strip() for option in options(sample)]
        if as_text(sample.target).strip() not in known:
            return f"the target {sample.target!r} is none of the options {', '.join(known)}"
        return None

    def score(completion: Completion, sample: Sample) -> Score:
        texts = options(sample)
        values = _loglikelihoods(completion, len(texts))
        if normalise == "bytes":
            values = tuple(value / len(text.encode()) for value, text in zip(values, texts, strict=True))
        answer = texts[values.index(max(values))].strip()
        return Score(float(answer == as_text(sample.target).strip()), answer)

    settings = {"scorer": "choice", "labels": list(labels), "field": None if labels else source, "normalise": normalise}
    return Scorer(
        name or "choice", score, binary=True, continuations=options, gate=gate, settings=settings, check=check
    )


def bits_per_byte(*, gate: Gate | None = None, name: str | None = None) -> Scorer:
    """How many bits the model needs for each UTF-8 byte of the target: lower is better, and no tokenizer matters.

    The target follows the prompt exactly as it is written. Samples weigh by their bytes: the mean is that of all text.

    Args:
        gate: margin (a share of the baseline's value) and floor (the highest value allowed).
        name: of the metric, by default `bits_per_byte`.
    """

    def target(sample: Sample) -> tuple[str, ...]:
        return (as_text(sample.target),)

    def size(sample: Sample) -> float:
        return float(len(as_text(sample.target).encode()))

    def score(completion: Completion, sample: Sample) -> Score:
        (value,) = _loglikelihoods(completion, 1)
        return Score(-value / math.log(2) / size(sample))

    return Scorer(
        name or "bits_per_byte",
        score,
        high=None,
        higher_is_better=False,
        continuations=target,
        weight=size,
        gate=gate,
        settings={"scorer": "bits_per_byte"},
        check=filled_target,
    )


def _fault(options: tuple[Any, ...] | list[Any]) -> str | None:
    """Why these are no options to choose from, if so."""
    for option in options:
        if not isinstance(option, str | int | float):
            return f"an option is {kind(option)}, expected a text"
    texts = [as_text(option).strip() for option in options]
    if len(texts) < 2:
        return "a choice needs at least two options"
    if not all(texts):
        return "an option is empty"
    doubled = next((text for text in texts if texts.count(text) > 1), None)
    return f"the option {doubled!r} stands twice" if doubled else None


def _loglikelihoods(completion: Completion, expected: int) -> tuple[float, ...]:
    """The completion's log-likelihoods in nats, one per continuation (ValueError for any other number, or NaN)."""
    values = completion.logprobs
    if len(values) != expected or any(math.isnan(value) for value in values):
        raise ValueError(f"the engine gave the log-likelihoods {values}, expected {expected} numbers")
    return values
