"""The gateway between judge libraries and engines, asked by openai's own client."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalgate.checkpoint import Checkpoint
from evalgate.errors import CheckpointError, EngineError
from evalgate.instrument import Endpoint, JudgeModel
from evalgate.judges import gateway as module
from evalgate.judges.chat import HIDDEN, LONGEST, MAX_TOKENS, Messages, neutral
from evalgate.judges.gateway import LARGEST, Gateway
from evalgate.request import Completion, Request

MODEL = JudgeModel("mine", Checkpoint("j", None, "full", "sha256:w", "sha256:t", None, "A", 512), "e", ("<|end|>", "§"))
OTHER = JudgeModel("far", Checkpoint("o", None, "full", "sha256:o", "sha256:t", None, "A", 512), "e")
QUESTION: Any = [{"role": "user", "content": "well?"}]


def echo(requests: Sequence[Request]) -> Iterator[Completion]:
    """An engine that says what it was asked."""
    for request in requests:
        yield Completion(request.id, text=f"[{request.prompt}]", prompt_tokens=3, completion_tokens=2)


def render(model: JudgeModel, messages: Messages) -> str | None:
    """A template for the model of this machine; the endpoint has its own."""
    if model is OTHER:
        return None
    return "".join(f"{message['role']}:{message['content']};" for message in messages)


def gateway(ask: Callable[[Sequence[Request]], Iterator[Completion]] = echo) -> Gateway:
    """A gateway to both models."""
    return Gateway({"mine": MODEL, "far": OTHER}, ask, render)


def client(endpoint: Endpoint, retries: int = 0) -> openai.OpenAI:
    """The client that libraries use."""
    return openai.OpenAI(base_url=endpoint.url, api_key=endpoint.token, max_retries=retries)


def raw(
    endpoint: Endpoint, body: bytes | str = b"{}", path: str = "/v1/chat/completions", **headers: str
) -> tuple[int, str]:
    """Status and message of a request whose every header is ours."""
    place = urlsplit(endpoint.url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port or 0, timeout=10)
    try:
        sent = {"Authorization": f"Bearer {endpoint.token}"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        connection.request("POST", path, body, sent)
        reply = connection.getresponse()
        assert reply.getheader("x-should-retry") == "false"
        return reply.status, json.loads(reply.read())["error"]["message"]
    finally:
        connection.close()


class Recorder:
    """An engine that keeps what it was asked, batch by batch."""

    def __init__(self) -> None:
        self.batches: list[list[Request]] = []

    def __call__(self, requests: Sequence[Request]) -> Iterator[Completion]:
        self.batches.append(list(requests))
        yield from echo(requests)

    @property
    def last(self) -> Request:
        """The last request."""
        return self.batches[-1][-1]


@pytest.fixture(scope="module")
def asked() -> Iterator[tuple[Recorder, openai.OpenAI, Endpoint]]:
    """A gateway that lives as long as these tests."""
    recorder = Recorder()
    with gateway(recorder) as endpoint, client(endpoint) as asks:
        yield recorder, asks, endpoint


def test_a_chat_completion_is_a_request(asked: tuple[Recorder, openai.OpenAI, Endpoint]) -> None:
    """Every parameter of a question is in the request, and the reply names the model as it was asked."""
    recorder, asks, _ = asked
    schema: Any = {"type": "object", "properties": {"score": {"type": "integer"}}}
    reply = asks.chat.completions.create(
        model="mine",
        messages=[{"role": "developer", "content": "be just"}, *QUESTION],
        temperature=0.5,
        top_p=0.9,
        seed=7,
        stop=["\n"],
        max_completion_tokens=5,
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
    )
    assert recorder.last == Request(
        MODEL.digest,
        "system:be just;user:well?;",
        special_tokens=False,
        max_tokens=5,
        temperature=0.5,
        top_p=0.9,
        stop=("\n",),
        seed=7,
        json_schema=schema,
    )
    assert (reply.model, reply.choices[0].finish_reason) == ("mine", "stop")
    assert reply.choices[0].message.content == "[system:be just;user:well?;]"
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens) == (3, 2, 5)


def test_texts_of_a_reply_end(asked: tuple[Recorder, openai.OpenAI, Endpoint]) -> None:
    """A text without a form of its own gets a longest length, wherever it stands; all else is as it was asked for."""
    recorder, asks, _ = asked
    kept: Any = {"type": {"enum": ["a"]}, "day": {"type": "string", "format": "date"}, "n": {"type": "number"}}
    free = {"type": "string"}
    schema = {"type": "object", "properties": {**kept, "reason": free, "list": {"type": "array", "items": free}}}
    response_format: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    asks.chat.completions.create(model="mine", messages=QUESTION, response_format=response_format)
    ended = {"type": "string", "maxLength": LONGEST}
    found = {**kept, "reason": ended, "list": {"type": "array", "items": ended}}
    assert recorder.last.json_schema == {"type": "object", "properties": found}


def test_what_is_not_said_draws_nothing(asked: tuple[Recorder, openai.OpenAI, Endpoint]) -> None:
    """Without parameters decoding is greedy, with a bounded reply and no schema."""
    recorder, asks, _ = asked
    asks.chat.completions.create(model="mine", messages=QUESTION)
    last = recorder.last
    assert (last.temperature, last.seed, last.max_tokens, last.json_schema) == (0.0, 0, MAX_TOKENS, None)


def test_an_endpoint_is_asked_with_messages(asked: tuple[Recorder, openai.OpenAI, Endpoint]) -> None:
    """Where nobody here has the template, the conversation itself is the request."""
    recorder, asks, _ = asked
    asks.chat.completions.create(model="far", messages=QUESTION)
    assert (recorder.last.prompt, recorder.last.messages) == ("", tuple(QUESTION))


def test_parts_of_text_are_one_text(asked: tuple[Recorder, openai.OpenAI, Endpoint]) -> None:
    """Content in parts is joined before anything looks at it, so no control token hides between two parts."""
    recorder, asks, _ = asked
    parts: Any = [{"type": "text", "text": "a<|e"}, {"type": "text", "text": "nd|>b"}]
    asks.chat.completions.create(model="mine", messages=[{"role": "user", "content": parts}])
    assert recorder.last.prompt == f"user:a<{HIDDEN}|end|>b;"


def test_json_mode_is_any_object(asked: tuple[Recorder, openai.OpenAI, Endpoint]) -> None:
    """`json_object` asks for an object, whatever is in it; `text` asks for nothing."""
    recorder, asks, _ = asked
    asks.chat.completions.create(model="mine", messages=QUESTION, response_format={"type": "json_object"})
    assert recorder.last.json_schema == {"type": "object"}
    asks.chat.completions.create(model="mine", messages=QUESTION, response_format={"type": "text"})
    assert recorder.last.json_schema is None


def test_models_are_listed(asked: tuple[Recorder, openai.OpenAI, Endpoint]) -> None:
    """Clients that look first find the judges by name."""
    assert [model.id for model in asked[1].models.list()] == ["mine", "far"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"stream": True}, "stream"),
        ({"logprobs": True, "top_logprobs": 20}, "logprobs, top_logprobs"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"n": 2}, "n: only one choice"),
        ({"messages": []}, "at least one message"),
        ({"messages": "well?"}, "at least one message"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "the roles"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "parts of type text"),
        ({"messages": [{"role": "user", "content": None}]}, "content that is text"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]}, "parts of type text"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "a whole number"),
        ({"seed": "x"}, "seed"),
        ({"stop": [""]}, "stop"),
        ({"stop": 5}, "stop"),
        ({"response_format": {"type": "grammar"}}, "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "with a schema"),
        ({"response_format": "json"}, "response_format"),
    ],
)
def test_what_is_not_done_is_said(
    asked: tuple[Recorder, openai.OpenAI, Endpoint], body: dict[str, Any], said: str
) -> None:
    """What would be left out in silence by a careless server is refused by name, and no engine is asked."""
    before = len(asked[0].batches)
    status, message = raw(asked[2], json.dumps({"model": "mine", "messages": QUESTION} | body))
    assert status == 400
    assert said in message
    assert len(asked[0].batches) == before


def test_neutral_values_are_no_wishes(asked: tuple[Recorder, openai.OpenAI, Endpoint]) -> None:
    """Parameters at the value that changes nothing are what many clients send, and are taken."""
    asked[1].chat.completions.create(
        model="mine", messages=QUESTION, presence_penalty=0, frequency_penalty=0, logprobs=False, stream=False, n=1
    )


@pytest.mark.parametrize("name", ["gpt-4", "", None, 5])
def test_another_model_is_never_asked_instead(asked: tuple[Recorder, openai.OpenAI, Endpoint], name: object) -> None:
    """A name that is no judge's gets nothing but the names of the judges."""
    status, message = raw(asked[2], json.dumps({"model": name, "messages": QUESTION}))
    assert status == 404
    assert "only mine, far" in message


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": ""}, 401),
        ({"Authorization": "Basic x"}, 401),
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1:1"}, 403),
        ({"Host": "127.0.0.1.evil.example:80"}, 403),
        ({"Content_Length": str(LARGEST + 1)}, 413),
        ({"Content_Length": "9" * 30}, 413),
        ({"Content_Length": "-1"}, 411),
        ({"Content_Length": "many"}, 411),
    ],
)
def test_who_may_not_ask_is_not_read(
    asked: tuple[Recorder, openai.OpenAI, Endpoint], headers: dict[str, str], status: int
) -> None:
    """A wrong token, a name that points here from elsewhere, and bodies without measure end before they are read."""
    assert raw(asked[2], b"", **headers)[0] == status


