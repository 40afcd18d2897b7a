"""What endpoints are sent, and how their replies are read, without any connection."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalgate.engines import openai_wire as wire
from evalgate.engines.openai_wire import Malformed
from evalgate.request import Request

CHAT = ({"role": "user", "content": "Is it right?"},)
USAGE = {"prompt_tokens": 5, "completion_tokens": 2}


def request(prompt: str = "", **changes: Any) -> Request:
    """A request: of a conversation where there is no prompt."""
    return Request(checkpoint="c", prompt=prompt, messages=None if prompt else CHAT, **changes)


def chat(content: object = "yes", finish: object = "stop", **changes: Any) -> dict[str, Any]:
    """A reply in a conversation."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish}
    return {"model": "m", "choices": [choice | changes], "usage": USAGE}


def top(**row: object) -> dict[str, Any]:
    """A reply with the log-probs of tokens."""
    listed = [{"token": token, "logprob": value} for token, value in row.items()]
    return chat(logprobs={"content": [{"top_logprobs": listed}]})


def test_a_conversation_is_sent_with_all_that_was_asked() -> None:
    """The schema is strict, and the seed goes with a draw."""
    schema = {"type": "object"}
    asked = request(max_tokens=9, temperature=0.5, top_p=0.9, top_k=4, stop=("x",), seed=3, json_schema=schema)
    ((path, body),) = wire.questions(asked, "m", {"min_p": 0.1})
    assert path == "chat/completions"
    assert body == {
        "model": "m",
        "messages": [dict(CHAT[0])],
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 4,
        "seed": 3,
        "stop": ["x"],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": schema, "strict": True},
        },
        "min_p": 0.1,
    }


def test_greedy_text_is_sent_without_what_changes_nothing() -> None:
    """Endpoints refuse fields that they do not know."""
    ((path, body),) = wire.questions(request("2+2=", seed=3), "m", {})
    assert (path, body) == ("completions", {"model": "m", "prompt": "2+2=", "max_tokens": 256, "temperature": 0.0})


def test_labels_are_one_question_and_continuations_one_each() -> None:
    """A conversation asks for the next token's log-probs, a text for its own."""
    ((_, body),) = wire.questions(request(continuations=("1", "2")), "m", {})
    assert {k: body[k] for k in ("max_tokens", "logprobs", "top_logprobs")} == {
        "max_tokens": 1,
        "logprobs": True,
        "top_logprobs": 20,
    }
    asked = wire.questions(request("2+2=", continuations=("4", "5")), "m", {})
    assert [(body["prompt"], body["echo"], body["logprobs"]) for _, body in asked] == [
        ("2+2=4", True, 1),
        ("2+2=5", True, 1),
    ]


def test_what_cannot_be_asked_is_said() -> None:
    """A prompt in a template's words, an empty continuation, half a character."""
    with pytest.raises(Malformed, match="applies its own"):
        wire.questions(request("<|user|>hi", special_tokens=False), "m", {})
    with pytest.raises(Malformed, match="empty"):
        wire.questions(request(continuations=("1", "")), "m", {})
    with pytest.raises(Malformed, match="lone surrogate"):
        wire.encode({"prompt": "\ud800"})


NUMBERS = st.integers(-(10**15), 10**15) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), JSON))
def test_every_json_object_is_read_as_it_is(value: dict[str, Any]) -> None:
    """Strictness refuses nothing that is in order."""
    assert wire.read_json(json.dumps(value).encode()) == value


@given(st.binary(max_size=60))
def test_bytes_are_an_object_or_a_malformed_reply(body: bytes) -> None:
    """No other error leaves the reader."""
    try:
        read: object = wire.read_json(body)
    except Malformed as error:
        read = {"said": str(error)}
    assert isinstance(read, dict)


@pytest.mark.parametrize(
    ("body", "match"),
    [
        (b"", "no JSON"),
        (b'{"a": 1', "no JSON"),
        (b"I would say so.", "no JSON"),
        (b'{"a": 1}\n{"a": 2}', "no JSON: Extra data"),
        (b'{"a": "\xff"}', r"not UTF-8 \(byte 7\)"),
        (b'{"a": NaN}', "holds NaN"),
        (b'{"a": -Infinity}', "holds -Infinity"),
        (b'{"a": 1e999}', "beyond all bounds"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b"[1]", "no JSON object"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "huge number"),
    ],
)
def test_a_body_out_of_order_is_refused(body: bytes, match: str) -> None:
    """With what is wrong."""
    with pytest.raises(Malformed, match=match):
        wire.read_json(body)


