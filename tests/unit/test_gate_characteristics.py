"""What the gate promises, on a fast part of benchmarks/gate_characteristics.py: fixed seeds, bounds that can fail."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from evalgate.gate import Columns, Gate, Policy, decide_columns

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # `benchmarks` is a folder of scripts, not an installed package

from benchmarks.gate import answers, cells  # noqa: E402
from benchmarks.gate.cells import Bound, Cell, Rate, measure, table  # noqa: E402
from benchmarks.gate.contest import contest  # noqa: E402
from benchmarks.gate.curves import SHOWN, svg  # noqa: E402
from benchmarks.gate.page import BEGIN, END, missed, shown, tables, written  # noqa: E402
from benchmarks.gate.records import decide_records  # noqa: E402
from benchmarks.gate.rules import PEERS, Counts, Rule  # noqa: E402

CELLS = {(cell.row, cell.name): cell for cell in table()}
RUNS = 1500
GRID = ("n = 50,", "n = 100,", "n = 500,")  # of the rows that have more
FAST = [
    cell
    for cell in CELLS.values()
    if cell.bound and "asks of" not in cell.row and "40 times" not in cell.row and "ICC 0.02" not in cell.name
    if not cell.name.startswith("n = ") or cell.name.startswith(GRID)
]


def rule(name: str) -> Rule:
    """The peer's rule of that name."""
    [found] = [each for each in PEERS if each.name == name]
    return found


def slack(bound: Bound, runs: int = RUNS) -> Bound:
    """The bound, and three Monte-Carlo standard errors of so few runs."""
    error = 3 * (bound.value * (1 - bound.value) / runs) ** 0.5
    return replace(bound, value=bound.value + (-error if bound.least else error))


# -- the gate ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", FAST, ids=[f"{cell.row}-{cell.name}" for cell in FAST])
def test_one_metric_keeps_its_bound(cell: Cell) -> None:
    """Each cell of one metric: the same seeds, fewer runs; five of them over records, with the same outcome."""
    assert cell.bound is not None
    rate = measure(cell, RUNS, records=5)
    assert slack(cell.bound).holds(rate.value), shown(cell, rate)
    assert (rate.checked, rate.differing) == (5, 0)


@pytest.mark.parametrize(
    "cell",
    [cell for cell in CELLS.values() if "10 tasks of" in cell.row and cell.bound],
    ids=lambda cell: str(cell.name),
)
def test_ten_tasks_keep_their_bounds(cell: Cell) -> None:
    """A drop everywhere, a drop in one task, none at all: 250 families of each."""
    assert cell.bound is not None
    rate = measure(cell, 250, records=2)
    assert slack(cell.bound, 250).holds(rate.value), shown(cell, rate)
    assert rate.differing == 0


def test_looking_forty_times_raises_no_more_alarms() -> None:
    """The e-value holds at any look; looked at as often, the ordinary p-value would cry wolf."""
    [cell] = [cell for cell in CELLS.values() if "40 times" in cell.row]
    assert measure(cell, 100, records=1).value <= 0.0565

    def peeking(rng: np.random.Generator, runs: int) -> Any:
        for looks in cell.draw(rng, runs):
            yield tuple((replace(look[0], sequential=None),) for look in looks)

    assert measure(replace(cell, draw=peeking), 100, records=0).value > 0.15


# -- the measurement can fail -----------------------------------------------------------------------------------------


def test_clusters_that_are_ignored_miss_the_bound() -> None:
    """The same answers without their documents: too many alarms, which the cell would show."""
    cell = CELLS["500 questions about G documents of unequal size, ψ = .21", "G = 8, ICC 0.07, equal: false alarms"]

    def blind(rng: np.random.Generator, runs: int) -> Any:
        for [[only]] in cell.draw(rng, runs):
            yield ((replace(only, clusters=None),),)

    rate = measure(replace(cell, draw=blind), 1000, records=0)
    assert missed(cell, rate)
    assert shown(cell, rate).endswith("**MISSED**")


