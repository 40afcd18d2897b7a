"""The versions that were gated: what is known of each, and the page and the table that show it."""

from __future__ import annotations

from evalgate.report.past.history import Past, PastMetric, measure_of

__all__ = ["Past", "PastMetric", "measure_of"]
