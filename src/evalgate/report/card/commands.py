"""How to see it again: commands for a shell, to be copied from the card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from shlex import quote
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evalgate.report.card import CardData


def commands(data: CardData) -> Iterator[tuple[str, str]]:
    """What each does, and the command.

    Whatever somebody else named is quoted, and left out where it cannot be typed: what is copied must be what is seen.
    """
    yield "Gate it again", data.command
    model = next((each for each in (data.folder, data.name, data.digest) if each and _typed(each)), None)
    if model is None:
        return
    given = quote(model)
    for verdict in data.family.verdicts:
        ids = [id_ for id_ in (verdict.comparison.broken if verdict.comparison else ()) if _typed(id_)]
        if ids and _typed(verdict.task):
            yield "Show a sample that broke", f"evalgate show {given} {quote(verdict.task)} --sample={quote(ids[0])}"
            break
    yield "Make this page again, from the records", f"evalgate card {given}"
    if data.lineage and data.lineage.training:
        publishing = data.lineage.training.config.get("publishing")
        runs = publishing.get("runs", "runs") if isinstance(publishing, Mapping) else "runs"
        folder = data.folder or f"{runs}/{data.lineage.name}"
        if _typed(folder):
            yield "Train it again, and compare", f"evalgate reproduce {quote(folder)}"
    yield "Accept it as the baseline", f'evalgate accept {given} -m "why it is good enough"'
    yield "Check every record and the ledger's chain", "evalgate verify"


def _typed(name: str) -> bool:
    """Whether a name shows as what it is, and is no option."""
    return name.isprintable() and not name.startswith("-")
