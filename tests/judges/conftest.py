"""Real servers for judges: one that breaks on demand, and vLLM's own OpenAI-compatible one."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from evalgate.engines.environment import child_environment
from tests.judges.faulty import FaultyServer

CHECKPOINTS = Path(__file__).parents[2] / "fixtures/checkpoints"
JUDGE = CHECKPOINTS / "judge"
START_SECONDS = 300.0


@dataclass(frozen=True)
class Served:
    """A checkpoint behind a server.

    Attributes:
        url: base address, ending in `/v1`.
        model: its name there.
        folder: of the checkpoint.
    """

    url: str
    model: str
    folder: Path


@pytest.fixture
def faulty() -> Iterator[FaultyServer]:
    """A server that is healthy until it is told otherwise."""
    with FaultyServer(retry_after="0.1") as server:
        yield server


@pytest.fixture(scope="session")
def vllm_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The tiny judge behind vLLM's OpenAI-compatible server, on a free port of this machine alone."""
    folder = JUDGE if JUDGE.is_dir() else CHECKPOINTS / "v1"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    served = Served(f"http://127.0.0.1:{port}/v1", "tiny-judge", folder)
    options = {
        "--model": str(folder),
        "--served-model-name": served.model,
        "--host": "127.0.0.1",
        "--port": str(port),
        "--dtype": "float32",
        "--block-size": "32",
        "--max-num-seqs": "64",
        "--kv-cache-memory-bytes": str(64 << 20),
        "--generation-config": "vllm",  # the checkpoint's own file has no say in sampling
        "--structured-outputs-config": '{"backend": "xgrammar", "disable_any_whitespace": true}',
        "--seed": "0",
    }
    log = tmp_path_factory.mktemp("vllm-server") / "server.log"
    command = [sys.executable, "-P", "-m", "vllm.entrypoints.openai.api_server", "--enforce-eager"]
    with log.open("wb") as said:
        process = subprocess.Popen(
            [*command, "--disable-uvicorn-access-log", *(word for pair in options.items() for word in pair)],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            env=child_environment("cpu"),
            cwd=log.parent,
            start_new_session=True,
        )
        try:
            _wait_until_healthy(process, port, log)
            yield served
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_until_healthy(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.25)
    raise AssertionError(f"vLLM's server did not start: {log.read_text('utf-8', 'replace')[-2000:]}")
