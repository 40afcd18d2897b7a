"""What is sent to an OpenAI-compatible endpoint, and how its replies are read: strictly, for they are anybody's text.

Standard library only, and no connection: bytes in, completions out.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

from evalgate.request import Completion, Request

TOP = 20  # log-probs of the next token that an endpoint gives at most
UNLISTED = math.log(0.01)  # how probable the beginning of a label may be that is not listed itself
ROUNDING = 1e-4  # nats above zero that are no fault
PAUSE, LONGEST_PAUSE = 0.5, 20.0  # seconds: the first pause is at most this long, later ones twice as long each
CHAT, TEXT = "chat/completions", "completions"


class Malformed(Exception):  # noqa: N818 - what it is
    """A reply that cannot be an answer, in one line; nothing of it is used."""


def questions(request: Request, model: str, extra: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Path and body of what has to be asked for one request: one question, or one per continuation of a plain text.

    Args:
        request: with `messages`, or a plain `prompt`.
        model: name at the endpoint.
        extra: further fields of every body.

    Raises:
        Malformed: this cannot be asked of an endpoint.
    """
    if not all(request.continuations):
        raise Malformed("a continuation is empty: it has no tokens to score")
    if request.messages is not None:
        body: dict[str, Any] = {"model": model, "messages": [dict(message) for message in request.messages]}
        if request.continuations:
            look = {"max_tokens": 1, "temperature": 0.0, "logprobs": True, "top_logprobs": TOP}
            return [(CHAT, {**extra, **body, **look})]
        return [(CHAT, {**extra, **body, **_sampling(request)})]
    if not request.special_tokens:
        raise Malformed("the prompt was rendered by a chat template, and an endpoint applies its own")
    if request.continuations:
        # The log-probs of a text are those of a prompt that is given back.
        echo = {"max_tokens": 1, "temperature": 0.0, "echo": True, "logprobs": 1}
        texts = [request.prompt + text for text in request.continuations]
        return [(TEXT, {**extra, "model": model, "prompt": text, **echo}) for text in texts]
    return [(TEXT, {**extra, "model": model, "prompt": request.prompt, **_sampling(request)})]


def _sampling(request: Request) -> dict[str, Any]:
    """Fields of a body; what changes nothing is not sent, since not every endpoint knows every field."""
    said: dict[str, Any] = {"max_tokens": request.max_tokens, "temperature": float(request.temperature)}
    if request.temperature > 0:
        said["top_p"] = float(request.top_p)
        said |= {"seed": request.seed} if request.seed is not None else {}
        said |= {"top_k": request.top_k} if request.top_k > 0 else {}
    if request.stop:
        said["stop"] = list(request.stop)
    if request.json_schema is not None:
        schema = {"name": "answer", "schema": dict(request.json_schema), "strict": True}
        said["response_format"] = {"type": "json_schema", "json_schema": schema}
    return said


def encode(body: Mapping[str, Any]) -> bytes:
    """A body in bytes (Malformed where a text in it is no Unicode)."""
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except UnicodeEncodeError:
        raise Malformed("the text is not valid Unicode (a lone surrogate)") from None


