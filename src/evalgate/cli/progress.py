"""Progress of long work on the command line: a bar on a terminal, few lines elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from rich.console import Console


class ConsoleProgress:
    """Implements `evalgate.asking.Progress`."""

    def __init__(self, console: Console) -> None:
        columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
        self._console = console
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._row = self._bar.add_task("", total=None)

    def start(self, total: int, known: int, unit: str = "answers") -> None:
        """Show a bar."""
        self._bar.update(self._row, total=total, completed=known, description=unit)
        self._bar.start()

    def advance(self, count: int, note: str = "") -> None:
        """Move it."""
        self._bar.update(self._row, advance=count, description=note or None)

    def say(self, text: str) -> None:
        """One line."""
        self._console.print(f"evalgate: {text}", markup=False, soft_wrap=True)

    def stop(self) -> None:
        """Take the bar away."""
        self._bar.stop()
