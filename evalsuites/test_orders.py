"""A customer's words as an order in JSON, written freely and under a schema."""

from __future__ import annotations

import json

from evalgate import Gate, Sample, Sampling, Score, Task, function, json_schema, jsonl

ORDER = {
    "type": "object",
    "properties": {
        "items": {
            "type": "array",
            "minItems": 1,
            "maxItems": 2,
            "items": {
                "type": "object",
                "properties": {"qty": {"type": "integer"}, "item": {"type": "string"}},
                "required": ["qty", "item"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["items"],
    "additionalProperties": False,
}


def same_order(output: str, sample: Sample) -> Score:
    """Whether the output is JSON and says exactly what was ordered, whatever its white space and order of keys."""
    try:
        order = json.loads(output)
    except ValueError as error:
        return Score(0.0, explanation=f"not JSON: {error}")
    return Score(float(order == sample.target), answer=json.dumps(order))


ROWS = jsonl("data/orders.jsonl", digest="sha256:5a574a9311c0cfca83de90f714349e3dafd482aa0f23c77758407b26e56e9ca0")
PROMPT = "Order: {{ text }}\nJSON:"
SLICES = ("phrasing", "items")

orders = Task(
    samples=ROWS,
    prompt=PROMPT,
    sampling=Sampling(max_tokens=96, stop=("\n",)),
    scorers=[function(same_order, binary=True, gate=Gate(floor=0.30)), json_schema(ORDER)],
    slices=SLICES,
)

orders_structured = Task(
    samples=ROWS,
    prompt=PROMPT,
    sampling=Sampling(max_tokens=96, json_schema=ORDER),
    scorers=[function(same_order, binary=True)],
    slices=SLICES,
)
