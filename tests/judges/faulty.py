"""An OpenAI-compatible server that breaks on demand, and answers the same to the same question when it is healthy.

It is public: use it to see what your own gates do when an endpoint misbehaves. Nothing is needed but Python.

```python
with FaultyServer() as server:                 # healthy, on a free port of 127.0.0.1
    ask(server.url)                            # http://127.0.0.1:PORT/v1, any key, the model "judge"
    server.become("429-retry-after", times=2)  # the next two requests get the fault, then it is healthy again
    server.become("hang")                      # every request from now on, until server.become("healthy")
    assert server.count == 3                   # requests since it started; server.seen has what they said
```

`python -m tests.judges.faulty [FAULT] [PORT]` serves until it is interrupted.

A healthy answer is a function of the question alone. With `response_format` of a JSON schema it is an object of that
schema, with `logprobs` there are log-probs of `labels`, with `echo` those of the prompt's characters, else it is a
word. `reply` and `best` replace it: they get the request's body and return the text, or the label to prefer; `pick`
says from the body whether and how this request fails.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import socket
import struct
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

FAULTS: Mapping[str, str] = {
    "429-retry-after": "too many requests, and when to come again",
    "429": "too many requests, without a word about when",
    "500": "an error of the server, as HTML",
    "401": "the key is wrong",
    "hang": "the request is read and nothing comes",
    "drip": "the body comes a byte at a time, for hours",
    "reset": "the connection is reset before an answer",
    "cut": "the connection ends in the middle of the body",
    "truncated": "the body is whole and its JSON is not",
    "prose-body": "the body is a sentence instead of JSON",
    "two-bodies": "the body is two JSON objects",
    "invalid-utf8": "the body is no UTF-8",
    "huge": "a body of 100 MB, of unknown length",
    "no-choices": "no choice at all",
    "wrong-model": "another model has answered",
    "redirect": "go elsewhere",
    "prose": "the text is a sentence where JSON was asked for; no label among the log-probs",
    "nan": "NaN in the place of every number that was asked for",
    "overflow": "1e999 in the place of every number",
    "out-of-range": "a million in the place of every number",
    "string-number": '"5" in the place of every number',
    "two-objects": "two JSON objects in the text",
}
"""Every fault by name. The last six are the model's: HTTP and JSON around them are in order."""

NUMBERS = {"nan": "NaN", "overflow": "1e999", "out-of-range": "1000000", "string-number": '"5"'}
LABELS = ("1", "2", "3", "4", "5", "A", "B", "C", "Yes", "No", "yes", "no", "true", "false")
SENTENCE = "I would say that this is rather good, but who am I to judge?"
HUGE = 100 * 1024 * 1024
MARK = "\ue000"


@dataclass(frozen=True)
class Seen:
    """A request: its path, the Authorization header and the body."""

    path: str
    authorization: str | None
    body: Mapping[str, Any]


