"""How a version was made, as the card shows it: why, from what, on which data, and how its training went."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from evalgate import text
from evalgate.digest import short
from evalgate.report.card.plots import Curve, curve
from evalgate.report.card.sides import by_name, flat
from evalgate.version import Lineage, TrainingRun


@dataclass(frozen=True, slots=True)
class Made:
    """What the card says of how a version was made.

    Attributes:
        why, hypothesis: as they were stated, empty where they were not.
        facts: names and values, in the order in which people ask.
        data: path, rows kept of rows, format, steps and digest of each file.
        settings: the resolved configuration, dotted names.
        environment: what it was trained with, dotted names.
        curves: of loss, gradient norm and learning rate, as far as they were kept.
        run: whether anybody says how it was trained.
    """

    why: str
    hypothesis: str
    facts: tuple[tuple[str, str], ...]
    data: tuple[tuple[str, str, str, str, str], ...]
    settings: tuple[tuple[str, str], ...]
    environment: tuple[tuple[str, str], ...]
    curves: tuple[Curve, ...]
    run: bool


def made(lineage: Lineage | None) -> Made | None:
    """How a version was made, `None` where nobody says."""
    if lineage is None:
        return None
    run = lineage.training
    facts = [*_origin(lineage), *(_training(lineage, run) if run else ()), *_code(lineage)]
    return Made(
        why=lineage.why,
        hypothesis=lineage.hypothesis,
        facts=tuple((name, value) for name, value in facts if value),
        data=tuple(
            (file.path, f"{file.kept:,} of {file.rows:,}", file.format, "; ".join(file.steps), file.digest)
            for file in (run.data if run else ())
        ),
        settings=tuple(flat(by_name(run.config)).items()) if run else (),
        environment=tuple(flat(by_name(lineage.environment)).items()),
        curves=tuple(_curves(run)) if run else (),
        run=run is not None,
    )


def _origin(lineage: Lineage) -> Iterator[tuple[str, str]]:
    parent = lineage.parent
    yield "Version", f"{lineage.name}, {lineage.kind}, {lineage.digest}"
    yield "Trained from", f"{parent.name} ({parent.path}), {parent.digest}" if parent else ""
    yield "Made", lineage.created


def _training(lineage: Lineage, run: TrainingRun) -> Iterator[tuple[str, str]]:
    yield "Configuration", f"{run.config_file or 'not stated'}, {run.config_digest}"
    yield "Changed on the command line", ", ".join(run.overrides)
    yield "Progress", f"{lineage.step or 0:,} steps, {lineage.epoch or 0:g} epochs, {run.seconds:,.0f} s"
    yield "Loss", f"{run.losses[0]:.4f} at first, {run.losses[-1]:.4f} at last" if run.losses else ""
    yield "Loss on held-out rows", f"{run.held_out_loss:.4f}" if run.held_out_loss is not None else ""
    yield "Rows in the order in which they were kept", run.data_digest
    leaked = [f"{task}: {text.listed(ids, 5)}" for task, ids in sorted(run.leaked.items())]
    yield "Eval samples in the training text", "; ".join(leaked) or "none was found"


def _code(lineage: Lineage) -> Iterator[tuple[str, str]]:
    code = lineage.code
    commit = code.get("commit")
    changed = f", and what was not committed ({short(str(code.get('diff')))})" if code.get("dirty") else ""
    yield "Code", f"{commit}{changed}" if commit else ""
    yield "Command", lineage.command


def _curves(run: TrainingRun) -> Iterator[Curve]:
    for title, unit, values in (
        ("Training loss", "nats per token", run.losses),
        ("Gradient norm", "", run.grad_norms),
        ("Learning rate", "", run.learning_rates),
    ):
        if found := curve(title, unit, values):
            yield found
