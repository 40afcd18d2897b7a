from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from evalgate.checkpoint import Checkpoint
from evalgate.engines import EngineProcess
from evalgate.engines.identity import device_class
from evalgate.errors import ConfigError, EngineError
from evalgate.request import Completion, Request
from tests.engines.conftest import Start
from tests.engines.workload import LONG, SCHEMA, answers, greedy_share, largest_gap, largest_margin_gap, requests

Checkpoints = dict[str, Checkpoint]
ALL = ("llama-a", "lora4", "lora8", "llama-b", "lora-b", "head", "dora", "zero", "still", "lost", "nan")
GOOD = ("llama-a", "lora4", "lora8", "llama-b", "lora-b", "head", "dora")
FAMILIES = ("gemma", "gpt2", "mistral", "qwen2", "qwen3")

Given = dict[str, Completion]


@pytest.fixture(scope="module")
def engine(start: Start, checkpoints: Checkpoints) -> EngineProcess:
    """One vLLM with everything of the llama family in it."""
    return start("vllm", *(checkpoints[name] for name in ALL))


@pytest.fixture(scope="module")
def fallback(start: Start, checkpoints: Checkpoints) -> EngineProcess:
    """One transformers engine with everything in it."""
    return start("transformers", *checkpoints.values())


@pytest.fixture(scope="module")
def together(engine: EngineProcess, checkpoints: Checkpoints) -> Given:
    """The workload of all good checkpoints in one call."""
    return answers(engine, requests(*(checkpoints[name] for name in GOOD)))


def test_vllm_says_what_plain_arithmetic_says(
    engine: EngineProcess, fallback: EngineProcess, checkpoints: Checkpoints, tiny: Path
) -> None:
    """Log-likelihoods and margins within 1e-3 nat, greedy tokens equal, to passes without cache or batch; both engines.

    The base's generation_config.json asks for a repetition penalty and a temperature of 3: it must change nothing.
    """
    oracle = json.loads((tiny / "oracle.json").read_text())
    base = checkpoints["llama-a"].digest
    scored = {
        Request(base, one["prompt"], continuations=(one["continuation"],)).id: one["logprob"]
        for one in oracle["scores"]
    }
    asked = [Request(base, one["prompt"], continuations=(one["continuation"],)) for one in oracle["scores"]]
    drawn = {Request(base, prompt, max_tokens=8).id: said for prompt, said in oracle["greedy"].items()}
    asked += [Request(base, prompt, max_tokens=8) for prompt in oracle["greedy"]]
    for subject in (engine, fallback):
        given = answers(subject, asked)
        assert max(abs(given[name].logprobs[0] - value) for name, value in scored.items()) < 1e-3
        for name, said in drawn.items():
            tokens = said["tokens"]
            assert given[name].completion_tokens == (tokens.index(1) + 1 if 1 in tokens else 8)
            assert given[name].margin == pytest.approx(min(said["gaps"][: given[name].completion_tokens]), abs=1e-3)
            # A character whose bytes are not all there yet is held back at the end of a text.
            assert given[name].text == said["text"][: len(given[name].text)]
            assert set(said["text"][len(given[name].text) :]) <= {"\ufffd"} or 1 in tokens


def test_vllm_and_transformers_agree(fallback: EngineProcess, checkpoints: Checkpoints, together: Given) -> None:
    """Base, LoRA, swapped full weights with their LoRA, merged DoRA and merged lm_head, against unmerged PEFT."""
    asked = requests(*(checkpoints[name] for name in GOOD), questions=4)
    other = answers(fallback, asked)
    for name in GOOD:
        mine = [request for request in asked if request.checkpoint == checkpoints[name].digest]
        assert greedy_share(mine, together, other) >= 0.99, name
        assert largest_gap(mine, together, other) < 1e-3, name
        assert largest_margin_gap(mine, together, other) < 1e-3, name


