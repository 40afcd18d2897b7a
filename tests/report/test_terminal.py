"""The lines of a gated run: what they say, how they fit, and that nothing a model wrote acts in them."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalgate.gate import Outcome, Verdict
from evalgate.report import CardData
from evalgate.report.terminal import (
    detail_lines,
    junit_properties,
    near_tie_counts,
    safe,
    status_word,
    summary_lines,
    why,
    word,
)
from evalgate.text import probability

ESC, BEL, CSI, ST = "\x1b", "\x07", "\x9b", "\x9c"
HOSTILE = [
    f"{ESC}[31mred{ESC}[0m",
    f"{ESC}[2J{ESC}[H",
    f"{ESC}[1A{ESC}[2K PASSED",
    f"{ESC}[8mhidden",
    f"{ESC}[6n",
    f"{ESC}[5;1H{ESC}[0J",
    f"{ESC}c",
    f"{ESC}7{ESC}8",
    f"{ESC}(0lqk",
    f"{ESC}[?1049h",
    f"{ESC}[?25l",
    f"{ESC}[200~rm -rf ~\n",
    f"{ESC}]0;title{BEL}",
    f"{ESC}]0;title{ESC}\\",
    f"{ESC}]8;;http://example.org{BEL}click{ESC}]8;;{BEL}",
    f"{ESC}]52;c;ZWNobyBoaQ=={BEL}",
    f"{ESC}]1337;File=inline=1:AAAA{BEL}",
    f"{ESC}P+q544e{ESC}\\",
    f"{ESC}_Gf=24;AAAA{ESC}\\",
    f"{ESC}^private{ESC}\\",
    f"{CSI}31m",
    f"\x9d0;title{ST}",
    f"\x90payload{ST}",
    f"{ESC}[0Ksection_start:1:a[collapsed=true]\r{ESC}[0Kfolded",
    "::error file=app.py,line=1::broken",
    "::set-output name=token::1",
    "::add-mask::e",
    "::stop-commands::x",
    "  ::warning::indented",
    "\t::group::tabbed",
    "fine\n::endgroup::",
    "fine\r\n::notice::after a carriage return",
    "##[error]broken",
    "x ##[group]anywhere",
    "##vso[task.setvariable variable=a]b",
    "##teamcity[testFailed name='a']",
    "one\nPASSED\n2 passed in 0.1s",
    "over\rwritten",
    "back\b\b\b\bspace",
    "nul\x00del\x7f",
    "a\u202egnp.exe",
    "a\u2066b\u2069\u200f\u061c",
    "zero\u200bwidth\ufeff\u00ad",
    "tags \U000e0041\U000e0042",
    "lines\u2028and\u2029\x85paragraphs",
    "lone \ud800 surrogate",
    "private \ue000 use",
]


def acts(shown: str) -> bool:
    """Whether a terminal or a CI runner would do anything but show a line of text."""
    line = shown.strip()
    command = line.startswith("::") or any(f"##{name}[" in line for name in ("", "vso", "teamcity"))
    return command or any(unicodedata.category(char)[0] == "C" or char in "\u2028\u2029" for char in shown)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_inert(text: str) -> None:
    """Escape sequences, commands of CI runners and invisible characters act when raw, and only show when made safe."""
    assert acts(text)
    assert not acts(safe(text))
    assert not acts(f"  {safe(text)}")


@given(st.text(), st.integers(1, 80))
def test_safe_text_is_one_inert_line_within_the_limit(text: str, limit: int) -> None:
    """Whatever comes in, what goes out is inert and not longer than asked."""
    shown = safe(text, limit)
    assert not acts(shown)
    assert len(shown) <= limit
    assert (
        (shown == text)
        or not text.isascii()
        or not text.isprintable()
        or len(text) > limit
        or "::" in text
        or "##" in text
    )


def test_safe_text_stays_readable() -> None:
    """What is visible stays as it is; what is not is spelled out; what is long ends in an ellipsis."""
    assert safe("Zoë: 3×π = 東京 🙂") == "Zoë: 3×π = 東京 🙂"
    assert safe("a::b and #1 ## two") == "a::b and #1 ## two"
    assert safe("Q: 1+1=\nA:\t\x1b[1m") == r"Q: 1+1=⏎A:\x09\x1b[1m"
    assert safe("x" * 30, 10) == "x" * 9 + "…"
    assert len(safe("\x00" * 10_000_000, 50)) == 50


def verdict_of(demo: CardData, name: str) -> Verdict:
    """The demo's verdict on a `task::metric`."""
    return next(v for v in demo.family.verdicts if f"{v.task}::{v.metric}" == name)


