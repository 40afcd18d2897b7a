"""Simulated answers of two models to the same questions, and of the judges who grade them.

A question's difficulty is its chance p to be answered rightly, drawn from a Beta with mean .70; each model then answers
by itself. The Beta's spread sets psi, the share of questions on which two equal models differ: the closer the p are to
0 and 1, the more often both agree. A drop of x points multiplies every p of the candidate by 1 - x/70, so that the mean
falls by exactly x.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
MEAN = 0.70


def spread(psi: float) -> tuple[float, float]:
    """The parameters of the Beta of difficulties with which two equal models differ on a share psi < .42."""
    size = psi / (2 * MEAN * (1 - MEAN) - psi)
    return MEAN * size, (1 - MEAN) * size


def discordance(psi: float, drop: float) -> float:
    """The share of questions on which a candidate that drops differs, where an equal one would on a share psi."""
    squared = MEAN - psi / 2  # E[p²]
    return 2 * MEAN - drop - 2 * (1 - drop / MEAN) * squared


def equal_psi(psi: float, drop: float) -> float:
    """The inverse: the psi of two equal models with which a candidate that drops differs on a share psi."""
    return 2 * MEAN - (2 * MEAN - drop - psi) / (1 - drop / MEAN)


def two_models(rng: np.random.Generator, runs: int, n: int, psi: float, drop: float = 0.0) -> tuple[Array, Array]:
    """Right-or-wrong answers of baseline and candidate, each of shape (runs, n)."""
    p = rng.beta(*spread(psi), size=(runs, n))
    return rng.random((runs, n)) < p, rng.random((runs, n)) < p * (1 - drop / MEAN)


def selected(rng: np.random.Generator, runs: int, n: int, psi: float, among: int) -> tuple[Array, Array]:
    """A baseline that is the best on these questions of so many equal models, and a further equal one."""
    p = rng.beta(*spread(psi), size=(runs, 1, n))
    answers = rng.random((runs, among, n)) < p
    best = answers.sum(axis=2).argmax(axis=1)
    return answers[np.arange(runs), best], rng.random((runs, n)) < p[:, 0]


def averaged(
    rng: np.random.Generator, runs: int, n: int, psi: float, generations: int, drop: float = 0.0
) -> tuple[Array, Array]:
    """Means over K generations of two models that are equal on the whole but not question by question.

    Without a drop half of the candidate's questions have a difficulty of their own.
    """
    p = rng.beta(*spread(psi), size=(runs, n))
    other = p * (1 - drop / MEAN)
    if not drop:
        other = np.where(rng.random((runs, n)) < 0.5, p, rng.beta(*spread(psi), size=(runs, n)))
    return rng.binomial(generations, p) / generations, rng.binomial(generations, other) / generations


def clustered(
    rng: np.random.Generator, n: int, psi: float, clusters: int, icc: float, drop: float = 0.0
) -> tuple[Array, Array, Array]:
    """Answers of two models and the questions' clusters, each of shape (n,), for one run.

    Sizes are unequal (a Dirichlet's shares). A model answers a question rightly where a uniform number is below p; for
    a share of the questions that number is the model's and cluster's common one, which makes it do well or badly on a
    whole document without changing its mean. `icc` is the correlation of these differences within a cluster.
    """
    sizes = 1 + rng.multinomial(n - clusters, rng.dirichlet(np.full(clusters, 2.0)))
    of = np.repeat(np.arange(clusters), sizes)
    p = rng.beta(*spread(psi), size=n)
    share = math.sqrt(icc / _common(psi, drop))

    def answered(chances: Array) -> Array:
        common = rng.random(clusters)[of]
        return np.where(rng.random(n) < share, common, rng.random(n)) < chances

    return answered(p), answered(p * (1 - drop / MEAN)), of


@cache
def _common(psi: float, drop: float) -> float:
    """The correlation of two questions' differences if each model answered every cluster by one number.

    A model whose chances are k·p has the covariance E[min(kp, kp')] - E[kp]², where E[min(p, p')] = ∫ P(p > t)² dt; the
    variance is the share of differing answers less drop².
    """
    from scipy.integrate import quad
    from scipy.special import betainc

    a, b = spread(psi)
    least, _ = quad(lambda t: (1 - betainc(a, b, t)) ** 2, 0, 1)
    kept = 1 - drop / MEAN
    covariance = sum(k * least - (k * MEAN) ** 2 for k in (1, kept))
    return float(covariance / (discordance(psi, drop) - drop**2))


def skewed(rng: np.random.Generator, clusters: int, size: int) -> tuple[Array, Array, Array]:
    """Scores of two models whose difference is 0 on the whole: a little worse on most documents, much better on few."""
    of = np.repeat(np.arange(clusters), size)
    a, b = 0.25, 2.25
    change = 0.5 * (rng.beta(a, b, clusters) - a / (a + b))[of]
    before = rng.uniform(0.2, 0.4, clusters * size)
    return before, before + change + rng.normal(0, 0.01, clusters * size), of


def judged(
    rng: np.random.Generator, runs: int, n: int, psi: float, missed: tuple[float, float]
) -> tuple[Array, Array, Array]:
    """What a judge says of two equal models' answers, and the true differences; each of shape (runs, n).

    The judge takes right answers for wrong ones at the rate `missed` of the baseline, and of the candidate.
    """
    before, after = two_models(rng, runs, n, psi)
    seen = [side & (rng.random((runs, n)) >= rate) for side, rate in zip((before, after), missed, strict=True)]
    return seen[0], seen[1], after.astype(float) - before
