"""Hostile text in Markdown: whatever a model, a judge or a data file wrote shows as itself and as nothing else.

For a README on the hub, a CI summary, a comment on a pull request. What Markdown reads as structure becomes a character
reference or is escaped (CommonMark 0.31, 2.4 and 2.5: neither can stand for structure). Sites go on to link what stands
in the rendered text (addresses, @people, #issues); a word joiner, which nobody sees, breaks those.
"""

from __future__ import annotations

import re

from evalgate.report.terminal import safe

_JOINER = "\u2060"
# References, not backslashes, where a parser of tables, HTML or templates looks before Markdown's own rules apply.
_ESCAPES = str.maketrans(
    {char: f"&#{ord(char)};" for char in "&<>|\\`{}"} | {char: f"\\{char}" for char in "*_[]~$"},
)
# What GitHub and GitLab link by themselves: addresses, www., @people, #1, !1, $1, %1, ~label, &1, [kind:1], GH-1.
_LINKED = re.compile(
    r"(?<=[@#!$%~&\[*^])(?=[\w\"])|(?<=\bgh)(?=-\d)|(?<=:)(?=//)|(?<=::)(?=:)|(?<=www)(?=\.)", re.IGNORECASE
)
# What means something at a line's start alone: lists, headings, underlines, tables, a comment's commands; no number.
_LEADING = re.compile(r"^(\d{1,9}(?=[.)](?:\s|$))|(?=[=#:/]|[-+](?![\w.])))")
_TEMPLATE = re.compile(r"(?<=\{)(?=[{%#])|(?<=::)(?=:)")


def inline(text: str, limit: int = 200) -> str:
    """Text for a table's cell, a heading or a sentence: one line that shows the text and does nothing.

    Args:
        text: anything a model, a judge, a data file or a checkpoint may have written.
        limit: longest text shown, in characters as people see them; the escapes come on top.
    """
    shown = safe(text.strip(), limit)
    return _LEADING.sub(r"\1\\", _LINKED.sub(_JOINER, shown).translate(_ESCAPES))


def fenced(text: str, limit: int) -> str:
    """Text of several lines as a code block that nothing in it can close; no line feed at the end.

    Args:
        text: as for `inline`.
        limit: longest text shown, in characters.
    """
    head = text[: limit + 1].replace("\r\n", "\n")
    lines = "\n".join(safe(line, limit) for line in head.split("\n"))
    shown = _TEMPLATE.sub(_JOINER, lines if len(text) <= limit else f"{lines[: limit - 1]}…")
    longest = max((len(run) for run in re.findall(r"`+", shown)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{shown}\n{fence}"
