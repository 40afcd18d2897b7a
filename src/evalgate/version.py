"""A published version: what made a checkpoint, as `evalgate.json` in its folder says it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from evalgate.checkpoint import Checkpoint
from evalgate.digest import digest, short
from evalgate.errors import ConfigError, RecordError

LINEAGE = "evalgate.json"
FORMAT = 1
Norm = float | None  # of a gradient: none where float16 overflowed and the step was skipped


@dataclass(frozen=True, slots=True)
class Parent:
    """What training began from.

    Attributes:
        name: what people call it.
        path: relative to the project where it lies inside, else as it was given.
        digest: of that checkpoint's content.
        kind: `full` or `adapter`.
    """

    name: str
    path: str
    digest: str
    kind: str = "full"


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file of training data.

    Attributes:
        path: relative to the project.
        digest: `sha256:…` of its bytes.
        rows: in the file.
        kept: of those, how many were trained on.
        format: `prompt-completion` or `messages`.
        steps: what was done to its rows, in order, in words.
    """

    path: str
    digest: str
    rows: int
    kept: int
    format: str
    steps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """How a version was trained.

    Attributes:
        key: digest of recipe, parent, template and data: the same key is never trained twice.
        config: the resolved configuration.
        data: its files.
        data_digest: of the rows in the order in which they were kept.
        losses: loss of every optimizer step up to this version, in order.
        held_out_loss: on the rows kept from training, `None` without any.
        seconds: of wall time, over all its interruptions.
        overrides: `key=value` as they were typed.
        config_file: relative to the project.
        trackers: by name, what finds the run again (run id, address); values are JSON.
        leaked: suite/task to the ids of the eval samples that stand in the training text.
        grad_norms: of every step beside its loss; empty in versions that were published before it was kept.
        learning_rates: likewise.
    """

    key: str
    config: Mapping[str, Any]
    data: tuple[DataFile, ...]
    data_digest: str
    losses: tuple[float, ...] = ()
    held_out_loss: float | None = None
    seconds: float = 0.0
    overrides: tuple[str, ...] = ()
    config_file: str | None = None
    trackers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    leaked: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    grad_norms: tuple[Norm, ...] = ()
    learning_rates: tuple[float, ...] = ()

    @property
    def config_digest(self) -> str:
        """Of the resolved configuration."""
        return digest(dict(self.config))


@dataclass(frozen=True, slots=True)
class Lineage:
    """The content of `evalgate.json`.

    Attributes:
        name: of the version: its folder's name.
        digest: of the checkpoint's content, the same that records, cache and baselines know it by.
        kind: `full` or `adapter`.
        files: name to `sha256:…` of every other file of the folder.
        created: UTC time, ISO 8601.
        parent: what training began from, `None` where another program did not say.
        base: the full checkpoint under an adapter: its `digest`, `None` for full weights.
        epoch: how far training was.
        step: optimizer steps.
        training: how it was trained, `None` where another program published it and did not say.
        code: `commit` (or `None`), `dirty`, and `diff`, the digest of what is not committed.
        environment: package versions, interpreter, processor and its features, threads, GPU and driver, flags.
        why: the rationale.
        hypothesis: what it should improve and may not break.
        command: what was typed.
        evalgate: version that wrote this.
        format: of this file.
    """

    name: str
    digest: str
    kind: str
    files: Mapping[str, str]
    created: str
    parent: Parent | None = None
    base: Mapping[str, str] | None = None
    epoch: float | None = None
    step: int | None = None
    training: TrainingRun | None = None
    code: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""
    hypothesis: str = ""
    command: str = ""
    evalgate: str = ""
    format: int = FORMAT

    def as_json(self) -> dict[str, Any]:
        """As it stands in the file; `config_digest` is written beside the configuration for people."""
        value = asdict(self)
        if self.training:
            value["training"]["config_digest"] = self.training.config_digest
        return value


def require_published(checkpoint: Checkpoint, lineage: Lineage | None) -> None:
    """Refuse a version whose content is no longer what its lineage says (RecordError)."""
    if lineage and lineage.digest != checkpoint.digest:
        raise RecordError(
            f"was changed after it was published: it was {short(lineage.digest)}, it is {short(checkpoint.digest)}",
            where=str(checkpoint.path),
            mend="Versions never change: train it again, or restore the folder.",
        )


