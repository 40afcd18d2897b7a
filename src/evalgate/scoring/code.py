"""A user's own function as a scorer, and the digest of its code: source, and the values and helpers that it names."""

from __future__ import annotations

import ast
import contextlib
import copyreg
import functools
import inspect
import os
import symtable
import sys
import sysconfig
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from evalgate.digest import canonical, digest
from evalgate.errors import TaskError
from evalgate.scoring.scorer import Score, Scorer

if TYPE_CHECKING:
    from evalgate.gate import Gate
    from evalgate.request import Completion
    from evalgate.task import Sample

MAX_VALUES = 20_000  # values looked at for one function: enough for word lists, too few for a model's weights
_LIBRARIES = tuple(f"{place}{os.sep}" for place in (sysconfig.get_path("stdlib"), Path(__file__).parents[1]))


def function(
    f: Callable[[str, Sample], float | bool | Score],
    name: str | None = None,
    low: float | None = 0.0,
    high: float | None = 1.0,
    binary: bool | None = None,
    higher_is_better: bool = True,
    settings: Mapping[str, Any] | None = None,
    *,
    gate: Gate | None = None,
) -> Scorer:
    """A scorer from a function of the answer and the sample; true is 1 and false is 0.

    The metric's identity holds the function's source, defaults and closure, and the module-level functions, classes
    and values that it names, and theirs. What the standard library or an installed package brings is known by name
    only, and so is what the function imports in its own body.

    Args:
        f: called with the answer's text and the sample; defined in a file.
        name: of the metric, by default the function's.
        low: lowest value.
        high: highest value, `None` for none.
        binary: every value is low or high; by default what `-> bool` says.
        higher_is_better: orientation.
        settings: what else changes the score, as JSON values, such as the digest of a file that the function reads.
        gate: margin and floor.

    Raises:
        TaskError: f cannot be called so, is a coroutine, has no name or no source. The identity is taken when first
            needed; then too, where something that f names has no content to identify it by.
    """
    name = name or getattr(f, "__name__", None)
    if name is None or name == "<lambda>":
        raise TaskError("function() needs a name for this callable", mend='Write function(f, name="…").')
    where = f"function {name}"
    if inspect.iscoroutinefunction(f):
        raise TaskError("a scorer is called and not awaited, and this is a coroutine function", where=where)
    try:
        with contextlib.suppress(ValueError):  # some callables of C code have no signature
            inspect.signature(f).bind("answer", "sample")
    except TypeError as error:
        raise TaskError(f"it is called as f(output, sample): {error}", where=where) from None
    if isinstance(f, FunctionType) and not _is_library(f.__code__.co_filename):
        _lines(f.__code__, name)
    if binary is None:
        binary = getattr(f, "__annotations__", {}).get("return") in (bool, "bool")

    def score(completion: Completion, sample: Sample) -> Score | float | bool:
        return f(completion.text, sample)

    return Scorer(
        name,
        score,
        low=low,
        high=high,
        binary=binary,
        higher_is_better=higher_is_better,
        gate=gate,
        settings={"scorer": "function", "settings": dict(settings or {})},
        code=f,
    )


def code_digest(f: Callable[..., Any]) -> str:
    """`sha256:…` of a function's source and everything of the user's that the source names, the same in every process.

    Raises:
        TaskError: a function without source, or a value without content (an open file, a lock), or too much of it.
    """
    return digest(_Description(getattr(f, "__name__", type(f).__name__)).of(f))


