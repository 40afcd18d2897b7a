"""axe-core over the card as people read it: wide, narrow, dark, printed; and how it scrolls, stacks and prints."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from tests.report.conftest import write_card

from evalgate.report import CardData

# The package that brings axe-core has no types; all that is wanted of it is the file.
AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
WAYS: dict[str, dict[str, Any]] = {
    "wide": {"viewport": {"width": 1280, "height": 900}},
    "narrow": {"viewport": {"width": 400, "height": 800}},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "printed": {"viewport": {"width": 688, "height": 900}},
}
CELLS = "[...document.querySelectorAll('.box table:not(.heat) td')].map((cell) => cell.clientWidth)"


@pytest.fixture(scope="module")
def address(full: CardData, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A card with everything that a card can show."""
    return write_card(full, tmp_path_factory.mktemp("reports") / "v3").as_uri()


@pytest.fixture
def page(browser: Browser, address: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The card in one of the ways, unfolded; axe-core is let past the policy that lets nothing in."""
    way = getattr(request, "param", "wide")
    context = browser.new_context(bypass_csp=True, reduced_motion="reduce", **WAYS[way])
    page = context.new_page()
    if way == "printed":
        page.emulate_media(media="print")
    page.goto(address)
    page.wait_for_selector("#list:not([aria-busy])", state="attached")
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    page.evaluate(AXE)
    yield page
    context.close()


def violations(page: Page) -> list[str]:
    """What axe-core objects to: rule, impact, and the first element."""
    found = page.evaluate("axe.run({resultTypes: ['violations']})")
    return [f"{v['id']} ({v['impact']}): {v['nodes'][0]['html'][:120]}" for v in found["violations"]]


@pytest.mark.parametrize("page", WAYS, indirect=True)
def test_axe_objects_to_nothing(page: Page) -> None:
    """No violation of any impact: names, roles, headings, tables, contrast, landmarks."""
    assert violations(page) == []


def test_axe_finds_what_is_wrong(page: Page) -> None:
    """Negative control: an image without a text, a text without contrast, a plot without words, a level left out."""
    page.evaluate(
        """() => {
          const faults = "<img src='data:,'><p id=faint>so faint</p><svg role=img width=9 height=9></svg><h6>deep</h6>";
          document.querySelector("main").insertAdjacentHTML("beforeend", faults);
          document.getElementById("faint").style.color = "#ccc";
        }"""
    )
    found = {each.partition(" ")[0] for each in violations(page)}
    assert found == {"image-alt", "color-contrast", "svg-img-alt", "heading-order"}


def test_a_narrow_page_never_scrolls_sideways(browser: Browser, address: str) -> None:
    """At 400 px, with text a quarter larger, and at the 320 px of WCAG 1.4.10, every word is within the page."""
    page = browser.new_page(viewport={"width": 400, "height": 800})
    page.goto(address)
    page.wait_for_selector("#list:not([aria-busy])", state="attached")
    for width, zoom in ((400, "100%"), (400, "125%"), (320, "100%")):
        page.set_viewport_size({"width": width, "height": 800})
        page.evaluate("(zoom) => { document.documentElement.style.fontSize = zoom; }", zoom)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        cells = page.evaluate(CELLS)
        assert min(filter(None, cells)) > width / 2, "a stacked cell has the width of its row"
    page.close()


def test_metrics_are_a_table_where_there_is_room(browser: Browser, address: str) -> None:
    """From 1000 px on the metrics are a real table that fits; below, each is a block of labelled lines."""
    page = browser.new_page()
    page.goto(address)
    for width, shown in ((1280, "table"), (1000, "table"), (760, "block"), (400, "block")):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("getComputedStyle(document.querySelector('.metrics')).display") == shown, width
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


def test_a_link_to_a_section_leads_there(browser: Browser, address: str) -> None:
    """Also when the page is opened at it, and the samples above it come in later."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(f"{address}#training")
    page.wait_for_selector("article")
    there = "(id) => Math.abs(document.getElementById(id).getBoundingClientRect().top - 64) < 4"  # below the bar
    page.wait_for_function(there, arg="training")
    page.locator("nav a[href='#judges']").click()
    page.wait_for_function(there, arg="judges")
    page.close()


def test_every_colour_has_a_word_beside_it(page: Page) -> None:
    """Shades of the heatmap carry a sign and a number, outcomes a word and a shape."""
    cells = page.locator(".heat td[class*=worse]").all_inner_texts()
    assert cells
    assert all(text.startswith("-") for text in cells)
    assert all(text.startswith("+") for text in page.locator(".heat td[class*=better]").all_inner_texts())
    chips = page.locator(".chip")
    assert all(chips.nth(i).inner_text().strip() and chips.nth(i).locator("svg").count() for i in range(chips.count()))


def test_print_cuts_nothing(browser: Browser, address: str, tmp_path: Path) -> None:
    """On A4 nothing leaves the paper, folded parts are open, controls are gone, and metrics are a table."""
    page = browser.new_page(viewport={"width": 688, "height": 900})
    page.emulate_media(media="print")
    page.goto(address)
    page.wait_for_selector("#list:not([aria-busy])", state="attached")
    assert not page.locator("details[open]").count()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("document.documentElement.scrollWidth") <= 688
    assert page.evaluate("[...document.querySelectorAll('details')].every((each) => each.open)")
    assert page.evaluate("getComputedStyle(document.querySelector('.metrics')).display") == "table"
    assert not page.locator("nav, #controls").locator("visible=true").count()
    assert len(page.pdf(path=tmp_path / "card.pdf", format="A4")) > 20_000
    page.close()
