"""How well the model predicts plain shop prose, in bits per byte."""

from __future__ import annotations

from evalgate import Task, bits_per_byte, jsonl

prose = Task(
    samples=jsonl("data/prose.jsonl", digest="sha256:eaf3e390e250b406fcd667c8e73cd647b80b8841c8d8a13f8c26c9f6eff71db5"),
    prompt="",
    scorers=[bits_per_byte()],
)
