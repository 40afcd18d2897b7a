"""The paired difference of two evaluations of one task, or the named reasons why there is none."""

from evalgate.compare.comparable import COVERAGE, MIN_PAIRS, incomparable, tolerated
from evalgate.compare.metric import MIN_LABELS, Labels, compare, compare_pairs
from evalgate.compare.pairing import paired
from evalgate.compare.words import Comparison, Difference, Paired, SliceResult

__all__ = [
    "COVERAGE",
    "MIN_LABELS",
    "MIN_PAIRS",
    "Comparison",
    "Difference",
    "Labels",
    "Paired",
    "SliceResult",
    "compare",
    "compare_pairs",
    "incomparable",
    "paired",
    "tolerated",
]
