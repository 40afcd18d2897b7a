"""Tasks for inspect_ai over our own eval data; `make.py` runs them, and evalgate never imports inspect_ai."""

# mypy: disallow-untyped-decorators=False, disallow-subclassing-any=False

from __future__ import annotations

import json
import math
from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import GenerateConfig
from inspect_ai.scorer import Score, Scorer, Target, accuracy, exact, includes, mean, scorer
from inspect_ai.solver import Generate, Solver, TaskState, generate, solver

DATA = Path(__file__).parents[2] / "evalsuites/data/chat.jsonl"


@task
def chat(samples: int = 30) -> Task:
    """Chat questions of the shop, two draws each, two scorers."""
    rows = [json.loads(line) for line in DATA.read_text("utf-8").splitlines()[:samples]]
    return Task(
        dataset=MemoryDataset([Sample(id=r["id"], input=r["message"], target=r["target"]) for r in rows], name="chat"),
        solver=generate(),
        scorer=[exact(), includes()],
        epochs=2,
        config=GenerateConfig(max_tokens=48, temperature=0.8, seed=7),
        version=2,
    )


@solver
def breaks_on(sample: str) -> Solver:
    """Answers like `generate`, but raises for one sample."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        if state.sample_id == sample:
            raise ValueError("the tool of this sample\ndid not answer")
        return await generate(state)

    return solve


@scorer(metrics={"length": [mean()], "polite": [accuracy()]})
def manners() -> Scorer:
    """Two values at once: how long the answer is, and whether it is polite."""

    async def score(state: TaskState, target: Target) -> Score:
        said = state.output.completion
        return Score(value={"length": len(said), "polite": "C" if "please" in said.lower() else "I"})

    return score


@scorer(metrics=[mean()])
def unsure() -> Scorer:
    """Gives no value for one sample."""

    async def score(state: TaskState, target: Target) -> Score:
        if state.sample_id == "q3":
            return Score.unscored(explanation="no grade in the judge's answer")
        return Score(value=math.pi)

    return score


@task
def rough(fragile: bool = False) -> Task:
    """A few samples of which one breaks and one gets no score; as `fragile` the break ends the run."""
    samples = [Sample(id=f"q{i}", input=f"What is {i}+{i}?", target=str(2 * i)) for i in range(1, 7)]
    return Task(
        dataset=MemoryDataset(samples, name="rough"),
        solver=breaks_on("q5"),
        scorer=[includes(), manners(), unsure()],
        config=GenerateConfig(max_tokens=32),
        fail_on_error=fragile,
        version=1,
    )
