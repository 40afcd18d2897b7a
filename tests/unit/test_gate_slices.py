"""Slices that block: each value is gated by itself, beside the whole; the others only warn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalgate.compare import SliceResult
from evalgate.evaluation import Evaluation
from evalgate.gate import Gate, Member, Outcome, Policy, Verdict, decide
from evalgate.stats import holm, mcnemar_e_value, mcnemar_midp
from tests.unit.evaluations import BITS, EXACT, SCORE, answers, evaluation


def sides(parts: dict[str, tuple[int, int, int]], **more: Any) -> tuple[Evaluation, Evaluation]:
    """Candidate and baseline whose slice `kind` has these values, of (n, losses, gains) each."""
    columns = [answers(n=n, loss=loss, gain=gain) for n, loss, gain in parts.values()]
    before, after = ([score for pair in columns for score in pair[side]] for side in (0, 1))
    slices = [{"kind": name, "half": str(i % 2)} for name, (n, *_) in parts.items() for i in range(n)]
    return evaluation(after, slices=slices, **more), evaluation(before, slices=slices, name="v2", **more)


def member(
    parts: dict[str, tuple[int, int, int]], *, blocking_slices: Sequence[str] = ("kind",), **more: Any
) -> Member:
    """A member of such sides."""
    task = more.pop("task", "arithmetic/addition")
    candidate, baseline = sides(parts, task=task)
    fields: dict[str, Any] = {
        "task": task,
        "metric": "exact_match",
        "blocking": True,
        "gate": Gate(),
        "blocking_slices": tuple(blocking_slices),
        "candidate": candidate,
        "baseline": baseline,
    }
    return Member(**fields | more)


def only(given: Member, policy: Policy | None = None) -> Verdict:
    """The verdict of a family of one member."""
    [verdict] = decide([given], policy or Policy()).verdicts
    return verdict


def part(verdict: Verdict, value: str) -> SliceResult:
    """The result of one value of the slice `kind`."""
    assert verdict.comparison is not None
    [found] = [each for each in verdict.comparison.slices if (each.name, each.value) == ("kind", value)]
    return found


HIDDEN = {"rare": (60, 15, 0), "usual": (940, 10, 25)}  # as many gains as losses, but for one kind of questions


def test_a_blocking_slice_fails_a_task_that_passes_as_a_whole() -> None:
    """The same answers pass where the slice only warns."""
    assert only(member(HIDDEN, blocking_slices=())).outcome is Outcome.PASS
    verdict = only(member(HIDDEN))
    assert verdict.outcome is Outcome.REGRESSION
    assert "slice kind=rare worse: -25.0 pt (n=60), p < .0001 at level .025" in verdict.reason
    assert "kind=usual" not in verdict.reason


def test_every_value_is_a_step_of_holm() -> None:
    """One metric with two gated values is a family of three, at half of alpha; the other slice is not in it."""
    verdict = only(member({"a": (200, 9, 2), "b": (300, 8, 4)}))
    p = [mcnemar_midp(*counts) for counts in ((17, 6), (9, 2), (8, 4))]
    found = [verdict.p_adjusted, part(verdict, "a").p_adjusted, part(verdict, "b").p_adjusted]
    assert found == pytest.approx(holm(p))
    assert verdict.level == 0.025
    assert verdict.comparison is not None
    assert {each.name: each.blocking for each in verdict.comparison.slices} == {"kind": True, "half": False}
    assert all(each.p_adjusted is None for each in verdict.comparison.slices if each.name == "half")


def test_without_blocking_slices_one_metric_is_tested_at_alpha() -> None:
    """Slices that only warn cost the gate no power."""
    verdict = only(member({"a": (200, 9, 2), "b": (300, 8, 4)}, blocking_slices=()))
    assert verdict.level == 0.05
    assert verdict.p_adjusted == pytest.approx(mcnemar_midp(17, 6))


def test_what_can_be_seen_is_told_at_the_level_that_is_used() -> None:
    """Two more tests, and less can be seen with the same samples."""
    parts = {"a": (50, 5, 3), "b": (50, 5, 3)}
    gated, plain = only(member(parts)), only(member(parts, blocking_slices=()))
    assert gated.detectable is not None
    assert plain.detectable is not None
    assert gated.detectable > plain.detectable


def test_a_slice_within_its_margin_does_not_block() -> None:
    """Significantly worse, and shown to be worse by less than is tolerated."""
    parts = {"large": (5000, 60, 10), "other": (5000, 0, 50)}
    verdict = only(member(parts))
    found = part(verdict, "large")
    assert found.p_adjusted is not None
    assert found.p_adjusted < 0.0001
    assert found.p_ni is not None
    assert found.p_ni < 0.0001
    assert verdict.outcome is Outcome.PASS
    assert only(member(parts, gate=Gate(margin=0.005))).outcome is Outcome.REGRESSION


def test_few_samples_cannot_show_that_a_slice_is_within_its_margin() -> None:
    """What needs 30 samples for the whole needs them for a slice too."""
    parts = {"rare": (29, 9, 0), "usual": (971, 0, 9)}
    generous = Gate(margin=0.9)
    assert part(only(member(parts, gate=generous)), "rare").p_ni == pytest.approx(0, abs=0.001)
    assert only(member(parts, gate=generous)).outcome is Outcome.REGRESSION
    assert only(member({**parts, "rare": (30, 9, 0)}, gate=generous)).outcome is Outcome.PASS


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=2, max_size=3))
def test_a_slice_never_unblocks_a_task(counts: list[tuple[int, int]]) -> None:
    """Gating slices too turns no regression into anything better; it may only block more."""
    parts = {f"k{i}": (80, *pair) for i, pair in enumerate(counts)}
    gated = only(member(parts))
    alone = only(member(parts, blocking_slices=()), Policy(alpha=0.025 / (1 + len(parts))))  # Holm's strictest step
    if alone.outcome is Outcome.REGRESSION:
        assert gated.outcome is Outcome.REGRESSION
    if only(member(parts, blocking_slices=())).outcome is not Outcome.PASS:
        assert gated.outcome is not Outcome.PASS


def test_a_regression_of_the_whole_stays_one_beside_slices_that_got_better() -> None:
    """However well the gated slices did."""
    candidate, baseline = sides({"good": (300, 0, 9), "other": (700, 80, 0)})
    one = [{"kind": "good"} if row.slices["kind"] == "good" else {} for row in candidate.rows]
    candidate, baseline = (
        replace(side, rows=tuple(replace(row, slices=mark) for row, mark in zip(side.rows, one, strict=True)))
        for side in (candidate, baseline)
    )
    verdict = only(replace(member(HIDDEN), candidate=candidate, baseline=baseline))
    assert verdict.outcome is Outcome.REGRESSION
    assert "slice kind" not in verdict.reason


def absent(baseline: Evaluation | None, **more: Any) -> Member:
    """A member with blocking slices that was collected, then deselected."""
    fields: dict[str, Any] = {"task": "b/b", "metric": "exact_match", "blocking": True, "gate": Gate(), "ran": False}
    return Member(**fields | {"blocking_slices": ("kind",), "baseline": baseline} | more)


def test_slices_of_what_did_not_run_count() -> None:
    """Selecting a part of a suite must not make its tests less strict: as many steps as the baseline has values."""
    ran = member({"a": (200, 12, 2)}, blocking_slices=())
    before = sides({"x": (20, 0, 0), "y": (20, 0, 0), "z": (20, 0, 0)})[1]
    p = mcnemar_midp(12, 2)
    for other, steps in (
        (absent(before), 1 + 1 + 3),
        (absent(before, blocking_slices=("kind", "half")), 1 + 1 + 5),
        (absent(before, blocking_slices=()), 1 + 1),
        (absent(None), 1 + 1),
        (absent(before, blocking=False), 1),
    ):
        assert decide([ran, other], Policy()).verdicts[0].p_adjusted == pytest.approx(p * steps)


def test_slices_of_what_could_not_be_compared_count_too() -> None:
    """An error must not make the other tests less strict either."""
    ran = member({"a": (200, 12, 2)}, blocking_slices=())
    failed = replace(member({"x": (20, 0, 0), "y": (20, 0, 0)}, task="b/b"), candidate=None, error="the engine died")
    assert decide([ran, failed], Policy()).verdicts[0].p_adjusted == pytest.approx(4 * mcnemar_midp(12, 2))


def test_a_metric_that_informs_has_no_blocking_slices() -> None:
    """They warn like all others, and its verdict is its own."""
    informing = member(HIDDEN, blocking=False)
    family = decide([member({"a": (200, 12, 2)}, blocking_slices=(), task="b/b"), informing], Policy())
    assert [verdict.outcome for verdict in family.verdicts] == [Outcome.REGRESSION, Outcome.PASS]
    assert family.verdicts[0].level == 0.05
    assert not part(family.verdicts[1], "rare").blocking


def test_a_slice_of_few_samples_counts_with_p_1() -> None:
    """Four samples prove nothing, and still were looked at."""
    verdict = only(member({"tiny": (4, 4, 0), "usual": (400, 3, 3)}))
    assert (part(verdict, "tiny").p_reg, part(verdict, "tiny").p_adjusted) == (None, 1.0)
    assert "slice" not in verdict.reason


@pytest.mark.parametrize("clusters", [False, True])
def test_few_questions_that_all_fall_alike_prove_no_more_than_their_number(clusters: bool) -> None:
    """Five equal drops have a standard error of 0, and 2^-5 is all they can show; five documents likewise."""
    n = 25 if clusters else 5
    before = [0.5] * n + [0.5, 0.6] * 100
    after = [0.4] * n + [0.6, 0.5] * 100
    slices = [{"kind": "rare" if i < n else "usual"} for i in range(n + 200)]
    groups = [f"d{i % 5}" if i < n else f"e{i}" for i in range(n + 200)] if clusters else None
    verdict = only(
        Member(
            task="arithmetic/addition",
            metric="chrf",
            blocking=True,
            gate=Gate(),
            blocking_slices=("kind",),
            candidate=evaluation(after, metric=SCORE, slices=slices, clusters=groups),
            baseline=evaluation(before, metric=SCORE, slices=slices, clusters=groups, name="v2"),
        )
    )
    assert part(verdict, "rare").p_reg == 2.0**-5
    assert verdict.outcome is not Outcome.REGRESSION


def test_slices_of_a_metric_without_range_are_told_in_per_cent() -> None:
    """Of the baseline's mean, as the whole is."""
    before = [1.0 + 0.001 * (i % 7) for i in range(400)]
    after = [was * (1.2 + 0.01 * (i % 3)) if i < 80 else was for i, was in enumerate(before)]
    slices = [{"kind": "old" if i < 80 else "new"} for i in range(400)]
    verdict = only(
        Member(
            task="arithmetic/addition",
            metric="bits_per_byte",
            blocking=True,
            gate=Gate(margin=0.05),
            blocking_slices=("kind",),
            candidate=evaluation(after, metric=BITS, slices=slices),
            baseline=evaluation(before, metric=BITS, slices=slices, name="v2"),
        )
    )
    assert verdict.outcome is Outcome.REGRESSION
    assert "slice kind=old worse: -21.0 % (n=80)" in verdict.reason


