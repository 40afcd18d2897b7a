"""The text of a Hugging Face card: what was measured, as tables, between what people state.

Whatever the template puts out is made inert (`report/markdown.py`), unless it is `Markdown`: our own tables, and what
people wrote in `model_card.md`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from evalgate import text
from evalgate.gate import Outcome
from evalgate.report import page
from evalgate.report.card import evidence, sides, view
from evalgate.report.card.commands import commands
from evalgate.report.card.heat import SLICES_SHOWN
from evalgate.report.card.judged import judged
from evalgate.report.card.lineage import made
from evalgate.report.markdown import fenced, inline
from evalgate.report.terminal import slice_effect, why, word

if TYPE_CHECKING:
    from jinja2 import Environment

    from evalgate.evaluation import Evaluation, Metric
    from evalgate.gate import Verdict
    from evalgate.report.card import CardData
    from evalgate.report.stated import Stated

_NONE = "–"
_LONG = 1000
_KINDS = {
    "full": "full weights",
    "adapter": "adapter over a base (PEFT)",
    "endpoint": "endpoint, whose weights nobody here sees",
}


class Markdown(str):
    """Text that is Markdown already."""

    __slots__ = ()


def render(data: CardData, stated: Stated) -> str:
    """The card's Markdown below its metadata; the same data give the same text."""
    family = data.family
    tasks = dict.fromkeys(verdict.task for verdict in family.verdicts)
    candidates, baselines = (
        {task: side[task] for task in tasks if task in side} for side in (data.candidates, data.baselines)
    )
    broken = [v for v in family.verdicts if v.outcome not in (Outcome.PASS, Outcome.INCONCLUSIVE)]
    template = _environment().get_template("README.md.j2")
    return page.encodable(
        template.render(
            data=data,
            family=family,
            stated=stated,
            people=lambda section, what: Markdown(stated.sections.get(section, f"*{what}: not stated.*")),
            headline=view.headline(data.name, family.outcome),
            gate=view.gate(family),
            facts=view.facts(family),
            model=list(_model(data)),
            metrics=[_metric(verdict, candidates.get(verdict.task)) for verdict in family.verdicts],
            judges=judged(family, candidates, baselines),
            evaluated=[_evaluated(task, each, stated) for task, each in candidates.items()],
            made=made(data.lineage),
            confidence=view.confidence(family.policy),
            results=list(map(_result, family.verdicts)),
            pooled=view.pooled(family),
            broken=broken,
            undecided=[v for v in family.verdicts if v.outcome is Outcome.INCONCLUSIVE],
            slices=list(_slices(data)),
            comparability=[each for each in evidence.comparability(family) if each not in _told(broken)],
            golden=evidence.golden(family, candidates),
            environment=_stated_sides(sides.environment(candidates, baselines)),
            records=[_record(task, each, baselines.get(task)) for task, each in candidates.items()],
            commands=Markdown(fenced("\n".join(_shell(data)), 10_000)),
        )
    )


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        autoescape=False,  # noqa: S701 - `finalize` escapes: this is no HTML
        finalize=_inert,
        loader=FunctionLoader(page.asset),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["table"] = table
    environment.filters["long"] = lambda value: Markdown(inline(value, _LONG))
    environment.filters["why"] = why
    return environment


def _inert(value: Any) -> str:
    return value if isinstance(value, Markdown) else inline(str(value))


def table(rows: Iterable[Sequence[str]], *head: str) -> Markdown:
    """A table of inert cells.

    Args:
        rows: one text per column.
        head: names of the columns; empty ones for facts with their names in the first column.
    """
    lines = [head, ["---"] * len(head), *([inline(cell, 300) or _NONE for cell in row] for row in rows)]
    return Markdown("\n".join(f"| {' | '.join(line)} |" for line in lines))


# -- what it is -------------------------------------------------------------------------------------------------------


def _model(data: CardData) -> Iterator[tuple[str, str]]:
    lineage = data.lineage
    checkpoint = next((each.checkpoint for each in data.candidates.values()), None)
    identity: Mapping[str, Any] = (checkpoint or {}).get("identity") or {}
    yield "Version", data.name
    yield "Digest of its content", data.digest or "not known: nothing was evaluated"
    yield "Kind", _KINDS.get(str(identity.get("kind")), "not stated")
    yield "Architecture", str(identity.get("architecture") or "not stated")
    if identity.get("base"):
        yield "Base under the adapter", str(identity["base"])
    parent = lineage.parent if lineage else None
    yield "Trained from", f"{parent.name}, {parent.digest}" if parent else "not stated"
    yield "Made", lineage.created if lineage else "not stated"
    yield "Evaluated", data.generated


