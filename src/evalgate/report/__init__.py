"""What a person reads: the card (one HTML file) and the lines in the terminal."""

from __future__ import annotations

from evalgate.report.card import CardData, Costs, render_card, write_card
from evalgate.report.history import Past, PastMetric

__all__ = ["CardData", "Costs", "Past", "PastMetric", "render_card", "write_card"]
