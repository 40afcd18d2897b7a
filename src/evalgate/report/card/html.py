"""The model card: one HTML file that opens from disk, asks the network for nothing and runs nothing a model wrote.

How it is kept harmless stands in `report/page.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalgate.report import page
from evalgate.report.card import evidence, heat, sides, view
from evalgate.report.card.commands import commands
from evalgate.report.card.judged import judged
from evalgate.report.card.lineage import made
from evalgate.report.card.plots import CURVE, Scale
from evalgate.report.card.tokens import spent
from evalgate.report.card.trend import trends
from evalgate.report.power import COLUMNS
from evalgate.report.samples import BUCKETS, packed
from evalgate.report.stated import body

if TYPE_CHECKING:
    from markupsafe import Markup

    from evalgate.report.card.data import CardData

SCRIPTS = ("diff.js", "sample.js", "explorer.js")


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
        reason=view.reason(family),
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
