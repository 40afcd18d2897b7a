"""How a version was made, as the card shows it: facts, configuration, the curve of its losses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from evalgate import text
from evalgate.digest import short
from evalgate.report.sides import flat
from evalgate.version import Lineage, TrainingRun

WIDTH, HEIGHT, POINTS = 640, 120, 200


@dataclass(frozen=True, slots=True)
class Curve:
    """Losses as the points of an SVG polyline in a box of `WIDTH` by `HEIGHT`, and the ends of the scale in words."""

    points: str
    low: str
    high: str
    steps: int


@dataclass(frozen=True, slots=True)
class Made:
    """What the card says of a training.

    Attributes:
        facts: names and values, in the order in which people ask.
        data: path, rows kept of rows, format, digest and steps of each file.
        settings: the resolved configuration, dotted names.
        curve: of the losses, `None` with fewer than two.
    """

    facts: tuple[tuple[str, str], ...]
    data: tuple[tuple[str, str], ...]
    settings: tuple[tuple[str, str], ...]
    curve: Curve | None


def made(lineage: Lineage | None) -> Made | None:
    """The training of a version, `None` where nobody says how it was made."""
    run = lineage.training if lineage else None
    if lineage is None or run is None:
        return None
    return Made(
        tuple((name, value) for name, value in _facts(lineage, run) if value),
        tuple(
            (file.path, f"{file.kept:,} of {file.rows:,} rows, {file.format}, {file.digest}; {'; '.join(file.steps)}")
            for file in run.data
        ),
        tuple(flat(run.config).items()),
        curve(run.losses),
    )


def _facts(lineage: Lineage, run: TrainingRun) -> Iterator[tuple[str, str]]:
    parent, code = lineage.parent, lineage.code
    yield "Why", lineage.why
    yield "Hypothesis", lineage.hypothesis
    yield "Trained from", f"{parent.name} ({parent.path}), {parent.digest}" if parent else ""
    yield "Configuration", f"{run.config_file or 'not stated'}, {run.config_digest}"
    yield "Changed on the command line", ", ".join(run.overrides)
    yield "Progress", f"{lineage.step or 0:,} steps, {lineage.epoch or 0:g} epochs, {run.seconds:,.0f} s"
    yield "Loss", f"{run.losses[0]:.4f} at first, {run.losses[-1]:.4f} at last" if run.losses else ""
    yield "Loss on held-out rows", f"{run.held_out_loss:.4f}" if run.held_out_loss is not None else ""
    leaked = [f"{task}: {text.listed(ids, 5)}" for task, ids in sorted(run.leaked.items())]
    yield "Eval samples in the training text", "; ".join(leaked) or "none was found"
    commit = code.get("commit")
    changed = f", and what was not committed ({short(str(code.get('diff')))})" if code.get("dirty") else ""
    yield "Code", f"{commit}{changed}" if commit else ""
    yield "Command", lineage.command
    yield "Again", f"evalgate reproduce {run.config.get('publishing', {}).get('runs', 'runs')}/{lineage.name}"


def curve(losses: Sequence[float]) -> Curve | None:
    """At most `POINTS` of the losses, each the mean of its share of the steps; the lowest lies at the bottom."""
    if len(losses) < 2:
        return None
    count = min(POINTS, len(losses))
    cuts = [len(losses) * i // count for i in range(count + 1)]
    means = [sum(losses[a:b]) / (b - a) for a, b in pairwise(cuts)]
    low, high = min(means), max(means)
    spread = (high - low) or 1.0
    points = (
        f"{WIDTH * i / (count - 1):.1f},{HEIGHT - HEIGHT * (mean - low) / spread:.1f}" for i, mean in enumerate(means)
    )
    return Curve(" ".join(points), f"{low:.3f}", f"{high:.3f}", len(losses))
