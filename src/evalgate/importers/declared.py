"""Configurations of other tools, read strictly: what stands where, so that a refusal can name file, line and key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evalgate.errors import MissingExtraError, TaskError
from evalgate.scoring.structure import parse_strictly

_MEND = "Leave it out, or keep that part with promptfoo itself."


@dataclass(frozen=True, slots=True)
class Place:
    """A value of a file, and where it stands.

    Attributes:
        value: as YAML and JSON have it.
        file: that holds it.
        keys: from the root of the file to it.
        lines: keys of a value to the line on which it begins; empty where the format does not tell.
    """

    value: Any
    file: Path
    keys: tuple[str | int, ...] = ()
    lines: Mapping[tuple[str | int, ...], int] = field(default_factory=dict)

    def child(self, key: str | int, default: Any = None) -> Place:
        """What stands under a key, or the default."""
        inside = key in self.value if isinstance(self.value, Mapping) else isinstance(key, int)
        return replace(self, value=self.value[key] if inside else default, keys=(*self.keys, key))

    def children(self) -> Iterator[Place]:
        """The members of a list."""
        for number in range(len(self.value)):
            yield self.child(number)

    @property
    def where(self) -> str:
        """`file:line, key.key[0]`, for messages."""
        known = next(
            (self.lines[keys] for n in range(len(self.keys), -1, -1) if (keys := self.keys[:n]) in self.lines), 0
        )
        told = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in self.keys).lstrip(".")
        return f"{self.file.name}{f':{known}' if known else ''}{f', {told}' if told else ''}"

    def error(self, what: str, mend: str | None = None) -> TaskError:
        """What is wrong here."""
        return TaskError(what, where=self.where, mend=mend)


def read(path: Path) -> Place:
    """A file of YAML or JSON, strictly: no key twice, no code.

    Raises:
        TaskError: it cannot be read, or is neither.
        MissingExtraError: it is YAML, and PyYAML is not installed.
    """
    empty = Place(None, path)
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise empty.error(f"cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None
    if path.suffix == ".json":
        try:
            return replace(empty, value=parse_strictly(text))
        except ValueError as error:
            raise empty.error(f"is not JSON: {error}") from None
    if path.suffix not in (".yaml", ".yml"):
        raise empty.error("is neither YAML nor JSON", "Configurations in JavaScript run code: write it out as YAML.")
    return _yaml(text, empty)


def _yaml(text: str, empty: Place) -> Place:
    try:
        import yaml
    except ImportError:
        raise MissingExtraError("pyyaml", "judges") from None
    lines: dict[tuple[str | int, ...], int] = {}

    def walk(node: yaml.Node, keys: tuple[str | int, ...]) -> None:
        lines.setdefault(keys, node.start_mark.line + 1)
        if isinstance(node, yaml.SequenceNode):
            for number, item in enumerate(node.value):
                walk(item, (*keys, number))
        elif isinstance(node, yaml.MappingNode):
            names = [key.value for key, _ in node.value if key.value != "<<"]
            if twice := [name for name, count in Counter(map(str, names)).items() if count > 1]:
                raise replace(empty, lines=lines, keys=keys).error(f"{twice[0]} stands here twice")
            for key, item in node.value:
                walk(item, (*keys, str(key.value)))

    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is not None:
            walk(root, ())
        return replace(empty, value=yaml.safe_load(text), lines=lines)
    except (yaml.YAMLError, RecursionError) as error:
        raise empty.error(f"is not YAML: {' '.join(str(error).split())}") from None


def only(place: Place, known: set[str]) -> None:
    """Refuse what is no object, and every key that is not known (TaskError)."""
    if not isinstance(place.value, Mapping):
        raise place.error(f"expected an object, found {place.value!r:.80}")
    for key in place.value:
        if key not in known:
            raise place.child(key).error(f"{key} is not supported", _MEND)
