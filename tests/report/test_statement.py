"""The in-toto statement: its fields by the specification, its result by the policy, its names by what ran."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalgate.errors import RecordError
from evalgate.gate import Outcome, Policy
from evalgate.report import CardData
from evalgate.report.statement import TOGETHER, statement


def decided(demo: CardData, *outcomes: Outcome, blocking: bool = True, **family: Any) -> CardData:
    """The demo with so many metrics, each with an outcome, and whatever else of the family."""
    verdicts = tuple(
        replace(demo.family.verdicts[0], metric=f"m{i}", outcome=outcome, blocking=blocking)
        for i, outcome in enumerate(outcomes)
    )
    given: dict[str, Any] = {"outcome": Outcome.PASS, "partial": (), "together": None}
    return replace(demo, family=replace(demo.family, verdicts=verdicts, **{**given, **family}))


def predicate(data: CardData) -> dict[str, Any]:
    """What it says of the subject."""
    found: dict[str, Any] = statement(data)["predicate"]
    return found


def test_the_fields_are_those_of_the_specification(demo: CardData) -> None:
    """Statement v1 around test-result v0.1; the subject is the content, by its digest."""
    found = statement(demo)
    assert list(found) == ["_type", "subject", "predicateType", "predicate"]
    assert found["_type"] == "https://in-toto.io/Statement/v1"
    assert found["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    assert demo.digest
    assert found["subject"] == [{"name": "v3", "digest": {"sha256": demo.digest.removeprefix("sha256:")}}]
    assert list(found["predicate"]) == ["result", "configuration", "passedTests", "warnedTests", "failedTests"]
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_demo_failed(demo: CardData) -> None:
    """Each metric is in one list; what only informs, or is undecided, is a warning."""
    found = predicate(demo)
    assert found["result"] == "FAILED"
    assert found["failedTests"] == ["arithmetic/addition::exact_match", "chat/identity::exact_match"]
    assert found["warnedTests"] == ["arithmetic/addition::chrf", "facts/lookup::exact_match", TOGETHER]
    assert found["passedTests"] == [
        "orders/extraction::exact_match",
        "prose/heldout::bits_per_byte",
    ]


def test_the_configuration_names_what_decided(demo: CardData) -> None:
    """Policy, data, prompts, metrics, records, baselines and the ledger, each with the digest that finds it."""
    found = {each["name"]: each for each in predicate(demo)["configuration"]}
    task, candidate, baseline = (
        "orders/extraction",
        demo.candidates["orders/extraction"],
        demo.baselines["orders/extraction"],
    )
    for name, digest in (
        (f"eval-data/{task}", candidate.samples),
        (f"prompt/{task}", candidate.prompt),
        (f"metric/{task}::exact_match", candidate.metric("exact_match").digest),
        (f"record/{task}", candidate.record),
        (f"baseline/{task}", baseline.record),
        ("ledger", demo.ledger_head),
    ):
        assert f"sha256:{found[name]['digest']['sha256']}" == digest, name
    assert "baseline/chat/identity" not in found
    assert found["policy"]["annotations"]["margin"] == demo.family.policy.margin
    assert all(len(each["digest"]["sha256"]) == 64 for each in found.values())
    other = replace(demo, family=replace(demo.family, policy=Policy(margin=0.2)))
    assert predicate(other)["configuration"][0]["digest"] != found["policy"]["digest"]
    assert "ledger" not in {each["name"] for each in predicate(replace(demo, ledger_head=None))["configuration"]}


@pytest.mark.parametrize(
    ("outcomes", "family", "result"),
    [
        ([Outcome.PASS], {}, "PASSED"),
        ([Outcome.PASS], {"together": Outcome.PASS}, "PASSED"),
        ([Outcome.PASS], {"partial": ("a::b",)}, "WARNED"),
        ([Outcome.PASS, Outcome.INCONCLUSIVE], {"outcome": Outcome.INCONCLUSIVE}, "WARNED"),
        ([Outcome.PASS, Outcome.INCONCLUSIVE], {}, "WARNED"),
        ([Outcome.PASS], {"together": Outcome.INCONCLUSIVE, "outcome": Outcome.INCONCLUSIVE}, "WARNED"),
        ([Outcome.PASS], {"together": Outcome.REGRESSION, "outcome": Outcome.REGRESSION}, "FAILED"),
        ([Outcome.PASS], {"outcome": Outcome.REGRESSION}, "FAILED"),
        ([Outcome.REGRESSION], {"outcome": Outcome.REGRESSION}, "FAILED"),
        ([Outcome.ERROR], {"outcome": Outcome.ERROR}, "FAILED"),
        ([Outcome.ERROR], {}, "FAILED"),
        ([Outcome.NO_BASELINE], {"outcome": Outcome.NO_BASELINE}, "FAILED"),
        ([Outcome.INCOMPARABLE], {"outcome": Outcome.INCOMPARABLE}, "FAILED"),
    ],
)
def test_the_result_is_the_policys(
    demo: CardData, outcomes: list[Outcome], family: dict[str, Any], result: str
) -> None:
    """PASSED is said only of what passed whole; what the policy lets through undecided is WARNED."""
    assert predicate(decided(demo, *outcomes, **family))["result"] == result


def test_a_strict_policy_fails_what_is_undecided(demo: CardData) -> None:
    """The same outcome is a failure where the policy says so."""
    data = decided(demo, Outcome.INCONCLUSIVE, outcome=Outcome.INCONCLUSIVE, policy=Policy(inconclusive="fail"))
    assert predicate(data)["result"] == "FAILED"
    assert predicate(data)["failedTests"] == ["arithmetic/addition::m0"]


def test_what_informs_cannot_fail(demo: CardData) -> None:
    """A metric that only informs got worse: the subject passed with a warning."""
    found = predicate(decided(demo, Outcome.REGRESSION, blocking=False))
    assert (found["result"], found["warnedTests"], found["failedTests"]) == ("WARNED", ["arithmetic/addition::m0"], [])


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(list(Outcome)), st.booleans()), max_size=5),
    st.sampled_from([None, *Outcome]),
    st.sampled_from(list(Outcome)),
    st.sampled_from(["warn", "fail"]),
)
def test_no_failure_is_ever_said_to_have_passed(
    demo: CardData,
    metrics: list[tuple[Outcome, bool]],
    together: Outcome | None,
    overall: Outcome,
    inconclusive: str,
) -> None:
    """Law: each test is in one list; PASSED means that nothing failed or warned, and what is blocked is FAILED."""
    verdicts = tuple(
        replace(demo.family.verdicts[0], metric=f"m{i}", outcome=outcome, blocking=blocking)
        for i, (outcome, blocking) in enumerate(metrics)
    )
    policy = Policy(inconclusive=inconclusive)
    family = replace(
        demo.family, verdicts=verdicts, together=together, outcome=overall, partial=(), policy=policy, pooled=None
    )
    found = predicate(replace(demo, family=family))
    lists = [found[name] for name in ("passedTests", "warnedTests", "failedTests")]
    assert sorted(name for each in lists for name in each) == sorted(
        [*(f"arithmetic/addition::m{i}" for i in range(len(metrics))), *([TOGETHER] if together else [])]
    )
    if family.fails(policy) or found["failedTests"]:
        assert found["result"] == "FAILED"
    assert (found["result"] == "PASSED") is (not family.fails(policy) and not lists[1] and not lists[2])


def test_nothing_evaluated_is_nothing_attested(demo: CardData) -> None:
    """Without a digest there is no subject."""
    with pytest.raises(RecordError, match="nothing was evaluated"):
        statement(replace(demo, candidates={}))


def test_hostile_names_are_json(hostile_card: Callable[..., CardData]) -> None:
    """Whatever things are called, the statement is one JSON object in ASCII."""
    assert json.dumps(statement(hostile_card('"},{\n\u202e', "half \ud83d"))).isascii()
