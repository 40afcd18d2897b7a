"""The gate's statistics: published examples, laws that must hold for any data, and measured error rates."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from scipy import stats as scipy_stats

from evalgate.stats import (
    PairedTest,
    PooledMetric,
    benjamini_hochberg,
    compare_arrays,
    discordance_bound,
    holm,
    mcnemar_e_value,
    mcnemar_midp,
    minimum_detectable_effect,
    paired_binary,
    paired_scores,
    pooled,
    samples_needed,
    tango_interval,
    tango_p,
)

Array = npt.NDArray[np.float64]
DARWIN = [6, 8, 14, 16, 23, 24, 28, 29, 41, -48, 49, 56, 60, -67, 75]  # Fisher 1935, eighths of an inch
BH_1995 = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.324]
BH_1995 += [0.4262, 0.5719, 0.6528, 0.759, 1.0]


def scores_of(d: npt.ArrayLike, **keywords: Any) -> PairedTest:
    """Compare zeros with d: the differences are exactly d."""
    d = np.asarray(d, dtype=float)
    return paired_scores(np.zeros(len(d)), d, **({"margin": 1.0, "alpha": 0.05} | keywords))


def numbers(test: PairedTest) -> list[float]:
    """Everything in a result except its method."""
    return [value for value in asdict(test).values() if not isinstance(value, str)]


# ------------------------------------------------------------------------------------------------ published examples


def test_bentur_airway_data() -> None:
    """Fagerland's example (7 against 1 of 21) has its published exact and mid-p values and Tango interval."""
    midp = mcnemar_midp(7, 1)
    assert 2 * midp == pytest.approx(0.0390625, abs=1e-12)
    assert 2 * (midp + float(scipy_stats.binom.pmf(7, 8, 0.5)) / 2) == pytest.approx(0.0703125, abs=1e-12)
    assert tango_interval(7, 1, 21, 0.95) == pytest.approx((-0.517232, -0.026003), abs=1e-6)


def test_agresti_approval_table() -> None:
    """The approval ratings (86 against 150 of 1600) have their published McNemar statistic, exact p and interval."""
    z = float(special.ndtri(1 - tango_p(86, 150, 1600, 1e-13)))  # no margin to speak of: McNemar's own z
    assert z**2 == pytest.approx(17.3559322, abs=1e-6)
    exact = 2 * (mcnemar_midp(150, 86) + float(scipy_stats.binom.pmf(150, 236, 0.5)) / 2)
    assert exact == pytest.approx(3.71594e-5, abs=1e-10)
    assert tango_interval(86, 150, 1600, 0.95) == pytest.approx((0.0213616, 0.0589980), abs=1e-6)


def test_propcis_score_interval() -> None:
    """R's PropCIs::scoreci.mp(40, 20, 160) gives the same interval around the same difference."""
    assert paired_binary(20, 40, 160, margin=0.05, alpha=0.025).delta == 0.125
    assert tango_interval(20, 40, 160, 0.95) == pytest.approx((0.0308645, 0.2180642), abs=1e-6)


def test_statsmodels_table() -> None:
    """statsmodels' own McNemar table [[23, 15], [19, 31]] has its exact p-value and chi-square."""
    exact = 2 * (mcnemar_midp(19, 15) + float(scipy_stats.binom.pmf(19, 34, 0.5)) / 2)
    assert exact == pytest.approx(0.60759136127308, abs=1e-9)
    z = float(special.ndtri(tango_p(19, 15, 88, 1e-14)))
    assert z**2 == pytest.approx(0.470588235294118, abs=1e-9)


def test_darwins_maize() -> None:
    """Darwin's plants: Student's t and Fisher's enumeration of all 32768 sign patterns; the gate takes the larger."""
    worse = scores_of(-np.array(DARWIN))
    exact = 1726 / 32768 / 2
    t_test = scipy_stats.ttest_1samp(DARWIN, 0)
    assert (t_test.statistic, t_test.pvalue) == pytest.approx((2.14798746, 0.04970294), abs=1e-8)
    assert worse.p_reg == pytest.approx(max(exact, t_test.pvalue / 2), abs=1e-9) == pytest.approx(exact, abs=1e-12)
    assert worse.method == "paired-t+sign-flip"
    assert scores_of(DARWIN, margin=1e-12).p_ni == pytest.approx(exact, abs=1e-12)  # the mirror image


def test_benjamini_and_hochberg_1995() -> None:
    """The paper's 15 p-values: Holm rejects 3 and Benjamini-Hochberg 4 at 5 %, in whatever order they come."""
    for order in (list(range(15)), list(range(14, -1, -1)), [7, 0, 14, 3, 9, 1, 12, 5, 10, 2, 13, 4, 11, 6, 8]):
        p_values = [BH_1995[i] for i in order]
        assert sorted(np.array(order)[np.array(holm(p_values)) <= 0.05]) == [0, 1, 2]
        assert sorted(np.array(order)[np.array(benjamini_hochberg(p_values)) <= 0.05]) == [0, 1, 2, 3]
    assert holm(BH_1995)[:3] == pytest.approx([0.0001 * 15, 0.0004 * 14, 0.0019 * 13], abs=1e-15)


def test_small_families_are_left_alone() -> None:
    """No p-value or one alone has nothing to be adjusted for."""
    assert holm([]) == benjamini_hochberg([]) == []
    assert holm([0.03]) == benjamini_hochberg([0.03]) == [0.03]


# ---------------------------------------------------------------------------------------------------------- power


@pytest.mark.parametrize(
    ("drop", "psi", "n"),
    [
        (0.01, 0.05, 3090), (0.01, 0.10, 6181), (0.01, 0.20, 12364), (0.01, 0.30, 18546),
        (0.02, 0.05, 771), (0.02, 0.10, 1544), (0.02, 0.20, 3090), (0.02, 0.30, 4635),
        (0.05, 0.05, 122), (0.05, 0.10, 246), (0.05, 0.20, 493), (0.05, 0.30, 740),
        (0.10, 0.10, 60), (0.10, 0.20, 122), (0.10, 0.30, 184),
    ],
)  # fmt: skip
def test_power_table(drop: float, psi: float, n: int) -> None:
    """Every cell of the documented table, and the detectable effect leads back to it."""
    assert samples_needed(drop, psi=psi, alpha=0.05) == n
    assert minimum_detectable_effect(n, psi=psi, alpha=0.05) <= drop + 1e-12
    assert minimum_detectable_effect(n - 1, psi=psi, alpha=0.05) > drop


