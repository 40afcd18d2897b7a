"""What a comparison is: differences by name, slices, the result, and the paired scores behind it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from evalgate.evaluation import Metric

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from evalgate.stats import PairedTest

    Vector = npt.NDArray[np.float64]
    Positions = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Difference:
    """One field in which two evaluations differ, so that they are refused or, by policy, compared with a warning."""

    field: str
    candidate: str
    baseline: str

    def __str__(self) -> str:
        return f"{self.field}: candidate {self.candidate}, baseline {self.baseline}"


@dataclass(frozen=True, slots=True)
class Paired:
    """The rows of two evaluations that answer the same questions, sorted by sample id, with one metric's scores.

    Attributes:
        positions: of these rows among the candidate's.
        candidate, baseline: scores in the metric's own units; equal where they differ by rounding only.
        difference: candidate minus baseline, negated where lower is better.
        clusters: one number per row; `None` where every question stands for itself.
        weights: of a weighted metric, else `None`.
    """

    positions: Positions
    candidate: Vector
    baseline: Vector
    difference: Vector
    clusters: Positions | None
    weights: Vector | None


@dataclass(frozen=True, slots=True)
class SliceResult:
    """One value of one slice: exploratory, so it only warns, unless the task says that the slice blocks.

    Attributes:
        name, value: such as `digits`, `2`.
        n: paired samples in it.
        candidate, baseline: means in the metric's own units.
        delta: mean oriented difference (higher is better) as a share of the range, or of the baseline's mean in the
            whole task where the metric has no range.
        p_reg: one-sided p-value; `None` below 5 samples.
        q: Benjamini-Hochberg over all slices of the family; `None` until the family is known.
        blocking: it is gated like a metric.
        p_ni: one-sided p-value of non-inferiority within the metric's margin; `None` below 5 samples.
        p_adjusted: Holm-adjusted p_reg of a blocking slice; `None` until the family is known.
    """

    name: str
    value: str
    n: int
    candidate: float
    baseline: float
    delta: float
    p_reg: float | None
    q: float | None = None
    blocking: bool = False
    p_ni: float | None = None
    p_adjusted: float | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric of one task, candidate against baseline, paired sample by sample.

    Attributes:
        task, metric: what was compared.
        baseline_digest: of the accepted evaluation.
        same_weights: candidate and baseline are the same checkpoint (an A/A comparison).
        candidate, baseline: means over the paired samples in the metric's own units.
        margin: largest tolerated drop in the metric's own units.
        test: differences, oriented so that higher is better, in the metric's own units.
        pairs: the scores behind it.
        broken, fixed: ids of samples that got worse and better (d < 0, d > 0), sorted.
        golden_broken: golden samples that were right before and are wrong now.
        only_candidate, only_baseline: ids that found no partner.
        slices: one entry per slice value, worst first.
        notes: differences that the policy lets pass with a warning (engine, dtype, device, seed).
    """

    task: str
    metric: Metric
    baseline_digest: str
    same_weights: bool
    candidate: float
    baseline: float
    margin: float
    test: PairedTest
    pairs: Paired = field(repr=False, compare=False)
    broken: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    golden_broken: tuple[str, ...] = ()
    only_candidate: tuple[str, ...] = ()
    only_baseline: tuple[str, ...] = ()
    slices: tuple[SliceResult, ...] = ()
    notes: tuple[Difference, ...] = ()

    @property
    def worst_slice(self) -> SliceResult | None:
        """The slice with the largest drop, if any slice dropped."""
        return next((s for s in self.slices if s.delta < 0), None)
