"""The gate: policy in, verdicts out. Pure: evaluations and numbers go in, a small frozen result comes out."""

from evalgate.gate.columns import Columns, decide_columns
from evalgate.gate.family import decide, expected_false_alarms
from evalgate.gate.policy import CONFIRM, SLICE_Q, Family, Gate, Member, Outcome, Policy, Verdict

__all__ = [
    "CONFIRM",
    "SLICE_Q",
    "Columns",
    "Family",
    "Gate",
    "Member",
    "Outcome",
    "Policy",
    "Verdict",
    "decide",
    "decide_columns",
    "expected_false_alarms",
]
