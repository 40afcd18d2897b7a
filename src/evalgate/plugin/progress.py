"""Progress of trainer and engine: a bar on a terminal, a line every ten per cent elsewhere."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, ExitStack, nullcontext
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from evalgate.report.terminal import safe

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID


class TerminalProgress:
    """Writes past pytest's capture, and only while trainer or engine works."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.quiet = config.option.verbose < 0
        self._stack = ExitStack()
        self._bar: Bar | None = None
        self._row: TaskID | None = None
        self._total = self._done = 0
        self._unit = ""
        self._began = 0.0

    def start(self, total: int, known: int, unit: str = "answers") -> None:
        """Show a bar, unless everything is known already."""
        self._total, self._done, self._unit, self._began = total - known, 0, unit, monotonic()
        if self.quiet or not self._total:
            return
        self._stack.enter_context(self._past_capture())
        print()  # noqa: T201 - pytest's cursor stands behind its own last line
        if sys.stdout.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                TextColumn("evalgate"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.description}"),
            )
            colors = self.config.get_terminal_writer().hasmarkup  # what --color, NO_COLOR and TERM come to
            console = Console(color_system="auto" if colors else None)
            self._bar = self._stack.enter_context(Progress(*columns, transient=True, console=console))
            self._row = self._bar.add_task("", total=self._total)

    def advance(self, count: int, note: str = "") -> None:
        """Move the bar; elsewhere say each tenth once."""
        before, self._done = self._done, self._done + count
        if self._bar and self._row is not None:
            self._bar.update(self._row, completed=self._done, description=note or None)
        elif not self.quiet and self._total and before * 10 // self._total != self._done * 10 // self._total:
            seconds = monotonic() - self._began
            said = (
                f"{self._done * 100 // self._total:3d} %  {self._done} of {self._total} {self._unit}, {seconds:.0f} s"
            )
            self.say(f"{said}, {note}" if note else said)

    def say(self, text: str) -> None:
        """One line, beside the bar where there is one; it may hold a checkpoint's name, or what a library said."""
        text = safe(text, 400)
        if self._bar and self._row is not None:
            self._bar.update(self._row, description=text)
        elif not self.quiet:
            with self._past_capture():
                print(f"evalgate: {text}", flush=True)  # noqa: T201

    def _past_capture(self) -> AbstractContextManager[object]:
        """Where pytest captures output, it does not capture this."""
        capture = self.config.pluginmanager.getplugin("capturemanager")
        return capture.global_and_fixture_disabled() if capture else nullcontext()

    def stop(self) -> None:
        """Give the terminal back to pytest."""
        self._bar = self._row = None
        self._stack.close()
