"""The openai engine in its child: against a server that breaks in every way, and against vLLM's own."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from evalgate.chat import ChatRenderer
from evalgate.checkpoint import Checkpoint
from evalgate.engines import EngineProcess, EngineSettings
from evalgate.engines.endpoint import endpoint
from evalgate.errors import ConfigError, EngineError
from evalgate.preflight import load_template, read_checkpoint
from evalgate.request import Completion, Request
from tests.judges.conftest import Served
from tests.judges.faulty import FAULTS, FaultyServer

SCHEMA = {
    "type": "object",
    "properties": {"score": {"type": "integer", "minimum": 1, "maximum": 5}},
    "required": ["score"],
    "additionalProperties": False,
}
LABELS = ("1", "2", "3", "4", "5")
QUICK = {"total_timeout": 0.9, "read_timeout": 0.3, "connect_timeout": 0.3}
PASSING = ("429-retry-after", "429", "500", "hang", "reset", "cut")
MODELS_OWN = ("prose", "nan", "overflow", "out-of-range", "string-number", "two-objects")
Start = Callable[..., EngineProcess]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts engines that end with the module."""
    started: list[EngineProcess] = []
    logs = tmp_path_factory.mktemp("logs")

    def start(*checkpoints: Checkpoint, **options: Any) -> EngineProcess:
        made = EngineProcess(EngineSettings(name="openai", options=options, log_dir=logs), checkpoints)
        started.append(made)
        return made

    yield start
    for made in started:
        made.close()


def asked(checkpoint: Checkpoint, text: str = "Is 4 right?", **changes: Any) -> Request:
    """A question in a conversation."""
    return Request(checkpoint=checkpoint.digest, prompt="", messages=({"role": "user", "content": text},), **changes)


def every_kind(checkpoint: Checkpoint, text: str) -> list[Request]:
    """A text, a JSON object and log-probs of labels."""
    return [asked(checkpoint, text), asked(checkpoint, text, json_schema=SCHEMA), labels(checkpoint, text)]


def labels(checkpoint: Checkpoint, text: str = "Is 4 right?") -> Request:
    """The log-probs of a scale."""
    return asked(checkpoint, text, continuations=LABELS)


def answers(engine: EngineProcess, requests: Iterable[Request]) -> list[Completion]:
    """In the order asked."""
    requests = list(requests)
    found = {completion.request: completion for completion in engine.generate(requests)}
    assert set(found) == {request.id for request in requests}
    return [found[request.id] for request in requests]


@pytest.fixture(scope="module")
def shared() -> Iterator[FaultyServer]:
    """One server for all faults."""
    with FaultyServer(retry_after="0.1") as server:
        yield server


@pytest.fixture(scope="module")
def patient(shared: FaultyServer, engine: Start) -> tuple[Checkpoint, EngineProcess]:
    """An engine with a small budget that has had a good answer."""
    checkpoint = endpoint(shared.url, "judge")
    started = engine(checkpoint, **QUICK)
    assert not answers(started, [asked(checkpoint)])[0].error
    return checkpoint, started


def test_healthy_answers_are_read(patient: tuple[Checkpoint, EngineProcess], shared: FaultyServer) -> None:
    """The control of every fault below: texts, objects and labels come whole, and environments say names."""
    shared.become("healthy")
    checkpoint, engine = patient
    text, schema, scale = answers(engine, every_kind(checkpoint, "healthy"))
    assert re.fullmatch("ok-[0-9a-f]{8}", text.text)
    assert json.loads(schema.text)["score"] in range(1, 6)
    assert len(scale.logprobs) == 5
    assert not any(completion.error for completion in (text, schema, scale))
    environment = engine.environment(checkpoint.digest)
    assert (environment["url"], environment["model"], environment["answered_by"]) == (shared.url, "judge", "judge")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_an_error_with_attempts_and_seconds(
    fault: str, patient: tuple[Checkpoint, EngineProcess], shared: FaultyServer
) -> None:
    """In bounded time, never an answer; and when the server is healthy again, so is the next question."""
    checkpoint, engine = patient
    shared.become(fault)
    began = time.monotonic()
    found = answers(engine, every_kind(checkpoint, fault))
    assert time.monotonic() - began < 3
    # What the model itself wrote is text; log-probs that are none are never one.
    broken = found[2:] if fault in MODELS_OWN else found
    for completion in broken:
        assert completion.error is not None
        assert re.match(r"no answer after \d+ attempts? in \d+\.\d s: ", completion.error), completion.error
        assert completion.error.isprintable()
        assert len(completion.error) <= 300
        assert (completion.text, completion.logprobs) == ("", ())
    assert not any(completion.error for completion in found[: -len(broken)])
    shared.become("healthy")
    assert not any(completion.error for completion in answers(engine, every_kind(checkpoint, fault)))


