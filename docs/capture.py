"""The README's pictures and sample: the card of the demo's blocked candidate, and what its run says in a terminal.

`make capture` runs this. The run is real: answers come from `.evalgate/` where `make demo` left them, else from vLLM.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from io import StringIO
from pathlib import Path

from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.text import Text

DOCS = Path(__file__).parent
ROOT = DOCS.parent
# Neither folders nor addresses in memory of whoever ran it: no header, no arguments of functions.
COMMAND = ["pytest", "evalsuites", "--model", "fixtures/checkpoints/v3", "--no-header", "--tb=short"]
CARD = ROOT / "reports/v3/index.html"
SAMPLE = ROOT / "reports/sample"
FORMS = ("index.html", "card.json", "README.md")
WIDTH, HEIGHT = 1200, 900
COLUMNS = 118
LARGEST = 300_000
# Rich's own picture asks another host for a font; this one takes what the reader has.
SVG = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font: {char_height}px/{line_height}px ui-monospace, Menlo, Consolas, monospace; }}
.{unique_id}-title {{ font: bold 18px sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g>
</g>
</svg>
"""
# What moves a cursor or sets a mode; colours stay.
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-ln-z]|\x1b[()][A-Z0-9]|\x1b[=>]")


def run_at_a_terminal() -> str:
    """What the run writes to a terminal of `COLUMNS` columns, colours included; it must be blocked."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 60, COLUMNS, 0, 0))
    unset = {"NO_COLOR", "FORCE_COLOR", "PY_COLORS", "PYTEST_ADDOPTS", "CI", "COLUMNS"}
    environment = {name: value for name, value in os.environ.items() if name not in unset} | {"TERM": "xterm-256color"}
    command = [sys.executable, "-m", *COMMAND]
    said = b""
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        try:
            while part := os.read(ours, 65536):
                said += part
        except OSError:  # Linux's word for the end of a terminal
            pass
        code = process.wait()
    os.close(ours)
    if code != 1:
        raise SystemExit(f"{' '.join(COMMAND)} ended with exit code {code}, expected 1:\n{said.decode()}")
    return said.decode()


def terminal_svg(said: str) -> str:
    """The output as a picture that needs no font from elsewhere."""
    lines = (line.rpartition("\r")[2] for line in _CONTROL.sub("", said.replace("\r\n", "\n")).split("\n"))
    text = Text.from_ansi("\n".join([f"\x1b[1m$ {' '.join(COMMAND)}\x1b[0m", *lines]).rstrip())
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True, legacy_windows=False)
    for line in text.split("\n", allow_blank=True):
        for part in line.divide(range(COLUMNS, len(line), COLUMNS)):  # as a terminal breaks it
            console.print(part, soft_wrap=True)
    return console.export_svg(title="evalgate", code_format=SVG, unique_id="evalgate")


def card_png() -> bytes:
    """The top of the card."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(CARD.as_uri())
        picture = page.screenshot()
        browser.close()
    return picture


def main() -> None:
    """Keep the card that `make demo` left, and its picture; then run twice, so that the second draws no progress."""
    if not CARD.exists():
        run_at_a_terminal()
    SAMPLE.mkdir(exist_ok=True)
    for name in FORMS:
        shutil.copyfile(CARD.parent / name, SAMPLE / name)
    card = card_png()
    if len(card) > LARGEST:
        raise SystemExit(f"the card's picture has {len(card):,} bytes, more than {LARGEST:,}")
    (DOCS / "card.png").write_bytes(card)
    run_at_a_terminal()
    (DOCS / "terminal.svg").write_text(terminal_svg(run_at_a_terminal()), "utf-8")
    for path in (DOCS / "terminal.svg", DOCS / "card.png", *(SAMPLE / name for name in FORMS)):
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")  # noqa: T201


if __name__ == "__main__":
    main()
