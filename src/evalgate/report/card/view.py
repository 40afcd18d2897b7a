"""What the card says first: the verdict, what stands in its way, metrics and slices as short texts and positions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evalgate import text
from evalgate.gate import Outcome
from evalgate.gate.verdicts import p_values
from evalgate.report.card.heat import SLICES_SHOWN, marks
from evalgate.report.terminal import clean_words, near_tie_counts, slice_effect, why

if TYPE_CHECKING:
    from evalgate.compare import Comparison
    from evalgate.evaluation import Metric
    from evalgate.gate import Family, Policy, Verdict

FINDINGS_SHOWN = 5
_SHAPES = {
    Outcome.PASS: "pass",
    Outcome.REGRESSION: "regression",
    Outcome.INCONCLUSIVE: "inconclusive",
    Outcome.INCOMPARABLE: "incomparable",
    Outcome.NO_BASELINE: "incomparable",
    Outcome.ERROR: "error",
}
_HEADLINES = {
    Outcome.PASS: "{} holds against the baseline",
    Outcome.REGRESSION: "{} is worse than the baseline",
    Outcome.INCONCLUSIVE: "{}: too little evidence to tell",
    Outcome.INCOMPARABLE: "{} cannot be compared with the baseline",
    Outcome.NO_BASELINE: "{} has no baseline to compare with yet",
    Outcome.ERROR: "{} could not be evaluated",
}


_GRAVEST = ("error", "regression", "incomparable", "inconclusive")


def shape(outcome: Outcome) -> str:
    """Name of the symbol and colour that stand for an outcome, beside its word."""
    return _SHAPES[outcome]


def headline(name: str, outcome: Outcome) -> str:
    """The verdict as a sentence."""
    return _HEADLINES[outcome].format(name)


def gate(family: Family) -> str:
    """What the outcome means for the checkpoint, under the policy in force."""
    if family.outcome is Outcome.PASS:
        return "passes the gate"
    return "blocked by the gate" if family.fails(family.policy) else "let through with a warning"


def reason(family: Family) -> str:
    """Why, without what stands right below it: the names of the metrics that do not pass, or the only one's reason."""
    said = family.reason
    for verdict in family.verdicts:
        if verdict.blocking and verdict.outcome is not Outcome.PASS and verdict.reason:
            said = said.removeprefix(verdict.reason).removeprefix("; ")
    for outcome in (family.outcome, Outcome.INCONCLUSIVE):
        named = [f"{v.task}::{v.metric}" for v in family.verdicts if v.blocking and v.outcome is outcome]
        said = said.replace(f": {text.listed(named)}", "", 1) if named else said
    return said


def confidence(policy: Policy) -> str:
    """Of the intervals shown, in per cent: the two-sided 1 - 2·alpha on which a PASS is read."""
    return f"{100 * (1 - 2 * policy.alpha):g}"


def _in_points(amount: float, metric: Metric, baseline: float) -> float:
    unit = abs(baseline) if metric.range is None else metric.range
    return 100 * amount / unit if unit else 0.0


@dataclass(frozen=True)
class Line:
    """One metric's row in the table of metrics."""

    verdict: Verdict
    number: int
    effect: str = ""
    interval: str = ""
    was: str = ""
    now: str = ""
    n: str = ""
    p: str = ""
    level: str = ""
    margin: str = ""
    ends: tuple[float, float, float, float] | None = None  # delta, low, high, margin in points
    near_ties: tuple[int, int] = (0, 0)  # among the broken, among the fixed

    @property
    def why(self) -> str:
        """What the numbers in the row do not say."""
        return why(self.verdict)

    @property
    def notes(self) -> list[str]:
        """What the reserve and human labels have to do with it, a line each."""
        verdict, said = self.verdict, []
        if verdict.look:
            look, last = verdict.look
            said.append(f"Reserve: look {look} of {last}; p is that of an e-value, which holds at every look.")
        if verdict.confirmation:
            again, p = verdict.confirmation, text.p_value(p_values(verdict.confirmation.test)[0])
            broken, fixed = len(again.broken), len(again.fixed)
            said.append(f"Reserve: of {again.test.n:,} samples {broken:,} broke and {fixed:,} were fixed, {p}.")
        if verdict.clean:
            said.append(f"Leaked: {verdict.leaked:,} samples were trained on; on the others {clean_words(verdict)}.")
        if verdict.comparison and verdict.comparison.test.method == "prediction-powered":
            said.append("The judge's scores are corrected by human labels.")
        return said

    @property
    def query(self) -> str:
        """What finds the samples of the comparison alone, where those of a confirmation are shown as well."""
        return "reserve=no" if self.verdict.confirmation else ""

    @property
    def shape(self) -> str:
        """Its symbol."""
        return shape(self.verdict.outcome)

    @property
    def spoken(self) -> str:
        """The plot in words."""
        return f"{self.effect}, interval {self.interval}, tolerated drop {self.margin}"


def lines(family: Family, near_ties: Mapping[str, Collection[str]] | None = None) -> list[Line]:
    """One line per verdict, in its order; `near_ties` as `near_tie_counts` takes them."""
    return [
        _line(verdict, number, near_tie_counts(verdict, near_ties)) for number, verdict in enumerate(family.verdicts)
    ]


