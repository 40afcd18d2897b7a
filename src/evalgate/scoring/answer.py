"""What the answer in a completion is, and what a target says as text."""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from typing import Any

# A sign counts only where it cannot be a minus between two operands or a dash in a word; a number begins neither inside
# a word (v2) nor behind another's point (1.2.3). Groups of three share one separator: 1,234,567 or 1'234'567.
_NUMBER = re.compile(
    r"""(?<!\w)(?<!\d\.)
    (?P<sign>(?<![\w)\]])[-+\u2212])?[$€£¥]?
    (?P<whole>\d{1,3}(?:(?P<gap>[,_'\u2019\u00a0\u2009\u202f])\d{3}(?:(?P=gap)\d{3})*)(?!\d)|\d+|(?<!\.)(?=\.\d))
    (?P<rest>(?:\.\d+)?(?:[eE][-+]?\d+)?)""",
    re.VERBOSE,
)


def strip_reasoning(text: str, markers: tuple[str, str]) -> str:
    """The answer without its reasoning.

    Every stretch from the start marker to the next end marker is cut. A start marker that is never closed means that
    there is no answer yet: everything from it on is cut. An end marker that was never opened closes reasoning that the
    chat template began: everything before it is cut.

    Args:
        text: what the model wrote.
        markers: start and end, such as `("<think>", "</think>")`.
    """
    start, end = markers
    outside = re.sub(f"{re.escape(start)}.*?(?:{re.escape(end)}|\\Z)", "", text, flags=re.DOTALL)
    return outside.rpartition(end)[2]


def as_text(target: Any) -> str:
    """A target as text: texts as they are, numbers and booleans as JSON writes them.

    Raises:
        TypeError: the target is missing, a list or an object.
    """
    if isinstance(target, str):
        return target
    if isinstance(target, int | float):
        return json.dumps(target)
    raise TypeError(f"expected a text or a number as target, found {kind(target)}")


def last_number(text: str) -> Decimal | None:
    """The last number of a text, exactly: with sign, thousands separators, decimal point and exponent; else `None`."""
    found = None
    for found in _NUMBER.finditer(text):  # noqa: B007 (the last one is wanted)
        pass
    if found is None:
        return None
    whole = found["whole"].replace(found["gap"], "") if found["gap"] else found["whole"]
    try:
        number = Decimal(f"{whole}{found['rest']}")
    except InvalidOperation:  # an exponent beyond what can be computed with
        return None
    return number.copy_negate() if found["sign"] in ("-", "\u2212") else number


def kind(value: Any) -> str:
    """What a JSON value is called in messages."""
    for types, name in (
        (type(None), "nothing"),
        (bool, "true or false"),
        (int | float, "a number"),
        (str, "a text"),
        (list | tuple, "a list"),
        (dict, "an object"),
    ):
        if isinstance(value, types):
            return name
    return f"a {type(value).__name__}"
