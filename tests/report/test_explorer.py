"""The card's samples in a real browser: found by mouse and keyboard, compared word by word, sent as a link."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import Browser, Page
from tests.report.conftest import write_card

from evalgate.digest import digest
from evalgate.evaluation import Evaluation, Metric, Row
from evalgate.gate import Gate, Member, Policy, decide
from evalgate.report import CardData, samples

HELPFUL = Metric(name="helpful", digest=digest("helpful"), judge=digest("judge"))
SAID = ("The answer names the rack and the item, and nothing else.", "It names a rack that was not asked for.")
PROSE = "The shop opened early, and by noon most of the walnuts had gone. "
LONG_ID = "it's; long"
TASK = "facts/lookup"


def _judged(side: Evaluation, who: str) -> Evaluation:
    """Facts with a judge of their own, long and cut answers, and ids that a shell would take apart."""
    rows = []
    for i, row in enumerate(side.rows):
        good = row.scores["exact_match"] if i % 6 else 1.0 - row.scores["exact_match"]
        changed: dict[str, Any] = {"finish": ("length",)} if i % 9 == 0 else {}
        if i == 1:
            changed |= {"outputs": (PROSE * 20 + f"A {who} cat sat there. " + PROSE * 20,)}
        if i == 2:
            changed |= {"id": LONG_ID, "outputs": (f"{who} " + PROSE * 400,)}
        if i == 3:
            changed |= {"outputs": (PROSE * 320 + who,)}
        if i == 4:
            changed |= {"outputs": ("the same",), "notes": {"helpful": f"{who} said so"}}
            good = 0.25 if who == "v2" else 0.75
        else:
            changed |= {"notes": {"helpful": SAID[int(good < 0.5)]}} if i % 4 else {}
        rows.append(replace(row, scores={**row.scores, "helpful": good}, **changed))
    return replace(side, rows=tuple(rows), metrics=(*side.metrics, HELPFUL))


@pytest.fixture(scope="module")
def data(demo: CardData) -> CardData:
    """The demo's sums, orders and facts, these with a judge, near ties and long texts."""
    keep = ("arithmetic/addition", "orders/extraction", TASK)
    candidates, baselines = ({task: side[task] for task in keep} for side in (demo.candidates, demo.baselines))
    candidates[TASK], baselines[TASK] = _judged(candidates[TASK], "v3"), _judged(baselines[TASK], "v2")
    members = [
        Member(
            task=task,
            metric=metric.name,
            blocking=place == 0,
            gate=Gate(margin=0.05),
            candidate=candidate,
            baseline=baselines[task],
        )
        for task, candidate in candidates.items()
        for place, metric in enumerate(candidate.metrics)
    ]
    family = decide(members, Policy())
    comparison = next(v.comparison for v in family.verdicts if v.task == TASK)
    assert comparison
    ties = {f"{TASK}::exact_match": (comparison.broken[0], comparison.fixed[0])}
    return replace(demo, family=family, candidates=candidates, baselines=baselines, near_ties=ties)


