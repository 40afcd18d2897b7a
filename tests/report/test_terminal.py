"""The lines of a gated run: what they say, how they fit, and that nothing a model wrote acts in them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalgate.compare import Difference
from evalgate.gate import Family, Outcome, Verdict
from evalgate.report import CardData
from evalgate.report.screen import Cell, Screen
from evalgate.report.summary import one_line, said, summary_lines, tokens_line
from evalgate.report.terminal import detail_lines, junit_properties, near_tie_counts, safe, status_word, why, word
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


def test_a_log_has_a_line_per_verdict(demo: CardData) -> None:
    """One line for the checkpoint and one per metric, found by the same words, those that failed first."""
    lines = summary_lines(demo.family, name="v3", card="reports/v3/index.html", ledger_head=demo.ledger_head)
    told = [line.removeprefix("evalgate: v3 ") for line in lines if line.startswith("evalgate: v3 ")]
    assert len(told) == 1 + len(demo.family.verdicts)
    assert told[0].startswith("REGRESSION  1 of 5 metrics REGRESSION: arithmetic/addition::exact_match; pooled ")
    assert told[1] == "arithmetic/addition::exact_match REGRESSION -6.0 pt [-8.5, -3.7] n=500 was .936 now .876"
    assert told[2] == "chat/identity::exact_match NO BASELINE no baseline yet, now .500  n=30"
    assert told[3].startswith(
        "facts/lookup::exact_match INCONCLUSIVE +4.4 pt [-11.1, +19.5] n=45 was .733 now .778 can"
    )
    assert told[4].startswith("orders/extraction::exact_match PASS +7.0 pt ")
    assert told[5].endswith(" was 1.315 now 1.305 (lower is better)")
    assert told[6].startswith("arithmetic/addition::chrf REGRESSION (informs) -4.0 pt ")
    assert "  did not run: reviews/sentiment::exact_match" in lines
    assert "  slice arithmetic/addition::exact_match digits=2: -17.4 pt (n=167, q < .0001)" in lines
    assert "digits=3" not in "".join(lines)
    assert "  note: engine.version: candidate 0.32.0, baseline 0.31.0 (1 metric)" in lines
    assert lines[-1] == f"  Card: reports/v3/index.html  Ledger: {str(demo.ledger_head)[7:19]}"
    for verdict in demo.family.verdicts:
        assert sum(f"{verdict.task}::{verdict.metric} {verdict.outcome}" in line for line in lines) == 1


def test_a_terminal_gets_a_table(demo: CardData) -> None:
    """Columns under a rule: symbol and word, metric, difference, interval, n, was and now, broke and fixed."""
    lines = summary_lines(demo.family, name="v3", card="c.html", screen=Screen(200))
    assert lines[0].startswith("✗ v3: REGRESSION  1 of 5 metrics REGRESSION: arithmetic/addition::exact_match; pooled ")
    assert lines[1].split("  ")[1] == "verdict"
    assert "90 % interval" in lines[1]
    assert set(lines[2]) == {" ", "─"}
    regression = "✗ REGRESSION arithmetic/addition::exact_match -6.0 pt [-8.5, -3.7] 500 .936 → .876 41/11"
    assert " ".join(lines[3].split()) == regression
    assert [line[2:].split("  ")[0] for line in lines[4:8]] == ["○ NO BASELINE", "? INCONCLUSIVE", "✓ PASS", "✓ PASS"]
    assert lines[4].split()[-5:] == ["–", "–", "–", ".500", "–"]
    assert lines[7].split()[-5:] == ["1.315", "→", "1.305", "↓", "38/82"]
    assert lines[8] == ""
    assert lines[9].startswith("  ✗ REGRESSION    arithmetic/addition::chrf (informs) ")
    assert lines[10] == "  ↓ lower is better; a difference with a minus is always worse"
    assert {line.index(" pt ") for line in (lines[3], lines[5], lines[6], lines[9])} == {lines[3].index(" pt ")}
    text = "\n".join(lines)
    assert text.count("  INCONCLUSIVE facts/lookup::exact_match: can see drops") == 1
    assert "  NO BASELINE chat/identity::exact_match: no baseline yet, now .500  n=30" in lines


def test_metrics_that_inform_and_pass_are_counted_until_verbose(demo: CardData) -> None:
    """A terminal is spared what nobody must read; `-v` shows it, with the pooled test; a log has all of it anyway."""
    family = informing(demo.family)
    plain, verbose = (
        summary_lines(family, name="v3", card="c", screen=Screen(200), verbose=verbose) for verbose in (False, True)
    )
    assert "  2 more that only inform pass; -v shows all" in plain
    assert not any("PASS" in line for line in plain[1:])
    assert sum("✓ PASS" in line and "(informs)" in line for line in verbose) == 2
    pooled = "  pooled over blocking metrics: +1.8 pt [-2.8, +6.5]  n=945  regression p = .74, non-inferiority "
    assert [any(line.startswith(pooled) for line in lines) for lines in (plain, verbose)] == [False, True]
    assert sum(" PASS (informs) " in line for line in summary_lines(family, name="v3", card="c")) == 2
    degraded = replace(family, verdicts=tuple(replace(v, degraded=True) for v in family.verdicts))
    assert sum("✓ PASS, degraded" in line for line in shown(degraded, Screen(200))) == 2


def informing(family: Family) -> Family:
    """The family, where whatever passes only informs."""
    passed = Outcome.PASS
    return replace(family, verdicts=tuple(replace(v, blocking=v.outcome is not passed) for v in family.verdicts))


def shown(family: Family, screen: Screen) -> list[str]:
    """A summary."""
    return summary_lines(family, name="v3", card="c.html", screen=screen)


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_narrow_terminals_break_lines_and_lose_nothing(demo: CardData, width: int) -> None:
    """Below the table's width every metric takes several lines, none too long, and every word is still there."""
    narrow, log = shown(demo.family, Screen(width)), shown(demo.family, Screen())
    words = set(" ".join(narrow).replace(",", "").split())
    table = "evalgate: v3"
    assert {word for line in log for word in line.removeprefix(table).replace(",", "").split()} - words <= {"v3", "no"}
    assert "41 broke, 11 fixed" in " ".join(" ".join(narrow).split())
    longest_word = max(len(each) for line in narrow for each in line.split())
    assert max(map(len, narrow)) <= max(width, longest_word + 10)


