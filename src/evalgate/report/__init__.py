"""What a person reads: the card (one HTML file) and the lines in the terminal."""

from __future__ import annotations

from evalgate.report.card import CardData, render_card, write_card

__all__ = ["CardData", "render_card", "write_card"]
