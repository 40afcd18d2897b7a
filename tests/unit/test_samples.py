"""Eval data is read as it stands, and every bad set is refused in one line that says where."""

from __future__ import annotations

import hashlib
import json
import random
import string
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalgate.errors import SampleError, TaskError
from evalgate.samples import read_samples, samples_digest
from evalgate.scoring import bits_per_byte, exact_match, function, json_schema
from evalgate.task import JsonLines, Sample, Task

UNHURRIED = settings(deadline=None)  # the first example imports libraries, and cores are shared
ROWS: list[dict[str, Any]] = [
    {"id": "s-2", "a": 3, "digits": 2, "carry": True, "doc": "x", "target": "7"},
    {"id": "s-1", "a": 4, "digits": 1, "carry": False, "doc": "x", "target": 8},
    {"id": "s-3", "a": 5, "digits": 1, "carry": False, "doc": "y", "target": "née"},
]


def declared(samples: Any, **changes: Any) -> Task:
    settings: dict[str, Any] = {"prompt": "{{ a }}", "scorers": [exact_match()]}
    return Task(samples=samples, **(settings | changes))


def lines(rows: Sequence[Any]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(folder: Path, content: bytes, **changes: Any) -> tuple[Sample, ...]:
    """The samples of a file `sums.jsonl` with that content, read from its folder."""
    (folder / "sums.jsonl").write_bytes(content)
    pinned = changes.pop("digest", None)
    return read_samples(declared(JsonLines(folder / "sums.jsonl", pinned), **changes), "sums/addition")


def refusal(folder: Path, content: bytes, **changes: Any) -> str:
    """The one line with which such a file is refused."""
    with pytest.raises(SampleError) as caught:
        read(folder, content, **changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# what is read


def test_rows_become_samples_sorted_by_id(folder: Path) -> None:
    """All fields are kept; slices and clusters become text; targets stay what they are."""
    samples = read(folder, lines(ROWS), slices=("digits", "carry"), cluster="doc")
    assert [sample.id for sample in samples] == ["s-1", "s-2", "s-3"]
    first = samples[0]
    assert first == Sample("s-1", ROWS[1], 8, {"digits": "1", "carry": "false"}, "x")
    assert samples[1].slices == {"digits": "2", "carry": "true"}
    assert samples[2].target == "née"


def test_rows_of_the_suite_are_read_like_those_of_a_file(folder: Path) -> None:
    """The same rows give the same samples, whether they stand in a file or in the suite."""
    assert read_samples(declared(ROWS), "sums/addition") == read(folder, lines(ROWS))


def test_another_field_may_be_the_target(folder: Path) -> None:
    """`Task.target` names the field that holds the target."""
    assert [sample.target for sample in read(folder, lines(ROWS), target="a")] == [4, 3, 5]


def test_target_is_optional_where_no_scorer_needs_one(folder: Path) -> None:
    """Without a target a scorer that reads the answer alone still works."""
    scorers = [function(lambda output, sample: True, "talks"), json_schema({})]
    assert read(folder, b'{"id": "s-1", "a": 1}\n', scorers=scorers)[0].target is None


def test_blank_lines_and_line_ends_do_not_matter(folder: Path) -> None:
    """Windows line ends, blank lines and a missing last line end change no sample."""
    content = lines(ROWS)
    assert read(folder, content.replace(b"\n", b"\r\n\r\n").rstrip()) == read(folder, content)


@UNHURRIED
@given(st.permutations(ROWS), st.randoms())
def test_order_changes_nothing(rows: list[dict[str, Any]], shuffle: random.Random) -> None:
    """Neither the order of rows nor that of their fields changes the samples or their digest."""
    mixed = [dict(shuffle.sample(list(row.items()), len(row))) for row in rows]
    assert read_samples(declared(mixed), "w") == read_samples(declared(ROWS), "w")
    assert samples_digest(read_samples(declared(mixed), "w")) == samples_digest(read_samples(declared(ROWS), "w"))


@pytest.mark.parametrize("change", [{"id": "s-9"}, {"a": 9}, {"target": "9"}, {"extra": None}])
def test_digest_covers_ids_fields_and_targets(change: dict[str, Any]) -> None:
    """Any change of content is another digest; what the task slices by is not content."""
    before = samples_digest(read_samples(declared(ROWS), "w"))
    assert samples_digest(read_samples(declared([ROWS[0] | change, *ROWS[1:]]), "w")) != before
    assert samples_digest(read_samples(declared(ROWS, slices=("digits",), cluster="doc"), "w")) == before
    assert samples_digest(read_samples(declared(ROWS, target="a"), "w")) != before


@UNHURRIED
@given(
    st.dictionaries(
        st.text(string.ascii_lowercase, min_size=1),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])), st.lists
        ),
    )
)
def test_every_json_row_is_kept(fields: dict[str, Any]) -> None:
    """Whatever JSON can hold comes through unchanged."""
    row = fields | {"id": "s-1", "target": "x"}
    assert read_samples(declared([row]), "w")[0].fields == row


