"""The words of a version: what is written reads back, and what was changed is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalgate.checkpoint import Checkpoint
from evalgate.digest import digest
from evalgate.errors import RecordError
from evalgate.version import DataFile, Lineage, Parent, TrainingRun, lineage_from_json, require_published

TEXT = st.text(max_size=8)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.dictionaries(TEXT, st.one_of(st.none(), st.booleans(), st.integers(), NUMBER, TEXT, st.lists(TEXT)))
KIND = st.sampled_from(["full", "adapter"])
RUNS = st.builds(
    TrainingRun,
    key=TEXT,
    config=VALUES,
    data=st.lists(
        st.builds(
            DataFile,
            path=TEXT,
            digest=TEXT,
            rows=st.integers(0),
            kept=st.integers(0),
            format=TEXT,
            steps=st.lists(TEXT).map(tuple),
        ),
        max_size=2,
    ).map(tuple),
    data_digest=TEXT,
    losses=st.lists(NUMBER, max_size=3).map(tuple),
    grad_norms=st.lists(st.none() | NUMBER, max_size=3).map(tuple),
    learning_rates=st.lists(NUMBER, max_size=3).map(tuple),
    held_out_loss=st.none() | NUMBER,
    seconds=NUMBER,
    overrides=st.lists(TEXT, max_size=2).map(tuple),
    config_file=st.none() | TEXT,
    trackers=st.dictionaries(TEXT, VALUES, max_size=1),
    leaked=st.dictionaries(TEXT, st.lists(TEXT, max_size=2).map(tuple), max_size=2),
)
LINEAGES = st.builds(
    Lineage,
    name=TEXT,
    digest=TEXT,
    kind=KIND,
    files=st.dictionaries(TEXT, TEXT, max_size=2),
    created=TEXT,
    parent=st.none() | st.builds(Parent, name=TEXT, path=TEXT, digest=TEXT, kind=KIND),
    base=st.none() | st.fixed_dictionaries({"digest": TEXT, "path": TEXT}),
    epoch=st.none() | NUMBER,
    step=st.none() | st.integers(0),
    training=st.none() | RUNS,
    code=VALUES,
    environment=VALUES,
    why=TEXT,
    hypothesis=TEXT,
    command=TEXT,
    evalgate=TEXT,
)


@given(LINEAGES)
def test_any_lineage_reads_back(lineage: Lineage) -> None:
    """Through JSON and back it is the same."""
    assert lineage_from_json(json.loads(json.dumps(lineage.as_json())), "x") == lineage


@given(LINEAGES, st.data())
def test_any_field_of_another_kind_is_refused(lineage: Lineage, data: st.DataObject) -> None:
    """A value of a kind that no field has, anywhere in the upper two levels, is an error of one line."""
    value: dict[str, Any] = json.loads(json.dumps(lineage.as_json()))
    place = data.draw(st.sampled_from([v for v in (value, value["training"], value["parent"]) if v]))
    place[data.draw(st.sampled_from(sorted(place)))] = [[3]]
    with pytest.raises(RecordError) as caught:
        lineage_from_json(value, "runs/v1/evalgate.json")
    assert "\n" not in str(caught.value)


@given(LINEAGES, st.data())
def test_any_missing_field_is_refused(lineage: Lineage, data: st.DataObject) -> None:
    """What is not there has no default that would hide it."""
    value: dict[str, Any] = json.loads(json.dumps(lineage.as_json()))
    place = data.draw(st.sampled_from([v for v in (value, value["training"], value["parent"]) if v]))
    del place[data.draw(st.sampled_from(sorted({*place} - {"grad_norms", "learning_rates"})))]
    with pytest.raises(RecordError):
        lineage_from_json(value, "runs/v1/evalgate.json")


def test_a_version_from_before_the_curves_were_kept_has_none() -> None:
    """Versions never change, so what older ones lack is no damage."""
    run = TrainingRun("key", {}, (), "data", (1.0, 0.5), grad_norms=(2.0, None), learning_rates=(0.1, 0.0))
    value: dict[str, Any] = json.loads(json.dumps(lineage(training=run).as_json()))
    for name in ("grad_norms", "learning_rates"):
        del value["training"][name]
    assert lineage_from_json(value, "x").training == replace(run, grad_norms=(), learning_rates=())


def lineage(**changes: Any) -> Lineage:
    return replace(Lineage("v1", digest("a"), "full", {}, "2026-01-01T00:00:00+00:00"), **changes)


def test_a_configuration_that_was_edited_is_refused() -> None:
    """Its digest stands beside it; the untouched one is accepted."""
    made = lineage(training=TrainingRun("k", {"lora": {"r": 8}}, (), "d")).as_json()
    assert lineage_from_json(made, "x").training is not None
    made["training"]["config"]["lora"]["r"] = 16
    with pytest.raises(RecordError, match="configuration was changed"):
        lineage_from_json(made, "x")


@pytest.mark.parametrize("runs", [["mlflow"], {"mlflow": "sqlite:///m.db"}, {"mlflow": 5}])
def test_runs_of_trackers_that_are_none_are_refused(runs: Any) -> None:
    """What a hostile file says of its trackers is found when it is read, and not in the middle of a gate."""
    made = lineage(training=TrainingRun("k", {}, (), "d")).as_json()
    made["training"]["trackers"] = runs
    with pytest.raises(RecordError, match="is no lineage of a version"):
        lineage_from_json(made, "x")


def test_a_newer_format_is_not_guessed_at() -> None:
    """It says to update."""
    with pytest.raises(RecordError, match="Update evalgate"):
        lineage_from_json(lineage(format=2).as_json(), "x")


def test_a_version_is_what_its_lineage_says() -> None:
    """A checkpoint of other content is refused; of the same, or without a lineage, it is not."""
    found = Checkpoint("v1", "/runs/v1", "full", digest("w"), digest("t"), None, "LlamaForCausalLM", 128)
    require_published(found, None)
    require_published(found, lineage(digest=found.digest))
    with pytest.raises(RecordError, match="was changed after it was published"):
        require_published(found, lineage())