def test_power_cell_that_cannot_be() -> None:
    """Ten points cannot be lost where only five in a hundred pairs differ, and the message says so."""
    with pytest.raises(ValueError, match=r"psi: expected at least delta = 0\.1 .*, got 0\.05"):
        samples_needed(0.10, psi=0.05, alpha=0.05)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_adjusted_p_values_are_those_of_statsmodels(p_values: list[float]) -> None:
    """Holm, which is written out, and Benjamini-Hochberg equal `multipletests` for any p-values, ties included."""
    from statsmodels.stats.multitest import multipletests

    for ours, method in ((holm, "holm"), (benjamini_hochberg, "fdr_bh")):
        assert ours(p_values) == pytest.approx(multipletests(p_values, method=method)[1], abs=1e-12)


def test_power_at_the_strictest_step_of_holm() -> None:
    """One metric needs 493 questions, each of ten 932 at alpha/10, and 1062 at alpha/20, beside the pooled test."""
    assert samples_needed(0.05, psi=0.2, alpha=0.05 / 10) == 932
    assert samples_needed(0.05, psi=0.2, alpha=0.05 / 20) == 1062


def test_power_of_means() -> None:
    """Miller's example (omega² = 1/9, three points, two-sided 5 %) needs 968.997 questions, times the design effect."""
    assert samples_needed(0.03, sd=1 / 3, alpha=0.025) == 969
    n = float(((special.ndtri(0.975) + special.ndtri(0.8)) / 3 / 0.03) ** 2)
    assert n == pytest.approx(968.997, abs=1e-3)
    assert minimum_detectable_effect(n, sd=1 / 3, alpha=0.025) == pytest.approx(0.03, abs=1e-9)
    assert samples_needed(0.03, sd=1 / 3, alpha=0.025, deff=2) == math.ceil(2 * n)
    assert minimum_detectable_effect(2 * n, sd=1 / 3, alpha=0.025, deff=2) == pytest.approx(0.03, abs=1e-9)
    for n in range(2, 500):  # rounding asks for no extra question
        assert samples_needed(minimum_detectable_effect(n, sd=0.4, alpha=0.05), sd=0.4, alpha=0.05) == n
    assert samples_needed(0.03, sd=0.0, alpha=0.05) == 2
    assert minimum_detectable_effect(50, sd=0.0, alpha=0.05) == 0


@given(
    n=st.floats(1, 1e6), psi=st.floats(0.001, 1), alpha=st.floats(1e-4, 0.4), power=st.floats(0.5, 0.99),
    deff=st.floats(1, 10),
)  # fmt: skip
def test_detectable_effect_solves_the_power_equation(
    n: float, psi: float, alpha: float, power: float, deff: float
) -> None:
    """The detectable effect is a share, falls with n, and needs the n that it came from."""
    effect = minimum_detectable_effect(n, psi=psi, alpha=alpha, power=power, deff=deff)
    assert 0 < effect <= 1
    assert minimum_detectable_effect(2 * n, psi=psi, alpha=alpha, power=power, deff=deff) <= effect
    if effect < 1:
        back = samples_needed(effect, psi=max(psi, effect), alpha=alpha, power=power, deff=deff)
        assert back == pytest.approx(max(math.ceil(n), 2), abs=1 + 1e-6 * n)


def test_nothing_is_detectable_with_next_to_no_questions() -> None:
    """Two questions cannot show even a total collapse."""
    assert minimum_detectable_effect(2, psi=0.2, alpha=0.05) == 1


def test_power_formula_is_borne_out() -> None:
    """493 questions find a 5-point drop at psi = 20 % in very nearly 80 % of exact outcomes."""
    n, found = 493, 0.0
    for discordant in range(40, 170):
        loss = np.arange(discordant + 1)
        tails = (special.bdtrc(loss - 1, discordant, 0.5) + special.bdtrc(loss, discordant, 0.5)) / 2
        share = scipy_stats.binom.pmf(loss, discordant, 0.125 / 0.2)[tails <= 0.05].sum()
        found += float(scipy_stats.binom.pmf(discordant, n, 0.2) * share)
    assert found == pytest.approx(0.80, abs=0.01)


def test_discordance_bound() -> None:
    """The Clopper-Pearson bound is the share at which so few discordant pairs have probability 1 - confidence."""
    bound = discordance_bound(30, 300)
    assert 0.10 < bound < 0.125
    assert scipy_stats.binom.cdf(30, 300, bound) == pytest.approx(0.2, abs=1e-9)
    assert discordance_bound(0, 100) == pytest.approx(1 - 0.2 ** (1 / 100), abs=1e-12)
    assert discordance_bound(7, 7) == 1


# ------------------------------------------------------------------------------------------------- right or wrong


