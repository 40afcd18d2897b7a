"""Agreement of a judge with people and with itself, against other implementations, worked examples and laws."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats import inter_rater
from statsmodels.stats.proportion import proportion_confint

from evalgate.errors import MissingExtraError
from evalgate.stats import (
    cohen_kappa,
    flip_rate,
    krippendorff_alpha,
    position_consistency,
    require_evalica,
    side_error,
    true_rates,
    weighted_kappa,
    wilson,
)

Z = 1.959963984540054
# Diagnoses of 200 patients by two physicians: the table of Fleiss, Cohen & Everitt 1969.
TABLE = np.array([[106, 10, 4], [22, 28, 10], [2, 12, 6]])

grades = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=2, max_size=60).map(
    lambda pairs: np.array(pairs, dtype=float).T
)


def units(table: npt.NDArray[np.int_]) -> tuple[list[float], list[float]]:
    """Both raters' classes of each unit in a table of counts."""
    cells = [(float(i), float(j)) for i, row in enumerate(table) for j, count in enumerate(row) for _ in range(count)]
    first, second = zip(*cells, strict=True)
    return list(first), list(second)


def varied(ratings: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Ratings with two values at least; of others kappa is 0/0."""
    assume(len(np.unique(ratings)) > 1)
    return ratings


# -- kappa ------------------------------------------------------------------------------------------------------------


def test_kappa_worked_by_hand() -> None:
    """Of 100 answers 40 and 45 agree, chance agrees on .5·.45 + .5·.55: kappa is (.85 - .5)/(1 - .5)."""
    found = cohen_kappa(*units(np.array([[40, 10], [5, 45]])))
    assert found.value == pytest.approx(0.70)
    # Its variance by the sums over cells of Fleiss, Cohen & Everitt, with a factor 1 - kappa of .3.
    diagonal = 0.40 * (1 - (0.50 + 0.45) * 0.3) ** 2 + 0.45 * (1 - (0.50 + 0.55) * 0.3) ** 2
    off = 0.3**2 * (0.10 * (0.45 + 0.50) ** 2 + 0.05 * (0.55 + 0.50) ** 2)
    variance = (diagonal + off - (0.70 - 0.5 * 0.3) ** 2) / (100 * 0.5**2)
    assert (found.high - found.low) / 2 == pytest.approx(Z * math.sqrt(variance), rel=1e-9)


def test_kappa_of_the_published_table() -> None:
    """The value and standard error that its authors give: .429 and √.002885."""
    found = cohen_kappa(*units(TABLE))
    assert found.value == pytest.approx(0.429, abs=5e-4)
    assert (found.high - found.low) / 2 / Z == pytest.approx(math.sqrt(0.002885), abs=5e-5)
    assert found.n == 200


@settings(deadline=None, max_examples=80)
@given(grades)
def test_kappa_is_what_scikit_learn_says(ratings: npt.NDArray[np.float64]) -> None:
    """Without weights and, on the grades that were given, with quadratic ones."""
    first, second = varied(ratings)
    assert cohen_kappa(first, second).value == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)
    expected = cohen_kappa_score(first, second, labels=[1, 2, 3, 4, 5], weights="quadratic")
    assert weighted_kappa(first, second).value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_errors_of_kappa_are_what_statsmodels_says(seed: int) -> None:
    """Both standard errors, of a table of five grades."""
    table = np.random.default_rng(seed).integers(0, 9, (5, 5)) + 12 * np.eye(5, dtype=np.int_)
    for found, theirs in (
        (cohen_kappa(*units(table)), inter_rater.cohens_kappa(table)),
        (weighted_kappa(*units(table)), inter_rater.cohens_kappa(table, weights=np.arange(5), wt="quadratic")),
    ):
        assert found.value == pytest.approx(theirs.kappa, abs=1e-12)
        assert (found.high - found.low) / 2 == pytest.approx(Z * theirs.std_kappa, rel=1e-6)


@settings(deadline=None, max_examples=60)
@given(grades, st.floats(0.1, 10), st.floats(-20, 20), st.randoms(use_true_random=False))
def test_laws_of_kappa(ratings: npt.NDArray[np.float64], unit: float, zero: float, rng: Any) -> None:
    """Neither rater is the better one, no order counts, no unit counts, and agreement with oneself is 1."""
    first, second = varied(ratings)
    order = list(range(len(first)))
    rng.shuffle(order)
    for kappa in (cohen_kappa, weighted_kappa):
        one = kappa(first, second)
        assert one.low <= one.value <= one.high
        assert -1 - 1e-12 <= one.value <= 1 + 1e-12
        for other in (
            kappa(second, first),
            kappa(first[order], second[order]),
            kappa(first * unit + zero, second * unit + zero),
        ):
            assert other.value == pytest.approx(one.value, abs=1e-7)
            assert other.low == pytest.approx(one.low, abs=1e-6)
        if len(np.unique(first)) > 1:
            same = kappa(first, first)
            assert (same.value, same.low, same.high) == pytest.approx((1, 1, 1))


def test_weighted_kappa_needs_no_classes() -> None:
    """A judge that gives 3.9 for 4 agrees nearly as one that gives 4; one that is off by two does not."""
    people = np.tile([1.0, 2.0, 3.0, 4.0, 5.0], 20)
    assert weighted_kappa(people, people + 0.1).value > 0.99
    assert weighted_kappa(people, people[::-1]).value == pytest.approx(-1)
    assert weighted_kappa(people, np.full(100, 3.0)).value == pytest.approx(0)


def test_a_rater_of_one_mind_agrees_by_chance_only() -> None:
    """Whoever calls everything right is right about most where most is right, and knows nothing."""
    truth = [1.0] * 90 + [0.0] * 10
    assert cohen_kappa(truth, [1.0] * 100).value == pytest.approx(0)


@pytest.mark.parametrize("kappa", [cohen_kappa, weighted_kappa])
def test_the_interval_of_kappa_covers(kappa: Callable[..., Any]) -> None:
    """Of 400 sets of 200 labels, the true kappa lies in about .95: a judge that errs in a tenth has .8."""
    rng = np.random.default_rng(5)
    inside = 0
    for _ in range(400):
        truth = (rng.random(200) < 0.5).astype(float)
        seen = np.where(rng.random(200) < 0.1, 1 - truth, truth)
        found = kappa(truth, seen)
        inside += found.low <= 0.8 <= found.high
    assert 365 <= inside <= 395


# -- alpha ------------------------------------------------------------------------------------------------------------


def test_alpha_worked_by_hand() -> None:
    """Three units, one of them apart by 1: of six values the squared distance is 1/3 in units and 17/15 at all."""
    first, second = [1.0, 2.0, 3.0], [1.0, 2.0, 2.0]
    pool = [*first, *second]
    expected = sum((a - b) ** 2 for a in pool for b in pool) / (6 * 5)
    observed = 2 * 1 / 6
    assert krippendorff_alpha([first, second]) == pytest.approx(1 - observed / expected)
    assert 1 - observed / expected == pytest.approx(12 / 17)


@settings(deadline=None, max_examples=40)
@given(grades)
def test_laws_of_alpha(ratings: npt.NDArray[np.float64]) -> None:
    """No rater is the better one; it is the interval formula; agreement with oneself is 1."""
    first, second = varied(ratings)
    found = krippendorff_alpha([first, second])
    pool = np.concatenate([first, second])
    expected = ((pool[:, None] - pool[None, :]) ** 2).sum() / (len(pool) * (len(pool) - 1))
    assert found == pytest.approx(1 - ((first - second) ** 2).mean() / expected, abs=1e-9)
    assert krippendorff_alpha([second, first]) == pytest.approx(found)
    if len(np.unique(first)) > 1:
        assert krippendorff_alpha([first, first, first]) == pytest.approx(1)


def test_without_evalica_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line with the command; with it nothing is said."""
    require_evalica()
    monkeypatch.setitem(sys.modules, "evalica", None)
    for call in (require_evalica, lambda: krippendorff_alpha([[1.0, 2.0], [1.0, 2.0]])):
        with pytest.raises(MissingExtraError, match=r"evalica is not installed. pip install 'pytest-evalgate\[ppi\]'"):
            call()


# -- shares -----------------------------------------------------------------------------------------------------------


def test_wilson_worked_by_hand() -> None:
    """Of 10 observations 7: the ends solve |p - .7| = z·√(p(1-p)/10)."""
    found = wilson(7, 10)
    for end in (found.low, found.high):
        assert abs(end - 0.7) == pytest.approx(Z * math.sqrt(end * (1 - end) / 10), rel=1e-9)
    assert found.low < found.value == 0.7 < found.high


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.99))
def test_wilson_is_what_statsmodels_says(drawn: tuple[int, int], confidence: float) -> None:
    """Also at the ends, where the interval stays inside [0, 1] and is never a point."""
    hits, n = drawn
    found = wilson(hits, n, confidence=confidence)
    low, high = proportion_confint(hits, n, alpha=1 - confidence, method="wilson")
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.low < found.high


