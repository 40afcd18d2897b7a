"""What travels between the parent and the judges' child: one JSON object a line, and what counts as a value.

Parent to child: `start` (endpoint and seconds), then a `judge` line per job, then the end of the pipe. Child to parent:
a `judgement` line per job, in any order; `fail` as the last line where nothing can be judged at all.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from numbers import Real
from typing import Any

from evalgate.instrument import Endpoint, Job

SECONDS = 300.0
"""Total deadline of one job, all its questions to the model together."""


def line(kind: str, value: Any = None) -> str:
    """One message. ASCII only, so that lone surrogates and every line separator travel escaped."""
    return json.dumps({kind: value}, allow_nan=False, separators=(",", ":")) + "\n"


def message(text: str | bytes) -> tuple[str, Any]:
    """Kind and value of one line (ValueError where it is none)."""
    value = json.loads(text)
    if not isinstance(value, dict) or len(value) != 1:
        raise ValueError("no message")
    ((kind, content),) = value.items()
    return kind, content


def start_to_json(endpoint: Endpoint | None, seconds: float) -> dict[str, Any]:
    """JSON object of the first message."""
    return {"endpoint": asdict(endpoint) if endpoint else None, "seconds": seconds}


def job_to_json(job: Job) -> dict[str, Any]:
    """JSON object of a job: what its library is to do with what it is shown, and no digest but its own."""
    return {
        "id": job.id,
        "kind": job.instrument.kind,
        "settings": dict(job.instrument.settings),
        "sample": job.case.sample,
        "case": job.case.content,
        "low": job.instrument.low,
        "high": job.instrument.high,
        "model": job.model.name if job.model else None,
    }


def checked(value: object, low: float, high: float) -> float:
    """A real, finite number in the range, as float.

    Raises:
        ValueError: it is anything else; one line that says what came.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(f"gave {_shown(value)}, expected a number")  # noqa: TRY004 - a value, not an argument
    number = float(value)
    if not math.isfinite(number) or not low <= number <= high:
        raise ValueError(f"gave {number}, expected a number from {low:g} to {high:g}")
    return number


def first_line(text: object, length: int = 500) -> str:
    """The first line that says something, printable and of bounded length."""
    lines = [line.strip() for line in str(text).splitlines() if line.strip()] or [""]
    return "".join(char if char.isprintable() else " " for char in lines[0][:length])


def failure(sample: str, said: str, attempts: int | None, seconds: float) -> str:
    """Why there is no judgement, in one line."""
    tried = "" if attempts is None else f", {attempts} question{'' if attempts == 1 else 's'} to the model"
    return f"sample {sample}: {said} (after {seconds:.1f} s{tried})"


def describe(settings: Mapping[str, Any], kind: str) -> str:
    """What a message calls an instrument of a library."""
    metric = settings.get("metric")
    return f"{kind} {metric}" if metric else kind


def _shown(value: object) -> str:
    return "no value" if value is None else f"a {type(value).__name__}"
