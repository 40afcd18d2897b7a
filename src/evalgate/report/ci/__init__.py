"""What a session tells its CI: a comment, a summary, annotations. Pure: objects in, text out, and nothing is written.

All of it may hold what models and data files wrote, and each format has a door of its own: `safe` for what a runner
reads, `inline` and `fenced` for Markdown, JSON for machines.
"""

from __future__ import annotations

from evalgate.report.ci.annotation import Annotation, annotate
from evalgate.report.ci.comment import LIMIT, MARKER, comment
from evalgate.report.ci.words import Links, Place, Told

__all__ = ["LIMIT", "MARKER", "Annotation", "Links", "Place", "Told", "annotate", "comment"]
