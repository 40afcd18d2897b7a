"""The ledger: entries are only added, each seals all before it, and nothing can be changed unseen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalgate.digest import digest
from evalgate.errors import RecordError
from evalgate.ledger import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    made = Ledger(tmp_path / "state" / "ledger.jsonl")
    for number in range(3):
        made.append("plan", {"number": number})
    return made


def test_a_missing_ledger_is_empty_and_no_error(tmp_path: Path) -> None:
    """Without a file there is no head, no entry and no problem, and asking makes no file."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    assert (ledger.head, ledger.entries(), ledger.verify()) == (None, (), [])
    assert not ledger.path.exists()


def test_the_newest_of_a_kind_come_first(ledger: Ledger) -> None:
    """Only that kind, last written first; a changed entry is met where it stands, and none before it is asked for."""
    ledger.append("verdict", {"number": 3})
    ledger.append("plan", {"number": 4})
    assert [entry.body["number"] for entry in ledger.newest("plan")] == [4, 2, 1, 0]
    assert [entry.body["number"] for entry in ledger.newest("verdict")] == [3]
    ledger.path.write_bytes(ledger.path.read_bytes().replace(b'"number":1', b'"number":7'))
    newest = ledger.newest("plan")
    assert [next(newest).n, next(newest).n] == [5, 3]
    with pytest.raises(RecordError, match=r"ledger\.jsonl:2: the entry was changed"):
        next(newest)


def test_entries_are_chained_by_their_hashes(ledger: Ledger) -> None:
    """Each entry has the number after and the hash of the one before, and its own hash covers everything else."""
    entries = ledger.entries()
    assert [entry.n for entry in entries] == [1, 2, 3]
    assert [entry.previous for entry in entries] == [None, entries[0].hash, entries[1].hash]
    assert ledger.head == entries[-1].hash
    for line in ledger.path.read_text().splitlines():
        value = json.loads(line)
        sealed = value.pop("hash")
        assert digest(value) == sealed
    assert ledger.verify([entries[0].hash, entries[2].hash]) == []
    assert entries[0].at.endswith("+00:00")


