"""The card in a real browser: it opens from disk, asks nobody for anything, and its samples can be found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
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


def test_the_policy_binds_our_own_script_too(page: Page) -> None:
    """Whatever it might be talked into: no text becomes HTML, no base address is set, no form is sent."""
    assert page.evaluate(FORBIDDEN) == ["base-uri", "form-action", "require-trusted-types-for"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(visit: Callable[..., Page], address: str, scheme: str) -> None:
    """Text has a contrast of at least 4.5 to its background, light and dark."""
    worst = visit(address, color_scheme=scheme).evaluate(CONTRAST)
    assert worst["ratio"] >= 4.5, worst
    assert worst["checked"] > 500


def test_nothing_is_cut_off_at_any_width(page: Page) -> None:
    """From a telephone to a desk the page never scrolls sideways."""
    for width in (320, 400, 768, 1000, 1190, 1210, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator("main").evaluate("main => { main.style.minWidth = '2000px'; }")  # negative control
    assert page.evaluate("document.documentElement.scrollWidth") > 1280


def test_no_name_is_too_long_for_the_page(
    visit: Callable[..., Page], hostile_card: Callable[..., CardData], tmp_path: Path
) -> None:
    """Text without a space, wherever somebody else's text stands, breaks: the page never scrolls sideways."""
    page = visit(write_card(hostile_card("unbroken_" * 30), tmp_path).as_uri())
    for width in (320, 400, 760, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_card_without_answers_offers_nothing_to_filter(
    visit: Callable[..., Page], demo: CardData, tmp_path: Path
) -> None:
    """Where the engine failed there is no search, no button and no help, only that there is nothing."""
    page = visit(write_card(replace(demo, candidates={}), tmp_path).as_uri())
    assert count(page) == "No answer was recorded."
    assert page.locator("#samples :is(button, input, select):visible").count() == 0


def test_the_numbers_under_the_verdict_leave_no_hole(page: Page) -> None:
    """Whatever their count, their last row is as wide as the first."""
    for width in (400, 600, 760, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        box, last = (page.locator(each).bounding_box() for each in (".facts", ".facts > :last-child"))
        assert box
        assert last
        assert last["x"] + last["width"] == pytest.approx(box["x"] + box["width"], abs=2), width


def test_a_telephone_is_shown_fewer_samples_at_a_time(visit: Callable[..., Page], address: str) -> None:
    """Each is tall there, and what follows them must stay within reach."""
    page = visit(address, viewport={"width": 400, "height": 800})
    assert count(page) == "Showing 10 of 1,095 samples."
    page.get_by_role("button", name="Show 10 more").click()
    assert count(page) == "Showing 20 of 1,095 samples."


def test_samples_stand_in_two_columns_on_paper(page: Page) -> None:
    """Both answers of each stay side by side; 25 samples are a few pages."""
    page.set_viewport_size({"width": 720, "height": 1000})  # A4 within its margins
    page.emulate_media(media="print")
    edges = page.locator(".sample").evaluate_all("all => all.map(e => e.getBoundingClientRect().left)")
    assert len(set(edges)) == 2
    sides = page.locator(".sample .sides").first.locator(".side")
    assert sides.nth(0).evaluate("e => e.offsetTop") == sides.nth(1).evaluate("e => e.offsetTop")


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


def test_without_javascript_the_tables_are_there(browser: Browser, address: str) -> None:
    """The verdict and every table need no script; the samples say that they do."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert page.locator(".metrics tbody tr").count() == 6
    assert page.locator("noscript").inner_text().startswith("The samples are in this file")
    assert not page.locator("#controls").is_visible()
    context.close()


FORBIDDEN = """async () => {
  const stopped = [];
  document.addEventListener("securitypolicyviolation", (event) => stopped.push(event.effectiveDirective));
  try { document.body.insertAdjacentHTML("beforeend", "<b>x</b>"); } catch (error) { /* as it should */ }
  const [base, form] = ["base", "form"].map((tag) => document.createElement(tag));
  base.href = form.action = "https://elsewhere.example/";
  document.head.append(base);
  document.body.append(form);
  form.submit();
  for (let i = 0; i < 100 && stopped.length < 3; i++) await new Promise((go) => setTimeout(go, 20));
  return stopped.sort();
}"""
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
