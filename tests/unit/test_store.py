"""Records and baselines: written once, read back equal, refused with one line where anything is wrong."""

from __future__ import annotations

import json
import math
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalgate.digest import canonical, digest, short
from evalgate.errors import MissingExtraError, RecordError
from evalgate.evaluation import Acceptance, Evaluation, Metric, Row
from evalgate.store import (
    FORMAT,
    Store,
    baseline_path,
    parse,
    parse_baseline,
    read_baseline,
    read_records,
    serialise,
    write_atomically,
    write_baseline,
)

ACCEPTED = Acceptance(by="A <a@b.c>", at="2026-01-02T00:00:00+00:00", why="good", previous=None, anchor="sha256:0")


def make_row(name: str, score: float = 1.0, **other: Any) -> Row:
    fields: dict[str, Any] = {"pair": "ab12", "prompt": f"Q {name}", "target": "4", "outputs": ("4",)}
    return Row(id=name, scores={"exact_match": score}, **{**fields, **other})


def make_evaluation(task: str = "test_sums/add", count: int = 3, **other: Any) -> Evaluation:
    fields: dict[str, Any] = {
        "checkpoint": {"name": "v3", "digest": digest("v3"), "identity": {"kind": "full"}},
        "prompt": digest("prompt"),
        "sampling": {"max_tokens": 8, "temperature": 0.0},
        "seed": 0,
        "samples": digest("samples"),
        "metrics": (Metric("exact_match", digest("exact_match"), binary=True),),
        "rows": tuple(make_row(f"s{number:04}") for number in range(count)),
        "environment": {"engine": "vllm 0.32.0"},
        "provenance": {"created": "2026-01-01T00:00:00+00:00", "command": "pytest"},
        "policy": {"alpha": 0.05},
    }
    return Evaluation(task=task, **{**fields, **other})


def resealed(data: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """A record whose header was changed and given a new checksum: what only another program would write."""
    first, rest = data.split(b"\n", 1)
    header = json.loads(first)
    del header["checksum"]
    change(header)
    header["checksum"] = digest(header)
    return canonical(header).encode() + b"\n" + rest


def with_line(data: bytes, number: int, change: Callable[[dict[str, Any]], object]) -> bytes:
    """A record in which one row was changed."""
    lines = data.split(b"\n")
    value = json.loads(lines[number])
    change(value)
    lines[number] = json.dumps(value).encode()
    return b"\n".join(lines)


# -- the format --------------------------------------------------------------------------------------------------------


def test_a_record_reads_back_equal_with_everything_in_it() -> None:
    """Every field of an evaluation, inside the digest or not, survives writing and reading."""
    rows = (
        make_row("a", notes={"exact_match": "4"}, slices={"digits": "2"}, cluster="c", weight=2.5, finish=("stop",)),
        make_row("b", 0.0, tokens=(3, 4), target={"x": [1, None, 0.5]}, outputs=("é\u2028\n", "\ud83d")),
        replace(make_row("c"), scores={}, error="engine died"),
    )
    evaluation = make_evaluation(rows=rows, acceptance=ACCEPTED)
    back = parse(serialise(evaluation), "x")
    assert back == evaluation
    assert back.digest == evaluation.digest
    assert back.rows[1].outputs == ("é\u2028\n", "\ud83d")


def test_looks_judges_and_baselines_preferred_to_read_back() -> None:
    """A row in reserve has its look, and a metric what only judges and preferences have; without them nothing of it."""
    rows = make_row("a"), make_row("b", look=1), make_row("c", look=4)
    metric = Metric("exact_match", digest("exact_match"), judge="sha256:1", against="sha256:2")
    evaluation = make_evaluation(rows=rows, metrics=(metric,))
    data = serialise(evaluation)
    back = parse(data, "x")
    assert back == evaluation
    assert (back.digest, [row.look for row in back.rows], back.look) == (evaluation.digest, [0, 1, 4], 4)
    assert data.count(b'"look"') == 2
    plain = serialise(make_evaluation())
    assert not any(key in plain for key in (b'"look"', b'"judge"', b'"against"'))


@pytest.mark.parametrize("look", [-1, 1.5, True, "1", None])
def test_a_look_is_a_count(look: Any) -> None:
    """Nothing else says in which step a sample is drawn."""
    data = serialise(make_evaluation())
    with pytest.raises(RecordError, match=r"look is .*, expected a count"):
        parse(with_line(data, 2, lambda row: row.update(look=look)), "x")


def test_a_changed_look_is_noticed() -> None:
    """It decides what is compared, so the digest covers it."""
    data = serialise(make_evaluation(rows=(make_row("a"), make_row("b", look=1))))
    for look in (0, 2):
        with pytest.raises(RecordError, match="not those that were recorded"):
            parse(with_line(data, 2, lambda row, look=look: row.update(look=look)), "x")  # type: ignore[misc]


def with_margins(*margins: float | None) -> Evaluation:
    """A record with one row per margin."""
    return make_evaluation(rows=tuple(make_row(f"s{n}", margin=margin) for n, margin in enumerate(margins)))


def test_margins_are_kept_and_guarded_apart_from_the_digest() -> None:
    """They read back; a changed, lost or added one is noticed although the digest does not cover them."""
    data = serialise(with_margins(0.25, None, 0.0))
    assert [row.margin for row in parse(data, "x").rows] == [0.25, None, 0.0]
    for number, change in ((1, {"margin": 0.5}), (2, {"margin": 0.5}), (3, {"margin": None})):

        def changed(row: dict[str, Any], change: dict[str, Any] = change) -> None:
            row.update(change)
            if row["margin"] is None:
                del row["margin"]

        with pytest.raises(RecordError, match="not those that were recorded"):
            parse(with_line(data, number, changed), "x")


def test_records_without_margins_are_what_they_were_before() -> None:
    """No new field stands in them, and one that is added is refused."""
    data = serialise(with_margins(None, None))
    assert b"margin" not in data
    with pytest.raises(RecordError, match="not those that were recorded"):
        parse(with_line(data, 1, lambda row: row.update(margin=0.5)), "x")
    with pytest.raises(RecordError, match="not those that were recorded"):
        parse(resealed(data, lambda header: header.update(margins=digest([None, None]))), "x")


@pytest.mark.parametrize("margin", [-0.5, "0.5", True, [1.0]])
def test_a_margin_is_a_number_of_nats_from_0(margin: Any) -> None:
    """Anything else is damage, named with its line."""
    with pytest.raises(RecordError, match=r"x:2: margin is .*, expected a finite number from 0"):
        parse(with_line(serialise(with_margins(0.25)), 1, lambda row: row.update(margin=margin)), "x")


@pytest.mark.parametrize("margin", [math.inf, math.nan])
def test_a_margin_without_json_cannot_be_recorded(margin: float) -> None:
    """Infinity is no number of a record; an engine says None where there was no choice."""
    with pytest.raises(RecordError, match="cannot be recorded"):
        serialise(with_margins(margin))


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)

