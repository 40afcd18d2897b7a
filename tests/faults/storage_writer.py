"""The writer that the storage tests kill, and what it writes. Run as a script: FOLDER FIRST MODE."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from evalgate.cache import Cache
from evalgate.digest import digest
from evalgate.evaluation import Evaluation, Metric, Row
from evalgate.ledger import Ledger
from evalgate.request import Completion, Request
from evalgate.store import Store

ENGINE = digest("engine")


def make_evaluation(version: int = 0) -> Evaluation:
    """Five answers of one checkpoint to one task; another version is another content."""
    return Evaluation(
        task="test_sums/add",
        checkpoint={"name": "v3", "digest": digest("v3")},
        prompt=digest("prompt"),
        sampling={"max_tokens": 8},
        seed=0,
        samples=digest(version),
        metrics=(Metric("exact_match", digest("exact_match"), binary=True),),
        rows=tuple(Row(f"s{n}", "ab", f"Q{n}", "4", ("é4",), {"exact_match": n % 2}, margin=n / 4) for n in range(5)),
        environment={"engine": "vllm"},
        provenance={"created": "2026-01-01T00:00:00+00:00"},
    )


def asked(number: int) -> Request:
    """A request per number."""
    return Request(checkpoint=digest("v3"), prompt=f"Q{number}", max_tokens=16)


def answer(number: int) -> Completion:
    """The answer to the request of a number."""
    return Completion(asked(number).id, text=f"the answer to {number} " * 8, completion_tokens=number)


def write(root: Path, first: int, mode: str) -> None:
    """Write answers, entries and records until killed; say what is safe after it is, or (`too early`) before."""
    cache, ledger, store = Cache(root / "cache.sqlite"), Ledger(root / "ledger.jsonl"), Store(root)

    def say(what: str, number: int) -> None:
        sys.stdout.write(f"{what} {number}\n")
        sys.stdout.flush()

    say("ready", 0)
    number = first
    while True:
        if mode == "too early":
            say("answer", number)
            time.sleep(0.002)
        cache.put([(asked(number), answer(number))], ENGINE)
        if mode == "honest":
            say("answer", number)
        ledger.append("verdict", {"n": number})
        say("entry", number)
        if number % 5 == 0:
            store.write(make_evaluation(number))
            say("record", number)
        number += 1


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
