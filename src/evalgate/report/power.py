"""Power as text: a table to read before a run, and the short form of it at the head of one."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from evalgate import text
from evalgate.power import PowerLine, PowerPlan
from evalgate.report.terminal import safe, wrapped

COLUMNS = ("blocking metric", "samples", "differ", "sees", "margin", "needs")
_LISTED, _REMEDIES = 3, 5


def power_summary(plan: PowerPlan, *, width: int | None = None) -> list[str]:
    """For the head of a run: a line about the family, and one that names as many underpowered metrics as fit."""
    width = width or shutil.get_terminal_size().columns
    seen = [line for line in plan.lines if not line.unknown]
    parts = [f"evalgate: {_power(plan)}"]
    if len(plan.lines) > 1:
        bounded = [line for line in seen if line.metric.range is not None]
        others = [line for line in seen if line.metric.range is None]  # seen in per cent of the baseline
        parts.append("sees " + " and ".join(_range(lines) for lines in (bounded, others) if lines) if seen else "")
    elif seen:
        parts.append(f"sees {_effect(seen[0])} of {_margin(seen[0])}")
    weak = plan.underpowered
    unknown = [line for line in plan.lines if line.unknown]
    parts.append(f"{len(weak)} of {len(plan.lines)} underpowered" if weak else "")
    parts.append(f"{len(unknown)} unknown" if unknown else "")
    lines = [" · ".join(part for part in parts if part)]
    if weak:
        named = [f"{safe(line.name)} ({power_why(line)})" for line in weak]
        most = next((k for k in range(min(_LISTED, len(named)), 1, -1) if len(_named(named, k)) <= width), 1)
        lines.append(_named(named, most))
    return lines


def _named(named: Sequence[str], limit: int) -> str:
    return f"  {text.listed(named, limit)}; -v shows all"


def power_table(plan: PowerPlan, *, width: int | None = None) -> list[str]:
    """The whole plan: a row per blocking metric, what the columns mean, and at the end what to do.

    Args:
        plan: of the family.
        width: columns, by default the terminal's; where names do not fit, each metric takes two lines.
    """
    width = width or shutil.get_terminal_size().columns
    rows = [COLUMNS, *(power_row(line) for line in plan.lines)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    marks = ["  ", *("! " if line.underpowered else "? " if line.unknown else "  " for line in plan.lines)]
    numbers = ["  ".join(map(str.rjust, row[1:], widths[1:])) for row in rows]
    lines = [power_head(plan), ""]
    if max(map(len, numbers)) + widths[0] + 4 <= width:
        lines += [f"{mark}{row[0]:{widths[0]}}  {cells}" for mark, row, cells in zip(marks, rows, numbers, strict=True)]
    else:
        lines += [
            part
            for mark, row, cells in zip(marks, rows, numbers, strict=True)
            for part in (f"{mark}{row[0]}", f"    {cells}")
        ]
    lines.append("")
    for said in (*power_legend(plan.lines), "", power_advice(plan)):
        lines += wrapped(said, width)
    return lines


def power_json(plan: PowerPlan) -> dict[str, Any]:
    """The plan for machines: amounts in each metric's own units, `null` for what is not known."""
    return {
        "alpha": plan.alpha,
        "power": plan.power,
        "level": plan.level,
        "steps": plan.steps,
        "metrics": [
            asdict(line)
            | {"metric": line.metric.name, "range": line.metric.range}
            | {name: getattr(line, name) for name in ("underpowered", "undecidable", "too_few", "unknown")}
            for line in plan.lines
        ],
    }


def power_head(plan: PowerPlan) -> str:
    """At which power and level drops are found."""
    return _power(plan) + (f" (alpha {text.probability(plan.alpha)}, {plan.steps} tests)" if plan.steps > 1 else "")


def _power(plan: PowerPlan) -> str:
    return f"power {f'{plan.power:.2f}'.removeprefix('0')} at level {text.probability(plan.level)}"


def _range(lines: Sequence[PowerLine]) -> str:
    """`1.9 to 6.3 pt` of metrics that share a unit."""
    shown = sorted((_size(line, line.detectable or 0.0) for line in lines), key=lambda said: float(said.split()[0]))
    first, last = shown[0], shown[-1]
    return last if first == last else f"{first.split()[0]} to {last}"


def _size(line: PowerLine, amount: float) -> str:
    return text.effect(amount, line.metric, line.baseline or 0.0, sign=False)


def _effect(line: PowerLine) -> str:
    return "?" if line.unknown or line.detectable is None else _size(line, line.detectable)


def _margin(line: PowerLine) -> str:
    return "?" if line.margin is None else _size(line, line.margin)


def power_row(line: PowerLine) -> tuple[str, ...]:
    """One cell per column of `COLUMNS`."""
    if line.psi is not None:
        differ = f"{100 * line.psi:.1f}%"
    else:
        differ = "?" if line.sd is None else f"sd {text.share(line.sd)}"
    return (
        safe(line.name),
        str(line.n) if line.clusters is None else f"{line.n}/{line.clusters}",
        differ + {"assumed": "*", "noise floor": "~"}.get(line.source, ""),
        _effect(line),
        _margin(line),
        "?" if line.needed is None else str(line.needed),
    )


def power_why(line: PowerLine) -> str:
    """Why a line is underpowered."""
    if line.undecidable:
        return f"{line.clusters} clusters, {line.clusters_needed} are the least"
    if line.blind:
        return f"sees {_effect(line)} of {_margin(line).split()[0]}, needs {line.needed}, has {line.n}"
    return f"has {line.n} samples, {line.min_n} are the least"


def power_legend(lines: Sequence[PowerLine]) -> list[str]:
    """What the columns and marks that are in use mean."""
    means = "; sd: how far scores differ" if any(line.sd is not None for line in lines) else ""
    early = {
        "* assumed": any(line.source == "assumed" for line in lines),
        "? unknown": any(line.unknown for line in lines),
    }
    marks = {
        "samples/clusters": any(line.clusters is not None for line in lines),
        "~ noise floor: a repeated run changes as many": any(line.source == "noise floor" for line in lines),
        f"{_used(early, ', ')} until the first comparison": any(early.values()),
    }
    return [
        f"differ: share of answers expected to change{means}",
        "sees: the smallest drop that is found; needs: samples that see their margin",
        *([_used(marks, "; ")] if any(marks.values()) else []),
    ]


def _used(words: Mapping[str, bool], between: str) -> str:
    return between.join(word for word, used in words.items() if used)


def power_advice(plan: PowerPlan) -> str:
    """What to do about it, in one sentence."""
    weak, known = plan.underpowered, [line for line in plan.lines if not line.unknown]
    if weak:
        remedies = text.listed([_remedy(line) for line in weak], _REMEDIES)
        count = f"{len(weak)} of {len(plan.lines)}"
        return f"! {count} underpowered; more samples, or a margin that these hold: {remedies}."
    if known:
        return f"{len(known)} of {len(plan.lines)} can see a drop of their margin."
    return "Nothing can be said before the first comparison."


def _remedy(line: PowerLine) -> str:
    """What would mend a line: more clusters, more samples, or a margin that its samples can hold."""
    name = safe(line.name)
    if line.undecidable:
        return f"{name} {line.clusters_needed} clusters (with {line.clusters} nothing is significant)"
    add = f"{name} +{max(line.needed or 0, line.min_n) - line.n}"
    whole = line.metric.range or abs(line.baseline or 0.0)
    if line.too_few or not line.detectable or not whole:
        return add
    held = math.ceil(1000 * line.detectable / whole - 1e-9) / 1000
    return f"{add} or margin={held:g}" if held <= 1 else add
