"""Models behind an endpoint are planned, asked and cached like checkpoints on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from evalgate.cache import Cache
from evalgate.engines import EngineSettings
from evalgate.engines.endpoint import endpoint
from evalgate.evaluate import Evaluator
from evalgate.plan import Plan
from evalgate.scoring import choice, exact_match
from evalgate.task import Task
from tests.judges.faulty import FaultyServer

ROWS = [{"id": f"s{i}", "a": i, "target": str(2 * i)} for i in range(12)]
PLAIN = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "twice {{ a }}"}]


class Silent:
    """Progress that nobody sees."""

    def start(self, total: int, known: int, unit: str = "answers") -> None:
        """Nothing."""

    def advance(self, count: int, note: str = "") -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""


def right(body: Mapping[str, Any]) -> str:
    """The right answer to `twice N`."""
    said = body["prompt"] if "prompt" in body else body["messages"][-1]["content"]
    return str(2 * int(str(said).removeprefix("twice ").removesuffix(":")))


@pytest.fixture
def clever() -> Iterator[FaultyServer]:
    """A server that knows the answers."""
    with FaultyServer(reply=right, retry_after="0.1") as server:
        yield server


def evaluator(server: FaultyServer, cache: Cache, folder: Path, **options: Any) -> Evaluator:
    """Of one model."""
    settings = EngineSettings(name="openai", options=options, log_dir=folder / "logs")
    return Evaluator([endpoint(server.url, "judge")], settings, cache, Silent())


def task(prompt: Any = "twice {{ a }}:", **changes: Any) -> Task:
    """Twelve samples."""
    return Task(**{"samples": ROWS, "prompt": prompt, "scorers": [exact_match()]} | changes)


@pytest.mark.parametrize(
    ("fault", "prompt"),
    [("429", PLAIN), ("hang", "twice {{ a }}:"), ("truncated", PLAIN), ("wrong-model", "twice {{ a }}:")],
    ids=["429", "hang", "truncated", "wrong-model"],
)
def test_good_answers_are_kept_and_the_rest_is_asked_again(
    fault: str, prompt: Any, clever: FaultyServer, tmp_path: Path
) -> None:
    """Half the questions meet a fault; with a healthy server only they are asked again, and then none is."""
    with Cache(tmp_path / "cache.sqlite") as cache:
        made = evaluator(clever, cache, tmp_path)
        (plan,) = made.plan("suite/twice", task(prompt))
        half = Plan((plan,)).requests[:6]
        assert not any(c.error for c in made.asker.answer(half).completions.values())
        made.close()
        clever.become(fault)
        hasty = evaluator(clever, cache, tmp_path, total_timeout=0.6, read_timeout=0.2)
        found = hasty.answer(Plan((plan,)))
        assert sum(1 for completion in found.completions.values() if completion.error) == 6
        hasty.close()
        clever.become("healthy")
        again = evaluator(clever, cache, tmp_path)
        mended = again.answer(Plan((plan,)))
        assert (mended.cached, mended.generated) == (6, 6)
        texts = {mended.completions[question.generations[0].id].text for question in plan.questions}
        assert texts == {row["target"] for row in ROWS}
        assert again.answer(Plan((plan,))).generated == 0
        assert again.asker.environment(plan.checkpoint)["answered_by"] == "judge"
        again.close()


def test_a_conversation_travels_as_it_was_declared(clever: FaultyServer, tmp_path: Path) -> None:
    """No template is applied here; records show the messages."""
    with Cache(tmp_path / "cache.sqlite") as cache:
        made = evaluator(clever, cache, tmp_path)
        (plan,) = made.plan("suite/twice", task(PLAIN))
        assert not any(c.error for c in made.answer(Plan((plan,))).completions.values())
        made.close()
    sent = {json.dumps(seen.body["messages"], sort_keys=True) for seen in clever.seen}
    declared = [[PLAIN[0], {"role": "user", "content": f"twice {i}"}] for i in range(12)]
    assert sent == {json.dumps(messages, sort_keys=True) for messages in declared}
    assert json.loads(plan.questions[0].prompt) == [PLAIN[0], {"role": "user", "content": "twice 0"}]


def test_choices_of_a_conversation_are_labels(clever: FaultyServer, tmp_path: Path) -> None:
    """One question a sample gives the log-probs of all its choices."""
    with Cache(tmp_path / "cache.sqlite") as cache:
        made = evaluator(clever, cache, tmp_path)
        rows = [{"id": "s1", "target": "2"}]
        declared = [{"role": "user", "content": "Which?"}]
        (plan,) = made.plan("suite/which", task(declared, samples=rows, scorers=[choice("1", "2", "3")]))
        (found,) = made.answer(Plan((plan,))).completions.values()
        made.close()
    assert (found.error, len(found.logprobs), clever.count) == (None, 3, 1)
