"""The page of all versions in a real browser: what it says, how it fits, and that it runs and fetches nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Request
from tests.report.pasts import SUMS, hostile, shop
from tests.report.test_injection import PAYLOADS

from evalgate.report import Past, page
from evalgate.report.past.overview import link, render_overview

CANARY = "http://127.0.0.1:65500"
TEXTS = [text.replace("CANARY", CANARY) for text in PAYLOADS]


def drawn(history: list[Past]) -> str:
    """The page."""
    return render_overview(history, project="shop assistant", generated="2026-11-21T09:12:00+00:00")


@dataclass
class Seen:
    """What a page did besides being shown."""

    page: Page
    asked: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def open(self, address: str) -> tuple[int, list[str]]:
        """Open it, unfold everything, and count what ran and what left."""
        self.asked.clear()
        self.page.goto(address)
        self.page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        self.page.wait_for_timeout(5)
        return self.page.evaluate("window.hits"), self.asked

    def note(self, request: Request) -> None:
        """A request that the policy did not stop."""
        if not request.is_navigation_request() and request.failure != "csp":
            self.asked.append(request.url)


@pytest.fixture
def seen(browser: Browser) -> Iterator[Seen]:
    """A page in which `hit` and the dialogs count who runs, and every request is noted."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    context.add_init_script("window.hits = 0; window.hit = alert = confirm = prompt = () => { window.top.hits++; }")
    found = Seen(context.new_page())
    found.page.on("requestfinished", found.note)
    found.page.on("requestfailed", found.note)
    found.page.on("console", lambda message: found.said.append(message.text))
    found.page.on("pageerror", lambda error: found.said.append(str(error)))
    yield found
    context.close()


def test_every_version_has_a_row(seen: Seen, page_of: Callable[[str], str]) -> None:
    """Newest first: name with a link to its card where there is one, verdict, aliases, what did not pass."""
    assert seen.open(page_of(drawn(shop()))) == (0, [])
    assert seen.said == []
    rows = [" ".join(row.split()) for row in seen.page.locator(".versions tbody tr").all_inner_texts()]
    assert rows[0] == f"v6 REGRESSION 2026-11-16 09:12 – 2 of 3 {SUMS} -30.0 pt"
    assert rows[1].startswith("v5 PASS 2026-11-15 09:12 champion, nightly 2 of 3 ")
    assert rows[1].endswith("partial: 1 did not run")
    assert rows[5] == "v1 PASS 2026-11-11 09:12 baseline of 3 tasks 3 of 3 –"
    links = seen.page.locator(".versions a").evaluate_all(
        "all => all.map((a) => [a.innerText, a.getAttribute('href')])"
    )
    assert links == [[f"v{n}", f"./v{n}/index.html"] for n in (6, 5, 4, 2, 1)]
    facts = " ".join(seen.page.locator(".facts").inner_text().split())
    assert facts == "versions gated 6 newest v6 blocked 2 champion v5 nightly v5 accepted as baseline v1"


def test_lines_break_where_the_measure_changed(seen: Seen, page_of: Callable[[str], str]) -> None:
    """A chart per blocking metric; two lines where orders were asked otherwise; a diamond for each regression."""
    seen.open(page_of(drawn(shop())))
    charts = seen.page.locator("figure")
    assert charts.count() == 3
    assert [charts.nth(i).locator("polyline").count() for i in range(3)] == [1, 2, 1]
    points = [charts.nth(1).locator("polyline").nth(i).get_attribute("points") for i in (0, 1)]
    assert [len(str(each).split()) for each in points] == [2, 4]
    assert [charts.nth(i).locator("svg .regression path.dot").count() for i in range(3)] == [2, 0, 0]
    assert charts.nth(1).locator("svg .inconclusive circle.open").count() == 1
    assert charts.nth(0).locator("svg .range").count() == charts.nth(0).locator("svg .base").count() == 6
    label = charts.nth(0).locator("svg").get_attribute("aria-label")
    assert label == f"{SUMS} over 6 versions, newest .600, -34.0 pt since v5"
    assert (
        charts.nth(0).locator("svg title").first.text_content() == "v1: PASS, .900, 0.0 pt [-3.0, +3.0] to the baseline"
    )
    cells = charts.nth(1).locator("tbody tr").last.locator("th, td").all_inner_texts()
    assert [" ".join(cell.split()) for cell in cells] == [
        *("v1", "(.600)", "measured anew", ".600", "0.0 pt [-3.0, +3.0]", "450", "PASS")
    ]


def test_up_is_better(seen: Seen, page_of: Callable[[str], str]) -> None:
    """The version with the fewest bits stands highest, and the axis says so."""
    seen.open(page_of(drawn(shop())))
    prose = seen.page.locator("figure").nth(2)
    heights = prose.locator("svg circle.dot").evaluate_all("all => all.map((dot) => +dot.getAttribute('cy'))")
    assert heights.index(min(heights)) == 4
    assert heights.index(max(heights)) == 5
    assert prose.locator("svg text").all_text_contents() == ["1.250", "1.400"]
    assert "lower is better" in prose.locator("figcaption").inner_text()