# what is refused


def test_missing_file_names_its_neighbour(folder: Path) -> None:
    """A missing file is told with the nearest name in its folder, or the missing folder."""
    (folder / "sums.jsonl").touch()
    with pytest.raises(SampleError, match=r"^sum\.jsonl: there is no such file\. Did you mean sums\.jsonl\?$"):
        read_samples(declared(JsonLines(folder / "sum.jsonl")), "w")
    with pytest.raises(SampleError, match=r"^data/sums\.jsonl: .* There is no folder data either\.$"):
        read_samples(declared(JsonLines(folder / "data" / "sums.jsonl")), "w")
    with pytest.raises(SampleError, match=r"no such file$"):
        read_samples(declared(JsonLines(folder / "quite different.csv")), "w")
    with pytest.raises(SampleError, match="cannot be read: Is a directory"):
        read_samples(declared(JsonLines(folder)), "w")


def test_file_elsewhere_is_named_in_full(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A path outside of the working folder is absolute in messages."""
    away = tmp_path_factory.mktemp("away") / "sums.jsonl"
    away.write_bytes(b"")
    with pytest.raises(SampleError) as caught:
        read_samples(declared(JsonLines(away)), "w")
    assert str(caught.value).startswith(f"{away}: holds no rows")


GOOD = b'{"id": "s-1", "target": "x", "a": 1}\n'


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "sums.jsonl: holds no rows"),
        (b"\n \n", "sums.jsonl: holds no rows"),
        (GOOD + b"\n" + GOOD, "sums.jsonl:3: the id 's-1' is also that of sums.jsonl:1"),
        (GOOD + b'{"id": "\xff"}', "sums.jsonl:2: not UTF-8: byte 0xff at offset 45 of the file"),
        (b"\xef\xbb\xbf" + GOOD, "sums.jsonl:1: begins with a byte order mark"),
        (GOOD.decode().encode("utf-16"), "sums.jsonl:1: is UTF-16"),
        (GOOD.decode().encode("utf-16-be"), "sums.jsonl:1: is UTF-16"),
        (b'["id"]\n', "sums.jsonl:1: expected an object, found a list"),
        (b"3\n", "sums.jsonl:1: expected an object, found a number"),
        (GOOD + b'{"id": "s-2", "tar', "sums.jsonl:2:15: not JSON: Unterminated string"),
        (GOOD + b'{"id": "s-2",', "sums.jsonl:2:14: not JSON"),
        (b'{"id": "s-1", "id": "s-2"}', "sums.jsonl:1: not JSON: the key 'id' stands twice"),
        (b'{"id": "s-1", "target": NaN}', "sums.jsonl:1: not JSON: NaN is no JSON number"),
        (b'{"id": "s-1", "target": -Infinity}', "-Infinity is no JSON number"),
        (b'{"id": "s-1", "target": 1e999}', "1e999 is beyond the range"),
        (b'{"id": "s-1", "a": ' + b"[" * 50_000, "sums.jsonl:1: not JSON: nested too deeply"),
        (b'{"id": "s-1", "target": ' + b"9" * 5000 + b"}", "sums.jsonl:1: not JSON: Exceeds the limit"),
        (b'{"id": "s-1", "target": "\\ud83d"}', "sums.jsonl:1: holds half of a surrogate pair"),
        (b'{"target": "x"}', "sums.jsonl:1: no field 'id'. There are target."),
        (b'{"idx": "x"}', "Did you mean 'idx'?"),
        (b"{}", "no field 'id'. There are none."),
        (b'{"id": 1, "target": "x"}', "sums.jsonl:1: the field 'id' is a number, expected a text"),
        (b'{"id": null, "target": "x"}', "the field 'id' is nothing"),
        (
            b'{"id": "s-1", "tragte": "x"}',
            "sums.jsonl:1: exact_match cannot score sample s-1: expected a text or a number",
        ),
        (b'{"id": "s-1", "tragte": "x"}', "Did you mean 'tragte'?"),
        (b'{"id": "s-1", "target": ["x"]}', "found a list"),
    ],
)
def test_malformed_file_is_refused_with_its_line(folder: Path, content: bytes, says: str) -> None:
    """Every fault of encoding, JSON or fields is told with file, line and what was expected."""
    assert says in refusal(folder, content)


@pytest.mark.parametrize(
    "name",
    [
        "../../x",
        "..",
        "a/../b",
        "/etc/x",
        "a//b",
        "a/",
        "./a",
        "a\\b",
        "",
        "x" * 201,
        "a\nb",
        "a\0b",
        "a\x1b[2Jb",
        "a\u202eb",
    ],
)
def test_id_that_is_no_name_is_refused(folder: Path, name: str) -> None:
    """Paths, control characters, nothing and too much are no ids; the message itself stays printable."""
    says = refusal(folder, lines([{"id": name, "target": "x"}]))
    assert says.startswith("sums.jsonl:1: ")
    assert says.isprintable()


@pytest.mark.parametrize("name", ["s-1", "mmlu/algebra/3", "né 1", "a.b", "..a", "x" * 200, "東京"])
def test_ordinary_id_is_not_refused(folder: Path, name: str) -> None:
    """The rule against paths lets ordinary names pass, slashes included."""
    assert read(folder, lines([{"id": name, "target": "x"}]))[0].id == name


def test_row_may_have_a_megabyte_and_no_more(folder: Path) -> None:
    """A row of exactly the cap is read, one byte more is refused."""
    frame = len(b'{"id": "s-1", "target": ""}')
    for end in (b"\n", b"\r\n", b""):
        full = b'{"id": "s-1", "target": "%s"}' % (b"x" * (1_000_000 - frame))
        assert len(read(folder, full + end)[0].target) == 1_000_000 - frame
        assert refusal(folder, full[:-2] + b'x"}' + end) == "sums.jsonl:1: the row is longer than 1,000,000 bytes"
    with pytest.raises(SampleError, match="w, row 1: the row is longer"):
        read_samples(declared([{"id": "s-1", "target": "é" * 500_000}]), "w")


def test_huge_row_is_refused_without_reading_it(folder: Path) -> None:
    """A row of 50 MB costs little more memory than the cap."""
    content = GOOD + b'{"id": "s-2", "target": "' + b"x" * 50_000_000
    (folder / "sums.jsonl").write_bytes(content)
    del content
    tracemalloc.start()
    try:
        with pytest.raises(SampleError, match=r"sums\.jsonl:2: the row is longer"):
            read_samples(declared(JsonLines(folder / "sums.jsonl")), "w")
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_pinned_digest_is_that_of_the_bytes(folder: Path) -> None:
    """The right digest passes; any other is refused with both and the line to paste."""
    content = lines(ROWS)
    actual = f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert len(read(folder, content, digest=actual)) == 3
    says = refusal(folder, content + b"\n", digest=actual)
    changed = f"sha256:{hashlib.sha256(content + bytes([10])).hexdigest()}"
    assert f"expected {actual}, found {changed}" in says
    assert says.endswith(f'write digest="{changed}".')


def test_declared_fields_must_be_there(folder: Path) -> None:
    """A slice, cluster or target that the task names is in every row, and of a kind that can be one."""
    assert "sums.jsonl:1: no field 'digit'. Did you mean 'digits'?" in refusal(folder, lines(ROWS), slices=("digit",))
    assert "sums.jsonl:1: no field 'dok'. Did you mean 'doc'?" in refusal(folder, lines(ROWS), cluster="dok")
    assert "no field 'sum', which is declared as target" in refusal(folder, lines(ROWS), target="sum")
    odd = lines([ROWS[0], ROWS[1] | {"digits": [1]}])
    assert "sums.jsonl:2: the field 'digits' is a list" in refusal(folder, odd, slices=("digits",))
    odd = lines([ROWS[0], ROWS[1] | {"doc": None}])
    assert "sums.jsonl:2: the field 'doc' is nothing" in refusal(folder, odd, cluster="doc")
    odd = lines([ROWS[0], ROWS[1] | {"doc": "a\x07"}])
    assert "cannot be printed" in refusal(folder, odd, cluster="doc")
    odd = lines([ROWS[0], ROWS[1] | {"doc": ""}])
    assert "0 characters" in refusal(folder, odd, cluster="doc")


def test_target_in_some_rows_only_is_a_slip(folder: Path) -> None:
    """Even where no scorer needs a target, a row that lacks what the others have is refused."""
    content = b'{"id": "s-1", "target": "x"}\n{"id": "s-2"}\n'
    scorers = [function(lambda output, sample: True, "talks")]
    assert "sums.jsonl:2: no field 'target', though other rows have one" in refusal(folder, content, scorers=scorers)


def test_scorers_see_every_sample(folder: Path) -> None:
    """What any scorer cannot score is refused, not only the first's."""
    content = lines([{"id": "s-1", "target": ""}])
    assert read(folder, content)
    assert "bits_per_byte cannot score" in refusal(folder, content, scorers=[exact_match(), bits_per_byte()])


def test_clusters_of_one_are_no_clusters(folder: Path) -> None:
    """A cluster field whose values are all different is refused; one pair is enough, and so is a single row."""
    apart = [row | {"doc": str(n)} for n, row in enumerate(ROWS)]
    assert "clusters with one member each where clusters were promised: 'doc' has 3 values in 3 rows" in refusal(
        folder, lines(apart), cluster="doc"
    )
    assert read(folder, lines(ROWS), cluster="doc")
    assert read(folder, lines(ROWS[:1]), cluster="doc")


def test_slice_of_many_values_is_refused(folder: Path) -> None:
    """Fifty values are slices, fifty-one are not: that is a mistake in the task."""
    rows = [{"id": f"s-{n}", "a": n, "target": "x"} for n in range(51)]
    assert len(read(folder, lines(rows[:50]), slices=("a",))) == 50
    with pytest.raises(TaskError, match=r"sums\.jsonl: the slice 'a' has 51 values, expected up to 50"):
        read(folder, lines(rows), slices=("a",))


def test_golden_sample_must_exist(folder: Path) -> None:
    """A golden id that no sample has is told with the nearest one."""
    assert read(folder, lines(ROWS), golden=("s-1",))
    says = refusal(folder, lines(ROWS), golden=("s-1", "s_2"))
    assert says == "sums.jsonl: the golden sample 's_2' does not exist. Did you mean 's-2'?"


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], "sums/addition: holds no rows"),
        ([["id"]], "sums/addition, row 1: expected an object, found a list"),
        ([ROWS[0], ROWS[0]], "sums/addition, row 2: the id 's-2' is also that of sums/addition, row 1"),
        ([{"id": "s", "target": {1, 2}}], "row 1: a row must be JSON values"),
        ([{"id": "s", "target": float("nan")}], "row 1: a row must be JSON values"),
        ([{"id": "s", "target": "\ud83d"}], "row 1: holds half of a surrogate pair"),
        ([{"id": "s", 1: 2, "1": 3}], "row 1: "),
    ],
)
def test_rows_of_the_suite_are_held_to_the_same_rules(rows: list[Any], says: str) -> None:
    """Rows that stand in no file are named by suite, task and number."""
    with pytest.raises(SampleError) as caught:
        read_samples(declared(rows), "sums/addition")
    assert says in str(caught.value)
