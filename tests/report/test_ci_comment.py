"""The comment on a pull request, and the summary of a step: what they say, in which order, and how long they get."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.plugin.hostile import active_in

from evalgate.gate import Outcome
from evalgate.report import CardData, screen
from evalgate.report.ci import LIMIT, MARKER, Links, Place, Told, comment, github, gitlab, words
from evalgate.report.ci.comment import _fitted, _Section
from evalgate.report.results import CandidateResult, Results, compared

RUN = "https://github.com/o/r/actions/runs/17"


def told(*cards: CardData, exit_code: int = 1, **fields: Any) -> Told:
    """A session that gated these."""
    candidates = tuple(
        compared(card.name, card.digest or "", f"runs/{card.name}", card.family, f"reports/{card.name}/index.html")
        for card in cards
    )
    given: dict[str, Any] = {
        "results": Results(exit=exit_code, candidates=candidates, ledger="sha256:0123456789abcdef"),
        "cards": {card.name: card for card in cards},
        "places": {task: Place("evalsuites/test_shop.py", 12) for card in cards for task in card.candidates},
        "command": "pytest evalsuites/ --model runs/v3",
        "links": Links(RUN),
    }
    return Told(**{**given, **fields})


def passing(card: CardData, name: str = "v4") -> CardData:
    """The card with only what passed."""
    verdicts = tuple(verdict for verdict in card.family.verdicts if verdict.outcome is Outcome.PASS)
    family = replace(card.family, verdicts=verdicts, outcome=Outcome.PASS, reason="all hold", partial=())
    return replace(card, name=name, family=family)


def test_it_tells_the_story(demo: CardData) -> None:
    """Marker, verdict with symbol and word, one table with what failed first, samples, card, command, run."""
    said = comment(told(demo)).replace("&nbsp;", " ")
    assert said.startswith(f"{MARKER}\n## ❌ REGRESSION: v3\n")
    order = [
        "v3 is worse than the baseline: 1 of 5 metrics REGRESSION",
        "| ❌ regression | `arithmetic/addition::exact_match` | .936 → .876 | **-6.0 pt** \\[-8.5, -3.7\\] | 500 |",
        "| ℹ️ regression (informs) | `arithmetic/addition::chrf` |",
        "| 🆕 no baseline | `chat/identity::exact_match` | .500 |  |  |  |",
        "Card: `reports/v3/index.html`",
        "- worst slice `digits=2`: -17.4 pt (n = 167, q &#60; .0001)",
        "```text\nsample  sums-",
        "<details><summary>✅ 2 metrics passed</summary>",
        "| ✅ pass | `orders/extraction::exact_match` |",
        "pytest evalsuites/ --model runs/v3",
        f"[this run]({RUN}) · Ledger `0123456789ab`",
    ]
    places = [said.index(each) for each in order]
    assert places == sorted(places)
    assert active_in(comment(told(demo)), links=(RUN,)) == []


def test_three_samples_of_each_regression(demo: CardData) -> None:
    """Three that broke, none twice though two metrics of a task regressed; a summary has ten."""
    assert comment(told(demo)).count("\nsample  ") == 3
    summary = github.summary(told(demo), 0)
    assert summary
    assert summary.count("\nsample  ") == 10
    assert MARKER not in summary


def test_a_sample_says_what_was_and_what_is(demo: CardData) -> None:
    """Labels stand in a column, and every further line of a text is indented, so none passes for a label."""
    block = re.search(r"```text\n(sample .*?)\n```", comment(told(demo)), re.DOTALL)
    assert block
    lines = block[1].split("\n")
    assert [line[:8] for line in lines] == ["sample  ", "prompt  ", "        ", "was     ", "now     ", "target  "]


def test_near_ties_and_golden_samples_are_marked(reserve_card: Callable[[str], CardData]) -> None:
    """How many of the broken are near ties, and which of those shown."""
    data = reserve_card("keep")
    assert data.family.verdicts[0].outcome is Outcome.REGRESSION
    said = comment(told(data), samples=40)
    tied = len(set(data.near_ties["sums/all::exact_match"]) & set(data.family.verdicts[0].comparison.broken))  # type: ignore[union-attr]
    assert f"- {tied} of " in said
    assert said.count(" (near tie)\n") > 0


def test_a_pass_is_short(demo: CardData) -> None:
    """One line, the table folded, no sample."""
    said = comment(told(passing(demo), exit_code=0))
    assert said.startswith(f"{MARKER}\n## ✅ PASS: v4\n\nv4 holds against the baseline: all hold.")
    assert said.index("<details>") < said.index("| ✅ pass |")
    assert "sample  " not in said


def test_several_candidates_have_a_heading_each(demo: CardData) -> None:
    """In the order in which they were typed; the headline counts those that are blocked."""
    said = comment(told(passing(demo, "v2"), demo))
    assert "## ❌ BLOCKED: 1 of 2 candidates" in said
    assert said.index("### ✅ PASS: v2") < said.index("### ❌ REGRESSION: v3")
    every = comment(told(passing(demo, "v2"), passing(demo, "v4"), exit_code=0))
    assert "## ✅ PASS: all 2 candidates" in every


@pytest.mark.parametrize(
    ("results", "fields", "expected"),
    [
        (Results(exit=4, error="no such folder"), {}, "## 💥 ERROR: nothing could be evaluated\n\nno such folder"),
        (Results(exit=5), {}, "No candidate was evaluated: no test was selected (exit code 5)."),
        (Results(exit=2), {}, "No candidate was evaluated: interrupted (exit code 2)."),
        (
            Results(exit=0, candidates=(CandidateResult("v2", "d", None, None, False),)),
            {"recorded": True},
            "## 📼 RECORDED: v2; nothing was compared\n\nv2: recorded.",
        ),
    ],
)
def test_no_verdict_is_never_a_green_page(results: Results, fields: dict[str, Any], expected: str) -> None:
    """A usage error, an empty selection and Ctrl-C say so in the headline; recording says that nothing was compared."""
    said = comment(Told(results=results, **fields))
    assert expected in said
    assert "✅" not in said


def test_half_a_session_is_an_error(demo: CardData) -> None:
    """One candidate could not be trained, the other passed: the headline says ERROR, the other's numbers are there."""
    good = told(passing(demo), exit_code=1)
    half = replace(good, results=replace(good.results, error="the trainer was killed"))
    said = comment(half)
    assert half.verdict == "error"
    assert "## 💥 ERROR: not everything could be evaluated\n\nthe trainer was killed" in said
    assert "✅ 2 metrics passed" in said


