"""The noise floor on real vLLM and on transformers: the baseline's prompts asked again beside a candidate's."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest

from evalgate.cache import Cache
from evalgate.engines import EngineSettings
from evalgate.evaluate import Evaluator, assemble
from evalgate.evaluation import Evaluation
from evalgate.noise import NoiseFloor, canary, measure
from evalgate.plan import Plan
from evalgate.preflight import read_checkpoint
from evalgate.scoring import choice, exact_match
from evalgate.task import Sampling, Task

ROOT = Path(__file__).parents[2]
SHORT = Sampling(max_tokens=12, stop=("\n",))
ORDER = {"type": "object", "properties": {"qty": {"type": "integer"}}, "required": ["qty"]}


class Told:
    """Progress that remembers what it was told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def start(self, total: int, known: int, unit: str = "answers") -> None:
        """Nothing."""

    def advance(self, count: int, note: str = "") -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Note a line."""
        self.said.append(text)

    def stop(self) -> None:
        """Nothing."""


def rows(name: str, count: int) -> list[dict[str, str]]:
    with (ROOT / "evalsuites" / "data" / f"{name}.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line) for line, _ in zip(file, range(count), strict=False)]


@cache
def tasks() -> dict[str, Task]:
    """Greedy, drawn, held by a schema, and one that generates nothing; a function, or this module were a suite."""
    return {
        "s/sums": Task(
            samples=rows("sums", 40), prompt="Q: {{ a }}+{{ b }}=\nA:", sampling=SHORT, scorers=[exact_match()]
        ),
        "s/drawn": Task(
            samples=rows("sorting", 40),
            prompt="Sort: {{ numbers }}\nA:",
            sampling=replace(SHORT, temperature=0.8, n=2),
            scorers=[exact_match()],
        ),
        "s/schema": Task(
            samples=[{"id": f"o{n}", "n": n, "target": ""} for n in range(20)],
            prompt="Order: {{ n }} figs\nJSON:",
            sampling=Sampling(max_tokens=24, json_schema=ORDER),
            scorers=[exact_match()],
        ),
        "s/reviews": Task(
            samples=rows("reviews", 40), prompt="Review: {{ text }}\nLabel (P/N/M): ", scorers=[choice("P", "N", "M")]
        ),
    }


@dataclass(frozen=True)
class Run:
    """One evaluator's work: records by task, what was said, and the noise floor where a canary rode along."""

    records: dict[str, Evaluation]
    said: list[str]
    floor: NoiseFloor | None


def run(
    folder: Path, engine: str, candidate: str, baselines: dict[str, Evaluation] | None = None, also: bool = False
) -> Run:
    """Evaluate a fixture on all tasks, with v1 as the canary's checkpoint where baselines are given."""
    checkpoints = ROOT / "fixtures" / "checkpoints"
    v1 = read_checkpoint(checkpoints / "v1")
    told = Told()
    settings = EngineSettings(name=engine, log_dir=folder / "logs")
    with Cache(folder / "cache.sqlite") as known:
        made = Evaluator([read_checkpoint(checkpoints / candidate)], settings, known, told, also=[v1] if also else [])
        plans = [made.plan(name, task)[0] for name, task in tasks().items()]
        asked = canary(baselines or {}, plans, v1)
        answers = made.answer(Plan(tuple(plans)), asked.requests)
        floor = measure(asked, answers.canary, made.asker.reported(v1)) if baselines else None
        made.close()
    records = {plan.id: assemble(plan, answers.completions, environment={}, provenance={}, policy={}) for plan in plans}
    return Run(records, told.said, floor)


@pytest.fixture(scope="module", params=["vllm", "transformers"])
def shipped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Run]:
    """The baseline: v1 evaluated alone, in an engine of its own."""
    return request.param, run(tmp_path_factory.mktemp("shipped"), request.param, "v1")


def altered(records: dict[str, Evaluation]) -> dict[str, Evaluation]:
    """Sums that say ten times what v1 says."""
    sums = records["s/sums"]
    return records | {"s/sums": replace(sums, rows=tuple(replace(r, outputs=(f"{r.outputs[0]}0",)) for r in sums.rows))}


def test_the_base_under_an_adapter_repeats_itself(shipped: tuple[str, Run], tmp_path: Path) -> None:
    """v1 answers again beside v2, its adapter, in the one child: 48 prompts, token-identical, greedy, drawn or held."""
    engine, baseline = shipped
    beside = run(tmp_path, engine, "v2", baseline.records)
    floor = beside.floor
    assert floor is not None
    assert floor.said.startswith("noise floor: 48 baseline prompts of v1 answered again, token-identical"), floor.said
    assert floor.said.endswith(f"(batch invariance off, {floor.engine['device']})")
    assert floor.noise is not None
    assert floor.noise < 1e-3
    assert sum(text.startswith("starting") for text in beside.said) == 1
    assert beside.records["s/sums"].digest != baseline.records["s/sums"].digest


def test_altered_baselines_are_found(shipped: tuple[str, Run], tmp_path: Path) -> None:
    """The negative control, beside another full checkpoint: v1 is swapped in, and what it did not say is named."""
    engine, baseline = shipped
    beside = run(tmp_path, engine, "v4-full", altered(baseline.records), also=True)
    floor = beside.floor
    assert floor is not None
    assert floor.prompts == 48
    assert len(floor.differ) == 16, "a third of the canary, and nothing else"
    different = {name.removeprefix("s/sums::") for name in floor.differ}
    right = {row.id for row in baseline.records["s/sums"].rows if row.scores["exact_match"] == 1}
    assert set(floor.flips) == {"s/sums::exact_match"}
    assert set(floor.flips["s/sums::exact_match"]) == different & right
    assert floor.flipped > 8
    assert sum(text.startswith("starting") for text in beside.said) == 1