class _Description:
    """A walk over values that describes each as JSON values; functions and classes once, then by number."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        self.numbers: dict[int, tuple[int, object]] = {}  # by identity, and kept alive so that identities stay unique
        self.open: list[int] = []  # containers and objects that are being described, for cycles

    def of(self, value: Any) -> Any:
        self.count += 1
        if self.count > MAX_VALUES:
            raise self._error(f"names more than {MAX_VALUES} values")
        if value is None or type(value) in (bool, int, str):
            return value
        if isinstance(value, float | complex | bytes):
            return {type(value).__name__: repr(value)}
        if isinstance(value, ModuleType):
            return "module"  # what is used of it stands under its own name
        if isinstance(value, FunctionType | type):
            return self._code(value)
        if isinstance(value, MethodType):
            return {"method": [self.of(value.__func__), self.of(value.__self__)]}
        if id(value) in self.open:
            return {"within": len(self.open) - self.open.index(id(value))}
        self.open.append(id(value))
        try:
            return self._container(value)
        finally:
            self.open.pop()

    def _container(self, value: Any) -> Any:
        if type(value) in (list, tuple):
            return {type(value).__name__: [self.of(item) for item in value]}
        if type(value) is dict:
            return {"dict": [[self.of(key), self.of(item)] for key, item in value.items()]}
        if type(value) in (set, frozenset):
            return {"set": sorted((self.of(item) for item in value), key=canonical)}
        if isinstance(value, Scorer):  # its gate is policy
            return {"scorer": [value.name, value.version, self.of(dict(value.settings)), self.of(value.code)]}
        if isinstance(value, Enum):  # how pickle stores one differs between versions of Python
            return {"member": [self.of(type(value)), value.name, self.of(value.value)]}
        if hasattr(value, "__wrapped__"):  # functools.cache and its like
            return {"wrapper": self.of(value.__wrapped__)}
        return self._object(value)

    def _object(self, value: Any) -> Any:
        """What pickle would store of an object: its class and its state."""
        try:
            special = copyreg.dispatch_table.get(type(value))
            reduced = special(value) if special else value.__reduce_ex__(4)
        except Exception:
            kind = f"{type(value).__module__}.{type(value).__qualname__}"
            raise self._error(f"names a {kind}, which has no content that could be its identity") from None
        if isinstance(reduced, str):
            return {"global": [getattr(value, "__module__", None), reduced]}
        call, arguments, state, *items = (*reduced, None, None)[:5]
        if isinstance(state, dict):  # what a cached property holds depends on who asked before
            state = {k: v for k, v in state.items() if not isinstance(getattr(type(value), k, None), _CACHED)}
        return {
            "object": [
                self.of(call),
                self.of(arguments),
                self.of(state),
                *(self.of(list(item or ())) for item in items),
            ]
        }

    def _code(self, value: Any) -> Any:
        if id(value) in self.numbers:
            return {"again": self.numbers[id(value)][0]}
        self.numbers[id(value)] = (len(self.numbers), value)
        if _is_library(_file(value)):
            known = {"library": _library_name(value)}
            return known | ({"wrapped": self.of(value.__wrapped__)} if hasattr(value, "__wrapped__") else {})
        if isinstance(value, type):
            node, source = _definition(_lines(value, self.name), _first_line(value), value.__name__)
            bases = [self.of(base) for base in value.__bases__]
            return {
                "class": source,
                "bases": bases,
                "names": self._names(node, {}, vars(sys.modules[value.__module__])),
            }
        code = value.__code__
        node, source = _definition(_lines(code, self.name), code.co_firstlineno, code.co_name, code)
        closure = dict(_cells(value))
        return {
            "function": source,
            "defaults": self.of([value.__defaults__, value.__kwdefaults__]),
            "closure": {name: self.of(closure[name]) for name in sorted(closure)},
            "names": self._names(node, closure, value.__globals__),
        }

    def _names(self, node: ast.AST, closure: Mapping[str, Any], module: Mapping[str, Any]) -> dict[str, Any]:
        """Every name that the code takes from outside and that a module of the user's gives a value."""
        described: dict[str, Any] = {}
        outside = _outside(node)
        for chain in sorted(_chains(node)):
            if chain[0] not in outside or (chain[0] not in closure and chain[0] not in module):
                continue
            value = closure[chain[0]] if chain[0] in closure else module[chain[0]]
            used = 1
            while used < len(chain) and _is_user_module(value) and hasattr(value, chain[used]):
                value, used = getattr(value, chain[used]), used + 1
            name = ".".join(chain[:used])
            if name not in described and not (used == 1 and chain[0] in closure):
                described[name] = self.of(value)
        return described

    def _error(self, what: str) -> TaskError:
        return TaskError(
            what,
            where=f"function {self.name}",
            mend="Load it inside a function under functools.cache, and name its digest in settings={…}.",
        )


_CACHED = functools.cached_property


