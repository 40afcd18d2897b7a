"""The gateway: through it judge libraries ask models, as an OpenAI-compatible endpoint on this machine alone.

What it is asked becomes a `Request` and goes to the engine in batches, so that cache, structured output, identity,
retries, deadlines and limits are in one place, whatever the library. Nothing that it answers is worth a retry, and it
says so: what can be tried again, the engine has tried.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import secrets
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from types import TracebackType
from typing import Any

from evalgate.errors import EvalgateError, JudgeError
from evalgate.instrument import Endpoint, JudgeModel
from evalgate.judges.chat import Refusal, Render, to_reply, to_request
from evalgate.judges.wire import first_line
from evalgate.request import Completion, Request

Ask = Callable[[Sequence[Request]], Iterator[Completion]]

HOST = "127.0.0.1"
LARGEST = 16 * 1024 * 1024  # bytes of a body
GATHER_SECONDS = 0.005
IDLE_SECONDS = 120.0  # until a connection that says nothing is closed
LEAVE_SECONDS = 5.0
NO_ANSWER, NO_ENGINE = 422, 424  # which clients do not retry


class Gateway:
    """Serves chat completions while it is entered; entering it gives its `Endpoint`.

    Args:
        models: by the names that clients call them by.
        ask: answers a batch of different requests, in any order. It is called by one thread at a time, with everything
            that came in while it was busy, in order of arrival. What it raises ends the gateway: every call that waits
            and every later one fails with that line.
        render: messages to the text of a prompt, with the judge's chat template applied; `None` for an endpoint, which
            applies its own: then the messages themselves are asked.
    """

    def __init__(self, models: Mapping[str, JudgeModel], ask: Ask, render: Render) -> None:
        self.models = dict(models)
        self._render, self._rendering = render, threading.Lock()
        self._queue = _Queue(ask)
        self._token = secrets.token_urlsafe(32)
        self._server: _Server | None = None

    def __enter__(self) -> Endpoint:
        self._server = _Server(self)
        serve = partial(self._server.serve_forever, poll_interval=0.05)
        self._thread = threading.Thread(target=serve, name="evalgate-gateway", daemon=True)
        self._thread.start()
        self._queue.start()
        return Endpoint(f"http://{HOST}:{self._server.port}/v1", self._token)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._queue.stop()
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None

    def allows(self, authorization: str) -> bool:
        """Whether a header `Authorization` holds the token, compared in constant time."""
        return hmac.compare_digest(authorization.encode("utf-8", "replace"), f"Bearer {self._token}".encode())

    def complete(self, body: object) -> dict[str, Any]:
        """Answer the body of one chat completion.

        Raises:
            Refusal: there is no answer; with the status that says why.
        """
        try:
            with self._rendering:
                request = to_request(body, self.models, self._render)
        except EvalgateError as error:
            raise Refusal(str(error)) from error
        try:
            completion = self._queue.submit(request).result()
        except JudgeError as error:
            raise Refusal(str(error), NO_ENGINE) from error
        if completion.error is not None:
            raise Refusal(completion.error, NO_ANSWER)
        assert isinstance(body, dict)  # noqa: S101 - else it were no request
        return to_reply(body["model"], completion)


class _Queue:
    """Calls `ask` with whatever waits, one batch after the other; the same request in flight is asked once."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._changed = threading.Condition()
        self._waiting: list[Request] = []
        self._futures: dict[str, Future[Completion]] = {}  # by id of the request: waiting, or being asked
        self._ended: str | None = None
        self._thread = threading.Thread(target=self._run, name="evalgate-gateway-asks", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Fail what waits. A batch that is being asked ends with its engine, which is not ours to stop."""
        self._end("the session is over")
        self._thread.join(LEAVE_SECONDS)

    def submit(self, request: Request) -> Future[Completion]:
        with self._changed:
            future = self._futures.get(request.id)
            if future is None:
                future = Future()
                if self._ended is not None:
                    future.set_exception(JudgeError(self._ended))
                    return future
                self._futures[request.id] = future
                self._waiting.append(request)
                self._changed.notify()
            return future

    def _run(self) -> None:
        while batch := self._gather():
            try:
                for completion in self._ask(batch):
                    self._settle(completion)
            except Exception as error:  # whatever it is, clients that wait must hear of it
                name = "" if isinstance(error, EvalgateError) else f"{type(error).__name__}: "
                self._end(f"the engine behind the judge failed: {name}{first_line(error)}")
            for request in batch:
                self._settle(Completion(request.id, error="the engine gave no answer"))

    def _gather(self) -> list[Request]:
        """What waits, after a moment without anything new; nothing when the end has come."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended is not None)
            seen = 0
            while self._ended is None and len(self._waiting) > seen:
                seen = len(self._waiting)
                self._changed.wait(GATHER_SECONDS)
            batch, self._waiting = self._waiting, []
            return [] if self._ended is not None else batch

    def _settle(self, completion: Completion) -> None:
        with self._changed:
            future = self._futures.pop(completion.request, None)
        if future is not None:
            future.set_result(completion)

    def _end(self, why: str) -> None:
        with self._changed:
            self._ended = self._ended or why
            failed, self._futures = self._futures, {}
            self._changed.notify()
        for future in failed.values():
            future.set_exception(JudgeError(self._ended))


class _Server(ThreadingTCPServer):
    """Not `HTTPServer`, which asks the name service who 127.0.0.1 is."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, gateway: Gateway) -> None:
        self.connections: set[socket.socket] = set()
        super().__init__((HOST, 0), partial(_Handler, gateway))
        self.port: int = self.socket.getsockname()[1]

    def server_close(self) -> None:
        super().server_close()
        for connection in tuple(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)  # ends the thread that waits for a next request

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away has nobody to be told."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "evalgate", ""
    timeout = IDLE_SECONDS
    wbufsize = -1  # header and body in one packet
    disable_nagle_algorithm = True
    server: _Server

    def __init__(self, gateway: Gateway, *connection: Any) -> None:
        self.gateway = gateway
        super().__init__(*connection)

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def do_GET(self) -> None:
        self._answer("/v1/models", self._models)

    def do_POST(self) -> None:
        self._answer("/v1/chat/completions", lambda: self.gateway.complete(self._body()))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Say nothing: the terminal is pytest's."""

    def _answer(self, path: str, answer: Callable[[], Mapping[str, Any]]) -> None:
        try:
            self._check(path)
            self._send(200, answer())
        except Refusal as refusal:
            error = {"message": str(refusal), "type": "evalgate", "param": None, "code": None}
            self._send(refusal.status, {"error": error})

    def _check(self, path: str) -> None:
        self.close_connection = True  # of whoever is refused here the body is not read
        hosts = {f"{name}:{self.server.port}" for name in (HOST, "localhost")}
        if self.headers.get("Host", "").lower() not in hosts:  # a web page that has its name point to this machine
            raise Refusal("the header Host names another machine", 403)
        if not self.gateway.allows(self.headers.get("Authorization", "")):
            raise Refusal("the token is wrong or missing", 401)
        if self.path.partition("?")[0] != path:
            raise Refusal("there is nothing here: POST /v1/chat/completions or GET /v1/models", 404)
        if self.command == "GET":
            self._stay()

    def _stay(self) -> None:
        self.close_connection = self.headers.get("Connection", "").lower() == "close"

    def _body(self) -> object:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            raise Refusal("the header Content-Length is missing", 411)
        if len(length) > 12 or int(length) > LARGEST:
            raise Refusal(f"the body is larger than {LARGEST >> 20} MiB", 413)
        raw = self.rfile.read(int(length))
        self._stay()
        try:
            return json.loads(raw.decode("utf-8"))
        except (ValueError, RecursionError):
            raise Refusal("the body is no JSON") from None

    def _models(self) -> Mapping[str, Any]:
        listed = [{"id": name, "object": "model", "created": 0, "owned_by": "evalgate"} for name in self.gateway.models]
        return {"object": "list", "data": listed}

    def _send(self, status: int, value: Mapping[str, Any]) -> None:
        body = json.dumps(value).encode("ascii")
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-should-retry", "false")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
