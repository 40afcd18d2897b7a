"""What a person reads: cards, the page of all versions, the words of CI, and the lines in the terminal."""

from __future__ import annotations

from evalgate.report.card import CardData, Costs, render_card
from evalgate.report.past import Past, PastMetric

__all__ = ["CardData", "Costs", "Past", "PastMetric", "render_card"]
