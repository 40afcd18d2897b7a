"""Experiment trackers and the model registry: what a training and its gate were, where a team already looks.

Curves come from the trainer, through transformers' own callbacks (`evalgate.training.tracking`). What is known after
them, digests, verdicts and cards, is written here into the same runs, each tracker in a child process of its own: these
libraries are heavy, print, start threads and wait for servers. A tracker that fails is shown and changes no verdict.
"""

from __future__ import annotations

from evalgate.trackers.note import Note, note_of
from evalgate.trackers.process import write_all
from evalgate.trackers.registry import mirror
from evalgate.trackers.settings import environment

__all__ = ["Note", "environment", "mirror", "note_of", "write_all"]