# Halves of characters occur alone, where max_tokens cuts; JSON would join two that belong together.
_OUTPUT = st.text(st.characters(exclude_categories=[])).filter(
    lambda t: not re.search("[\ud800-\udbff][\udc00-\udfff]", t)
)


@settings(deadline=None)
@given(
    target=_JSON,
    prompt=st.text(st.characters()),
    outputs=st.lists(_OUTPUT, max_size=2).map(tuple),
    score=st.floats(0, 1) | st.sampled_from([0, 1]),
    extra=st.dictionaries(st.text(), _JSON, max_size=3),
)
def test_reading_is_the_inverse_of_writing(
    target: Any, prompt: str, outputs: tuple[str, ...], score: float, extra: dict[str, Any]
) -> None:
    """Whatever JSON and text a record holds, reading gives back the same digest, and numbers keep their type."""
    evaluation = make_evaluation(
        rows=(make_row("a", score, target=target, prompt=prompt, outputs=outputs),), environment=extra
    )
    back = parse(serialise(evaluation), "x")
    assert back.digest == evaluation.digest
    assert back.environment == extra
    assert type(back.rows[0].scores["exact_match"]) is type(score)


def test_the_file_is_a_header_and_sorted_compact_lines() -> None:
    """The first line is the header with format, counts and sums; each row is one line of compact JSON."""
    lines = serialise(make_evaluation()).decode().split("\n")
    header = json.loads(lines[0])
    assert (header["evalgate"], header["kind"], header["rows"]) == (FORMAT, "evaluation", 3)
    assert header["digest"] == make_evaluation().digest
    assert lines[1] == (
        '{"id":"s0000","outputs":["4"],"pair":"ab12","prompt":"Q s0000","scores":{"exact_match":1.0},"target":"4"}'
    )
    assert lines[4:] == [""]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"environment": {"x": float("nan")}}, "cannot be recorded"),
        ({"rows": (make_row("a", float("nan")),)}, "sample 'a'"),
        ({"rows": (make_row("a", target=object()),)}, "not JSON serializable"),
    ],
)
def test_what_json_cannot_hold_is_not_written(change: Mapping[str, Any], says: str) -> None:
    """NaN, infinity and objects are refused when a record is made, and the sample is named."""
    with pytest.raises(RecordError, match=says):
        serialise(make_evaluation(**change))


