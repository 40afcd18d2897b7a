"""From a training configuration to a published version: checked first, trained in a child, never trained twice."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evalgate.checkpoint import Checkpoint
from evalgate.digest import PREFIX, digest, short
from evalgate.errors import ConfigError, TrainingError
from evalgate.evaluate import Progress
from evalgate.preflight import DigestMemo, clean_view, load_template, read_checkpoint, resolve_model
from evalgate.publishing import publish
from evalgate.trackers import environment, note_of, write_all
from evalgate.training.config import load_training
from evalgate.training.data import TrainingData, read_data
from evalgate.training.job import FINAL, Export, Job, Trained
from evalgate.training.log import LOG as LOG_FILE
from evalgate.training.process import train
from evalgate.training.schema import TrainingConfig
from evalgate.version import Lineage, Parent, TrainingRun, require_published
from evalgate.versions import list_versions, read_lineage

ROWS = "evalgate.rows.txt"
LOG = "evalgate.log.jsonl"
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
        parent=Parent(start.name, _relative(config.model.base, root), start.digest, start.kind),
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


def _relative(text: str, root: Path) -> str:
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


def _name(config: TrainingConfig, root: Path, work: Path, key: str, parent: str) -> str:
    """The version's name: of the one that was made before, as configured, or reserved for this key and no other.

    The next number counts on from the parent's, too: a base v1 and its child v1 would be one in every table.
    """
    runs = root / config.publishing.runs
    for folder, _ in _made_by(runs, key):
        return folder.name
    if config.name:
        if (runs / config.name).exists():
            raise ConfigError(
                f"{config.publishing.runs}/{config.name} exists, made by another configuration or from other data",
                where="name",
                mend="Versions never change: choose another name, or none for the next free one.",
            )
        return config.name
    with _locked(work / "lock"):
        reserved = work / short(key, 24) / NAME
        taken = {path.name for path in runs.iterdir()} if runs.is_dir() else set()
        if reserved.is_file() and (name := reserved.read_text("utf-8")) not in taken:
            return name
        taken |= {parent, *(path.read_text("utf-8") for path in work.glob(f"*/{NAME}"))}
        numbers = [int(match[1]) for name in taken if (match := _NUMBERED.match(name))]
        name = f"v{max(numbers, default=0) + 1}"
        reserved.parent.mkdir(parents=True, exist_ok=True)
        reserved.write_text(name, "utf-8")
        return name


def _made_by(runs: Path, key: str) -> Iterator[tuple[Path, Lineage]]:
    """Final versions with this key."""
    for folder, lineage in list_versions(runs):
        if lineage.training and lineage.training.key == key and "-epoch-" not in lineage.name:
            yield folder, lineage


@contextmanager
def _locked(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a lock file; the kernel frees it when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting:
                waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def finetune(
    recipe: Recipe,
    *,
    leaked: Mapping[str, Sequence[str]] | None = None,
    command: str = "",
    progress: Progress | None = None,
) -> Path:
    """Train and publish what the recipe says, or find it published.

    Two processes with the same recipe train once: the second waits. After a crash the next call goes on from the last
    state that was saved, and publishes what is not published yet.

    Args:
        recipe: from `prepare`.
        leaked: suite/task to the ids of eval samples that stand in the training text, for the lineage.
        command: what was typed.
        progress: who is told how far training is.

    Returns:
        The folder of the final version; those of its epochs lie beside it.

    Raises:
        TrainingError: the trainer failed; nothing was published, and the next call resumes.
    """
    say = progress.say if progress else lambda _: None
    lock = recipe.folder.with_suffix(".lock")
    with _locked(lock, lambda: say(f"another process trains {recipe.name}: waiting for it")):
        known = recipe.published()
        if known:
            say(f"{known.name} was made from the same configuration and data: not trained again")
            _require_unchanged(known, recipe.base)
            return known
        say(f"training {recipe.name}: {described(recipe)}")
        try:
            trained = train_recipe(recipe, recipe.folder, progress)
        except TrainingError:
            (recipe.folder / NAME).unlink(missing_ok=True)  # another training may have the name
            raise
        versions = publish_exports(recipe, trained, recipe.folder, runs=recipe.runs, leaked=leaked, command=command)
        if trained.trackers:
            note, named = note_of(read_lineage(versions[-1]), versions[-1]), [recipe.config.tracking.uri or ""]
            for line in write_all(trained.trackers, note, recipe.root, trusted=named):
                say(line)
        shutil.rmtree(recipe.folder, ignore_errors=True)
        return versions[-1]


def described(recipe: Recipe) -> str:
    """A recipe in one line, for people."""
    config = recipe.config
    method = config.method if config.method == "full" else f"{config.method} r={config.lora.r}"
    rows = f"{len(recipe.data.rows):,} rows, {config.schedule.epochs:g} epochs"
    shared = f", {config.distribution.kind} × {config.distribution.processes}"
    return f"{method} on {recipe.parent.path}, {rows}{shared if config.distribution.kind != 'none' else ''}"


def train_recipe(recipe: Recipe, folder: Path, progress: Progress | None = None) -> Trained:
    """Run the trainer in a work folder (TrainingError); what it exports lies there and is not published."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe.data.write(folder)
    views = folder / "base"
    job = Job(
        folder=folder.resolve(),
        config=recipe.config,
        base=clean_view(recipe.base, views).resolve(),
        adapter=clean_view(recipe.adapter, views).resolve() if recipe.adapter else None,
        chat_template=recipe.template.resolve() if recipe.template else None,
        key=recipe.key,
        tracker_environment=recipe.tracker_environment,
    )
    try:
        return train(job, _Reporter(progress) if progress else None)
    finally:
        if progress:
            progress.stop()


