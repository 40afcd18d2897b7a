"""What is to be trained, checked: configuration, data, base, and the name that the version will have."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from evalgate.checkpoint import Checkpoint
from evalgate.digest import PREFIX, digest, short
from evalgate.errors import ConfigError, InputError
from evalgate.lock import alone
from evalgate.preflight import DigestMemo, load_template, read_checkpoint, resolve_model
from evalgate.preflight.adapter import read_adapter_config
from evalgate.preflight.files import open_folder
from evalgate.trackers import environment
from evalgate.training.config import load_training
from evalgate.training.data import TrainingData, read_data
from evalgate.training.schema import TrainingConfig
from evalgate.version import EPOCH_NAME, Lineage, Parent
from evalgate.versions import list_versions

NAME = "name"  # in a work folder: the version's name, reserved
_NUMBERED = re.compile(r"v([0-9]+)")


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that a training needs, checked: nothing that a person typed or wrote can be wrong with it any more.

    Attributes:
        config: resolved.
        config_file: it was composed from.
        overrides: `key=value` as they were typed.
        root: of the project.
        parent: what training begins from.
        base: full weights, checked.
        adapter: the adapter that is trained on, checked.
        template: chat template to train and publish with.
        data: rows in order.
        key: digest of all that decides the weights; nothing with the same key is trained twice.
        name: of the version that will appear, or of the one that is there.
        folder: of work: log, resume state, exports.
        tracker_environment: variables for the child's trackers.
    """

    config: TrainingConfig
    config_file: Path
    overrides: tuple[str, ...]
    root: Path
    parent: Parent
    base: Checkpoint
    adapter: Checkpoint | None
    template: Path | None
    data: TrainingData
    key: str
    name: str
    folder: Path
    tracker_environment: Mapping[str, str]

    @property
    def runs(self) -> Path:
        """Where its versions appear."""
        return self.root / self.config.publishing.runs

    def published(self) -> Path | None:
        """The version that this recipe made before, wherever it got its name."""
        return next((folder for folder, _ in _made_by(self.runs, self.key)), None)


def prepare(
    config_file: Path, overrides: Sequence[str], *, root: Path, state: Path, memo: DigestMemo | None = None
) -> Recipe:
    """Read and check everything, before any model is loaded.

    Args:
        config_file: a Hydra configuration.
        overrides: `key=value`, as typed.
        root: of the project; paths in the configuration are relative to it.
        state: `.evalgate`.
        memo: digests of files read before.

    Raises:
        InputError: whatever is wrong with the configuration, the data, the base or the name.
    """
    return recipe_of(
        load_training(config_file, overrides, root),
        config_file=config_file,
        overrides=overrides,
        root=root,
        state=state,
        memo=memo,
    )


def recipe_of(
    config: TrainingConfig,
    *,
    config_file: Path,
    overrides: Sequence[str],
    root: Path,
    state: Path,
    memo: DigestMemo | None = None,
) -> Recipe:
    """What a configuration means here and now: its data read, its base checked, its key and name known (InputError)."""
    data = read_data(config, root)
    start = read_checkpoint(resolve_model(_from_root(config.model.base, root)), memo=memo)
    template = root / config.model.chat_template if config.model.chat_template else None
    _require_fit(config, data, start, template)
    key = digest(
        {
            "format": 1,
            "recipe": config.recipe(),
            "parent": start.digest,
            "template": PREFIX + hashlib.sha256(template.read_bytes()).hexdigest() if template else None,
            "data": data.digest,
        }
    )
    work = state / "training"
    name = _name(config, root, work, key, start.name)
    return Recipe(
        config=config,
        config_file=config_file,
        overrides=tuple(overrides),
        root=root,
        parent=Parent(start.name, relative(config.model.base, root), start.digest, start.kind),
        base=start.root,
        adapter=start if start.base else None,
        template=template,
        data=data,
        key=key,
        name=name,
        folder=work / short(key, 24),
        tracker_environment=environment(asdict(config.tracking), root=root, state=state, run=f"{name}-{short(key, 8)}"),
    )


def _from_root(text: str, root: Path) -> str:
    return str(root / text) if (root / text).exists() else text


def relative(text: str, root: Path) -> str:
    """A path as the lineage names it: from the project's root where it lies inside, else as it was given."""
    path = (root / text).resolve()
    return str(path.relative_to(root.resolve())) if path.exists() and path.is_relative_to(root.resolve()) else text


