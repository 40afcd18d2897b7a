"""JSON from a checkpoint: strict, bounded, and searched for keys that make a library run or fetch code."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from evalgate.errors import CheckpointError
from evalgate.preflight.files import MAX_SMALL_FILE, Folder, decoded, quoted

MAX_DEPTH = 64

_CODE_KEYS = ("auto_map", "trust_remote_code", "model_file", "custom_generate", "custom_pipelines")
_KERNEL_KEY = re.compile(r"_*(attn|experts)_implementation.*")
_KERNEL_NAME = re.compile(r"[A-Za-z0-9_|]*")
_LEAVE_OUT_CODE = "Use the version of the model without its own code (save it again with a transformers class)."


class _RefusedError(ValueError):
    """Raised inside the JSON parser's hooks; the message is ours."""


def parse_object(data: bytes, where: str) -> dict[str, Any]:
    """The JSON object in a file.

    Stricter than `json.loads`: UTF-8 only, no key twice in an object, no NaN, no number beyond float64. `Infinity`
    stays as text, since real configurations have it and it has no canonical JSON.

    Raises:
        CheckpointError: with line and column where the syntax is wrong.
    """
    text = decoded(data, where)
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)
    except _RefusedError as error:
        raise CheckpointError(str(error), where=where, mend="Get the file from its source again.") from None
    except json.JSONDecodeError as error:
        raise CheckpointError(
            f"is not JSON at line {error.lineno}:{error.colno} ({error.msg})",
            where=where,
            mend="Get the file from its source again: it may be cut.",
        ) from None
    except (RecursionError, ValueError) as error:
        what = "is nested too deep" if isinstance(error, RecursionError) else "holds a number of too many digits"
        raise CheckpointError(what, where=where, mend="Get the file from its source again.") from None
    if not isinstance(value, dict):
        raise CheckpointError("is no JSON object", where=where, mend="Get the file from its source again.")
    return value


def read_object(folder: Folder, name: str, limit: int = MAX_SMALL_FILE) -> dict[str, Any]:
    """The JSON object in a file of the folder, of at most `limit` bytes."""
    return parse_object(folder.read(name, limit), folder.where(name))


def read_config(folder: Folder, name: str) -> dict[str, Any]:
    """A library's configuration, after `refuse_code`."""
    config = read_object(folder, name)
    refuse_code(config, folder.where(name))
    return config


def refuse_code(config: dict[str, Any], where: str) -> None:
    """Refuse keys, at any depth, by which a library would import, fetch or run something.

    `trust_remote_code=False` alone was bypassed several times in transformers and vLLM, so such a file is never shown
    to them.

    Raises:
        CheckpointError: naming the key.
    """
    waiting: list[tuple[str, Any, int]] = [("", config, 0)]
    while waiting:
        path, value, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise CheckpointError(
                f"is nested more than {MAX_DEPTH} deep", where=where, mend="Get the file from its source again."
            )
        if isinstance(value, list):
            waiting.extend((f"{path}[{i}]", item, depth + 1) for i, item in enumerate(value) if item)
        if not isinstance(value, dict):
            continue
        for key, item in value.items():
            here = f"{path}.{key}" if path else key
            if key in _CODE_KEYS and item:
                raise CheckpointError(
                    f"{quoted(here)} asks for code to be loaded, and evalgate runs none from a checkpoint",
                    where=where,
                    mend=_LEAVE_OUT_CODE,
                )
            if _KERNEL_KEY.fullmatch(key):
                _refuse_kernel(here, item, where)
            waiting.append((here, item, depth + 1))


def _refuse_kernel(path: str, value: Any, where: str) -> None:
    """An attention implementation may be a word the library knows, not a repository to fetch a kernel from."""
    names = value.values() if isinstance(value, dict) else (value,)
    for name in names:
        if name is not None and not isinstance(name, bool) and not _KERNEL_NAME.fullmatch(str(name)):
            raise CheckpointError(
                f"{quoted(path)} is '{quoted(str(name))}', which names a repository to load code from",
                where=where,
                mend='Remove the key, or write "sdpa".',
            )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _RefusedError(f"has the key '{quoted(twice)}' twice")
    return value


def _constant(name: str) -> str:
    if name == "NaN":
        _refuse_number(name)
    return name


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        _refuse_number(text)
    return value


def _refuse_number(text: str) -> NoReturn:
    raise _RefusedError(f"holds the number {quoted(text)}")