def test_a_regression_reads_as_one_line(demo: CardData) -> None:
    """A failed metric says the difference, its interval, n, was and now."""
    verdict = verdict_of(demo, "arithmetic/addition::exact_match")
    assert status_word(verdict) == "FAILED  -6.0 pt [-8.5, -3.7]  n=500  was .936, now .876"


def test_the_status_word_fits_every_outcome(demo: CardData) -> None:
    """Outcomes have the word pytest's readers know; what only informs says that it does."""
    words = {f"{v.task}::{v.metric}": word(v) for v in demo.family.verdicts}
    assert words == {
        "arithmetic/addition::exact_match": "FAILED",
        "arithmetic/addition::chrf": "REGRESSION (informs)",
        "orders/extraction::exact_match": "PASSED",
        "facts/lookup::exact_match": "INCONCLUSIVE",
        "prose/heldout::bits_per_byte": "PASSED",
        "chat/identity::exact_match": "NO BASELINE",
    }
    assert status_word(verdict_of(demo, "chat/identity::exact_match")) == "NO BASELINE  now .500"
    passed = replace(verdict_of(demo, "prose/heldout::bits_per_byte"), degraded=True)
    assert status_word(passed).endswith("(lower is better)  degraded within the margin")
    failed = Verdict(task="a/b", metric="m", blocking=True, outcome=Outcome.ERROR, reason="the engine died")
    assert status_word(failed) == "ERROR"


def test_details_count_name_the_worst_slice_and_show_a_sample(demo: CardData) -> None:
    """Under a failure stand why, how many broke, where most, the card, and one sample as it was and is."""
    verdict = verdict_of(demo, "arithmetic/addition::exact_match")
    task = verdict.task
    found = detail_lines(
        verdict, "reports/v3/index.html", candidate=demo.candidates[task], baseline=demo.baselines[task]
    )
    assert found == [
        f"  {why(verdict)}",
        "  41 samples broke, 11 were fixed; worst slice: digits=2 (-17.4 pt). Card: reports/v3/index.html",
        "  sums-0024  prompt  Q: 3+3=⏎A:",
        "             was      6",
        "             now      5",
        "             target  6",
    ]
    assert found[0].startswith("  worse: p")
    assert detail_lines(verdict, "c.html") == [found[0], found[1].replace("reports/v3/index.html", "c.html")]


def test_details_show_the_end_of_a_long_prompt_and_no_empty_texts(demo: CardData) -> None:
    """What is asked stands at a prompt's end; a metric without outputs shows none."""
    facts = verdict_of(demo, "facts/lookup::exact_match")
    lines = detail_lines(facts, "c.html", candidate=demo.candidates[facts.task], baseline=demo.baselines[facts.task])
    assert lines[0].startswith("  can see drops of")
    assert "prompt  …" in lines[2]
    assert lines[2].rstrip().endswith("?")
    prose = verdict_of(demo, "prose/heldout::bits_per_byte")
    lines = detail_lines(prose, "c.html", candidate=demo.candidates[prose.task], baseline=demo.baselines[prose.task])
    assert lines[1] == "  38 samples got worse, 82 better. Card: c.html"
    assert lines[2].split()[1] == "target"
    assert len(lines) == 3


