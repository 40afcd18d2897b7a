"""Samples kept back and labels of people: read by the same rules as all eval data."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalgate.digest import digest
from evalgate.errors import SampleError
from evalgate.samples import RESERVE_STEPS, last_look, read_labels, read_samples, samples_digest
from evalgate.scoring import Scorer, bits_per_byte, exact_match, function, prefer
from evalgate.task import JsonLines, Task

UNHURRIED = settings(deadline=None)
MAIN: list[dict[str, Any]] = [{"id": f"m-{i}", "a": i, "kind": i % 2, "target": str(i)} for i in range(6)]


def kept(count: int) -> list[dict[str, Any]]:
    """Rows for a reserve."""
    return [{"id": f"r-{i:02}", "a": i, "kind": i % 2, "target": str(i)} for i in range(count)]


def declared(reserve: Any, **changes: Any) -> Task:
    fields: dict[str, Any] = {"samples": MAIN, "prompt": "{{ a }}", "scorers": [exact_match()], "reserve": reserve}
    return Task(**fields | changes)


def looks(task: Task, look: int = 99) -> dict[str, int]:
    """Sample id to the step in which it is drawn."""
    return {sample.id: sample.look for sample in read_samples(task, "sums/addition", look)}


# -- reserve -----------------------------------------------------------------------------------------------------------


def test_nothing_of_the_reserve_is_drawn_unless_asked() -> None:
    """At look 0 a task has its own samples, and the same digest as without a reserve."""
    plain, backed = declared(None), declared(kept(8))
    assert read_samples(backed, "w") == read_samples(backed, "w", 0) == read_samples(plain, "w")
    assert samples_digest(read_samples(backed, "w")) == samples_digest(read_samples(plain, "w"))
    assert samples_digest(read_samples(backed, "w", 1)) != samples_digest(read_samples(plain, "w"))


def test_each_look_adds_a_step_to_the_samples_before() -> None:
    """Sorted by id, the task's own at look 0 and each of the reserve at its step."""
    task = declared(kept(10))
    whole = looks(task)
    assert list(whole) == sorted(whole)
    assert Counter(whole.values()) == {0: 6, 1: 3, 2: 2, 3: 3, 4: 2}
    for look in range(RESERVE_STEPS + 1):
        assert looks(task, look) == {name: at for name, at in whole.items() if at <= look}


def test_the_step_of_a_sample_goes_by_the_digest_of_its_id() -> None:
    """Nobody chooses which are drawn first, and rows sorted by difficulty are mixed."""
    whole = looks(declared(kept(8)))
    drawn = sorted((name for name, look in whole.items() if look), key=digest)
    assert [whole[name] for name in drawn] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert drawn != sorted(drawn)


@UNHURRIED
@given(st.integers(1, 30), st.randoms())
def test_no_order_of_rows_changes_a_step(count: int, shuffle: random.Random) -> None:
    """And every step up to the last draws some, as equally many as can be."""
    rows = kept(count)
    task, mixed = declared(rows), declared(shuffle.sample(rows, count))
    whole = looks(task)
    assert looks(mixed) == whole
    assert last_look(mixed, "w") == last_look(task, "w") == max(whole.values()) == min(RESERVE_STEPS, count)
    sizes = Counter(look for look in whole.values() if look)
    assert set(sizes) == set(range(1, last_look(task, "w") + 1))
    assert max(sizes.values()) - min(sizes.values()) <= 1


def test_a_task_without_reserve_has_no_looks() -> None:
    """Its last look is the first."""
    assert last_look(declared(None), "w") == 0
    assert looks(declared(None)) == {row["id"]: 0 for row in MAIN}


def test_a_reserve_may_stand_in_a_file(tmp_path: Path) -> None:
    """Read like the samples: blank lines count for nothing, and its own digest is checked."""
    path = tmp_path / "reserve.jsonl"
    path.write_text("\n\n".join(json.dumps(row) for row in kept(3)) + "\n")
    task = declared(JsonLines(path))
    assert last_look(task, "w") == 3
    assert looks(task) == looks(declared(kept(3)))
    pinned = declared(JsonLines(path, "sha256:" + "0" * 64))
    for read in (lambda: read_samples(pinned, "w"), lambda: last_look(pinned, "w")):
        with pytest.raises(SampleError, match="the eval data changed"):
            read()
    with pytest.raises(SampleError, match="there is no such file"):
        last_look(declared(JsonLines(tmp_path / "none.jsonl")), "w")


@pytest.mark.parametrize(
    ("reserve", "says"),
    [
        ([], "sums/addition, reserve: holds no rows. Give the reserve samples, or drop reserve="),
        ([kept(1)[0], MAIN[2]], "sums/addition, reserve, row 2: the id 'm-2' is also that of sums/addition, row 3"),
        (
            kept(2) + kept(1),
            "sums/addition, reserve, row 3: the id 'r-00' is also that of sums/addition, reserve, row 1",
        ),
        ([{"id": "r", "kind": 1}], "reserve, row 1: exact_match cannot score sample r"),
        ([{"id": "r", "target": "x"}], "reserve, row 1: no field 'kind'"),
        (["r"], "reserve, row 1: expected an object, found a text"),
    ],
)
def test_a_reserve_is_checked_whole_before_any_of_it_is_drawn(reserve: list[Any], says: str) -> None:
    """A fault in it is found before the engine starts, not on the night when it is needed."""
    with pytest.raises(SampleError) as caught:
        read_samples(declared(reserve, slices=("kind",)), "sums/addition", 0)
    assert says in str(caught.value)


