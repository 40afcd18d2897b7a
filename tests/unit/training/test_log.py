"""The log is the protocol: whole lines only, and what a resumed trainer did again replaces what it had done."""

from __future__ import annotations

import json
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalgate.errors import TrainingError
from evalgate.training.log import LOG, Line, Log, Tail, in_force, read_log, wall_seconds


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Each line has its kind and the seconds of this life."""
    log = Log(tmp_path)
    log.write("step", step=1, loss=0.5)
    log.write("end", held_out_loss=None)
    step, end = read_log(tmp_path)
    assert {**step, "seconds": 0} == {"kind": "step", "step": 1, "loss": 0.5, "seconds": 0}
    assert 0 <= step["seconds"] <= end["seconds"] < 5


def test_no_log_is_no_lines(tmp_path: Path) -> None:
    """Before the first training there is nothing, and that is no error."""
    assert read_log(tmp_path) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_not_logged(tmp_path: Path, value: float) -> None:
    """A loss that is no number must be told as a failure; as a line it would be no JSON."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        Log(tmp_path).write("step", step=1, loss=value)
    assert read_log(tmp_path) == []


def test_a_torn_last_line_is_left_out_and_cut(tmp_path: Path) -> None:
    """A kill in the middle of a line loses that line only, and the next one is not glued to its rest."""
    Log(tmp_path).write("step", step=1)
    with (tmp_path / LOG).open("ab") as file:
        file.write(b'{"kind": "step", "st')
    assert [line["step"] for line in read_log(tmp_path)] == [1]
    tail = Tail(tmp_path)
    Log(tmp_path).write("step", step=2)
    assert [line["step"] for line in tail.read()] == [2]
    assert [line["step"] for line in read_log(tmp_path)] == [1, 2]


def test_a_damaged_line_is_no_line_less(tmp_path: Path) -> None:
    """Torn in the middle of the file it is no kill: a step would be missing, so nothing is read."""
    (tmp_path / LOG).write_bytes(b'{"kind": "st\n{"kind": "step", "step": 2}\n')
    with pytest.raises(TrainingError, match=r"log.jsonl: a line is damaged. Delete the folder"):
        read_log(tmp_path)


@given(cuts=st.lists(st.integers(1, 200), max_size=12), lines=st.lists(st.text(max_size=20), min_size=1, max_size=8))
def test_the_tail_yields_every_line_once(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], lines: list[str]
) -> None:
    """However the writes are cut, and whenever the reader looks, it sees each whole line once and in order."""
    folder = tmp_path_factory.mktemp("tail")
    Log(folder).write("start", text="before the tail was made")
    tail = Tail(folder)
    data = b"".join(json.dumps({"kind": "step", "text": text}).encode() + b"\n" for text in lines)
    seen: list[str] = []
    with (folder / LOG).open("ab", buffering=0) as file:
        for cut in [*cuts, len(data)]:
            file.write(data[:cut])
            data = data[cut:]
            seen += [line["text"] for line in tail.read()]
    assert seen == lines


def life(resumed: int | None, *steps: int, seconds: float = 1.0, last: str | None = None) -> list[dict[str, Any]]:
    """The lines of one life of a trainer."""
    lines: list[dict[str, Any]] = [{"kind": "start", "resumed_from": resumed}]
    lines += [{"kind": "step", "step": step, "loss": step / 10} for step in steps]
    lines += [{"kind": last, "step": steps[-1] if steps else 0}] if last else []
    return [{**line, "seconds": seconds} for line in lines]


def steps_of(lines: Sequence[Line]) -> list[int]:
    return [line["step"] for line in lines if line["kind"] == "step"]


def test_a_resumed_life_replaces_what_it_does_again() -> None:
    """Steps after the state that it began from count once."""
    assert steps_of(in_force([*life(None, 1, 2, 3, 4, 5), *life(3, 4, 5, 6)])) == [1, 2, 3, 4, 5, 6]


def test_a_life_from_the_beginning_replaces_everything() -> None:
    """Where no state was kept, nothing of the earlier life is in force, its exports not either."""
    first = [*life(None, 1, 2), {"kind": "exported", "name": "epoch-1", "step": 2, "seconds": 1.0}]
    assert in_force([*first, *life(None, 1)]) == life(None, 1)


@pytest.mark.parametrize("last", ["fail", "end"])
def test_an_end_or_a_failure_of_an_earlier_life_is_over(last: str) -> None:
    """A new start says that neither is the last word."""
    assert last not in [line["kind"] for line in in_force([*life(None, 1, 2, last=last), *life(2, 3)])]
    assert last in [line["kind"] for line in in_force([*life(None, 1, 2), *life(2, 3, last=last)])]  # the control


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 8)), min_size=1, max_size=6))
def test_any_interruptions_read_as_a_straight_run(lives: list[tuple[int, int]]) -> None:
    """Whatever was killed when, the steps in force are 1, 2, 3 … without a gap and without a repetition."""
    lines, reached = list[dict[str, Any]](), 0
    for back, further in lives:
        begin = max(0, reached - back)
        reached = begin + further
        lines += life(begin or None, *range(begin + 1, reached + 1))
    assert steps_of(in_force(lines)) == list(range(1, reached + 1))


def test_wall_time_is_that_of_all_lives() -> None:
    """What was done twice has cost its time twice."""
    assert wall_seconds([*life(None, 1, 2, seconds=4.0), *life(1, 2, 3, seconds=2.5)]) == 6.5
    assert wall_seconds([]) == 0


def test_a_line_that_does_not_fit_on_the_disk_is_not_there(tmp_path: Path) -> None:
    """No half of it: what is written once there is room again must not be glued to it."""
    log = Log(tmp_path)
    log.write("saved", step=1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / LOG).stat().st_size + 10, before[1]))
    try:
        with pytest.raises(OSError, match="No space left"):
            log.write("saved", step=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    log.write("saved", step=3)
    assert [line["step"] for line in read_log(tmp_path)] == [1, 3]
