"""Cards as they are kept: beside the verdict, whole, and with the past of their project."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalgate.cards import COMMENT, PAGE, Cards, linked, publish, publish_overview, publish_tables, statement_of
from evalgate.digest import digest
from evalgate.errors import RecordError
from evalgate.gate import Gate, Member, Policy, decide
from evalgate.ledger import Entry, Ledger
from evalgate.promote import promote
from evalgate.report import CardData, Past
from evalgate.runs import one_run
from evalgate.store import Header, Store
from tests.unit.evaluations import answers, evaluation
from tests.unit.tiny_versions import judge, ledger_of, make_project, version


def card(name: str, loss: int = 0, *, task: str = "sums/all") -> CardData:
    """A card over 100 right-or-wrong answers of which so many broke."""
    before, after = answers(n=100, loss=loss)
    was, now = evaluation(before, name="v1", task=task), evaluation(after, name=name, task=task)
    member = Member(task=task, metric="exact_match", blocking=True, gate=Gate(), candidate=now, baseline=was)
    return CardData(
        name=name,
        family=decide([member], Policy()),
        candidates={task: now},
        baselines={task: was},
        statement=None,
        ledger_head=None,
        command=f"pytest evalsuites/ --model runs/{name}",
        generated="2026-11-20T21:05:00+00:00",
    )


class Shelf:
    """A project's state with cards in it."""

    def __init__(self, root: Path) -> None:
        self.ledger = Ledger(root / "ledger.jsonl")
        self.store = Store(root)
        self.cards = Cards(root, self.store, self.ledger, root / "runs")

    def keep(self, data: CardData) -> Entry:
        """As a run keeps it."""
        family = data.family
        return self.cards.keep(
            data,
            {
                "candidate": data.digest,
                "name": data.name,
                "outcome": str(family.outcome),
                "blocked": family.fails(family.policy),
                "partial": [],
                "verdicts": {f"{v.task}::{v.metric}": str(v.outcome) for v in family.verdicts},
            },
        )


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """An empty one."""
    return Shelf(tmp_path)


def test_what_is_kept_is_what_is_loaded(shelf: Shelf) -> None:
    """Everything but the ledger's head and the past, which are those of the verdict, comes back as it was."""
    data = card("v3", loss=30)
    entry = shelf.keep(data)
    found = shelf.cards.load(entry)
    assert (found.ledger_head, found.history) == (entry.hash, [])
    assert (found.candidates, found.baselines) == (data.candidates, data.baselines)
    assert found.family == data.family


def test_the_past_of_a_card_is_what_came_before_it(shelf: Shelf) -> None:
    """The newest verdict of every other version, oldest first; not what came later, and not the version itself."""
    for name, loss in (("v1", 0), ("v2", 5), ("v1", 1), ("v3", 30)):
        last = shelf.keep(card(name, loss))
    shelf.keep(card("v4"))
    assert [past.name for past in shelf.cards.load(last).history] == ["v2", "v1"]
    assert [past.name for past in shelf.cards.history()] == ["v2", "v1", "v3", "v4"]
    first = next(e for e in shelf.ledger.entries() if e.kind == "verdict")
    assert shelf.cards.load(first).history == []


def test_the_past_has_the_numbers(shelf: Shelf) -> None:
    """Value, baseline, interval, samples and what was measured, as the comparison had them."""
    data = card("v3", loss=30)
    shelf.keep(data)
    (past,) = shelf.cards.history()
    compared = data.family.verdicts[0].comparison
    assert compared
    metric = past.metrics["sums/all::exact_match"]
    assert (past.outcome, past.blocked, past.reason) == ("REGRESSION", True, data.family.reason)
    assert (metric.value, metric.baseline, metric.n) == (0.7, 1.0, 100)
    assert (metric.low, metric.high) == (compared.test.low, compared.test.high)
    assert metric.measure.startswith("sha256:")
    shelf.keep(card("v4", task="sums/other"))
    assert len({m.measure for past in shelf.cards.history() for m in past.metrics.values()}) == 2


