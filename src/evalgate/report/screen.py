"""What text is shown on: a terminal of some width or a log; colours or none; an encoding that may be poor."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TextIO

from evalgate.gate import Outcome
from evalgate.report.terminal import wrapped

if TYPE_CHECKING:
    from rich.table import Table

SYMBOLS = {
    Outcome.PASS: "✓",
    Outcome.REGRESSION: "✗",
    Outcome.INCONCLUSIVE: "?",
    Outcome.INCOMPARABLE: "≠",
    Outcome.NO_BASELINE: "○",
    Outcome.ERROR: "!",
}
_ASCII = str.maketrans(
    {"✓": "+", "✗": "x", "≠": "#", "○": "o", "→": "->", "–": "-", "…": "...", "⏎": r"\n", "·": "-", "─": "-", "↓": "*"}
)
_RULE = "─"
_INDENT = "  "


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: inert, one line.
        style: such as `bold red`; where there are no colours it says nothing, so the text must.
        right: a number.
    """

    text: str
    style: str = ""
    right: bool = False


@dataclass(frozen=True, slots=True)
class Screen:
    """Where lines end up.

    Attributes:
        width: columns; `None` is a log, in which no line is broken, so that each can be found by its words.
        color: whether escape sequences are understood.
        encoding: of the stream.
    """

    width: int | None = None
    color: bool = False
    encoding: str = "utf-8"

    @classmethod
    def of(cls, stream: TextIO | None, *, color: bool | None = None) -> Self:
        """What a stream is.

        Args:
            stream: such as `sys.stdout`.
            color: where somebody decided that already; by default a terminal has colours, unless NO_COLOR is set or
                TERM says that it is dumb.
        """
        terminal = stream is not None and stream.isatty()
        if color is None:
            color = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        width = shutil.get_terminal_size().columns if terminal else None
        return cls(width, color, getattr(stream, "encoding", None) or "utf-8")

    def text(self, said: str) -> str:
        """The same in characters that the encoding has."""
        try:
            f"{said}{_RULE}".encode(self.encoding)
        except (UnicodeEncodeError, LookupError):
            return said.translate(_ASCII).encode("ascii", "backslashreplace").decode("ascii")
        return said

    def lines(self, said: str) -> list[str]:
        """Broken at spaces where it does not fit; nothing is cut, so paths can still be copied."""
        shown = self.text(said)
        return [shown] if self.width is None else wrapped(shown, self.width)

    def painted(self, said: str, style: str) -> str:
        """In a style, where there are colours."""
        if not self.color or not style:
            return said
        from rich.color import ColorSystem
        from rich.style import Style

        return Style.parse(style).render(said, color_system=ColorSystem.STANDARD)

    def table(self, header: Sequence[Cell], sections: Sequence[Sequence[Sequence[Cell]]]) -> list[str] | None:
        """Columns under a rule, and nothing else around them, so that they can be pasted anywhere.

        Args:
            header: of each column; `right` holds for its cells.
            sections: of rows, a blank line between them.

        Returns:
            Lines; `None` where they are wider than the screen.
        """
        from io import StringIO

        from rich.console import Console
        from rich.measure import Measurement

        table = self._table(header, sections)
        width = 1000 if self.width is None else self.width - len(_INDENT)
        console = Console(
            file=StringIO(),
            width=width,
            height=25,
            color_system="standard" if self.color else None,
            force_terminal=self.color,
            no_color=not self.color,
            legacy_windows=False,
        )
        if Measurement.get(console, console.options.update(max_width=1000), table).maximum > width:
            return None
        with console.capture() as captured:
            console.print(table)
        return [f"{_INDENT}{line}".rstrip() for line in captured.get().rstrip("\n").split("\n")]

    def _table(self, header: Sequence[Cell], sections: Sequence[Sequence[Sequence[Cell]]]) -> Table:
        from rich.box import Box
        from rich.table import Table
        from rich.text import Text

        blank, rule = "    \n", f" {self.text(_RULE) * 2} \n"
        box = Box(f"{blank}{blank}{rule}{blank * 5}", ascii=True)  # `ascii`: rich is not to choose another
        table = Table(box=box, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
        for cell in header:
            table.add_column(Text(self.text(cell.text)), justify="right" if cell.right else "left", no_wrap=True)
        for rows in sections:
            for row in rows:
                table.add_row(*(Text.assemble((self.text(cell.text), cell.style)) for cell in row))
            table.add_section()
        return table
