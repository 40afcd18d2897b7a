"""What a reader must know before believing a difference: power, comparability, leaked samples, golden samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalgate import text
from evalgate.report.power import power_head, power_legend, power_row, power_why
from evalgate.report.terminal import clean_words

if TYPE_CHECKING:
    from evalgate.evaluation import Evaluation
    from evalgate.gate import Family
    from evalgate.power import PowerPlan


@dataclass(frozen=True, slots=True)
class Power:
    """The power plan as a table.

    Attributes:
        head: level and power of all lines.
        rows: per blocking metric the cells of `power.COLUMNS`, and in words whether its samples can see its margin.
        legend: what the columns and marks mean.
    """

    head: str
    rows: tuple[tuple[tuple[str, ...], str], ...]
    legend: tuple[str, ...]


def power(plan: PowerPlan | None) -> Power | None:
    """What the samples could see, as it was said before the run; `None` where it was not computed."""
    if plan is None or not plan.lines:
        return None
    return Power(
        head=power_head(plan),
        rows=tuple(
            (
                power_row(line),
                f"underpowered: {power_why(line)}" if line.underpowered else "not known" if line.unknown else "enough",
            )
            for line in plan.lines
        ),
        legend=tuple(power_legend(plan.lines)),
    )


def leaked(
    family: Family, candidates: Mapping[str, Evaluation], baselines: Mapping[str, Evaluation]
) -> list[tuple[str, str, str]]:
    """Per metric with samples that stand in training text: (metric, how many, what the others alone say)."""
    found = []
    for verdict in family.verdicts:
        sides = [side[verdict.task].leaked for side in (candidates, baselines) if verdict.task in side]
        count = verdict.leaked or len(frozenset[str]().union(*sides))
        if count:
            alone = clean_words(verdict) or "not computed"
            found.append((f"{verdict.task}::{verdict.metric}", f"{count:,}", alone))
    return found


def comparability(family: Family) -> list[tuple[str, str]]:
    """Whatever a reader must know before believing a difference: (metric, what)."""
    found = []
    for verdict in family.verdicts:
        title, comparison = f"{verdict.task}::{verdict.metric}", verdict.comparison
        if comparison is None:
            found.append((title, verdict.reason))
            continue
        if comparison.same_weights:
            found.append((title, "A/A: candidate and baseline are the same checkpoint."))
        found += [(title, str(note)) for note in comparison.notes]
        for ids, side in ((comparison.only_candidate, "candidate"), (comparison.only_baseline, "baseline")):
            if ids:
                found.append((title, f"Only in the {side}: {len(ids):,} ({text.listed(ids)})."))
        if verdict.anchor:
            drift = verdict.anchor
            found.append((title, f"Since the first accepted evaluation of this line: {text.headline(drift)}."))
    return found


def golden(family: Family, candidates: Mapping[str, Evaluation]) -> list[tuple[str, str, str]]:
    """Per task with samples that must not break: (task, how many, which broke)."""
    found = []
    for task, evaluation in candidates.items():
        declared = evaluation.policy.get("golden") or ()
        broken = {i for v in family.verdicts if v.task == task and v.comparison for i in v.comparison.golden_broken}
        if declared or broken:
            found.append((task, f"{len(declared):,}", text.listed(sorted(broken)) or "none"))
    return found
