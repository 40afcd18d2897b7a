"""What a judgement costs: our own judge in one batch, beside deepeval's way of a question for every case.

    python benchmarks/judge_batch.py          prints one table; some minutes on two cores

All judge sums with one tiny model, fixtures/checkpoints/judge, in float32, after engine and server have started and a
few cases have warmed them up; every case is new to every cache. Ours asks vLLM in a child of this process. deepeval is
asked as its documentation has it: GEval with evaluation steps and `LocalModel`, over the OpenAI-compatible server of
the same vLLM, its telemetry off; `measure` case by case, and `a_measure` of as many at once as its `evaluate` starts.
Engine and server have the machine to themselves, one after the other: two of vLLM on two cores slow each other down.
`deepeval_metric` is GEval in the judges' process over our gateway, the start of that process included.

A reason costs more than a grade, and how long it is is up to the judge: all who write one are held to the same number
of characters, which are tokens of this model. With the 60 by default it is a short sentence; a judge of real size
takes as many tokens for two.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from evalgate import deepeval_metric, judge
from evalgate.cache import Cache
from evalgate.cli.progress import ConsoleProgress
from evalgate.config import JudgeConfig, JudgesConfig
from evalgate.engines.environment import child_environment
from evalgate.instrument import Case, Instrument
from evalgate.judges import chat, native
from evalgate.judging import Judges
from evalgate.scoring import Scorer

JUDGE = Path(__file__).parents[1] / "fixtures" / "checkpoints" / "judge"
RUBRIC = "Does the answer say what the reference says?"
SHOWN = ["input", "actual_output", "expected_output"]
AT_ONCE = 20  # deepeval's evaluate: AsyncConfig.max_concurrent
WARM = 8
START_SECONDS = 300.0


@dataclass(frozen=True)
class Timed:
    """One way of judging: cases of a turn, seconds of every turn, cases without a score."""

    name: str
    cases: int
    seconds: tuple[float, ...]
    failed: int

    @property
    def each(self) -> float:
        """Seconds of a judgement, the median over turns."""
        return median(self.seconds) / self.cases


Judged = Callable[[Sequence[Case]], int]
"""Judges cases and says how many have no score."""


@dataclass(frozen=True)
class Way:
    """A way of judging: its name, cases of a turn, what judges, and what starts all that it needs beforehand."""

    name: str
    cases: int
    judged: Judged
    ready: Judged


def cases(count: int, seed: int) -> list[Case]:
    """Sums with an answer that is right as often as wrong; another seed never gives the same case."""
    rng, found = random.Random(seed), []
    for number in range(count):
        first, second = rng.randrange(10, 100), rng.randrange(10, 100)
        reference = str(first + second)
        answer = reference if number % 2 else str(first + second + rng.choice((-10, -1, 1, 10)))
        question = f"Run {seed}, no. {number}. Q: {first}+{second}=\nA:"
        found.append(Case(f"{seed}-{number}", question, answer, reference))
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=1000, help="cases of our own judge")
    parser.add_argument("--cases", type=int, default=40, help="cases of every other way")
    parser.add_argument("--reason", type=int, default=60, help="longest reason in characters, whoever writes it")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    native.REASON = chat.LONGEST = options.reason
    os.environ |= {
        "DEEPEVAL_TELEMETRY_OPT_OUT": "1",
        "DEEPEVAL_DISABLE_DOTENV": "1",
        "DEEPEVAL_FILE_SYSTEM": "READ_ONLY",
    }
    with tempfile.TemporaryDirectory() as scratch:
        found = [
            *_ours(Path(scratch), options.batch, options.cases, options.turns),
            *_theirs(Path(scratch), options.cases, options.reason, options.turns),
        ]
    Console().print(table(found))


def _ours(scratch: Path, batch: int, few: int, turns: int) -> list[Timed]:
    with ours(scratch) as judges:
        grade = asked(judges, judge(RUBRIC))
        reasons = asked(judges, judge(RUBRIC, explain=True))
        steps = asked(judges, deepeval_metric("GEval", evaluation_steps=[RUBRIC], evaluation_params=SHOWN))
        ways = [
            Way("judge", batch, grade, ready=grade),
            Way("judge, explain", batch, reasons, ready=reasons),
            Way("deepeval_metric", few, steps, ready=lambda some: steps(some) + reasons(some)),
        ]
        return measured(ways, turns)


def _theirs(scratch: Path, few: int, reason: int, turns: int) -> list[Timed]:
    with served(scratch) as url:
        alone, several = one_by_one(url, reason), at_once(url, reason)
        ways = [
            Way("GEval.measure", few, alone, ready=alone),
            Way(f"{AT_ONCE} × GEval.a_measure", few, several, ready=several),
        ]
        return measured(ways, turns)


def measured(ways: Sequence[Way], turns: int) -> list[Timed]:
    """All ways in turns, so that a busy moment weighs on all of them; each is made ready before its clock starts."""
    seeds = iter(range(sys.maxsize))
    seconds: dict[str, list[float]] = {way.name: [] for way in ways}
    failed = dict.fromkeys(seconds, 0)
    for _ in range(turns):
        for way in ways:
            way.ready(cases(WARM, next(seeds)))
            given = cases(way.cases, next(seeds))
            begun = time.perf_counter()
            failed[way.name] += way.judged(given)
            seconds[way.name].append(time.perf_counter() - begun)
    return [Timed(way.name, way.cases, tuple(seconds[way.name]), failed[way.name]) for way in ways]


def table(found: Sequence[Timed]) -> Table:
    """One row for each way; the first is what the others are held against."""
    columns = ("", "cases", "seconds", "each", "1,000", "ratio", "failed")
    made = Table(*columns, title=f"medians of {len(found[0].seconds)} turns, {len(os.sched_getaffinity(0))} cores")
    for each in found:
        numbers = f"{median(each.seconds):.2f}", f"{1000 * each.each:.1f} ms", f"{1000 * each.each:.1f} s"
        ratio = f"{each.each / found[0].each:.1f}"
        made.add_row(
            each.name, f"{each.cases:,}", *numbers, ratio, f"{each.failed} of {each.cases * len(each.seconds)}"
        )
    return made


@contextmanager
def ours(scratch: Path) -> Iterator[Judges]:
    """Judges as a session has them, with a cache of their own."""
    config = JudgesConfig(default="tiny", models={"tiny": JudgeConfig(model=str(JUDGE))})
    with Cache(scratch / "cache.sqlite") as cache:
        judges = Judges(config, scratch, cache, ConsoleProgress(Console(stderr=True, quiet=True)))
        try:
            yield judges
        finally:
            judges.close()


def asked(judges: Judges, scorer: Scorer) -> Judged:
    """All cases at once, as a session asks them; canaries are what a session adds for trust and are not timed here."""
    if scorer.judge is None:
        raise ValueError("the scorer has no judge")
    bound: Instrument = judges.bound(scorer.judge)

    def judged(given: Sequence[Case]) -> int:
        said = judges.judge([(bound, case) for case in given], probe=False)
        return sum(said.of(bound, case).value is None for case in given)

    return judged


@contextmanager
def served(scratch: Path) -> Iterator[str]:
    """The same weights behind vLLM's own server on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [sys.executable, "-P", "-m", "vllm.entrypoints.openai.api_server", "--model", str(JUDGE)]
    command += [
        "--served-model-name",
        "tiny",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--dtype",
        "float32",
    ]
    command += ["--enforce-eager", "--block-size", "32", "--kv-cache-memory-bytes", str(1 << 30), "--seed", "0"]
    command += ["--generation-config", "vllm", "--disable-uvicorn-access-log"]
    command += ["--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}']
    environment = child_environment("cpu")
    del environment["VLLM_ENABLE_V1_MULTIPROCESSING"]  # a server is quicker with vLLM's own choice
    log = scratch / "server.log"
    with log.open("wb") as said:
        server = subprocess.Popen(command, stdout=said, stderr=said, env=environment, cwd=scratch)
        try:
            _wait(server, port, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()
            server.wait(60)


def _wait(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.25)
        finally:
            connection.close()
    raise SystemExit(f"the server did not start: {log.read_text('utf-8', 'replace')[-2000:]}")


def metric(url: str, reason: int) -> Any:
    """GEval on the endpoint, its replies held to the form that it asks for."""
    from deepeval.metrics import GEval
    from deepeval.models import LocalModel
    from deepeval.test_case import SingleTurnParams

    properties = {"reason": {"type": "string", "maxLength": reason}, "score": {"type": "integer", "enum": [*range(11)]}}
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema, "strict": True}}
    model = LocalModel("tiny", "no-key", url, generation_kwargs={"response_format": form, "max_tokens": 1024})
    params = [SingleTurnParams(name) for name in SHOWN]
    return GEval("Correctness", evaluation_params=params, evaluation_steps=[RUBRIC], model=model, async_mode=False)


def _test_case(case: Case) -> Any:
    from deepeval.test_case import LLMTestCase

    return LLMTestCase(input=case.question, actual_output=case.answer, expected_output=case.reference)


def one_by_one(url: str, reason: int) -> Judged:
    """`measure`, one case after the other."""

    def judged(given: Sequence[Case]) -> int:
        scorer = metric(url, reason)
        with redirect_stdout(StringIO()):
            return sum(scorer.measure(_test_case(case), _show_indicator=False) is None for case in given)

    return judged


def at_once(url: str, reason: int) -> Judged:
    """`a_measure`, several on their way."""

    async def every(given: Sequence[Case]) -> int:
        # LocalModel leaves a client open for every question, and each of them complains when the loop is closed.
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(case: Case) -> bool:
            async with gate:
                return await metric(url, reason).a_measure(_test_case(case), _show_indicator=False) is None

        return sum(await asyncio.gather(*map(one, given)))

    def judged(given: Sequence[Case]) -> int:
        with redirect_stdout(StringIO()):
            return asyncio.run(every(given))

    return judged


if __name__ == "__main__":
    main()