def test_true_rates_worked_by_hand() -> None:
    """Of 4 right answers 3 are seen, of 6 wrong ones 5."""
    truth = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    seen = [1, 1, 1, 0, 1, 0, 0, 0, 0, 0]
    positive, negative = true_rates(truth, seen)
    assert (positive.value, positive.n) == (0.75, 4)
    assert negative.value == pytest.approx(5 / 6)
    assert positive == wilson(3, 4)
    assert negative == wilson(5, 6)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=40))
def test_rates_change_places_with_the_classes(pairs: list[tuple[bool, bool]]) -> None:
    """What is right and what is wrong exchanged, so are the rates."""
    truth, seen = np.array(pairs).T
    assume(0 < truth.sum() < len(truth))
    assert true_rates(truth, seen) == true_rates(~truth, ~seen)[::-1]


def test_flips_are_verdicts_not_values() -> None:
    """4.9 and 3.1 are one verdict on a scale from 1 to 5, 3.1 and 2.9 are two; the middle itself is not above it."""
    found = flip_rate([4.9, 3.1, 3.0, 1.0], [3.1, 2.9, 2.0, 3.0], middle=3.0)
    assert (found.value, found.n) == (0.25, 4)
    assert flip_rate([1.0, 5.0], [1.0, 5.0], middle=3.0).value == 0