@pytest.mark.parametrize("history", [[], shop()[:1], [Past("v0", "d", "PASS", False, "", "2026-01-01")]])
def test_a_short_past_is_a_page_too(seen: Seen, page_of: Callable[[str], str], history: list[Past]) -> None:
    """Without versions, with one, and with one from before numbers were kept, the page says what there is."""
    assert seen.open(page_of(drawn(history))) == (0, [])
    text = seen.page.locator("main").inner_text()
    assert ("Nothing was gated yet." in text) is (not history)
    assert ("No numbers are kept for these verdicts." in text) is (not history or not history[0].metrics)
    assert seen.page.locator("figure").count() == (3 if history and history[0].metrics else 0)


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (1200, "dark"), (400, "light"), (400, "dark")])
def test_it_is_accessible_and_fits(browser: Browser, tmp_path: Path, width: int, scheme: str) -> None:
    """axe finds nothing at either width in either colour scheme, folded open, and nothing is wider than the page."""
    path = tmp_path / "index.html"
    path.write_text(drawn(shop()), "utf-8")
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme="dark" if scheme == "dark" else "light", bypass_csp=True
    )
    found = context.new_page()
    found.goto(path.as_uri())
    found.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert found.evaluate("document.documentElement.scrollWidth") <= width
    found.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8"))
    problems = found.evaluate("axe.run().then((r) => r.violations.map((v) => [v.id, v.nodes[0].html]))")
    assert problems == []
    context.close()


def test_print_leaves_out_what_paper_cannot_do(seen: Seen, page_of: Callable[[str], str], tmp_path: Path) -> None:
    """On paper stand the table and the charts; folded tables and the navigation do not."""
    seen.page.goto(page_of(drawn(shop())))
    seen.page.emulate_media(media="print")
    assert not seen.page.locator("nav").is_visible()
    assert not seen.page.locator("details").first.is_visible()
    assert seen.page.locator("figure svg").first.is_visible()
    seen.page.pdf(path=tmp_path / "history.pdf", format="A4")
    assert (tmp_path / "history.pdf").stat().st_size > 10_000


def test_the_same_history_gives_the_same_bytes() -> None:
    """No clock, no order of a set, no counter goes in; and the page is small."""
    assert drawn(shop()) == drawn(shop())
    assert len(drawn(shop()).encode()) < 60_000


class Checked(HTMLParser):
    """Every tag is closed where it should be."""

    VOID = frozenset({"meta", "path", "circle", "rect", "polyline", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.VOID


def test_the_markup_is_well_formed_and_has_no_script() -> None:
    """Tags nest, ids are unique, and the policy lets no script run at all."""
    html = drawn(shop())
    checked = Checked()
    checked.feed(html)
    assert checked.open == []
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert "<script" not in html
    assert "script-src &#39;none&#39;;" in html


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("v3/index.html", "./v3/index.html"),
        ("a b/index.html", "./a%20b/index.html"),
        ("50%2f/ü.html", "./50%252f/%C3%BC.html"),
        ("javascript:hit()", "./javascript%3Ahit%28%29"),
        ("data:text/html,x", "./data%3Atext/html%2Cx"),
        ("https://example.org/x", None),
        ("//example.org/x", None),
        ("/etc/passwd", None),
        ("../../x/index.html", None),
        ("v3/../../x", None),
        ("./x", None),
        ("v3/%2e%2e/x", "./v3/%252e%252e/x"),
        ("..\\x", None),
        ("a\0b/index.html", None),
        ("v3#x?y/index.html", "./v3%23x%3Fy/index.html"),
        ("\ud800/index.html", "./%ED%A0%80/index.html"),
        ("", None),
        (None, None),
    ],
)
def test_links_stay_below_the_page(card: str | None, expected: str | None) -> None:
    """A card is linked by a path below the page; what leads elsewhere, or would be a scheme, is no link."""
    assert link(card) == expected


FOREIGN = """() => ({
  elements: document.querySelectorAll(`img, picture, iframe, frame, object, embed, video, audio, marquee, math, base,
    link, template, style ~ style, meta[http-equiv=refresh], form, input, button, image, foreignObject, animate, use,
    script, x, [background], [style], [autofocus], [srcset]`).length,
  handlers: [...document.querySelectorAll("*")].flatMap((e) => e.getAttributeNames().filter((a) => a.startsWith("on"))),
  away: [...document.links].map((a) => a.href).filter((to) => !to.startsWith(new URL(".", location.href).href)),
})"""


@pytest.mark.parametrize("policy", ["with the policy", "without the policy"])
def test_payloads_in_every_field_do_nothing(seen: Seen, page_of: Callable[[str], str], policy: str) -> None:
    """In names, outcomes, reasons, times, metrics, aliases and cards each payload is only text."""
    html = drawn(hostile(TEXTS))
    assert "1787569" not in html
    if policy == "without the policy":
        html, cut = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>\n', "", html)
        assert cut == 1
    assert seen.open(page_of(html)) == (0, [])
    assert seen.page.evaluate(FOREIGN) == {"elements": 0, "handlers": [], "away": []}
    assert seen.page.locator(".versions tbody tr").count() == len(TEXTS)


def test_the_policy_alone_stops_what_is_not_escaped(
    seen: Seen, page_of: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every escape turned off payloads become elements, and nothing runs or is loaded; raw, some of them act."""
    unescaped = page.environment().overlay(autoescape=False)
    monkeypatch.setattr(page, "environment", lambda: unescaped)
    acted = elements = 0
    for text in TEXTS[::6]:
        if "http-equiv=refresh" in text:  # no policy in a file can forbid that
            continue
        raw = text.encode("utf-8", "replace").decode()
        acted += seen.open(page_of(f"<!doctype html><meta charset=utf-8><body>{raw}")) != (0, [])
        assert seen.open(page_of(drawn(hostile([text])))) == (0, []), text
        elements += seen.page.evaluate(FOREIGN)["elements"] > 0
    assert acted >= 6
    assert elements >= 8