# -- why it is measured so --------------------------------------------------------------------------------------------


def _metric(verdict: Verdict, candidate: Evaluation | None) -> Sequence[str]:
    metric, comparison = verdict.spec, verdict.comparison
    gate = ((candidate.policy.get("gates") or {}).get(verdict.metric) if candidate else None) or {}
    floor = gate.get("floor")
    return (
        verdict.task,
        verdict.metric,
        "not known" if metric is None else f"{_bound(metric, metric.low)} to {_bound(metric, metric.high)}",
        "not known" if metric is None else "higher" if metric.higher_is_better else "lower",
        "blocks" if verdict.blocking else "informs",
        text.effect(comparison.margin, comparison.metric, comparison.baseline, sign=False) if comparison else _NONE,
        _NONE if floor is None else text.share(floor),
        "a judge" if metric and metric.judge else "code",
        metric.digest if metric else _NONE,
    )


def _bound(metric: Metric, value: float | None) -> str:
    if value is not None:
        return f"{value:g}"
    return "∞" if metric.low is not None else "-∞"


def _evaluated(task: str, evaluation: Evaluation, stated: Stated) -> Sequence[str]:
    hub = stated.eval_datasets.get(task)
    return (
        task,
        f"{hub.id} ({hub.task_id})" if hub else "own",
        f"{len(evaluation.rows):,}",
        evaluation.samples,
        str(evaluation.seed),
        json.dumps(dict(evaluation.sampling), sort_keys=True),
    )


# -- how well it does -------------------------------------------------------------------------------------------------


def _result(verdict: Verdict) -> Sequence[str]:
    comparison = verdict.comparison
    if comparison is None:
        value = _NONE if verdict.value is None else text.share(verdict.value)
        return (verdict.task, verdict.metric, word(verdict), value, *[_NONE] * 6)
    metric, test, before = comparison.metric, comparison.test, comparison.baseline
    p = verdict.p_adjusted if verdict.p_adjusted is not None else test.p_reg
    return (
        verdict.task,
        verdict.metric,
        word(verdict),
        text.share(comparison.candidate),
        text.share(before),
        text.effect(test.delta, metric, before),
        text.interval(test.low, test.high, metric, before),
        text.effect(comparison.margin, metric, before, sign=False),
        f"{test.n:,}",
        text.probability(p),
    )


def _told(verdicts: Iterable[Verdict]) -> set[tuple[str, str]]:
    return {(f"{verdict.task}::{verdict.metric}", verdict.reason) for verdict in verdicts}


def _slices(data: CardData) -> Iterator[tuple[str, list[Sequence[str]], int, list[str]]]:
    """Per metric: its name, its slices, worst first, how many more there are, and by what it is sliced."""
    for verdict in data.family.verdicts:
        comparison = verdict.comparison
        if comparison is None or not comparison.slices:
            continue
        shown = [part for place, part in enumerate(comparison.slices) if place < SLICES_SHOWN or part.blocking]
        rows: list[Sequence[str]] = [
            (
                f"{part.name}={part.value}",
                text.share(part.candidate),
                text.share(part.baseline),
                slice_effect(part, comparison.metric),
                f"{part.n:,}",
                _NONE if part.q is None else text.probability(part.q),
                "blocks" if part.blocking else "informs",
            )
            for part in shown
        ]
        yield (
            f"{verdict.task}::{verdict.metric}",
            rows,
            len(comparison.slices) - len(rows),
            [part.name for part in shown],
        )


def _record(task: str, candidate: Evaluation, baseline: Evaluation | None) -> Sequence[str]:
    # Who accepted a baseline stays at home: a name and an address are nobody's to publish.
    accepted = baseline.acceptance if baseline else None
    return (
        task,
        candidate.record,
        baseline.record if baseline else _NONE,
        f"{accepted.at}: {accepted.why}" if accepted else _NONE,
    )


def _stated_sides(fields: Iterable[sides.Field]) -> list[Sequence[str]]:
    return [(each.name, each.candidate, each.baseline) for each in fields]


def _shell(data: CardData) -> Iterator[str]:
    for what, command in commands(data):
        yield f"# {what}"
        yield from command.splitlines()