def test_other_reasons_to_fail_are_said(demo: CardData) -> None:
    """A gate that did not run, a test that is no gate, and an interrupt after the verdicts are no pass."""
    good = passing(demo)
    missing = told(good, missing=("shop/orders::exact_match",))
    assert missing.verdict == "blocked"
    assert "**Required and not run, so this is no pass:** `shop/orders::exact_match`" in comment(missing)
    other = told(good)
    assert other.verdict == "blocked"
    assert "## ❌ BLOCKED: a test failed, or could not be evaluated" in comment(other)
    assert "The gates block nothing; the session failed for another reason" in comment(other)
    stopped = told(good, exit_code=2)
    assert stopped.verdict == "error"
    assert "The session ended with exit code 2: interrupted." in comment(stopped)
    assert "✅ PASS: v4" not in comment(other) + comment(stopped)


def test_one_word_for_scripts(demo: CardData) -> None:
    """passed, blocked, recorded, and error for everything of which nothing can be said."""
    new = replace(demo.family, outcome=Outcome.NO_BASELINE)
    assert told(passing(demo), exit_code=0).verdict == "passed"
    assert told(demo).verdict == "blocked"
    assert told(replace(demo, family=new)).verdict == "error"
    assert Told(results=Results(exit=4, error="x")).verdict == "error"
    recorded = Results(exit=0, candidates=(CandidateResult("v", "d", None, None, False),))
    assert Told(results=recorded, recorded=True).verdict == "recorded"
    assert Told(results=replace(recorded, exit=1), recorded=True).verdict == "error"