class FaultyServer:
    """The server; a context manager.

    Args:
        fault: one of `FAULTS`, or `healthy`.
        times: how many requests get it; `None` is all.
        model: that says to have answered; by default the one that was asked for.
        labels: tokens that log-probs are given of, at most 20.
        reply: body of a request to the text of its answer.
        best: body of a request for log-probs to its most probable label.
        pick: body of a request to the fault that it gets, whatever else the server does; `None` leaves it to `become`.
        key: the only key that is accepted; `None` accepts anything.
        retry_after: value of that header.
        port: to listen on; 0 is a free one.

    Attributes:
        seen: what was asked, in order.
    """

    def __init__(
        self,
        fault: str = "healthy",
        times: int | None = None,
        *,
        model: str | None = None,
        labels: Sequence[str] = LABELS,
        reply: Callable[[Mapping[str, Any]], str] | None = None,
        best: Callable[[Mapping[str, Any]], str] | None = None,
        pick: Callable[[Mapping[str, Any]], str | None] | None = None,
        key: str | None = None,
        retry_after: str = "1",
        port: int = 0,
    ) -> None:
        self.model, self.labels, self.reply, self.key = model, tuple(labels)[:20], reply, key
        self.best, self.pick, self.retry_after = best, pick, retry_after
        self.seen: list[Seen] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self.become(fault, times)
        self._http = _Http(("127.0.0.1", port), _Handler)
        self._http.faulty = self
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> FaultyServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """Base address, ending in `/v1`."""
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    @property
    def count(self) -> int:
        """How many questions were asked."""
        return len(self.seen)

    def become(self, fault: str, times: int | None = None) -> None:
        """Break from the next request on, for so many of them; `healthy` mends."""
        if fault not in FAULTS and fault != "healthy":
            raise ValueError(f"no fault {fault!r}; there are healthy, {', '.join(FAULTS)}")
        with self._lock:
            self._fault, self._left = fault, times

    def next_fault(self, seen: Seen) -> str:
        """Note a request and say which fault it gets."""
        with self._lock:
            self.seen.append(seen)
            if self.pick and (fault := self.pick(seen.body)):
                return fault
            if self._left is not None:
                if self._left <= 0:
                    return "healthy"
                self._left -= 1
            return self._fault

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the server closes, or for so long; whether it closes."""
        return self._closing.wait(seconds)


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # handlers that hang end with their connection
    faulty: FaultyServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are what this server is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Http

    def do_GET(self) -> None:
        """The list of models."""
        model = self.server.faulty.model or "judge"
        self._send(200, json.dumps({"object": "list", "data": [{"id": model, "object": "model"}]}).encode())

    def do_POST(self) -> None:
        """A completion, or a fault."""
        faulty = self.server.faulty
        asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        fault = faulty.next_fault(Seen(self.path, self.headers.get("Authorization"), asked))
        if fault == "401" or (faulty.key and self.headers.get("Authorization") != f"Bearer {faulty.key}"):
            said = f"Incorrect API key provided: {self.headers.get('Authorization')}"  # servers do repeat keys
            return self._send(401, json.dumps({"error": {"message": said, "code": "invalid_api_key"}}).encode())
        if fault == "healthy" or fault in NUMBERS or fault in ("wrong-model", "no-choices", "prose", "two-objects"):
            if self.path not in ("/v1/chat/completions", "/v1/completions"):
                return self._send(404, json.dumps({"error": {"message": f"no path {self.path}"}}).encode())
            if not (fault == "two-objects" and asked.get("logprobs")):  # log-probs are no text: their body doubles
                return self._send(200, answer(faulty, asked, fault).encode())
            fault = "two-bodies"
        return self._break(fault, answer(faulty, asked, "healthy").encode())

    def _break(self, fault: str, good: bytes) -> None:
        faulty = self.server.faulty
        match fault:
            case "429" | "429-retry-after":
                headers = {"Retry-After": faulty.retry_after} if fault != "429" else {}
                self._send(429, b'{"error": {"message": "Rate limit reached", "type": "requests"}}', headers)
            case "500":
                self._send(500, b"<html><h1>500 Internal Server Error</h1></html>")
            case "redirect":
                self._send(307, b"", {"Location": f"{faulty.url}/elsewhere/chat/completions"})
            case "hang":
                faulty.wait()
                self.close_connection = True
            case "reset":
                # Lingering for no time makes the close a reset.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True
            case "drip":
                self._head(200, {"Content-Length": str(HUGE)})
                while not faulty.wait(0.05):
                    self.wfile.write(b" ")
            case "cut":
                self._head(200, {"Content-Length": str(len(good))})
                self.wfile.write(good[: len(good) // 2])
                self.close_connection = True
            case "huge":
                self._head(200, {"Connection": "close"})
                for _ in range(HUGE // (1 << 20)):
                    self.wfile.write(b" " * (1 << 20))
                self.wfile.write(good)
            case "truncated":
                self._send(200, good[: len(good) // 2])
            case "prose-body":
                self._send(200, SENTENCE.encode())
            case "two-bodies":
                self._send(200, good + b"\n" + good)
            case _:
                self._send(200, good.replace(b'"cmpl-', b'"\xff\xfe'))

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json"} | dict(headers)).items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self._head(status, {"Content-Length": str(len(body))} | dict(headers or {}))
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


def answer(faulty: FaultyServer, asked: Mapping[str, Any], fault: str) -> str:
    """The body of a whole reply, with the faults that a model itself may make."""
    chat = "messages" in asked
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "logprobs": None}
    if chat and asked.get("logprobs"):
        labels = ("the", "of", "and") if fault == "prose" else faulty.labels
        best = faulty.best(asked) if faulty.best else None
        row = [
            {"token": token, "logprob": value, "bytes": list(token.encode())}
            for token, value in _weigh(labels, asked, best)
        ]
        row = row[: max(1, int(asked.get("top_logprobs") or 0))]
        text = str(row[0]["token"])
        choice["logprobs"] = {"content": [row[0] | {"top_logprobs": row}]}
        choice["finish_reason"] = "length"
    elif asked.get("echo"):
        said = str(asked["prompt"])
        values = [None, *(-1 - hashed([said[: i + 1]]) for i in range(1, len(said)))]
        choice["logprobs"] = {"tokens": list(said), "token_logprobs": values, "text_offset": list(range(len(said)))}
        choice["logprobs"]["top_logprobs"] = [value and {said[i]: value} for i, value in enumerate(values)]
        text = said
    else:
        text = _text(faulty, asked, fault)
    choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
    length = len(str(asked["messages"] if chat else asked["prompt"]))
    model = "somebody-else" if fault == "wrong-model" else faulty.model or asked.get("model")
    body = {
        "id": f"cmpl-{digest(asked)[:12]}",
        "object": "chat.completion" if chat else "text_completion",
        "created": 0,
        "model": model,
        "choices": [] if fault == "no-choices" else [choice],
        "usage": {"prompt_tokens": length, "completion_tokens": 1, "total_tokens": length + 1},
    }
    if fault in NUMBERS and choice["logprobs"]:
        body = _marked(body, "logprob", "token_logprobs")
    return json.dumps(body).replace(json.dumps(MARK), NUMBERS.get(fault, "null"))


def _text(faulty: FaultyServer, asked: Mapping[str, Any], fault: str) -> str:
    if fault == "prose":
        return SENTENCE
    if fault == "two-objects":
        text = _text(faulty, asked, "healthy")
        first, second = (text, text) if text.startswith("{") else ('{"score": 1}', '{"score": 5}')
        return f"{first}\n{second}"
    if faulty.reply:
        return faulty.reply(asked)
    schema = ((asked.get("response_format") or {}).get("json_schema") or {}).get("schema")
    if schema is None:
        return NUMBERS.get(fault, f"ok-{digest(asked)[:8]}")
    value = instance(schema, schema, asked)
    if fault not in NUMBERS:
        return json.dumps(value)
    return json.dumps(_unnumbered(value)).replace(json.dumps(MARK), NUMBERS[fault])


def instance(schema: Mapping[str, Any], root: Mapping[str, Any], asked: Any, depth: int = 0) -> Any:
    """A value of a schema, the same one for the same question.

    Args:
        schema: of this value.
        root: where references point into.
        asked: what the value depends on.
        depth: how deep it lies; schemas that hold themselves end in empty lists.
    """
    share = hashed([asked, schema, depth])
    if "$ref" in schema:
        return instance(root["$defs"][schema["$ref"].rpartition("/")[2]], root, asked, depth + 1)
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return instance(schema[several][0], root, asked, depth + 1)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][int(share * len(schema["enum"]))]
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    low, high = schema.get("minimum", 0), schema.get("maximum", 1 if kind == "number" else 10)
    match kind:
        case "object":
            inner = schema.get("properties", {})
            return {name: instance(part, root, [asked, name], depth + 1) for name, part in inner.items()}
        case "array":
            count = schema.get("minItems", 1) if depth < 12 else 0
            return [instance(schema.get("items", {}), root, [asked, i], depth + 1) for i in range(count)]
        case "integer":
            return low + int(share * (high - low + 1))
        case "number":
            return round(low + share * (high - low), 3)
        case "boolean":
            return share < 0.5
        case "null":
            return None
    return f"text {digest([asked, schema])[:8]}"


def digest(value: Any) -> str:
    """Hexadecimal digits that depend on a JSON value alone."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def hashed(value: Any) -> float:
    """A number in [0, 1) that depends on a JSON value alone."""
    return int(digest(value)[:8], 16) / 2**32


