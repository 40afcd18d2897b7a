"""The gate: policy in, verdicts out. Pure: evaluations and numbers go in, a small frozen result comes out."""

from evalgate.gate.policy import SLICE_Q, Family, Gate, Member, Outcome, Policy, Verdict
from evalgate.gate.verdicts import decide

__all__ = ["SLICE_Q", "Family", "Gate", "Member", "Outcome", "Policy", "Verdict", "decide"]