@pytest.fixture(scope="module")
def address(data: CardData, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The card on disk."""
    return write_card(data, tmp_path_factory.mktemp("reports") / "v3").as_uri()


@pytest.fixture
def page(visit: Callable[..., Page], address: str) -> Page:
    """The card, open."""
    return visit(address)


def ids(page: Page) -> list[str]:
    """Ids of the samples that are shown."""
    return page.locator("article h3").all_text_contents()


def count(page: Page) -> str:
    """The line above the samples."""
    return page.locator("#count").inner_text()


def search(page: Page, words: str) -> None:
    """Type into the search and do not wait for its pause."""
    page.locator("#query").fill(words)
    page.locator("#query").press("Enter")


def expected(data: CardData, fits: Callable[[Row, Row], bool], task: str = TASK) -> set[str]:
    """Ids of a task's samples for which something holds of candidate and baseline."""
    before = {row.id: row for row in data.baselines[task].rows}
    return {row.id for row in data.candidates[task].rows if fits(row, before[row.id])}


def flipped(data: CardData, task: str, metric: str) -> tuple[set[str], set[str]]:
    """Ids that broke and were fixed."""
    comparison = next(v.comparison for v in data.family.verdicts if (v.task, v.metric) == (task, metric))
    assert comparison
    return set(comparison.broken), set(comparison.fixed)


# -- buckets, filters, search -----------------------------------------------------------------------------------------


def test_buckets_filter_by_mouse(page: Page, data: CardData, heard: list[str]) -> None:
    """Regressed come first; a click on a bucket shows its samples only; empty special buckets are not offered."""
    broken, _ = flipped(data, "arithmetic/addition", "exact_match")
    assert set(page.locator("article .bucket").all_text_contents()) == {"Regressed"}
    page.locator(".buckets label", has_text="Fixed").click()
    assert set(page.locator("article .bucket").all_text_contents()) == {"Fixed"}
    assert count(page).endswith("samples: Fixed.")
    assert not page.get_by_text("No answer").is_visible()
    page.locator(".buckets label", has_text="Regressed").click()
    page.locator("#view").select_option(label="arithmetic/addition::exact_match")
    assert set(ids(page)) < broken
    assert count(page) == f"Showing 25 of {len(broken)} samples: Regressed · arithmetic/addition::exact_match."
    assert heard == []


def test_every_filter_works_by_keyboard(page: Page, data: CardData, heard: list[str]) -> None:
    """Tab goes from bucket to search, metric, slice, judge and the ticks; arrows, letters and space choose."""
    page.locator(".buckets input:checked").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator(".buckets input:checked").get_attribute("value") == "R"
    assert count(page).endswith(" samples: Regressed.")
    page.keyboard.press("ArrowLeft")
    reached = []
    for _ in range(6):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert reached == ["query", "view", "slice", "judge", "tie", "cut"]
    page.keyboard.press("Space")
    assert page.locator("article .cut").count() == page.locator("article").count() > 0
    cut = [row.id for side in data.candidates.values() for row in side.rows if "length" in row.finish]
    assert count(page) == f"Showing 25 of {len(cut)} samples: cut at max_tokens."
    page.keyboard.press("Space")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Space")
    assert set(ids(page)) == set(data.near_ties[f"{TASK}::exact_match"])
    page.keyboard.press("Space")
    page.locator("#view").focus()
    page.keyboard.type("facts/lookup::h")  # a select jumps to the option that starts so
    assert count(page).endswith(f"samples: {TASK}::helpful.")
    page.locator("#slice").focus()
    page.keyboard.type("rack=K")
    in_slice = expected(data, lambda now, _: now.slices["rack"] == "K")
    assert set(ids(page)) == in_slice
    page.locator("#clear").focus()
    page.keyboard.press("Enter")
    assert count(page) == "Showing 25 of 945 samples."
    assert page.evaluate("document.activeElement.id") == "query"
    assert heard == []


def test_slices_are_those_of_the_chosen_task(page: Page) -> None:
    """Without a task there are all; a slice that the new task does not have is no longer asked for."""
    options = page.locator("#slice option")
    assert {"digits=2", "phrasing=polite", "rack=W"} <= set(options.all_text_contents())
    page.locator("#slice").select_option("digits=2")
    assert page.locator("#slice optgroup").evaluate_all("all => all.map(e => e.label)") == [
        *("carry", "digits"),
        *("phrasing", "rack"),
    ]
    page.locator("#view").select_option(label="orders/extraction::exact_match")
    assert options.all_text_contents() == ["Any", "phrasing=plain", "phrasing=polite"]
    assert count(page) == "Showing 25 of 400 samples: orders/extraction::exact_match."


@pytest.mark.parametrize("choice", ["reason", "disagrees", "torn", "by helpful"])
def test_what_judges_did_can_be_found(page: Page, data: CardData, choice: str) -> None:
    """Where one gave a reason, changed its mind about the same answer, or says otherwise than another metric."""
    exact, helpful = flipped(data, TASK, "exact_match"), flipped(data, TASK, "helpful")
    apart = (exact[0] ^ helpful[0]) | (exact[1] ^ helpful[1])
    found = {
        "reason": expected(data, lambda now, was: "helpful" in {**now.notes, **was.notes}),
        "disagrees": apart,
        "torn": expected(
            data, lambda now, was: now.outputs == was.outputs and now.scores["helpful"] != was.scores["helpful"]
        ),
        "by helpful": {row.id for row in data.candidates[TASK].rows},
    }[choice]
    assert 0 < len(found) <= 45
    page.locator("#judge").select_option(choice)
    while page.locator("#more").is_visible():
        page.locator("#more").click()
    assert set(ids(page)) == found


def test_what_there_is_not_is_not_offered(
    visit: Callable[..., Page], sums_card: Callable[[int], CardData], tmp_path: Path
) -> None:
    """Without judges, near ties and cut answers there is nothing to tick."""
    page = visit(write_card(sums_card(40), tmp_path).as_uri())
    for name in ("judge", "tie", "cut", "clear"):
        assert not page.locator(f"#{name}").is_visible()
    assert page.locator("#slice").is_visible()
    assert "near tie" not in page.locator("#samples").inner_text()


def test_samples_that_are_left_out_are_counted(
    visit: Callable[..., Page], sums_card: Callable[[int], CardData], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the limit of a page it says how many more there are, and where."""
    monkeypatch.setattr(samples, "SAMPLE_LIMIT", 30)
    page = visit(write_card(sums_card(1_040), tmp_path).as_uri())
    assert count(page) == "Showing 25 of 30 samples. 1,010 more stand in samples.jsonl beside this card."


def test_search_looks_into_every_text(page: Page, heard: list[str]) -> None:
    """Ids, prompts, answers of both sides, targets and reasons are searched, upper or lower case, while one types."""
    for words, shown in (
        ("SUMS-0024", ["sums-0024"]),
        ("sums-0024 3+3=", ["sums-0024"]),
        ("stock-005", ["facts-0015", "facts-0016", "facts-0017"]),
        ("v2 cat", ["facts-0001"]),
        ("no such text", []),
    ):
        search(page, words)
        assert sorted(ids(page)) == sorted(shown)
    assert count(page) == "No sample matches: “no such text”."
    page.locator("#query").fill("")
    page.locator("#query").press_sequentially("sums-0025")
    page.get_by_text("Showing 1 of 1 samples: “sums-0025”.").wait_for()
    assert heard == []


def test_numbers_in_the_tables_lead_to_their_samples(page: Page, data: CardData) -> None:
    """The count of broken samples and every slice are links that set the filters and clear the others."""
    page.locator("#cut").check()
    page.locator("a[data-view='1'][data-bucket='R']").first.click()
    assert page.locator("#view").evaluate("e => e.selectedOptions[0].text") == "arithmetic/addition::chrf"
    broken, _ = flipped(data, "arithmetic/addition", "chrf")
    assert count(page) == f"Showing 25 of {len(broken)} samples: Regressed · arithmetic/addition::chrf."
    page.locator("a[data-view][data-query='digits=2']").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#query").input_value() == "digits=2"
    assert page.evaluate("document.activeElement.id") == "count"
    assert set(page.locator("article .tag").all_text_contents()) >= {"digits=2"}


def test_more_samples_come_on_demand_and_take_the_focus(page: Page) -> None:
    """A page of samples at a time; after the button the first new sample has the focus."""
    total = int(page.locator(".buckets label", has_text="All").locator("b").inner_text())
    for shown in (50, 75, 100):
        page.locator("#more").focus()
        page.keyboard.press("Enter")
        assert page.locator("article").count() == shown < total
        focused = page.evaluate("[...document.querySelectorAll('article')].indexOf(document.activeElement)")
        assert focused == shown - 25
    assert len(set(ids(page))) == 100


# -- keyboard ---------------------------------------------------------------------------------------------------------


def test_keys_move_open_search_and_help(page: Page, heard: list[str]) -> None:
    """`/`, j, k, arrows at a sample, o, Enter, ? and Escape do what the help says; the last sample brings more."""
    focused = "[...document.querySelectorAll('article')].indexOf(document.activeElement.closest('article'))"
    for key, place in (("j", 0), ("j", 1), ("ArrowDown", 2), ("k", 1), ("ArrowUp", 0), ("k", 0)):
        page.keyboard.press(key)
        assert page.evaluate(focused) == place, key
    page.locator("article").nth(24).focus()
    page.keyboard.press("j")
    assert page.evaluate(focused) == 25
    assert page.locator("article").count() == 50
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "query"
    page.keyboard.type("facts-0001jk?o/")
    assert page.locator("#query").input_value() == "facts-0001jk?o/"
    assert not page.locator("#help").is_visible()
    search(page, "facts-0001")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.tagName") == "BODY"
    search(page, "facts-0001")
    page.evaluate("document.activeElement.blur()")
    assert page.locator("article .all").count() == 2
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    assert page.locator("article .all").count() == 0
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("j")
    page.keyboard.press("Escape")
    assert not page.locator("#help").is_visible()
    page.keyboard.press("Control+/")
    assert page.evaluate("document.activeElement.id") != "query"
    assert heard == []


def test_arrows_scroll_where_no_sample_has_the_focus(page: Page) -> None:
    """The negative control: nothing is taken from the page's own keys; the help opens by mouse too."""
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.keyboard.press("o")
    assert page.evaluate("document.activeElement.tagName") == "BODY"
    page.get_by_role("button", name="Keyboard").click()
    page.get_by_role("button", name="Close").click()
    assert not page.locator("#help").is_visible()


# -- links ------------------------------------------------------------------------------------------------------------


def test_a_filtered_view_can_be_sent_as_a_link(
    page: Page, visit: Callable[..., Page], address: str, heard: list[str]
) -> None:
    """The address holds every filter, and opened elsewhere it shows the same samples; cleared it holds none."""
    page.locator(".buckets label", has_text="Regressed").click()
    page.locator("#view").select_option(label=f"{TASK}::helpful")
    page.locator("#slice").select_option("rack=W")
    page.locator("#judge").select_option("reason")
    search(page, "rack & 100 % #1?")
    search(page, "rack")
    shown, said, link = ids(page), count(page), page.evaluate("location.href")
    assert link.startswith(f"{address}#samples?bucket=R&metric=facts%2Flookup%3A%3Ahelpful&slice=rack%3DW&judge=reason")
    assert shown
    other = visit(link)
    assert (ids(other), count(other), other.evaluate("location.href")) == (shown, said, link)
    page.locator("#clear").click()
    assert page.evaluate("location.hash") == "#samples"
    page.evaluate("hash => { location.hash = hash; }", link.partition("#")[2])
    page.get_by_text(said).wait_for()
    assert ids(page) == shown
    assert heard == []


def test_ticks_and_odd_words_survive_a_link(page: Page, visit: Callable[..., Page]) -> None:
    """Near ties, cut answers and whatever was typed come back as they were."""
    page.locator("#tie").check()
    page.locator("#cut").check()
    search(page, "100 % & #1? ünï <b>")
    other = visit(page.evaluate("location.href"))
    assert other.locator("#tie").is_checked()
    assert other.locator("#cut").is_checked()
    assert other.locator("#query").input_value() == "100 % & #1? ünï <b>"


HOSTILE: tuple[Mapping[str, str], ...] = (
    {"bucket": "Z", "metric": "no/such::metric", "slice": "x=y", "judge": "none"},
    {"bucket": "__proto__", "metric": "constructor", "slice": "toString", "judge": "__proto__"},
    {"judge": "constructor"},
    {"q": "<img src=x onerror=hit()>", "metric": "<script>hit()</script>"},
    {"q": "a" * 100_000},
)


def test_a_hostile_link_does_nothing(visit: Callable[..., Page], address: str, heard: list[str]) -> None:
    """What this card does not offer is left out and said; nothing runs, nothing breaks."""
    for link in HOSTILE:
        page = visit(f"{address}#samples?{urlencode(link)}")
        assert count(page).endswith("Part of the link does not fit this card.") == bool(set(link) - {"q"})
        assert page.locator("#view").input_value() == page.locator("#slice").input_value() == ""
        assert len(page.locator("#query").input_value()) <= 300
        assert page.locator("#samples img, #samples script").count() == 0
        page.locator(".buckets label", has_text="Fixed").click()
        assert "does not fit" not in count(page)
    assert heard == []


def test_a_broken_link_opens_the_card(visit: Callable[..., Page], address: str, heard: list[str]) -> None:
    """Whatever stands behind the `#`, the samples are there."""
    for tail in ("#samples?%E0%A4%A&q=%20", "#samples?q=&q=2&&&==", "#metrics"):
        assert visit(address + tail).locator("article").count() > 0
    assert heard == []


# -- texts ------------------------------------------------------------------------------------------------------------


def test_both_sides_stand_beside_each_other_with_changed_words_marked(page: Page) -> None:
    """Was and now are two columns; removed words are deletions, new ones insertions; the same answer is shown once."""
    search(page, "sums-0025")
    article = page.locator("article")
    assert article.locator(".side h4").all_text_contents() == ["Was", "Now"]
    boxes = [article.locator(".side").nth(i).bounding_box() for i in (0, 1)]
    assert boxes[0] is not None
    assert boxes[1] is not None
    assert boxes[0]["y"] == boxes[1]["y"]
    was, now = (article.locator(f".sides {tag}") for tag in ("del", "ins"))
    assert (was.count(), now.count()) == (1, 1)
    assert was.inner_text() != now.inner_text()
    for mark, line in ((was, "line-through"), (now, "underline")):
        assert line in mark.evaluate("e => getComputedStyle(e).textDecorationLine")
    search(page, "facts-0004")
    assert article.locator(".sides").first.locator("h4").all_text_contents() == ["Was and is"]
    assert article.locator("del, ins").count() == 0


def test_what_changed_in_a_long_text_is_seen_at_once(page: Page) -> None:
    """Of 2,600 characters the words around the change are shown, then all of them; nothing else is marked."""
    search(page, "facts-0001")
    side = page.locator("article .side").nth(1)
    text = side.locator(".text")
    assert side.locator("ins").all_text_contents() == ["v3"]
    assert text.locator(".left").count() == 2
    assert len(text.inner_text()) < 400
    side.get_by_role("button", name="Show all").click()
    assert text.text_content() == PROSE * 20 + "A v3 cat sat there. " + PROSE * 20
    assert side.locator("ins").all_text_contents() == ["v3"]
    assert text.evaluate("e => e === document.activeElement")


def test_long_texts_are_capped_until_asked_for(page: Page) -> None:
    """A long prompt shows its beginning and a button with its length; the button shows all of it."""
    search(page, "facts-0007")
    text = page.locator("article .asked .text").first
    assert len(text.inner_text()) == 600
    button = page.locator("article .asked").get_by_role("button", name="Show all")
    button.focus()
    page.keyboard.press("Enter")
    assert len(text.inner_text()) > 600
    assert button.count() == 0


def test_a_cut_text_leads_to_the_whole_one(page: Page, data: CardData) -> None:
    """It says how long it is, links the file beside the card, and gives the command as a shell needs it."""
    search(page, LONG_ID)
    article = page.locator("article")
    said = article.locator(".cut-short").first
    assert said.inner_text() == "Cut after 20,000 of 26,003 characters: the whole text"
    assert said.get_by_role("link").get_attribute("href") == "samples.jsonl"
    line = 500 + 400 + [row.id for row in data.candidates[TASK].rows].index(LONG_ID) + 1
    assert article.locator(".whole").inner_text() == (
        f"Whole in line {line:,} of samples.jsonl beside this card, or by "
        "evalgate show v3 facts/lookup --sample 'it'\\''s; long'"
    )
    search(page, "facts-0003")
    assert "The two differ beyond where they are cut." in article.inner_text()
    search(page, "facts-0005")
    assert article.locator(".cut-short, .whole, .beyond").count() == 0


def test_reasons_of_both_sides_stand_side_by_side_with_scores(page: Page) -> None:
    """A judge that changed its mind is seen with both scores; one that said the same twice is shown once."""
    search(page, "facts-0004")
    judged = page.locator("article .judged")
    assert judged.locator("h4").first.inner_text() == "helpful · the judge's reason"
    assert judged.locator(".side h4").all_text_contents() == ["Was 0.25", "Now 0.75"]
    assert judged.locator(".text").all_text_contents() == ["v2 said so", "v3 said so"]
    search(page, "orders expected")
    assert page.locator("article .judged > h4").first.inner_text() == "exact_match · what was found"


def test_generations_errors_and_empty_answers_are_shown(
    visit: Callable[..., Page], demo: CardData, tmp_path: Path, heard: list[str]
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
    page = visit(write_card(replace(demo, candidates=candidates), tmp_path).as_uri())
    article = page.locator("article")
    search(page, "sums-0000")
    now = article.locator(".side").nth(1)
    assert now.locator(".text").all_text_contents() == ["empty", "try 0", "try 1"]
    page.get_by_role("button", name="Show all 8 generations").click()
    assert now.locator(".text").count() == 8
    assert article.locator(".cut").inner_text() == "cut at max_tokens"
    search(page, "sums-0001")
    assert article.locator(".bucket").inner_text() == "No answer"
    assert article.locator(".error").inner_text() == "the engine died"
    assert "No score" not in article.locator(".side h4").all_text_contents()
    search(page, "sums-0003")
    assert article.locator(".error").inner_text() == "exact_match: the judge is ill"
    assert "No score" in article.locator(".side h4").all_text_contents()
    search(page, "sums-0002")
    assert article.locator(".judged").first.inner_text().split() == [
        *("exact_match", "·", "what", "was", "found"),
        *("Was", "1", "nothing", "said", "Now", "1", "found", "12"),
    ]
    assert "Prompt of the baseline" in article.inner_text()
    search(page, "chat-0001")
    assert article.locator(".side h4").all_text_contents() == ["Now"]
    assert heard == []


def test_near_ties_and_the_reserve_can_be_found(
    visit: Callable[..., Page], reserve_card: Callable[..., CardData], tmp_path: Path, heard: list[str]
) -> None:
    """The count of near ties leads to them, each labelled in words; the counts of a confirmed metric to its own."""
    name = "sums/all::exact_match"
    data = reserve_card("confirm")
    data = replace(data, near_ties={name: data.near_ties[name]})
    page = visit(write_card(data, tmp_path).as_uri())
    comparison = data.family.verdicts[0].comparison
    assert comparison
    ties = set(data.near_ties[name]) & {*comparison.broken, *comparison.fixed}
    page.locator("a[data-view='0'][data-query^='near tie']").click()
    assert set(ids(page)) == ties
    assert page.locator("article .tie").all_text_contents() == ["near tie, 0.00002 nat"] * len(ties)
    page.locator("a[data-view='0'][data-bucket='R']").first.click()
    assert ids(page) == list(comparison.broken)
    assert 0 < page.locator("article .tie").count() < len(comparison.broken)
    page.locator("#tie").check()
    assert set(ids(page)) == ties & set(comparison.broken)
    page.locator("#tie").uncheck()
    page.locator("#view").select_option(label="sums/all::chrf")
    assert ids(page) == list(comparison.broken)
    assert page.locator("article .tie").count() == 0  # of this metric none was given
    search(page, "reserve=2")
    assert 0 < page.locator("article").count() < 25
    assert {tag for tag in page.locator("article .tag").all_text_contents() if "=" in tag} >= {"reserve=2"}
    search(page, "")
    page.locator(".buckets label", has_text="Unchanged").click()
    assert page.locator("article .tie").count() == 0
    for width in (320, 1000, 1210, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert heard == []


def test_everything_is_seen_on_a_telephone(visit: Callable[..., Page], address: str) -> None:
    """At 400 px nothing is beside the page, whichever sample is open; the sides stand below each other."""
    page = visit(address, viewport={"width": 400, "height": 800})
    for words in ("facts-0001", LONG_ID, "facts-0004", "orders expected"):
        search(page, words)
        page.evaluate("document.querySelectorAll('button.all').forEach((each) => each.click())")
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
    boxes = [page.locator("article").first.locator(".side").nth(i).bounding_box() for i in (0, 1)]
    assert boxes[0]
    assert boxes[1]
    assert boxes[0]["y"] < boxes[1]["y"]
    page.get_by_role("button", name="Keyboard").click()
    box = page.locator("#help").bounding_box()
    assert box
    assert box["width"] <= 400


# -- unpacking --------------------------------------------------------------------------------------------------------


def test_damaged_samples_are_said_to_be_damaged(visit: Callable[..., Page], address: str, tmp_path: Path) -> None:
    """A page that was cut or changed shows its tables and says what is wrong with its samples."""
    html = Path(address.removeprefix("file://")).read_text("utf-8")
    place = html.index('id="data">') + 500
    (tmp_path / "index.html").write_text(html[:place] + html[place + 400 :], "utf-8")
    page = visit((tmp_path / "index.html").as_uri())
    assert count(page).startswith("The samples cannot be shown: ")
    assert page.locator("article").count() == 0
    assert not page.locator("#controls").is_visible()


def test_a_browser_without_the_means_says_so(visit: Callable[..., Page], address: str) -> None:
    """Where nothing can unpack, the page says in words what can be done."""
    page = visit(address, without="DecompressionStream")
    assert "this browser has no DecompressionStream" in count(page)
    assert "samples.jsonl" in count(page)


# -- differences ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def script(browser: Browser, address: str) -> Iterator[Page]:
    """The card, for its functions."""
    page = browser.new_page()
    page.goto(address)
    yield page
    page.close()


WORDS = st.lists(
    st.sampled_from(["a", "bee", "cats", " ", " ", "\n", ".", "é", "我", "😀", "\ud83d", "7"]), max_size=30
)
RUN = """([was, now]) => {
  const parts = differences(was, now), side = (key) => parts.map((part) => part.same ?? part[key]).join("");
  const marked = parts.filter((part) => part.same === undefined).map((part) => [part.was, part.now]);
  return { was: side("was"), now: side("now"), marked };
}"""


@settings(max_examples=150, deadline=None)
@given(was=WORDS, now=WORDS)
def test_parts_make_both_texts_again(script: Page, was: list[str], now: list[str]) -> None:
    """What is common and what was removed make the one text, what is common and what was added the other."""
    texts = ["".join(side).encode("utf-16", "surrogatepass").decode("utf-16", "replace") for side in (was, now)]
    found = script.evaluate(RUN, texts)
    assert [found["was"], found["now"]] == texts
    assert bool(found["marked"]) == (texts[0] != texts[1])
    assert all(pair[0] != pair[1] for pair in found["marked"])


@pytest.mark.parametrize(
    ("was", "now", "marked"),
    [
        ("the cat sat", "the cat sat", []),
        ("the cat sat", "the dog sat", [["cat", "dog"]]),
        ("the old cat sat", "the new dog sat", [["old cat", "new dog"]]),
        ("the cat sat", "the cat sat down", [["", " down"]]),
        ("a, b", "a b", [[",", ""]]),
        ("x = 128", "x = 129", [["128", "129"]]),
        ("one\ntwo", "one two", [["\n", " "]]),
        ("我喜欢红茶", "我喜欢绿茶", [["红", "绿"]]),
        ("", "new", [["", "new"]]),
        ("cafe\u0301 x", "cafe x", [["cafe\u0301", "cafe"]]),
    ],
)
def test_words_are_marked_as_people_read_them(script: Page, was: str, now: str, marked: list[list[str]]) -> None:
    """Whole words, also in scripts without spaces; neighbours are one change; punctuation stands for itself."""
    assert script.evaluate(RUN, [was, now])["marked"] == marked


def test_texts_without_anything_in_common_do_not_hang(script: Page) -> None:
    """20,000 characters a side, all other words: compared in well under a second, and marked from end to end."""
    was, now = (",".join(f"{who}{i}" for i in range(3_000))[:20_000] for who in "xy")
    found = script.evaluate(RUN, [f"Begin {was} end", f"Begin {now} end"])
    assert found["marked"] == [[was, now]]  # not 3,000 words between commas


def test_a_metric_may_be_called_as_anything(script: Page) -> None:
    """What every object inherits is nobody's reason."""
    told = """metric => reasons({ s: [[1, 1]], x: {} }, { metrics: [metric], judges: [0] }).length"""
    assert [script.evaluate(told, name) for name in ("constructor", "__proto__", "toString")] == [0, 0, 0]
