"""What has to be installed once on a machine and is no Python library: evalgate setup."""

from __future__ import annotations

import typer

from evalgate.cli.app import app, console

setup = typer.Typer(no_args_is_help=True, help="Install a program that some judges need.", rich_markup_mode=None)
app.add_typer(setup, name="setup")


@setup.command()
def promptfoo() -> None:
    """Install promptfoo into a cache folder: $EVALGATE_TOOLS, else evalgate/ in the user's cache."""
    from evalgate.report.terminal import safe
    from evalgate.tools import setup_promptfoo

    setup_promptfoo(on_event=lambda text: console.print(safe(text, 500), markup=False, soft_wrap=True))
