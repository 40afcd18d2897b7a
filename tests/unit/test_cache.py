"""The cache: what was put is what is got, anything else is a miss, and no file can stop a run."""

from __future__ import annotations

import math
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from evalgate.cache import BATCH, Cache, cache_key
from evalgate.digest import digest
from evalgate.errors import EngineError, RecordError
from evalgate.request import Completion, Request

ENGINE = digest("engine")
ASKED = Request(
    checkpoint=digest("v3"),
    prompt="Q: 1+1=",
    temperature=0.5,
    stop=("\n",),
    seed=1,
    json_schema={"type": "object"},
)
SCORED = Request(checkpoint=digest("v3"), prompt="Q", continuations=("a", "b"))


def answer(request: Request, text: str = "2", **other: Any) -> Completion:
    return Completion(request=request.id, text=text, prompt_tokens=7, completion_tokens=1, **other)


def asked(number: int) -> Request:
    return Request(checkpoint=digest("v3"), prompt=f"Q{number}")


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache(tmp_path / "state" / "cache.sqlite") as opened:
        yield opened


# -- answers -----------------------------------------------------------------------------------------------------------


def test_answers_come_back_as_they_were_put(cache: Cache) -> None:
    """Texts of any kind, log-likelihoods and token counts survive, also in another process's eyes."""
    entries = [
        (ASKED, answer(ASKED, "é\ud83d\0\n" * 10, finish="length")),
        (asked(0), answer(asked(0), margin=0.25)),
        (SCORED, Completion(SCORED.id, finish="score", logprobs=(-0.1, -1e-300), greedy=(True, False))),
    ]
    cache.put(entries, ENGINE)
    keys = [cache_key(request, ENGINE) for request, _ in entries]
    with Cache(cache.path) as other:
        assert other.get([*keys, "sha256:none"]) == dict(zip(keys, [c for _, c in entries], strict=True))
    assert cache.bad == 0


def test_errors_are_no_answers_and_neither_is_infinity(cache: Cache) -> None:
    """A completion with an error or an infinite log-likelihood is not kept: it is asked for again."""
    failed = answer(ASKED, "", error="out of memory")
    endless = Completion(SCORED.id, finish="score", logprobs=(-math.inf,))
    cache.put([(ASKED, failed), (SCORED, endless)], ENGINE)
    assert cache.get([cache_key(ASKED, ENGINE), cache_key(SCORED, ENGINE)]) == {}


def test_an_answer_to_another_request_is_refused(cache: Cache) -> None:
    """An engine that mixes up answers is an error, and nothing of it is kept."""
    with pytest.raises(EngineError, match="when asked"):
        cache.put([(ASKED, answer(SCORED))], ENGINE)
    assert cache.get([cache_key(ASKED, ENGINE), cache_key(SCORED, ENGINE)]) == {}


def test_the_last_answer_counts(cache: Cache) -> None:
    """Putting again replaces: so a damaged row is mended by the answer that is made anew."""
    cache.put([(ASKED, answer(ASKED, "1")), (ASKED, answer(ASKED, "2"))], ENGINE)
    assert cache.get([cache_key(ASKED, ENGINE)]) == {cache_key(ASKED, ENGINE): answer(ASKED)}


def test_what_was_put_before_a_failure_is_kept_in_batches(cache: Cache) -> None:
    """`put` commits every 200 answers of a stream, so a stream that breaks keeps the batches before."""

    def stream() -> Iterator[tuple[Request, Completion]]:
        for number in range(BATCH + 10):
            yield asked(number), answer(asked(number))
        raise OSError("the engine's pipe broke")

    with pytest.raises(OSError, match="pipe broke"):
        cache.put(stream(), ENGINE)
    assert len(cache.get(cache_key(asked(n), ENGINE) for n in range(BATCH + 10))) == BATCH