def test_a_gate_that_never_passes_would_miss_its_bounds() -> None:
    """Equal models are held to PASS: at alpha .0001 nothing is shown."""
    cell = CELLS["10 tasks of 500, ψ = .2, pooled margin 2 pt", "equal: PASS"]
    assert missed(cell, measure(replace(cell, policy=Policy(alpha=0.0001)), 50, records=0))


def test_outcomes_that_differ_over_records_are_counted() -> None:
    """A column that says something else than the record is found, and not averaged away."""
    rng = np.random.default_rng(0)
    [before] = answers.two_models(rng, 1, 500, 0.2)[0]
    same = Columns(task="suite/task", metric=cells.EXACT, baseline=before, candidate=before)
    worse = replace(same, candidate=before & (np.arange(500) % 3 > 0), gate=Gate())
    assert decide_columns([same], Policy()).outcome != decide_records([[worse]], 0, Policy()).outcome
    assert decide_records([[worse]], 0, Policy()).outcome == decide_columns([worse], Policy()).outcome


# -- what is simulated ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("psi", [0.05, 0.1, 0.2, 0.3])
@pytest.mark.parametrize("drop", [0.0, 0.05, 0.1])
def test_models_differ_as_often_and_drop_as_far_as_said(psi: float, drop: float) -> None:
    """psi of equal models, the mean drop, and what the drop adds to psi."""
    before, after = answers.two_models(np.random.default_rng(1), 200, 2000, psi, drop)
    assert before.mean() == pytest.approx(answers.MEAN, abs=0.004)
    assert before.mean() - after.mean() == pytest.approx(drop, abs=0.004)
    assert (before != after).mean() == pytest.approx(answers.discordance(psi, drop), abs=0.004)
    assert answers.discordance(psi, 0) == pytest.approx(psi)
    assert answers.equal_psi(answers.discordance(psi, drop), drop) == pytest.approx(psi)


@pytest.mark.parametrize(("icc", "drop"), [(0.02, 0.0), (0.07, 0.0), (0.07, 0.1)])
def test_differences_within_a_document_correlate_as_said(icc: float, drop: float) -> None:
    """The pairs of one document, over the variance of all differences."""
    rng = np.random.default_rng(2)
    products = pairs = squares = runs = 0.0
    for _ in range(1500):
        before, after, of = answers.clustered(rng, 500, 0.21, 20, icc, drop)
        d = after.astype(float) - before + drop
        totals, sizes = np.bincount(of, d), np.bincount(of)
        products += float((totals**2).sum() - (d**2).sum())
        pairs += float((sizes * (sizes - 1)).sum())
        squares, runs = squares + float((d**2).mean()), runs + 1
    assert products / pairs / (squares / runs) == pytest.approx(icc, abs=0.006)


def test_the_skewed_scores_of_the_known_weakness_do_not_differ_on_the_whole() -> None:
    """So every alarm of that row is a false one; and they are skewed."""
    rng = np.random.default_rng(3)
    changes = [after - before for before, after, _ in (answers.skewed(rng, 200, 1) for _ in range(500))]
    assert np.mean(changes) == pytest.approx(0, abs=0.001)
    assert np.median(changes) < -0.03


# -- other rules ------------------------------------------------------------------------------------------------------


def counts(loss: int, gain: int, n: int = 200, before: int = 140) -> Counts:
    """One run."""
    return Counts(n, *(np.array([each]) for each in (before, before - loss + gain, loss, gain)))


@pytest.mark.parametrize(
    ("name", "stopped", "passed"),
    [
        ("lm-eval comparator", counts(40, 20), counts(36, 20)),  # z = 2.03 and 1.63
        ("vLLM accuracy CI", counts(10, 3), counts(9, 3)),  # 7 of 133 is more than 5 %, 6 of 134 is not
        ("evalproof", counts(15, 4), counts(14, 5)),  # exact p .019 and .064
        ("evalproof", counts(15, 4), counts(30, 10, n=2000)),  # significant, yet 1 pt only
    ],
)
def test_a_rule_stops_where_its_tool_does(name: str, stopped: Counts, passed: Counts) -> None:
    """On either side of its limit, computed by hand."""
    assert [bool(rule(name).judge(run)[0][0]) for run in (stopped, passed)] == [True, False]


