"""`card.json`: a card without its samples goes to JSON and comes back, whole or not at all."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.report.conftest import EXACT, lineage_saying

from evalgate.errors import RecordError
from evalgate.evaluation import Row
from evalgate.gate import Family
from evalgate.power import PowerLine, PowerPlan
from evalgate.report import CardData, Costs, Past, PastMetric, render_card
from evalgate.report.document import as_document, evaluations_of, from_document, pretty
from evalgate.report.past.history import measure_of
from evalgate.stats import PairedTest

NUMBER = st.floats(width=32)


def rows_of(data: CardData) -> Callable[[str, str], tuple[Row, ...]]:
    """The rows of a card's evaluations, as records give them."""
    known = {(e.task, e.digest): e.rows for side in (data.candidates, data.baselines) for e in side.values()}
    return lambda task, digest: known[task, digest]


def again(data: CardData) -> CardData:
    """Through the bytes of a file and back."""
    return from_document(json.loads(pretty(as_document(data))), rows_of(data), "card.json")


@pytest.fixture(scope="module")
def full(demo: CardData) -> CardData:
    """The demo's card with everything that a card may have."""
    line = PowerLine(
        task="arithmetic/addition",
        metric=EXACT,
        n=500,
        clusters=None,
        min_n=30,
        level=0.025,
        psi=0.1,
        sd=None,
        deff=1.0,
        source="last comparison",
        margin=0.02,
        baseline=0.9,
        detectable=math.inf,
        needed=700,
    )
    past = Past(
        name="v2",
        digest="sha256:2",
        outcome="PASS",
        blocked=False,
        reason="no worse",
        at="2026-11-19T00:00:00+00:00",
        metrics={"arithmetic/addition::exact_match": PastMetric("PASS", True, 0.9, 0.9, -0.01, 0.01, 500, "sha256:m")},
        partial=("a::b",),
        aliases=("champion",),
    )
    return replace(
        demo,
        folder="runs/v3",
        power=PowerPlan(lines=(line,), steps=5, alpha=0.05, level=0.005, power=0.8),
        costs=Costs(3808, 12, 50.5),
        statements=("evalsuites/model_card.md",),
        history=(past,),
        lineage=replace(lineage_saying("x"), kind="adapter"),
        near_ties={"arithmetic/addition::exact_match": ("sums-0001",)},
        noise="noise floor: none",
        lines=("a line",),
    )


def test_a_card_comes_back_from_its_document(full: CardData) -> None:
    """What is rendered from the document is, byte for byte, what was rendered before, and the document is the same."""
    found = again(full)
    assert render_card(found) == render_card(full)
    assert as_document(found) == as_document(full)
    assert (found.power, found.costs, found.history, found.lineage) == (
        full.power,
        full.costs,
        tuple(full.history),
        full.lineage,
    )


def test_the_reserve_and_a_confirmation_come_back(reserve_card: Callable[..., CardData]) -> None:
    """Looks, confirmations, blocking slices and near ties are in the document too."""
    for reserve in ("top-up", "confirm"):
        data = reserve_card(reserve)
        assert render_card(again(data)) == render_card(data)


def test_a_view_comes_back_as_the_view_of_its_record(demo: CardData) -> None:
    """A baseline that was scored again has another digest than the record that it came from, and keeps both."""
    task = "orders/extraction"
    view = replace(demo.baselines[task], origin="sha256:record")
    found = again(replace(demo, baselines={**demo.baselines, task: view}))
    assert (found.baselines[task].digest, found.baselines[task].record) == (view.digest, "sha256:record")


def test_evaluations_are_named_by_their_digests(demo: CardData) -> None:
    """A task without a baseline has only the candidate's."""
    document = as_document(demo)
    assert evaluations_of(document, "candidate") == {task: e.digest for task, e in demo.candidates.items()}
    assert "chat/identity" not in evaluations_of(document, "baseline")


