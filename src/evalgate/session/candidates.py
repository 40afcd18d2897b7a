"""Who is gated: checkpoints on this machine, or records of checkpoints that were evaluated elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evalgate.cache import FileMemo
from evalgate.digest import short
from evalgate.errors import ConfigError
from evalgate.evaluation import Evaluation
from evalgate.preflight import read_checkpoint, resolve_model
from evalgate.session.words import Candidate
from evalgate.store import read_records


def from_models(models: Sequence[str], *, base: Path | None, memo: FileMemo) -> dict[str, Candidate]:
    """What `--model` was given, by the names that test ids carry; the same content twice is refused."""
    found: dict[str, Candidate] = {}
    for text in models:
        checkpoint = read_checkpoint(resolve_model(text), base=base, memo=memo)
        twin = next((c for c in found.values() if c.digest == checkpoint.digest), None)
        if twin:
            raise ConfigError(f"{text} has the same content as {twin.name}", where="--model", mend="Give it once.")
        name = checkpoint.name
        if name in found and checkpoint.path:
            name = f"{Path(checkpoint.path).parent.name}-{name}"
        found[name] = Candidate(name, checkpoint.digest, checkpoint)
    return found


def from_records(source: str) -> dict[str, Candidate]:
    """One candidate per checkpoint among the records; of several records of a task the newest counts."""
    newest: dict[str, dict[str, Evaluation]] = {}
    for record in read_records(source):
        newest.setdefault(record.checkpoint["digest"], {})[record.task] = record
    names = [next(iter(records.values())).checkpoint["name"] for records in newest.values()]
    return {
        (name if names.count(name) == 1 else f"{name}-{short(digest, 6)}"): Candidate(name, digest, None, records)
        for name, (digest, records) in zip(names, newest.items(), strict=True)
    }
