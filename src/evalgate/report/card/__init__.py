"""The model card: what it is made of, and its HTML. Each section has a module here and a template of the same name."""

from __future__ import annotations

from evalgate.report.card.data import CardData, Costs
from evalgate.report.card.html import render_card

__all__ = ["CardData", "Costs", "render_card"]