_OTHER: dict[str, Any] = {
    "checkpoint": digest("v4"),
    "prompt": "Q: 1+2=",
    "special_tokens": False,
    "continuations": ("a",),
    "max_tokens": 257,
    "temperature": 0.6,
    "top_p": 0.9,
    "top_k": 5,
    "stop": ("\n", "Q"),
    "seed": 2,
    "json_schema": {"type": "array"},
    "messages": ({"role": "user", "content": "Q: 1+1="},),
}


@pytest.mark.parametrize("field", [f.name for f in fields(Request)])
def test_another_value_of_any_field_misses(cache: Cache, field: str) -> None:
    """Every field of a request is in the key: the same question with one field changed has no answer."""
    cache.put([(ASKED, answer(ASKED))], ENGINE)
    other = replace(ASKED, **{field: _OTHER[field]})
    assert cache.get([cache_key(other, ENGINE)]) == {}
    assert len(cache.get([cache_key(ASKED, ENGINE)])) == 1


def test_another_engine_misses(cache: Cache) -> None:
    """The engine's identity is in the key."""
    cache.put([(ASKED, answer(ASKED))], ENGINE)
    assert cache.get([cache_key(ASKED, digest("other engine"))]) == {}


_REQUESTS = st.builds(
    Request,
    checkpoint=st.sampled_from(["a", "b"]),
    prompt=st.text(max_size=2),
    special_tokens=st.booleans(),
    continuations=st.sampled_from([(), ("x",), ("x", "y"), ("xy",)]),
    max_tokens=st.integers(1, 3),
    temperature=st.sampled_from([0, 0.0, 0.5, 1]),
    top_p=st.sampled_from([0.5, 1]),
    top_k=st.integers(0, 2),
    stop=st.sampled_from([(), ("a",), ("a", "b"), ("ab",)]),
    seed=st.none() | st.integers(0, 2),
    json_schema=st.sampled_from([None, {}, {"type": "string"}]),
)


@settings(max_examples=500, deadline=None)
@given(_REQUESTS, _REQUESTS, st.sampled_from([ENGINE, digest("other")]))
def test_keys_agree_exactly_where_the_content_does(one: Request, two: Request, engine: str) -> None:
    """Two requests share a key if and only if everything that can change the answer is the same."""
    assert (cache_key(one, ENGINE) == cache_key(two, engine)) == (one.content == two.content and engine == ENGINE)


# -- what else is kept -------------------------------------------------------------------------------------------------


def test_the_environment_of_an_engine_and_a_checkpoint_is_kept(cache: Cache) -> None:
    """What a worker reported is found again for the same engine and checkpoint only."""
    cache.put_environment(ENGINE, "v3", {"dtype": "float32", "versions": {"vllm": "0.32"}})
    assert cache.get_environment(ENGINE, "v3") == {"dtype": "float32", "versions": {"vllm": "0.32"}}
    assert cache.get_environment(ENGINE, "v4") is None
    assert cache.get_environment("v3", ENGINE) is None


def test_rendered_prompts_are_kept(cache: Cache) -> None:
    """Texts are found by their key, in any number, and an unknown key has none."""
    texts = {digest(number): f"<s>{number}\ud800" for number in range(1200)}
    cache.put_texts(texts)
    assert cache.get_texts([*texts, digest("no")]) == texts
    assert cache.get([*texts]) == {}


def test_a_file_is_known_by_its_whole_state(cache: Cache) -> None:
    """A file's digest is found by path, size, time and inode together."""
    key = ("/a/b\udcff", 10, 1234567890123456789, 7)
    cache.files.put(key, digest("content"))
    assert cache.files.get(key) == digest("content")
    for other in (("/a/c", *key[1:]), (key[0], 11, *key[2:]), (*key[:2], 1234567890123456788, 7), (*key[:3], 8)):
        assert cache.files.get(other) is None


def test_old_entries_can_be_dropped(cache: Cache) -> None:
    """`prune` drops what is older than so many days and leaves the rest; the file shrinks."""
    cache.put([(asked(n), answer(asked(n), "x" * 1000)) for n in range(300)], ENGINE)
    with sqlite3.connect(cache.path) as database:
        database.execute("UPDATE entries SET at = at - 10 * 86400 WHERE rowid > 1")
    database.close()
    before = cache.size
    assert cache.prune(30) == 0
    assert cache.prune(5) == 299
    assert len(cache.get(cache_key(asked(n), ENGINE) for n in range(300))) == 1
    cache.close()
    assert 0 < cache.size < before


