"""Publishing: from a folder that some trainer saved to an immutable version, whole or not at all. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evalgate import __version__
from evalgate.checkpoint import Checkpoint
from evalgate.digest import short
from evalgate.errors import CheckpointError, ConfigError, RecordError
from evalgate.preflight import adapter, read_checkpoint, tokenizer
from evalgate.preflight.files import Folder, open_folder, open_regular
from evalgate.preflight.template import template_files
from evalgate.preflight.view import allowed_files
from evalgate.version import LINEAGE, Lineage, Parent, TrainingRun
from evalgate.versions import Staging, check_name, code_of, environment_of, next_name, read_lineage, sign

CHUNK = 4 << 20


def publish(
    folder: Path | str,
    *,
    root: Path | str = ".",
    name: str | None = None,
    runs: str = "runs",
    parent: Parent | None = None,
    training: TrainingRun | None = None,
    epoch: float | None = None,
    step: int | None = None,
    environment: Mapping[str, Any] | None = None,
    code: Mapping[str, Any] | None = None,
    why: str = "",
    hypothesis: str = "",
    command: str = "",
    tokenizer_from: Path | str | None = None,
    base: Path | str | None = None,
    sign_key: Path | str | None = None,
    extra: Mapping[str, bytes] | None = None,
) -> Path:
    """Make `runs/<name>` of a plain Hugging Face or PEFT folder in safetensors, from whatever trainer it comes.

    The folder is copied: only what an engine may see, so that no trainer's leftovers come along. The copy is checked as
    `--model` checks it, gets its `evalgate.json`, becomes read-only and appears by one rename. A process that dies
    leaves nothing that is visible.

    Args:
        folder: as `save_pretrained` wrote it.
        root: of the project.
        name: of the version; by default the next free `v<number>`, also with several publishers at once.
        runs: folder of the versions below the project.
        parent: what training began from.
        training: how it was trained.
        epoch: how far training was.
        step: optimizer steps.
        environment: of the process that trained; by default what is installed where this runs.
        code: `code_now` of when training began; by default as it is when this runs.
        why: the rationale.
        hypothesis: what it should improve and may not break.
        command: what was typed.
        tokenizer_from: folder whose tokenizer goes with full weights that bring none, byte for byte.
        base: folder of an adapter's base; by default where adapter_config.json says.
        sign_key: private key (PEM, elliptic curve) to sign the version with.
        extra: more files by name, such as `evalgate.rows.txt`.

    Returns:
        The version's folder. Where it stands there already, with the same weights of the same training, nothing is
        done.

    Raises:
        CheckpointError: the folder cannot be trusted or served.
        ConfigError: no name for a version, another version has it, or the key cannot be used.
        RecordError: the disk refused.
        MissingExtraError: signing, and model-signing is not installed.
    """
    root = Path(root).resolve()
    versions = root / runs
    if name is not None:
        check_name(name)
    source = open_folder(Path(folder))
    lent = open_folder(Path(tokenizer_from)) if tokenizer_from else None
    with Staging(versions) as staging:
        found = _base_of(source, Path(base) if base else None, root)
        for file, chunks in _content(source, lent, found, root):
            staging.write(file, chunks)
        for file, data in (extra or {}).items():
            if file in staging.digests:
                raise ConfigError("is a file of the version already", where=file, mend="Give it another name.")
            staging.write(check_name(file), (data,))
        checkpoint = _read(staging.path, found, source)
        digests = dict(sorted(staging.digests.items()))
        code = code_now(root, versions) if code is None else code
        while True:
            chosen = name or next_name(versions)
            lineage = Lineage(
                name=chosen,
                digest=checkpoint.digest,
                kind=checkpoint.kind,
                files=digests,
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                parent=parent,
                base=_base_entry(checkpoint, root),
                epoch=epoch,
                step=step,
                training=training,
                code=code,
                environment=environment_of() if environment is None else environment,
                why=why,
                hypothesis=hypothesis,
                command=command,
                evalgate=__version__,
            )
            staging.write(LINEAGE, (_serialise(lineage),))
            if sign_key:
                sign(staging.path, Path(sign_key))
            if done := staging.publish(chosen):
                return done
            if name is not None:
                return _the_same(versions / name, lineage)


def code_now(root: Path, runs: Path) -> dict[str, Any]:
    """The state of the project's code in git, of which what evalgate writes is no part."""
    root = root.resolve()
    return code_of(root, (".evalgate", *_below(runs, root)))


