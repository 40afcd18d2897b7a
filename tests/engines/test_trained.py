from __future__ import annotations

import json
from pathlib import Path

import pytest

from evalgate.checkpoint import Checkpoint
from evalgate.engines import EngineProcess
from evalgate.preflight import read_checkpoint
from evalgate.request import Completion, Request
from tests.engines.conftest import Start
from tests.engines.workload import SCHEMA, answers, greedy_share, largest_gap, largest_margin_gap, requests

ROOT = Path(__file__).parents[2]
NAMES = ("v1", "v2", "v3", "v4-full")


@pytest.fixture(scope="module")
def trained() -> dict[str, Checkpoint]:
    """The trained tiny model: base, two adapters, and another full fine-tune; its head is tied to the embeddings."""
    folder = ROOT / "fixtures" / "checkpoints"
    return {name: read_checkpoint(folder / name) for name in NAMES}


def rows(name: str, count: int) -> list[dict[str, str]]:
    with (ROOT / "evalsuites" / "data" / f"{name}.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line) for line, _ in zip(file, range(count), strict=False)]


def written(checkpoint: Checkpoint, prompt: str) -> Request:
    return Request(checkpoint.digest, prompt, max_tokens=24, stop=("\n",))


def questions(checkpoint: Checkpoint) -> list[Request]:
    """Of the evalsuites: sums, sorting, refusals to write, reviews to choose, prose to weigh; schema and seeds too."""
    name = checkpoint.digest
    asked = [written(checkpoint, f"Q: {row['a']}+{row['b']}=\nA:") for row in rows("sums", 40)]
    asked += [written(checkpoint, f"Sort: {row['numbers']}\nA:") for row in rows("sorting", 40)]
    asked += [written(checkpoint, f"Customer: {row['text']}\nShop:") for row in rows("refusals", 40)]
    labels = ("P", "N", "M")
    asked += [
        Request(name, f"Review: {row['text']}\nLabel (P/N/M): ", continuations=labels) for row in rows("reviews", 40)
    ]
    asked += [Request(name, "", continuations=(row["target"],)) for row in rows("prose", 10)]
    asked.append(Request(name, "Order: 3 figs", max_tokens=40, json_schema=SCHEMA))
    return asked + requests(checkpoint, questions=4)


@pytest.fixture(scope="module")
def together(start: Start, trained: dict[str, Checkpoint]) -> dict[str, Completion]:
    """Everything asked of all four in one call to one child."""
    said: list[str] = []
    engine = start("vllm", *trained.values(), on_event=said.append)
    per_checkpoint = [questions(trained[name]) for name in NAMES]
    given = answers(engine, [request for group in zip(*per_checkpoint, strict=True) for request in group])
    engine.close()
    assert sum(text.startswith("starting") for text in said) == 1
    return given


@pytest.mark.parametrize("name", NAMES)
def test_four_checkpoints_in_one_call_equal_four_calls(
    start: Start, trained: dict[str, Checkpoint], together: dict[str, Completion], name: str
) -> None:
    """Value for value: text, counts and every bit of the log-likelihoods, for base, adapters and swapped full weights.

    Without a fresh prefix cache per batch, or with the old output head after a swap, they differ here.
    """
    asked = questions(trained[name])
    alone: EngineProcess = start("vllm", trained[name])
    given = answers(alone, asked)
    alone.close()
    assert [given[request.id] for request in asked] == [together[request.id] for request in asked]
    assert all(completion.error is None for completion in given.values())


def test_vllm_and_transformers_agree_on_a_trained_model(
    start: Start, trained: dict[str, Checkpoint], together: dict[str, Completion]
) -> None:
    """Greedy texts identical on at least 99 in 100 samples, log-likelihoods within 1e-3 nat; adapters and swap too."""
    fallback = start("transformers", *trained.values())
    for name in NAMES:
        asked = questions(trained[name])
        given = answers(fallback, asked)
        assert greedy_share(asked, together, given) >= 0.99, name
        assert largest_gap(asked, together, given) < 1e-3, name
        assert largest_margin_gap(asked, together, given) < 1e-3, name
    fallback.close()


def test_the_trained_model_can_do_its_sums(trained: dict[str, Checkpoint], together: dict[str, Completion]) -> None:
    """The control: these are answers, not noise, so agreement means something."""
    sums = rows("sums", 40)
    texts = [together[written(trained["v1"], f"Q: {row['a']}+{row['b']}=\nA:").id].text.strip() for row in sums]
    right = [text == row["target"] for text, row in zip(texts, sums, strict=True)]
    assert sum(right) / len(right) > 0.5