def test_answers_can_be_forgotten(cache: Cache) -> None:
    """Those that are named are asked again, under that engine; the others stay, and so does what is no answer."""
    for engine in (ENGINE, digest("another engine")):
        cache.put([(asked(n), answer(asked(n))) for n in range(4)], engine)
    cache.put_texts({cache_key(asked(0), ENGINE): "text"})
    cache.forget([asked(0), asked(2), asked(9)], ENGINE)
    assert set(cache.get(cache_key(asked(n), ENGINE) for n in range(4))) == {
        cache_key(asked(n), ENGINE) for n in (1, 3)
    }
    assert len(cache.get(cache_key(asked(n), digest("another engine")) for n in range(4))) == 4
    assert len(cache.get_texts([cache_key(asked(0), ENGINE)])) == 1
    cache.forget([], ENGINE)
    assert len(cache.get(cache_key(asked(n), ENGINE) for n in range(4))) == 2


# -- damage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE entries SET value = replace(CAST(value AS TEXT), '\"2\"', '\"3\"')",
        "UPDATE entries SET material = replace(CAST(material AS TEXT), '\"Q', '\"R')",
        "UPDATE entries SET digest = 'sha256:0'",
        "UPDATE entries SET digest = NULL",
        "UPDATE entries SET value = 7",
        "UPDATE entries SET value = NULL",
        "UPDATE entries SET value = x'ff'",
        "UPDATE entries SET material = (SELECT material FROM entries ORDER BY key LIMIT 1), value ="
        " (SELECT value FROM entries ORDER BY key LIMIT 1), digest = (SELECT digest FROM entries ORDER BY key LIMIT 1)",
    ],
)
def test_a_changed_row_is_a_miss(cache: Cache, change: str) -> None:
    """Whatever is changed in a row, or moved between rows, no wrong answer comes out, and it is counted."""
    cache.put([(asked(n), answer(asked(n), "2")) for n in range(2)], ENGINE)
    with sqlite3.connect(cache.path) as database:
        database.execute(change)
    database.close()
    found = cache.get(cache_key(asked(n), ENGINE) for n in range(2))
    assert len(found) + cache.bad == 2
    assert cache.bad >= 1
    assert all(completion in (answer(asked(0)), answer(asked(1))) for completion in found.values())
    cache.put([(asked(n), answer(asked(n), "2")) for n in range(2)], ENGINE)
    assert len(cache.get(cache_key(asked(n), ENGINE) for n in range(2))) == 2


@pytest.mark.parametrize(
    "value",
    [
        {"request": ASKED.id, "text": "2", "logprobs": [], "greedy": [], "beams": 4},
        {"request": ASKED.id, "text": "2"},
        {"request": SCORED.id, "text": "2", "logprobs": [], "greedy": []},
        ["2"],
    ],
)
def test_an_intact_row_of_another_version_is_a_miss(cache: Cache, value: Any) -> None:
    """A well-sealed row with other fields, or with the answer to another request, is a miss."""
    key = cache_key(ASKED, ENGINE)
    cache.insert("completion", [(key, {"request": ASKED.content, "engine": ENGINE}, value)])
    assert cache.get([key]) == {}
    assert cache.bad == 1


def test_an_intact_row_under_a_foreign_key_is_a_miss(cache: Cache) -> None:
    """The key must follow from the material beside it."""
    value = {"request": SCORED.id, "text": "2", "logprobs": [], "greedy": []}
    cache.insert("completion", [(cache_key(ASKED, ENGINE), {"request": SCORED.content, "engine": ENGINE}, value)])
    assert cache.get([cache_key(ASKED, ENGINE)]) == {}