def lineage_from_json(value: Any, where: str) -> Lineage:
    """Read what `Lineage.as_json` wrote.

    Raises:
        RecordError: it is damaged, misses a field, or is of a newer format.
    """
    try:
        if value["format"] > FORMAT:
            raise RecordError(
                f"has format {value['format']}, this evalgate reads up to {FORMAT}",
                where=where,
                mend="Update evalgate.",
            )
        known = _known(Lineage, value)
        run = known["training"]
        known["parent"] = Parent(**_known(Parent, known["parent"])) if known["parent"] else None
        known["training"] = _run(run, where) if run else None
        return Lineage(**known)
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise RecordError(f"is no lineage of a version: {exc!r}", where=where, mend="Publish it again.") from exc


def _run(value: Mapping[str, Any], where: str) -> TrainingRun:
    known = _known(TrainingRun, {"grad_norms": [], "learning_rates": [], **value})
    known["data"] = tuple(DataFile(**_tupled(_known(DataFile, each), "steps")) for each in known["data"])
    known["leaked"] = {task: tuple(map(str, ids)) for task, ids in known["leaked"].items()}
    known["trackers"] = {name: dict(run) for name, run in known["trackers"].items()}
    run = TrainingRun(**_tupled(known, "losses", "overrides", "grad_norms", "learning_rates"))
    if value["config_digest"] != run.config_digest:
        raise RecordError(
            "the configuration was changed after it was published: its digest differs",
            where=where,
            mend="Make the version again.",
        )
    return run


_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "None": (type(None),),
    "Norm": (int, float, type(None)),
    "tuple": (list, tuple),
    **dict.fromkeys(("Mapping", "Parent", "TrainingRun", "DataFile"), (dict,)),
}
"""What a value is for the first word of its field's annotation, in JSON and as `as_json` returns it."""


def _known(kind: type[Any], value: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a dataclass, each of the kind of value that its annotation says (KeyError, TypeError)."""
    for each in fields(kind):
        good = _fits(value[each.name], str(each.type))
        if not good or (each.name == "kind" and value["kind"] not in ("full", "adapter")):
            raise TypeError(f"{each.name} is {str(value[each.name])[:40]!r}, expected {each.type}")
    return {each.name: value[each.name] for each in fields(kind)}


def _fits(value: Any, annotation: str) -> bool:
    """Whether a JSON value is of one of the annotation's alternatives, and so is what it holds."""
    for alternative in annotation.split(" | "):
        word, _, inside = alternative.removesuffix("]").partition("[")
        of = inside.removesuffix(", ...").rpartition(", ")[2].partition("[")[0]
        held = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
        if isinstance(value, _KINDS[word]) and all(isinstance(each, _KINDS.get(of, (object,))) for each in held):
            return True
    return False


def _tupled(value: dict[str, Any], *names: str) -> dict[str, Any]:
    sequences: dict[str, Sequence[Any]] = {name: tuple(value[name]) for name in names}
    return {**value, **sequences}


_MAX_NAME = 100
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+=,@-]*")
EPOCH_NAME = re.compile(r".*-epoch-[0-9]+", re.IGNORECASE)
"""What only the epochs of a version are called."""


def check_version_name(name: str, where: str | None = None) -> None:
    """A version's name is that of its folder: it stays in the folder of all versions, on every file system.

    Args:
        name: as it was typed.
        where: the name was found in, for the message.

    Raises:
        ConfigError: it could leave the folder, hide in it, or is kept for the epochs of another version.
    """
    if len(name) > _MAX_NAME:
        raise ConfigError(f"a version name has up to {_MAX_NAME} characters, this one {len(name)}", where=where)
    if not _NAME.fullmatch(name) or ".." in name:
        mend = "Use ASCII letters, digits and . _ + = , @ - (no two dots together, and neither . nor - first)."
        raise ConfigError(f"{name!a} is no name of a version", where=where, mend=mend)
    if EPOCH_NAME.fullmatch(name):
        mend = "Choose a name without -epoch-<number> at its end."
        raise ConfigError(f"the name {name} is kept for an epoch of a version", where=where, mend=mend)
