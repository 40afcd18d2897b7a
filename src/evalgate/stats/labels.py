"""Scores of a judge, corrected by the human labels that some of the questions have; the one door to ppi_py."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from evalgate.errors import MissingExtraError
from evalgate.stats.arguments import require, require_inside, vector
from evalgate.stats.paired import PairedTest

if TYPE_CHECKING:
    import numpy.typing as npt

_ROUNDING = 1e-12


def prediction_powered(
    judged: npt.ArrayLike, human: npt.ArrayLike, labelled: npt.ArrayLike, *, margin: float, alpha: float
) -> PairedTest:
    """Compare two checkpoints by a judge's scores, where people have labelled both answers to some of the questions.

    The judge's differences on all other questions give the precision, the labelled ones say how far the judge errs in
    favour of one side: an error that hits both alike cancels, one that does not would be taken for a regression or hide
    one. Normal, so it wants some dozens of labels. Source: Angelopoulos, Duchi & Zrnic 2023, PPI++, arXiv:2311.01453;
    computed by `ppi_py`.

    Args:
        judged: candidate minus baseline as judged, shape (n,).
        human: candidate minus baseline as people see the labelled questions, shape (m,), in the order of `labelled`.
        labelled: positions among n of the questions that people labelled, shape (m,); at least 2, and not all.
        margin: see the package.
        alpha: see the package.

    Returns:
        `delta` and the interval are the corrected ones; `loss`, `gain`, `discordance` and `sd` are the judge's.

    Raises:
        MissingExtraError: ppi_py is not installed.
        ValueError: arguments that are none.
    """
    try:
        from ppi_py import ppi_mean_ci, ppi_mean_pointestimate, ppi_mean_pval
    except ImportError:
        raise MissingExtraError("ppi_py", "ppi") from None
    import numpy as np

    d, truth = vector(judged, "judged differences"), vector(human, "human differences")
    places = np.asarray(labelled, dtype=np.intp)
    require_inside(margin, "margin", 0, math.inf)
    require_inside(alpha, "alpha", 0, 0.5)
    require(2 <= len(places) < len(d), "labelled questions", f"from 2 to {len(d) - 1}", len(places))
    require(len(truth) == len(places), "human differences", f"{len(places)}, one per labelled question", len(truth))
    inside = bool(((places >= 0) & (places < len(d))).all()) and len(np.unique(places)) == len(places)
    require(inside, "labelled questions", f"different positions from 0 to {len(d) - 1}", places.tolist()[:10])
    rest = np.ones(len(d), dtype=bool)
    rest[places] = False
    n, m = len(d), len(places)
    # How much the judge is listened to (PPI++, section 6): 0 where its differences say nothing about people's.
    spread = float(d.var(ddof=1)) * (1 + m / (n - m))
    weight = float(np.clip(np.cov(truth, d[places])[0, 1] / spread, 0, 1)) if spread else 0.0
    sides = truth, d[places], d[rest]
    delta = float(ppi_mean_pointestimate(*sides, lam=weight)[0])
    low, high = (float(end[0]) for end in ppi_mean_ci(*sides, alpha=2 * alpha, lam=weight))
    if high - low > _ROUNDING:
        p_reg = float(np.squeeze(ppi_mean_pval(*sides, null=0.0, alternative="smaller", lam=weight)))
        p_ni = float(np.squeeze(ppi_mean_pval(*sides, null=-margin, alternative="larger", lam=weight)))
    else:  # nothing varies, so there is no error to divide by
        p_reg, p_ni = float(delta >= -_ROUNDING), float(delta + margin <= _ROUNDING)
    loss, gain, sd = int((d < 0).sum()), int((d > 0).sum()), float(d.std(ddof=1))
    return PairedTest(delta, low, high, p_reg, p_ni, n, n, loss, gain, (loss + gain) / n, sd, "prediction-powered")
