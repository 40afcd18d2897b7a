"""What each field of a record must be: own checks, since a validator that turns 1 into 1.0 would change the digest."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Set
from dataclasses import MISSING, fields
from typing import Any

from evalgate.errors import RecordError
from evalgate.evaluation import Row

MEND = "Restore the file from git or a backup, or delete it and record the evaluation again."

_Test = Callable[[Any], bool]
Shape = Mapping[str, tuple[_Test, str]]


def check(value: Mapping[str, Any], shape: Shape, where: str, *, required: Set[str] | None = None) -> None:
    """Refuse an object with an unknown field, a field of the wrong type or (by default any) field missing."""
    for key, item in value.items():
        if key not in shape:
            raise RecordError(f"unknown field {key!r}", where=where, mend=MEND)
        good, expected = shape[key]
        if not good(item):
            raise RecordError(f"{key} is {shown(item)}, expected {expected}", where=where, mend=MEND)
    if missing := (shape.keys() if required is None else required) - value.keys():
        raise RecordError(f"the field {min(missing)!r} is missing", where=where, mend=MEND)


def shown(value: Any) -> str:
    """A value as messages show it: at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= sys.float_info.max  # false for NaN and infinity


def _count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _object(value: Any) -> bool:
    return isinstance(value, dict)


def _list_of(test: _Test) -> _Test:
    return lambda value: isinstance(value, list) and all(map(test, value))


def _map_of(test: _Test) -> _Test:
    return lambda value: isinstance(value, dict) and all(map(test, value.values()))


def _or_none(test: _Test) -> _Test:
    return lambda value: value is None or test(value)


_TEXT = (_text, "text")
_TEXTS = (_list_of(_text), "a list of texts")
_TEXT_MAP = (_map_of(_text), "an object of texts")
_COUNT = (_count, "a count")
_OBJECT = (_object, "an object")
_BOOL = (lambda value: isinstance(value, bool), "true or false")
_BOUND = (_or_none(_number), "a finite number or null")

HEADER: Shape = {
    "evalgate": (_count, "a format number"),
    "kind": (lambda value: value == "evaluation", "'evaluation'"),
    "digest": _TEXT,
    "rows": (_count, "a count"),
    "margins": _TEXT,
    "task": _TEXT,
    "checkpoint": (
        lambda value: _object(value) and _text(value.get("name")) and _text(value.get("digest")),
        "an object with name and digest",
    ),
    "prompt": _TEXT,
    "sampling": _OBJECT,
    "seed": (lambda value: type(value) is int, "a whole number"),
    "samples": _TEXT,
    "metrics": (_list_of(_object), "a list of objects"),
    "environment": _OBJECT,
    "provenance": _OBJECT,
    "policy": _OBJECT,
    "acceptance": (_or_none(_object), "an object or null"),
}
METRIC: Shape = {
    "name": _TEXT,
    "digest": _TEXT,
    "low": _BOUND,
    "high": _BOUND,
    "binary": _BOOL,
    "higher_is_better": _BOOL,
    "weighted": _BOOL,
    "judge": _TEXT,
    "against": _TEXT,
}
METRIC_REQUIRED = frozenset(METRIC) - {"judge", "against"}
ACCEPTANCE: Shape = {
    "by": _TEXT,
    "at": _TEXT,
    "why": _TEXT,
    "previous": (_or_none(_text), "text or null"),
    "anchor": _TEXT,
    "selected_from": (_count, "a count"),
}
ROW: Shape = {
    "id": _TEXT,
    "pair": _TEXT,
    "prompt": _TEXT,
    "target": (lambda value: True, "anything"),
    "outputs": _TEXTS,
    "scores": (_map_of(_number), "an object of finite numbers"),
    "notes": _TEXT_MAP,
    "slices": _TEXT_MAP,
    "cluster": _TEXT,
    "weight": (lambda value: _number(value) and value >= 0, "a finite number from 0"),
    "finish": _TEXTS,
    "tokens": (lambda value: _list_of(_count)(value) and len(value) == 2, "two counts"),
    "error": _TEXT,
    "look": _COUNT,
    "margin": (lambda value: _number(value) and value >= 0, "a finite number from 0"),
    "faults": _TEXT_MAP,
}
ROW_REQUIRED = frozenset(f.name for f in fields(Row) if f.default is MISSING and f.default_factory is MISSING)
