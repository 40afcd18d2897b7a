"""The model card: one HTML file that opens from disk, asks the network for nothing and runs nothing a model wrote.

Two defences, each enough alone: Jinja escapes every text (samples travel as JSON and are shown through `textContent`),
and a content security policy allows this file's own style and script by their hashes, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalgate.report import sides, view
from evalgate.report.lineage import made
from evalgate.report.samples import BUCKETS, payload

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

    from evalgate.evaluation import Evaluation
    from evalgate.gate import Family
    from evalgate.power import PowerPlan
    from evalgate.report.history import Past
    from evalgate.version import Lineage

_SURROGATES = re.compile(r"[\ud800-\udfff]")
# Inside a script element only `<` matters to the parser; the others close every other door too.
_JSON_ESCAPES = str.maketrans({char: f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"})


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
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "index.html"
    with tempfile.NamedTemporaryFile("w", dir=folder, encoding="utf-8", newline="\n", delete=False) as draft:
        try:
            draft.write(render_card(data))
            draft.flush()
            os.fsync(draft.fileno())
            Path(draft.name).chmod(0o644)
            os.replace(draft.name, page)
        except BaseException:
            Path(draft.name).unlink(missing_ok=True)
            raise
    return page


def render_card(data: CardData) -> str:
    """The complete HTML document; the same data give the same bytes."""
    from markupsafe import Markup

    family = data.family
    candidates, baselines = (
        {task: side[task] for task in dict.fromkeys(v.task for v in family.verdicts) if task in side}
        for side in (data.candidates, data.baselines)
    )
    lines = view.lines(family, data.near_ties)
    style, script = _asset("card.css") + _asset("explorer.css"), _asset("explorer.js")
    page = _environment().get_template("card.html")
    html = page.render(
        data=data,
        family=family,
        headline=view.headline(data.name, family.outcome),
        shape=view.shape(family.outcome),
        facts=view.facts(family),
        lines=lines,
        confidence=view.confidence(family.policy),
        scale=view.Scale.over([line.ends for line in lines if line.ends]),
        pooled=family.pooled and view.pooled(family.pooled),
        slices=view.slices(family),
        slices_shown=view.SLICES_SHOWN,
        comparability=view.comparability(family),
        golden=view.golden(family, candidates),
        checkpoint=sides.checkpoint(candidates, baselines),
        environment=sides.environment(candidates, baselines),
        provenance=sides.provenance(candidates, baselines),
        settings=sides.policy(family),
        tasks=[(task, sides.task_fields(e, baselines.get(task))) for task, e in candidates.items()],
        made=made(data.lineage),
        statement=data.statement and _markdown(data.statement),
        noise=data.noise and data.noise.removeprefix("noise floor: "),
        buckets=BUCKETS,
        samples=Markup(_json(payload(family, candidates, baselines, data.near_ties))),  # noqa: S704 - escaped by _json
        style=Markup(style),  # noqa: S704 - ours
        script=Markup(script),  # noqa: S704 - ours
        policy=_policy(style, script),
    )
    return _SURROGATES.sub("\ufffd", html)


@cache
def _asset(name: str) -> str:
    return files("evalgate.report").joinpath("templates", name).read_text("utf-8")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    loader = FunctionLoader(_asset)
    return Environment(autoescape=True, loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def _policy(style: str, script: str) -> str:
    """Nothing but our own style and script, by their hashes; no base address, no form, no string that becomes code."""
    hashes = (base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in (style, script))
    style_hash, script_hash = hashes
    return (
        f"default-src 'none'; style-src 'sha256-{style_hash}'; script-src 'sha256-{script_hash}'; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
    )


def _json(value: Any) -> str:
    """JSON that cannot end the script element it stands in; a lone surrogate stays itself, as an escape."""
    dumped = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).translate(_JSON_ESCAPES)
    return _SURROGATES.sub(lambda found: f"\\u{ord(found[0]):04x}", dumped)


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
