"""Texts that mean something to terminals, CI runners, Markdown and spreadsheets, and who would obey them.

The checkers are written from the readers' own rules, not from ours: the grammar of actions/runner's ActionCommand.cs,
CommonMark with HTML and tables plus what GitHub and GitLab link afterwards, and the first characters that OWASP's
page on CSV injection lists.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from markdown_it import MarkdownIt
from markdown_it.token import Token

PWNED = "pwned"
ANSI = [
    f"{start}{code}{PWNED}"
    for start in ("\x1b", "x\x1b", "\n\x1b", "\r\x1b")
    for code in ("[31m", "[2J", "[1A", "[8m", "[?25l", "c", "]0;", "(0")
] + [f"\x9b{code}{PWNED}" for code in ("31m", "2J", "1A", "8m", "K", "5n", "6n", "0c")]
LINKS = [
    f"{before}{osc}8;{ids};{address}{end}{PWNED}{osc}8;;{end}"
    for before in ("", "see\n")
    for osc in ("\x1b]", "\x9d")
    for ids in ("", "id=1")
    for end in ("\x1b\\", "\x07", "\x9c")
    for address in ("https://evil.example", "file:///etc/passwd")
]
_STARTS = [
    "{}",
    "\n{}",
    "\r{}",
    "\r\n{}",
    " \t{}",
    "\n\u3000{}",
    "a\x0b\n{}",
    "\x85{}",
    "\u2028{}",
    "x%0A{}",
    "\n\n  {}",
]
_COMMANDS = [
    f"::error::{PWNED}",
    f"::set-output name=x::{PWNED}",
    f"::stop-commands::{PWNED}",
    f"::add-mask::{PWNED}",
    f"::warning file=a.py,line=1,title=t%3A%0A::{PWNED}",
    f"##[error]{PWNED}",
    f"##[add-mask]{PWNED}",
    f"##[set-env name=PATH;]{PWNED}",
]
COMMANDS = [start.format(command) for start in _STARTS for command in _COMMANDS]
MARKDOWN = [
    "```\n## pwned\n```",
    "````\n<b>pwned</b>",
    "~~~\n# pwned",
    "\n\n# pwned",
    "\npwned\n===",
    "pwned\n---",
    "<b>pwned</b>",
    "<script>pwned()</script>",
    "<img src=https://evil.example/x.png>",
    "<details open><summary>pwned</summary>",
    "</details></summary></table>pwned",
    "<!-- pwned",
    "--> pwned",
    "<a href='https://evil.example'>pwned</a>",
    "![pwned](https://evil.example/x.png)",
    "[pwned](https://evil.example)",
    "[pwned](javascript:alert)",
    "[pwned][1]\n\n[1]: https://evil.example",
    "[^1] pwned\n\n[^1]: pwned",
    "<https://evil.example/pwned>",
    "https://evil.example/pwned",
    "HTTP://evil.example/pwned",
    "www.evil.example/pwned",
    "ftp://evil.example/pwned",
    "pwned@evil.example",
    "mailto:pwned@evil.example",
    "@octocat pwned",
    "pwned (@octocat/team)",
    "closes #1 pwned",
    "fixes owner/repo#1 pwned",
    "GH-1 pwned",
    "!1 $1 %1 ~bug &1 pwned",
    '%"next release" ~"a label" pwned',
    "| pwned | b | c | d | e | f | g |",
    "x|y|z pwned",
    "\\| pwned \\",
    "**pwned** _pwned_ ~~pwned~~",
    "`pwned` `` pwned ``",
    "- pwned\n- [x] pwned",
    "1. pwned\n2. pwned",
    "> [!CAUTION]\n> pwned",
    "/close pwned\n/assign @octocat",
    "$$\\pwned$$",
    "&lt;b&gt;pwned&#60;/b&#62; &copy;",
    "<!-- evalgate -->\npwned",
    "{{ pwned }} {% pwned %}",
]
FORMULAS = [
    f"{before}{formula}"
    for before in ("", " ", "\t", "\r", "\n", "\u00a0", "\u3000 ", "\ufeff", "a;", 'a"; ')
    for formula in ("=1+pwned()", "+cmd|' /C calc'!A0", "-2+3+cmd|' /C pwned'!A0", "@SUM(1)", "＝pwned()")
]
PAYLOADS = {"ansi": ANSI, "osc 8": LINKS, "commands": COMMANDS, "markdown": MARKDOWN, "formulas": FORMULAS}
EVERY = [text for texts in PAYLOADS.values() for text in texts]

# -- the runner -------------------------------------------------------------------------------------------------------

_KNOWN = frozenset(
    (
        *("error", "warning", "notice", "debug", "set-output", "save-state", "add-mask", "add-path", "set-env"),
        *("stop-commands", "group", "endgroup", "echo", "add-matcher", "remove-matcher", "internal-set-repo-path"),
    )
)


@dataclass(frozen=True)
class Command:
    """A workflow command as the runner reads it."""

    name: str
    properties: dict[str, str]
    data: str


def commands_in(log: str, *, also_unicode: bool = True) -> list[Command]:
    """What a runner would do with a log: `::name k=v::data` at a line's start, `##[name k=v;]data` anywhere.

    Args:
        log: standard output.
        also_unicode: also what is no line's end for .NET, but may be for others.
    """
    lines = re.split(r"\r\n|[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]" if also_unicode else r"\r\n|\n|\r", log)
    return [found for line in lines if (found := _second(line) or _first(line))]


def _second(line: str) -> Command | None:
    said = line.lstrip()
    end = said.find("::", 2)
    if not said.startswith("::") or end < 0:
        return None
    name, _, rest = said[2:end].partition(" ")
    if name not in _KNOWN:
        return None
    pairs = (part.split("=", 1) for part in rest.strip().split(",") if "=" in part)
    return Command(name, {key: _plain(value, ":,") for key, value in pairs}, _plain(said[end + 2 :], ""))


def _first(line: str) -> Command | None:
    start = line.find("##[")
    end = line.find("]", start)
    if start < 0 or end < 0:
        return None
    name, _, rest = line[start + 3 : end].partition(" ")
    if name not in _KNOWN:
        return None
    pairs = (part.split("=", 1) for part in rest.split(";") if "=" in part)
    return Command(name, {key: _plain(value, ";]") for key, value in pairs}, _plain(line[end + 1 :], ";]"))


def _plain(value: str, also: str) -> str:
    for char in ("\r", "\n", *also, "%"):
        value = value.replace(f"%{ord(char):02X}", char)
    return value


def invisible(text: str) -> set[str]:
    """What a terminal may obey, and what nobody sees: controls other than a line feed, and what changes direction."""
    return {
        c for c in text if c != "\n" and c != "\u2060" and unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp", "Cs")
    }


# -- Markdown ---------------------------------------------------------------------------------------------------------

_OURS = re.compile(r"<!-- evalgate -->|</?details>|<summary>[^<]*</summary>|</summary>")
_LINKED = re.compile(
    r"\w://|\bwww\.|\w@\w|(?<![\w`])@\w|[#!%~$][\w\"]|(?<!&)&\d|\bGH-\d"
    r"|\[\^\w|\[[ x]\]",
    re.IGNORECASE,
)
_BLOCKS = (
    "strong",
    "heading",
    "paragraph",
    "bullet_list",
    "list_item",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "link",
)
_LEAVES = ("inline", "text", "fence", "code_inline", "softbreak", "html_block", "html_inline")
_KINDS = frozenset((*_LEAVES, *(f"{name}_{end}" for name in _BLOCKS for end in ("open", "close"))))


def active_in(markdown: str, *, links: tuple[str, ...] = ()) -> list[str]:
    """What Markdown would do beyond showing texts in our own headings, tables, lists, fences and details.

    Args:
        markdown: a comment or a summary.
        links: addresses that it may link.
    """
    parser = MarkdownIt("commonmark", {"html": True}).enable("table").enable("strikethrough")
    found, html = [], ""
    for token in _flat(parser.parse(markdown)):
        html += token.content if token.type.startswith("html") else ""
        if token.type not in _KINDS:
            found.append(f"{token.type}: {token.content!r}")
        elif token.type in ("html_block", "html_inline") and _OURS.sub("", token.content).strip():
            found.append(f"HTML: {token.content!r}")
        elif token.type == "link_open" and not str(token.attrs["href"]).startswith(links or ("\0",)):
            found.append(f"link: {token.attrs['href']}")
        elif token.type == "text" and (hit := _LINKED.search(token.content)):
            found.append(f"linked: {hit[0]!r} in {token.content!r}")
        elif token.type == "heading_open" and token.tag not in ("h2", "h3"):
            found.append(f"heading {token.tag}")
        elif token.type == "fence" and (token.info != "text" or not token.map or token.map[1] - token.map[0] < 3):
            found.append(f"fence {token.info!r}")
    bare = _unfenced(markdown)
    found += [f"heading: {title!r}" for title in re.findall(r"^#+ (.*)", bare, re.MULTILINE) if title[:1].isascii()]
    found += re.findall(r"(?<!\\)\$\$|\{\{|\{%", bare)
    found += ["details are not closed"] * (html.count("<details>") != html.count("</details>"))
    found += ["another's marker"] * ("<!-- evalgate -->" in bare[1:])
    found += [f"cells: {line!r}" for line in markdown.split("\n") if line.startswith("| ") and _pipes(line) != 7]
    return found


def _unfenced(markdown: str) -> str:
    return re.sub(r"^(`{3,})text\n.*?^\1$", "", markdown, flags=re.MULTILINE | re.DOTALL)


def _flat(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _flat(token.children or [])


def _pipes(line: str) -> int:
    return len(re.findall(r"(?<!\\)\|", line))


# -- spreadsheets -----------------------------------------------------------------------------------------------------


def formulas_in(text: str) -> list[str]:
    """Cells that a spreadsheet would run, whether it splits at commas or at semicolons."""
    body = text.removeprefix("\ufeff")
    cells = [cell for row in csv.reader(io.StringIO(body, newline="")) for cell in row]
    cells += [cell for row in csv.reader(io.StringIO(body, newline=""), delimiter=";") for cell in row]
    return [cell for cell in cells if _runs(cell)]


def _runs(cell: str) -> bool:
    if re.fullmatch(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?", cell):
        return False  # a number
    bare = cell.strip().lstrip("\ufeff").strip()
    return bool(bare) and (
        cell[:1] in ("\t", "\r", "\n") or unicodedata.normalize("NFKC", bare[:1]) in ("=", "+", "-", "@")
    )
