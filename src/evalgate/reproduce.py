"""Training a version again from what its lineage says, and comparing: bytes first, and where they differ, why."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalgate.asking import Progress
from evalgate.digest import short
from evalgate.errors import InputError
from evalgate.finetune import Recipe, publish_exports, recipe_of, train_recipe
from evalgate.preflight import DigestMemo
from evalgate.training.job import config_from_json
from evalgate.version import Lineage
from evalgate.versions import read_lineage

LOSS_TOLERANCE = 0.01
"""Relative difference up to which two loss curves agree: float32 sums in another order stay far below, other data or
other code does not."""
_NEVER_COMPARED = ("hostname", "seconds")


@dataclass(frozen=True, slots=True)
class Reproduction:
    """What came of training a version again.

    Attributes:
        lineage: of the version.
        again: of what was trained now.
        environment: name, value then, value now, of all that differs between the two machines or environments.
        files: names of the files whose bytes differ.
        loss_difference: largest relative difference of the losses of one step.
        loss_step: the step at which it stands, from 1.
    """

    lineage: Lineage
    again: Lineage
    environment: tuple[tuple[str, str, str], ...]
    files: tuple[str, ...]
    loss_difference: float
    loss_step: int

    @property
    def identical(self) -> bool:
        """The same content, byte for byte."""
        return self.lineage.digest == self.again.digest

    @property
    def agrees(self) -> bool:
        """Identical, or made in another environment with losses that are the same but for rounding."""
        return self.identical or (bool(self.environment) and self.loss_difference <= LOSS_TOLERANCE)

    def lines(self) -> list[str]:
        """What a person should read."""
        name = self.lineage.name
        if self.identical:
            return [f"{name} reproduced, byte for byte: {short(self.lineage.digest)}"]
        said = [
            f"{name} is {short(self.lineage.digest)}, trained again it is {short(self.again.digest)}; "
            f"other bytes: {', '.join(self.files)}"
        ]
        said += [f"  {key}: was {then}, is {now}" for key, then, now in self.environment]
        if not self.environment:
            said.append("  nothing differs in the environment: training is not deterministic here")
        word = "agree" if self.loss_difference <= LOSS_TOLERANCE else "differ"
        largest = f"by {self.loss_difference:.2g} at most (relative, step {self.loss_step})"
        return [*said, f"losses {word}: {largest}, tolerance {LOSS_TOLERANCE:g}"]


def reproduce(
    folder: Path, *, root: Path, state: Path, progress: Progress | None = None, memo: DigestMemo | None = None
) -> Reproduction:
    """Train a version again in a folder of its own and compare; nothing is published.

    Raises:
        InputError: the version says too little, or its data, base or template is not what it was.
        TrainingError: the trainer failed.
    """
    lineage = read_lineage(folder)
    recipe = recipe_again(lineage, root=root, state=state, memo=memo)
    state.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="reproduce-", dir=state))
    try:
        trained = train_recipe(recipe, work / "training", progress)
        versions = publish_exports(recipe, trained, work / "training", runs=work / "runs")
        made = {again.step: again for again in map(read_lineage, versions)}
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return compared(lineage, _at_step(made, lineage))


def _at_step(made: Mapping[int | None, Lineage], lineage: Lineage) -> Lineage:
    if lineage.step not in made:
        raise InputError(
            f"stands at step {lineage.step}, training again exported {', '.join(map(str, made))}",
            where=lineage.name,
            mend="Reproduce the final version.",
        )
    return made[lineage.step]


def recipe_again(lineage: Lineage, *, root: Path, state: Path, memo: DigestMemo | None = None) -> Recipe:
    """The recipe that a lineage tells, known to be the same one (InputError names what is not what it was)."""
    run = lineage.training
    if run is None or not run.data:
        raise InputError(
            "was published by another program, which did not say how it was trained",
            where=lineage.name,
            mend="Only versions that --train or finetune has made can be reproduced.",
        )
    unheard = {**run.config["tracking"], "trackers": [], "uri": None}
    # an alias may have moved since: the parent's own folder is meant
    model = {**run.config["model"], "base": lineage.parent.path if lineage.parent else run.config["model"]["base"]}
    unsigned = {**run.config["publishing"], "sign_key": None}  # nobody will see what is made, and the key may be away
    changes = {"name": None, "tracking": unheard, "publishing": unsigned, "model": model}
    recipe = recipe_of(
        config_from_json({**run.config, **changes}),
        config_file=root / (run.config_file or ""),
        overrides=run.overrides,
        root=root,
        state=state,
        memo=memo,
    )
    changed = [
        f"{now.path} (was {short(then.digest)}, is {short(now.digest)})"
        for then, now in zip(run.data, recipe.data.files, strict=True)
        if then.digest != now.digest
    ]
    if lineage.parent and lineage.parent.digest != recipe.parent.digest:
        changed.append(f"{lineage.parent.path} (was {short(lineage.parent.digest)}, is {short(recipe.parent.digest)})")
    if not changed and recipe.key != run.key:
        changed.append("the chat template, or how this evalgate prepares data")
    if changed:
        raise InputError(
            f"cannot be made again from other inputs: changed since: {', '.join(changed)}",
            where=lineage.name,
            mend="Restore them (git stash or checkout the commit that the lineage names).",
        )
    return recipe


def compared(then: Lineage, now: Lineage) -> Reproduction:
    """Two lineages of the same recipe."""
    losses = (then.training.losses if then.training else (), now.training.losses if now.training else ())
    difference, step = _losses(*losses)
    files = sorted(name for name in then.files if _is_content(name) and then.files[name] != now.files.get(name))
    return Reproduction(then, now, _environment(then.environment, now.environment), tuple(files), difference, step)


def _is_content(name: str) -> bool:
    return not name.startswith("evalgate.")


def _losses(then: Sequence[float], now: Sequence[float]) -> tuple[float, int]:
    """The largest relative difference and its step; of curves of different length it is infinite."""
    if len(then) != len(now):
        return float("inf"), min(len(then), len(now)) + 1
    differences = [abs(a - b) / max(abs(a), 1e-12) for a, b in zip(then, now, strict=True)]
    largest = max(differences, default=0.0)
    return largest, differences.index(largest) + 1 if differences else 0


def _environment(then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    before, after = dict(_flat(then)), dict(_flat(now))
    names = [*before, *(name for name in after if name not in before)]
    return tuple(
        (name, before.get(name, "not there"), after.get(name, "not there"))
        for name in names
        if name.rpartition(".")[2] not in _NEVER_COMPARED and before.get(name) != after.get(name)
    )


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _flat(inner, f"{prefix}{key}.")
        elif isinstance(inner, list | tuple):
            yield f"{prefix}{key}", " ".join(map(str, inner))
        else:
            yield f"{prefix}{key}", str(inner)
