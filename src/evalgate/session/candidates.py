"""Who is gated: checkpoints on this machine or behind an endpoint, one that is trained first, or others' records."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from evalgate.cache import FileMemo
from evalgate.config import EngineConfig
from evalgate.digest import short
from evalgate.engines.endpoint import endpoint, endpoint_options
from evalgate.errors import ConfigError
from evalgate.evaluation import Evaluation
from evalgate.preflight import read_checkpoint, resolve_model
from evalgate.session.words import Candidate
from evalgate.store import read_records
from evalgate.version import require_published


def from_models(
    models: Sequence[str],
    *,
    base: Path | None,
    memo: FileMemo,
    registry: str | None = None,
    engine: EngineConfig | None = None,
) -> dict[str, Candidate]:
    """What `--model` was given, by the names that test ids carry; the same content twice is refused.

    With the engine `openai`, what was given are names of models at its endpoint.
    """
    found: dict[str, Candidate] = {}
    for text in models:
        candidate = (
            from_endpoint(text, engine)
            if engine is not None and engine.name == "openai"
            else from_folder(resolve_model(text, registry=registry), base=base, memo=memo)
        )
        twin = next((c for c in found.values() if c.digest == candidate.digest), None)
        if twin:
            raise ConfigError(f"{text} has the same content as {twin.name}", where="--model", mend="Give it once.")
        add(found, candidate)
    return found


def add(known: dict[str, Candidate], candidate: Candidate) -> str:
    """Take in a candidate under a name that no other has, and return it: its own, or with its folder or its digest."""
    name = candidate.name
    if name in known and candidate.checkpoint and candidate.checkpoint.path:
        name = f"{Path(candidate.checkpoint.path).parent.name}-{name}"
    if name in known:
        name = f"{candidate.name}-{short(candidate.digest, 6)}"
    known[name] = replace(candidate, name=name)
    return name


def from_endpoint(model: str, engine: EngineConfig) -> Candidate:
    """A model by its name at the endpoint of the settings (ConfigError where they name none)."""
    options = endpoint_options(engine.options)
    if options.url is None:
        raise ConfigError(
            "the openai engine needs an address",
            where="[tool.evalgate.engine]",
            mend='Write url = "http://127.0.0.1:8000/v1" there.',
        )
    checkpoint = endpoint(options.url, model, revision=options.revision)
    # Test ids, records and the card's folder carry the name: no slash, and no way out of a folder.
    name = re.sub(r"[^\w.-]+", "-", model).strip(".-") or "model"
    return Candidate(name, checkpoint.digest, checkpoint)


def from_folder(folder: Path, *, base: Path | None, memo: FileMemo) -> Candidate:
    """A checkpoint's folder, with its lineage where evalgate published it (RecordError if it was changed since)."""
    checkpoint = read_checkpoint(folder, base=base, memo=memo)
    lineage = None
    if (folder / "evalgate.json").is_file():
        from evalgate.versions import read_lineage

        lineage = read_lineage(folder)
        require_published(checkpoint, lineage)
    return Candidate(checkpoint.name, checkpoint.digest, checkpoint, lineage=lineage)


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