def foreign(path: Path) -> None:
    path.unlink(missing_ok=True)
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE entries (everything TEXT)")
    database.close()


def newer(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 2")
    database.close()


def no_table(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("DROP TABLE entries")
    database.close()


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"no database at all" * 500),
        lambda path: os.truncate(path, path.stat().st_size // 2),
        lambda path: path.write_bytes(path.read_bytes()[:4096] + b"\xa5" * (path.stat().st_size - 4096)),
        lambda path: path.write_bytes(path.read_bytes().replace(b"CREATE TABLE", b"CREATE T\xd3BLE")),
        lambda path: path.write_bytes(path.read_bytes()[:18] + b"\x03" + path.read_bytes()[19:]),  # "read-only"
        foreign,
        newer,
        no_table,
    ],
)
def test_a_damaged_or_foreign_file_is_set_aside_and_said(tmp_path: Path, damage: Any) -> None:
    """A file that is no cache of ours is renamed, a note says so, and the run goes on with a new one."""
    path = tmp_path / "cache.sqlite"
    with Cache(path) as cache:
        cache.put([(asked(n), answer(asked(n), "x" * 500)) for n in range(100)], ENGINE)
    damage(path)
    keys = [cache_key(asked(n), ENGINE) for n in range(100)]
    with Cache(path) as cache:
        found = cache.get(keys)
        assert all(completion.text == "x" * 500 for completion in found.values())
        cache.put([(asked(1), answer(asked(1)))], ENGINE)
        assert cache.get([keys[1]]) == {keys[1]: answer(asked(1))}
        (note,) = cache.notes
    assert "set aside" in note
    assert len(list(tmp_path.glob("cache.sqlite.damaged-*"))) == 1


def test_damage_under_an_open_cache_is_set_aside_once(tmp_path: Path) -> None:
    """Two users of one file that breaks under them both go on, in the same new file."""
    path = tmp_path / "cache.sqlite"
    with Cache(path) as one, Cache(path) as two:
        one.put([(asked(1), answer(asked(1)))], ENGINE)
        no_table(path)
        one.put([(asked(2), answer(asked(2)))], ENGINE)
        two.put([(asked(3), answer(asked(3)))], ENGINE)
        keys = [cache_key(asked(n), ENGINE) for n in (2, 3)]
        assert set(one.get(keys)) == set(two.get(keys)) == set(keys)
        assert len(one.notes) + len(two.notes) == 1


# -- the disk ----------------------------------------------------------------------------------------------------------


def test_what_the_disk_refuses_is_a_record_error(tmp_path: Path) -> None:
    """A folder in the file's place, a file in the folder's and a lock that is never given up are typed errors."""
    (tmp_path / "cache.sqlite").mkdir()
    with pytest.raises(RecordError, match="the cache failed: unable to open"):
        Cache(tmp_path / "cache.sqlite")
    (tmp_path / "file").write_text("x")
    with pytest.raises(RecordError, match="the cache failed: "):
        Cache(tmp_path / "file" / "cache.sqlite")


def test_a_full_disk_is_a_record_error_and_loses_nothing(cache: Cache) -> None:
    """Where no room is left the batch is refused as a whole, and what was there before stays."""
    cache.put([(ASKED, answer(ASKED))], ENGINE)
    assert cache._database is not None
    cache._database.execute("PRAGMA max_page_count = 1")  # SQLite's own "disk full"
    many = [(asked(n), answer(asked(n), "x" * 1000)) for n in range(100)]
    with pytest.raises(RecordError, match="full"):
        cache.put(many, ENGINE)
    assert len(cache.get([cache_key(ASKED, ENGINE), cache_key(asked(0), ENGINE)])) == 1
    cache.close()
    cache.put(many, ENGINE)
    assert len(cache.get([cache_key(asked(n), ENGINE) for n in range(100)])) == 100
    assert cache.notes == []


def test_a_closed_cache_opens_again(cache: Cache) -> None:
    """Closing twice is fine, and the next use opens the file again."""
    cache.put([(ASKED, answer(ASKED))], ENGINE)
    cache.close()
    cache.close()
    assert len(cache.get([cache_key(ASKED, ENGINE)])) == 1