@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_by_itself_is_asked_again(fault: str, faulty: FaultyServer, engine: Start) -> None:
    """Two faults, then an answer."""
    faulty.become(fault, times=2)
    checkpoint = endpoint(faulty.url, "judge")
    (found,) = answers(engine(checkpoint, **QUICK | {"total_timeout": 10}), [asked(checkpoint)])
    assert (found.error, faulty.count) == (None, 3)


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault not in (*PASSING, "drip", "401")])
def test_what_does_not_pass_is_asked_once(
    fault: str, patient: tuple[Checkpoint, EngineProcess], shared: FaultyServer
) -> None:
    """A whole reply that is wrong costs one request, and a redirect leads nowhere."""
    checkpoint, engine = patient
    before = shared.count
    shared.become(fault)
    (found,) = answers(engine, [labels(checkpoint, f"once {fault}")])
    assert "after 1 attempt in" in str(found.error)
    assert [seen.path for seen in shared.seen[before:]] == ["/v1/chat/completions"]


def test_retry_after_is_kept(faulty: FaultyServer, engine: Start) -> None:
    """The second attempt comes no sooner than the endpoint said."""
    faulty.retry_after = "0.7"
    faulty.become("429-retry-after", times=1)
    checkpoint = endpoint(faulty.url, "judge")
    started = engine(checkpoint)
    began = time.monotonic()
    (found,) = answers(started, [asked(checkpoint)])
    assert not found.error
    assert time.monotonic() - began >= 0.7


def test_a_pause_beyond_the_budget_is_not_begun(faulty: FaultyServer, engine: Start) -> None:
    """The error comes now, and says how long the endpoint wanted to be left alone."""
    faulty.retry_after = "3600"
    faulty.become("429-retry-after")
    checkpoint = endpoint(faulty.url, "judge")
    (found,) = answers(engine(checkpoint, total_timeout=60), [asked(checkpoint)])
    assert re.search(
        r"after 1 attempt in 0\.\d s: HTTP 429 'Rate limit reached' \(Retry-After: 3600 s\)", found.error or ""
    )


def test_nobody_at_the_address_is_an_error(engine: Start) -> None:
    """A refused connection is tried again, too."""
    with FaultyServer() as server:
        checkpoint = endpoint(server.url, "judge")
    (found,) = answers(engine(checkpoint, **QUICK), [asked(checkpoint)])
    assert re.search(r"after [2-9] attempts in .*ConnectError", found.error or "")


def test_a_dead_endpoint_is_not_asked_for_ever(faulty: FaultyServer, engine: Start) -> None:
    """After three rounds without any answer, in however many batches, no more is asked until a new session."""
    faulty.become("500")
    checkpoint = endpoint(faulty.url, "judge")
    started = engine(checkpoint, concurrency=2, total_timeout=0.5)
    few = answers(started, [asked(checkpoint, f"few {i}") for i in range(4)])
    assert not any("not asked" in str(completion.error) for completion in few)
    found = answers(started, [asked(checkpoint, str(i)) for i in range(40)])
    unasked = [each for each in found if re.search(r"not asked, since \d+ .*HTTP 500", each.error or "")]
    assert all(completion.error for completion in found)
    assert 36 <= len(unasked) <= 38
    faulty.become("healthy")
    assert all("not asked" in str(c.error) for c in answers(started, [asked(checkpoint, str(i)) for i in range(40)]))
    again = engine(checkpoint, concurrency=2)
    assert not any(c.error for c in answers(again, [asked(checkpoint, str(i)) for i in range(40)]))


def test_no_more_than_the_limit_are_on_their_way(engine: Start) -> None:
    """And as many as that."""
    inside, most, lock = 0, 0, threading.Lock()

    def reply(body: Mapping[str, Any]) -> str:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.05)
        with lock:
            inside -= 1
        return "yes"

    with FaultyServer(reply=reply) as server:
        checkpoint = endpoint(server.url, "judge")
        found = answers(engine(checkpoint, concurrency=5), [asked(checkpoint, str(i)) for i in range(30)])
    assert all(completion.text == "yes" for completion in found)
    assert most == 5