def test_position_consistency_counts_what_both_orders_say() -> None:
    """A judge that always takes the first answer is never consistent, also not where it says neither once."""
    assert position_consistency([1, 1, 1], [0, 0, 0.5]).value == 0
    assert position_consistency([1, 0, 0.5, 1], [1, 0, 0.5, 0.5]).value == 0.75


# -- sides ------------------------------------------------------------------------------------------------------------


def test_an_error_that_hits_both_sides_is_none() -> None:
    """A judge half a grade too kind to everybody favours nobody; one that is so to the candidate does."""
    people = np.tile([1.0, 3.0, 5.0, 2.0], 10)
    candidate = np.tile([1, 0, 0, 1], 10)
    noise = np.random.default_rng(3).normal(0, 0.3, 40)
    fair = side_error(people + 0.5 + noise, people, candidate)
    assert fair.low < 0 < fair.high
    kind = side_error(people + 0.5 * candidate + noise, people, candidate)
    assert kind.value == pytest.approx(fair.value + 0.5)
    assert kind.low > 0


def test_side_error_is_welchs() -> None:
    """The interval of scipy's test for unequal variances."""
    after, before = np.array([0.0, 1.0, 0.0, 1.0, 1.0]), np.array([0.0, 0.0, -1.0])
    found = side_error(np.r_[after, before], np.zeros(8), [1] * 5 + [0] * 3)
    theirs = scipy_stats.ttest_ind(after, before, equal_var=False).confidence_interval(0.95)
    assert found.value == pytest.approx(0.6 + 1 / 3)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))


def test_where_errors_do_not_vary_there_is_nothing_to_estimate() -> None:
    """A judge that is never wrong has the error 0 on either side, without a division by it or a warning."""
    found = side_error([1, 0, 1, 0], [1, 0, 1, 0], [1, 1, 0, 0])
    assert (found.value, found.low, found.high) == (0, 0, 0)
    one_side = side_error([1, 1, 0.5, 0], [0, 0, 0, 0], [1, 1, 0, 0])
    assert one_side.low < one_side.value == 0.75 < one_side.high


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.booleans()), min_size=4, max_size=40))
def test_sides_exchanged_change_the_sign(rows: list[tuple[float, float, bool]]) -> None:
    """What flatters the one belittles the other."""
    judged, human, side = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    assume(2 <= side.sum() <= len(side) - 2)
    one, other = side_error(judged, human, side), side_error(judged, human, 1 - side)
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low), nan_ok=False)


# -- arguments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: cohen_kappa([1, 1, 1], [1, 1, 1]), "ratings: expected two classes or values at least"),
        (lambda: weighted_kappa([2, 2], [2, 2]), "ratings: expected two classes or values at least"),
        (lambda: cohen_kappa([1, 0], [1, 0, 1]), r"second rater: expected shape \(2,\)"),
        (lambda: cohen_kappa([1, math.nan], [1, 0]), "first rater: expected finite numbers"),
        (lambda: cohen_kappa([], []), "first rater: expected shape"),
        (lambda: cohen_kappa([1, 0], [1, 0], confidence=1.0), "confidence: expected a number above 0 and below 1"),
        (lambda: wilson(3, 2), "n: expected at least"),
        (lambda: wilson(0, 0), "n: expected at least 1"),
        (lambda: true_rates([1, 1], [1, 0]), "n: expected at least 1"),
        (lambda: krippendorff_alpha([[1.0, 2.0]]), "raters: expected two at least, got 1"),
        (lambda: krippendorff_alpha([[1.0, 2.0], [1.0]]), r"ratings: expected shape \(2,\)"),
        (lambda: side_error([1, 0, 1], [1, 0, 1], [1, 0, 0]), "answers of a side: expected two at least"),
    ],
)
def test_arguments_that_are_none_are_refused(call: Callable[[], object], says: str) -> None:
    """With what was expected and given."""
    with pytest.raises(ValueError, match=says):
        call()
