"""Answers of which a suite knows what they are: canaries, which each session shows its judges."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from evalgate.errors import TaskError


def known_answers(good: Sequence[str], bad: Sequence[str], where: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Good ones and bad ones, checked (TaskError).

    Args:
        good: answers that are good whatever was asked.
        bad: answers that are bad whatever was asked.
        where: for messages.
    """
    known = texts(good, "good", where, blank=True), texts(bad, "bad", where, blank=True)
    if both := sorted({*known[0]} & {*known[1]}):
        raise TaskError(f"the answer {both[0]!r} is said to be good and bad", where=where)
    return known


def texts(given: Sequence[str], what: str, where: str, *, blank: bool = False) -> tuple[str, ...]:
    """A list of different texts, not one text (TaskError); `blank` ones only where they may mean something."""
    if isinstance(given, str):
        raise TaskError(
            f"{what} is the text {given!r:.80}, expected a list of texts", where=where, mend=f"Write {what}=[…]."
        )
    found = tuple(given) if isinstance(given, Iterable) else (given,)
    if not all(isinstance(text, str) and (blank or text.strip()) for text in found):
        raise TaskError(f"{what} is {given!r:.80}, expected a list of {'texts' if blank else 'names'}", where=where)
    doubled = next((text for text in found if found.count(text) > 1), None)
    if doubled is not None:
        raise TaskError(f"{what} names {doubled!r} twice", where=where)
    return found
