"""The messages between parent and child: one JSON object a line, never pickle.

Parent to child: `start` (once), then for every batch its `ask` lines and one `run`. Child to parent: `ready` (once),
then for every batch an `environment`, its `answer` lines and `done`, or `decline` where a checkpoint needs a child of
its own; `fail` at any time, as the last message.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from evalgate import errors
from evalgate.checkpoint import Checkpoint
from evalgate.request import Completion, Request

REQUEST = tuple(spec.name for spec in fields(Request))
COMPLETION = tuple(spec.name for spec in fields(Completion))


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a child is started with.

    Attributes:
        engine: name of the engine.
        options: its own settings.
        device: device class that the cache's key says (`cpu`, `cuda`); the child refuses to answer on another.
        checkpoints: all that this child may be asked, versions of one architecture.
        first: digest of the checkpoint that is loaded at the start.
        max_length: longest request in tokens, `None` where nobody knows.
        scratch: folder for merged weights; it belongs to the parent, which removes it.
    """

    engine: str
    options: Mapping[str, Any]
    device: str
    checkpoints: Sequence[Checkpoint]
    first: str
    max_length: int | None
    scratch: str


def line(kind: str, value: Any = None) -> str:
    """One message. ASCII only, so that lone surrogates and every line separator travel escaped."""
    return json.dumps({kind: value}, allow_nan=False, separators=(",", ":")) + "\n"


def message(text: str | bytes) -> tuple[str, Any]:
    """Kind and value of one line."""
    ((kind, value),) = json.loads(text).items()
    return kind, value


def start_to_json(start: Start) -> dict[str, Any]:
    """JSON object of the first message."""
    return asdict(start)


def start_from_json(value: Mapping[str, Any]) -> Start:
    """The first message."""
    return Start(**{**value, "checkpoints": tuple(map(_checkpoint, value["checkpoints"]))})


def _checkpoint(value: Mapping[str, Any]) -> Checkpoint:
    base = _checkpoint(value["base"]) if value["base"] else None
    return Checkpoint(**{**value, "stop_token_ids": tuple(value["stop_token_ids"]), "base": base})


def request_to_json(request: Request) -> dict[str, Any]:
    """JSON object of a request."""
    return {name: getattr(request, name) for name in REQUEST}


def request_from_json(value: Mapping[str, Any]) -> Request:
    """A request."""
    messages = value["messages"]
    tuples = {name: tuple(value[name]) for name in ("continuations", "stop")}
    return Request(**{**value, **tuples, "messages": None if messages is None else tuple(messages)})


def completion_to_json(completion: Completion) -> dict[str, Any]:
    """JSON object of a completion."""
    return {name: getattr(completion, name) for name in COMPLETION}


def completion_from_json(value: Mapping[str, Any]) -> Completion:
    """A completion."""
    return Completion(**{**value, "logprobs": tuple(value["logprobs"]), "greedy": tuple(value["greedy"])})


def error_to_json(error: errors.EvalgateError) -> dict[str, Any]:
    """JSON object of an error that the child raised."""
    return {"kind": type(error).__name__, "what": error.what, "where": error.where, "mend": error.mend}


def error_from_json(value: Mapping[str, Any]) -> errors.EvalgateError:
    """The child's error, of its own class, for the parent to raise."""
    kind = getattr(errors, value["kind"], errors.EngineError)
    if kind is errors.MissingExtraError:
        return errors.MissingExtraError(value["library"], value["extra"])
    raised: errors.EvalgateError = kind(value["what"], where=value["where"], mend=value["mend"])
    return raised