@pytest.mark.parametrize("which", ["engine", "fallback"])
def test_only_greedy_texts_have_a_margin(request: pytest.FixtureRequest, checkpoints: Checkpoints, which: str) -> None:
    """Draws and log-likelihoods have none, and neither has a text that a schema leaves no choice about."""
    base = checkpoints["llama-a"].digest
    free = Request(base, "margin", max_tokens=12)
    held = Request(base, "margin", max_tokens=12, json_schema={"enum": [17]})
    drawn = Request(base, "margin", max_tokens=12, temperature=0.5, seed=1)
    schema = Request(base, "margin", max_tokens=48, json_schema=SCHEMA)
    scored, label = Request(base, "m", continuations=("the cat",)), Request(base, "m", continuations=("a", "b"))
    given = answers(request.getfixturevalue(which), [free, held, drawn, schema, scored, label])
    margins = [given[one.id].margin for one in (free, held, drawn, schema, scored, label)]
    assert margins[1:3] == margins[4:] == [None, None]
    assert isinstance(margins[0], float)
    assert isinstance(margins[3], float)
    assert given[held.id].text == "17"
    assert min(margins[0], margins[3]) >= 0


@pytest.mark.parametrize("which", ["engine", "fallback"])
def test_what_else_is_asked_changes_no_margin(
    request: pytest.FixtureRequest, checkpoints: Checkpoints, which: str
) -> None:
    """Asked alone, or among choices by label, which in one step of vLLM would take the place of the margins."""
    base, subject = checkpoints["lora4"].digest, request.getfixturevalue(which)
    texts = [Request(base, f"the cat {n}", max_tokens=20 - n) for n in range(12)]
    among = [Request(base, f"label {n}:", continuations=("a", "b", "c")) for n in range(40)]
    alone, given = answers(subject, texts), answers(subject, [*among, *texts])
    assert [given[one.id].text for one in texts] == [alone[one.id].text for one in texts]
    assert [given[one.id].margin for one in texts] == pytest.approx([alone[one.id].margin for one in texts], abs=1e-5)


