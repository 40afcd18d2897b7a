"""The published schema of card.json: it holds for every card, and for nothing that lacks or adds a field."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from evalgate.compare import Comparison, Difference, SliceResult
from evalgate.evaluation import Acceptance, Metric
from evalgate.gate import Family, Outcome, Policy, Verdict
from evalgate.power import PowerLine, PowerPlan
from evalgate.report import CardData, Costs, Past, PastMetric
from evalgate.report.document import FORMAT, as_document, pretty, schema
from evalgate.stats import PairedTest

SCHEMA = schema()
DEFS: dict[str, Any] = SCHEMA["$defs"]
VALIDATOR = Draft202012Validator(SCHEMA)
OWNED: dict[str, type[Any]] = {
    "family": Family,
    "verdict": Verdict,
    "comparison": Comparison,
    "test": PairedTest,
    "slice": SliceResult,
    "difference": Difference,
    "metric": Metric,
    "policy": Policy,
    "acceptance": Acceptance,
    "power": PowerPlan,
    "power_line": PowerLine,
    "costs": Costs,
    "past": Past,
    "past_metric": PastMetric,
}


def document(data: CardData) -> dict[str, Any]:
    """What a reader of the file gets."""
    found: dict[str, Any] = json.loads(pretty(as_document(data)))
    return found


def at(part: dict[str, Any]) -> Draft202012Validator:
    """A validator of one part of the schema."""
    return Draft202012Validator({"$schema": SCHEMA["$schema"], **part, "$defs": DEFS})


def parts(value: Any, part: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every object in a document with the part of the schema that describes it."""
    if "$ref" in part:
        part = DEFS[part["$ref"].removeprefix("#/$defs/")]
    for each in part.get("anyOf", ()):
        if at(each).is_valid(value):
            yield from parts(value, each)
    if isinstance(value, dict) and "properties" in part:
        yield value, part
        for name, inner in part["properties"].items():
            if name in value:
                yield from parts(value[name], inner)
    elif isinstance(value, dict) and isinstance(part.get("additionalProperties"), dict):
        for inside in value.values():
            yield from parts(inside, part["additionalProperties"])
    elif isinstance(value, list) and "items" in part:
        for inside in value:
            yield from parts(inside, part["items"])


def test_the_schema_is_one() -> None:
    """It is valid JSON Schema 2020-12, and is of the format that is written."""
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["properties"]["format"]["const"] == FORMAT
    assert SCHEMA["$id"] == f"urn:evalgate:card:{FORMAT}"


def test_every_card_validates(full: CardData, demo: CardData, reserve_card: Callable[..., CardData]) -> None:
    """Cards with and without lineage, power, history, confirmations, errors."""
    for data in (demo, full, reserve_card("top-up"), reserve_card("confirm")):
        assert [error.message for error in VALIDATOR.iter_errors(document(data))] == []


def test_a_hostile_card_validates(hostile_card: Callable[..., CardData]) -> None:
    """Names with anything in them are still names; what a lineage is said to be of is not free."""
    found = document(hostile_card("<b>\u202e", "half \ud83d"))
    assert found["lineage"].pop("kind") not in ("full", "adapter")
    found["lineage"]["kind"] = "full"
    assert [error.message for error in VALIDATOR.iter_errors(found)] == []


def test_a_field_more_or_less_is_an_error(full: CardData, reserve_card: Callable[..., CardData]) -> None:
    """Negative control, in every kind of object that evalgate owns: each field is needed, no other may be there."""
    seen: dict[int, str] = {}
    for data in (full, reserve_card("confirm")):
        for value, part in parts(document(data), dict(SCHEMA)):
            if id(part) in seen:
                continue
            seen[id(part)] = part["description"]
            validator = at(part)
            assert validator.is_valid(value)
            for name in part["required"]:
                assert not validator.is_valid({key: kept for key, kept in value.items() if key != name}), name
            assert validator.is_valid({**value, "unknown": 1}) is (part.get("additionalProperties") is not False)
    reached = set(seen.values())
    assert {part["description"] for part in DEFS.values() if part.get("type") == "object"} <= reached


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("format",), 2),
        (("outcome",), "MAYBE"),
        (("blocked",), "no"),
        (("generated",), None),
        (("family", "verdicts", 0, "outcome"), "pass"),
        (("family", "verdicts", 0, "comparison", "test", "delta"), "Infinity"),
        (("family", "verdicts", 0, "comparison", "test", "n"), -1),
        (("family", "verdicts", 0, "comparison", "metric", "binary"), 1),
        (("family", "verdicts", 0, "look"), [1]),
        (("family", "policy", "inconclusive"), "ignore"),
        (("evaluations", "arithmetic/addition", "candidate", "identity", "seed"), "0"),
        (("near_ties",), ["sums-0001"]),
        (("lines",), "a line"),
        (("lineage",), {}),
    ],
)
def test_a_wrong_value_is_an_error(demo: CardData, path: tuple[str | int, ...], value: object) -> None:
    """Negative control: types, choices and ranges are held."""
    found = copy.deepcopy(document(demo))
    assert VALIDATOR.is_valid(found)
    inside: Any = found
    for step in path[:-1]:
        inside = inside[step]
    assert path[-1] in inside
    inside[path[-1]] = value
    assert not VALIDATOR.is_valid(found)


@pytest.mark.parametrize("name", OWNED)
def test_the_schema_follows_the_code(name: str) -> None:
    """Every field of ours is in the schema, and no other."""
    assert set(DEFS[name]["properties"]) == {field.name for field in fields(OWNED[name])} - {"pairs"}


def test_everything_is_described() -> None:
    """A reader of the schema alone learns what each field means, unless its name or its own definition says it."""
    silent = [
        f"{of}.{name}"
        for of, part in [("card", SCHEMA), *DEFS.items()]
        for name, inner in part.get("properties", {}).items()
        if "description" not in inner and "$ref" not in inner
    ]
    known = {"difference", "costs", "sides", "lineage"}
    assert not [each for each in silent if each.split(".")[0] not in known and not each.endswith((".seed", ".outcome"))]
    assert all("description" in part for part in DEFS.values())
    assert DEFS["outcome"]["enum"] == [str(outcome) for outcome in Outcome]
