"""What a card is made of: the one input of every rendering."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evalgate.evaluation import Evaluation
    from evalgate.gate import Family
    from evalgate.power import PowerPlan
    from evalgate.report.past import Past
    from evalgate.version import Lineage


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
        statements: files in which people may state it, relative to the project; a card made again reads them again.
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