def test_the_bootstrap_interval_is_scipys() -> None:
    """A multinomial draw is a resample: BCa over the counts agrees with BCa over the differences."""
    from benchmarks.gate.rules import _bca
    from scipy import stats

    d = np.repeat([-1.0, 1.0, 0.0], [90, 40, 870])
    known = stats.bootstrap((d,), np.mean, method="BCa", n_resamples=10_000, rng=np.random.default_rng(4))
    assert _bca(90, 40, 1000) == pytest.approx(tuple(known.confidence_interval), abs=0.002)
    assert _bca(0, 0, 1000) == (0, 0)
    red, green = rule("statgate").judge(
        Counts(1000, *(np.array(each) for each in ([700] * 2, [650] * 2, [90, 5], [40, 5])))
    )
    assert (red.tolist(), green.tolist()) == ([True, False], [False, True])


def test_naive_gates_cry_wolf_or_sleep() -> None:
    """The figures for orientation: any drop stops half of all equal models, 2σ finds one drop in ten."""
    equal, worse = (contest(200, points, 1000) for points in (0.0, 5.0))
    for name, share in (("any drop", 0.47), ("drop > 1 pt", 0.35), ("drop > 2 pt", 0.24), ("unpaired 2σ", 0.002)):
        assert equal.red[name] == pytest.approx(share, abs=0.05)
    assert equal.red["evalgate"] <= 0.07
    assert worse.red["unpaired 2σ"] == pytest.approx(0.11, abs=0.03)
    assert worse.red["evalgate"] == pytest.approx(0.42, abs=0.05)
    assert worse.green["evalgate"] <= 0.07
    assert worse.green["unpaired 2σ"] > 0.85


# -- the page ---------------------------------------------------------------------------------------------------------


def test_a_missed_bound_is_written_as_missed() -> None:
    """In the table of its row, beside those that hold."""
    some = [cell for cell in CELLS.values() if cell.row.startswith(("One metric", "100 questions"))]
    rates = [Rate(0, 100, 5, 0) for _ in some]
    beside = [contest(n, points, 20) for n in (200, 1000) for points in (0.0, 5.0)]
    text = tables(some, rates, beside)
    assert "| 5 pt, n = 500 | 0.00 ± 0.00 **MISSED** | ≥ 70.5 % |" in text
    assert "| n = 50 | 0.00 ± 0.00 | 0.00 ± 0.00 | 0.00 ± 0.00 | 0.00 ± 0.00 |" in text
    assert f"{5 * len(some)} runs were decided over records too; 0 of them" in text
    assert all(f"\n| {each.name} | " in text for each in PEERS)
    page = written(f"before\n{BEGIN}\nold\n{END}\nafter\n", text)
    assert page == f"before\n{BEGIN}\n\n{text}\n{END}\nafter\n"


def test_the_curves_are_a_picture_with_a_letter_for_every_gate() -> None:
    """Well-formed, the same for the same numbers, one curve a gate and panel, named for those who do not see it."""
    beside = [contest(n, points, 20) for n in (200, 1000) for points in (0.0, 2.0, 5.0, 10.0)]
    drawn = svg(beside)
    assert drawn == svg(beside[::-1])
    picture = ElementTree.fromstring(drawn)
    space = "{http://www.w3.org/2000/svg}"
    assert len(picture.findall(f".//{space}polyline")) == 2 * len(SHOWN)
    words = [each.text for each in picture.iter(f"{space}text")]
    assert all(words.count(letter) == 3 for letter in "ABCDEF")
    assert set(SHOWN) <= set(words)
    assert picture.get("aria-label")
    assert "prefers-color-scheme:dark" in drawn


def test_the_page_in_the_repository_holds_what_it_promises() -> None:
    """Written by a full run: every cell there, none missed, none decided differently over records."""
    page = (ROOT / "docs" / "gate.md").read_text("utf-8")
    between = page.split(BEGIN)[1].split(END)[0]
    assert "10000 runs a cell" in between
    assert "; 0 of them came out differently" in between
    assert "MISSED" not in between
    for row, name in CELLS:
        assert f"**{row}**" in between
        assert name in between or all(part in between for part in name.split(", "))
    ElementTree.parse(ROOT / "docs" / "gate-power.svg")
