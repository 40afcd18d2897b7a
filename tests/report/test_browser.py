"""The card in a real browser: it opens from disk, asks nobody for anything, and its samples can be found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page
from tests.report.conftest import write_card

from evalgate.report import CardData


@pytest.fixture(scope="module")
def address(demo: CardData, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The demo's card on disk."""
    return write_card(demo, tmp_path_factory.mktemp("reports") / "v3").as_uri()


@pytest.fixture
def page(visit: Callable[..., Page], address: str) -> Page:
    """The card, open."""
    return visit(address)


def count(page: Page) -> str:
    """The line above the samples."""
    return page.locator("#count").inner_text()


def test_it_opens_from_disk_without_a_word(page: Page, heard: list[str]) -> None:
    """No console message, no error, no request; the verdict is the page's one main heading."""
    assert page.get_by_role("heading", level=1).all_text_contents() == ["v3 is worse than the baseline"]
    assert count(page) == "Showing 25 of 1,095 samples."
    assert heard == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(visit: Callable[..., Page], address: str, scheme: str) -> None:
    """Text has a contrast of at least 4.5 to its background, light and dark."""
    worst = visit(address, color_scheme=scheme).evaluate(CONTRAST)
    assert worst["ratio"] >= 4.5, worst
    assert worst["checked"] > 500


@pytest.mark.parametrize("width", [320, 400, 768, 1000, 1190, 1210, 1280])
def test_nothing_is_cut_off_at_any_width(visit: Callable[..., Page], address: str, width: int) -> None:
    """From a telephone to a desk the page never scrolls sideways."""
    page = visit(address, viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_tables_and_controls_have_names(page: Page) -> None:
    """Headers have a scope, tables a caption, plots words, controls labels; ids are unique and every link arrives."""
    assert page.locator("th:not([scope])").count() == page.locator("#statement th").count() == 3
    assert page.locator("table:not(:has(caption))").count() == page.locator("#statement table").count() == 1
    assert page.locator("svg:not([aria-hidden]):not([aria-label])").count() == 0
    assert page.evaluate("[...document.querySelectorAll('select, input')].every(e => e.labels.length === 1)")
    found = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(found) == len(set(found))
    targets = page.evaluate("[...document.querySelectorAll('a[href^=\"#\"]')].map(e => e.hash.slice(1))")
    assert set(targets) <= set(found)
    assert page.locator("html").get_attribute("lang") == "en"


def test_focus_can_be_seen(page: Page) -> None:
    """Whatever Tab reaches has an outline."""
    for _ in range(12):
        page.keyboard.press("Tab")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"


def test_print_shows_the_tables_and_opens_the_details(page: Page, tmp_path: Path) -> None:
    """On paper there are no controls, and what was folded is open."""
    assert page.locator("details[open]").count() == 0
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert not page.locator("#controls").is_visible()
    assert not page.locator("nav").is_visible()
    assert page.locator("details:not([open])").count() == 0
    assert page.locator(".metrics thead").is_visible()
    page.pdf(path=tmp_path / "card.pdf", format="A4")
    assert (tmp_path / "card.pdf").stat().st_size > 20_000


def test_without_javascript_the_tables_are_there(browser: Browser, address: str) -> None:
    """The verdict and every table need no script; the samples say that they do."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert page.locator(".metrics tbody tr").count() == 6
    assert page.locator("noscript").inner_text().startswith("The samples are in this file")
    assert not page.locator("#controls").is_visible()
    context.close()


# Relative luminance and contrast as WCAG 2 defines them, for every element that holds text of its own.
CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const color = rgba(getComputedStyle(node).backgroundColor);
      if (color[3] === 255) return color;
    }
    return [255, 255, 255];
  };
  let worst = { ratio: 99, checked: 0 };
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !node.checkVisibility() || ["SCRIPT", "NOSCRIPT", "text"].includes(node.tagName)) continue;
    const [a, b] = [light(rgba(getComputedStyle(node).color)), light(behind(node))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05), checked = worst.checked + 1;
    worst = ratio < worst.ratio ? { ratio, checked, text: node.textContent.slice(0, 40) } : { ...worst, checked };
  }
  return worst;
}"""