def test_size_of_midp_by_enumeration() -> None:
    """Over all outcomes, n <= 200 and psi from 5 % to 30 %, mid-p raises a false alarm with probability <= 5.02 %."""
    size = np.zeros(201)
    for discordant in range(1, 201):
        loss = np.arange(discordant + 1)
        rejected = [mcnemar_midp(int(k), discordant - int(k)) <= 0.05 for k in loss[discordant // 2 :]]
        size[discordant] = scipy_stats.binom.pmf(loss[discordant // 2 :], discordant, 0.5)[rejected].sum()
    n, psi = np.arange(1, 201)[:, None, None], np.linspace(0.05, 0.30, 26)[None, :, None]
    false_alarms = (scipy_stats.binom.pmf(np.arange(201), n, psi) * size).sum(axis=2)
    assert false_alarms.max() <= 0.05 + 0.0002
    assert false_alarms[99:].min() >= 0.025  # and does not get there by never rejecting


def test_midp_is_the_one_line_of_the_specification() -> None:
    """The two-tail form equals binomtest minus half the point probability."""
    for loss, gain in product((0, 1, 2, 7, 40, 300), repeat=2):
        if loss + gain:
            exact = scipy_stats.binomtest(loss, loss + gain, 0.5, alternative="greater").pvalue
            expected = exact - 0.5 * scipy_stats.binom.pmf(loss, loss + gain, 0.5)
            assert mcnemar_midp(loss, gain) == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_tango_null_estimate_is_the_maximum_likelihood() -> None:
    """The score statistic uses the constrained maximum of the likelihood, found here by brute force."""
    for loss, gain, n, theta in ((7, 1, 21, -0.1), (0, 0, 30, -0.05), (3, 0, 50, -0.2), (0, 4, 40, -0.02)):
        q = np.linspace(-theta + 1e-9, (1 - theta) / 2 - 1e-9, 2_000_001)
        likelihood = special.xlogy(loss, q) + special.xlogy(gain, q + theta)
        likelihood += special.xlogy(n - loss - gain, 1 - 2 * q - theta)
        best = float(q[likelihood.argmax()])
        z = (gain - loss - n * theta) / math.sqrt(n * (2 * best + theta * (1 - theta)))
        assert tango_p(loss, gain, n, -theta) == pytest.approx(float(special.ndtr(-z)), abs=1e-5)


def test_no_discordant_pair() -> None:
    """Identical answers are no regression, and pass only with enough questions: n >= z²(1 - margin)/margin."""
    few, enough = (paired_binary(0, 0, n, margin=0.05, alpha=0.05) for n in (51, 52))
    assert few.p_reg == enough.p_reg == 1
    assert few.p_ni > 0.05 >= enough.p_ni
    z = float(special.ndtri(0.95))
    assert -enough.low == enough.high == pytest.approx(z**2 / (52 + z**2), abs=1e-9)
    assert (few.delta, few.sd, few.discordance, few.loss, few.gain) == (0, 0, 0, 0, 0)


def test_boundaries_of_tango() -> None:
    """Everything lost, everything gained, one question and margins of 1 and more stay within bounds."""
    lost, won = (paired_binary(k, 20 - k, 20, margin=0.05, alpha=0.05) for k in (20, 0))
    assert (lost.delta, lost.low) == (-1, -1)
    assert (won.delta, won.high) == (1, 1)
    assert lost.high == pytest.approx(-won.low, abs=1e-12)
    assert lost.p_reg == pytest.approx(0.5**21)
    assert lost.p_ni == pytest.approx(1, abs=1e-3)
    assert won.p_ni < 1e-4
    assert tango_p(20, 0, 20, 1.0) >= 0.5
    assert tango_p(2, 0, 2, 1 - 1e-13) == pytest.approx(0.5, abs=1e-6)  # where rounding makes a square negative
    assert tango_p(19, 0, 20, 1.0) == 0
    assert tango_p(3, 0, 3, 1.5) == tango_p(3, 0, 3, 1 + 1e-12) == 0  # as the interval says, whose low is -1
    assert paired_binary(1, 0, 1, margin=0.05, alpha=0.05).sd == 0


def test_paired_binary_describes_the_data() -> None:
    """Counts, discordance and sd are those of the differences; numpy's integers are welcome."""
    d = np.repeat([-1.0, 1.0, 0.0], [12, 5, 83])
    test = paired_binary(np.int64(12), np.int64(5), np.int64(100), margin=0.05, alpha=0.05)  # type: ignore[arg-type]
    assert (test.delta, test.n, test.clusters, test.loss, test.gain) == (-0.07, 100, 100, 12, 5)
    assert (test.discordance, test.method) == (0.17, "mcnemar-midp/tango")
    assert test.sd == pytest.approx(float(d.std(ddof=1)), abs=1e-12)
    assert {type(value) for value in asdict(test).values()} == {int, float, str}


counts = st.integers(2, 400).flatmap(
    lambda n: st.tuples(st.integers(0, n), st.integers(0, n), st.just(n)).filter(lambda c: c[0] + c[1] <= c[2])
)
margins = st.floats(0.001, 0.9)
alphas = st.floats(0.001, 0.4)


@given(counts, margins, alphas)
def test_laws_of_the_binary_comparison(case: tuple[int, int, int], margin: float, alpha: float) -> None:
    """p-values lie in [0, 1], the interval holds the estimate, and passing means that its lower end beats -margin."""
    test = paired_binary(*case, margin=margin, alpha=alpha)
    assert all(math.isfinite(value) for value in numbers(test))
    assert 0 <= test.p_reg <= 1
    assert 0 <= test.p_ni <= 1
    assert -1 <= test.low <= test.delta <= test.high <= 1
    if abs(test.low + margin) > 1e-9:
        assert (test.p_ni <= alpha) == (test.low > -margin)


@given(counts)
def test_swapping_the_models_mirrors_everything(case: tuple[int, int, int]) -> None:
    """Candidate and baseline exchanged: delta and interval change sign, and the p-values of worse add up to 1."""
    loss, gain, n = case
    one, other = (paired_binary(a, b, n, margin=0.05, alpha=0.05) for a, b in ((loss, gain), (gain, loss)))
    assert (other.delta, other.low, other.high) == (-one.delta, -one.high, -one.low)
    assert one.p_reg + other.p_reg == pytest.approx(1 if loss + gain else 2, abs=1e-9)


@given(counts, margins, margins)
def test_a_tighter_margin_is_harder(case: tuple[int, int, int], one: float, other: float) -> None:
    """Asking for less damage never makes non-inferiority easier to show."""
    tight, loose = sorted((one, other))
    assert tango_p(*case, tight) >= tango_p(*case, loose) - 1e-12


@given(counts, margins)
def test_more_harm_never_looks_better(case: tuple[int, int, int], margin: float) -> None:
    """A question that turns from kept to lost, or from gained to kept or lost, moves both p-values the right way."""
    loss, gain, n = case
    before = paired_binary(loss, gain, n, margin=margin, alpha=0.05)
    harmed = [(loss + 1, gain)] if loss + gain < n else []
    if gain:
        harmed.append((loss + 1, gain - 1))
        if loss + gain > 1:  # without a discordant pair p_reg is 1 by convention
            harmed.append((loss, gain - 1))
    for worse in harmed:
        after = paired_binary(*worse, n, margin=margin, alpha=0.05)
        assert after.delta < before.delta
        assert after.p_reg <= before.p_reg + 1e-12
        assert after.p_ni >= before.p_ni - 1e-12


# -------------------------------------------------------------------------------------------------------- e-value


def test_e_value_is_the_closed_form() -> None:
    """It equals the beta form of the specification wherever that can be computed, and is 1 before any data."""
    assert mcnemar_e_value(0, 0) == pytest.approx(0, abs=1e-12)
    for b, c in product((0, 1, 3, 10, 60, 200), repeat=2):
        tail = float(scipy_stats.beta.logsf(0.5, b + 1, c + 1))
        expected = (b + c + 1) * math.log(2) + float(special.betaln(b + 1, c + 1)) + tail
        assert mcnemar_e_value(b, c) == pytest.approx(expected, abs=1e-8)


def test_e_value_does_not_underflow() -> None:
    """Thousands of gains leave small evidence, 1/(gain + 1), not none."""
    assert mcnemar_e_value(0, 5000) == pytest.approx(-math.log(5001), abs=1e-6)
    assert mcnemar_e_value(5000, 0) == pytest.approx(5001 * math.log(2) - math.log(5001), abs=1e-6)


def test_e_value_is_fair() -> None:
    """Under the null its expectation after any number of pairs is 1, which is what allows to look at every step."""
    for n in (1, 5, 40):
        expected = sum(
            float(scipy_stats.binom.pmf(k, n, 0.5)) * math.exp(mcnemar_e_value(k, n - k)) for k in range(n + 1)
        )
        assert expected == pytest.approx(1, abs=1e-9)


def test_e_value_holds_at_any_look() -> None:
    """Stopping at the first of 150 looks that reaches 1/alpha gives at most 5 % false alarms, by exact recursion."""
    alive, alarms = {0: 1.0}, 0.0
    for pairs in range(1, 151):
        after: dict[int, float] = {}
        for loss, p in alive.items():
            for k in (loss, loss + 1):
                after[k] = after.get(k, 0.0) + p / 2
        stopped = {k for k in after if mcnemar_e_value(k, pairs - k) >= math.log(20)}
        alarms += sum(after[k] for k in stopped)
        alive = {k: p for k, p in after.items() if k not in stopped}
    assert 0.005 < alarms <= 0.05


# ---------------------------------------------------------------------------------------------------------- means


def statsmodels_fit(d: Array, groups: Array, weights: Array, null: float) -> tuple[float, float, float]:
    """Standard error, t and lower tail of statsmodels' cluster-robust regression of d - null on 1."""
    from statsmodels.regression.linear_model import WLS

    model = WLS(d - null, np.ones(len(d)), weights=weights)
    fit = model.fit(cov_type="cluster", cov_kwds={"groups": groups.astype(int)}, use_t=True)
    df = len(np.unique(groups)) - 1
    return float(fit.bse[0]), float(fit.tvalues[0]), float(special.stdtr(df, fit.tvalues[0]))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("n", "clusters"), [(400, 60), (2000, 150)])
def test_closed_form_is_statsmodels(n: int, clusters: int, weighted: bool) -> None:
    """The written-out regression equals statsmodels' cluster-robust OLS and WLS, small-sample correction included."""
    rng = np.random.default_rng(n)
    groups = np.concatenate([np.arange(clusters), rng.integers(0, clusters, n - clusters)]).astype(float)
    d = rng.normal(-0.02, 0.4, n) + rng.normal(0, 0.2, clusters)[groups.astype(int)]
    weights = rng.lognormal(5, 1, n) if weighted else np.ones(n)
    test = scores_of(d, margin=0.1, clusters=groups.tolist(), weights=weights if weighted else None)
    error, t, p_reg = statsmodels_fit(d, groups, weights, 0)
    reach = float(special.stdtrit(clusters - 1, 0.95)) * error
    assert test.delta / error == pytest.approx(t, abs=1e-12 * max(1, abs(t)))
    assert (test.high - test.delta, test.delta - test.low) == pytest.approx((reach, reach), rel=1e-12)
    assert test.p_reg == pytest.approx(p_reg, abs=1e-12)
    assert test.p_ni == pytest.approx(1 - statsmodels_fit(d, groups, weights, -0.1)[2], abs=1e-12)
    assert (test.method, test.clusters) == ("wls-bits-per-byte" if weighted else "cluster-ols", clusters)


def test_without_clusters_it_is_the_paired_t_test() -> None:
    """p-values and the 90 % interval are those of scipy's paired t-test."""
    rng = np.random.default_rng(3)
    before, after = rng.uniform(size=80), rng.uniform(size=80) - 0.03
    test = paired_scores(before, after, margin=0.05, alpha=0.05)
    assert test.p_reg == pytest.approx(scipy_stats.ttest_rel(after, before, alternative="less").pvalue, abs=1e-12)
    shifted = scipy_stats.ttest_1samp(after - before, -0.05, alternative="greater")
    interval = scipy_stats.ttest_1samp(after - before, 0).confidence_interval(0.90)
    assert test.p_ni == pytest.approx(shifted.pvalue, abs=1e-12)
    assert (test.low, test.high) == pytest.approx((interval.low, interval.high), abs=1e-12)
    assert (test.n, test.clusters, test.method) == (80, 80, "paired-t")
    assert test.sd == pytest.approx(float((after - before).std(ddof=1)))


def brute_force_flips(totals: Array, shift: Array) -> tuple[float, float]:
    """Both sign-flip p-values by trying every pattern of signs."""
    lower = upper = 0
    for signs in product((1, -1), repeat=len(totals)):
        lower += float(np.dot(signs, totals)) <= float(totals.sum()) + 1e-9
        upper += float(np.dot(signs, totals + shift)) >= float((totals + shift).sum()) - 1e-9
    return lower / 2 ** len(totals), upper / 2 ** len(totals)


def test_few_clusters_need_the_sign_flip_test_too() -> None:
    """With 9 clusters of unequal size the p-values are the larger of t's and of the enumerated sign flips."""
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(9), [3, 8, 5, 12, 7, 4, 9, 6, 10])
    for shift, margin in ((-0.25, 0.3), (0.05, 0.2), (0.0, 0.01), (-0.6, 0.8)):
        d = np.round(rng.normal(shift, 0.5, len(groups)) + rng.normal(0, 0.2, 9)[groups], 1)
        totals, sizes = np.bincount(groups, d).astype(float), np.bincount(groups).astype(float)
        flips = brute_force_flips(totals, margin * sizes)
        ts = [statsmodels_fit(d, groups.astype(float), np.ones(len(d)), null)[2] for null in (0, -margin)]
        test = scores_of(d, margin=margin, clusters=groups.tolist())
        assert test.method == "cluster-ols+sign-flip"
        assert (test.p_reg, test.p_ni) == pytest.approx((max(ts[0], flips[0]), max(1 - ts[1], flips[1])), abs=1e-12)


def test_random_flips_agree_with_all_flips() -> None:
    """From 16 clusters on 9999 seeded patterns come within their noise of the 65536, and never say 0."""
    rng = np.random.default_rng(7)
    d = rng.standard_t(2, size=16) - 0.8
    bits = ((np.arange(2**16)[:, None] >> np.arange(16)) & 1) * 2 - 1
    exact = float(np.mean(bits @ d <= d.sum() + 1e-12))
    t_test = float(scipy_stats.ttest_1samp(d, 0, alternative="less").pvalue)
    assert exact > t_test  # so that the flips are what is reported
    results = [scores_of(d, seed=seed).p_reg for seed in (0, 0, 1)]
    assert results[0] == results[1] != results[2]
    assert results == pytest.approx([exact] * 3, abs=4 * math.sqrt(exact / 9999))
    assert scores_of(rng.normal(-9, 1, 40)).p_reg >= 1 / 10_000
    assert scores_of(rng.normal(9, 1, 40)).p_ni >= 1 / 10_000


def test_sign_flip_interval_agrees_with_its_p_value() -> None:
    """The interval's lower end is where non-inferiority just fails, for enumerated and random flips alike."""
    rng = np.random.default_rng(11)
    for size in (6, 12, 15, 16, 30, 49):
        d = rng.standard_t(2, size=size)
        d -= scores_of(d).low + 0.5  # now the interval starts at -.5
        assert scores_of(d, margin=0.5 + 1e-6).p_ni <= 0.05
        assert scores_of(d, margin=0.5 - 1e-6).p_ni > 0.05
        if size <= 15:
            assert -scores_of(-d).high == pytest.approx(scores_of(d).low, abs=1e-9)


def test_too_few_clusters_can_decide_nothing() -> None:
    """With 4 clusters no p-value falls below 1/16, however clear the drop; the interval stays finite."""
    test = scores_of([-9.0, -9.1, -8.9, -9.2], margin=20)
    assert test.p_reg == test.p_ni == 1 / 16
    assert -20 < test.low <= -9.2 <= test.delta <= test.high < 0


def test_rows_of_the_table_switch_where_they_should() -> None:
    """Fifty clusters, or fifty questions without clusters, do without the sign flips; 49 do not."""
    rng = np.random.default_rng(13)
    for size, suffix in ((49, "+sign-flip"), (50, "")):
        d, groups = rng.normal(size=3 * size), np.arange(3 * size) % size
        assert scores_of(d[:size]).method == "paired-t" + suffix
        assert scores_of(d, clusters=groups.tolist()).method == "cluster-ols" + suffix
        assert scores_of(d[:size], weights=np.ones(size)).method == "wls-bits-per-byte" + suffix


@pytest.mark.parametrize(
    ("value", "p_reg", "p_ni"), [(0.0, 1, 0), (0.2, 1, 0), (-0.01, 0, 0), (-0.05, 0, 1), (-0.3, 0, 1)]
)
@pytest.mark.parametrize("keywords", [{}, {"clusters": [*"aabbccddee"]}, {"weights": range(1, 11)}])
def test_constant_differences(value: float, p_reg: float, p_ni: float, keywords: dict[str, Any]) -> None:
    """Nothing varies: the p-values are 0 or 1, the interval is a point, and -margin itself does not pass."""
    before = np.linspace(0.1, 0.9, 10)  # so that before + value - before is not exactly value
    test = paired_scores(before, before + value, margin=0.05, alpha=0.05, **keywords)
    assert (test.p_reg, test.p_ni) == (p_reg, p_ni)
    assert (test.low, test.high, test.sd) == pytest.approx((test.delta, test.delta, 0), abs=1e-15)
    assert test.delta == pytest.approx(value, abs=1e-15)
    assert (test.loss, test.gain) == (10 * (value < 0), 10 * (value > 0))


def test_rounding_is_no_regression() -> None:
    """Averages that differ in the last bit, as sums taken in another order do, are equal."""
    before = np.random.default_rng(17).uniform(size=200)
    test = paired_scores(before, before * (1 - 2e-16), margin=0.05, alpha=0.05)
    assert (test.p_reg, test.loss, test.gain, test.delta) == (1, 0, 0, 0)


def test_clusters_whose_differences_cancel() -> None:
    """Each cluster loses one and gains one: no evidence of a drop, and few clusters still temper the certainty."""
    for count, least in ((5, 1 / 32), (60, 0)):
        test = scores_of([0.3, -0.3] * count, margin=0.1, clusters=[i // 2 for i in range(2 * count)])
        assert (test.delta, test.p_reg, test.p_ni) == (0, 1, least)
        assert (test.low, test.high) == (0, 0)


def test_weights_weigh() -> None:
    """The estimate is the weighted mean, and equal weights change nothing."""
    rng = np.random.default_rng(19)
    d, weights = rng.normal(size=90), rng.lognormal(size=90)
    assert scores_of(d, weights=weights).delta == pytest.approx(float(np.average(d, weights=weights)), abs=1e-15)
    equal = replace(scores_of(d, weights=np.full(90, 7.0)), method="paired-t")
    assert numbers(equal) == pytest.approx(numbers(scores_of(d)), abs=1e-12)


# Rounded, since differences near 1e-12 of the scores count, or count as rounding errors, as those become larger.
values = st.one_of(st.floats(-1, 1).map(lambda value: round(value, 6)), st.sampled_from([0.0, 0.25, 0.5, 1.0]))


@st.composite
def paired_data(draw: st.DrawFn) -> dict[str, Any]:
    """Two columns of scores, perhaps with clusters and weights."""
    n = draw(st.integers(4, 70))
    column = st.lists(values, min_size=n, max_size=n).map(np.array)
    labels = st.lists(st.integers(0, 60), min_size=n, max_size=n).map(lambda rest: [-1, -2, *rest[2:]])
    weights = st.lists(st.floats(0.5, 9), min_size=n, max_size=n).map(np.array)
    return {
        "baseline": draw(column), "candidate": draw(column),
        "clusters": draw(st.none() | labels), "weights": draw(st.none() | weights),
    }  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(paired_data(), st.floats(0.01, 0.5), st.floats(0.01, 0.3))
def test_laws_of_means(data: dict[str, Any], margin: float, alpha: float) -> None:
    """p-values lie in [0, 1], the interval holds the estimate, the margin is monotone, and PASS means low > -margin."""
    test = paired_scores(**data, margin=margin, alpha=alpha)
    assert all(math.isfinite(value) for value in numbers(test))
    assert 0 <= test.p_reg <= 1
    assert 0 <= test.p_ni <= 1
    assert test.low <= test.delta <= test.high
    assert paired_scores(**data, margin=2 * margin, alpha=alpha).p_ni <= test.p_ni + 1e-12
    if abs(test.low + margin) > 1e-9 and 2**-test.clusters <= alpha:
        assert (test.p_ni <= alpha) == (test.low > -margin)


@settings(max_examples=60, deadline=None)
@given(paired_data(), st.randoms(use_true_random=False), st.floats(-2, 2))
def test_order_and_a_common_constant_change_nothing(data: dict[str, Any], random: Any, constant: float) -> None:
    """Neither the order of the samples nor a number added to both columns matters."""
    n = len(data["baseline"])
    order = random.sample(range(n), n)
    moved = {
        "baseline": (data["baseline"] + constant)[order],
        "candidate": (data["candidate"] + constant)[order],
        "clusters": data["clusters"] and [f"passage {data['clusters'][i]}" for i in order],
        "weights": None if data["weights"] is None else data["weights"][order],
    }
    one, other = (paired_scores(**columns, margin=0.1, alpha=0.05) for columns in (data, moved))
    if one.clusters >= 50 or one.sd > 1e-6:  # below, rounding decides what counts as constant
        assert one.method == other.method
        assert numbers(one) == pytest.approx(numbers(other), abs=1e-7)


def test_clusters_that_tie_do_not_let_rounding_choose_the_flips() -> None:
    """Twenty clusters with totals equal but for rounding: order and a common constant still change nothing."""
    rng = np.random.default_rng(43)
    for _ in range(20):
        weights, order, before = rng.lognormal(0, 1.5, 20), rng.permutation(20), rng.uniform(size=20)
        after = before + rng.choice([-1, 1], 20, p=[0.7, 0.3]) / weights
        one = paired_scores(before, after, weights=weights, margin=0.1, alpha=0.05)
        moved = (before + 1)[order], (after + 1)[order]
        other = paired_scores(*moved, weights=weights[order], margin=0.1, alpha=0.05)
        assert numbers(one) == pytest.approx(numbers(other), abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(paired_data())
def test_swapping_mirrors_the_means(data: dict[str, Any]) -> None:
    """Columns exchanged: delta and interval change sign, and no data are significantly worse both ways."""
    swapped = data | {"baseline": data["candidate"], "candidate": data["baseline"]}
    one, other = (paired_scores(**columns, margin=0.1, alpha=0.05) for columns in (data, swapped))
    assert other.delta == pytest.approx(-one.delta, abs=1e-12)
    assert (other.loss, other.gain) == (one.gain, one.loss)
    assert one.p_reg + other.p_reg >= 1 - 1e-9
    if one.clusters >= 50 and one.sd > 1e-6 and one.p_reg != 1:
        assert (other.low, other.high) == pytest.approx((-one.high, -one.low), abs=1e-12)
        assert one.p_reg + other.p_reg == pytest.approx(1, abs=1e-9)


# -------------------------------------------------------------------------------------------------------- dispatch


def test_the_kind_of_the_scores_picks_the_test() -> None:
    """One row of the table each; clusters of one question are no clusters, for binary scores too."""
    rng = np.random.default_rng(23)
    before, after = (rng.integers(0, 2, 120).astype(float) for _ in range(2))
    common: dict[str, Any] = {"margin": 0.05, "alpha": 0.05}
    by_ten = [i // 2 for i in range(120)]
    plain = compare_arrays(before, after, binary=True, **common)
    loss, gain = int(((before == 1) & (after == 0)).sum()), int(((before == 0) & (after == 1)).sum())
    assert plain == paired_binary(loss, gain, 120, **common)
    assert plain == compare_arrays(before, after, binary=True, clusters=[f"s{i}" for i in range(120)], **common)
    assert plain == compare_arrays(before == 1, after == 1, binary=True, **common)
    clustered = compare_arrays(before, after, binary=True, clusters=by_ten, **common)
    means = paired_scores(before, after, clusters=by_ten, **common)
    assert (clustered.delta, clustered.p_reg, clustered.method) == (means.delta, means.p_reg, "cluster-ols")
    assert clustered.p_ni == max(means.p_ni, tango_p(loss, gain, 120, 0.05))
    assert clustered.low == pytest.approx(min(means.low, plain.low))
    assert clustered.high == pytest.approx(max(means.high, plain.high))
    assert compare_arrays(before, after, binary=False, **common) == paired_scores(before, after, **common)
    weighted = compare_arrays(before, after, binary=True, weights=np.arange(1, 121), **common)
    assert weighted.method == "wls-bits-per-byte"


def test_a_few_clustered_answers_that_all_stayed_prove_nothing() -> None:
    """Ten clusters of right answers have no variance, and yet a drop of 5 points is not excluded; 200 exclude it."""
    for size, holds in ((1, False), (20, True)):
        scores, clusters = np.ones(10 * size), [i // size for i in range(10 * size)]
        test = compare_arrays(scores, scores, binary=True, clusters=clusters, margin=0.05, alpha=0.05)
        assert (test.p_ni <= 0.05) is holds
        assert (test.low > -0.05) is holds


def test_looking_again_and_again_costs_evidence() -> None:
    """The e-value's p-value is larger than McNemar's, equal counts give no evidence, and all else stays as it was."""
    once = paired_binary(30, 10, 500, margin=0.05, alpha=0.05)
    often = paired_binary(30, 10, 500, margin=0.05, alpha=0.05, sequential=True)
    assert often.p_reg == pytest.approx(math.exp(-mcnemar_e_value(30, 10)))
    assert once.p_reg < often.p_reg < 0.05
    assert replace(often, p_reg=once.p_reg, method=once.method) == once
    assert paired_binary(10, 30, 500, margin=0.05, alpha=0.05, sequential=True).p_reg == 1


# ---------------------------------------------------------------------------------------------------------- pooled


def test_pooled_is_statsmodels_over_all_metrics() -> None:
    """Two metrics of one task and one of another: equal task weights, clusters shared within the task."""
    rng = np.random.default_rng(29)
    first, second, third = rng.normal(-0.03, 0.3, 100), rng.normal(-0.03, 0.3, 100), rng.normal(0.01, 0.2, 70)
    a, b = [f"s{i // 2}" for i in range(100)], [f"s{i}" for i in range(70)]  # the same names in another task
    test = pooled(
        [PooledMetric("a", first, a), PooledMetric("a", second, a), PooledMetric("b", third, b)],
        margin=0.02, alpha=0.025,
    )  # fmt: skip
    d = np.concatenate([first, second, third])
    groups = np.concatenate([np.arange(100) // 2, np.arange(100) // 2, 1000 + np.arange(70)]).astype(float)
    weights = np.repeat([1 / 200, 1 / 70], [200, 70])
    error, _, p_reg = statsmodels_fit(d, groups, weights, 0)
    assert test.delta == pytest.approx((np.concatenate([first, second]).mean() + third.mean()) / 2, abs=1e-12)
    assert test.p_reg == pytest.approx(p_reg, abs=1e-12)
    assert test.p_ni == pytest.approx(1 - statsmodels_fit(d, groups, weights, -0.02)[2], abs=1e-12)
    assert test.delta - test.low == pytest.approx(float(special.stdtrit(119, 0.975)) * error, rel=1e-9)
    assert (test.n, test.clusters, test.method) == (270, 120, "wls-pooled")


def test_pooled_identical_models() -> None:
    """An A/A comparison of whole suites passes outright."""
    test = pooled([PooledMetric(name, np.zeros(60), list(range(60))) for name in "abc"], margin=0.02, alpha=0.025)
    assert (test.p_reg, test.p_ni, test.low, test.high) == (1, 0, 0, 0)


# ------------------------------------------------------------------------------------------- measured error rates


def rejections(replications: int, draw: Callable[[np.random.Generator], float]) -> float:
    """Share of replications whose p-value is at most 5 %."""
    rng = np.random.default_rng(31)
    return float(np.mean([draw(rng) <= 0.05 for _ in range(replications)]))


def graded(rng: np.random.Generator, n: int, k: int = 4, drop: float = 0.0) -> tuple[Array, Array]:
    """Means of k right-or-wrong answers to n questions of unequal difficulty, by two models `drop` apart."""
    p = rng.beta(7, 3, n)
    return rng.binomial(k, p, n) / k, rng.binomial(k, np.clip(p - drop, 0, 1), n) / k


def clustered(rng: np.random.Generator, count: int, honest: bool = True) -> PairedTest:
    """500 questions in `count` clusters of unequal size, equal models, effects shared within each cluster."""
    groups = np.concatenate([np.arange(count), rng.choice(count, 500 - count, p=rng.dirichlet(np.full(count, 3)))])
    d = rng.normal(0, 0.4, 500) + rng.normal(0, 0.15, count)[groups]
    return scores_of(d, margin=0.05, clusters=groups.tolist() if honest else None)


@pytest.mark.parametrize(("n", "least"), [(30, 0.02), (100, 0.03)])
def test_false_alarms_of_scores(n: int, least: float) -> None:
    """Equal models with 4 generations per question raise an alarm in about 5 % of comparisons."""
    size = rejections(1500, lambda rng: paired_scores(*graded(rng, n), margin=0.05, alpha=0.05).p_reg)
    assert least <= size <= 0.065


def test_false_passes_of_scores() -> None:
    """A drop of exactly the margin passes in about 5 % of comparisons."""
    size = rejections(1500, lambda rng: paired_scores(*graded(rng, 100, drop=0.1), margin=0.1, alpha=0.05).p_ni)
    assert 0.030 <= size <= 0.070


@pytest.mark.parametrize(("count", "least"), [(8, 0.02), (20, 0.03), (50, 0.03)])
def test_false_alarms_with_clusters(count: int, least: float) -> None:
    """Clusters of unequal size keep the rate near 5 %, even if there are few."""
    assert least <= rejections(1000, lambda rng: clustered(rng, count).p_reg) <= 0.070


def test_ignoring_clusters_would_be_noticed() -> None:
    """The same data without their clusters raise far too many alarms: the simulation can tell."""
    assert rejections(500, lambda rng: clustered(rng, 20, honest=False).p_reg) > 0.12


def test_false_alarms_with_uneven_bytes() -> None:
    """Forty documents of very unequal length: the weighted regression alone would exceed 8 %."""

    def draw(rng: np.random.Generator) -> float:
        return scores_of(rng.normal(size=40), weights=rng.lognormal(6, 1.3, 40)).p_reg

    assert 0.03 <= rejections(1500, draw) <= 0.065


def test_binary_power_and_passes() -> None:
    """At psi = 21 %, a 5-point drop is found in 70.5 % of runs of 500 and passes a 5-point margin in about 5 %."""
    rng = np.random.default_rng(37)
    drawn = rng.multinomial(500, [0.13, 0.08, 0.79], size=4000)
    assert np.mean([mcnemar_midp(int(a), int(b)) <= 0.05 for a, b, _ in drawn]) >= 0.705
    assert 0.04 <= np.mean([tango_p(int(a), int(b), 500, 0.05) <= 0.05 for a, b, _ in drawn]) <= 0.06


# -------------------------------------------------------------------------------------------------------- refusals

GOOD: dict[str, Any] = {"margin": 0.05, "alpha": 0.05}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mcnemar_midp(-1, 2), r"loss, gain and n: expected integers >= 0, got \(-1, 2\)"),
        (lambda: mcnemar_midp(1.5, 2), r"loss, gain and n: expected integers >= 0, got \(1\.5, 2\)"),  # type: ignore[arg-type]
        (lambda: mcnemar_e_value(0, -3), r"expected integers >= 0, got \(0, -3\)"),
        (lambda: tango_p(3, 3, 5, 0.1), r"n: expected at least 1 and loss \+ gain = 6, got 5"),
        (lambda: tango_p(0, 0, 0, 0.1), r"n: expected at least 1"),
        (lambda: tango_p(1, 1, 9, 0), r"margin: expected a number above 0 and below inf, got 0"),
        (lambda: tango_p(1, 1, 9, math.inf), r"margin: .* got inf"),
        (lambda: tango_p(1, 1, 9, math.nan), r"margin: .* got nan"),
        (lambda: tango_interval(1, 1, 9, 1.0), r"confidence: expected a number above 0 and below 1, got 1\.0"),
        (lambda: paired_binary(1, 1, 9, margin=0.1, alpha=0.5), r"alpha: expected a number above 0 and below 0\.5"),
        (lambda: discordance_bound(9, 8), r"n: expected at least"),
        (lambda: discordance_bound(1, 8, confidence=0), r"confidence: "),
        (lambda: paired_scores([], [], **GOOD), r"baseline: expected shape \(n >= 1,\), got \(0,\)"),
        (lambda: paired_scores([[1]], [[1]], **GOOD), r"baseline: expected shape .* got \(1, 1\)"),
        (lambda: paired_scores([1, 2], [1], **GOOD), r"candidate: expected shape \(2,\), got \(1,\)"),
        (lambda: paired_scores([1, math.nan], [1, 1], **GOOD), r"baseline: .*finite.*nan at position 1"),
        (lambda: paired_scores([1, 1], [math.inf, 1], **GOOD), r"candidate: .*finite.*inf at position 0"),
        (lambda: paired_scores(["a", "b"], [1, 1], **GOOD), r"baseline: expected numbers"),
        (lambda: paired_scores([1], [1], **GOOD), r"clusters: expected at least 2 different ones, got 1"),
        (lambda: paired_scores([1, 2], [1, 1], clusters=["a", "a"], **GOOD), r"at least 2 different ones, got 1"),
        (lambda: paired_scores([1, 2], [1, 1], clusters=["a"], **GOOD), r"clusters: expected 2 labels"),
        (lambda: paired_scores([1, 2], [1, 1], clusters=["a", None], **GOOD), r"clusters: .*position \[1\]"),
        (lambda: paired_scores([1, 2], [1, 1], clusters=[math.nan, 1], **GOOD), r"clusters: .*position \[0\]"),
        (lambda: paired_scores([1, 2], [1, 1], weights=[1, 0], **GOOD), r"weights: expected positive numbers, got 0"),
        (lambda: paired_scores([1, 2], [1, 1], weights=[1], **GOOD), r"weights: expected shape \(2,\)"),
        (lambda: paired_scores([1, 2], [1, 1], margin=-1, alpha=0.05), r"margin: .* got -1"),
        (lambda: paired_scores([1, 2], [1, 1], margin=1, alpha=0), r"alpha: .* got 0"),
        (lambda: compare_arrays([0, 1], [0, 0.5], binary=True, **GOOD), r"candidate of a binary metric: .*\[0\.5\]"),
        (lambda: compare_arrays([0, 2], [0, 1], binary=True, **GOOD), r"baseline of a binary metric: .*\[2\.0\]"),
        (lambda: pooled([], **GOOD), r"metrics to pool: expected at least one, got 0"),
        (lambda: pooled([PooledMetric("a", [0.1, math.nan], [1, 2])], **GOOD), r"differences of task 'a': .*finite"),
        (lambda: pooled([PooledMetric("a", [0.1, 0.2], [1])], **GOOD), r"clusters of task 'a': expected 2 labels"),
        (lambda: pooled([PooledMetric("a", [0.1, 0.2], [1, None])], **GOOD), r"clusters of task 'a': .*position \[1\]"),
        (lambda: holm([0.1, 1.2]), r"p-values: expected numbers in \[0, 1\], got \[0\.1, 1\.2\]"),
        (lambda: benjamini_hochberg([math.nan, 0.1]), r"p-values: "),
        (lambda: compare_arrays([0, 0.5], [0, 1], binary=False, sequential=True, **GOOD), r"drawn in steps: "),
        (lambda: samples_needed(0.1, alpha=0.05), r"psi and sd: expected exactly one of them, got \(None, None\)"),
        (lambda: samples_needed(0.1, psi=0.2, sd=1, alpha=0.05), r"psi and sd: "),
        (lambda: samples_needed(0, psi=0.2, alpha=0.05), r"delta: expected a number above 0"),
        (lambda: samples_needed(0.1, psi=1.2, alpha=0.05), r"psi: expected a share"),
        (lambda: samples_needed(0.1, sd=-1, alpha=0.05), r"sd: expected a number >= 0, got -1"),
        (lambda: samples_needed(0.1, sd=1, alpha=0.05, power=0.3), r"power: "),
        (lambda: samples_needed(0.1, sd=1, alpha=0.05, deff=0), r"deff: "),
        (lambda: samples_needed(0.1, sd=1, alpha=0.7), r"alpha: "),
        (lambda: minimum_detectable_effect(0, psi=0.2, alpha=0.05), r"n: expected a number above 0"),
    ],
)
def test_what_cannot_be_analysed_is_refused(call: Callable[[], object], message: str) -> None:
    """The error says what is wrong, what was expected and what came."""
    with pytest.raises(ValueError, match=message):
        call()


# ----------------------------------------------------------------------------------------------------------- cost


def test_importing_the_module_imports_nothing_heavy() -> None:
    """A pytest run without a checkpoint pays for neither numpy, scipy nor statsmodels; nor does planning."""
    code = (
        "import sys; from evalgate.stats import holm, samples_needed;"
        "samples_needed(.05, psi=.2, alpha=.05); holm([.03]);"
        "print(*{'numpy', 'scipy', 'statsmodels', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_hundred_large_tasks_take_seconds() -> None:
    """100 tasks of 10 000 samples, a third of them clustered and a third of few clusters, stay below 3 s."""
    rng = np.random.default_rng(41)
    before, after = (rng.integers(0, 2, 10_000).astype(float) for _ in range(2))
    many, few = [f"document {i // 5}" for i in range(10_000)], [f"template {i % 40}" for i in range(10_000)]
    start = time.process_time()  # of this process alone: other ones on the machine are no matter
    for task in range(100):
        compare_arrays(before, after, binary=True, clusters=(None, many, few)[task % 3], margin=0.02, alpha=0.05)
    pooled([PooledMetric(str(task), after - before, many) for task in range(20)], margin=0.02, alpha=0.025)
    assert time.process_time() - start < 3
