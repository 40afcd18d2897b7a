"""Two columns of scores by the test that their kind calls for."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from evalgate.stats.arguments import codes_of, require, vector
from evalgate.stats.binary import paired_binary, tango_interval, tango_p
from evalgate.stats.means import paired_scores
from evalgate.stats.paired import PairedTest

if TYPE_CHECKING:
    import numpy.typing as npt

    from evalgate.stats.arguments import Vector


def compare_arrays(
    baseline: npt.ArrayLike, candidate: npt.ArrayLike, *, binary: bool, margin: float, alpha: float,
    clusters: Sequence[Hashable] | Vector | None = None, weights: npt.ArrayLike | None = None, sequential: bool = False,
) -> PairedTest:  # fmt: skip
    """Compare two columns of scores by the test that their kind calls for.

    `binary` promises scores of 0 and 1 (one generation per question): independent ones are counted (`paired_binary`).
    All else is a comparison of means (`paired_scores`). Clusters of one question each are no clusters. Clustered right
    or wrong answers are no less uncertain than independent ones: their p_ni and interval cover Tango's too, without
    which a few identical answers would have a standard error of 0 and prove whatever was asked.

    `sequential` see `paired_binary`; only counted answers can be looked at again and again.
    """
    before = vector(baseline, "baseline")
    n = len(before)
    after = vector(candidate, "candidate", n)
    if binary:
        for what, scores in (("baseline", before), ("candidate", after)):
            odd = scores[(scores != 0) & (scores != 1)]
            require(not odd.size, f"{what} of a binary metric", "only 0 and 1", odd[:1].tolist())
        if weights is None and (clusters is None or int(codes_of(clusters, n).max()) + 1 == n):
            loss, gain = int((after < before).sum()), int((after > before).sum())
            return paired_binary(loss, gain, n, margin=margin, alpha=alpha, sequential=sequential)
    require(not sequential, "samples drawn in steps", "right-or-wrong answers without clusters or weights", "others")
    test = paired_scores(before, after, margin=margin, alpha=alpha, clusters=clusters, weights=weights)
    if not binary or weights is not None:
        return test
    low, high = tango_interval(test.loss, test.gain, n, 1 - 2 * alpha)
    p_ni = max(test.p_ni, tango_p(test.loss, test.gain, n, margin))
    return replace(test, p_ni=p_ni, low=min(test.low, low), high=max(test.high, high))
