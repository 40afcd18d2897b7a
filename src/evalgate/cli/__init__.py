"""The command line: what is done with versions and recorded evaluations.

Exit codes: 0 all is well, 1 a regression (`plan --strict`: an underpowered metric), 2 it could not be done (and one
line that says why).
"""

from __future__ import annotations

from evalgate.cli import cards, history, judge, records, tools, training, versions
from evalgate.cli.app import app, main

__all__ = ["app", "cards", "history", "judge", "main", "records", "tools", "training", "versions"]
