"""Hostile text in Markdown: parsed the way readers parse it, it is text and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from evalgate.report.markdown import fenced, inline

PAYLOADS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</td></tr></table><h1>PASSED</h1>",
    "<details open><summary>x</summary>",
    "<!-- hidden",
    "--> shown <!--",
    "<?php",
    "<![CDATA[x",
    "<https://example.org>",
    "<me@example.org>",
    "![x](https://example.org/x.png)",
    "![x][r]",
    "[x](https://example.org)",
    "[x](javascript:alert(1))",
    "[x][r]",
    "[r]: https://example.org",
    "[^1]: a footnote",
    "- [x] done",
    "**bold** __bold__ *em* _em_ ***both***",
    "~~gone~~ ~sub~",
    "`code` ``co`de``",
    "```\nfence\n```",
    "~~~\nfence\n~~~",
    "```yaml\nname: x",
    "| a | b |\n|---|---|\n| 1 | 2 |",
    "a | b",
    "a \\| b",
    "a \\\\| b",
    "trailing \\",
    "cell |\n\n# Heading",
    "# Heading",
    "###### Heading",
    "Title\n=====",
    "Title\n-----",
    "=====",
    "---",
    "***",
    "> quoted",
    "- item",
    "+ item",
    "* item",
    "1. item",
    "999999999) item",
    "    indented code",
    "\tindented code",
    "line  \nbreak",
    "line\\\nbreak",
    "&lt;script&gt; &copy; &#60;b&#62; &#x3c;i&#x3e;",
    "\\<b\\> \\[x\\](y)",
    "$x^2$ $$y$$",
    "::: warning",
    "{{ 7 * 7 }} {% raw %} {# no #}",
    "${{ secrets.TOKEN }}",
    "---\nlicense: mit\n---",
    "\u202e<b>\u2028# x\u0085- y\x00",
    "\ud800*half*",
    "`` ` ``",
]
LINKED = [
    "see https://example.org/a?b=c",
    "HTTP://EXAMPLE.ORG",
    "ftp://example.org/x",
    "www.example.org",
    "mail me@example.org",
    "mailto:me@example.org",
    "xmpp:me@example.org",
    "@maintainer please",
    "cc:@org/team",
    "#12",
    "owner/repo#12",
    "GH-12",
    "!12",
    "%12 ~12 &12 $12",
    '~"a label"',
    "[vulnerability:12]",
]
# What GitHub, GitLab and the hub find in rendered text: addresses, mentions, references to issues and the like.
_FOUND = re.compile(r"\w+://|\bwww\.|\w@\w|(?<!\w)@\w|[#!%~&$][\w\"]|\bGH-\d|\[\w+:\d", re.IGNORECASE)
_READ = re.compile(r"\{[{%#]|:::|\[\^|\[\w?\]|\$\$|<!--|-->")


def parser() -> MarkdownIt:
    """CommonMark with tables, strikethrough and HTML, which is what a breakout would need."""
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def words(markdown: str) -> tuple[list[str], str]:
    """Types of all tokens but containers of a paragraph or table, and the text that is shown."""
    tokens = parser().parse(markdown)
    kinds: list[str] = []
    shown: list[str] = []
    for token in tokens:
        inside = token.children or []
        kinds += [token.type, *(child.type for child in inside)]
        shown += ["".join(child.content for child in inside)] if inside else []
    return kinds, "\n".join(shown)


WHERE: dict[str, Callable[[str], str]] = {
    "a line": lambda text: text,
    "after a line": lambda text: f"before\n{text}",
    "a cell": lambda text: f"| a | b |\n|---|---|\n| {text} | end |",
    "a tight cell": lambda text: f"|a|b|\n|---|---|\n|{text}|end|",
    "a heading": lambda text: f"# {text}",
    "a bullet": lambda text: f"- {text}",
    "a quote": lambda text: f"> {text}",
}


@pytest.mark.parametrize("place", WHERE)
@pytest.mark.parametrize("payload", [*PAYLOADS, *LINKED])
def test_a_payload_is_text(payload: str, place: str) -> None:
    """Wherever a line of hostile text stands, the document has the structure it has with a harmless word there."""
    kinds, shown = words(WHERE[place](inline(payload)))
    plain, _ = words(WHERE[place]("word"))
    assert [kind for kind in kinds if kind != "text"] == [kind for kind in plain if kind != "text"]
    assert not _FOUND.search(shown), shown


def harmless(said: str) -> bool:
    """Whether raw text has no structure anywhere, shows as itself, and holds nothing that a site or template reads."""
    for place in WHERE.values():
        (kinds, shown), (plain, around) = words(place(said)), words(place("word"))
        if kinds != plain or shown != around.replace("word", said):
            return False
    return not _FOUND.search(said) and not _READ.search(said)


def test_the_payloads_act_where_nothing_stops_them() -> None:
    """Negative control: raw, every payload does something somewhere, or is something that a site or template reads."""
    assert len(PAYLOADS) >= 40
    assert not [payload for payload in [*PAYLOADS, *LINKED] if harmless(payload)]


def test_templates_find_nothing() -> None:
    """No delimiter of Jinja, Liquid or a workflow expression is left, in a line or in a block."""
    for payload in ("{{ 7 * 7 }}", "{% raw %}", "{# no #}", "${{ secrets.TOKEN }}", "::: note", "a\n::: note"):
        for said in (inline(payload), fenced(payload, 100)):
            assert not _READ.search(said), said


def test_what_is_shown_is_what_was_written() -> None:
    """A reader sees the text itself; names and numbers stay readable in the file too."""
    for text in ("exact match", "arithmetic/addition", "a|b", "<b>", "-6.2 pt [-9.1, -3.4]", "v3 (best) 100 %", "1. x"):
        assert words(inline(text))[1] == text
    assert inline("arithmetic/addition, 12 samples (v3): .914") == "arithmetic/addition, 12 samples (v3): .914"


def test_a_long_text_is_cut() -> None:
    """The limit counts characters that people see, not escapes."""
    assert inline("|" * 300, 10) == "&#124;" * 9 + "…"
    assert inline("a" * 200) == "a" * 200
    assert fenced("a" * 20, 10) == "```text\naaaaaaaaa…\n```"


@pytest.mark.parametrize("payload", [*PAYLOADS, *LINKED, "`" * 50, "a\n````\n# out", "~~~\n# out", "```text"])
def test_nothing_closes_a_fence(payload: str) -> None:
    """A block stays one block, with the heading that follows it outside."""
    tokens = parser().parse(f"{fenced(payload, 500)}\n\n# after\n")
    assert [token.type for token in tokens] == ["fence", "heading_open", "inline", "heading_close"]
    assert not any(ord(char) < 32 and char != "\n" for char in tokens[0].content)


@settings(deadline=None)
@given(st.text(), st.integers(min_value=1, max_value=60))
def test_any_text_is_one_paragraph(text: str, limit: int) -> None:
    """Law: a line is one paragraph of text tokens, or nothing; a block is one fence."""
    kinds, shown = words(inline(text, limit))
    assert set(kinds) <= {"paragraph_open", "inline", "text", "text_special", "paragraph_close"}
    assert kinds.count("paragraph_open") <= 1
    assert len(shown.replace("\u2060", "")) <= limit
    assert [token.type for token in parser().parse(fenced(text, limit))] == ["fence"]


@settings(deadline=None)
@given(st.text(alphabet="|\\`*_[]()<>!#-+=:~$&;{}@./ 1ax\n", max_size=40))
def test_punctuation_never_breaks_a_table(text: str) -> None:
    """Law: a row with a hostile cell between two others has three cells, and only text in them."""
    kinds, _ = words(f"|a|b|c|\n|---|---|---|\n|x|{inline(text)}|z|\n")
    assert kinds.count("td_open") == 3
    assert set(kinds) <= {
        *("table_open", "thead_open", "tr_open", "th_open", "inline", "text", "text_special", "th_close", "tr_close"),
        *("thead_close", "tbody_open", "td_open", "td_close", "tbody_close", "table_close"),
    }
