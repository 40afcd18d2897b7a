"""From a Hydra configuration and overrides to a checked `TrainingConfig`, or one line that says what is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from evalgate.errors import ConfigError, MissingExtraError
from evalgate.training.ranges import RULES, check_ranges, shown
from evalgate.training.schema import TrainingConfig
from evalgate.version import check_version_name

SCHEMA = "evalgate"  # what a configuration's defaults begin with
_SUFFIX = ".yaml"
_GROUPS = tuple(f.name for f in fields(TrainingConfig) if is_dataclass(f.default_factory))
_ELSEWHERE = re.compile(r".+@[0-9a-f]{40}|models:/.+")  # of a hub or a registry: no folder of the project
_COMPOSED_FROM = re.compile(r"In '([^']+)'")


def load_training(path: Path, overrides: Sequence[str], root: Path) -> TrainingConfig:
    """Compose a configuration and check all of it; no library that loads models is imported.

    The file's defaults name `evalgate` first, then what is chosen of the folders beside it (`lora: r8`), then `_self_`.

    Args:
        path: a `.yaml` file.
        overrides: in Hydra's grammar: `lora.r=16`, or `lora=r16` for a choice of a folder.
        root: of the project, to which the paths in a configuration are relative.

    Raises:
        ConfigError: the file, a key, a value or an override cannot be used, or a file it names is not there.
        MissingExtraError: hydra-core, or what the configuration needs, is not installed.
    """
    _require_file(path)
    for override in overrides:
        if _key_of(override).startswith("hydra"):
            raise ConfigError("settings of Hydra itself change nothing here", where=f"--train-set {shown(override)}")
    try:
        config = _composed(path.resolve(), list(overrides))
    except (ConfigError, MissingExtraError):
        raise
    except Exception as exc:
        raise _explained(exc, path, overrides) from exc

    def where(key: str) -> str:
        return _override_of(key, overrides) or str(path)

    check_ranges(config, where)
    if config.name is not None:
        check_version_name(config.name, where("name"))
    _check_files(config, root, where)
    return config


def _composed(path: Path, overrides: list[str]) -> TrainingConfig:
    try:
        from hydra import compose, initialize_config_dir
        from hydra.core.config_store import ConfigStore
        from hydra.core.global_hydra import GlobalHydra
        from omegaconf import OmegaConf
    except ImportError:
        raise MissingExtraError("hydra-core", "train") from None

    with _hydra_as_it_was():
        GlobalHydra.instance().clear()
        ConfigStore.instance().store(SCHEMA, TrainingConfig)
        with initialize_config_dir(str(path.parent), job_name=SCHEMA, version_base="1.3"):
            composed = compose(path.name.removesuffix(_SUFFIX), overrides)
    # Plain values again: a key that `+` forced in, or a file without `evalgate` in its defaults, is checked here too.
    values = OmegaConf.create(OmegaConf.to_container(composed))
    merged = OmegaConf.merge(OmegaConf.structured(TrainingConfig), values)
    if missing := sorted(OmegaConf.missing_keys(merged)):
        raise ConfigError(
            f"{' and '.join(missing)} must be given",
            where=str(path),
            mend="Write it in the file, choose a group that has them, or use --train-set key=value.",
        )
    config: TrainingConfig = OmegaConf.to_object(merged)  # type: ignore[assignment]
    return config


@contextmanager
def _hydra_as_it_was() -> Iterator[None]:
    """Hydra keeps what it knows in globals of the process; another program's Hydra must not see ours."""
    from hydra.core.singleton import Singleton

    state = Singleton.get_state()
    try:
        yield
    finally:
        Singleton.set_state(state)


def _require_file(path: Path) -> None:
    if not path.is_file():
        what = "is a folder, expected a .yaml file" if path.is_dir() else "there is no such file"
        raise ConfigError(what, where=str(path), mend=_neighbour(path))
    if path.suffix != _SUFFIX or path.stem == SCHEMA:
        mend = f"Rename it: Hydra reads {_SUFFIX} files, and {SCHEMA}{_SUFFIX} would hide the schema."
        raise ConfigError("cannot be a configuration's name", where=str(path), mend=mend)


def _check_files(config: TrainingConfig, root: Path, where: Callable[[str], str]) -> None:
    """What a configuration names is there; what is in it is checked by those who read it."""
    if not _ELSEWHERE.fullmatch(config.model.base):
        _require(root, config.model.base, "model.base", where, folder=True)
    for name in config.data.files:
        _require(root, name, "data.files", where)
    if len({(root / name).resolve() for name in config.data.files}) < len(config.data.files):
        raise ConfigError("data.files names a file twice", where=where("data.files"), mend="Name each file once.")
    for key, file in (
        ("model.chat_template", config.model.chat_template),
        ("publishing.sign_key", config.publishing.sign_key),
    ):
        if file is not None:
            _require(root, file, key, where)


def _require(root: Path, name: str, key: str, where: Callable[[str], str], *, folder: bool = False) -> None:
    path = root / name
    try:
        found = path.is_dir() if folder else path.is_file()
    except OSError:  # longer than a path can be
        found = False
    if not found:
        what = f"{key} = {shown(name)}: there is no such {'folder' if folder else 'file'}"
        raise ConfigError(what, where=where(key), mend=_neighbour(path) or f"Paths are relative to {root}.")


