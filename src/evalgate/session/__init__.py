"""One gated run, from collected tasks to verdicts, records and cards; it knows no pytest."""

from evalgate.session.reports import Report
from evalgate.session.run import Session
from evalgate.session.words import Candidate, Declared, Selected

__all__ = ["Candidate", "Declared", "Report", "Selected", "Session"]
