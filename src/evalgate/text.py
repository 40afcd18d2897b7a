"""How numbers, and what was typed, read in the terminal, the card and the command line. Minus is always worse."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evalgate.compare import Comparison
    from evalgate.evaluation import Metric


def _decimal(value: float, digits: int, *, sign: bool) -> str:
    """A fixed number of digits, with a plus where signs are asked for, and no sign at all on what rounds to zero."""
    return f"{round(value, digits) or 0.0:{'+' if sign and round(value, digits) else ''}.{digits}f}"


def points(share: float, *, sign: bool = True) -> str:
    """A share of a metric's range in points, its hundredths: `-6.2 pt`."""
    return f"{_decimal(100 * share, 1, sign=sign)} pt"


def percent(share: float, *, sign: bool = True) -> str:
    """A share of something else, such as the baseline's bits per byte: `-1.3 %`."""
    return f"{_decimal(100 * share, 1, sign=sign)} %"


def share(value: float) -> str:
    """A metric's value: `.914`, `1.000`, `23.4`, `1200`."""
    size = abs(value)
    text = _decimal(value, 3 if size < 10 else 1 if size < 1000 else 0, sign=False)
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def probability(p: float) -> str:
    """A p-value or a level: `.012`, `1`, `< .0001`."""
    return "< .0001" if p < 0.0001 else f"{p:.2g}".removeprefix("0")


def p_value(p: float, letter: str = "p") -> str:
    """How a sentence says a p-value, or a q-value: `p = .012`, `q < .0001`."""
    said = probability(p)
    return f"{letter} {said}" if said.startswith("<") else f"{letter} = {said}"


def effect(amount: float, metric: Metric, baseline: float, *, sign: bool = True) -> str:
    """A difference or margin: in points of the metric's range, or in per cent of the baseline where it has none.

    Args:
        amount: in the metric's own units, oriented so that higher is better.
        metric: what was measured.
        baseline: the baseline's mean, in the metric's own units.
        sign: whether a gain carries a plus.
    """
    if metric.range is not None:
        return points(amount / metric.range, sign=sign)
    return percent(amount / abs(baseline) if baseline else 0.0, sign=sign)


def interval(low: float, high: float, metric: Metric, baseline: float) -> str:
    """Both ends of an interval in the units of `effect`, which are not repeated: `[-9.1, -3.4]`."""
    low_text, high_text = (effect(end, metric, baseline).split()[0] for end in (low, high))
    return f"[{low_text}, {high_text}]"


def headline(comparison: Comparison) -> str:
    """A comparison in numbers: `-6.2 pt [-9.1, -3.4]  n=500  was .914, now .852`."""
    metric, test, before = comparison.metric, comparison.test, comparison.baseline
    direction = "" if metric.higher_is_better else " (lower is better)"
    return (
        f"{effect(test.delta, metric, before)} {interval(test.low, test.high, metric, before)}"
        f"  n={test.n}  was {share(before)}, now {share(comparison.candidate)}{direction}"
    )


def listed(items: Sequence[str], limit: int = 5) -> str:
    """The first items and how many more there are: `a, b and 12 more`."""
    rest = len(items) - limit
    return ", ".join(items[:limit]) + (f" and {rest} more" if rest > 0 else "")


def typed(*words: str) -> str:
    """A command as it was typed, for a shell, but without the secrets of its addresses: it is kept and published."""
    return shlex.join(map(without_secrets, words))


def without_secrets(said: str) -> str:
    """Text whose addresses have neither user nor password nor query: a signed link is a key."""
    return re.sub(r"://(?:[^\s/?#]*@)?([^\s?'\"]*)(?:\?[^\s'\"]*)?", r"://\1", said)