def test_details_show_a_golden_sample_first(demo: CardData) -> None:
    """A broken golden sample is the example, wherever it stands among the broken ones."""
    verdict = verdict_of(demo, "arithmetic/addition::exact_match")
    comparison = verdict.comparison
    assert comparison
    last = comparison.broken[-1]
    changed = replace(verdict, comparison=replace(comparison, golden_broken=(last,)))
    lines = detail_lines(
        changed, "c.html", candidate=demo.candidates[verdict.task], baseline=demo.baselines[verdict.task]
    )
    assert last in lines[2]


def test_a_sample_that_the_records_lack_is_no_example(demo: CardData) -> None:
    """An id that one side does not hold gives no example instead of an error."""
    verdict = verdict_of(demo, "arithmetic/addition::exact_match")
    assert verdict.comparison
    gone = replace(verdict, comparison=replace(verdict.comparison, broken=("gone",)))
    task = verdict.task
    assert len(detail_lines(gone, "c", candidate=demo.candidates[task], baseline=demo.baselines[task])) == 2


def test_a_missing_baseline_shows_the_command_that_accepts(demo: CardData) -> None:
    """NO BASELINE and INCOMPARABLE say how to accept; a regression never offers it."""
    new = verdict_of(demo, "chat/identity::exact_match")
    command = 'evalgate accept runs/v3 -m "why"'
    assert detail_lines(new, "c.html", accept=command) == [
        "  no baseline yet, now .500  n=30",
        "  Card: c.html",
        f"  If it is right, accept what was recorded: {command}",
    ]
    failed = verdict_of(demo, "arithmetic/addition::exact_match")
    assert not any(command in line for line in detail_lines(failed, "c.html", accept=command))


def test_the_summary_has_a_line_per_metric_and_whatever_needs_saying(demo: CardData) -> None:
    """Overall verdict, aligned metrics, pooled test, PARTIAL, INCONCLUSIVE, slices, environment, card and ledger."""
    lines = summary_lines(demo.family, name="v3", card="reports/v3/index.html", ledger_head=demo.ledger_head, width=200)
    assert lines[0].startswith("v3: REGRESSION  1 of 5 metrics REGRESSION: arithmetic/addition::exact_match; pooled ")
    table = lines[1:7]
    assert {line.index("::") > 0 and line.index(" pt [") for line in table[:4]} == {table[0].index(" pt [")}
    text = "\n".join(lines)
    assert "  pooled over blocking metrics: +1.8 pt [-2.8, +6.5]  n=945  regression p = .74, non-inferiority " in text
    assert "  PARTIAL: 1 of 7 did not run: reviews/sentiment::exact_match" in lines
    assert sum(line.startswith("  INCONCLUSIVE facts/lookup::exact_match: can see drops") for line in lines) == 1
    assert "  NO BASELINE chat/identity::exact_match: no baseline yet, now .500  n=30" in lines
    assert "  slice arithmetic/addition::exact_match digits=2: -17.4 pt (n=167, q < .0001)" in lines
    assert "digits=3" not in text
    assert "  note: engine.version: candidate 0.32.0, baseline 0.31.0 (1 metric)" in lines
    assert lines[-1] == f"  Card: reports/v3/index.html  Ledger: {str(demo.ledger_head)[7:19]}"


@pytest.mark.parametrize("width", [40, 60, 79, 100])
def test_narrow_terminals_break_lines_and_lose_nothing(demo: CardData, width: int) -> None:
    """Below the table's width every metric takes several lines, none too long, and every word is still there."""
    wide = summary_lines(demo.family, name="v3", card="c.html", width=200)
    narrow = summary_lines(demo.family, name="v3", card="c.html", width=width)
    assert " ".join(" ".join(wide).split()) == " ".join(" ".join(narrow).split())
    longest_word = max(len(each) for line in wide for each in line.split())
    assert max(map(len, narrow)) <= max(width, longest_word + 10)