def _neighbour(path: Path) -> str | None:
    try:
        others = sorted(other.name for other in path.parent.iterdir())
    except OSError:
        return None
    near = get_close_matches(path.name, others, n=1)
    return f"Did you mean {near[0]}?" if near and near[0] != path.name else None


def _override_of(key: str, overrides: Sequence[str]) -> str | None:
    """The last override that set a key, the group around it, or a value in it."""
    for override in reversed(overrides):
        name = _key_of(override)
        if name and (f"{key}.".startswith(f"{name}.") or name.startswith(f"{key}.")):
            return f"--train-set {shown(override)}"
    return None


def _key_of(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def _explained(exc: Exception, path: Path, overrides: Sequence[str]) -> ConfigError:
    """What Hydra, OmegaConf or YAML said, as one line about the user's file or override."""
    from hydra.errors import MissingConfigException, OverrideParseException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import MarkedYAMLError

    if isinstance(exc, MarkedYAMLError):
        mark = exc.problem_mark
        return ConfigError(f"not YAML: {exc.problem}", where=f"{mark.name}:{mark.line + 1}" if mark else str(path))
    if isinstance(exc, MissingConfigException):
        return _no_choice(str(exc.missing_cfg_file), exc.options or (), path, overrides)
    if isinstance(exc, OverrideParseException):
        message = str(exc).partition("\nSee ")[0]
        mend = "Write key=value; quote text with special characters: key='a, b'."
        return ConfigError(f"cannot be read: {message}", where=f"--train-set {shown(exc.override)}", mend=mend)
    said = next((each for each in _chain(exc) if isinstance(each, OmegaConfBaseException) and each.full_key), None)
    if said is not None:
        return _bad_key(said, exc, path, overrides)
    if isinstance(exc, UnicodeDecodeError):
        return ConfigError(f"not UTF-8: byte 0x{exc.object[exc.start]:02x} at offset {exc.start}", where=str(path))
    lines = [line.strip(" .") for each in _chain(exc) for line in str(each).splitlines() if line.strip()] or [repr(exc)]
    reason = lines[1] if lines[0].endswith("raised while composing config:") else lines[0]
    override = next((each for each in overrides if f"'{_key_of(each)}" in reason), None)
    where = f"--train-set {shown(override)}" if override else str(path)
    mend = f"Its defaults are a list: {SCHEMA} first, then choices such as lora: r8, and _self_ last."
    return ConfigError(
        f"cannot be composed: {reason}",
        where=where,
        mend="Write key=value with one value; a list is key=[a,b]." if override else mend,
    )


def _chain(exc: BaseException | None) -> Iterator[BaseException]:
    while exc is not None:
        yield exc
        exc = exc.__cause__ or exc.__context__


def _no_choice(name: str, options: Sequence[str], path: Path, overrides: Sequence[str]) -> ConfigError:
    """`lora: r99`, where the folder has no `r99.yaml`."""
    group, _, choice = name.rpartition("/")
    where = _override_of(group, overrides) or str(path)
    if not group:
        mend = f"They begin with {SCHEMA}; other files are chosen from the folders that they lie in: lora: r8."
        return ConfigError(f"its defaults name {choice!r}, and there is no such file", where=where, mend=mend)
    if not options:
        near = get_close_matches(group, _GROUPS, 1)
        mend = f"Did you mean {near[0]}?" if near else f"Make {group}/{choice}.yaml beside {path.name}."
        return ConfigError(f"there is no folder {group} beside it, to choose {choice!r} from", where=where, mend=mend)
    return ConfigError(f"{group} has no {choice!r}", where=where, mend=f"There are {', '.join(options)}.")


def _bad_key(said: Any, exc: Exception, path: Path, overrides: Sequence[str]) -> ConfigError:
    """A key that is not there, or whose value has the wrong type."""
    key = str(said.full_key)
    source = _COMPOSED_FROM.match(str(exc))
    where = _override_of(key, overrides) or str(path.parent / f"{source[1] if source else path.stem}{_SUFFIX}")
    first = str(said).splitlines()[0].rstrip(".")
    if "nterpolation" in type(said).__name__:
        return ConfigError(f"{key}: {first}", where=where)
    if key in RULES:
        value = "null" if said.value is None else shown(said.value)
        return ConfigError(f"{key} = {value}: expected {RULES[key][1]}", where=where)
    if key in _GROUPS and said.object_type is not dict:
        mend = (
            f"Set one of its values ({key}.… = …), or make files to choose from in a folder {key} beside {path.name}."
        )
        return ConfigError(f"{key} is a group of settings, expected no single value", where=where, mend=mend)
    if key in _GROUPS or key in RULES:
        return ConfigError(f"{key} is not set yet", where=where, mend=f"Name {SCHEMA} first in the defaults of {path}.")
    leaf = key.rpartition(".")[2]
    near = get_close_matches(key, RULES, 1) or [name for name in RULES if name.rpartition(".")[2] == leaf]
    known = dict.fromkeys(name.partition(".")[0] for name in RULES)
    mend = f"Did you mean {near[0]}?" if near else f"There are {', '.join(known)}."
    return ConfigError(f"unknown key {shown(key)}", where=where, mend=mend)
