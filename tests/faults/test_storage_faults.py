"""What stored files survive: a failing disk, bit rot and SIGKILL; and that these tests would notice if they did not."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from evalgate import ledger as ledger_module
from evalgate.cache import Cache, cache_key
from evalgate.digest import digest
from evalgate.errors import EvalgateError, RecordError
from evalgate.evaluation import Acceptance
from evalgate.ledger import Ledger
from evalgate.request import Request
from evalgate.store import Store, files, parse, read_baseline, serialise, write_atomically, write_baseline
from tests.faults import storage_writer
from tests.faults.storage_writer import ENGINE, answer, asked, make_evaluation

ACCEPTED = Acceptance(by="A <a@b.c>", at="2026-01-02T00:00:00+00:00", why="good", previous=None, anchor="sha256:0")


# -- a disk that fails -------------------------------------------------------------------------------------------------


class FailingDisk:
    """The `os` module as one of ours sees it, whose k-th call that reaches the disk fails; short writes are normal."""

    def __init__(self, fails_at: int, number: int, *, for_good: bool) -> None:
        self.fails_at, self.number, self.for_good = fails_at, number, for_good
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in {"open", "write", "fsync", "replace", "ftruncate", "makedirs"}:
            return real

        def call(*args: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls == self.fails_at or (self.for_good and self.calls > self.fails_at):
                if name == "write":  # a disk that fills up takes a part
                    real(args[0], bytes(args[1])[: len(args[1]) // 3])
                raise OSError(self.number, os.strerror(self.number))
            if name == "write":
                return real(args[0], bytes(args[1])[:100])
            return real(*args, **options)

        return call


def failures(
    module: ModuleType, folder: Path, work: Callable[[Path], object], check: Callable[[Path, bool], None]
) -> int:
    """Do some work on copies of a folder with every call failing in turn, in each way; how many ways there were."""
    trials = 0
    for number in (errno.ENOSPC, errno.EIO):
        for for_good in (False, True):
            for k in range(1, 1000):
                copy = folder.parent / f"{folder.name}-{number}-{for_good}-{k}"
                shutil.copytree(folder, copy)
                disk = FailingDisk(k, number, for_good=for_good)
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(module, "os", disk)
                    said = None
                    try:
                        work(copy)
                    except EvalgateError as exc:
                        said = str(exc)
                assert said is None or (os.strerror(number) in said and "\n" not in said)
                check(copy, done := said is None)
                if disk.calls < k:
                    assert done
                    break
                trials += 1
    return trials


def test_a_failing_disk_never_leaves_half_a_record(tmp_path: Path) -> None:
    """Whichever call fails, a record is whole or absent, the error is typed, and writing again succeeds."""
    (root := tmp_path / "store").mkdir()

    def check(folder: Path, done: bool) -> None:
        store = Store(folder)
        assert list(store.all()) in ([make_evaluation()], [] if not done else None)
        assert not list(folder.rglob("*.tmp"))
        store.write(make_evaluation())
        assert list(store.all()) == [make_evaluation()]

    assert failures(files, root, lambda folder: Store(folder).write(make_evaluation()), check) >= 40


def test_a_failing_disk_never_harms_the_baseline_before(tmp_path: Path) -> None:
    """Whichever call fails, the old or the new baseline stands there whole."""
    (root := tmp_path / "suite").mkdir()
    old, new = make_evaluation(version=1), make_evaluation(version=2)
    write_baseline(root / "b.jsonl", old, ACCEPTED)

    def check(folder: Path, done: bool) -> None:
        stands = read_baseline(folder / "b.jsonl", old.task)
        assert stands is not None
        assert stands.digest in ({new.digest} if done else {old.digest, new.digest})
        assert [file.name for file in folder.iterdir()] == ["b.jsonl"]

    assert failures(files, root, lambda folder: write_baseline(folder / "b.jsonl", new, ACCEPTED), check) >= 40


def test_a_failing_disk_never_breaks_the_ledger(tmp_path: Path) -> None:
    """Whichever call fails, the entries before stand, the new one is whole or absent, and the next append succeeds."""
    (root := tmp_path / "state").mkdir()
    Ledger(root / "ledger.jsonl").append("plan", {"n": 0})

    def check(folder: Path, done: bool) -> None:
        ledger = Ledger(folder / "ledger.jsonl")
        said = [entry.body["n"] for entry in ledger.entries()]
        assert said == [0, 1] if done else said in ([0], [0, 1])
        ledger.append("verdict", {"n": 2})
        assert ledger.verify() == []
        assert [entry.body["n"] for entry in ledger.entries()] == [*said, 2]

    append: Callable[[Path], object] = lambda folder: Ledger(folder / "ledger.jsonl").append("verdict", {"n": 1})  # noqa: E731
    assert failures(ledger_module, root, append, check) >= 12


def test_a_writer_that_is_not_atomic_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: writing in place, without a rename, leaves half a baseline, and the check above sees it."""

    def in_place(path: Path, data: bytes) -> None:
        disk = vars(files)["os"]
        try:
            handle = disk.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            while data:
                data = data[disk.write(handle, data) :]
        except OSError as exc:
            raise RecordError(str(exc)) from exc

    monkeypatch.setattr(files, "write_atomically", in_place)
    with pytest.raises(RecordError, match=r"cut off|is no evalgate record|rows, its header says"):
        test_a_failing_disk_never_harms_the_baseline_before(tmp_path)