def test_color_paints_the_outcomes_and_nothing_else(demo: CardData) -> None:
    """Without its escape sequences the painted summary is the plain one; green, red and yellow stand for outcomes."""
    plain = summary_lines(demo.family, name="v3", card="c.html", width=200)
    painted = summary_lines(demo.family, name="v3", card="c.html", width=200, color=True)
    assert painted[1].startswith("  \x1b[1;31mFAILED\x1b[0m ")
    assert "\x1b[1;32mPASSED\x1b[0m" in painted[3]
    assert "\x1b[1;33mINCONCLUSIVE\x1b[0m" in painted[4]
    for code in ("\x1b[1;31m", "\x1b[1;32m", "\x1b[1;33m", "\x1b[0m"):
        painted = [line.replace(code, "") for line in painted]
    assert painted == plain


def test_many_slices_are_counted_not_listed(demo: CardData) -> None:
    """The terminal names a handful of slices and says how many more there are."""
    verdict = verdict_of(demo, "arithmetic/addition::exact_match")
    assert verdict.comparison
    part = verdict.comparison.slices[0]
    slices = tuple(replace(part, value=str(i)) for i in range(9))
    many = replace(verdict, comparison=replace(verdict.comparison, slices=slices))
    lines = summary_lines(replace(demo.family, verdicts=(many,)), name="v3", card="c", width=200)
    assert sum(line.startswith("  slice ") for line in lines) == 5
    assert "  4 more slices dropped; the card has them" in lines


def with_dropped_slices(verdict: Verdict) -> Verdict:
    """The verdict with its slices significantly worse, so that they are said."""
    if not verdict.comparison:
        return verdict
    slices = tuple(replace(part, q=0.01, p_adjusted=0.01) for part in verdict.comparison.slices)
    return replace(verdict, comparison=replace(verdict.comparison, slices=slices))


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_inert_in_every_line(hostile_card: Callable[[str], CardData], text: str) -> None:
    """Names, ids, slices, reasons, prompts and outputs that would act do nothing in any line or JUnit property."""
    card = hostile_card(text)
    family = replace(card.family, verdicts=tuple(map(with_dropped_slices, card.family.verdicts)))
    lines = summary_lines(
        family, name=card.name, card=text, ledger_head="sha256:0", near_ties=card.near_ties, width=1000
    )
    assert any("broken samples is a near tie" in line for line in lines)
    assert any(line.startswith("  blocking slice ") for line in lines)
    lines += summary_lines(family, name=card.name, card=text, near_ties=card.near_ties, width=100)
    for verdict in card.family.verdicts:
        sides = {"candidate": card.candidates.get(verdict.task), "baseline": card.baselines.get(verdict.task)}
        lines += detail_lines(verdict, text, accept=text, **sides)
        lines.append(status_word(verdict))
        lines += [value for _, value in junit_properties(verdict)]
    assert len(lines) > 30
    assert [line for line in lines if acts(line)] == []


def test_junit_properties_hold_the_words_and_the_numbers(demo: CardData) -> None:
    """A comparison gives its numbers in the metric's own units; what was not compared gives none."""
    found = dict(junit_properties(verdict_of(demo, "arithmetic/addition::chrf")))
    assert found["evalgate.says"] == "REGRESSION (informs)  -4.0 pt [-5.5, -2.6]  n=500  was 96.5, now 92.4"
    assert found["evalgate.outcome"] == "REGRESSION"
    assert found["evalgate.blocking"] == "false"
    assert (found["evalgate.n"], found["evalgate.broken"], found["evalgate.fixed"]) == ("500", "41", "11")
    assert float(found["evalgate.delta"]) == pytest.approx(-4.05, abs=0.1)
    assert found["evalgate.baseline"] == demo.baselines["arithmetic/addition"].digest
    assert float(found["evalgate.discordance"]) == pytest.approx(52 / 500)
    assert 0 < float(found["evalgate.detectable"]) < 5
    new = dict(junit_properties(verdict_of(demo, "chat/identity::exact_match")))
    assert "evalgate.delta" not in new
    assert new["evalgate.value"] == "0.5"


