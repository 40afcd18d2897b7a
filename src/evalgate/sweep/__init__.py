"""Search for the best candidate that the gate lets through: Optuna, or Ray Tune where several can run at once."""

from __future__ import annotations

from evalgate.sweep.definition import Dimension, Pruning, Sweep, load_sweep
from evalgate.sweep.run import run_sweep
from evalgate.sweep.trial import Done, Outcome, best, table

__all__ = ["Dimension", "Done", "Outcome", "Pruning", "Sweep", "best", "load_sweep", "run_sweep", "table"]
