"""The Typer application that every command registers with, and what commands share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from evalgate.errors import EvalgateError

app = typer.Typer(
    name="evalgate",
    help="Gate fine-tuned language models: make, accept, compare, promote and inspect versions and their evaluations. "
    "The gate itself is pytest: pytest evalsuites/ --model runs/v3",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
console = Console(highlight=False)

Model = Annotated[str, typer.Argument(help="a checkpoint's folder, name or digest", show_default=False)]


def main() -> None:
    """Run a command; whatever a person did wrong is one line on standard error and exit code 2."""
    try:
        app()
    except EvalgateError as error:
        print(f"evalgate: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def shown(path: Path) -> Path:
    """A path as people see it: relative to where they stand, if it lies below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
