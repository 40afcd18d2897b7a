"""Every fault of a judge's endpoint, for every kind of judge, through the real libraries: an error, never a score."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from evalgate.cache import Cache
from evalgate.config import EngineConfig, JudgeConfig, JudgesConfig
from evalgate.instrument import Case, Instrument, Judgement
from evalgate.judging import Judges
from evalgate.scoring import Scorer, deepeval_metric, judge, prefer, promptfoo, ragas_metric
from tests.judges.faulty import FAULTS, FaultyServer
from tests.judges.test_endpoint_session import Silent

MATRIX = tuple(fault for fault in FAULTS if fault != "401")  # a refused key is everybody's, not one sample's
TOTAL = 2.5
"""Seconds for one question with all its attempts."""
KINDS: Mapping[str, Scorer] = {
    "score": judge("Is the answer right?"),
    "explain": judge("Is the answer right?", explain=True),
    "preference": prefer(),
    "deepeval": deepeval_metric("GEval", evaluation_steps=["Compare."], evaluation_params=["input", "actual_output"]),
    "ragas": ragas_metric("AnswerAccuracy"),
    "promptfoo": promptfoo([{"type": "llm-rubric", "value": "is right"}]),
}
TRIED = re.compile(r"\b\d+ (attempt|question)s?\b")
TOOK = re.compile(r"\b\d+\.\d s\b")


def case(fault: str) -> Case:
    """A case whose text says what the server is to do with every question about it."""
    return Case(fault, "Where is it?", f"In town({fault}).", "In the town.", other=f"By the town({fault}).")


def named(body: Mapping[str, Any]) -> str | None:
    """The fault that a question asks for by what it is about."""
    found = re.search(r"town\(([a-z0-9-]+)\)", json.dumps(body))
    return found[1] if found else None


@dataclass(frozen=True)
class Judged:
    """What came of all kinds × all faults in one call: by kind and fault."""

    found: Mapping[tuple[str, str], Judgement]
    asked: Mapping[str, int]  # questions by the fault that they are about
    seconds: float


@dataclass(frozen=True)
class Story:
    """A server that breaks, the same one mended, and once more."""

    broken: Judged
    mended: Judged
    again: Judged


def ask(server: FaultyServer, folder: Path, faults: Sequence[str] = ("healthy", *MATRIX)) -> Judged:
    """Judge everything as a session does, with a new process for engine and libraries."""
    options = {"url": server.url, "read_timeout": 1.5, "total_timeout": TOTAL, "max_body": 1 << 20, "concurrency": 64}
    config = JudgeConfig(model="judge", url=server.url, engine=EngineConfig(name="openai", options=options))
    before = len(server.seen)
    with Cache(folder / "cache.sqlite") as cache:
        judges = Judges(JudgesConfig(default="cloud", models={"cloud": config}), folder, cache, Silent())
        bound = {kind: judges.bound(_instrument(scorer)) for kind, scorer in KINDS.items()}
        began = time.monotonic()
        try:
            cases = [case(fault) for fault in faults]
            judgements = judges.judge([(each, case) for each in bound.values() for case in cases], probe=False)
        finally:
            judges.close()
    found = {(kind, each.sample): judgements.of(bound[kind], each) for kind in bound for each in cases}
    about = [named(seen.body) or "" for seen in server.seen[before:]]
    return Judged(found, {name: about.count(name) for name in set(about)}, time.monotonic() - began)


def _instrument(scorer: Scorer) -> Instrument:
    assert scorer.judge is not None
    return scorer.judge


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """One server, three sessions with one cache."""
    folder = tmp_path_factory.mktemp("faulty-judges")
    with FaultyServer(pick=named, retry_after="0.1") as server:
        broken = ask(server, folder)
        server.pick = None
        return Story(broken, ask(server, folder), ask(server, folder))


@pytest.mark.parametrize("fault", MATRIX)
@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_is_an_error_and_never_a_score(story: Story, kind: str, fault: str) -> None:
    """No value, and one line that names the sample, how often was asked and how long it took."""
    judgement = story.broken.found[kind, fault]
    assert judgement.value is None
    assert judgement.error is not None
    assert judgement.error.startswith(f"sample {fault}: "), judgement.error
    assert TRIED.search(judgement.error), judgement.error
    assert TOOK.search(judgement.error), judgement.error
    assert judgement.error.isprintable()
    assert len(judgement.error) < 700


@pytest.mark.parametrize("kind", KINDS)
def test_a_healthy_answer_among_them_is_a_score(story: Story, kind: str) -> None:
    """The negative control: what goes wrong for one sample takes nothing from another, in the same call."""
    judgement = story.broken.found[kind, "healthy"]
    assert judgement.error is None
    assert judgement.value is not None


def test_faults_take_bounded_time(story: Story) -> None:
    """Endpoints that hang, drip or refuse cost their budgets and no more; starting everything is part of it."""
    assert story.broken.seconds < 60


@pytest.mark.parametrize("fault", MATRIX)
@pytest.mark.parametrize("kind", KINDS)
def test_a_mended_server_is_asked_again(story: Story, kind: str, fault: str) -> None:
    """Nothing that a faulty server said stays: every kind has its score in the next session."""
    judgement = story.mended.found[kind, fault]
    assert judgement.error is None
    assert judgement.value is not None


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_judged_is_not_asked_again(story: Story, kind: str) -> None:
    """A judgement that was good stays to the letter; only what was missing is asked, and then nothing."""
    assert "healthy" not in story.mended.asked
    assert set(story.mended.asked) == set(MATRIX)
    assert story.again.asked == {}
    assert story.mended.found[kind, "healthy"] == story.broken.found[kind, "healthy"]
    assert {key: value for key, value in story.again.found.items() if key[0] == kind} == {
        key: value for key, value in story.mended.found.items() if key[0] == kind
    }


def test_a_refused_key_is_everybodys_error(tmp_path: Path) -> None:
    """An endpoint that refuses from the start is asked once for each way to it, and says so for every kind."""
    with FaultyServer("401") as server:
        judged = ask(server, tmp_path, ["healthy"])
    for (kind, _), judgement in judged.found.items():
        assert judgement.value is None
        assert judgement.error is not None
        assert judgement.error.startswith("sample healthy: "), kind
        assert "HTTP 401" in judgement.error, (kind, judgement.error)
