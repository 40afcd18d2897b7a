"""The model card: one HTML file that opens from disk, asks the network for nothing and runs nothing a model wrote.

How it is kept harmless stands in `report/page.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from evalgate.report import evidence, heat, page, sides, view
from evalgate.report.commands import commands
from evalgate.report.judged import judged
from evalgate.report.lineage import made
from evalgate.report.plots import CURVE, Scale
from evalgate.report.power import COLUMNS
from evalgate.report.samples import BUCKETS, packed
from evalgate.report.stated import body
from evalgate.report.tokens import spent
from evalgate.report.trend import trends

if TYPE_CHECKING:
    from markupsafe import Markup

    from evalgate.evaluation import Evaluation
    from evalgate.gate import Family
    from evalgate.power import PowerPlan
    from evalgate.report.history import Past
    from evalgate.version import Lineage

SCRIPTS = ("diff.js", "sample.js", "explorer.js")


@dataclass(frozen=True, slots=True)
class Costs:
    """What the answers of a session cost.

    Attributes:
        generated: answers that the engine made.
        cached: answers that were known.
        seconds: the engine worked.
    """

    generated: int
    cached: int
    seconds: float

    def and_those_of(self, generated: int, cached: int, seconds: float) -> Costs:
        """The sum with another batch."""
        return Costs(self.generated + generated, self.cached + cached, self.seconds + seconds)


@dataclass(frozen=True, kw_only=True)
class CardData:
    """Everything a card shows.

    Attributes:
        name: of the checkpoint.
        family: its verdicts.
        candidates: task id to evaluation.
        baselines: task id to accepted evaluation.
        statement: what people state about the model, Markdown; `None` is shown as "not stated".
        ledger_head: hash of the ledger's last entry.
        command: what was typed.
        generated: UTC time, ISO 8601.
        noise: what repeats of the same weights differ by, in one line.
        near_ties: "suite/task::metric" to the ids of the flipped samples where numeric noise alone can make the flip.
        lines: what the run says besides, a line each.
        lineage: how the checkpoint was made, for a version that evalgate published.
        folder: what to type for `--model`, relative to the project; `None` where only records are known.
        power: what the samples could see, as it was said before the run.
        costs: of the answers of the whole session.
        statements: files of people's statements, relative to the project; a card made again reads them again.
        history: the newest verdict on every other version, the oldest first.
    """

    name: str
    family: Family
    candidates: Mapping[str, Evaluation]
    baselines: Mapping[str, Evaluation]
    statement: str | None
    ledger_head: str | None
    command: str
    generated: str
    noise: str | None = None
    near_ties: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    lines: Sequence[str] = ()
    lineage: Lineage | None = None
    folder: str | None = None
    power: PowerPlan | None = None
    costs: Costs | None = None
    statements: tuple[str, ...] = ()
    history: Sequence[Past] = ()

    @property
    def digest(self) -> str | None:
        """Of the checkpoint's content; `None` where nothing was evaluated."""
        return next((str(e.checkpoint["digest"]) for e in self.candidates.values()), None)


def write_card(data: CardData, folder: Path) -> Path:
    """Write `folder/index.html`, whole or not at all, and return its path."""
    return page.write_page(render_card(data), folder / "index.html")


def render_card(data: CardData) -> str:
    """The complete HTML document; the same data give the same bytes."""
    from markupsafe import Markup

    family = data.family
    candidates, baselines = (
        {task: side[task] for task in dict.fromkeys(v.task for v in family.verdicts) if task in side}
        for side in (data.candidates, data.baselines)
    )
    lines, pooled = view.lines(family, data.near_ties), view.pooled(family)
    plots = [each.ends for each in (*lines, pooled) if each and each.ends]
    style = "".join(map(page.asset, ("card.css", "plots.css", "explorer.css")))
    script = "".join(map(page.asset, SCRIPTS))
    template = page.environment().get_template("card.html")
    html = template.render(
        data=data,
        family=family,
        headline=view.headline(data.name, family.outcome),
        shape=view.shape(family.outcome),
        gate=view.gate(family),
        findings=view.findings(lines),
        findings_shown=view.FINDINGS_SHOWN,
        facts=view.facts(family),
        lines=lines,
        confidence=view.confidence(family.policy),
        scale=Scale.over(plots),
        pooled=pooled,
        trends=trends(family, candidates, data.history, data.name),
        heat=heat.heatmap(family),
        shades=heat.legend(),
        slices=view.slices(family),
        slices_shown=heat.SLICES_SHOWN,
        columns_shown=heat.COLUMNS,
        judges=judged(family, candidates, baselines),
        power=evidence.power(data.power),
        columns=COLUMNS,
        comparability=evidence.comparability(family),
        leaked=evidence.leaked(family, candidates, baselines),
        golden=evidence.golden(family, candidates),
        spent=spent(candidates, baselines),
        checkpoint=sides.checkpoint(candidates, baselines),
        environment=sides.environment(candidates, baselines),
        provenance=sides.provenance(candidates, baselines),
        settings=sides.policy(family),
        tasks=[(task, sides.task_fields(e, baselines.get(task))) for task, e in candidates.items()],
        made=made(data.lineage),
        box=CURVE,
        commands=tuple(commands(data)),
        statement=data.statement and _markdown(body(data.statement)),
        noise=data.noise and data.noise.removeprefix("noise floor: "),
        buckets=BUCKETS,
        samples=packed(data.name, family, candidates, baselines, data.near_ties),
        style=Markup(style),  # noqa: S704 - ours
        script=Markup(script),  # noqa: S704 - ours
        policy=page.policy(style, script),
    )
    return page.encodable(html)


def _markdown(statement: str) -> Markup:
    """Markdown without HTML and images, its headings below the card's own."""
    from markdown_it import MarkdownIt
    from markupsafe import Markup

    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    tokens = parser.parse(statement)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + 2, 6)}"
    return Markup(parser.renderer.render(tokens, parser.options, {}))  # noqa: S704 - escaped by the parser
