"""Programs that judges need and Python's registries do not have: installed by `evalgate setup`, beside no project."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from evalgate.errors import MissingToolError
from evalgate.judges.node import (
    ENTRY,
    FINISHED,
    LIBSQL,
    PROMPTFOO,
    find_node,
    libsql_package,
    npm_command,
    promptfoo_folder,
)

INSTALL_SECONDS = 900.0


def setup_promptfoo(
    environ: Mapping[str, str] | None = None, on_event: Callable[[str], None] = lambda text: None
) -> Path:
    """Install promptfoo, in exactly one version, where it is not yet; a folder that is there is complete.

    npm gets this process's environment: it needs the registry's address and perhaps a proxy. No script of any package
    is run.

    Args:
        environ: whose `EVALGATE_TOOLS`, `XDG_CACHE_HOME` and `HOME` say where.
        on_event: told in one line what happens.

    Returns:
        The folder, in `EVALGATE_TOOLS` or in the user's cache.

    Raises:
        MissingExtraError: there is no Node.js.
        MissingToolError: Node.js is too old, or npm failed.
    """
    environ = os.environ if environ is None else environ
    folder = promptfoo_folder(environ)
    if (folder / FINISHED).is_file():
        on_event(f"promptfoo {PROMPTFOO} is in {folder}")
        return folder
    packages = [f"promptfoo@{PROMPTFOO}", f"{libsql_package()}@{LIBSQL}"]
    npm, node = npm_command(environ), find_node(environ)
    folder.parent.mkdir(parents=True, exist_ok=True)
    on_event(f"installing {' '.join(packages)} into {folder}: about 300 MB, a minute")
    with tempfile.TemporaryDirectory(prefix=".promptfoo-", dir=folder.parent) as scratch:
        made = Path(scratch) / folder.name
        made.mkdir()
        (made / "package.json").write_text('{"private": true}\n', "utf-8")
        options = ["--omit=optional", "--ignore-scripts", "--no-audit", "--no-fund", "--save-exact", "--loglevel=error"]
        _npm([*npm, "install", *options, *packages], made, {**environ, "PATH": _path(environ, node)})
        if not (made / ENTRY).is_file():
            raise MissingToolError(f"npm ended well and left no {ENTRY}", where=str(folder))
        (made / FINISHED).write_text("\n".join(packages) + "\n", "utf-8")
        try:
            made.rename(folder)
        except OSError as error:
            if not (folder / FINISHED).is_file():  # else another setup was faster
                raise MissingToolError(f"cannot be put in place: {error.strerror}", where=str(folder)) from None
    on_event(f"promptfoo {PROMPTFOO} is in {folder}")
    return folder


def _path(environ: Mapping[str, str], node: Path) -> str:
    return os.pathsep.join(filter(None, (str(node.parent), environ.get("PATH"))))


def _npm(command: list[str], folder: Path, environ: Mapping[str, str]) -> None:
    try:
        ended = subprocess.run(
            command,
            cwd=folder,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=INSTALL_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingToolError(f"npm did not come to its end: {error}") from None
    if ended.returncode != 0:
        lines = [line.strip() for line in ended.stderr.splitlines() if "error" in line.lower()] or ["it said nothing"]
        told = "".join(char if char.isprintable() else " " for char in " ".join(lines[:3])[:500])
        raise MissingToolError(f"npm ended with status {ended.returncode}: {told}", mend="Is its registry reachable?")