def read_json(body: bytes) -> dict[str, Any]:
    """A reply's JSON object: UTF-8, no key twice, every number finite (Malformed)."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed(f"its body is not UTF-8 (byte {error.start})") from None
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_finite)
    except RecursionError:
        raise Malformed("its body is nested too deeply") from None
    except ValueError as error:  # JSONDecodeError, or an integer of thousands of digits
        what = f"{error.msg} (character {error.pos})" if isinstance(error, json.JSONDecodeError) else "a huge number"
        raise Malformed(f"its body is no JSON: {what}") from None
    if not isinstance(value, dict):
        raise Malformed("its body is no JSON object")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Malformed("its body has a key twice")
    return found


def _constant(name: str) -> NoReturn:
    raise Malformed(f"its body holds {name}")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise Malformed("its body holds a number beyond all bounds")
    return value


def answered_by(reply: Mapping[str, Any], asked: str, names: Sequence[str]) -> str:
    """Who says to have answered, where that is who was asked.

    Args:
        reply: from the endpoint.
        asked: name of the model.
        names: what it may say instead; without any, the name asked for, or that name with a date: endpoints answer to
            `gpt-x` with `gpt-x-2026-05-01`.

    Raises:
        Malformed: somebody else, or nobody.
    """
    said = reply.get("model")
    if not isinstance(said, str):
        raise Malformed("it does not say which model answered")
    dated = re.fullmatch(re.escape(asked) + r"-\d{4}-?\d{2}-?\d{2}", said, re.ASCII)
    if said not in names if names else not (said == asked or dated):
        raise Malformed(
            f"it was answered by {shown(said)}, asked was {shown(asked)} (if that is its name, set engine.model_says)"
        )
    return said


def completion(request: Request, replies: Sequence[Mapping[str, Any]]) -> Completion:
    """The answer to a request, from the replies to its questions (Malformed where it cannot be told)."""
    if not request.continuations:
        return _written(request, replies[0])
    if request.messages is not None:
        return _labelled(request, replies[0])
    scores = [_echoed(reply, text) for reply, text in zip(replies, request.continuations, strict=True)]
    return Completion(
        request.id,
        finish="score",
        logprobs=tuple(value for value, _, _ in scores),
        greedy=tuple(greedy for _, greedy, _ in scores),
        prompt_tokens=_tokens(replies[0], "prompt_tokens") - scores[0][2],
        completion_tokens=sum(count for _, _, count in scores),
    )


def _written(request: Request, reply: Mapping[str, Any]) -> Completion:
    choice = _choice(reply)
    message = _get(choice, "message", dict) if request.messages is not None else choice
    finish = choice.get("finish_reason")
    if message.get("refusal"):
        raise Malformed(f"it refuses: {shown(str(message['refusal']))}")
    if finish not in ("stop", "length"):
        raise Malformed(f"it ended with finish_reason {shown(str(finish))}, expected stop or length")
    text = _get(message, "content" if request.messages is not None else "text", str)
    count = _tokens(reply, "completion_tokens")
    if finish == "length" and 0 < count < request.max_tokens:
        raise Malformed(f"cut at the endpoint's own limit: {count} tokens, max_tokens is {request.max_tokens}")
    return Completion(
        request.id,
        text=text,
        finish=finish,
        prompt_tokens=_tokens(reply, "prompt_tokens"),
        completion_tokens=count,
    )


def _labelled(request: Request, reply: Mapping[str, Any]) -> Completion:
    """Log-probs of labels as the next token.

    An endpoint lists only the most probable tokens. A label that is not among them has the smallest log-prob that is
    listed: it cannot have more.
    """
    content = _get(_get(_choice(reply), "logprobs", dict), "content", list)
    first = content[0] if content and isinstance(content[0], dict) else {}
    row: dict[str, float] = {}
    for entry in _get(first, "top_logprobs", list):
        if not isinstance(entry, dict):
            raise Malformed("top_logprobs holds something else than objects")
        token = _get(entry, "token", str)
        row[token] = max(_logprob(entry.get("logprob")), row.get(token, -math.inf))
    if not any(label in row for label in request.continuations):
        listed = ", ".join(shown(token, 12) for token in list(row)[:5]) or "nothing"
        raise Malformed(f"none of the labels is among its {len(row)} most probable tokens ({listed}, …)")
    for label in request.continuations:
        begins = [token for token in row if token and label.startswith(token)]
        if label not in row and any(row[token] > UNLISTED for token in begins):
            raise Malformed(f"{shown(label)} may be several tokens: it is not listed, {shown(begins[0])} is")
    least, best = min(row.values()), max(row, key=row.__getitem__)
    return Completion(
        request.id,
        finish="score",
        logprobs=tuple(row.get(label, least) for label in request.continuations),
        greedy=tuple(label == best for label in request.continuations),
        prompt_tokens=_tokens(reply, "prompt_tokens"),
        completion_tokens=len(request.continuations),
    )


def _echoed(reply: Mapping[str, Any], text: str) -> tuple[float, bool, int]:
    """Log-likelihood of the text that ends the prompt, whether greedy decoding writes it, and its tokens."""
    found = _get(_choice(reply), "logprobs", dict)
    count = _tokens(reply, "prompt_tokens")
    tokens, values, tops = (_get(found, name, list)[:count] for name in ("tokens", "token_logprobs", "top_logprobs"))
    if not (len(tokens) == len(values) == len(tops) == count and all(isinstance(token, str) for token in tokens)):
        raise Malformed("it does not give the log-probs of the prompt back (echo)")
    start, size = count, 0
    while start > 0 and size < len(text):
        start -= 1
        size += len(tokens[start])
    if "".join(tokens[start:]) != text:
        raise Malformed(f"its tokens do not part at the beginning of {shown(text)}")
    scores = [_logprob(value) for value in values[start:]]
    best = [max(map(_logprob, top.values())) if isinstance(top, dict) and top else math.inf for top in tops[start:]]
    return sum(scores), all(score >= most for score, most in zip(scores, best, strict=True)), len(scores)


def _choice(reply: Mapping[str, Any]) -> dict[str, Any]:
    choices = _get(reply, "choices", list)
    if len(choices) != 1 or not isinstance(choices[0], dict):
        raise Malformed(f"it has {len(choices)} choices, expected one")
    return choices[0]


def _get(holder: Mapping[str, Any], name: str, kind: type[Any]) -> Any:
    value = holder.get(name)
    if not isinstance(value, kind):
        raise Malformed(f"{name} is {type(value).__name__}, expected {kind.__name__}")
    return value


def _logprob(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Malformed(f"a log-prob is {type(value).__name__}, expected a number")
    if value > ROUNDING:
        raise Malformed(f"a log-prob is {value:g}, above zero")
    return float(value)


def _tokens(reply: Mapping[str, Any], name: str) -> int:
    """A count of tokens; 0 where the endpoint does not say."""
    usage = reply.get("usage")
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if type(value) is int and value >= 0 else 0


def jitter(request: str, number: int) -> float:
    """Seconds to wait after an attempt, the first being 0: full jitter, the same for a request in every run."""
    longest = min(LONGEST_PAUSE, PAUSE * float(1 << min(number, 16)))
    return random.Random(f"{request} {number}").uniform(0, longest)  # noqa: S311 - no secret


def retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks for, given as seconds or as a date; `None` where it says neither."""
    if value is None:
        return None
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value.strip(), re.ASCII):
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())


def reason(body: bytes) -> str:
    """What the body of a refusal says, for a message."""
    try:
        error = read_json(body).get("error")
        said = error.get("message") if isinstance(error, dict) else error
    except Malformed:
        said = None
    return shown(said, 160) if isinstance(said, str) else ""


def shown(text: str, limit: int = 60) -> str:
    """Foreign text in a message: one line, printable, quoted, short."""
    inert = "".join(char if char.isprintable() else " " for char in text[: limit + 1])
    return f"'{inert}'" if len(inert) <= limit else f"'{inert[: limit - 1]}…'"