def test_it_is_never_longer_than_a_site_takes(demo: CardData) -> None:
    """Thirty regressed candidates with long names: whole sections are left out, named, and no fence stays open."""
    cards = [replace(demo, name=f"v{i}-{'ü' * 200}") for i in range(30)]
    said = comment(told(*cards))
    assert 30_000 < len(said.encode()) <= LIMIT
    assert "Left out, as there is no room: " in said
    assert active_in(said, links=(RUN,)) == []
    for i in range(30):
        assert f"### ❌ REGRESSION: v{i}-" in said  # the verdicts come before any sample
    summary = github.summary(told(*cards), 0)
    assert summary
    assert len(summary.encode()) <= github.SUMMARY_LIMIT


def test_what_stands_in_a_summary_counts(demo: CardData) -> None:
    """GitHub drops a summary beyond a mebibyte: what is added fits in what is left, or is left out."""
    for there in (0, 900_000, 1_030_000, 1_039_000):
        said = github.summary(told(*[replace(demo, name=f"v{i}") for i in range(99)]), there)
        assert said
        assert there + len(said.encode()) <= github.STEP_LIMIT
    assert github.summary(told(demo), 1_048_000) is None


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 900), st.text(max_size=30)), max_size=12),
    st.integers(4_000, 8_000),
)
def test_sections_are_whole_or_left_out(sizes: Sequence[tuple[int, int, str]], limit: int) -> None:
    """Law: no text is longer than its limit, its sections are in order, and one of a lower rank is left out first."""
    sections = [_Section(rank, title, f"{i}:" + "ä" * size) for i, (rank, size, title) in enumerate(sizes)]
    said = _fitted(sections, limit)
    assert len(said.encode("utf-8", "replace")) <= limit
    parts = said.removesuffix("\n").split("\n\n")
    kept = [section for section in sections if section.markdown in parts]
    assert [part for part in parts if re.match(r"\d+:", part)] == [section.markdown for section in kept]
    assert len(kept) == len(sections) or parts[-1].startswith("Left out, as there is no room: ")
    if len(kept) < len(sections) and len({len(section.markdown) for section in sections}) == 1:
        assert max((section.rank for section in kept), default=0) <= min(s.rank for s in sections if s not in kept)


def test_links_are_only_to_where_they_may_lead() -> None:
    """Addresses come from the runner's environment, and only what looks like one of its pages is used."""
    good = {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "o/r", "GITHUB_RUN_ID": "17"}
    assert github.links(good) == Links(RUN)
    for name, wrong in (("SERVER_URL", "javascript:x//"), ("REPOSITORY", "o/r)[x](y"), ("RUN_ID", "1)")):
        assert github.links({**good, f"GITHUB_{name}": wrong}) == Links()
    job = "https://gitlab.example/group/sub/project/-/jobs/5"
    assert gitlab.links({"CI_JOB_URL": job}) == Links(job, f"{job}/artifacts/file/")
    assert gitlab.links({"CI_JOB_URL": f"{job})"}) == gitlab.links({}) == Links()


def test_a_card_is_linked_where_its_address_is_known(demo: CardData) -> None:
    """GitLab keeps files under an address; a project in a folder of its repository is found there."""
    files = "https://gitlab.example/p/-/jobs/5/artifacts/file/"
    said = comment(told(replace(demo, name="v 3"), links=Links(files=files), folder="models/"))
    assert f"([look at it]({files}models/reports/v%203/index.html))" in said


@pytest.mark.parametrize(("symbols", "passing"), [(words.SYMBOLS, "✅"), (screen.SYMBOLS, "✓")])
def test_every_outcome_has_a_symbol_of_its_own(symbols: dict[Outcome, str], passing: str) -> None:
    """In comments and at terminals none is missing, none shared, and only PASS looks like one."""
    assert set(symbols) == set(Outcome)
    assert len(set(symbols.values())) == len(Outcome)
    assert symbols[Outcome.PASS] == passing


def test_symbols_differ_in_ascii_too() -> None:
    """Where a terminal's encoding has no symbols, each outcome still has one of its own."""
    poor = screen.Screen(encoding="ascii")
    assert len({poor.text(symbol) for symbol in screen.SYMBOLS.values()}) == len(Outcome)
