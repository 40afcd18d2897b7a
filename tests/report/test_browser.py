"""The card in a real browser: it opens from disk, asks nobody for anything, and its samples can be found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from evalgate.digest import digest
from evalgate.evaluation import Row
from evalgate.report import CardData, render_card, write_card


@pytest.fixture(scope="module")
def address(demo: CardData, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The demo's card on disk."""
    return write_card(demo, tmp_path_factory.mktemp("reports") / "v3").as_uri()


@pytest.fixture
def heard() -> list[str]:
    """What the page said or asked for that it should not have."""
    return []


@pytest.fixture
def page(browser: Browser, address: str, heard: list[str]) -> Iterator[Page]:
    """The card, open, with ears for errors and requests."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    page = context.new_page()
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("request", lambda request: heard.append(request.url) if request.url != address else None)
    page.goto(address)
    yield page
    context.close()


def ids(page: Page) -> list[str]:
    """Ids of the samples that are shown."""
    return page.locator("article h3").all_text_contents()


def count(page: Page) -> str:
    """The line above the samples."""
    return page.locator("#count").inner_text()


def bucket(page: Page, name: str) -> str:
    """The number beside a bucket's name."""
    return page.locator(".buckets label", has_text=name).locator("output").inner_text()


def test_it_opens_from_disk_without_a_word(page: Page, heard: list[str]) -> None:
    """No console message, no error, no request; the verdict is the page's one main heading."""
    assert page.get_by_role("heading", level=1).all_text_contents() == ["v3 is worse than the baseline"]
    assert count(page) == "Showing 25 of 1,095 samples."
    assert heard == []


def test_buckets_filter_by_mouse(page: Page, demo: CardData, heard: list[str]) -> None:
    """A click on a bucket shows its samples only; empty special buckets are not offered."""
    page.get_by_text("Fixed 129").click()
    assert count(page) == "Showing 25 of 129 samples."
    assert set(page.locator("article .bucket").all_text_contents()) == {"Fixed"}
    assert not page.get_by_text("No answer").is_visible()
    page.get_by_text("Regressed 85").click()
    comparison = demo.family.verdicts[0].comparison
    assert comparison
    assert ids(page) == list(comparison.broken[:25])
    assert heard == []


def test_buckets_tasks_and_search_work_by_keyboard(page: Page, demo: CardData) -> None:
    """Tab reaches the filters, arrows choose a bucket and a task, typing searches."""
    page.locator(".buckets input:checked").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator(".buckets input:checked").get_attribute("value") == "R"
    assert count(page) == "Showing 25 of 85 samples."
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "view"
    page.keyboard.press("o")  # a select jumps to the option that starts so
    assert page.locator("#view").evaluate("e => e.selectedOptions[0].text") == "orders/extraction::exact_match"
    assert count(page) == "No sample matches."
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "query"
    page.locator("#view").select_option(label="arithmetic/addition::exact_match")
    page.locator("#query").focus()
    page.keyboard.type("digits=2 carry=yes")
    comparison = demo.family.verdicts[0].comparison
    assert comparison
    slices = {row.id: row.slices for row in demo.candidates["arithmetic/addition"].rows}
    wanted = [i for i in comparison.broken if slices[i] == {"digits": "2", "carry": "yes"}]
    assert ids(page) == wanted
    assert 0 < len(wanted) < 25


def test_search_looks_into_every_text(page: Page) -> None:
    """Ids, prompts, answers of both sides, targets and notes are searched, upper or lower case."""
    for words, shown in (
        ("SUMS-0024", ["sums-0024"]),
        ("sums-0024 3+3=", ["sums-0024"]),
        ("stock-005", ["facts-0016", "facts-0015", "facts-0017"]),
        ("no such text", []),
    ):
        page.locator("#query").fill(words)
        assert sorted(ids(page)) == sorted(shown)
    page.locator("#query").fill("expected")
    assert page.locator("article .judged").count() > 0


def test_numbers_in_the_tables_lead_to_their_samples(page: Page) -> None:
    """The count of broken samples and every slice are links that set the filters."""
    page.locator("a[data-view='1'][data-bucket='R']").click()
    assert page.locator("#view").evaluate("e => e.selectedOptions[0].text") == "arithmetic/addition::chrf"
    assert count(page) == "Showing 25 of 41 samples."
    page.get_by_role("link", name="digits=2").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#query").input_value() == "digits=2"
    assert bucket(page, "Regressed") == "32"


def test_more_samples_come_on_demand_and_take_the_focus(page: Page) -> None:
    """A page of samples at a time; after the button the first new sample has the focus."""
    page.get_by_text("Regressed 85").click()
    for shown in (50, 75, 85):
        page.locator("#more").focus()
        page.keyboard.press("Enter")
        assert page.locator("article").count() == shown
        focused = page.evaluate("[...document.querySelectorAll('article')].indexOf(document.activeElement)")
        assert focused == (shown - 1) // 25 * 25
    assert page.locator("#more").is_hidden()
    assert len(set(ids(page))) == 85


def test_long_texts_are_capped_until_asked_for(page: Page) -> None:
    """A long prompt shows its beginning and a button with its length; the button shows all of it."""
    page.locator("#query").fill("facts-0007")
    text = page.locator("article .asked .text").first
    assert len(text.inner_text()) == 600
    button = page.get_by_role("button", name="Show all")
    button.focus()
    page.keyboard.press("Enter")
    assert len(text.inner_text()) > 600
    assert page.locator("article .all").count() == 0
    assert text.evaluate("e => e === document.activeElement")


