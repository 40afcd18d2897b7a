"""Which versions of its libraries stand behind a judge: part of its identity, known without importing any of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version

from evalgate.errors import ConfigError, MissingExtraError
from evalgate.judges.process import NAMES

DISTRIBUTIONS = {
    "deepeval": ("deepeval", "openai", "pydantic"),
    "ragas": ("ragas", "openai", "pydantic"),
    "uptrain": ("uptrain", "openai", "pydantic"),
}
"""By kind: the library itself first, then what writes its questions and reads its replies."""
FLOORS = {"deepeval": (4, 3, 1)}
"""Before it deepeval counted violations in four metrics: their scores would be upside down."""
EXTRAS = {"deepeval": "judges", "ragas": "judges", "uptrain": "uptrain"}
ASK_VERSIONS = """
import json, sys
from importlib.metadata import PackageNotFoundError, version
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        pass
print(json.dumps(found))
"""


def versions(kind: str, python: str | None) -> dict[str, str]:
    """Versions of the distributions behind a kind of judge; none for kinds that run no Python library.

    Args:
        kind: of an instrument.
        python: interpreter of the judges' process; `None` is this one.

    Raises:
        MissingExtraError: a distribution is not installed there.
        ConfigError: the interpreter does not run, or its library is too old to mean the same.
    """
    names = DISTRIBUTIONS.get(kind, ())
    found = _installed(names, None if python == sys.executable else python) if names else {}
    if missing := next((name for name in names if name not in found), None):
        raise MissingExtraError(missing, EXTRAS[kind])
    floor = FLOORS.get(kind, ())
    if floor and tuple(map(int, re.findall(r"\d+", found[kind])[: len(floor)])) < floor:
        wanted = ".".join(map(str, floor))
        raise ConfigError(
            f"{kind} {found[kind]} is too old, its scores mean something else: expected {wanted} or later",
            where=python or sys.executable,
            mend=f"pip install 'pytest-evalgate[{EXTRAS[kind]}]'",
        )
    return dict(found)


@lru_cache
def _installed(names: tuple[str, ...], python: str | None) -> dict[str, str]:
    if python is not None:
        return _asked(names, python)
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _asked(names: tuple[str, ...], python: str) -> dict[str, str]:
    environment = {name: os.environ[name] for name in NAMES - {"PYTHONPATH"} if name in os.environ}
    command = [python, "-P", "-c", ASK_VERSIONS, *names]
    try:
        said = subprocess.run(command, capture_output=True, check=True, timeout=60, env=environment)
        return dict(json.loads(said.stdout))
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise ConfigError(
            f"{python} does not run as a Python interpreter ({type(error).__name__})",
            where="judges.python",
            mend="Name the interpreter of an environment that has the judges' libraries.",
        ) from error
