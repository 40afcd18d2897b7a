"""The plan: requests from samples and prompts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalgate.checkpoint import Checkpoint
from evalgate.digest import digest
from evalgate.plan import Plan, TaskPlan, derive_seed, fresh_seed, pair_digest, plan_task
from evalgate.scoring import bits_per_byte, choice, exact_match
from evalgate.task import Sample, Sampling, Task

V1 = Checkpoint("v1", None, "full", digest("w"), digest("t"), None, "LlamaForCausalLM", 2048)
SAMPLES = tuple(Sample(f"s{i}", {"a": i}, target="ab"[i % 2]) for i in range(4))


def planned(
    task: Task, prompts: list[str] | None = None, checkpoint: Checkpoint = V1, again: int | None = None
) -> TaskPlan:
    """A plan of the four samples."""
    texts = prompts or [f"Q{sample.id}" for sample in SAMPLES]
    return plan_task("suite/task", task, SAMPLES, texts, checkpoint, digest("samples"), again)


def task(**changes: Any) -> Task:
    """A task with a text prompt and exact match."""
    return Task(**{"samples": [], "prompt": "{{ a }}", "scorers": [exact_match()]} | changes)


def test_a_text_scorer_asks_for_one_generation() -> None:
    """One sample, one request, with the task's sampling."""
    (question, *_) = planned(task(sampling=Sampling(max_tokens=7, stop=("\n",)))).questions
    (request,) = question.requests
    assert (request.prompt, request.max_tokens, request.stop, request.continuations) == ("Qs0", 7, ("\n",), ())
    assert request.special_tokens


def test_k_generations_have_seeds_of_their_own() -> None:
    """n=3 draws three different completions per question."""
    (question, *_) = planned(task(sampling=Sampling(n=3, temperature=1.0))).questions
    assert len({request.id for request in question.requests}) == 3


def test_a_chat_prompt_brings_its_own_special_tokens() -> None:
    """The template has written them; the tokenizer must not add them twice."""
    (question, *_) = planned(task(prompt=[{"role": "user", "content": "{{ a }}"}])).questions
    assert not question.generations[0].special_tokens


def test_log_likelihood_scorers_generate_nothing() -> None:
    """Choice and bits per byte ask for continuations only; mixed with a text scorer, both are asked."""
    (scored, *_) = planned(task(scorers=[choice("a", "b"), bits_per_byte()])).questions
    assert not scored.generations
    assert scored.scored["choice"].continuations == ("a", "b")
    assert scored.scored["bits_per_byte"].continuations == ("a",)
    (mixed, *_) = planned(task(scorers=[exact_match(), choice("a", "b")])).questions
    assert len(list(mixed.requests)) == 2


def test_equal_requests_are_asked_once() -> None:
    """Two tasks with the same prompts share their answers."""
    one, other = planned(task()), planned(task(scorers=[exact_match(ignore_case=True)]))
    assert len(Plan((one, other)).requests) == 4
    assert len(Plan((planned(task(), ["same"] * 4),)).requests) == 1


def test_another_checkpoint_is_another_request() -> None:
    """Nothing is shared between checkpoints."""
    other = Checkpoint("v2", None, "full", digest("x"), digest("t"), None, "LlamaForCausalLM", 2048)
    assert len(Plan((planned(task()), planned(task(), checkpoint=other))).requests) == 8


def test_the_pair_is_prompt_target_and_options() -> None:
    """What pairs a sample with the baseline is what was asked and what is right, not its id."""
    plain = [question.pair for question in planned(task()).questions]
    assert plain == [question.pair for question in planned(task()).questions]
    assert plain[0] != planned(task(), ["changed", "Qs1", "Qs2", "Qs3"]).questions[0].pair
    one, other = (planned(task(scorers=[choice(*labels)])).questions[0].pair for labels in (("a", "b"), ("a", "c")))
    assert one != other


def test_a_prompt_for_each_sample_is_required() -> None:
    """A lost prompt is a fault, not a shorter plan."""
    with pytest.raises(ValueError, match="shorter"):
        planned(task(), ["only one"])


@given(st.integers(0, 2**31), st.text(min_size=1), st.integers(0, 100))
def test_seeds_depend_on_seed_sample_and_generation_alone(seed: int, sample: str, generation: int) -> None:
    """A seed fits 63 bits, is the same every time, and differs for the next generation and the next seed."""
    value = derive_seed(seed, sample, generation)
    assert 0 <= value < 2**63
    assert value == derive_seed(seed, sample, generation)
    assert len({value, derive_seed(seed, sample, generation + 1), derive_seed(seed + 1, sample, generation)}) == 3


def test_measuring_again_draws_with_other_seeds() -> None:
    """Another number is another request where tokens are drawn, and the same one where they are not."""
    drawn, greedy = task(sampling=Sampling(temperature=1.0, seed=5)), task(sampling=Sampling(seed=5))
    plain, one, two = (planned(drawn, again=again) for again in (None, 1, 2))
    assert plain.seed == 5
    assert len({request.id for plan in (plain, one, two) for request in Plan((plan,)).requests}) == 12
    assert one.seed == fresh_seed(5, 1) == planned(greedy, again=1).seed
    assert len(Plan((planned(greedy), planned(greedy, again=1))).requests) == 4


@given(st.integers(-(2**31), 2**63), st.integers(0, 100), st.text(min_size=1), st.integers(0, 100))
def test_a_fresh_seed_is_independent(seed: int, again: int, sample: str, generation: int) -> None:
    """Without a number it is the task's own; with one it fits 63 bits and is no seed of a request or of the next."""
    assert fresh_seed(seed, None) == seed
    value = fresh_seed(seed, again)
    assert 0 <= value < 2**63
    assert len({value, fresh_seed(seed, again + 1), derive_seed(seed, sample, generation)}) == 3


def test_the_pair_can_be_made_again_from_a_row() -> None:
    """Prompt, target and options of a question give its pair, so a stored row can be held against the data."""
    for question in planned(task(scorers=[exact_match(), choice("a", "b")])).questions:
        assert question.pair == pair_digest(question.prompt, question.sample.target, {"choice": ("a", "b")})
        assert question.pair != pair_digest(question.prompt, question.sample.target, {})
