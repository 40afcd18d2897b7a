"""The benchmark of judges: what it asks and how it counts. What it measures is no test."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO

from benchmarks.judge_batch import Timed, Way, cases, measured, table
from rich.console import Console

from evalgate.instrument import Case


def test_no_case_is_asked_twice() -> None:
    """What a cache knows costs nothing, so no turn may repeat another's; half of the answers are right."""
    first, second = cases(50, 1), cases(50, 2)
    assert len({case.id for case in (*first, *second)}) == 100
    assert [case.id for case in cases(50, 1)] == [case.id for case in first]
    assert sum(case.answer == case.reference for case in first) == 25


def test_a_judgement_costs_the_median_turn() -> None:
    """One turn on a busy machine does not decide; ratios are held against the first row."""
    ours, theirs = Timed("ours", 1000, (2.0, 9.0, 1.0), 0), Timed("theirs", 10, (1.0,), 3)
    assert (ours.each, theirs.each) == (0.002, 0.1)
    console = Console(width=100, file=StringIO(), record=True)
    console.print(table([ours, theirs]))
    said = " ".join(console.export_text().replace("│", " ").split())
    assert "ours 1,000 2.00 2.0 ms 2.0 s 1.0 0 of 3000" in said
    assert "theirs 10 1.00 100.0 ms 100.0 s 50.0 3 of 10" in said


def test_every_turn_is_made_ready_and_judges_new_cases() -> None:
    """A start-up is in no number, and the cases of a turn are seen once."""
    seen: list[Case] = []
    calls: list[str] = []

    def ready(some: Sequence[Case]) -> int:
        calls.append("ready")
        return 0

    def judged(given: Sequence[Case]) -> int:
        calls.append("judged")
        seen.extend(given)
        return 1

    (found,) = measured([Way("mine", 5, judged, ready)], turns=3)
    assert calls == ["ready", "judged"] * 3
    assert len({case.id for case in seen}) == 15
    assert (found.name, found.cases, len(found.seconds), found.failed) == ("mine", 5, 3, 3)
