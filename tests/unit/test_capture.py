"""The README's two pictures, which `make capture` makes: they need nothing from elsewhere and tell of no machine."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from xml.etree import ElementTree

from evalgate.report.document import check

DOCS = Path(__file__).parents[2] / "docs"


def test_the_terminal_is_a_picture_of_its_own() -> None:
    """The SVG is well-formed, loads no font and no image, and shows the verdict, the table and no folder of ours."""
    text = (DOCS / "terminal.svg").read_text("utf-8")
    shown = "".join(ElementTree.fromstring(text).itertext()).replace("\xa0", " ")
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "@import" not in text
    assert "url(" not in text.replace("url(#evalgate-", "")
    assert "✗ v3: " in shown
    assert "broke/fixed" in shown
    assert "rootdir" not in shown
    assert str(Path.home()) not in shown
    assert len(text.encode()) < 200_000


def test_the_card_is_small_enough_for_a_readme() -> None:
    """1200 pixels wide, at most 300 kB."""
    data = (DOCS / "card.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert struct.unpack(">I", data[16:20]) == (1200,)
    assert len(data) <= 300_000


def test_the_sample_is_a_card_of_today() -> None:
    """The committed card keeps to the schema, is within what a card may weigh, and names no folder of ours."""
    sample = DOCS.parent / "reports/sample"
    check(json.loads((sample / "card.json").read_bytes()), "card.json")
    assert (sample / "index.html").stat().st_size <= 700_000
    for form in ("index.html", "card.json", "README.md"):
        text = (sample / form).read_text("utf-8")
        assert str(Path.home()) not in text
        assert str(DOCS.parent) not in text