_FULL = """
import resource, sys
from pathlib import Path
from evalgate.cache import Cache, cache_key
from evalgate.errors import RecordError
from evalgate.request import Completion, Request

path, lost, refused = Path(sys.argv[1]), 0, 0
acknowledged = {}
for limit in range(0, 400_000, 4096 - 7):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    requests = [Request(checkpoint="c", prompt=f"{limit} {n}" * 40) for n in range(3)]
    answers = [Completion(request.id, text=str(limit)) for request in requests]
    try:
        with Cache(path) as cache:
            cache.put(zip(requests, answers), "engine")
            acknowledged |= {cache_key(a, "engine"): b for a, b in zip(requests, answers)}
            assert not cache.notes, cache.notes
    except RecordError as exc:
        refused += 1
        assert "full" in str(exc) or "I/O" in str(exc) or "too large" in str(exc), str(exc)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
with Cache(path) as cache:
    assert cache.get(acknowledged) == acknowledged
    assert not cache.notes and not cache.bad
print(refused, len(acknowledged))
"""


def test_a_disk_without_room_never_harms_the_cache(tmp_path: Path) -> None:
    """The kernel refuses to let the file grow past every size in turn: typed errors, and no answer is lost."""
    command = [sys.executable, "-c", _FULL, str(tmp_path / "cache.sqlite")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    refused, kept = map(int, done.stdout.split())
    assert refused >= 3
    assert kept >= 60


# -- bit rot -----------------------------------------------------------------------------------------------------------


def rotten(data: bytes, dice: random.Random) -> bytes:
    """A file after a flipped bit, a lost or added piece at any place, or a stretch of noise."""
    place = dice.randrange(len(data))
    size = dice.choice([1, 2, 7, 64, 512])
    noise = dice.randbytes(size)
    match dice.randrange(6):
        case 0 | 1:
            return data[:place] + bytes([data[place] ^ 1 << dice.randrange(8)]) + data[place + 1 :]
        case 2:
            return data[:place]
        case 3:
            return data[:place] + data[place + size :]
        case 4:
            return data[:place] + noise + data[place + size :]
        case _:
            return data + noise


def test_bit_rot_in_records_and_baselines_is_noticed_or_harmless() -> None:
    """1,000 damaged records and baselines: each is refused with one line, or reads as exactly what was written."""
    dice = random.Random(1)
    noticed = 0
    for trial in range(1000):
        evaluation = replace(make_evaluation(), acceptance=ACCEPTED if trial % 2 else None)
        damaged = rotten(serialise(evaluation), dice)
        try:
            back = parse(damaged, "x")
        except RecordError:
            noticed += 1
        else:
            assert back == evaluation
    assert noticed >= 950


def test_bit_rot_in_the_ledger_is_noticed_or_harmless(tmp_path: Path) -> None:
    """500 damaged ledgers: a problem is named, or every entry is as written; only a clean cut needs a known head."""
    dice = random.Random(2)
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    for n in range(6):
        ledger.append("plan", {"n": n, "text": "é" * n})
    entries, data = ledger.entries(), path.read_bytes()
    noticed = 0
    for _ in range(500):
        path.write_bytes(rotten(data, dice))
        if Ledger(path).verify([entries[-1].hash]):
            noticed += 1
            try:
                left = Ledger(path).entries()
            except RecordError:
                continue
            assert left == entries[: len(left)]
        else:
            assert Ledger(path).entries() == entries
    assert noticed >= 450


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: hundreds of databases need no real disk to rot."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


@pytest.mark.parametrize("log", [False, True])
def test_bit_rot_in_the_cache_is_never_an_answer(in_memory: Path, log: bool) -> None:
    """500 damaged databases and write-ahead logs: every answer is the one that was put or a miss, and no run stops."""
    dice = random.Random(3)
    clean = in_memory / "clean.sqlite"
    expected = {cache_key(asked(n), ENGINE): answer(n) for n in range(60)}
    with Cache(clean) as cache:
        cache.put([(asked(n), answer(n)) for n in range(60)], ENGINE)
        if not log:
            cache.close()
        parts = {end: Path(f"{clean}{end}").read_bytes() for end in ("", "-wal") if Path(f"{clean}{end}").exists()}
    assert ("-wal" in parts) == log
    extra = cache_key(asked(99), ENGINE)
    missed = 0
    for trial in range(250):
        folder = in_memory / str(trial)
        folder.mkdir()
        path = folder / "cache.sqlite"
        target = dice.choice(list(parts))
        for end, data in parts.items():
            Path(f"{path}{end}").write_bytes(rotten(data, dice) if end == target else data)
        with Cache(path) as cache:
            found = cache.get(expected)
            assert found.items() <= expected.items()
            missed += found != expected
            cache.put([(asked(99), answer(99))], ENGINE)
            assert cache.get([extra]) == {extra: answer(99)}
        shutil.rmtree(folder)
    assert missed >= 50


def test_a_cache_that_does_not_check_its_rows_is_caught(in_memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: without the digest over a row, the trials above let a wrong answer through."""
    monkeypatch.setattr("evalgate.cache._seal", lambda *parts: "sha256:same")
    with pytest.raises(AssertionError):
        test_bit_rot_in_the_cache_is_never_an_answer(in_memory, False)


def test_ten_thousand_random_pairs_never_share_a_key() -> None:
    """10,000 pairs of requests that differ in one drawn field have different keys."""
    dice = random.Random(4)
    drawn: dict[str, Callable[[], Any]] = {
        "checkpoint": lambda: digest(dice.random()),
        "prompt": lambda: dice.choice("ab\n é") * dice.randrange(1, 5) + str(dice.random()),
        "special_tokens": lambda: dice.random() < 0.5,
        "max_tokens": lambda: dice.randrange(1, 10**6),
        "temperature": lambda: dice.random() + 0.01,
        "top_p": dice.random,
        "top_k": lambda: dice.randrange(10**6),
        "stop": lambda: tuple(dice.choices("abc", k=dice.randrange(4))),
        "seed": lambda: dice.randrange(10**9),
        "json_schema": lambda: {"enum": dice.choices("abc", k=3)},
    }
    for _ in range(10_000):
        one = Request(**{name: draw() for name, draw in drawn.items()})
        field = dice.choice(list(drawn))
        two = replace(one, **{field: drawn[field]()})
        same = getattr(one, field) == getattr(two, field)
        assert (cache_key(one, ENGINE) == cache_key(two, ENGINE)) == same


# -- SIGKILL -----------------------------------------------------------------------------------------------------------


def killed(root: Path, first: int, mode: str, dice: random.Random) -> dict[str, set[int]]:
    """What a writer had acknowledged when it was killed, a little after it had said a few things."""
    command = [sys.executable, storage_writer.__file__, str(root), str(first), mode]
    said: dict[str, set[int]] = {"ready": set(), "answer": set(), "entry": set(), "record": set()}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready 0\n"
        early = [child.stdout.readline() for _ in range(dice.randrange(20))]
        time.sleep(dice.random() * 0.005)
        child.send_signal(signal.SIGKILL)
        for line in [*early, *child.stdout.read().splitlines(keepends=True)]:
            if line.endswith("\n"):
                what, number = line.split()
                said[what].add(int(number))
    return said


def lost_answers(root: Path, numbers: set[int]) -> set[int]:
    keys = {cache_key(asked(n), ENGINE): n for n in numbers}
    with Cache(root / "cache.sqlite") as cache:
        found = cache.get(keys)
        assert (cache.bad, cache.notes) == (0, [])
    assert all(completion == answer(keys[key]) for key, completion in found.items())
    return numbers - {keys[key] for key in found}


def test_a_killed_writer_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    """50 kills at random moments: every acknowledged answer, entry and record is there once and whole."""
    dice = random.Random(5)
    answers: set[int] = set()
    entries: set[int] = set()
    records: set[int] = set()
    for kill in range(50):
        said = killed(tmp_path, kill * 100_000, "honest", dice)
        answers |= said["answer"]
        entries |= said["entry"]
        records |= said["record"]
        assert lost_answers(tmp_path, said["answer"]) == set()
        kept = [entry.body["n"] for entry in Ledger(tmp_path / "ledger.jsonl").entries()]
        assert said["entry"] <= set(kept)
        assert len(kept) == len(set(kept))
    assert len(answers) > 100
    assert lost_answers(tmp_path, answers) == set()
    with sqlite3.connect(tmp_path / "cache.sqlite") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = database.execute("SELECT count(*), count(DISTINCT key) FROM entries").fetchone()
    database.close()
    assert rows[0] == rows[1] >= len(answers)
    stored = {evaluation.samples for evaluation in Store(tmp_path).all()}
    assert {digest(n) for n in records} <= stored
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append("verdict", {"n": -1})
    assert ledger.verify() == []
    assert {entry.body["n"] for entry in ledger.entries()} >= entries


def test_a_writer_that_acknowledges_before_it_commits_is_caught(tmp_path: Path) -> None:
    """Negative control: acknowledged before the commit, an answer is lost by a kill, and it shows."""
    dice = random.Random(6)
    for kill in range(50):
        said = killed(tmp_path, kill * 100_000, "too early", dice)
        if lost_answers(tmp_path, said["answer"]):
            return
    pytest.fail("50 kills and no loss was seen: the test above could not fail")


def test_a_file_left_by_a_killed_writer_is_no_record(tmp_path: Path) -> None:
    """The temporary file of a writer that was killed is neither listed nor in the way."""
    store = Store(tmp_path)
    path = store.write(make_evaluation())
    write_atomically(path.with_name(".0123456789abcdef.tmp"), b"half a rec")
    assert store.paths() == (path,)
    store.write(make_evaluation())