def _require_fit(config: TrainingConfig, data: TrainingData, start: Checkpoint, template: Path | None) -> None:
    """What configuration, data and base can only be wrong about together."""
    if start.base and config.method == "full":
        raise ConfigError(
            f"method = full, but model.base = {config.model.base} is an adapter",
            where="training",
            mend="Train an adapter on (method=lora), or merge it into full weights first (merge_and_unload).",
        )
    if start.base:
        _require_its_own(config, start)
    chats = any(file.format == "messages" for file in data.files)
    if chats and template is None and load_template(start) is None:
        raise ConfigError(
            f"the data has messages, and {config.model.base} has no chat template",
            where="data.files",
            mend="Give one with model.chat_template, or write the rows as prompt and completion.",
        )
    if start.context and config.data.max_length > start.context:
        raise ConfigError(
            f"data.max_length = {config.data.max_length}, but {config.model.base} holds {start.context} tokens",
            where="data.max_length",
            mend=f"Set data.max_length to {start.context} or less.",
        )


def _require_its_own(config: TrainingConfig, adapter: Checkpoint) -> None:
    """An adapter that is trained on keeps its rank and scale: a lineage that says others would be wrong."""
    stated = read_adapter_config(open_folder(Path(adapter.path or "")))
    asked = {"r": config.lora.r, "lora_alpha": config.lora.alpha, "lora_dropout": config.lora.dropout}
    own = {key: stated.get(key, value) for key, value in asked.items()}
    if asked != own:
        settings = " ".join(f"lora.{key.removeprefix('lora_')}={value}" for key, value in own.items())
        raise ConfigError(
            f"{config.model.base} is an adapter that has {settings}, and training on does not change them",
            where="lora",
            mend=f"Write {settings}, or begin from its base.",
        )


def _name(config: TrainingConfig, root: Path, work: Path, key: str, parent: str) -> str:
    """The version's name: of the one that was made before, as configured, or reserved for this key and no other.

    The next number counts on from the parent's, too: a base v1 and its child v1 would be one in every table.
    """
    runs = root / config.publishing.runs
    for folder, _ in _made_by(runs, key):
        return folder.name
    if config.name:
        _require_free(config.name, runs, key, config.publishing.runs)
        return config.name
    with alone(work / "lock", "naming a version", wait=lambda _: None):
        folder = work / short(key, 24)
        reserved = {path.parent: _reserved(path) for path in work.glob(f"*/{NAME}")}
        taken = {path.name for path in runs.iterdir()} if runs.is_dir() else set()  # after what a publisher gives back
        if (name := reserved.get(folder)) and name not in taken:
            return name
        numbers = [int(match[1]) for name in {*taken, parent, *reserved.values()} if (match := _NUMBERED.match(name))]
        name = f"v{max(numbers, default=0) + 1}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / NAME).write_text(name, "utf-8")
        except OSError as error:
            mend = "Make room, or give this user the right to write there."
            raise InputError(f"no name could be kept: {error.strerror}", where=str(folder), mend=mend) from error
        return name


def release(recipe: Recipe) -> None:
    """Give a reserved name back where nothing was trained: looking and refusals leave no gaps in the numbers."""
    with suppress(OSError):
        if [path.name for path in recipe.folder.iterdir()] == [NAME]:
            (recipe.folder / NAME).unlink()
            recipe.folder.rmdir()


def _require_free(name: str, runs: Path, key: str, shown: str) -> None:
    """Neither the name nor that of an epoch is another training's (ConfigError)."""
    of_others = (
        folder.name
        for folder, lineage in list_versions(runs)
        if folder.name.startswith(f"{name}-epoch-") and not (lineage.training and lineage.training.key == key)
    )
    taken = name if os.path.lexists(runs / name) else next(of_others, None)
    if taken:
        raise ConfigError(
            f"{shown}/{taken} exists, made by another configuration or from other data",
            where="name",
            mend="Versions never change: choose another name, or none for the next free one.",
        )


def _reserved(path: Path) -> str:
    """The name in a work folder; none where the folder has just gone, or its maker died before it wrote the name."""
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return ""


def _made_by(runs: Path, key: str) -> Iterator[tuple[Path, Lineage]]:
    """Final versions with this key."""
    for folder, lineage in list_versions(runs):
        if lineage.training and lineage.training.key == key and not EPOCH_NAME.fullmatch(lineage.name):
            yield folder, lineage


def described(recipe: Recipe) -> str:
    """A recipe in one line, for people."""
    config = recipe.config
    method = config.method if config.method == "full" else f"{config.method} r={config.lora.r}"
    rows = f"{len(recipe.data.rows):,} rows, {config.schedule.epochs:g} epochs"
    shared = f", {config.distribution.kind} × {config.distribution.processes}"
    return f"{method} on {recipe.parent.path}, {rows}{shared if config.distribution.kind != 'none' else ''}"