def _weigh(labels: Sequence[str], asked: Any, best: str | None) -> list[tuple[str, float]]:
    """Log-probs that sum to .99, best first; one may be given, which then is far above the others."""
    weights = {label: math.exp(6 * hashed([asked.get("messages"), label]) + 9 * (label == best)) for label in labels}
    total = sum(weights.values()) / 0.99
    pairs = [(label, math.log(weight / total)) for label, weight in weights.items()]
    return sorted(pairs, key=lambda pair: -pair[1])


def _unnumbered(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _unnumbered(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_unnumbered(inner) for inner in value]
    return MARK if isinstance(value, int | float) and not isinstance(value, bool) else value


def _marked(value: Any, *names: str) -> Any:
    """The value with a mark in the place of every number under these names."""
    if isinstance(value, dict):
        return {k: _unnumbered(v) if k in names else _marked(v, *names) for k, v in value.items()}
    return [_marked(inner, *names) for inner in value] if isinstance(value, list) else value


def main(arguments: Sequence[str]) -> None:
    """Serve a fault until interrupted."""
    fault, port = (*arguments, *("healthy", "8000")[len(arguments) :])[:2]
    with FaultyServer(fault, port=int(port)) as server, contextlib.suppress(KeyboardInterrupt):
        sys.stdout.write(f"{fault}: {server.url}\n")
        sys.stdout.flush()
        server.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