def test_golden_samples_are_the_tasks_own() -> None:
    """They are not looked for in the reserve, where nobody would ask them every night; those of the task are found."""
    assert looks(declared(kept(2), golden=("m-1",)), 0)
    with pytest.raises(SampleError, match="the golden sample 'r-01' does not exist"):
        read_samples(declared(kept(2), golden=("r-01",)), "w", 99)


# -- labels ------------------------------------------------------------------------------------------------------------


def labelled(labels: Any, scorers: list[Scorer] | None = None) -> dict[str, dict[tuple[str, str], float]]:
    """What is read of labels for a task of exact_match and a score from 1 to 5."""
    rated = function(lambda output, sample: 3.0, "politeness", low=1, high=5)
    return read_labels(declared(None, labels=labels, scorers=scorers or [exact_match(), rated]), "sums/addition")


def test_labels_are_of_an_output_and_a_metric() -> None:
    """One row may label several metrics, and one sample may have several outputs; the sample need not be asked now."""
    rows = [
        {"id": "m-1", "output": "one", "exact_match": 1, "politeness": 4.5, "by": "A"},
        {"id": "m-1", "output": "two", "exact_match": 0},
        {"id": "elsewhere", "output": "", "politeness": 1},
    ]
    found = labelled(rows)
    assert found == {
        "exact_match": {("m-1", "one"): 1.0, ("m-1", "two"): 0.0},
        "politeness": {("m-1", "one"): 4.5, ("elsewhere", ""): 1.0},
    }
    assert all(isinstance(score, float) for metric in found.values() for score in metric.values())


def test_a_preference_takes_no_labels_of_outputs() -> None:
    """It is of two outputs: the difference of what people say of each is none, and would correct it to nonsense."""
    both = [exact_match(), prefer("Which is right?")]
    assert labelled([{"id": "m-1", "output": "one", "exact_match": 1}], both)
    with pytest.raises(SampleError, match="row 1: labels prefer, and no single output has a preference"):
        labelled([{"id": "m-1", "output": "one", "exact_match": 1, "prefer": 1}], both)


def test_labels_may_stand_in_a_file_or_be_none(tmp_path: Path) -> None:
    """A file is read like the samples."""
    path = tmp_path / "labels.jsonl"
    path.write_text('{"id": "m-1", "output": "one", "exact_match": 1}\n')
    assert labelled(JsonLines(path)) == {"exact_match": {("m-1", "one"): 1.0}}
    assert labelled(None) == {}
    with pytest.raises(SampleError, match="no such file"):
        labelled(JsonLines(tmp_path / "none.jsonl"))


GOOD = {"id": "m-1", "output": "one", "exact_match": 1}


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"output": "one", "exact_match": 1}], "no field 'id'"),
        ([GOOD | {"id": 7}], "the field 'id' is a number, expected a text"),
        ([{"id": "m-1", "exact_match": 1}], "the field 'output' is nothing, expected the text that was labelled"),
        ([GOOD | {"output": ["one"]}], "the field 'output' is a list"),
        ([{"id": "m-1", "output": "one", "exactmatch": 1}], "labels no metric of the task, which has exact_match, pol"),
        ([GOOD | {"exact_match": True}], "the label of exact_match is true or false, expected a finite number"),
        ([GOOD | {"exact_match": "1"}], "the label of exact_match is a text"),
        ([GOOD | {"exact_match": None}], "the label of exact_match is nothing"),
        ([GOOD | {"exact_match": 1.5}], "the label of exact_match is 1.5, expected 0.0 to 1.0"),
        ([GOOD | {"exact_match": -0.1}], "the label of exact_match is -0.1, expected 0.0 to 1.0"),
        ([GOOD | {"politeness": 0}], "the label of politeness is 0, expected 1 to 5"),
        ([GOOD | {"exact_match": 10**400}], "expected a finite number"),
        (["m-1"], "expected an object, found a text"),
    ],
)
def test_labels_that_cannot_mean_anything_are_refused(rows: list[Any], says: str) -> None:
    """In one line that names the row."""
    with pytest.raises(SampleError) as caught:
        labelled(rows)
    assert str(caught.value).startswith("sums/addition, labels, row 1: ")
    assert says in str(caught.value)


def test_an_output_is_labelled_once() -> None:
    """Two people who disagree must settle it before the gate reads it; another output or metric is another label."""
    with pytest.raises(SampleError, match="labels, row 2: this output of m-1 has a label of exact_match already"):
        labelled([GOOD, GOOD])
    assert labelled([GOOD, {"id": "m-1", "output": "one", "politeness": 2}, GOOD | {"id": "m-2"}])


def test_an_unbounded_metric_takes_any_finite_label() -> None:
    """And no more than that: a number beyond all floats is a message, not a traceback."""
    open_ended = [bits_per_byte()]
    name = open_ended[0].name
    assert labelled([{"id": "m-1", "output": "x", name: 1e300}], open_ended) == {name: {("m-1", "x"): 1e300}}
    for wrong in (10**400, -(10**400)):
        with pytest.raises(SampleError, match=r"expected (a finite number|0\.0 to)"):
            labelled([{"id": "m-1", "output": "x", name: wrong}], open_ended)