def test_near_ties_are_counted_for_each_metric_that_regressed(demo: CardData) -> None:
    """How many of the broken samples are near ties stands in the summary and in JUnit, and only where any is."""
    name = "arithmetic/addition::exact_match"
    verdict = verdict_of(demo, name)
    assert verdict.comparison
    broken, fixed = verdict.comparison.broken, verdict.comparison.fixed
    ties = {name: (*broken[:12], *fixed[:3], "sums-0000"), "orders/extraction::exact_match": ("orders-0001",)}
    assert near_tie_counts(verdict, ties) == (12, 3)
    lines = summary_lines(demo.family, name="v3", card="c", near_ties=ties, width=200)
    assert [line for line in lines if "near tie" in line] == [f"  {name}: 12 of 41 broken samples are near ties"]
    assert dict(junit_properties(verdict, near_ties=ties))["evalgate.near_ties"] == "12"
    one = summary_lines(demo.family, name="v3", card="c", near_ties={name: broken[:1]}, width=200)
    assert f"  {name}: 1 of 41 broken samples is a near tie" in one
    for none in (None, {}, {name: fixed}, {"arithmetic/addition::chrf": ()}):
        assert not any("near tie" in line for line in summary_lines(demo.family, name="v3", card="c", near_ties=none))
        assert "evalgate.near_ties" not in dict(junit_properties(verdict, near_ties=none))
    new = "chat/identity::exact_match"
    assert near_tie_counts(verdict_of(demo, new), {new: ("chat-0001",)}) == (0, 0)


def test_slices_say_which_of_them_block(reserve_card: Callable[..., CardData]) -> None:
    """A slice that is gated by itself comes first, is called so, and shows its adjusted p with the level."""
    family = reserve_card("keep", "carry").family
    lines = [line for line in summary_lines(family, name="v3", card="c", width=200) if "slice sums" in line]
    assert [line.split(":: ")[0].split(" sums")[0] for line in lines] == [
        "  blocking slice",
        "  blocking slice",
        "  slice",
    ]
    verdict = family.verdicts[0]
    assert verdict.comparison
    (part,) = (part for part in verdict.comparison.slices if part.value == "yes")
    assert part.p_adjusted is not None
    assert part.p_adjusted != part.q
    assert lines[0].endswith(f"adjusted p = {probability(part.p_adjusted)} at level .025)")
    assert "adjusted" not in lines[2]


def test_junit_properties_hold_the_look_and_the_confirmation(reserve_card: Callable[..., CardData]) -> None:
    """Which look at the reserve it was, and the p-value on a reserve that confirms; neither where it is kept."""
    kept, stepwise, confirmed = (
        dict(junit_properties(reserve_card(reserve).family.verdicts[0])) for reserve in ("keep", "top-up", "confirm")
    )
    assert stepwise["evalgate.look"] == "2 of 2"
    assert stepwise["evalgate.method"] == "mcnemar-e-value/tango"
    confirmation = reserve_card("confirm").family.verdicts[0].confirmation
    assert confirmation
    assert float(confirmed["evalgate.confirmation_p"]) == pytest.approx(confirmation.test.p_reg, rel=1e-5)
    assert confirmed["evalgate.p_reg"] != confirmed["evalgate.confirmation_p"]
    assert not {"evalgate.look", "evalgate.confirmation_p"} & kept.keys()


def test_the_reason_is_not_repeated(demo: CardData) -> None:
    """What stands beside the numbers does not say them again."""
    for verdict in demo.family.verdicts:
        assert "was" not in why(verdict).split()
        assert verdict.reason.endswith(why(verdict))