def _is_library(file: str | None) -> bool:
    """Whether code is the standard library's, an installed package's or evalgate's own: known by name."""
    if file is None or file.startswith("<frozen"):
        return True
    parts = Path(file).parts
    return file.startswith(_LIBRARIES) or "site-packages" in parts or "dist-packages" in parts


def _file(value: FunctionType | type) -> str | None:
    """Where a function or class is defined; `None` for what is built into the interpreter."""
    if isinstance(value, FunctionType):
        return value.__code__.co_filename
    if value.__module__ in sys.builtin_module_names:
        return None
    return getattr(sys.modules.get(value.__module__), "__file__", None) or "<unknown>"


def _library_name(value: FunctionType | type) -> str:
    """Its own name, also where functools.wraps gave it that of the user's function."""
    if isinstance(value, FunctionType):
        return f"{value.__globals__.get('__name__')}.{value.__code__.co_qualname}"
    return f"{value.__module__}.{value.__qualname__}"


def _is_user_module(value: Any) -> bool:
    if not isinstance(value, ModuleType):
        return False
    places: Iterable[str] = [value.__file__] if value.__file__ else getattr(value, "__path__", ())
    return any(not _is_library(place) for place in places)


def _cells(f: FunctionType) -> Iterator[tuple[str, Any]]:
    """The closure's names and values; a name that is not bound yet has none."""
    for name, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:
            yield name, None


def _lines(thing: CodeType | type, name: str) -> str:
    """The text of the file in which something is defined."""
    try:
        return "".join(inspect.findsource(thing)[0])
    except (OSError, TypeError):
        raise TaskError(
            "its source cannot be read, so a change of it could not be noticed",
            where=f"function {name}",
            mend="Define it in a file, not at a prompt or through exec.",
        ) from None


def _first_line(cls: type) -> int:
    return inspect.findsource(cls)[1] + 1


@functools.lru_cache(maxsize=16)
def _parse(text: str) -> ast.Module:
    return ast.parse(text)


def _definition(text: str, line: int, name: str, code: CodeType | None = None) -> tuple[ast.AST, str]:
    """The syntax tree and the dedented source of a function, lambda or class that begins on a line of a file.

    A lambda is exactly its own text, so that neither a neighbour nor a gate on the same line is part of it.
    """
    found: list[Any] = []
    for node in ast.walk(_parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if (first, node.name) == (line, name):
                found.append(node)
        elif isinstance(node, ast.Lambda) and (node.lineno, "<lambda>") == (line, name):
            found.append(node)
    if len(found) > 1 and code is not None:  # several lambdas on a line: the one whose body ends the code's positions
        ends = {position for position in code.co_positions() if None not in position}
        exact = [node for node in found if isinstance(node, ast.Lambda) and _span(node.body) in ends]
        found = [min(exact, key=_width)] if exact else found
    if not found:
        raise TaskError(
            "its source has changed since it was loaded", where=f"function {name}", mend="Start the command again."
        )
    sources = [textwrap.dedent(ast.get_source_segment(text, node, padded=True) or "") for node in found]
    return found[0], "\n".join(sources)


def _span(node: ast.expr) -> tuple[int, int | None, int, int | None]:
    return node.lineno, node.end_lineno, node.col_offset, node.end_col_offset


def _width(node: ast.Lambda) -> tuple[int, int]:
    return (node.end_lineno or 0) - node.lineno, (node.end_col_offset or 0) - node.col_offset


def _outside(node: ast.AST) -> set[str]:
    """Names that a definition uses and does not bind itself, at any depth."""
    pending = list(symtable.symtable(ast.unparse(node), "definition", "exec").get_children())
    names: set[str] = set()
    while pending:
        table = pending.pop()
        names |= {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global()}
        pending += table.get_children()
    return names


def _chains(node: ast.AST) -> set[tuple[str, ...]]:
    """Every dotted name in a definition: `helpers.text.fold` as its three parts, and each of its beginnings."""
    chains: set[tuple[str, ...]] = set()
    for part in ast.walk(node):
        attributes: list[str] = []
        while isinstance(part, ast.Attribute):
            attributes.append(part.attr)
            part = part.value
        if isinstance(part, ast.Name):
            chains.add((part.id, *reversed(attributes)))
    return chains
