"""Sums of two whole numbers below a hundred."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from evalgate import Sampling, Task, exact_match, jsonl, numeric

sums = Task(
    samples=jsonl("data/sums.jsonl", digest="sha256:a1345fe4f327e650c1c6c998e9569fec9d32fc95099f653d94d860581a1108b6"),
    prompt="Q: {{ a }}+{{ b }}=\nA:",
    sampling=Sampling(max_tokens=8, stop=("\n",)),
    scorers=[exact_match(), numeric(tolerance=1)],
    slices=("digits", "carry"),
)


def test_two_digit_sums_hold(evaluate: Callable[[Task], Any]) -> None:
    """A line of our own beside the gate; v1 and v2 stay above it, v3 does not."""
    frame = evaluate(sums).frame
    assert frame.query("digits == 2")["exact_match"].mean() >= 0.80