@pytest.mark.parametrize("said", ["gpt-x", "gpt-x-2026-05-01", "gpt-x-20260501"])
def test_a_model_answers_under_its_name_or_with_a_date(said: str) -> None:
    """As endpoints do whose names are aliases of dated models."""
    assert wire.answered_by({"model": said}, "gpt-x", ()) == said


@pytest.mark.parametrize("said", ["gpt-x-mini", "gpt-x-mini-2026-05-01", "gpt-x-2026", "gpt", "other", "", None, 7])
def test_another_model_is_refused(said: object) -> None:
    """A name that only begins alike is another model's."""
    with pytest.raises(Malformed, match=r"which model answered|model_says"):
        wire.answered_by({"model": said}, "gpt-x", ())


def test_other_names_are_configured() -> None:
    """They then count alone."""
    assert wire.answered_by({"model": "/models/x.gguf"}, "x", ("/models/x.gguf",)) == "/models/x.gguf"
    with pytest.raises(Malformed, match="model_says"):
        wire.answered_by({"model": "x"}, "x", ("/models/x.gguf",))


def test_a_text_is_read_with_its_end_and_its_size() -> None:
    """From a conversation, and from a completion."""
    read = wire.completion(request(), [chat("yes")])
    assert (read.text, read.finish, read.prompt_tokens, read.completion_tokens) == ("yes", "stop", 5, 2)
    text = {"choices": [{"text": " 4", "finish_reason": "length"}]}
    read = wire.completion(request("2+2="), [text])
    assert (read.text, read.finish, read.prompt_tokens) == (" 4", "length", 0)


@pytest.mark.parametrize(
    ("reply", "match"),
    [
        ({"choices": []}, "0 choices"),
        ({"choices": [{}, {}]}, "2 choices"),
        ({"choices": None}, "choices is NoneType"),
        ({}, "choices is NoneType"),
        ({"choices": [{"finish_reason": "stop"}]}, "message is NoneType"),
        (chat(None), "content is NoneType"),
        (chat(5), "content is int"),
        (chat("x", "content_filter"), "finish_reason 'content_filter'"),
        (chat("x", None), "finish_reason"),
        (chat("x", "length"), r"own limit: 2 tokens, max_tokens is 256"),
        (chat(message={"content": None, "refusal": "I will not\nanswer"}), "refuses: 'I will not answer'"),
    ],
)
def test_a_reply_that_is_no_answer_is_refused(reply: dict[str, Any], match: str) -> None:
    """In one line; nothing of it is used."""
    with pytest.raises(Malformed, match=match):
        wire.completion(request(), [reply])


def test_labels_have_the_log_probs_of_the_next_token() -> None:
    """In the order asked; the best token is the one that greedy decoding writes."""
    read = wire.completion(request(continuations=("1", "2")), [top(**{"2": -0.1, "1": -2.5, "x": -4})])
    assert (read.logprobs, read.greedy, read.finish) == ((-2.5, -0.1), (False, True), "score")


def test_a_label_that_is_not_listed_has_at_most_the_smallest_that_is() -> None:
    """An upper bound, since only the most probable tokens are listed."""
    read = wire.completion(request(continuations=("1", "9")), [top(**{"1": -0.1, "x": -3.0, "y": -7.0})])
    assert read.logprobs == (-0.1, -7.0)


def test_a_label_of_several_tokens_is_refused_where_it_matters() -> None:
    """Of "10" only its "1" would be seen; where that is improbable, so is all of it."""
    with pytest.raises(Malformed, match="'10' may be several tokens: it is not listed, '1' is"):
        wire.completion(request(continuations=("10", "2")), [top(**{"1": -1.0, "2": -0.5})])
    read = wire.completion(request(continuations=("10", "2")), [top(**{"1": -9.0, "2": -0.01})])
    assert read.logprobs == (-9.0, -0.01)
    assert wire.completion(request(continuations=("1", "10")), [top(**{"1": -1.0, "10": -0.5})]).greedy == (False, True)