GOOD = serialise(make_evaluation())


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "x: is no evalgate record: its first line is no JSON object"),
        (b"hello\n", "is no evalgate record"),
        (b"[1]\n", "is no JSON object but [1]"),
        (b'{"a": 1}\n', "its first line is no header"),
        (b'{"evalgate": true}\n', "its first line is no header"),
        (b"\xff\xfe{}\n", "is no evalgate record"),
        (b"[" * 100_000 + b"\n", "is no evalgate record"),
        (b'{"evalgate": 2}\n', "format 2, this one reads 1. pip install -U pytest-evalgate"),
        (b'{"evalgate": 1}\n', "x:1: the header was changed after it was written"),
        (b'{"evalgate": 1, "checksum": 1e999, "rows": 1e999}\n', "the header was changed"),
        (GOOD.replace(b'"command":"pytest"', b'"command":"pytesT"'), "x:1: the header was changed"),
        (GOOD.replace(b'"alpha":0.05', b'"alpha":0.50'), "x:1: the header was changed"),
        (resealed(GOOD, lambda h: h.update(kind="plan")), "kind is 'plan', expected 'evaluation'"),
        (resealed(GOOD, lambda h: h.update(surprise=1)), "x:1: unknown field 'surprise'"),
        (resealed(GOOD, lambda h: h.pop("samples")), "the field 'samples' is missing"),
        (resealed(GOOD, lambda h: h.update(seed=True)), "seed is True, expected a whole number"),
        (resealed(GOOD, lambda h: h.update(checkpoint={"name": "v3"})), "expected an object with name and digest"),
        (resealed(GOOD, lambda h: h["metrics"][0].update(low="0")), "low is '0', expected a finite number or null"),
        (resealed(GOOD, lambda h: h["metrics"][0].update(binary=1)), "binary is 1, expected true or false"),
        (resealed(GOOD, lambda h: h.update(acceptance={"by": "me"})), "the field 'anchor' is missing"),
        (resealed(GOOD, lambda h: h.update(seed=1)), "their digest differs"),
        (resealed(GOOD, lambda h: h.update(rows=4)), "has 3 rows, its header says 4"),
        (GOOD[:-40], "x:4: the last line is cut off"),
        (GOOD[:-1], "x:4: the last line is cut off"),
        (GOOD[: GOOD.rindex(b'{"id"')], "has 2 rows, its header says 3"),
        (GOOD.replace(b'"prompt":"Q s0001"', b'"prompt":"Q s0009"'), "their digest differs"),
        (GOOD.replace(b'"target":"4"', b'"target":1e999'), "their digest differs"),
        (with_line(GOOD, 2, lambda r: r.update(id="s0000")), "x:3: sample 's0000' appears twice"),
        (with_line(GOOD, 1, lambda r: r.update(id="s0003")), "x:3: sample 's0001' comes after 's0003'"),
        (
            with_line(GOOD, 2, lambda r: r["scores"].update(exact_match=float("nan"))),
            "x:3: is no JSON object: NaN is no",
        ),
        (
            with_line(GOOD, 2, lambda r: r["scores"].update(exact_match=1.5)),
            "x:3: exact_match is 1.5, outside its range",
        ),
        (with_line(GOOD, 2, lambda r: r["scores"].update(exact_match=-0.1)), "outside its range from 0.0 to 1.0"),
        (with_line(GOOD, 2, lambda r: r["scores"].update(exact_match="1")), "expected an object of finite numbers"),
        (with_line(GOOD, 2, lambda r: r["scores"].update(exact_match=True)), "expected an object of finite numbers"),
        (GOOD.replace(b'"exact_match":1.0}', b'"exact_match":1e999}', 1), "x:2: scores is"),
        (with_line(GOOD, 2, lambda r: r["scores"].update(bleu=1)), "x:3: 'bleu' is no metric of this record"),
        (with_line(GOOD, 2, lambda r: r["scores"].clear()), "x:3: has neither a score for 'exact_match' nor an error"),
        (with_line(GOOD, 2, lambda r: r.update(extra=1)), "x:3: unknown field 'extra'"),
        (with_line(GOOD, 2, lambda r: r.pop("target")), "x:3: the field 'target' is missing"),
        (with_line(GOOD, 2, lambda r: r.update(tokens=[1])), "tokens is [1], expected two counts"),
        (with_line(GOOD, 2, lambda r: r.update(weight=-1)), "weight is -1, expected a finite number from 0"),
        (with_line(GOOD, 2, lambda r: r.update(outputs="4" * 99)), "..., expected a list of texts"),
    ],
)
def test_every_fault_is_one_line_that_names_the_place(data: bytes, says: str) -> None:
    """A torn, changed, foreign or newer file is refused, and the line says which line and what to do."""
    with pytest.raises(RecordError) as caught:
        parse(data, "x")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.mend