@given(st.tuples(*[NUMBER] * 7))
def test_numbers_that_json_does_not_have_come_back(demo: CardData, numbers: tuple[float, ...]) -> None:
    """NaN and infinities stand as texts in the file, and are numbers again."""
    names = ("delta", "low", "high", "p_reg", "p_ni", "sd", "discordance")
    changed: dict[str, Any] = dict(zip(names, numbers, strict=True))
    found = demo.family.verdicts[0].comparison
    assert found
    test: PairedTest = replace(found.test, **changed)
    verdict = replace(demo.family.verdicts[0], comparison=replace(found, test=test))
    data = replace(demo, family=replace(demo.family, verdicts=(verdict,)), candidates={}, baselines={})
    text = pretty(as_document(data))
    assert b"NaN" not in text
    assert b"Infinity" not in text
    compared = from_document(json.loads(text), rows_of(data), "x").family.verdicts[0].comparison
    assert compared
    assert repr(compared.test) == repr(test)


def test_half_an_emoji_survives(hostile_card: Callable[..., CardData]) -> None:
    """A lone surrogate, cut by max_tokens, is written as JSON's escape and read as itself; the file is ASCII."""
    data = replace(hostile_card("half \ud83d"), lineage=None)
    assert pretty(as_document(data)).isascii()
    assert again(data).name == "half \ud83d"


@pytest.mark.parametrize(
    "break_it",
    [
        lambda d: d.pop("family"),
        lambda d: d["family"]["verdicts"][0].pop("outcome"),
        lambda d: d["family"].update(outcome="GOOD"),
        lambda d: d["family"]["verdicts"][0]["comparison"].update(test=3),
        lambda d: d.update(format=99),
        lambda d: d.update(evaluations=[]),
        lambda d: d["family"]["policy"].update(alpha=7),
        lambda d: d.clear(),
    ],
)
def test_a_damaged_document_is_one_line(demo: CardData, break_it: Callable[[dict[str, Any]], Any]) -> None:
    """Nothing is guessed: a missing field, another kind of value or a newer format is an error that names the file."""
    document = json.loads(pretty(as_document(demo)))
    break_it(document)
    with pytest.raises(RecordError) as caught:
        from_document(document, rows_of(demo), "reports/v3/card.json")
    assert "reports/v3/card.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_document_holds_no_sample(demo: CardData) -> None:
    """No prompt stands in it, and so no output: they are in the records and in samples.jsonl."""
    text = pretty(as_document(demo)).decode()
    rows = demo.candidates["arithmetic/addition"].rows
    assert "Q: " in rows[0].prompt
    assert not [row.id for row in rows if json.dumps(row.prompt)[1:-1] in text]


def test_a_measure_is_of_the_question_and_not_of_the_model(demo: CardData) -> None:
    """Two checkpoints on the same data have one measure; other data, sampling or another scorer make another."""
    now, was = demo.candidates["arithmetic/addition"].identity, demo.baselines["arithmetic/addition"].identity
    assert measure_of(now, "exact_match") == measure_of(was, "exact_match")
    others = [
        measure_of(now, "chrf"),
        measure_of({**now, "samples": "sha256:other"}, "exact_match"),
        measure_of({**now, "prompt": "sha256:other"}, "exact_match"),
        measure_of({**now, "sampling": {"n": 2}}, "exact_match"),
        measure_of({**now, "metrics": [{**now["metrics"][0], "digest": "sha256:other"}]}, "exact_match"),
    ]
    assert len({measure_of(now, "exact_match"), *others}) == 6


def test_a_family_that_did_not_run_is_a_document_too(demo: CardData) -> None:
    """Where the engine failed there are verdicts without numbers, and no evaluations."""
    lost = tuple(
        replace(verdict, comparison=None, value=None, spec=None, anchor=None) for verdict in demo.family.verdicts
    )
    family: Family = replace(demo.family, verdicts=lost, pooled=None)
    data = replace(demo, family=family, candidates={}, baselines={})
    assert again(data).family == family