def test_batch_invariance_that_a_cpu_cannot_give_is_refused(
    start: Start, checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mode that is recorded is the mode that was on."""
    monkeypatch.setenv("VLLM_BATCH_INVARIANT", "1")
    subject = start("vllm", checkpoints["llama-a"])
    if device_class(subject.settings) == "cpu":
        with pytest.raises(EngineError, match=r"VLLM_BATCH_INVARIANT: .*needs a GPU"):
            answers(subject, requests(checkpoints["llama-a"], questions=1))
    else:
        answers(subject, requests(checkpoints["llama-a"], questions=1))
        assert subject.environment(checkpoints["llama-a"].digest)["determinism"] == "batch-invariant"


def test_checkpoints_really_differ(checkpoints: Checkpoints, together: Given) -> None:
    """The control of every comparison here: no two checkpoints give the same log-likelihoods."""
    for at, one in enumerate(GOOD):
        for two in GOOD[:at]:
            a, b = requests(checkpoints[one]), requests(checkpoints[two])
            pairs = [(together[x.id].logprobs, together[y.id].logprobs) for x, y in zip(a, b, strict=True)]
            assert any(x != y for x, y in pairs), (one, two)


def test_how_a_checkpoint_is_served_is_said(engine: EngineProcess, checkpoints: Checkpoints, together: Given) -> None:
    """The environment names version, dtype, device, and what became of an adapter."""
    served = {name: engine.environment(checkpoints[name].digest)["served"] for name in GOOD}
    assert served["llama-a"] == served["llama-b"] == "full"
    assert served["lora4"] == served["lora-b"] == "lora"
    assert served["dora"] == "merged (DoRA)"
    assert "lm_head" in served["head"]
    report = engine.environment(checkpoints["llama-a"].digest)
    assert {"version", "torch", "transformers", "dtype", "device", "device_name", "determinism", "threads"} <= set(
        report
    )
    assert report["determinism"] == "scheduling", "batch invariance is off unless it is asked for"


@pytest.mark.parametrize("which", ["engine", "fallback"])
@pytest.mark.parametrize(
    ("name", "why"),
    [("zero", "changes no log-prob"), ("still", "changes no log-prob"), ("lost", "lost: "), ("nan", "NaN or infinite")],
)
def test_a_checkpoint_that_cannot_be_trusted_is_refused_alone(
    request: pytest.FixtureRequest, checkpoints: Checkpoints, which: str, name: str, why: str
) -> None:
    """All-zero LoRA and DoRA, an adapter that matches no module, NaN weights: errors there; the base still answers."""
    subject: EngineProcess = request.getfixturevalue(which)
    asked = requests(checkpoints[name], checkpoints["llama-a"], questions=1)
    given = answers(subject, asked)
    for one in asked:
        error = given[one.id].error
        if one.checkpoint == checkpoints[name].digest:
            assert error is not None
            assert why in error
            assert "\n" not in error
        else:
            assert error is None


@pytest.mark.parametrize("which", ["engine", "fallback"])
def test_what_does_not_fit_is_an_error_with_tokens_and_limit(
    request: pytest.FixtureRequest, checkpoints: Checkpoints, which: str
) -> None:
    """Too long a prompt, too long a continuation, an answer that the context cuts; never a silent truncation."""
    base = checkpoints["llama-a"].digest
    prompt = Request(base, "z" * 300, max_tokens=4)
    continuation = Request(base, "z", continuations=("y" * 300, "x"))
    cut = Request(base, "z" * 250, max_tokens=64)
    fits = Request(base, "z" * 250, max_tokens=5)
    given = answers(request.getfixturevalue(which), [prompt, continuation, cut, fits])
    assert "302 tokens" in str(given[prompt.id].error)
    assert "limit is 256" in str(given[prompt.id].error)
    assert "too long" in str(given[continuation.id].error)
    assert "cut at the limit of 256 tokens: 251 of the prompt and 5 generated" in str(given[cut.id].error)
    assert given[fits.id].error is None
    assert all(not given[one.id].text and not given[one.id].logprobs for one in (prompt, continuation, cut))


@pytest.mark.parametrize("which", ["engine", "fallback"])
def test_odd_texts_are_answered_or_refused_one_by_one(
    request: pytest.FixtureRequest, checkpoints: Checkpoints, which: str
) -> None:
    """An empty prompt starts from bos; a lone surrogate and an empty continuation are errors; neighbours are well."""
    base = checkpoints["llama-a"].digest
    empty = Request(base, "", max_tokens=3, special_tokens=False)
    scored = Request(base, "", continuations=("the cat",), special_tokens=False)
    lone = Request(base, "\ud800", max_tokens=3)
    nothing = Request(base, "a", continuations=("b", ""))
    given = answers(request.getfixturevalue(which), [empty, scored, lone, nothing, Request(base, "fine", max_tokens=3)])
    assert given[empty.id].prompt_tokens == given[scored.id].prompt_tokens == 1
    assert given[scored.id].logprobs[0] < 0
    assert "surrogate" in str(given[lone.id].error)
    assert "continuation is empty" in str(given[nothing.id].error)
    assert sum(completion.error is not None for completion in given.values()) == 2


@pytest.mark.parametrize("which", ["engine", "fallback"])
def test_a_schema_is_enforced_or_refused(request: pytest.FixtureRequest, checkpoints: Checkpoints, which: str) -> None:
    """Even random weights write JSON of the schema; a schema that cannot be enforced is an error of that request."""
    base = checkpoints["llama-a"].digest
    good = [Request(base, f"json {n}", max_tokens=48, json_schema=SCHEMA) for n in range(4)]
    good.append(Request(base, "json", max_tokens=48, json_schema=SCHEMA, temperature=1.0, seed=3))
    bad = Request(base, "json", json_schema={"type": "no-such-type"})
    given = answers(request.getfixturevalue(which), [*good, bad, Request(base, "no schema", max_tokens=3)])
    for one in good:
        value = json.loads(given[one.id].text)
        assert set(value) == {"n", "ok"}
        assert 0 <= value["n"] <= 99
        assert given[one.id].finish == "stop"
    assert given[bad.id].error


@pytest.mark.parametrize("which", ["engine", "fallback"])
def test_a_seed_decides_its_own_request_only(
    request: pytest.FixtureRequest, checkpoints: Checkpoints, which: str
) -> None:
    """Alone or among others, in any order, the draw is the same; another seed draws something else."""
    base = checkpoints["llama-a"].digest
    drawn = [Request(base, "draw", max_tokens=8, temperature=1.5, seed=seed) for seed in (*range(12), 2**64 + 5)]
    subject = request.getfixturevalue(which)
    given = answers(subject, [*drawn, Request(base, "other", max_tokens=4)])
    assert answers(subject, drawn[3:4])[drawn[3].id].text == given[drawn[3].id].text
    assert len({given[one.id].text for one in drawn}) >= 12


@pytest.mark.parametrize("which", ["engine", "fallback"])
def test_stop_texts_end_a_completion_and_are_not_part_of_it(
    request: pytest.FixtureRequest, checkpoints: Checkpoints, which: str
) -> None:
    """The text is what came before the first stop."""
    base, subject = checkpoints["llama-a"].digest, request.getfixturevalue(which)
    free = Request(base, "the cat 3", max_tokens=12)
    text = answers(subject, [free])[free.id].text
    stop = text[len(text) // 2]
    held = Request(base, "the cat 3", max_tokens=12, stop=(stop, "never"))
    completion = answers(subject, [held])[held.id]
    assert completion.text == text.partition(stop)[0]
    assert completion.finish == "stop"


def test_scored_spans_inside_the_prefix_cache_are_computed_again(
    engine: EngineProcess, fallback: EngineProcess, checkpoints: Checkpoints
) -> None:
    """The same long text split at every place: what the cache holds of it was never scored, and is not believed."""
    base, text = checkpoints["llama-a"].digest, (LONG * 3)[:200]
    asked = [Request(base, text[:at], continuations=(text[at:],)) for at in range(1, 199, 3)]
    assert largest_gap(asked, answers(engine, asked), answers(fallback, asked)) < 1e-3


def test_other_stop_ids_on_the_same_weights_get_an_engine_of_their_own(
    start: Start, checkpoints: Checkpoints, together: Given
) -> None:
    """Stop ids come from the checkpoint. A swap that changes nothing is not believed: a fresh child answers instead."""
    base = checkpoints["llama-a"]
    twin = replace(base, name="twin", stop_token_ids=tuple(range(3, 260)))
    said: list[str] = []
    both = start("vllm", base, twin, on_event=said.append)
    one, two = Request(base.digest, "the cat", max_tokens=8), Request(twin.digest, "the cat", max_tokens=8)
    given = answers(both, [one, two])
    both.close()
    assert given[two.id].completion_tokens <= given[one.id].completion_tokens
    assert given[two.id].finish == "stop"
    assert any("twin gets an engine of its own" in text for text in said)
    assert sum(text.startswith("starting") for text in said) == 2


@pytest.mark.parametrize("family", FAMILIES)
def test_other_families_agree_with_transformers_also_after_a_swap(
    start: Start, fallback: EngineProcess, checkpoints: Checkpoints, family: str
) -> None:
    """Random weights of every architecture on the allow-list: loaded, swapped to b and back, within 1e-3 nat.

    Greedy texts of random weights may part where two tokens tie within rounding; at least 95 in 100 are identical.
    """
    members = [checkpoints[f"{family}-{version}"] for version in ("a", "b")]
    if family == "gpt2":
        members.append(checkpoints["gpt2-lora"])
    asked = requests(*members, questions=4)
    subject = start("vllm", *members)
    given, other = answers(subject, asked), answers(fallback, asked)
    assert largest_gap(asked, given, other) < 1e-3
    assert greedy_share(asked, given, other) >= 0.95
    assert largest_margin_gap(asked, given, other) < 1e-3
    assert answers(subject, asked) == given
    subject.close()


def test_an_adapter_on_a_tied_head_leaves_the_embeddings_alone(
    start: Start, fallback: EngineProcess, checkpoints: Checkpoints
) -> None:
    """Merged into a head of its own, in an engine of its own; equal to unmerged PEFT."""
    asked = requests(checkpoints["tied-head"], questions=4)
    subject = start("vllm", checkpoints["tied-a"], checkpoints["tied-head"])
    assert largest_gap(asked, answers(subject, asked), answers(fallback, asked)) < 1e-3
    subject.close()


def test_an_unknown_option_is_named_with_its_nearest_match(start: Start, checkpoints: Checkpoints) -> None:
    """Before anything is loaded."""
    subject = start("vllm", checkpoints["llama-a"], max_modle_len=64)
    with pytest.raises(ConfigError, match=r"engine\.max_modle_len: vLLM has no such option.*'max_model_len'"):
        answers(subject, requests(checkpoints["llama-a"], questions=1))


def test_a_killed_worker_is_an_error_that_keeps_the_answers(engine: EngineProcess, checkpoints: Checkpoints) -> None:
    """SIGKILL in the middle: what was answered stands, the error counts it, and the next call starts anew."""
    base = checkpoints["llama-a"].digest
    asked = [Request(base, f"{LONG} {number}", max_tokens=100) for number in range(400)]
    given: list[Completion] = []

    def read_and_kill() -> None:
        for completion in engine.generate(asked):
            given.append(completion)
            if len(given) == 5:
                assert engine._child is not None
                os.kill(engine._child.process.pid, signal.SIGKILL)

    with pytest.raises(EngineError, match=r"killed by signal 9 .* of 400 answers"):
        read_and_kill()
    assert 5 <= len(given) < 400
    assert all(completion.error is None for completion in given)
