"""The statistics of the gate: pure functions from arrays to p-values, intervals and sample sizes.

Scores are oriented so that higher is better; a difference is candidate minus baseline. Two one-sided questions:
`p_reg`, is the candidate worse (H0 delta >= 0), and `p_ni`, is it worse by less than the margin (H0 delta <= -margin)?
numpy and scipy are imported inside the functions: a pytest run without a checkpoint never pays for them.

Arguments mean the same everywhere, and what breaks these rules is a ValueError that says what was expected and given:

- `loss`, `gain`: questions that only the baseline, or only the candidate, got right; integers >= 0, together at most n;
- `baseline`, `candidate`: finite scores of the same questions in the same order, in the metric's units, shape (n,);
- `clusters`: n labels; questions of one document, template or passage share theirs. `weights`: n positive numbers;
- `margin`: the largest tolerated drop, > 0, in the units of the scores (for loss and gain a share of 1);
- `alpha`: level of each one-sided test, in (0, .5); intervals are two-sided with confidence 1 - 2·alpha.
"""

from evalgate.stats.agreement import (
    Estimate,
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
from evalgate.stats.arrays import compare_arrays
from evalgate.stats.binary import mcnemar_e_value, mcnemar_midp, paired_binary, tango_interval, tango_p
from evalgate.stats.labels import prediction_powered
from evalgate.stats.means import FEW_CLUSTERS, PooledMetric, paired_scores, pooled
from evalgate.stats.multiplicity import benjamini_hochberg, holm
from evalgate.stats.paired import PairedTest
from evalgate.stats.power import discordance_bound, minimum_detectable_effect, samples_needed

__all__ = [
    "FEW_CLUSTERS",
    "Estimate",
    "PairedTest",
    "PooledMetric",
    "benjamini_hochberg",
    "cohen_kappa",
    "compare_arrays",
    "discordance_bound",
    "flip_rate",
    "holm",
    "krippendorff_alpha",
    "mcnemar_e_value",
    "mcnemar_midp",
    "minimum_detectable_effect",
    "paired_binary",
    "paired_scores",
    "pooled",
    "position_consistency",
    "prediction_powered",
    "require_evalica",
    "samples_needed",
    "side_error",
    "tango_interval",
    "tango_p",
    "true_rates",
    "weighted_kappa",
    "wilson",
]