@settings(deadline=None)  # the disk has its own mind
@given(
    st.dictionaries(st.text(), st.none() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False))
)
def test_any_json_can_be_said(body: dict[str, Any]) -> None:
    """Whatever JSON values a body holds are read back, and the chain holds."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "ledger.jsonl")
        entry = ledger.append("accept", body)
        assert ledger.append("verdict", {}).previous == entry.hash
        assert ledger.entries()[0] == entry
        assert entry.body == body


def test_a_reason_with_half_a_character_is_kept(ledger: Ledger) -> None:
    """A byte of the command line that was no UTF-8 does not stop an acceptance."""
    ledger.append("accept", {"why": "good \udcff"})
    assert ledger.entries()[-1].body == {"why": "good \udcff"}


def test_keys_and_tuples_become_json_before_they_are_hashed(ledger: Ledger) -> None:
    """What is hashed is what is read back, also where Python's values are not JSON's."""
    ledger.append("plan", {"ids": (1, 2), "by": {2: "b", 10: "a"}})
    assert ledger.verify() == []
    assert ledger.entries()[-1].body == {"ids": [1, 2], "by": {"2": "b", "10": "a"}}


def test_what_json_cannot_hold_is_refused(ledger: Ledger) -> None:
    """NaN and objects are refused, and nothing is added."""
    before = ledger.path.read_bytes()
    for body in ({"p": float("nan")}, {"x": object()}):
        with pytest.raises(RecordError, match="the ledger cannot hold this verdict"):
            ledger.append("verdict", body)
    assert ledger.path.read_bytes() == before


@pytest.mark.parametrize("cut", [1, 2, 30, 200])
def test_a_torn_last_line_is_dropped_at_the_next_entry_and_said(ledger: Ledger, cut: int) -> None:
    """What a killed writer left of a line is no entry; the next append drops it, says so, and the chain holds."""
    whole = ledger.path.read_bytes()
    ledger.append("verdict", {"text": "x" * 300})
    torn = ledger.path.read_bytes()[: len(whole) + cut]
    ledger.path.write_bytes(torn)
    assert len(ledger.entries()) == 3
    assert ledger.verify() == [f"{ledger.path}:4: the last line was never finished"]
    ledger.append("verdict", {})
    assert ledger.notes == [f"{ledger.path}: dropped a line of {cut} bytes that a killed run had not finished"]
    assert ledger.verify() == []
    assert [entry.kind for entry in ledger.entries()] == ["plan", "plan", "plan", "verdict"]


def test_a_whole_entry_without_its_line_break_is_kept(ledger: Ledger) -> None:
    """An entry that lacks only the line break is an entry: it is kept, and the next stands on its own line."""
    ledger.path.write_bytes(ledger.path.read_bytes()[:-1])
    assert len(ledger.entries()) == 3
    ledger.append("verdict", {})
    assert len(ledger.entries()) == 4
    assert (ledger.verify(), ledger.notes) == ([], [])


def lines(ledger: Ledger) -> list[bytes]:
    return ledger.path.read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda one, two, three: [one.replace(b'"number":0', b'"number":9'), two, three], ":1: the entry was changed"),
        (lambda one, two, three: [one, three], ":2: entry 3 does not follow"),
        (lambda one, two, three: [two, three], ":1: entry 2 does not follow"),
        (lambda one, two, three: [one, three, two], ":2: entry 3 does not follow"),
        (lambda one, two, three: [one, two, two, three], ":3: entry 2 does not follow"),
        (lambda one, two, three: [one, b"hello\n", two, three], ":2: is no entry of a ledger"),
        (lambda one, two, three: [one, b"[]\n", two, three], ":2: is no entry of a ledger"),
        (lambda one, two, three: [one, b'{"n": 2}\n', two, three], ":2: is no entry of a ledger"),
        (lambda one, two, three: [one, b"\n", two, three], ":2: is no entry of a ledger"),
        (lambda one, two, three: [one, b"\xff\n", two, three], ":2: is no entry of a ledger"),
        (lambda one, two, three: [b"[" * 100_000 + b"\n", two, three], ":1: is no entry of a ledger"),
    ],
)
def test_a_changed_ledger_is_noticed(ledger: Ledger, change: Any, says: str) -> None:
    """Changing, removing, moving or adding an entry breaks the chain at a named line, for all who read it."""
    ledger.path.write_bytes(b"".join(change(*lines(ledger))))
    (problem,) = ledger.verify()
    assert says in problem
    with pytest.raises(RecordError, match="ledger"):
        ledger.entries()


def test_a_rewritten_entry_breaks_the_next(ledger: Ledger) -> None:
    """An entry changed together with its own hash no longer fits the one after it."""
    one, *rest = lines(ledger)
    value = json.loads(one)
    value["body"] = {"number": 9}
    del value["hash"]
    value["hash"] = digest(value)
    ledger.path.write_bytes(json.dumps(value).encode() + b"\n" + b"".join(rest))
    (problem,) = ledger.verify()
    assert ":2: entry 2 does not follow" in problem


def test_entries_cut_off_the_end_are_missed_by_a_known_head(ledger: Ledger) -> None:
    """A shorter chain holds by itself; a head that a card or baseline printed shows that its end is gone."""
    head = ledger.head
    assert head is not None
    ledger.path.write_bytes(b"".join(lines(ledger)[:2]))
    assert ledger.verify() == []
    assert ledger.verify([head]) == [f"{ledger.path}: the entry {head} is gone"]


def test_nothing_is_added_to_a_damaged_end(ledger: Ledger) -> None:
    """Where the last entry does not verify, appending and the head are refused and the file stays as it is."""
    ledger.path.write_bytes(ledger.path.read_bytes().replace(b'"number":2', b'"number":3'))
    before = ledger.path.read_bytes()
    with pytest.raises(RecordError, match=":3: the entry was changed"):
        ledger.append("verdict", {})
    with pytest.raises(RecordError, match=":3: the entry was changed"):
        _ = ledger.head
    assert ledger.path.read_bytes() == before


def test_what_the_disk_refuses_is_a_record_error(tmp_path: Path) -> None:
    """A folder in the file's place is a typed error for readers and writers."""
    ledger = Ledger(tmp_path)
    with pytest.raises(RecordError, match="could not be read"):
        ledger.entries()
    with pytest.raises(RecordError, match="could not be written"):
        ledger.append("plan", {})


_WRITER = """
import sys
from pathlib import Path
from evalgate.ledger import Ledger
for n in range(25):
    Ledger(Path(sys.argv[1])).append("plan", {"writer": sys.argv[2], "n": n})
"""


def test_writers_at_the_same_time_make_one_chain(tmp_path: Path) -> None:
    """Four processes that append at once lose nothing, and each finds its entries in its own order."""
    path = tmp_path / "state" / "ledger.jsonl"
    writers = [subprocess.Popen([sys.executable, "-c", _WRITER, str(path), str(n)]) for n in range(4)]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    entries = Ledger(path).entries()
    assert len(entries) == 100
    for writer in "0123":
        assert [entry.body["n"] for entry in entries if entry.body["writer"] == writer] == list(range(25))