def test_unbounded_metrics_and_rounding_are_within_range() -> None:
    """A metric without an upper bound takes any size, and a mean may pass its bound by the last bits."""
    metric = Metric("exact_match", "d", high=None)
    assert parse(serialise(make_evaluation(metrics=(metric,), rows=(make_row("a", 1e9),))), "x").rows[0].scores
    assert parse(serialise(make_evaluation(rows=(make_row("a", 1 + 1e-15),))), "x").rows


def test_a_thousand_rows_are_read_in_thirty_milliseconds() -> None:
    """The whole check of a record of 1,000 rows costs at most 30 ms of processor time (best of ten)."""
    data = serialise(make_evaluation(count=1000))
    times = []
    for _ in range(10):
        start = time.process_time()
        parse(data, "x")
        times.append(time.process_time() - start)
    assert min(times) <= 0.030


# -- the store ---------------------------------------------------------------------------------------------------------


def test_a_record_has_one_place_and_is_written_once(tmp_path: Path) -> None:
    """Writing the same content again changes no byte, whenever and by whatever command it was made."""
    store, evaluation = Store(tmp_path), make_evaluation()
    path = store.write(evaluation)
    folder = f"v3-{short(evaluation.checkpoint['digest'])}"
    assert path == tmp_path / "records" / folder / "test_sums" / f"add-{short(evaluation.digest)}.jsonl"
    before = path.read_bytes()
    again = replace(evaluation, provenance={"created": "2027-01-01T00:00:00+00:00"})
    assert store.write(again) == path
    assert path.read_bytes() == before
    assert store.read(path) == evaluation
    assert store.paths() == (path,)


def test_another_record_is_never_replaced(tmp_path: Path) -> None:
    """Where another or a damaged record stands in the place, writing is refused and the file stays."""
    store, evaluation = Store(tmp_path), make_evaluation()
    path = store.path(evaluation)
    for data, says in ((serialise(make_evaluation(count=2)), "another evaluation"), (GOOD[:-5], "cut off")):
        write_atomically(path, data)
        with pytest.raises(RecordError, match=says):
            store.write(evaluation)
        assert path.read_bytes() == data


def test_an_evaluation_that_would_not_read_back_is_not_written(tmp_path: Path) -> None:
    """A score out of range or missing without an error is refused before a file appears."""
    store = Store(tmp_path)
    for row in (make_row("a", 7.0), replace(make_row("a"), scores={}), make_row("a", target={2: 1, 10: 3})):
        with pytest.raises(RecordError, match="cannot be recorded"):
            store.write(make_evaluation(rows=(row,)))
    assert not store.records.exists()


def test_the_newest_record_of_a_task_counts(tmp_path: Path) -> None:
    """`latest` and `for_checkpoint` take the record made last, also when that content was first recorded long ago."""
    store = Store(tmp_path)
    old = make_evaluation(provenance={"created": "2026-01-01T00:00:00+00:00"})
    new = make_evaluation(count=2, provenance={"created": "2026-01-02T00:00:00+00:00"})
    other = make_evaluation("test_sums/sub", checkpoint={"name": "v4", "digest": digest("v4")})
    for evaluation in (new, old, other):
        store.write(evaluation)
    v3 = digest("v3")
    assert store.latest(v3, "test_sums/add") == new
    assert store.for_checkpoint(v3) == {"test_sums/add": new}
    back = replace(old, provenance={"created": "2026-01-03T00:00:00+00:00"})
    store.write(back)
    assert store.latest(v3, "test_sums/add") == old
    assert store.latest(v3, "test_sums/none") is None
    assert store.for_checkpoint(digest("v5")) == {}
    assert [header.digest for header in store.list()] == [other.digest, new.digest, old.digest]