def test_what_json_cannot_say_is_no_point_of_a_trend(shelf: Shelf) -> None:
    """NaN and infinities stand as texts in the document; in the past they are unknown, and never texts."""
    data = card("v3", loss=30)
    (verdict,) = data.family.verdicts
    assert verdict.comparison
    test = replace(verdict.comparison.test, low=float("-inf"), high=float("inf"))
    lost = replace(verdict, comparison=replace(verdict.comparison, test=test, candidate=float("nan")))
    shelf.keep(replace(data, family=replace(data.family, verdicts=(lost,))))
    (past,) = shelf.cards.history()
    metric = past.metrics["sums/all::exact_match"]
    assert (metric.value, metric.low, metric.high, metric.baseline) == (None, None, None, 1.0)


def test_a_verdict_from_before_cards_were_kept_has_no_numbers(shelf: Shelf) -> None:
    """It is in the history with its outcomes; there is no card to make again of it."""
    body = {"candidate": digest("v0"), "name": "v0", "outcome": "PASS", "verdicts": {"sums/all::exact_match": "PASS"}}
    shelf.ledger.append("verdict", body)
    (past,) = shelf.cards.history()
    assert (past.name, past.blocked, past.metrics["sums/all::exact_match"].value) == ("v0", False, None)
    assert shelf.cards.newest(digest("v0")) is None


def test_a_run_that_cannot_keep_its_card_has_no_verdict(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """The document is on disk before the ledger says that there is one."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(RecordError, match="No space left"):
        shelf.keep(card("v3"))
    assert shelf.ledger.entries() == ()


@given(st.data())
def test_no_changed_byte_passes(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever byte of a kept document changes, it is the same JSON or an error, never another card."""
    shelf = Shelf(tmp_path_factory.mktemp("state"))
    entry = shelf.keep(card("v3", loss=30))
    (path,) = shelf.cards.folder.glob("*.json")
    content = bytearray(path.read_bytes())
    before = json.loads(content)
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(content))
    damage = shelf.cards.problems()[1]
    if damage:
        assert str(path) in damage[0]
        with pytest.raises(RecordError):
            shelf.cards.load(entry)
    else:
        assert json.loads(path.read_bytes()) == before
        assert shelf.cards.load(entry).family.outcome == "REGRESSION"


def test_a_damaged_document_of_the_past_can_be_let_go(shelf: Shelf) -> None:
    """No later card is made over a changed document; once it is deleted, as the message says, its outcome is left."""
    shelf.keep(card("v2", 5))
    (path,) = shelf.cards.folder.glob("*.json")
    path.write_bytes(path.read_bytes().replace(b'"v2"', b'"v9"'))
    entry = shelf.keep(card("v3"))
    with pytest.raises(RecordError, match="delete it: its verdict stays in the ledger") as caught:
        shelf.cards.load(entry)
    assert str(path) in str(caught.value)
    path.unlink()
    (left,) = shelf.cards.load(entry).history
    assert (left.name, left.metrics["sums/all::exact_match"].value) == ("v2", None)


def test_what_is_gone_is_named(shelf: Shelf) -> None:
    """Without its document or its rows a card cannot be made; both say so in one line, and so does `problems`."""
    data = card("v3")
    entry = shelf.keep(data)
    for path in shelf.cards.folder.rglob("*.jsonl"):
        path.unlink()
    with pytest.raises(RecordError, match="of sums/all is gone"):
        shelf.cards.load(entry)
    for path in shelf.cards.folder.glob("*.json"):
        path.unlink()
    with pytest.raises(RecordError, match="document is gone"):
        shelf.cards.load(entry)
    assert shelf.cards.problems()[0] == 1
    assert "is gone, and the ledger names it" in shelf.cards.problems()[1][0]


def test_records_are_not_kept_twice(shelf: Shelf) -> None:
    """What the store has is found there; only what it lacks lies beside the cards."""
    data = card("v3")
    shelf.store.write(data.candidates["sums/all"])
    shelf.keep(data)
    (kept,) = shelf.cards.folder.rglob("*.jsonl")
    assert "v1-" in str(kept)