@pytest.mark.parametrize(
    ("reply", "match"),
    [
        (top(the=-0.1, of=-3.0), "none of the labels is among its 2"),
        (top(**{"1": 0.5}), "above zero"),
        (top(**{"1": "-0.5"}), "log-prob is str"),
        (top(**{"1": None}), "log-prob is NoneType"),
        (top(**{"1": True}), "log-prob is bool"),
        (chat(), "logprobs is NoneType"),
        (chat(logprobs={"content": []}), "top_logprobs is NoneType"),
        (chat(logprobs={"content": [{"top_logprobs": [7]}]}), "something else"),
    ],
)
def test_log_probs_out_of_order_are_refused(reply: dict[str, Any], match: str) -> None:
    """A label's score is made of nothing else."""
    with pytest.raises(Malformed, match=match):
        wire.completion(request(continuations=("1", "2")), [reply])


def echo(tokens: list[str], values: list[object], best: list[float], generated: int = 1) -> dict[str, Any]:
    """A completion that gives its prompt back, with one more token."""
    tops = [{"best": value} for value in best]
    logprobs = {"tokens": tokens, "token_logprobs": values, "top_logprobs": tops}
    usage = {"prompt_tokens": len(tokens) - generated}
    return {"choices": [{"text": "", "finish_reason": "length", "logprobs": logprobs}], "usage": usage}


def test_a_continuation_is_scored_by_its_own_tokens() -> None:
    """The prompt's and the one that was generated do not count; special tokens before them do no harm."""
    reply = echo(["<s>", "2+2", "=", " ", "4", "!"], [None, -9, -8, -0.5, -0.25, -7], [0, -1, -1, -0.5, -0.25, -7])
    read = wire.completion(request("2+2=", continuations=(" 4",)), [reply])
    assert (read.logprobs, read.greedy) == ((-0.75,), (True,))
    assert (read.prompt_tokens, read.completion_tokens) == (3, 2)


def test_a_continuation_whose_first_token_is_not_the_best_is_not_greedy() -> None:
    """Whatever its later tokens are."""
    reply = echo(["2+2=", " ", "4", "!"], [None, -1.5, -0.25, -7], [0, -0.5, -0.25, -7])
    assert wire.completion(request("2+2=", continuations=(" 4",)), [reply]).greedy == (False,)


@pytest.mark.parametrize(
    ("reply", "match"),
    [
        (echo(["2+2", "= 4", "!"], [None, -1, -1], [0, -1, -1]), "do not part at the beginning of ' 4'"),
        (echo([" 4", "!"], [None, -1], [0, -1]), "log-prob is NoneType"),
        (echo(["!"], [-1], [-1]), "do not part"),
        (echo([], [], [], generated=-4), "echo"),
        (chat(text=""), "logprobs is NoneType"),
    ],
)
def test_an_echo_out_of_order_is_refused(reply: dict[str, Any], match: str) -> None:
    """Endpoints that give no prompt back cannot score continuations."""
    with pytest.raises(Malformed, match=match):
        wire.completion(request("2+2=", continuations=(" 4",)), [reply])


@given(st.text(min_size=1), st.integers(0, 100))
def test_jitter_is_full_bounded_and_the_same_every_time(name: str, number: int) -> None:
    """Between nothing and a bound that doubles up to twenty seconds."""
    pause = wire.jitter(name, number)
    assert 0 <= pause <= min(20.0, 0.5 * 2 ** min(number, 10))
    assert pause == wire.jitter(name, number)


def test_jitter_spreads() -> None:
    """Many requests do not come again together: the pauses fill their range evenly."""
    draws = [wire.jitter(f"request {i}", 0) / 0.5 for i in range(2000)]
    assert math.isclose(sum(draws) / 2000, 0.5, abs_tol=0.03)
    assert min(draws) < 0.01 < 0.99 < max(draws)


NOW = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        (" 0.5 ", 0.5),
        ("Fri, 01 May 2026 12:00:30 GMT", 30.0),
        ("Fri, 01 May 2026 11:00:00 GMT", 0.0),
        ("Fri, 01 May 2026 12:00:30 -0000", 30.0),
        ("soon", None),
        ("-3", None),
        ("nan", None),
        ("9" * 40, None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    """What is neither says nothing."""
    assert wire.retry_after(header, NOW) == seconds


def test_a_refusals_reason_is_shown_inert_and_short() -> None:
    """Whatever a server wrote there."""
    assert wire.reason(b'{"error": {"message": "no such\\nmodel"}}') == "'no such model'"
    assert wire.reason(b'{"error": "plain"}') == "'plain'"
    assert wire.reason(b"<html>") == wire.reason(b'{"error": 5}') == wire.reason(b'{"detail": "x"}') == ""
    assert wire.shown("\x1b[31m\u202ered") == "' [31m red'"
    assert len(wire.shown("x" * 500)) == 62
