"""Histories to draw and to tell: versions of a shop's assistant, and one that is hostile in every field."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from evalgate.report import Past, PastMetric

SUMS, ORDERS, PROSE, CHRF = (
    "arithmetic/sums::exact_match",
    "orders/orders::same_order",
    "prose/heldout::bits_per_byte",
    "prose/heldout::chrf",
)


def compared(value: float, baseline: float, outcome: str = "PASS", measure: str = "today") -> PastMetric:
    """A right-or-wrong metric of 450 samples."""
    d = value - baseline
    return PastMetric(outcome, True, value, baseline, d - 0.03, d + 0.03, 450, measure)


def bits(value: float) -> PastMetric:
    """A metric without a range, where lower is better."""
    return PastMetric("PASS", True, value, 1.31, 1.31 - value - 0.02, 1.31 - value + 0.02, 120, "prose", False, None)


def version(number: int, sums: PastMetric, orders: PastMetric, prose: PastMetric) -> Past:
    """One version: four metrics, of which the last informs."""
    chrf = PastMetric("REGRESSION", False, 48.0, 50.0, -3.0, -1.0, 120, "prose", True, 100.0)
    metrics = {SUMS: sums, ORDERS: orders, PROSE: prose, CHRF: chrf}
    outcome = "REGRESSION" if sums.outcome == "REGRESSION" else "PASS"
    return Past(
        name=f"v{number}",
        digest=f"sha256:{number}",
        outcome=outcome,
        blocked=outcome != "PASS",
        reason="1 of 3 metrics REGRESSION: arithmetic/sums::exact_match" if outcome != "PASS" else "all 3 metrics pass",
        at=f"2026-11-{10 + number}T09:12:00+00:00",
        metrics=metrics,
        card=f"v{number}/index.html",
    )


def shop() -> list[Past]:
    """Six versions; orders were asked otherwise in the first two, v3 and v6 forgot sums, v5 is the champion."""
    worse = "REGRESSION"
    made = [
        version(1, compared(0.90, 0.90), compared(0.60, 0.60, measure="before"), bits(1.31)),
        version(2, compared(0.92, 0.90), compared(0.66, 0.60, measure="before"), bits(1.30)),
        version(3, compared(0.66, 0.90, worse), compared(0.70, 0.60), bits(1.28)),
        version(4, compared(0.93, 0.90), compared(0.71, 0.60), bits(1.29)),
        version(5, compared(0.94, 0.90), compared(0.74, 0.60, "INCONCLUSIVE"), bits(1.25)),
        version(6, compared(0.60, 0.90, worse), compared(0.73, 0.60), bits(1.40)),
    ]
    made[0] = replace(made[0], baseline=3)
    made[2] = replace(made[2], card=None)
    made[4] = replace(made[4], aliases=("champion", "nightly"), partial=("reviews/sentiment::exact_match",))
    return made


def hostile(texts: Iterable[str]) -> list[Past]:
    """A version per text, which stands in every field."""
    return [
        Past(
            name=text,
            digest=text,
            outcome=text,
            blocked=True,
            reason=text,
            at=text,
            metrics={
                f"{text}::{text}": PastMetric(text, True, 0.5 + i / 1000, 0.5, -0.1, 0.1, 9, text),
                f"{text}::lost": PastMetric(text, True),
                "shared/task::metric": PastMetric(text, True, 0.5, measure=text if i % 2 else "same"),
            },
            partial=(text,),
            aliases=(text,),
            baseline=i,
            card=text,
        )
        for i, text in enumerate(texts)
    ]