def test_what_is_published_is_whole_or_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that refuses leaves the old card and no litter, and is one line."""
    page = publish(card("v3"), tmp_path)
    assert page == tmp_path / "v3/index.html"
    before = {path.name: path.read_bytes() for path in page.parent.iterdir()}
    assert set(before) == {"index.html", "card.json", "README.md", "samples.jsonl"}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(RecordError, match="No space left"):
        publish(card("v3", loss=30), tmp_path)
    assert {path.name: path.read_bytes() for path in page.parent.iterdir()} == before


def test_nothing_of_an_earlier_verdict_stays(tmp_path: Path) -> None:
    """A result for the hub and tables that this verdict does not have would pass for its own; other files stay."""
    stated = "---\neval_datasets: {sums/all: {id: org/sums, task_id: all}}\n---\n"
    folder = publish(replace(card("v3"), statement=stated), tmp_path).parent
    publish_tables(card("v3"), tmp_path)
    (folder / "notes.txt").write_text("of people")
    assert [path.name for path in folder.glob(".eval_results/*")] == ["org--sums--all.yaml"]
    publish(card("v3", loss=30), tmp_path)
    assert not list(folder.glob(".eval_results/*"))
    assert not list(folder.glob("*.csv"))
    assert (folder / "notes.txt").exists()


def past(name: str, content: str) -> Past:
    return Past(name=name, digest=digest(content), outcome="PASS", blocked=False, reason="", at="2026")


@pytest.mark.parametrize("name", [PAGE, COMMENT, "ci"])
def test_no_version_stands_where_the_reports_have_a_file(tmp_path: Path, name: str) -> None:
    """A record may call its checkpoint whatever it likes: page, comment and folder of a CI still have their places."""
    page = publish(card(name), tmp_path)
    assert not (tmp_path / name).exists()
    (found,) = linked([past(name, "content")], tmp_path, ())
    assert tmp_path / str(found.card) == page
    overview = publish_overview([past(name, "content")], tmp_path, project="shop", baselines=())
    assert f"%25{ord(name[0]):02X}{name[1:]}/{PAGE}" in overview.read_text()


def test_an_alias_of_today_is_in_no_card(tmp_path: Path) -> None:
    """The history knows who is champion now; a card made again after a promotion is the same to the byte."""
    root = make_project(tmp_path / "project")
    published = version(root)
    judge(root, published)
    shelf = Shelf(root)
    shelf.cards = Cards(root, shelf.store, ledger_of(root), root / "runs")
    entry = shelf.keep(card("v3", loss=30))
    before = shelf.cards.load(entry)
    promote(
        published, "champion", ledger=ledger_of(root), verdict=one_run("v1", root / "runs", ledger_of(root)).verdict
    )
    assert shelf.cards.load(entry) == before
    assert [each.aliases for each in shelf.cards.history()] == [("champion",), ()]


def test_a_link_leads_to_the_card_that_is_there(tmp_path: Path) -> None:
    """Of two contents of one name the newer has the card; a card that is not there has no link."""
    (tmp_path / "v2").mkdir()
    (tmp_path / "v2/index.html").write_text("")
    (tmp_path / "v3").mkdir()
    accepted = [Header(tmp_path, "sha256:1", 1, f"sums/{i}", {"digest": digest("new")}, (), {}) for i in range(2)]
    found = linked([past("v2", "old"), past("v2", "new"), past("v3", "third")], tmp_path, accepted)
    assert [(each.card, each.baseline) for each in found] == [(None, 0), ("v2/index.html", 2), (None, 0)]


def test_statements_are_those_that_are_left(tmp_path: Path) -> None:
    """Several files are one statement; a deleted one is missing, an unreadable one is an error."""
    (tmp_path / "a.md").write_text("one")
    (tmp_path / "b.md").write_text("two")
    assert statement_of(tmp_path, ("a.md", "gone.md", "b.md")) == "one\n\ntwo\n"
    assert statement_of(tmp_path, ("gone.md",)) is None
    (tmp_path / "a.md").write_bytes(b"\xff\xfe")
    with pytest.raises(RecordError, match=r"a\.md"):
        statement_of(tmp_path, ("a.md",))