def test_the_table_fits_or_is_not_used(demo: CardData) -> None:
    """No line is wider than the screen, and the table appears at exactly the width that holds it."""
    wide = shown(demo.family, Screen(200))
    needed = max(map(len, wide[1:10]))
    assert 100 < needed < 125
    assert any("broke/fixed" in line for line in shown(demo.family, Screen(needed)))
    assert not any("broke/fixed" in line for line in shown(demo.family, Screen(needed - 1)))
    for width in (80, needed - 1, needed, 200):
        assert max(map(len, shown(demo.family, Screen(width)))) <= width


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_color_paints_the_outcomes_and_nothing_else(demo: CardData, width: int) -> None:
    """Without its escape sequences the painted summary is the plain one; what only informs is never red."""
    painted, plain = (shown(demo.family, Screen(width, color)) for color in (True, False))
    assert "\x1b[1;31mREGRESSION\x1b[0m" in painted[0]
    assert any("\x1b[1;31m✗ REGRESSION\x1b[0m" in line for line in painted)
    assert any("\x1b[1;33m✗ REGRESSION\x1b[0m" in line for line in painted)
    assert any("\x1b[1;32m✓ PASS\x1b[0m" in line for line in painted)
    assert any("\x1b[1;33m? INCONCLUSIVE\x1b[0m" in line for line in painted)
    assert [re.sub("\x1b\\[[0-9;]*m", "", line).rstrip() for line in painted] == plain
    assert not any("\x1b" in line for line in plain)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "no-such-encoding"])
