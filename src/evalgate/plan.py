"""The plan: the selected tasks' requests, rendered and de-duplicated."""

from __future__ import annotations