def test_slices_are_looked_at_step_by_step_as_the_whole_is() -> None:
    """A p-value that is read again and again is none: a slice that blocks has an e-value too, the others warn once."""
    candidate, baseline = sides({"rare": (60, 12, 2), "usual": (340, 6, 8)})
    looks = [i % 2 for i in range(400)]
    candidate, baseline = (
        replace(side, rows=tuple(replace(row, look=look) for row, look in zip(side.rows, looks, strict=True)))
        for side in (candidate, baseline)
    )
    given = replace(member(HIDDEN), candidate=candidate, baseline=baseline, last_look=1)
    topped, kept = (only(given, Policy(reserve=name)) for name in ("top-up", "keep"))
    assert part(topped, "rare").p_reg == pytest.approx(math.exp(-mcnemar_e_value(12, 2)))
    assert part(kept, "rare").p_reg == pytest.approx(mcnemar_midp(6, 1))
    assert topped.comparison is not None
    half = next(each for each in topped.comparison.slices if (each.name, each.value) == ("half", "0"))
    counts = [
        (row.scores[EXACT.name], was.scores[EXACT.name])
        for row, was in zip(candidate.rows, baseline.rows, strict=True)
        if row.slices["half"] == "0"
    ]
    assert half.p_reg == pytest.approx(mcnemar_midp(counts.count((0.0, 1.0)), counts.count((1.0, 0.0))))


def test_false_discovery_rates_are_kept_for_all_slices() -> None:
    """A slice that blocks still has its q-value, so that the table of slices is one."""
    verdict = only(member(HIDDEN))
    assert verdict.comparison is not None
    assert all(each.q is not None for each in verdict.comparison.slices)