def test_both_sides_stand_beside_each_other_with_what_differs_marked(page: Page) -> None:
    """Was and now are two columns, and the characters that changed are marked; the same answer is shown once."""
    page.locator("#query").fill("sums-0025")
    article = page.locator("article")
    assert article.locator(".side h4").all_text_contents() == ["Was", "Now"]
    boxes = [article.locator(".side").nth(i).bounding_box() for i in (0, 1)]
    assert boxes[0] is not None
    assert boxes[1] is not None
    assert boxes[0]["y"] == boxes[1]["y"]
    assert article.locator("mark").all_text_contents() == ["8", "9"]
    page.get_by_text("Unchanged").click()
    page.locator("#query").fill("sums-0000")
    assert article.locator(".side h4").all_text_contents() == ["Was and is"]
    page.locator("#query").fill("chat-0001")
    page.locator(".buckets label", has_text="Not compared").click()
    assert article.locator(".side h4").all_text_contents() == ["Now"]


def test_generations_errors_and_empty_answers_are_shown(
    browser: Browser, demo: CardData, page_of: Callable[[str], str]
) -> None:
    """Several generations come three at a time, an error says what happened, an empty answer says that it is empty."""
    task = "arithmetic/addition"
    old = demo.candidates[task]
    many: list[Row] = [
        replace(old.rows[0], outputs=("", *(f"try {i}" for i in range(7))), finish=("length",) * 8),
        replace(old.rows[1], error="the engine died", scores={}, outputs=()),
        replace(old.rows[2], notes={"exact_match": "found 12"}, pair=digest("other"), prompt="asked otherwise"),
        replace(old.rows[3], scores={}, faults={"exact_match": "the judge is ill"}),
    ]
    candidates = {**demo.candidates, task: replace(old, rows=(*many, *old.rows[4:]))}
    page = browser.new_page()
    page.goto(page_of(render_card(replace(demo, candidates=candidates))))
    article = page.locator("article")
    page.locator("#query").fill("sums-0000")
    now = article.locator(".side").nth(1)
    assert now.locator(".text").all_text_contents() == ["empty", "try 0", "try 1"]
    page.get_by_role("button", name="Show all 8 generations").click()
    assert now.locator(".text").count() == 8
    assert article.locator(".cut").inner_text() == "cut at max_tokens"
    page.locator("#query").fill("sums-0001")
    assert article.locator(".bucket").inner_text() == "No answer"
    assert article.locator(".error").inner_text() == "the engine died"
    assert "No score" not in article.locator(".side h4").all_text_contents()
    page.locator("#query").fill("sums-0003")
    assert article.locator(".error").inner_text() == "exact_match: the judge is ill"
    assert "No score" in article.locator(".side h4").all_text_contents()
    page.locator("#query").fill("sums-0002")
    assert article.locator(".judged").first.inner_text().split() == ["exact_match", "found", "12"]
    assert "Prompt of the baseline" in article.inner_text()
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_near_ties_and_the_reserve_can_be_found(
    browser: Browser,
    reserve_card: Callable[..., CardData],
    page_of: Callable[[str], str],
    heard: list[str],
    scheme: str,
) -> None:
    """The count of near ties leads to them, each labelled in words; the counts of a confirmed metric to its own."""
    name = "sums/all::exact_match"
    data = reserve_card("confirm")
    data = replace(data, near_ties={name: data.near_ties[name]})
    context = browser.new_context(color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce")
    page = context.new_page()
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.goto(page_of(render_card(data)))
    comparison = data.family.verdicts[0].comparison
    assert comparison
    ties = set(data.near_ties[name]) & {*comparison.broken, *comparison.fixed}
    page.locator("a[data-view='0'][data-query^='near tie']").click()
    assert set(ids(page)) == ties
    assert page.locator("article .tie").all_text_contents() == ["near tie, 0.00002 nat"] * len(ties)
    page.locator("a[data-view='0'][data-bucket='R']").click()
    assert ids(page) == list(comparison.broken)
    assert 0 < page.locator("article .tie").count() < len(comparison.broken)
    page.locator("#view").select_option(label="sums/all::chrf")
    assert ids(page) == list(comparison.broken)
    assert page.locator("article .tie").count() == 0  # of this metric none was given
    page.locator("#query").fill("reserve=2")
    assert 0 < page.locator("article").count() < 25
    assert {tag for tag in page.locator("article .tag").all_text_contents() if "=" in tag} >= {"reserve=2"}
    page.locator("#query").fill("")
    page.get_by_text("Unchanged").click()
    assert page.locator("article .tie").count() == 0
    page.locator(".buckets input").first.check(force=True)
    worst = page.evaluate(CONTRAST)
    assert worst["ratio"] >= 4.5, worst
    for width in (320, 1000, 1210, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = [table.bounding_box() for table in page.locator(".slices").all()]
    assert all(box and box["x"] + box["width"] <= 1280 for box in boxes)
    assert heard == []
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(browser: Browser, address: str, scheme: str) -> None:
    """Text has a contrast of at least 4.5 to its background, light and dark."""
    context = browser.new_context(color_scheme="dark" if scheme == "dark" else "light")
    page = context.new_page()
    page.goto(address)
    worst = page.evaluate(CONTRAST)
    assert worst["ratio"] >= 4.5, worst
    assert worst["checked"] > 500
    context.close()


@pytest.mark.parametrize("width", [320, 400, 768, 1000, 1190, 1210, 1280])
def test_nothing_is_cut_off_at_any_width(browser: Browser, address: str, width: int) -> None:
    """From a telephone to a desk the page never scrolls sideways."""
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(address)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


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