_WRITER = """
import sys
from pathlib import Path
from evalgate.cache import Cache
from evalgate.request import Completion, Request
with Cache(Path(sys.argv[1])) as cache:
    for n in range(40):
        request = Request(checkpoint="c", prompt=f"{sys.argv[2]} {n % 30}")
        cache.put([(request, Completion(request.id, text=str(n % 30)))], "engine")
"""


def test_processes_and_threads_share_the_file(tmp_path: Path) -> None:
    """Four processes that start on a file that is not there yet, and threads beside them, lose nothing."""
    path = tmp_path / "cache.sqlite"
    writers = [subprocess.Popen([sys.executable, "-c", _WRITER, str(path), str(n)]) for n in range(4)]
    with Cache(path) as cache:

        def work(n: int) -> None:
            for number in range(30):
                request = Request(checkpoint="c", prompt=f"thread {n} {number}")
                cache.put([(request, Completion(request.id))], "engine")

        threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [writer.wait(60) for writer in writers] == [0] * 4
        names = [*map(str, range(4)), "thread 0", "thread 1"]
        requests = [Request(checkpoint="c", prompt=f"{name} {n}") for name in names for n in range(30)]
        assert len(cache.get(cache_key(request, "engine") for request in requests)) == 180
        assert cache.notes == []


def test_a_thousand_answers_are_got_quickly(cache: Cache) -> None:
    """Getting 1,000 answers costs at most 150 ms of processor time, and putting them 250 ms."""
    entries = [(asked(n), answer(asked(n), "x" * 200)) for n in range(1000)]
    start = time.process_time()
    cache.put(entries, ENGINE)
    middle = time.process_time()
    assert len(cache.get([cache_key(request, ENGINE) for request, _ in entries])) == 1000
    assert middle - start < 0.25
    assert time.process_time() - middle < 0.15


# -- the law -----------------------------------------------------------------------------------------------------------


class AgainstADict(RuleBasedStateMachine):
    """The cache answers as a dict would, over closing, reopening and a copy taken as after a kill."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = Path(tempfile.mkdtemp())
        self.cache = Cache(self.folder / "0.sqlite")
        self.model: dict[str, Completion] = {}
        self.copies = 0

    @rule(
        entries=st.lists(st.tuples(_REQUESTS, st.text(max_size=3), st.booleans()), max_size=3),
        engine=st.sampled_from("ab"),
    )
    def put(self, entries: list[tuple[Request, str, bool]], engine: str) -> None:
        made = [(r, Completion(r.id, text=text, error="broken" if bad else None)) for r, text, bad in entries]
        self.cache.put(made, engine)
        self.model |= {cache_key(r, engine): c for r, c in made if c.error is None}

    @rule(request=_REQUESTS, engine=st.sampled_from("ab"))
    def get(self, request: Request, engine: str) -> None:
        key = cache_key(request, engine)
        assert self.cache.get([key]) == ({key: self.model[key]} if key in self.model else {})

    @rule()
    def reopen(self) -> None:
        self.cache.close()
        self.cache = Cache(self.cache.path)

    @rule()
    def be_killed(self) -> None:
        """Go on with a copy of the files as they are, the log not yet written back."""
        self.copies += 1
        path = self.folder / f"{self.copies}.sqlite"
        for end in ("", "-wal"):
            if (source := Path(f"{self.cache.path}{end}")).exists():
                shutil.copy(source, f"{path}{end}")
        self.cache.close()
        self.cache = Cache(path)

    @invariant()
    def holds_everything(self) -> None:
        assert self.cache.get(self.model) == self.model
        assert self.cache.bad == 0
        assert self.cache.notes == []

    def teardown(self) -> None:
        self.cache.close()
        shutil.rmtree(self.folder)


TestAgainstADict = AgainstADict.TestCase
TestAgainstADict.settings = settings(max_examples=30, stateful_step_count=15, deadline=None)
