"""Our own judge: a job to what a model is asked, and what it answers to a judgement. Pure: who asks is not here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from evalgate.instrument import Job, Judgement
from evalgate.judges.prompt import CHOICES, messages
from evalgate.judges.wire import failure
from evalgate.request import Completion, Request
from evalgate.scoring.structure import parse_strictly

REASON = 300
"""Longest reason in characters: one that never ends would leave no grade."""
MAX_TOKENS = 1024
"""Room for reason and grade, even where every byte is a token and a character has three."""
_ROUNDING = 1e-3  # of a log-probability above 0, in nats

Conversation = tuple[Mapping[str, str], ...]


def conversations(job: Job) -> tuple[Conversation, ...]:
    """What the model is told: once, or for a preference twice, the candidate's answer first and then the baseline's.

    Raises:
        TaskError: the suite's own template fails on this case.
    """
    special = job.model.special if job.model else ()
    orders = (False, True) if job.instrument.pairwise else (False,)
    return tuple(messages(job.instrument, job.case, swapped=swapped, special=special) for swapped in orders)


def request(job: Job, conversation: Conversation, prompt: str | None = None) -> Request:
    """The one request for a conversation: how likely each label is, or a reason and a grade.

    Args:
        job: bound to a model.
        conversation: one of `conversations(job)`.
        prompt: the conversation through the judge's chat template; `None` where the engine applies it (endpoints).
    """
    if job.model is None:
        raise ValueError("a native judge asks a model, and this job has none")
    explain = job.instrument.settings.get("explain", False)
    return Request(
        checkpoint=job.model.checkpoint.digest,
        prompt=prompt or "",
        special_tokens=False,  # the template has written them
        messages=conversation if prompt is None else None,
        continuations=() if explain else labels(job),
        max_tokens=MAX_TOKENS,
        json_schema=_schema(job, bounded=prompt is not None) if explain else None,
    )


def labels(job: Job) -> tuple[str, ...]:
    """What the judge chooses from: the grades of its scale, lowest first, or A, B and C."""
    return CHOICES if job.instrument.pairwise else tuple(job.instrument.settings["scale"])


def read(job: Job, completions: Sequence[Completion], seconds: float = 0.0) -> Judgement:
    """The judgement in what the model answered; anything but what was asked for is an error.

    Grades are averaged, weighted by their probability among the labels. A preference counts where both orders agree.

    Args:
        job: what was asked.
        completions: one for each of `conversations(job)`, in their order.
        seconds: how long they took, for messages.
    """
    if len(completions) != 1 + job.instrument.pairwise:
        raise ValueError(f"{len(completions)} completions are not those of the job's conversations")
    try:
        if job.instrument.pairwise:
            value, said = _preference([_shares(job, completion) for completion in completions])
        elif job.instrument.settings["explain"]:
            value, said = _reasoned(job, completions[0])
        else:
            value, said = _graded(job, _shares(job, completions[0]))
    except ValueError as error:
        name = f"judge {job.model.name}" if job.model else "the judge"
        said = f"{name}: {_brief(str(error))}"
        if any(completion.error for completion in completions):  # which says itself how often was asked
            return Judgement(job.id, None, error=f"sample {job.case.sample}: {said}")
        return Judgement(job.id, None, error=failure(job.case.sample, said, len(completions), seconds))
    return Judgement(job.id, value, said)


def _schema(job: Job, *, bounded: bool) -> dict[str, Any]:
    """Reason first: a grade that comes first is only defended afterwards.

    Args:
        job: whose scale it is.
        bounded: whether the longest reason is said too. Strict endpoints refuse a schema with keywords that they do not
            know, and `maxLength` is one of those.
    """
    form = {"maxLength": REASON} if bounded else {}
    return {
        "type": "object",
        "properties": {
            "reason": {"type": "string", **form},
            "grade": {"type": "integer", "enum": [int(label) for label in labels(job)]},
        },
        "required": ["reason", "grade"],
        "additionalProperties": False,
    }


def _answered(completion: Completion) -> Completion:
    if completion.error is not None:
        raise ValueError(completion.error)
    return completion


def _shares(job: Job, completion: Completion) -> dict[str, float]:
    """How probable each label is among the labels (ValueError where the log-likelihoods are none)."""
    names, found = labels(job), _answered(completion).logprobs
    if len(found) != len(names) or any(math.isnan(value) or value > _ROUNDING for value in found):
        raise ValueError(f"gave the log-likelihoods {found}, expected {len(names)} numbers up to 0")
    best = max(found)
    if math.isinf(best):
        raise ValueError(f"finds none of {', '.join(names)} possible")
    weights = [math.exp(value - best) for value in found]
    return {name: weight / math.fsum(weights) for name, weight in zip(names, weights, strict=True)}


def _graded(job: Job, shares: Mapping[str, float]) -> tuple[float, str]:
    mean = fmean(map(float, shares), weights=shares.values())
    likely = sorted(shares, key=lambda label: -shares[label])[:3]
    said = ", ".join(f"{label} ({shares[label]:.0%})" for label in likely if shares[label] >= 0.005)
    return min(max(mean, job.instrument.low), job.instrument.high), said


def _preference(orders: Sequence[Mapping[str, float]]) -> tuple[float, str]:
    """1, 0 or .5, and what either order said; labels that are equally likely prefer neither."""
    values, said = [], []
    for shares, first, wins in zip(
        orders, ("candidate", "baseline"), ({"A": 1.0, "B": 0.0}, {"A": 0.0, "B": 1.0}), strict=True
    ):
        best = max(shares.values())
        top = [label for label in shares if shares[label] == best]
        chosen = top[0] if len(top) == 1 else "C"
        values.append(wins.get(chosen, 0.5))
        winner = {1.0: "the candidate", 0.0: "the baseline", 0.5: "neither"}[values[-1]]
        said.append(f"{first} first: {winner} ({shares[chosen]:.0%})")
    return values[0] if values[0] == values[1] else 0.5, "; ".join(said)


def _reasoned(job: Job, completion: Completion) -> tuple[float, str]:
    if _answered(completion).finish == "length":
        raise ValueError(f"had not ended its reply after {MAX_TOKENS} tokens")
    try:
        reply = parse_strictly(completion.text)
    except ValueError as error:
        raise ValueError(f"its reply is no JSON object ({error}): {completion.text!r:.120}") from None
    if not isinstance(reply, dict) or set(reply) != {"reason", "grade"} or not isinstance(reply["reason"], str):
        raise ValueError(f'its reply is no object of "reason" and "grade": {completion.text!r:.120}')
    grade = reply["grade"]
    if type(grade) is not int or str(grade) not in labels(job):
        raise ValueError(f"gave the grade {grade!r:.40}, expected one of {', '.join(labels(job))}")
    # A lone surrogate can be said in JSON and stored nowhere.
    return float(grade), _brief(reply["reason"].encode("utf-8", "backslashreplace").decode("utf-8"), REASON)


def _brief(text: str, length: int = 500) -> str:
    """One line of bounded length."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 1]}…"
