"""Other gates' rules for right-or-wrong answers, from counts to red or green, at each tool's own defaults.

Written from the tools' public code; each rule names it. What a rule calls neither red nor green is undecided.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Counts:
    """Of many runs on n questions: how many both sides got right, and on how many only one did; shape (runs,)."""

    n: int
    before: Array
    after: Array
    loss: Array
    gain: Array

    @property
    def drop(self) -> Array:
        """Baseline's share minus the candidate's."""
        return (self.loss - self.gain) / self.n


@dataclass(frozen=True, slots=True)
class Rule:
    """A gate: which runs it stops (red) and which it lets through as good (green)."""

    name: str
    source: str
    judge: Callable[[Counts], tuple[Array, Array]]


def counted(before: Array, after: Array) -> Counts:
    """From answers of shape (runs, n)."""
    n = before.shape[1]
    return Counts(n, before.sum(1), after.sum(1), (before & ~after).sum(1), (after & ~before).sum(1))


def _drop_of(points: float) -> Callable[[Counts], tuple[Array, Array]]:
    def judge(counts: Counts) -> tuple[Array, Array]:
        red = counts.drop > points / 100 + 1e-12
        return red, ~red

    return judge


def _two_sigma(counts: Counts) -> tuple[Array, Array]:
    red = _unpaired_z(counts) > 2
    return red, ~red


def _unpaired_z(counts: Counts) -> Array:
    """The drop over the root of both sides' squared standard errors, as if they had answered other questions."""
    shares = counts.before / counts.n, counts.after / counts.n
    squared = sum(share * (1 - share) / (counts.n - 1) for share in shares)
    return np.asarray(counts.drop / np.sqrt(np.maximum(squared, 1e-300)))


def _model_comparator(counts: Counts) -> tuple[Array, Array]:
    """Two-tailed z of two results' accuracies and standard errors, p > .05; a gain can be red too."""
    red = 2 * stats.norm.sf(abs(_unpaired_z(counts))) <= 0.05
    return red, ~red


def _vllm_accuracy(counts: Counts) -> tuple[Array, Array]:
    """numpy.isclose(expected, measured, rtol=.05); a gain can be red too."""
    green = np.isclose(counts.before / counts.n, counts.after / counts.n, rtol=0.05)
    return ~green, green


def _evalproof(counts: Counts) -> tuple[Array, Array]:
    """Red where the drop is .02 or more and the exact two-sided McNemar p below .05."""
    p = 2 * stats.binom.cdf(np.minimum(counts.loss, counts.gain), counts.loss + counts.gain, 0.5)
    red = (counts.drop >= 0.02) & (p < 0.05)
    return red, ~red


def _statgate(counts: Counts) -> tuple[Array, Array]:
    """The 95 % BCa bootstrap interval of the mean difference (10 000 resamples) wholly below, or above, -.02."""
    pairs, which = np.unique(np.stack([counts.loss, counts.gain]), axis=1, return_inverse=True)
    ends = np.array([_bca(int(loss), int(gain), counts.n) for loss, gain in pairs.T])[which.ravel()]
    return ends[:, 1] < -0.02, ends[:, 0] > -0.02


def _bca(loss: int, gain: int, n: int) -> tuple[float, float]:
    """BCa interval (Efron 1987) of a mean of so many -1, +1 and 0: a resample of them is a multinomial draw."""
    delta = (gain - loss) / n
    if not loss + gain:
        return delta, delta
    rng = np.random.default_rng((loss, gain, n))
    drawn = rng.multinomial(n, [loss / n, gain / n, 1 - (loss + gain) / n], size=10_000)
    means = (drawn[:, 1] - drawn[:, 0]) / n
    below = np.mean(means < delta) + np.mean(means == delta) / 2
    bias = stats.norm.ppf(np.clip(below, 1e-4, 1 - 1e-4))
    centred, often = np.array([-1, 1, 0]) - delta, np.array([loss, gain, n - loss - gain])
    skew = (often * centred**3).sum() / (6 * (often * centred**2).sum() ** 1.5)
    tails = bias + np.array([-1, 1]) * stats.norm.ppf(0.975)
    low, high = np.quantile(means, stats.norm.cdf(bias + tails / (1 - skew * tails)))
    return float(low), float(high)


NAIVE = (
    Rule("any drop", "red where the mean is lower", _drop_of(0)),
    Rule("drop > 1 pt", "a fixed tolerance", _drop_of(1)),
    Rule("drop > 2 pt", "a fixed tolerance", _drop_of(2)),
    Rule("drop > 5 pt", "a fixed tolerance", _drop_of(5)),
    Rule("unpaired 2σ", "drop over both standard errors", _two_sigma),
)
PEERS = (
    Rule(
        "lm-eval comparator",
        "two-tailed z of both standard errors at .05: lm-evaluation-harness, `scripts/model_comparator.py`",
        _model_comparator,
    ),
    Rule(
        "vLLM accuracy CI",
        "`isclose(rtol=.05)`: vLLM, `.buildkite/lm-eval-harness/test_lm_eval_correctness.py`",
        _vllm_accuracy,
    ),
    Rule(
        "statgate",
        "95 % BCa interval of the paired mean against 2 pt: statgate 0.1.1, `verdict.py`, `core/bootstrap.py`",
        _statgate,
    ),
    Rule(
        "evalproof",
        "drop of 2 pt or more and exact McNemar p < .05: evalproof 0.2.1, `gate.py`, `compare.py`",
        _evalproof,
    ),
)
