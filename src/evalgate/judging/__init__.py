"""Judging: who judges (`bench`), how they are asked (`hearing`), and every case in one batch (`judges`)."""

from __future__ import annotations

from evalgate.judging.judges import Judges

__all__ = ["Judges"]
