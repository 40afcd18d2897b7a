"""Training by a recipe: in a child, never twice, and what it exported published."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evalgate.asking import Progress
from evalgate.checkpoint import Checkpoint
from evalgate.errors import ConfigError, TrainingError
from evalgate.finetune.recipe import NAME, Recipe, described, relative
from evalgate.lock import alone
from evalgate.preflight import clean_view, read_checkpoint
from evalgate.publishing import code_now, publish
from evalgate.trackers import note_of, write_all
from evalgate.training.job import FINAL, Export, Job, Trained
from evalgate.training.log import LOG as LOG_FILE
from evalgate.training.process import train, writing
from evalgate.version import TrainingRun, require_published
from evalgate.versions import read_lineage, require_signer

ROWS = "evalgate.rows.txt"
LOG = "evalgate.log.jsonl"


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
    with alone(recipe.folder.with_suffix(".lock"), f"training {recipe.name}", wait=lambda who: say(f"{who}: waiting")):
        known = recipe.published()
        if known:
            say(f"{known.name} was made from the same configuration and data: not trained again")
            _require_unchanged(known, recipe.base)
            shutil.rmtree(recipe.folder, ignore_errors=True)  # of a process that was killed after it had published
            return known
        _require_publishable(recipe)
        say(f"training {recipe.name}: {described(recipe)}")
        code = code_now(recipe.root, recipe.runs)  # people go on working while a model is trained
        try:
            trained = train_recipe(recipe, recipe.folder, progress)
        except TrainingError:
            (recipe.folder / NAME).unlink(missing_ok=True)  # another training may have the name
            raise
        versions = publish_exports(
            recipe, trained, recipe.folder, runs=recipe.runs, leaked=leaked, command=command, code=code
        )
        if trained.trackers:
            note, named = note_of(read_lineage(versions[-1]), versions[-1]), [recipe.config.tracking.uri or ""]
            for line in write_all(trained.trackers, note, recipe.root, trusted=named):
                say(line)
        shutil.rmtree(recipe.folder, ignore_errors=True)
        return versions[-1]


def _require_publishable(recipe: Recipe) -> None:
    """Hours of training must not end where no version can be published or signed (ConfigError, MissingExtraError)."""
    there = next(path for path in (recipe.runs, *recipe.runs.resolve().parents) if os.path.lexists(path))
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(
            f"publishing.runs = {recipe.config.publishing.runs}: no folder that can be written to",
            where=str(there),
            mend="Choose another folder, or give this user the right to write there.",
        )
    if recipe.config.publishing.sign_key:
        require_signer(recipe.root / recipe.config.publishing.sign_key)


def train_recipe(recipe: Recipe, folder: Path, progress: Progress | None = None) -> Trained:
    """Run the trainer in a work folder (TrainingError); what it exports lies there and is not published."""
    views = folder / "base"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        recipe.data.write(folder)
        base = clean_view(recipe.base, views).resolve()
        adapter = clean_view(recipe.adapter, views).resolve() if recipe.adapter else None
    job = Job(
        folder=folder.resolve(),
        config=recipe.config,
        base=base,
        adapter=adapter,
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
    code: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Every export becomes a version, the final one last: where it stands, all of them do.

    Args:
        recipe: what was trained.
        trained: its exports.
        folder: the work folder, for the trainer's log.
        runs: where the versions appear.
        leaked: as of `finetune`.
        command: as of `finetune`.
        code: as of `publish`.
    """
    ordered = sorted(trained.exports, key=lambda export: (export.name == FINAL, export.step))
    log = (folder / LOG_FILE).read_bytes()
    said = {task: tuple(ids) for task, ids in (leaked or {}).items()}
    return [_publish(recipe, trained, export, log, runs, said, command, code) for export in ordered]


def _publish(
    recipe: Recipe,
    trained: Trained,
    export: Export,
    log: bytes,
    runs: Path,
    leaked: Mapping[str, tuple[str, ...]],
    command: str,
    code: Mapping[str, Any] | None,
) -> Path:
    config, final = recipe.config, export.name == FINAL
    run = TrainingRun(
        key=recipe.key,
        config=config.as_json(),
        data=recipe.data.files,
        data_digest=recipe.data.digest,
        losses=trained.losses[: export.step],
        grad_norms=trained.grad_norms[: export.step],
        learning_rates=trained.learning_rates[: export.step],
        held_out_loss=trained.held_out_loss if final else None,
        seconds=trained.seconds,
        overrides=recipe.overrides,
        config_file=relative(str(recipe.config_file.resolve()), recipe.root),
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
        code=code,
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
