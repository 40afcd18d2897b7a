"""Leaked samples: the verdict on all samples and the one on those that the candidate was not trained on, made one."""

from __future__ import annotations

from dataclasses import replace

from evalgate import text
from evalgate.gate.examine import Case
from evalgate.gate.policy import Outcome, Verdict


def on_both(case: Case, whole: Verdict, clean: Verdict) -> Verdict:
    """The verdict on all samples with the one on clean samples beside it; INCOMPARABLE where they say different things.

    A golden sample that broke although it was trained on stays broken, whatever the rest says.

    Args:
        case: all samples.
        whole: the verdict on it.
        clean: the verdict where the leaked ones are left out.
    """
    comparison, left_out = whole.comparison, case.leaked
    if comparison is None or not left_out:
        return whole
    said = f"{len(left_out)} samples stand in the training text"
    guards = sorted(left_out.intersection(case.member.golden))
    said += f" (golden: {text.listed(guards)})" if guards else ""
    unseen = _slices_lost(whole, clean)
    if unseen:
        clean = replace(clean, outcome=Outcome.INCOMPARABLE, reason=f"no clean samples of {text.listed(unseen)}")
    wants = whole.wants_reserve or (case.reserve and clean.wants_reserve)
    seen = replace(whole, clean=clean, leaked=len(left_out), wants_reserve=wants)
    on_clean = f"on the {n:,} clean ones" if (n := clean_samples(clean)) else "on clean ones"
    if whole.outcome is clean.outcome or comparison.golden_broken:
        numbers = text.headline(clean.comparison) if clean.comparison else clean.reason
        return replace(seen, reason=f"{whole.reason}; {said}, {on_clean} {clean.outcome}: {numbers}")
    why = f"{said}; {whole.outcome} on all samples, {on_clean} {clean.outcome}: {clean.reason}"
    return replace(
        seen,
        outcome=Outcome.INCOMPARABLE,
        reason=f"{text.headline(comparison)}; {why}",
        degraded=False,
        needed=None,
    )


def clean_samples(clean: Verdict) -> int:
    """How many pairs the verdict on clean samples was reached from; 0 where there were too few."""
    return clean.comparison.test.n if clean.comparison else 0


def _slices_lost(whole: Verdict, clean: Verdict) -> list[str]:
    """Slices gated by themselves that could be tested on all samples, and not on those that are left."""
    if whole.comparison is None or clean.comparison is None:
        return []
    tested = {(part.name, part.value) for part in clean.comparison.slices if part.p_reg is not None}
    gated = [part for part in whole.comparison.slices if part.blocking and part.p_reg is not None]
    return sorted(f"slice {part.name}={part.value}" for part in gated if (part.name, part.value) not in tested)
