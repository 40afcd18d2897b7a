"""A judge of the fake engine that knows the truth: right where the answer is the reference, wrong elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

from evalgate.instrument import Case, Instrument, Job, JudgeModel
from evalgate.judges import canaries, native
from evalgate.preflight import load_added_tokens, read_checkpoint

V1 = Path(__file__).parents[2] / "fixtures/checkpoints/v1"


def answers(judge: Instrument, cases: Sequence[Case], liked: Mapping[str, str] | None = None) -> dict[str, str]:
    """Prompt to label, for the cases and for the canaries that a session makes of them.

    Args:
        judge: native.
        cases: everything that can be asked.
        liked: answers to labels that the judge gives them, against the truth.
    """
    checkpoint = read_checkpoint(V1)
    model = JudgeModel("tiny", checkpoint, "engine", load_added_tokens(checkpoint))
    found: dict[str, str] = {}
    for case in chain(cases, (canary.case for canary in canaries.canaries(judge, cases))):
        for order, ((message,), best) in enumerate(
            zip(native.conversations(Job(judge, case, model)), ("A", "B"), strict=False)
        ):
            found[f"<|bos|><|user|>{message['content']}<|assistant|>"] = (
                _preferred(case, best, order) if judge.pairwise else (liked or {}).get(case.answer, _grade(judge, case))
            )
    return found


def _grade(judge: Instrument, case: Case) -> str:
    return f"{judge.high if case.answer == case.reference else judge.low:g}"


def _preferred(case: Case, ours: str, order: int) -> str:
    right = [answer == case.reference for answer in (case.answer, case.other)]
    return "C" if right[0] == right[1] else ours if right[0] else "AB"[1 - order]


def table(name: str, labels: Mapping[str, str], model: str = "runs/judge") -> str:
    """The judge as a table of pyproject.toml."""
    lines = "\n".join(f"{json.dumps(prompt)} = {json.dumps(label)}" for prompt, label in labels.items())
    return (
        f'[tool.evalgate.judges.{name}]\nmodel = "{model}"\nengine = "fake"\n'
        f"[tool.evalgate.judges.{name}.checkpoints.{Path(model).name}]\n{lines}\n"
    )