def test_a_wrong_key_ends_everything_at_once(
    faulty: FaultyServer, engine: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was ever answered, so nothing will be; the message says where the key comes from, and not the key."""
    monkeypatch.setenv("JUDGE_KEY", "sk-SECRET-wrong")
    faulty.key = "sk-SECRET-right"
    checkpoint = endpoint(faulty.url, "judge")
    with pytest.raises(EngineError, match=r"HTTP 401.*Check the key.*api_key_env") as caught:
        answers(engine(checkpoint, api_key_env="JUDGE_KEY"), [asked(checkpoint, str(i)) for i in range(100)])
    assert "SECRET" not in str(caught.value)
    assert faulty.count <= 32
    monkeypatch.setenv("JUDGE_KEY", "sk-SECRET-right")
    started = engine(checkpoint, api_key_env="JUDGE_KEY")
    assert not answers(started, [asked(checkpoint)])[0].error
    assert faulty.seen[-1].authorization == "Bearer sk-SECRET-right"
    assert "SECRET" not in json.dumps(started.environment(checkpoint.digest))
    assert not any("SECRET" in log.read_text("utf-8") for log in started.settings.log_dir.iterdir())


def test_a_path_that_is_not_there_ends_everything(faulty: FaultyServer, engine: Start) -> None:
    """With what to look at."""
    checkpoint = endpoint(faulty.url.removesuffix("/v1"), "judge")
    with pytest.raises(EngineError, match=r"HTTP 404 'no path /chat/completions'.*usually ends in /v1"):
        answers(engine(checkpoint), [asked(checkpoint)])


@pytest.mark.parametrize("key", [None, "", "two words", "schlüssel"])
def test_a_variable_without_a_key_is_refused(
    key: str | None, faulty: FaultyServer, engine: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is asked."""
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("JUDGE_KEY", key)
    checkpoint = endpoint(faulty.url, "judge")
    with pytest.raises(ConfigError, match="JUDGE_KEY"):
        answers(engine(checkpoint, api_key_env="JUDGE_KEY"), [asked(checkpoint)])
    assert faulty.count == 0


def test_an_endpoint_that_repeats_the_key_is_not_kept(engine: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers go into caches and records."""
    monkeypatch.setenv("JUDGE_KEY", "sk-SECRET/1")
    for said in ("sk-SECRET/1", "the key is sk-SECRET/1, I was told"):
        with FaultyServer(reply=lambda body, said=said: said) as server:  # type: ignore[misc]
            checkpoint = endpoint(server.url, "judge")
            (found,) = answers(engine(checkpoint, api_key_env="JUDGE_KEY"), [asked(checkpoint)])
        assert "repeats the key" in str(found.error)
        assert "SECRET" not in str(found)


def test_a_model_that_changes_behind_its_name_is_noticed(faulty: FaultyServer, engine: Start) -> None:
    """A date is good, and another date later is not."""
    checkpoint = endpoint(faulty.url, "judge")
    started = engine(checkpoint)
    faulty.model = "judge-2026-05-01"
    assert not answers(started, [asked(checkpoint, "before")])[0].error
    faulty.model = "judge-2026-06-01"
    (found,) = answers(started, [asked(checkpoint, "after")])
    assert "the endpoint changed: it was 'judge-2026-05-01', and now it is 'judge-2026-06-01'" in str(found.error)
    assert started.environment(checkpoint.digest)["answered_by"] == "judge-2026-05-01"


def test_another_name_is_configured(faulty: FaultyServer, engine: Start) -> None:
    """Servers that call a model by its file need one option."""
    faulty.model = "/models/judge.gguf"
    checkpoint = endpoint(faulty.url, "judge")
    assert "set engine.model_says" in str(answers(engine(checkpoint), [asked(checkpoint)])[0].error)
    started = engine(checkpoint, model_says="/models/judge.gguf", extra_body={"cache_salt": "x"})
    assert not answers(started, [asked(checkpoint)])[0].error
    assert faulty.seen[-1].body["cache_salt"] == "x"


def test_two_models_are_asked_in_one_child(faulty: FaultyServer, engine: Start) -> None:
    """Each by its own name."""
    one, two = endpoint(faulty.url, "one"), endpoint(faulty.url, "two")
    found = answers(engine(one, two), [asked(one), asked(two)])
    assert not any(completion.error for completion in found)
    assert [seen.body["model"] for seen in faulty.seen] == ["one", "two"]


def test_a_folder_is_no_endpoint(engine: Start) -> None:
    """Weights need an engine that loads them."""
    checkpoint = read_checkpoint(Path(__file__).parents[2] / "fixtures/checkpoints/v1")
    request = Request(checkpoint=checkpoint.digest, prompt="2+2=")
    (found,) = answers(engine(checkpoint), [request])
    assert "asks endpoints" in str(found.error)


def test_bad_certificates_are_a_setting(engine: Start, tmp_path: Path) -> None:
    """Not a crash of the child."""
    (tmp_path / "ca.pem").write_text("no certificate")
    checkpoint = endpoint("https://127.0.0.1:1/v1", "judge")
    with pytest.raises(ConfigError, match=r"engine\.ca_file"):
        answers(engine(checkpoint, ca_file=str(tmp_path / "ca.pem")), [asked(checkpoint)])


# -- vLLM's own server ------------------------------------------------------------------------------------------------

QUESTIONS = ("Is the shop open on Monday? Say yes or no.", "Q: 17+25=", 'Say "{{ x }}".')


def pairs(api: Checkpoint, own: Checkpoint, **changes: Any) -> list[tuple[Request, Request]]:
    """Each question for the endpoint, and rendered for our own engine."""
    conversations = [({"role": "user", "content": question},) for question in QUESTIONS]
    template = load_template(own)
    assert template
    with ChatRenderer() as renderer:
        texts = renderer.render(template, [list(messages) for messages in conversations], kwargs={})
    return [
        (
            Request(checkpoint=api.digest, prompt="", messages=messages, **changes),
            Request(checkpoint=own.digest, prompt=text, special_tokens=False, **changes),
        )
        for messages, text in zip(conversations, texts, strict=True)
    ]


@pytest.fixture(scope="module")
def both(
    vllm_server: Served, engine: Start, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., list[tuple[Completion, Completion]]]]:
    """Asks vLLM's server and our own engine the same."""
    api, own = endpoint(vllm_server.url, vllm_server.model), read_checkpoint(vllm_server.folder)
    settings = EngineSettings(name="transformers", log_dir=tmp_path_factory.mktemp("own"))
    started = engine(api)
    with EngineProcess(settings, [own]) as loaded:

        def ask(prompt: str | None = None, **changes: Any) -> list[tuple[Completion, Completion]]:
            if prompt is None:
                asked = pairs(api, own, **changes)
            else:
                one, two = (Request(checkpoint=c.digest, prompt=prompt, **changes) for c in (api, own))
                asked = [(one, two)]
            first, second = (
                answers(e, side) for e, side in zip((started, loaded), zip(*asked, strict=True), strict=True)
            )
            assert not [completion.error for completion in (*first, *second) if completion.error]
            return list(zip(first, second, strict=True))

        yield ask


Both = Callable[..., list[tuple[Completion, Completion]]]


def test_vllms_server_writes_what_our_engine_writes(both: Both) -> None:
    """Conversations and plain prompts, greedy: the same text, end and number of tokens."""
    for api, own in [*both(max_tokens=24), *both("Q: 17+25=\nA:", max_tokens=8, stop=("\n",))]:
        assert (api.text, api.finish, api.prompt_tokens) == (own.text, own.finish, own.prompt_tokens)
        assert api.completion_tokens == own.completion_tokens


def test_vllms_server_keeps_to_a_schema(both: Both) -> None:
    """As our engine does."""
    for completions in both(json_schema=SCHEMA, max_tokens=64):
        assert all(json.loads(completion.text)["score"] in range(1, 6) for completion in completions)


def test_labels_have_our_engines_log_probs(both: Both) -> None:
    """Within 1e-3 where they are listed; of the others an upper bound."""
    found = both(continuations=(*LABELS, "A", "W"))
    for api, own in found:
        assert all(a > b - 1e-3 for a, b in zip(api.logprobs, own.logprobs, strict=True))
        assert any(abs(a - b) < 1e-3 for a, b in zip(api.logprobs, own.logprobs, strict=True))
        assert api.greedy == own.greedy


def test_continuations_have_our_engines_log_probs(both: Both) -> None:
    """Each within 1e-3, whatever their number of tokens."""
    ((api, own),) = both("Q: 17+25=\nA:", continuations=(" 42", " 43", " 7", " a longer text"))
    assert api.logprobs == pytest.approx(own.logprobs, abs=1e-3)
    assert (api.greedy, api.prompt_tokens, api.completion_tokens) == (
        own.greedy,
        own.prompt_tokens,
        own.completion_tokens,
    )


def test_draws_are_repeated_by_their_seed(vllm_server: Served, engine: Start) -> None:
    """The same seed the same text, from one child to the next; another seed another."""
    api = endpoint(vllm_server.url, vllm_server.model)

    def draw(seed: int) -> str:
        drawn = Request(checkpoint=api.digest, prompt="The ", temperature=1.5, max_tokens=24, seed=seed)
        (found,) = answers(engine(api), [drawn])
        assert found.error is None
        return found.text

    assert draw(1) == draw(1) != draw(2)


def test_a_model_that_vllm_does_not_serve_ends_everything(vllm_server: Served, engine: Start) -> None:
    """With its name and what to check."""
    unknown = endpoint(vllm_server.url, "nobody")
    with pytest.raises(EngineError, match=r"HTTP 404 .*nobody.*the model's name"):
        answers(engine(unknown), [asked(unknown)])


def test_what_vllm_refuses_is_an_error_of_its_request(vllm_server: Served, engine: Start) -> None:
    """Too long a prompt is one request's affair."""
    api = endpoint(vllm_server.url, vllm_server.model)
    long, short = asked(api, "x" * 50_000), asked(api, "x", max_tokens=2)
    refused, good = answers(engine(api), [long, short])
    assert re.search(r"after 1 attempt in .* HTTP 400 ", refused.error or "")
    assert good.error is None