def test_other_paths_are_nothing(asked: tuple[Recorder, openai.OpenAI, Endpoint]) -> None:
    """There is one thing to ask here."""
    for path in ("/", "/v1/completions", "/v1/chat/completions/x", "/v1/models"):
        assert raw(asked[2], b"{}", path)[0] == 404


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[]", b"[" * 100_000, b'"x"'])
def test_a_body_that_is_no_object_is_refused(asked: tuple[Recorder, openai.OpenAI, Endpoint], body: bytes) -> None:
    """Whatever is no JSON object is a client's fault, and the gateway lives on."""
    assert raw(asked[2], body)[0] == 400
    assert [model.id for model in asked[1].models.list()] == ["mine", "far"]


def test_one_connection_carries_many_questions(asked: tuple[Recorder, openai.OpenAI, Endpoint]) -> None:
    """A refused question does not end the connection that it came by."""
    place = urlsplit(asked[2].url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port or 0, timeout=10)
    statuses, socks = [], set()
    for body in ({"n": 2}, {}, {}):
        sent = json.dumps({"model": "mine", "messages": QUESTION} | body)
        connection.request("POST", "/v1/chat/completions", sent, {"Authorization": f"Bearer {asked[2].token}"})
        socks.add(connection.sock)
        reply = connection.getresponse()
        reply.read()
        statuses.append(reply.status)
    connection.close()
    assert statuses == [400, 200, 200]
    assert len(socks) == 1


def test_an_error_is_said_and_not_retried() -> None:
    """A completion that is an error reaches the client in its own words, and even a stubborn client asks once."""
    recorder = Recorder()
    said = "sample s: 429 for ever (3 attempts, 9.1 s)"

    def fail(requests: Sequence[Request]) -> Iterator[Completion]:
        recorder.batches.append(list(requests))
        for request in requests:
            yield Completion(request.id, error=said)

    with (
        gateway(fail) as endpoint,
        client(endpoint, retries=5) as asks,
        pytest.raises(openai.UnprocessableEntityError) as raised,
    ):
        asks.chat.completions.create(model="mine", messages=QUESTION)
    assert isinstance(raised.value.body, Mapping)
    assert raised.value.body["message"] == said
    assert len(recorder.batches) == 1


def test_an_engine_that_fails_fails_everyone() -> None:
    """Those who wait and those who come later get the engine's line, and it is not asked again."""
    calls: list[int] = []

    def fail(requests: Sequence[Request]) -> Iterator[Completion]:
        calls.append(len(requests))
        yield from echo(requests[:1])
        time.sleep(0.3)  # while others arrive
        raise EngineError("out of memory")

    def ask(number: int) -> str:
        try:
            content: Any = [{"role": "user", "content": f"{number}"}]
            return str(asks.chat.completions.create(model="mine", messages=content).choices[0].message.content)
        except openai.APIStatusError as error:
            return f"{error.status_code} {error.body['message'] if isinstance(error.body, Mapping) else ''}"

    with gateway(fail) as endpoint, client(endpoint, retries=3) as asks:
        first = ask(0)
        with ThreadPoolExecutor(8) as pool:
            said = list(pool.map(ask, range(1, 9)))
        said.append(ask(9))
    assert first == "[user:0;]"
    assert set(said) == {"424 the engine behind the judge failed: out of memory"}
    assert calls == [1]


def test_what_is_left_unanswered_is_an_error() -> None:
    """An engine that forgets a request leaves nobody waiting."""

    def forget(requests: Sequence[Request]) -> Iterator[Completion]:
        yield from ()

    with gateway(forget) as endpoint:
        status, message = raw(endpoint, json.dumps({"model": "mine", "messages": QUESTION}))
    assert (status, message) == (422, "the engine gave no answer")


def test_a_template_that_refuses_is_an_answer() -> None:
    """What the judge's template cannot render is said to the client that asked for it."""

    def refuse(model: JudgeModel, messages: Messages) -> str:
        raise CheckpointError("the template knows no system message", where="mine")

    with Gateway({"mine": MODEL}, echo, refuse) as endpoint:
        status, message = raw(endpoint, json.dumps({"model": "mine", "messages": QUESTION}))
    assert (status, message) == (400, "mine: the template knows no system message")


def test_what_waits_is_asked_together_once_and_in_order() -> None:
    """While the engine is busy questions gather: one batch, in order of arrival, equal ones once."""
    recorder, busy, go = Recorder(), threading.Event(), threading.Event()

    def slow(requests: Sequence[Request]) -> Iterator[Completion]:
        busy.set()
        go.wait(10)
        yield from recorder(requests)

    numbers = [0, *range(1, 9), *range(1, 9), 0]
    with gateway(slow) as endpoint, client(endpoint) as asks, ThreadPoolExecutor(len(numbers)) as pool:

        def ask(number: int) -> str | None:
            content: Any = [{"role": "user", "content": f"{number}"}]
            return asks.chat.completions.create(model="mine", messages=content).choices[0].message.content

        futures = []
        for number in numbers:
            futures.append(pool.submit(ask, number))
            busy.wait(10)
            time.sleep(0.05)  # so that the order of arrival is known
        go.set()
        answers = [future.result() for future in futures]
    assert answers == [f"[user:{number};]" for number in numbers]
    assert [[request.prompt for request in batch] for batch in recorder.batches] == [
        ["user:0;"],
        [f"user:{number};" for number in range(1, 9)],
    ]


def test_a_moment_gathers_what_comes_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that waits is not asked for the first question alone where others are on their way."""
    monkeypatch.setattr(module, "GATHER_SECONDS", 0.5)
    recorder = Recorder()
    with gateway(recorder) as endpoint, client(endpoint) as asks, ThreadPoolExecutor(3) as pool:

        def ask(number: int) -> None:
            content: Any = [{"role": "user", "content": f"{number}"}]
            asks.chat.completions.create(model="mine", messages=content)

        list(pool.map(ask, range(3)))
    assert [len(batch) for batch in recorder.batches] == [3]


def test_an_answer_does_not_wait_for_its_batch() -> None:
    """Each client is answered when its completion is there, not when the last one is."""
    arrived = threading.Event()

    def one_by_one(requests: Sequence[Request]) -> Iterator[Completion]:
        for number, request in enumerate(requests):
            assert number == 0 or arrived.wait(10)  # the first client has its answer
            yield from echo([request])

    with gateway(one_by_one) as endpoint, client(endpoint) as asks, ThreadPoolExecutor(2) as pool:

        def ask(number: int) -> None:
            content: Any = [{"role": "user", "content": f"{number}"}]
            asks.chat.completions.create(model="mine", messages=content)
            arrived.set()

        list(pool.map(ask, range(2)))
    assert arrived.is_set()


def test_the_end_leaves_nobody_waiting_and_nothing_open() -> None:
    """Leaving the gateway answers who still waits, closes the port, and the next one has another token."""
    stuck, go = threading.Event(), threading.Event()

    def hang(requests: Sequence[Request]) -> Iterator[Completion]:
        stuck.set()
        go.wait(10)
        yield from echo(requests)

    body = json.dumps({"model": "mine", "messages": QUESTION})
    with ThreadPoolExecutor(1) as pool:
        with gateway(hang) as endpoint:
            waiting = pool.submit(raw, endpoint, body)
            assert stuck.wait(10)
            threading.Timer(0.2, go.set).start()
        assert waiting.result() == (424, "the session is over")
    with pytest.raises(ConnectionError):
        raw(endpoint, body)
    with gateway() as again:
        assert again.token != endpoint.token
        assert len(again.token) >= 32


CONTROL = ("<|im_end|>", "<|eot_id|>", "</s>", "<s>", "[INST]", "[/INST]", "<start_of_turn>", "<end_of_turn>")


@given(st.lists(st.sampled_from([*CONTROL, "<|end|>", "a", "<", "|", ">", " ", "end", HIDDEN[:0]])).map("".join))
def test_no_text_becomes_a_control_token(text: str) -> None:
    """Whatever is put together, no control token is left, and nothing but the hidden space was added."""
    shown = neutral(text, ("<|end|>", "<|"))
    assert not any(token in shown for token in (*CONTROL, "<|end|>", "<|"))
    assert shown.replace(HIDDEN, "") == text


@given(st.text())
def test_other_texts_stay_as_they_are(text: str) -> None:
    """A text without a bracket is not touched: code, prose, JSON and every other sign."""
    plain = text.replace("<", "").replace("[", "")
    assert neutral(plain, ("<|end|>",)) == plain
    assert neutral('if a < b: x[i] = {"k": [1]} </b> <div>') == 'if a < b: x[i] = {"k": [1]} </b> <div>'


def test_a_special_token_of_one_character_is_replaced() -> None:
    """There is no place inside it for a hidden space."""
    assert neutral("a§b<|end|>", MODEL.special) == f"a\ufffdb<{HIDDEN}|end|>"