@pytest.mark.parametrize("width", [None, 80, 200])
def test_a_poor_encoding_gets_ascii(demo: CardData, encoding: str, width: int | None) -> None:
    """Symbols, rule and arrows have a form in ASCII; columns still stand under each other."""
    lines = shown(demo.family, Screen(width, encoding=encoding))
    text = "\n".join(lines)
    assert text.isascii()
    assert "\\u" not in text
    if width == 200:
        assert lines[0].startswith("x v3: REGRESSION")
        assert set(lines[2]) == {" ", "-"}
        assert lines[3].split()[-4:] == [".936", "->", ".876", "41/11"]
        assert {line.index(" pt ") for line in (lines[3], lines[5], lines[6])} == {lines[3].index(" pt ")}
    assert Screen(encoding="ascii").text("Zoë ⏎ 東") == r"Zo\xeb \n \u6771"
    assert Screen(encoding="utf-8").text("Zoë → 東") == "Zoë → 東"


class Stream(StringIO):
    """A stream that says of itself what it is told to say."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.mark.parametrize(
    ("terminal", "environment", "asked", "expected"),
    [
        (True, {"COLUMNS": "132"}, None, Screen(132, True)),
        (True, {"COLUMNS": "132", "NO_COLOR": "1"}, None, Screen(132, False)),
        (True, {"COLUMNS": "60", "TERM": "dumb"}, None, Screen(60, False)),
        (True, {"COLUMNS": "60", "NO_COLOR": ""}, None, Screen(60, True)),
        (True, {"COLUMNS": "60", "NO_COLOR": "1"}, True, Screen(60, True)),
        (True, {"COLUMNS": "60"}, False, Screen(60, False)),
        (False, {"COLUMNS": "60"}, None, Screen(None, False)),
        (False, {}, True, Screen(None, True)),
    ],
)
def test_a_screen_knows_what_it_is(
    monkeypatch: pytest.MonkeyPatch,
    terminal: bool,
    environment: dict[str, str],
    asked: bool | None,
    expected: Screen,
) -> None:
    """Only a terminal has a width and, unless NO_COLOR or TERM=dumb or somebody says otherwise, colours."""
    for name in ("NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"TERM": "xterm-256color"} | environment).items():
        monkeypatch.setenv(name, value)
    assert Screen.of(Stream(terminal=terminal), color=asked) == expected
    assert Screen.of(None) == Screen()


def test_tables_know_wide_letters_and_no_markup() -> None:
    """A letter that takes two columns is counted as two, and square brackets are only brackets."""
    lines = Screen(80).table(
        [Cell("a"), Cell("b", right=True)], [[[Cell("東京"), Cell("[red]1[/]")]], [[Cell("x"), Cell("2")]]]
    )
    assert lines == ["  a             b", f"  {'─' * 15}", "  東京  [red]1[/]", "", "  x             2"]
    assert Screen(15).table([Cell("a")], [[[Cell("x" * 14)]]]) is None


def test_quiet_is_one_line(demo: CardData) -> None:
    """Checkpoint, outcome, reason and card; nothing of metrics but what the reason names."""
    line = one_line(demo.family, name="v3", card="reports/v3/index.html")
    assert line.startswith("evalgate: v3 REGRESSION  1 of 5 metrics REGRESSION: arithmetic/addition::exact_match; ")
    assert line.endswith("  Card: reports/v3/index.html")
    assert "\n" not in line


def test_what_only_informs_says_so(demo: CardData) -> None:
    """Passed or not, a metric that cannot fail the build is called that."""
    words = {f"{v.task}::{v.metric}": said(v) for v in demo.family.verdicts}
    assert words["arithmetic/addition::chrf"] == "REGRESSION (informs)"
    assert words["orders/extraction::exact_match"] == "PASS"
    assert {said(v) for v in informing(demo.family).verdicts} >= {"PASS (informs)"}


def test_tokens_are_counted(demo: CardData) -> None:
    """What engines counted is summed; where none did nothing is said."""
    sums = demo.candidates["arithmetic/addition"]
    assert tokens_line([sums]) == "tokens: 4,500 read, 1,500 written for 500 samples"
    assert tokens_line([demo.candidates["orders/extraction"]]) is None
    assert tokens_line([]) is None


def test_many_slices_are_counted_not_listed(demo: CardData) -> None:
    """The terminal names three slices, with `-v` a handful, the worst first, and says how many more there are."""
    verdict = verdict_of(demo, "arithmetic/addition::exact_match")
    assert verdict.comparison
    part = verdict.comparison.slices[0]
    slices = tuple(replace(part, value=str(i), delta=-i / 100) for i in range(29))
    many = replace(demo.family, verdicts=(replace(verdict, comparison=replace(verdict.comparison, slices=slices)),))
    lines = summary_lines(many, name="v3", card="c")
    assert [line.split()[2] for line in lines if line.startswith("  slice ")] == [
        "digits=28:",
        "digits=27:",
        "digits=26:",
    ]
    assert "  26 more dropped slices; -v shows them" in lines
    lines = summary_lines(many, name="v3", card="c", verbose=True)
    assert sum(line.startswith("  slice ") for line in lines) == 20
    assert "  9 more dropped slices; the card has them" in lines


def test_differences_between_the_sides_are_named_and_counted(demo: CardData) -> None:
    """Every difference of engine, versions or device is said, up to twenty; what is beyond is counted."""
    verdict = verdict_of(demo, "orders/extraction::exact_match")
    assert verdict.comparison
    notes = tuple(Difference(f"engine.{i:02}", "1", "2") for i in range(23))
    family = replace(demo.family, verdicts=(replace(verdict, comparison=replace(verdict.comparison, notes=notes)),) * 2)
    lines = summary_lines(family, name="v3", card="c")
    assert [line for line in lines if line.startswith("  note: ")] == [
        f"  note: engine.{i:02}: candidate 1, baseline 2 (2 metrics)" for i in range(20)
    ]
    assert "  3 more notes on how both sides were made; the card has them" in lines


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
    lines: list[str] = []
    for screen in (Screen(), Screen(1000), Screen(100), Screen(40), Screen(1000, encoding="ascii")):
        lines += summary_lines(
            family,
            name=card.name,
            card=text,
            ledger_head="sha256:0",
            near_ties=card.near_ties,
            screen=screen,
            verbose=True,
        )
    assert any("broken samples is a near tie" in line for line in lines)
    assert any(line.startswith("  blocking slice ") for line in lines)
    lines.append(one_line(family, name=card.name, card=text))
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
    lines = summary_lines(demo.family, name="v3", card="c", near_ties=ties)
    assert [line for line in lines if "near tie" in line] == [f"  {name}: 12 of 41 broken samples are near ties"]
    assert dict(junit_properties(verdict, near_ties=ties))["evalgate.near_ties"] == "12"
    one = summary_lines(demo.family, name="v3", card="c", near_ties={name: broken[:1]})
    assert f"  {name}: 1 of 41 broken samples is a near tie" in one
    for none in (None, {}, {name: fixed}, {"arithmetic/addition::chrf": ()}):
        assert not any("near tie" in line for line in summary_lines(demo.family, name="v3", card="c", near_ties=none))
        assert "evalgate.near_ties" not in dict(junit_properties(verdict, near_ties=none))
    new = "chat/identity::exact_match"
    assert near_tie_counts(verdict_of(demo, new), {new: ("chat-0001",)}) == (0, 0)


def test_slices_say_which_of_them_block(reserve_card: Callable[..., CardData]) -> None:
    """A slice that is gated by itself comes first, is called so, and shows its adjusted p with the level."""
    family = reserve_card("keep", "carry").family
    lines = [line for line in summary_lines(family, name="v3", card="c") if "slice sums" in line]
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