def _line(verdict: Verdict, number: int, near_ties: tuple[int, int]) -> Line:
    comparison = verdict.comparison
    if comparison is None:
        return Line(verdict, number, now="" if verdict.value is None else text.share(verdict.value))
    metric, test, before = comparison.metric, comparison.test, comparison.baseline
    p = verdict.p_adjusted if verdict.p_adjusted is not None else test.p_reg
    delta, low, high, margin = (
        _in_points(each, metric, before) for each in (test.delta, test.low, test.high, comparison.margin)
    )
    return Line(
        verdict,
        number,
        effect=text.effect(test.delta, metric, before),
        interval=text.interval(test.low, test.high, metric, before),
        was=text.share(before),
        now=text.share(comparison.candidate),
        n=f"{test.n:,}",
        p=text.probability(p),
        level="" if verdict.level is None else text.probability(verdict.level),
        margin=text.effect(comparison.margin, metric, before, sign=False),
        ends=(delta, low, high, -margin),
        near_ties=near_ties,
    )


@dataclass(frozen=True, slots=True)
class Pooled:
    """The test of all blocking metrics together; as a row of the forest plot it has the fields of a `Line`."""

    outcome: Outcome
    effect: str
    interval: str
    margin: str
    p_reg: str
    p_ni: str
    n: str
    ends: tuple[float, float, float, float]

    @property
    def shape(self) -> str:
        """Its symbol."""
        return shape(self.outcome)

    @property
    def spoken(self) -> str:
        """The plot in words."""
        return f"{self.effect}, interval {self.interval}, tolerated drop {self.margin}"


def pooled(family: Family) -> Pooled | None:
    """The pooled test in words, `None` with fewer than two metrics that can be pooled."""
    test, margin = family.pooled, family.policy.pooled_margin
    if test is None:
        return None
    low, high = (text.points(end).split()[0] for end in (test.low, test.high))
    return Pooled(
        outcome=family.together or family.outcome,
        effect=text.points(test.delta),
        interval=f"[{low}, {high}]",
        margin=text.points(margin, sign=False),
        p_reg=text.probability(test.p_reg),
        p_ni=text.probability(test.p_ni),
        n=f"{test.n:,}",
        ends=(100 * test.delta, 100 * test.low, 100 * test.high, -100 * margin),
    )


@dataclass(frozen=True, slots=True)
class Finding:
    """What keeps a blocking metric from passing, in a line.

    Attributes:
        line: the metric's row.
        said: difference, tolerated drop, and where it is worst; or why nothing could be compared.
        broken: samples that broke.
    """

    line: Line
    said: str
    broken: int


def findings(lines: Sequence[Line]) -> list[Finding]:
    """Of every blocking metric that does not pass, the gravest first."""
    found = [_finding(line) for line in lines if line.verdict.blocking and line.verdict.outcome is not Outcome.PASS]
    return sorted(found, key=lambda finding: _GRAVEST.index(finding.line.shape))


def _finding(line: Line) -> Finding:
    comparison = line.verdict.comparison
    if comparison is None:
        return Finding(line, line.why, 0)
    said = f"{line.effect} {line.interval}, {line.margin} tolerated"
    if line.verdict.outcome is not Outcome.REGRESSION:
        return Finding(line, f"{said}; {line.why}", len(comparison.broken))
    if part := comparison.worst_slice:
        said += f"; worst where {part.name}={part.value} ({slice_effect(part, comparison.metric)})"
    return Finding(line, said, len(comparison.broken))


def facts(family: Family) -> list[tuple[str, str]]:
    """The few numbers under the verdict."""
    blocking = [verdict for verdict in family.verdicts if verdict.blocking]
    compared = [verdict.comparison for verdict in blocking if verdict.comparison]
    passed = sum(verdict.outcome is Outcome.PASS for verdict in blocking)
    found = [("blocking metrics passed", f"{passed} of {len(blocking)}")]
    if compared:
        broken, fixed = ({(c.task, id_) for c in compared for id_ in ids(c)} for ids in (_broken, _fixed))
        found += [("samples got worse", f"{len(broken):,}"), ("samples got better", f"{len(fixed):,}")]
        worst = min((c for c in compared if c.worst_slice), key=_worst, default=None)
        if worst and worst.worst_slice:
            part = worst.worst_slice
            found.append((f"worst slice: {part.name}={part.value}", slice_effect(part, worst.metric)))
    if family.pooled:
        found.append(("pooled difference", text.points(family.pooled.delta)))
    return found


def _broken(comparison: Comparison) -> tuple[str, ...]:
    return comparison.broken


def _fixed(comparison: Comparison) -> tuple[str, ...]:
    return comparison.fixed


def _worst(comparison: Comparison) -> float:
    return comparison.worst_slice.delta if comparison.worst_slice else 0.0


def slices(family: Family) -> list[dict[str, Any]]:
    """Per metric its slices, worst first; beyond `SLICES_SHOWN` those that do not block are counted."""
    found = []
    for number, verdict in enumerate(family.verdicts):
        comparison = verdict.comparison
        if comparison is None or not comparison.slices:
            continue
        rows = [
            {
                "label": f"{part.name}={part.value}",
                "effect": slice_effect(part, comparison.metric),
                "was": text.share(part.baseline),
                "now": text.share(part.candidate),
                "n": f"{part.n:,}",
                "q": "" if part.q is None else text.probability(part.q),
                "mark": ", ".join(marks(part, verdict.level)),
                "p": "" if part.p_adjusted is None else text.probability(part.p_adjusted),
            }
            for place, part in enumerate(comparison.slices)
            if place < SLICES_SHOWN or part.blocking
        ]
        found.append(
            {
                "number": number,
                "title": f"{verdict.task}::{verdict.metric}",
                "rows": rows,
                "more": len(comparison.slices) - len(rows),
                "blocking": any(part.blocking for part in comparison.slices),
                "level": "" if verdict.level is None else text.probability(verdict.level),
            }
        )
    return found
