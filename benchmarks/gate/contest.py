"""The gate beside other rules, on the same runs: how often each is red, and how often green."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.gate import answers
from benchmarks.gate.cells import EXACT, green, red
from benchmarks.gate.rules import NAIVE, PEERS, Array, counted
from evalgate.gate import Columns, Gate, Policy, decide_columns

PSI = 0.21
OURS = {"evalgate": 0.05, "evalgate, margin 2 pt": 0.02}  # the default margin, and statgate's


@dataclass(frozen=True, slots=True)
class Contest:
    """A drop to be found with n questions.

    Attributes:
        n: questions.
        points: the true drop.
        runs: how many were simulated.
        red: rule to the share of runs that it stops.
        green: rule to the share of runs that it calls good.
    """

    n: int
    points: float
    runs: int
    red: Mapping[str, float]
    green: Mapping[str, float]


def contest(n: int, points: float, runs: int) -> Contest:
    """Let every rule judge the same runs."""
    before, after = answers.two_models(np.random.default_rng((n, int(10 * points))), runs, n, PSI, points / 100)
    judged = {rule.name: rule.judge(counted(before, after)) for rule in (*NAIVE, *PEERS)}
    judged |= {name: _ours(before, after, margin) for name, margin in OURS.items()}
    shares = {name: [float(np.mean(said)) for said in both] for name, both in judged.items()}
    return Contest(n, points, runs, *({name: both[side] for name, both in shares.items()} for side in (0, 1)))


def _ours(before: Array, after: Array, margin: float) -> tuple[Array, Array]:
    families = [
        decide_columns(
            [Columns(task="suite/task", metric=EXACT, baseline=was, candidate=now, gate=Gate(margin=margin))], Policy()
        )
        for was, now in zip(before, after, strict=True)
    ]
    return np.array([red(family) for family in families]), np.array([green(family) for family in families])