def test_the_list_holds_headers_oldest_first(tmp_path: Path) -> None:
    """`list` reads headers only: a record whose rows are damaged is listed, one whose header is damaged is refused."""
    store = Store(tmp_path)
    second = store.write(make_evaluation(count=2, provenance={"created": "2026-01-02T00:00:00Z"}))
    first = store.write(make_evaluation(provenance={"created": "2026-01-01T00:00:00"}))
    with second.open("ab") as file:
        file.write(b"damage")
    os.utime(second, (2_000_000_000, 2_000_000_000))
    assert [(header.path, header.rows, header.task) for header in store.list()] == [
        (first, 3, "test_sums/add"),
        (second, 2, "test_sums/add"),
    ]
    assert store.list()[0].metrics[0].name == "exact_match"
    first.write_bytes(GOOD.replace(b"pytest", b"pytesT", 1))
    with pytest.raises(RecordError, match="header was changed"):
        store.list()


def test_records_are_found_by_digest_and_in_all(tmp_path: Path) -> None:
    """A record is found by task and digest, whatever checkpoint it is of; `all` reads every one."""
    store, evaluation = Store(tmp_path), make_evaluation("t/pairs[de]")
    store.write(evaluation)
    assert store.by_digest("t/pairs[de]", evaluation.digest) == evaluation
    assert store.by_digest("t/pairs[de]", digest("no")) is None
    assert store.by_digest("t/pairs[de]", evaluation.digest[:19] + "0" * 52) is None
    assert list(store.all()) == [evaluation]


def test_a_time_that_cannot_be_noted_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file system refuses to note the time, writing says so: the newest record would be another."""

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(os, "utime", refuse)
        with pytest.raises(RecordError, match="could not be written: Operation not permitted"):
            Store(tmp_path).write(make_evaluation())


def test_a_record_without_a_time_is_stamped_with_now(tmp_path: Path) -> None:
    """Without a readable time in the provenance the file's own time is that of writing."""
    path = Store(tmp_path).write(make_evaluation(provenance={"created": "yesterday"}))
    assert abs(path.stat().st_mtime - time.time()) < 60


@pytest.mark.parametrize(
    "name",
    ["../../etc/x", "..", ".", "", "a/b\\c", "a\0b", "ü" * 300, "x" * 300, "\udcff", ".hidden", "%2e", "@x", "a b"],
)
def test_no_name_leaves_the_folder(tmp_path: Path, name: str) -> None:
    """Whatever a checkpoint, suite or task is called, its record lies below the store and is found again."""
    store = Store(tmp_path)
    evaluation = make_evaluation(f"{name}/{name}", checkpoint={"name": name, "digest": digest("v3")})
    if "\udcff" in name:
        evaluation = replace(evaluation, task=f"suite/{name}")
    path = store.write(evaluation)
    assert path.resolve().is_relative_to((tmp_path / "records").resolve())
    assert not any(part.startswith(".") for part in path.relative_to(tmp_path).parts)
    assert store.latest(digest("v3"), evaluation.task) == evaluation


@settings(deadline=None)
@given(st.text(), st.text())
def test_different_tasks_have_different_baselines(one: str, two: str) -> None:
    """No two task names share a baseline's file, nor does a product's name collide with a task's."""
    root = Path("suites")
    assert (baseline_path(root, f"s/{one}") == baseline_path(root, f"s/{two}")) == (one == two)
    assert baseline_path(root, f"s/{one}", two or "x") != baseline_path(root, f"s/{one}")


def test_reading_says_what_the_disk_says(tmp_path: Path) -> None:
    """A missing file, a folder in its place and a folder without records are RecordErrors."""
    with pytest.raises(RecordError, match="no such file"):
        Store(tmp_path).read(tmp_path / "none.jsonl")
    with pytest.raises(RecordError, match="could not be read"):
        Store(tmp_path).read(tmp_path)
    (tmp_path / "records" / "a.jsonl").mkdir(parents=True)
    with pytest.raises(RecordError, match="could not be read"):
        Store(tmp_path).list()
    with pytest.raises(RecordError, match="could not be written"):
        write_atomically(tmp_path / "records" / "a.jsonl", b"x")
    with pytest.raises(RecordError, match="could not be written"):
        write_atomically(Path(os.devnull) / "x", b"x")


# -- baselines ---------------------------------------------------------------------------------------------------------