class _Reporter:
    """Translates the trainer's log into progress."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def __call__(self, line: Mapping[str, Any]) -> None:
        if line["kind"] == "start":
            done = line["resumed_from"] or 0
            self._progress.start(line["steps"], done, unit="steps")
            if done:
                self._progress.say(f"resumed at step {done} of {line['steps']}")
        elif line["kind"] == "step":
            self._progress.advance(1, f"loss {line['loss']:.3f}")


def publish_exports(
    recipe: Recipe,
    trained: Trained,
    folder: Path,
    *,
    runs: Path,
    leaked: Mapping[str, Sequence[str]] | None = None,
    command: str = "",
) -> list[Path]:
    """Every export becomes a version, the final one last: where it stands, all of them do.

    Args:
        recipe: what was trained.
        trained: its exports.
        folder: the work folder, for the trainer's log.
        runs: where the versions appear.
        leaked: as of `finetune`.
        command: as of `finetune`.
    """
    ordered = sorted(trained.exports, key=lambda export: (export.name == FINAL, export.step))
    log = (folder / LOG_FILE).read_bytes()
    said = {task: tuple(ids) for task, ids in (leaked or {}).items()}
    return [_publish(recipe, trained, export, log, runs, said, command) for export in ordered]


def _publish(
    recipe: Recipe,
    trained: Trained,
    export: Export,
    log: bytes,
    runs: Path,
    leaked: Mapping[str, tuple[str, ...]],
    command: str,
) -> Path:
    config, final = recipe.config, export.name == FINAL
    run = TrainingRun(
        key=recipe.key,
        config=config.as_json(),
        data=recipe.data.files,
        data_digest=recipe.data.digest,
        losses=trained.losses[: export.step],
        held_out_loss=trained.held_out_loss if final else None,
        seconds=trained.seconds,
        overrides=recipe.overrides,
        config_file=_relative(str(recipe.config_file.resolve()), recipe.root),
        trackers=trained.trackers,
        leaked=leaked,
    )
    return publish(
        export.folder,
        root=recipe.root,
        name=recipe.name if final else f"{recipe.name}-{export.name}",
        runs=str(runs),
        parent=recipe.parent,
        training=run,
        epoch=export.epoch,
        step=export.step,
        environment=trained.environment,
        why=config.why,
        hypothesis=config.hypothesis,
        command=command,
        tokenizer_from=_tokenizer(recipe),
        base=Path(recipe.base.path or "") if config.method != "full" else None,
        sign_key=recipe.root / config.publishing.sign_key if config.publishing.sign_key else None,
        extra={ROWS: recipe.data.rows_text().encode(), LOG: log} if final else {},
    )


def _tokenizer(recipe: Recipe) -> Path | None:
    """Where full weights get their tokenizer's files from; an adapter's tokenizer is its base's."""
    return Path(recipe.base.path or "") if recipe.config.method == "full" else None


def _require_unchanged(folder: Path, base: Checkpoint) -> None:
    """A version that is used instead of a training must be what was published."""
    require_published(read_checkpoint(folder, base=Path(base.path or "")), read_lineage(folder))
