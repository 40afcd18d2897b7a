"""A chat completion of the OpenAI kind as one of our requests, and a completion as its reply. No sockets here."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evalgate.digest import short
from evalgate.instrument import JudgeModel
from evalgate.request import Completion, Request

Messages = tuple[Mapping[str, str], ...]
Render = Callable[[JudgeModel, Messages], str | None]

MAX_TOKENS = 1024
"""Of a reply, where a library names no limit."""
LONGEST = 300
"""Characters of a text in a reply that has a schema: one that never ends would leave no grade."""
KNOWN = frozenset(
    {
        *("model", "messages", "temperature", "top_p", "seed", "stop", "n", "response_format"),
        *("max_tokens", "max_completion_tokens"),
        *("user", "metadata", "store", "parallel_tool_calls", "service_tier"),  # which change no answer
    }
)
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
ANY_OBJECT = {"type": "object"}
HIDDEN = "\u200b"
# Control tokens that models are known to read, for judges whose own list is not known: `<|im_end|>`, `</s>`, `[INST]`.
_CONTROL = re.compile(
    r"<(?=[|｜])"
    r"|<(?=/?(?:s|bos|eos|pad|unk|mask|think|tool_call|tool_response|(?:start|end)_of_turn|start_of_image|turn)>)"
    r"|<(?=</?SYS>>)"
    r"|\[(?=/?[A-Z_]{2,}\])"
)


class Refusal(Exception):  # noqa: N818 - an answer to a client, not a fault of ours
    """What a client asks for and does not get, with the HTTP status that says so."""

    def __init__(self, what: str, status: int = 400) -> None:
        super().__init__(what)
        self.status = status


def to_request(body: object, models: Mapping[str, JudgeModel], render: Render) -> Request:
    """The request that a chat completion means.

    It is addressed to the judge, whose digest stands where a checkpoint's would: who asks the engine knows the
    checkpoint. Where nothing is said, nothing is drawn: the temperature is 0. Texts of messages are neutralised (see
    `neutral`) before the judge's template sees them.

    Args:
        body: of `POST /v1/chat/completions`, read from JSON.
        models: by the names that clients call them by.
        render: messages to the text of a prompt with the judge's template, `None` where an endpoint does that itself.

    Raises:
        Refusal: it asks for what we do not do, or is no chat completion.
    """
    if not isinstance(body, dict):
        raise Refusal("the body is no JSON object")
    if unknown := sorted(name for name, value in body.items() if name not in KNOWN and value):
        raise Refusal(f"{', '.join(unknown)[:200]}: not supported by this gateway")
    model = models.get(body["model"]) if isinstance(body.get("model"), str) else None
    if model is None:
        raise Refusal(f"there is no model {str(body.get('model'))[:100]!r}, only {', '.join(models)}", 404)
    if body.get("n") not in (None, 1):
        raise Refusal("n: only one choice is given")
    shown = _messages(body.get("messages"), model.special)
    prompt = render(model, shown)
    schema = _schema(body.get("response_format"))
    limits = [body[name] for name in ("max_completion_tokens", "max_tokens") if body.get(name) is not None]
    return Request(
        checkpoint=model.digest,  # the same weights in two engines are two judges
        prompt=prompt or "",
        special_tokens=False,  # the template has written them
        max_tokens=int(_number("max_tokens", limits[0] if limits else MAX_TOKENS, 1, whole=True)),
        temperature=_number("temperature", _given(body, "temperature", 0.0), 0.0),
        top_p=_number("top_p", _given(body, "top_p", 1.0), 0.0),
        stop=_stop(body.get("stop")),
        seed=int(_number("seed", _given(body, "seed", 0), -math.inf, whole=True)),
        json_schema=schema if schema is None or prompt is None else _bounded(schema),  # strict endpoints refuse it
        messages=None if prompt is not None else shown,
    )


def to_reply(model: str, completion: Completion) -> dict[str, Any]:
    """The chat completion that a library reads."""
    return {
        "id": f"chatcmpl-{short(completion.request, 24)}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": completion.text, "refusal": None},
                "logprobs": None,
                "finish_reason": completion.finish,
            }
        ],
        "usage": {
            "prompt_tokens": completion.prompt_tokens,
            "completion_tokens": completion.completion_tokens,
            "total_tokens": completion.prompt_tokens + completion.completion_tokens,
        },
    }


def neutral(text: str, special: Sequence[str] = ()) -> str:
    """The text with a zero-width space inside everything that a tokenizer could take for a control token.

    Libraries write candidates' texts into their prompts as they are, so a text that holds `<|im_end|>` could end the
    message that it stands in. To a reader nothing changes; a special token of one character becomes U+FFFD.

    Args:
        text: of a message.
        special: texts of the judge's own special tokens.
    """
    starts = {match.start() for match in _CONTROL.finditer(text)}
    for token in special:
        if len(token) == 1:
            text = text.replace(token, "\ufffd")  # of the same length: places stay
        elif token:
            starts |= {match.start() for match in re.finditer(f"(?={re.escape(token)})", text)}
    if not starts:
        return text
    return "".join(f"{letter}{HIDDEN}" if at in starts else letter for at, letter in enumerate(text))


def _messages(value: object, special: Sequence[str]) -> Messages:
    if not isinstance(value, list) or not value:
        raise Refusal("messages: expected a list with at least one message")
    found = []
    for message in value:
        role = message.get("role") if isinstance(message, dict) else None
        if not isinstance(role, str) or role not in ROLES:
            raise Refusal("messages: expected the roles system, developer, user and assistant")
        found.append({"role": ROLES[role], "content": neutral(_text(message.get("content")), special)})
    return tuple(found)


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    texts = [
        part.get("text")
        for part in (content if isinstance(content, list) else [None])
        if isinstance(part, dict) and part.get("type") == "text"
    ]
    if not isinstance(content, list) or len(texts) != len(content) or not all(isinstance(text, str) for text in texts):
        raise Refusal("messages: expected content that is text, or parts of type text")
    return "".join(str(text) for text in texts)


def _given(body: Mapping[str, Any], name: str, default: float) -> object:
    value = body.get(name)
    return default if value is None else value


def _number(name: str, value: object, low: float, *, whole: bool = False) -> float:
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value) or value < low:
        raise Refusal(f"{name}: expected a {'whole ' if whole else ''}number, at least {low:g}")
    return value


def _stop(value: object) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else ([] if value is None else value)
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
        raise Refusal("stop: expected a text or a list of texts")
    return tuple(texts)


def _schema(value: object) -> Mapping[str, Any] | None:
    if value is None:
        return None
    kind = value.get("type") if isinstance(value, dict) else None
    if isinstance(value, dict) and kind == "json_schema":
        described = value.get("json_schema")
        schema = described.get("schema") if isinstance(described, dict) else None
        if isinstance(schema, dict):
            return schema
    if kind == "json_object":
        return ANY_OBJECT
    if kind == "text":
        return None
    raise Refusal("response_format: expected text, json_object, or json_schema with a schema")


def _bounded(schema: Any) -> Any:
    """The schema with a longest length for every text that has no form of its own."""
    if isinstance(schema, list):
        return [_bounded(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    found = {name: _bounded(item) for name, item in schema.items()}
    free = found.get("type") == "string" and not {"enum", "const", "pattern", "format", "maxLength"} & found.keys()
    return {**found, "maxLength": LONGEST} if free else found
