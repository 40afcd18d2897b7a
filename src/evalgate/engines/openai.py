"""An OpenAI-compatible endpoint as an engine: many requests on their way at once, each with a budget of its own.

Loaded by the child only. What may pass by itself is asked again: connections that fail, silence, and the statuses in
`AGAIN`, with full jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/) and Retry-After.
A whole reply that is wrong is an error at once.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from time import monotonic
from typing import Any

import httpx

from evalgate import __version__
from evalgate.checkpoint import Checkpoint
from evalgate.engines import openai_wire as wire
from evalgate.engines.backend import Refused
from evalgate.engines.endpoint import LOOKS, EndpointOptions, endpoint_options
from evalgate.engines.openai_wire import Malformed
from evalgate.engines.protocol import Start
from evalgate.errors import ConfigError, EngineError
from evalgate.request import Completion, Request

AGAIN = frozenset({408, 409, 425, 429, *range(500, 600)})
WRONG = {  # where nothing was ever answered, these are everybody's
    401: "Check the key in the environment variable that engine.api_key_env names.",
    403: "Check that the key in the variable that engine.api_key_env names may use this model.",
    404: "Check engine.url, which usually ends in /v1, and the model's name.",
}
TRIES = 3  # rounds of requests in a row without an answer after which nothing more is asked in this session
LIMIT = 300  # characters of an error


class Passing(Exception):  # noqa: N818 - what it is
    """Trouble that may pass by itself, in one line.

    Attributes:
        pause: seconds that the endpoint asks to wait, `None` where it does not say.
    """

    def __init__(self, what: str, pause: float | None = None) -> None:
        super().__init__(what)
        self.pause = pause


@dataclass(slots=True)
class Attempts:
    """How often one request was sent until when, and what came of the last time."""

    deadline: float
    count: int = 0
    trouble: str = "nothing was sent"


class OpenAiBackend:
    """Asks endpoints; every checkpoint is one.

    Args:
        start: what the child was started with.
    """

    def __init__(self, start: Start) -> None:
        self.options = endpoint_options(start.options)
        self.key = _key(self.options.api_key_env)
        self.loop = asyncio.new_event_loop()
        self.client = _client(self.options, self.key)
        self.said: dict[str, str] = {}  # checkpoint to the model that says to answer for it
        self.silent = 0  # requests in a row that nobody answered, over all batches: libraries ask in many small ones
        self.trouble = ""  # the last one's

    def prepare(self, checkpoint: Checkpoint) -> None:
        """Nothing to load."""
        if checkpoint.kind != "endpoint":
            raise Refused(f"{checkpoint.name}: the openai engine asks endpoints, and this is a folder")

    def environment(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """Names, since an endpoint shows nothing else: it can change behind them."""
        return {
            **LOOKS,
            "url": checkpoint.path,
            "model": checkpoint.name,
            "revision": self.options.revision,
            "answered_by": self.said.get(checkpoint.digest),
            "client": f"httpx {httpx.__version__}",
        }

    def answer(self, checkpoint: Checkpoint, requests: Sequence[Request]) -> Iterator[Completion]:
        """Answer every request, as they finish."""
        waiting = iter(requests)
        done: asyncio.Queue[Completion | Exception] = asyncio.Queue()

        async def work() -> None:
            try:
                for request in waiting:
                    done.put_nowait(await self._answer(checkpoint, request))
            except Exception as error:  # it ends the batch, in the thread that waits for it
                done.put_nowait(error)

        workers = [self.loop.create_task(work()) for _ in range(min(self.options.concurrency, len(requests)))]
        try:
            for _ in requests:
                came = self.loop.run_until_complete(done.get())
                if isinstance(came, Exception):
                    raise came
                yield came
        finally:
            for worker in workers:
                worker.cancel()
            self.loop.run_until_complete(asyncio.gather(*workers, return_exceptions=True))

    async def _answer(self, checkpoint: Checkpoint, request: Request) -> Completion:
        """One request with all its attempts; whatever goes wrong is an error in one line."""
        began = monotonic()
        attempts = Attempts(began + self.options.total_timeout)
        try:
            async with asyncio.timeout(self.options.total_timeout):
                questions = self._questions(checkpoint, request)
                replies = [await self._reply(checkpoint, request, *each, attempts) for each in questions]
            answer = wire.completion(request, replies)
            self._require_no_key(answer.text)
        except Malformed as error:
            trouble = str(error)
        except (Passing, TimeoutError):
            trouble = self.trouble = attempts.trouble
            self.silent += 1
        else:
            self.silent = 0
            return answer
        times = f"{attempts.count} attempt{'' if attempts.count == 1 else 's'}"
        said = f"no answer after {times} in {monotonic() - began:.1f} s: {trouble}"
        return Completion(request.id, error=said if len(said) <= LIMIT else f"{said[: LIMIT - 1]}…")

    def _questions(self, checkpoint: Checkpoint, request: Request) -> list[tuple[str, dict[str, Any]]]:
        """What has to be asked (Malformed where it cannot be, or an endpoint is taken for dead)."""
        if self.silent >= TRIES * self.options.concurrency:
            raise Malformed(f"not asked, since {self.silent} requests in a row had no answer ({self.trouble})")
        return wire.questions(request, checkpoint.name, self.options.extra_body or {})

    async def _reply(
        self, checkpoint: Checkpoint, request: Request, path: str, body: dict[str, Any], attempts: Attempts
    ) -> dict[str, Any]:
        """The reply to one question (Malformed, EngineError; Passing or TimeoutError where the budget ends before)."""
        sent = wire.encode(body)
        for number in count():
            attempts.count += 1
            attempts.trouble = "no whole reply in the time there was"
            try:
                status, came = await self._post(f"{checkpoint.path}/{path}", sent)
                break
            except Passing as passing:
                attempts.trouble = str(passing)
                pause = wire.jitter(request.id, number) + (passing.pause or 0.0)
                if monotonic() + pause > attempts.deadline:
                    raise
            await asyncio.sleep(pause)
        if status != 200:
            said = f"HTTP {status} {wire.reason(came)}".strip()
            if status in WRONG and checkpoint.digest not in self.said:
                raise EngineError(f"the endpoint refuses: {said}", where=checkpoint.path, mend=WRONG[status])
            raise Malformed(said)
        reply = wire.read_json(came)
        name = wire.answered_by(reply, checkpoint.name, self.options.names)
        before = self.said.setdefault(checkpoint.digest, name)
        if name != before:
            raise Malformed(f"the endpoint changed: it was {wire.shown(before)}, and now it is {wire.shown(name)}")
        return reply

    async def _post(self, url: str, sent: bytes) -> tuple[int, bytes]:
        """Status and body of one attempt (Passing, Malformed)."""
        try:
            async with self.client.stream("POST", url, content=sent) as response:
                status, came = response.status_code, await self._body(response)
        except httpx.ConnectTimeout:
            raise Passing(f"no connection within {self.options.connect_timeout:g} s") from None
        except httpx.TimeoutException:
            raise Passing(f"silence for {self.options.read_timeout:g} s") from None
        except httpx.TransportError as error:
            said = f": {wire.shown(str(error), 120)}" if str(error) else ""
            raise Passing(f"{type(error).__name__}{said}") from None
        if status in AGAIN:
            again = wire.retry_after(response.headers.get("retry-after"))
            said = f"HTTP {status} {wire.reason(came)}".strip()
            raise Passing(said if again is None else f"{said} (Retry-After: {again:g} s)", again)
        if 300 <= status < 400:
            raise Malformed(f"HTTP {status}: a redirect, which is not followed")
        return status, came

    async def _body(self, response: httpx.Response) -> bytes:
        """What comes, up to the limit, without a key that is repeated; of a refusal only the beginning is wanted."""
        good = response.status_code == 200
        if response.headers.get("content-encoding", "identity") != "identity":
            raise Malformed("its body is compressed, though that was not asked for")
        came = bytearray()
        async for part in response.aiter_raw():
            came += part
            if len(came) > self.options.max_body:
                if good:
                    raise Malformed(f"its body is longer than engine.max_body, {self.options.max_body} bytes")
                break
        if not good and self.key and self.key.encode() in came:
            return b""
        self._require_no_key(came.decode("latin-1"))
        return bytes(came)

    def _require_no_key(self, text: str) -> None:
        """Answers go into caches and records, and no key does."""
        if self.key and self.key in text:
            raise Malformed("it repeats the key that it was asked with; nothing of it is kept")


def _key(variable: str | None) -> str | None:
    """The key in an environment variable; nothing of it is in any message (ConfigError where there is none)."""
    if variable is None:
        return None
    key, where = os.environ.get(variable, ""), "engine.api_key_env"
    if not key:
        raise ConfigError(f"the environment variable {variable} is not set", where=where, mend=f"export {variable}=…")
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise ConfigError(f"{variable} holds no key: expected printable ASCII without spaces", where=where)
    return key


def _client(options: EndpointOptions, key: str | None) -> httpx.AsyncClient:
    """Takes nothing from the environment: no proxy, no .netrc, no other certificates."""
    verify: ssl.SSLContext | bool = True
    if options.ca_file is not None:
        try:
            verify = ssl.create_default_context(cafile=options.ca_file)
        except OSError as error:  # ssl.SSLError is one
            raise ConfigError(f"no certificates can be read from it: {error}", where="engine.ca_file") from None
    return httpx.AsyncClient(
        headers={
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",  # a small body must not become a huge one
            "User-Agent": f"evalgate/{__version__}",
            **({"Authorization": f"Bearer {key}"} if key else {}),
        },
        timeout=httpx.Timeout(options.read_timeout, connect=options.connect_timeout, pool=None),
        limits=httpx.Limits(max_connections=options.concurrency, max_keepalive_connections=options.concurrency),
        verify=verify,
        trust_env=False,
        follow_redirects=False,
    )
