"""Laws of the gate, whatever the scores: each holds for every kind of metric, over the public entry for columns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalgate.evaluation import Metric
from evalgate.gate import Columns, Gate, Outcome, Policy, Verdict, decide_columns

EXACT = Metric("exact_match", "", binary=True)
SCORE = Metric("chrf", "", low=-2.0, high=3.0)
LOSS = Metric("edits", "", low=-2.0, high=3.0, higher_is_better=False)
BITS = Metric("bits_per_byte", "", high=None, higher_is_better=False, weighted=True)

GATE = Gate(margin=0.05)
POLICY = Policy()
ANY = settings(max_examples=150, deadline=None)


@st.composite
def columns(draw: st.DrawFn, *metrics: Metric, least: int = 5, clustered: bool = True) -> Columns:
    """One metric of one of these kinds, perhaps with clusters; weights where the metric has them."""
    metric = draw(st.sampled_from(metrics or (EXACT, SCORE, LOSS, BITS)))
    n = draw(st.integers(least, 130))
    value = st.integers(0, 1) if metric.binary else st.integers(1, 7).map(lambda seventh: seventh / 7)
    before = np.array(draw(st.lists(value, min_size=n, max_size=n)), dtype=float)
    changed = draw(st.dictionaries(st.integers(0, n - 1), value, max_size=60))
    after = before.copy()
    after[list(changed)] = list(changed.values())
    groups = draw(st.integers(2, n)) if clustered and draw(st.booleans()) else None
    return Columns(
        task="suite/task",
        metric=metric,
        baseline=before,
        candidate=after,
        gate=GATE,
        clusters=None if groups is None else np.arange(n) % groups,
        weights=np.arange(n) % 5 + 1.0 if metric.weighted else None,
    )


def verdict(given: Columns) -> Verdict:
    """The verdict on a family of one."""
    family = decide_columns([given], POLICY)
    [only] = family.verdicts
    assert family.outcome is only.outcome
    return only


def numbers(given: Columns) -> tuple[float, ...]:
    """Everything that a verdict is reached from."""
    found = verdict(given).comparison
    assert found is not None
    test = found.test
    return test.delta, test.low, test.high, test.p_reg, test.p_ni


def p_values(given: Columns) -> tuple[float, float]:
    """p_reg and p_ni."""
    return numbers(given)[3], numbers(given)[4]


def is_exact(given: Columns) -> bool:
    """Whether no sign-flip test takes part: independent right-or-wrong answers, or 50 clusters."""
    found = verdict(given).comparison
    assert found is not None
    return not found.test.method.endswith("+sign-flip")


@ANY
@given(columns())
def test_swapping_the_models_mirrors_the_question(given: Columns) -> None:
    """Worse one way is better the other: the two p_reg add up to 1 (at least that where signs are flipped)."""
    swapped = replace(given, baseline=given.candidate, candidate=given.baseline)
    one, other = numbers(given), numbers(swapped)
    assert other[0] == pytest.approx(-one[0], abs=1e-12)
    assert one[3] + other[3] >= 1 - 1e-9
    if is_exact(given) and {one[3], other[3]} != {1.0}:  # both are 1 where nothing differs
        assert one[3] + other[3] == pytest.approx(1, abs=1e-9)
        assert other[1:3] == pytest.approx((-one[2], -one[1]), abs=1e-9)
    assert [verdict(each).outcome for each in (given, swapped)].count(Outcome.REGRESSION) < 2


@ANY
@given(columns(), st.randoms(use_true_random=False))
def test_the_order_of_the_samples_changes_nothing(given: Columns, random: Any) -> None:
    """The outcome and every number behind it, also where signs are flipped at random."""
    order = list(range(len(np.asarray(given.baseline))))
    random.shuffle(order)
    parts = ("baseline", "candidate", "clusters", "weights")
    moved: dict[str, Any] = {
        part: np.asarray(found)[order] for part in parts if (found := getattr(given, part)) is not None
    }
    shuffled = replace(given, **moved)
    assert verdict(shuffled).outcome is verdict(given).outcome
    assert numbers(shuffled) == pytest.approx(numbers(given), abs=1e-9)


@ANY
@given(columns(SCORE, LOSS), st.integers(-10, 10).map(lambda tenth: tenth / 10))
def test_a_constant_on_both_sides_changes_nothing(given: Columns, constant: float) -> None:
    """Only differences count, wherever in its range a metric lies."""
    before, after = np.asarray(given.baseline) + constant, np.asarray(given.candidate) + constant
    moved = replace(given, baseline=before, candidate=after)
    assert verdict(moved).outcome is verdict(given).outcome
    assert numbers(moved) == pytest.approx(numbers(given), abs=1e-9)


@ANY
@given(columns(), st.floats(0.001, 0.5), st.floats(0.001, 0.5))
def test_a_tighter_margin_never_turns_a_regression_into_a_pass(given: Columns, one: float, other: float) -> None:
    """Nor any other outcome into PASS, nor a REGRESSION into anything else."""
    tight, loose = (verdict(replace(given, gate=Gate(margin=margin))).outcome for margin in sorted((one, other)))
    if loose is not Outcome.PASS:
        assert tight is loose
    if tight is Outcome.PASS:
        assert loose is Outcome.PASS


@ANY
@given(columns(EXACT, clustered=False), st.data())
def test_more_harm_never_looks_better(given: Columns, data: st.DataObject) -> None:
    """One right answer of the candidate turned wrong: p_reg does not rise, p_ni does not fall.

    The first discordant pair apart: without any, p_reg is 1 by convention, so it cannot rise to there.
    """
    after = np.asarray(given.candidate).copy()
    right = np.flatnonzero(after == 1)
    if not len(right):
        return
    after[data.draw(st.sampled_from(right.tolist()))] = 0
    (p_reg, p_ni), (harmed_reg, harmed_ni) = p_values(given), p_values(replace(given, candidate=after))
    if (after != np.asarray(given.baseline)).any():
        assert harmed_reg <= p_reg + 1e-12
    assert harmed_ni >= p_ni - 1e-12


@ANY
@given(columns(), st.integers(1, 4))
def test_identical_outputs_never_raise_an_alarm(given: Columns, tasks: int) -> None:
    """One task or several, with or without clusters: nothing differs, so nothing is worse."""
    same = [replace(given, task=f"suite/{number}", candidate=given.baseline) for number in range(tasks)]
    family = decide_columns(same, POLICY)
    assert family.outcome in (Outcome.PASS, Outcome.INCONCLUSIVE)
    assert all(found.outcome is not Outcome.REGRESSION and found.p_adjusted == 1 for found in family.verdicts)


@ANY
@given(columns(EXACT, clustered=False))
def test_identical_right_or_wrong_answers_pass_from_where_the_margin_could_be_seen(given: Columns) -> None:
    """At 5 points Tango's test needs 52 questions, all answered as before, to exclude a drop."""
    same = replace(given, candidate=given.baseline)
    enough = len(np.asarray(given.baseline)) >= 52
    assert verdict(same).outcome is (Outcome.PASS if enough else Outcome.INCONCLUSIVE)


@ANY
@given(columns(SCORE, LOSS, BITS))
def test_identical_scores_pass_from_the_minimum_of_samples_on(given: Columns) -> None:
    """From 30 questions, in clusters enough that any number of them could show a drop at all (2^-G)."""
    same = replace(given, candidate=given.baseline)
    n = len(np.asarray(given.baseline))
    groups = n if given.clusters is None else len(set(np.asarray(given.clusters).tolist()))
    enough = n >= 30 and 2.0**-groups <= POLICY.alpha
    assert verdict(same).outcome is (Outcome.PASS if enough else Outcome.INCONCLUSIVE)
