"""Libraries that ask endpoints: each judge has answers of its own, and canaries are shown anew in every session."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from evalgate.cache import Cache
from evalgate.config import EngineConfig, JudgeConfig, JudgesConfig
from evalgate.instrument import Case, Instrument
from evalgate.judging import Judges
from evalgate.scoring import deepeval_metric
from tests.judges.faulty import FaultyServer
from tests.unit.test_evaluate import Told

GRADES = {"mild": 9, "hard": 2}
CASES = [Case(f"s{i}", f"twice {i}", f"{2 * i}!") for i in range(3)]


def grade(body: Mapping[str, Any]) -> str:
    """What one model says under either of two ways of asking it; only the right answer is good to both."""
    good = "perfectly right" in body["messages"][-1]["content"]
    return json.dumps({"score": 10 if good else GRADES[body["manner"]], "reason": f"I am {body['manner']}."})


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    """One model that is asked in two manners."""
    with FaultyServer(reply=grade) as made:
        yield made


def judges(server: FaultyServer, cache: Cache, folder: Path) -> Judges:
    """Two judges of one address and model, which differ in a field of every request."""
    models = {
        name: JudgeConfig(
            model="judge",
            url=server.url,
            engine=EngineConfig(name="openai", options={"extra_body": {"manner": name}}),
        )
        for name in GRADES
    }
    return Judges(JudgesConfig(default="mild", models=models), folder / "state", cache, Told())


def correct(by: str | list[str], **more: Any) -> Instrument:
    """GEval of one judge, or of a panel."""
    params = ["input", "actual_output"]
    scorer = deepeval_metric("GEval", by=by, evaluation_steps=["Is it right?"], evaluation_params=params, **more)
    assert scorer.judge is not None
    return scorer.judge


def test_one_model_asked_in_two_ways_is_two_judges(server: FaultyServer, tmp_path: Path) -> None:
    """The same question to the same model goes to the engine of the judge that was named, and to no other's."""
    with Cache(tmp_path / "cache.sqlite") as cache:
        made = judges(server, cache, tmp_path)
        each = {name: made.bound(correct(name)) for name in GRADES}
        panel = made.bound(correct(["mild", "hard"]))
        said = made.judge([(judge, case) for judge in (*each.values(), panel) for case in CASES])
        made.close()
    for case in CASES:
        assert {name: said.of(judge, case).value for name, judge in each.items()} == {"mild": 0.9, "hard": 0.2}
        assert said.of(panel, case).value == pytest.approx(0.55)
    assert server.count == 2 * len(CASES), "a panel asks nothing that its judges were asked"


def test_canaries_are_asked_anew_where_anything_is(server: FaultyServer, tmp_path: Path) -> None:
    """An endpoint can change behind its name: what it said of canaries in another session is no proof of today."""
    with Cache(tmp_path / "cache.sqlite") as cache:

        def session(cases: list[Case]) -> dict[str, str]:
            made = judges(server, cache, tmp_path)
            judge = made.bound(correct("hard", good=["perfectly right"]))
            said = made.judge([(judge, case) for case in cases])
            made.close()
            return dict(said.faults)

        assert session(CASES[:2]) == {}
        assert session(CASES[:2]) == {}
        assert server.count == 3, "nothing is asked where everything is known"
        server.reply = lambda body: json.dumps({"score": 1, "reason": "I have changed."})
        assert ["canaries" in why for why in session(CASES).values()] == [True]
