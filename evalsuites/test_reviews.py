"""Is a review positive, negative or mixed? Read from the probabilities of the labels, without generating."""

from __future__ import annotations

from evalgate import Task, choice, jsonl

reviews = Task(
    samples=jsonl(
        "data/reviews.jsonl", digest="sha256:c2d7512785a3d9efdaa9bfefea2a0f66d97158f71dcc300416e88498a37178fc"
    ),
    prompt="Review: {{ text }}\nLabel (P/N/M): ",
    scorers=[choice("P", "N", "M")],  # each label is one token
    slices=("target", "views"),
)