def _content(
    source: Folder, lent: Folder | None, base: Path | None, root: Path
) -> Iterator[tuple[str, Iterator[bytes]]]:
    """The files of the version: their names, and their bytes in chunks."""
    for name in allowed_files(source):
        if name == adapter.CONFIG:
            yield name, iter((_canonical(source, base, root),))
        else:
            yield name, _chunks(source, name)
    if lent and not adapter.is_adapter(source) and not tokenizer.has_tokenizer(source):
        brings = set(allowed_files(source))
        templates = () if template_files(source) else template_files(lent)
        for name in (*tokenizer.FILES, *templates):
            if name in lent.files and name not in brings:
                yield name, _chunks(lent, name)


def _chunks(folder: Folder, name: str) -> Iterator[bytes]:
    with open_regular(folder.files[name], folder.where(name)) as file:
        yield from iter(lambda: file.read(CHUNK), b"")


def _canonical(source: Folder, base: Path | None, root: Path) -> bytes:
    """PEFT's configuration with sets and keys in one order, and the base where the project finds it."""
    config = adapter.read_adapter_config(source)
    config |= {key: sorted(config[key], key=str) for key in adapter.UNORDERED if isinstance(config.get(key), list)}
    if base and (place := base.resolve()).is_relative_to(root):
        config["base_model_name_or_path"] = place.relative_to(root).as_posix()
    elif base and (
        (stated := Path(str(config.get("base_model_name_or_path")))).is_absolute() or stated.parts[:1] == ("..",)
    ):
        config["base_model_name_or_path"] = str(base.resolve())  # it meant a place of the trainer's; a hub's name stays
    return json.dumps(config, indent=2, sort_keys=True, allow_nan=False).encode() + b"\n"


def _base_of(source: Folder, given: Path | None, root: Path) -> Path | None:
    """The folder of an adapter's base, `None` for full weights."""
    if not adapter.is_adapter(source):
        return None
    config = adapter.read_adapter_config(source)
    stated = config.get("base_model_name_or_path")
    if given is None and isinstance(stated, str) and "\0" not in stated and not (source.path / stated).is_dir():
        given = root / stated if (root / stated).is_dir() else None
    return adapter.find_base(source, config, given)


def _read(staged: Path, base: Path | None, source: Folder) -> Checkpoint:
    """The checkpoint in the making; what is wrong with it is said of the folder that people know."""
    try:
        return read_checkpoint(staged, base=base)
    except CheckpointError as error:
        where = error.where and error.where.replace(str(staged), source.shown)
        raise CheckpointError(error.what, where=where, mend=error.mend) from error


def _below(folder: Path, root: Path) -> tuple[str, ...]:
    place = folder.resolve()
    return (place.relative_to(root).as_posix(),) if place.is_relative_to(root) else ()


def _base_entry(checkpoint: Checkpoint, root: Path) -> dict[str, str] | None:
    base = checkpoint.base
    if base is None or base.path is None:
        return None
    path = Path(base.path)
    shown = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
    return {"digest": base.digest, "name": base.name, "path": shown}


def _serialise(lineage: Lineage) -> bytes:
    try:
        text = json.dumps(lineage.as_json(), indent=2, ensure_ascii=False, allow_nan=False)
        return text.encode("utf-8", "backslashreplace") + b"\n"
    except (TypeError, ValueError) as error:
        raise RecordError(
            f"the lineage cannot be written: {error}", where=lineage.name, mend="It holds texts and finite numbers."
        ) from error


def _the_same(place: Path, lineage: Lineage) -> Path:
    """The version that has the name, if it is this one."""
    mend = "Versions are never overwritten: choose another name, or none for the next number."
    try:
        there = read_lineage(place)
    except RecordError as error:
        raise ConfigError(f"{error.what}, but the name is taken", where=str(place), mend=mend) from error
    keys = [each.training.key if each.training else None for each in (there, lineage)]
    if there.digest == lineage.digest and keys[0] == keys[1]:
        return place
    raise ConfigError(
        f"there is a version of this name, with other content ({short(there.digest)}, this is {short(lineage.digest)})"
        if there.digest != lineage.digest
        else "there is a version of this name, with the same weights from another training",
        where=str(place),
        mend=mend,
    )