def test_a_baseline_is_a_record_with_an_acceptance(tmp_path: Path) -> None:
    """Accepting writes a copy with who and why; its digest is the record's; the next one replaces it."""
    path = baseline_path(tmp_path, "test_sums/add")
    assert path == tmp_path / "baselines" / "test_sums" / "add.jsonl"
    assert baseline_path(tmp_path, "test_sums/add", "support") == path.with_name("add@support.jsonl")
    assert read_baseline(path, "test_sums/add") is None
    write_baseline(path, make_evaluation(), ACCEPTED)
    first = read_baseline(path, "test_sums/add")
    assert first is not None
    assert (first.acceptance, first.digest) == (ACCEPTED, make_evaluation().digest)
    write_baseline(path, make_evaluation(count=2), replace(ACCEPTED, previous=first.digest))
    second = read_baseline(path)
    assert second is not None
    assert len(second.rows) == 2
    assert [file.name for file in path.parent.iterdir()] == ["add.jsonl"]


def test_only_an_accepted_complete_record_of_the_task_is_a_baseline(tmp_path: Path) -> None:
    """A record that nobody accepted, another task's and one with unanswered samples are refused, on both ways."""
    with pytest.raises(RecordError, match="nobody accepted"):
        parse_baseline(GOOD, "x", "test_sums/add")
    with pytest.raises(RecordError, match="baseline of test_sums/add, expected test_sums/sub"):
        parse_baseline(serialise(make_evaluation(acceptance=ACCEPTED)), "x", "test_sums/sub")
    broken = make_evaluation(rows=(make_row("a"), replace(make_row("b"), scores={}, error="out of memory")))
    with pytest.raises(RecordError, match="1 of 2 samples have no answer or score, first 'b': out of memory"):
        parse_baseline(serialise(replace(broken, acceptance=ACCEPTED)), "x")
    with pytest.raises(RecordError, match="1 of 2 samples"):
        write_baseline(tmp_path / "b.jsonl", broken, ACCEPTED)
    assert not list(tmp_path.iterdir())


# -- records from elsewhere --------------------------------------------------------------------------------------------


def test_records_come_from_a_file_a_folder_or_a_url(tmp_path: Path) -> None:
    """The three kinds of source give the same records, the oldest first."""
    old = make_evaluation(provenance={"created": "2025-01-01T00:00:00+00:00"}, count=1)
    new = make_evaluation()
    paths = [Store(tmp_path).write(evaluation) for evaluation in (new, old)]
    (tmp_path / "records" / "README").write_text("not a record")
    assert read_records(str(tmp_path)) == [old, new]
    assert read_records(f"file://{tmp_path}") == [old, new]
    assert read_records(str(paths[0])) == [new]
    assert read_records(f"file://{paths[0]}") == [new]


def test_an_address_in_memory_is_read_through_fsspec(tmp_path: Path) -> None:
    """Any fsspec store serves, and damage there is named by its full address."""
    from fsspec.implementations.memory import MemoryFileSystem

    memory = MemoryFileSystem()
    memory.pipe({"/bucket/a/one.jsonl": GOOD, "/bucket/two.jsonl": GOOD[:-3]})
    assert read_records("memory://bucket/a") == [make_evaluation()]
    with pytest.raises(RecordError, match=r"^memory:///bucket/two.jsonl:4: the last line is cut off"):
        read_records("memory://bucket")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("nowhere://user:secret@host/x?sig=secret", "nowhere://host/x: could not be read: ValueError"),
        ("memory://none", "memory://none: holds no records"),
        ("file:///no/such/folder", "holds no records"),
        ("/no/such/folder", "there is no such file"),
    ],
)
def test_a_source_without_records_is_an_error_without_its_secrets(source: str, says: str) -> None:
    """An address that leads nowhere is a RecordError that repeats no user, password or signature."""
    with pytest.raises(RecordError) as caught:
        read_records(source)
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_empty_folder_holds_no_records(tmp_path: Path) -> None:
    """A folder without records is an error: nothing to gate is no pass."""
    with pytest.raises(RecordError, match="holds no records"):
        read_records(str(tmp_path))


def test_a_url_without_fsspec_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where fsspec is not installed the error says which extra brings it."""
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(MissingExtraError, match=r"pytest-evalgate\[store\]"):
        read_records("s3://bucket/records")


def test_the_store_needs_only_the_standard_library() -> None:
    """Importing the store, the cache, the ledger and the settings loads no third-party library."""
    import subprocess

    code = (
        "import sys, evalgate.store, evalgate.cache, evalgate.ledger, evalgate.config;"
        "print([m for m in ('numpy', 'pandas', 'pydantic', 'scipy', 'fsspec', 'pytest') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
