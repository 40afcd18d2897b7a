"""The past as numbers and as lines in a terminal: what may be compared, what changed, and that it fits."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tests.report.pasts import CHRF, ORDERS, PROSE, SUMS, compared, hostile, shop
from tests.report.test_terminal import HOSTILE, acts

from evalgate.report import Past, PastMetric
from evalgate.report.past.series import counted, difference, failing, series, standing, when
from evalgate.report.past.timeline import timeline_json, timeline_lines
from evalgate.report.screen import Screen


def test_blocking_metrics_have_a_series() -> None:
    """A series per metric that blocks, its points in the order of the versions; those that inform by their task."""
    found = series(shop())
    assert [each.name for each in found] == [SUMS, ORDERS, PROSE]
    assert [point.version for point in found[0].points] == ["v1", "v2", "v3", "v4", "v5", "v6"]
    assert [point.worse for point in found[0].points] == [False, False, True, False, False, True]
    assert [each.name for each in series(shop(), "prose/heldout")] == [PROSE, CHRF]
    assert series(shop(), "nothing/here") == []
    assert series([]) == []


def test_changes_are_since_the_last_value_measured_alike() -> None:
    """Points, or per cent without a range; a minus is always worse; nothing is said across another measure."""
    sums, orders, prose = series(shop())
    assert [point.change for point in sums.points] == ["", "+2.0 pt", "-26.0 pt", "+27.0 pt", "+1.0 pt", "-34.0 pt"]
    assert [point.before for point in orders.points] == [None, "v1", None, "v3", "v4", "v5"]
    assert [point.current for point in orders.points] == [False, False, True, True, True, True]
    assert (sums.measured_otherwise, orders.measured_otherwise) == (False, True)
    assert [point.shown for point in orders.points[1:3]] == ["(.660)", ".700"]
    assert [point.change for point in prose.points][-2:] == ["+3.1 %", "-12.0 %"]
    assert (sums.trend, prose.trend) == ("-34.0 pt since v5", "-12.0 % since v5")
    assert series(shop()[:1])[0].trend == "first measured"
    assert series(shop()[:3])[1].trend == "measured anew"


def test_a_detour_is_bridged() -> None:
    """Where one version was measured otherwise, the next is compared with the one before it."""
    first, second, third = shop()[:3]
    second = replace(second, metrics={SUMS: compared(0.5, 0.5, measure="other")})
    points = series([first, second, third])[0].points
    assert [(point.before, point.change) for point in points] == [(None, ""), (None, ""), ("v1", "-24.0 pt")]


def test_what_is_not_known_is_not_compared() -> None:
    """Verdicts from before numbers were kept have no values, and an empty measure is like no other."""
    old = Past("v0", "sha256:0", "PASS", False, "", "2026-01-01", {SUMS: PastMetric("PASS", False)})
    assert [point.version for point in series([old, *shop()])[0].points] == ["v1", "v2", "v3", "v4", "v5", "v6"]
    nameless = [replace(past, metrics={SUMS: compared(0.5, 0.5, measure="")}) for past in shop()[:2]]
    assert [point.before for point in series(nameless)[0].points] == [None, None]
    assert counted(old) == ""
    assert failing(old) == []


def test_a_version_says_how_it_stands() -> None:
    """Aliases, baselines, how many blocking metrics pass, which do not, and when."""
    v1, v5, v6 = (shop()[i] for i in (0, 4, 5))
    assert standing(v1) == ["baseline of 3 tasks"]
    assert standing(replace(v1, baseline=1)) == ["baseline of 1 task"]
    assert standing(v5) == ["champion", "nightly"]
    assert (counted(v1), counted(v6)) == ("3 of 3", "2 of 3")
    assert failing(v6) == [f"{SUMS} -30.0 pt"]
    assert failing(replace(v6, metrics={SUMS: PastMetric("ERROR", True)})) == [f"{SUMS} ERROR"]
    assert when(v1) == "2026-11-11 09:12"


def test_differences_to_the_baseline_are_oriented() -> None:
    """Minus is worse, whichever direction is better; without a baseline there is none."""
    v6 = shop()[5].metrics
    assert difference(v6[SUMS]) == ("-30.0 pt", "[-33.0, -27.0]")
    assert difference(v6[PROSE]) == ("-6.9 %", "[-8.4, -5.3]")
    assert difference(v6[CHRF]) == ("-2.0 pt", "[-3.0, -1.0]")
    assert difference(PastMetric("PASS", True, 0.5)) == ("", "")
    assert difference(PastMetric("PASS", True, 0.5, 0.4)) == ("+10.0 pt", "")


def test_a_wide_terminal_gets_two_tables() -> None:
    """A row per version with its verdict in symbol and word, then a row per metric with its trend."""
    lines = timeline_lines(shop(), screen=Screen(200))
    assert lines[0].split("  ")[1] == "version"
    assert " ".join(lines[2].split()) == "v1 2026-11-11 09:12 ✓ PASS 3 of 3 baseline of 3 tasks"
    assert (
        " ".join(lines[6].split()) == f"v5 2026-11-15 09:12 ✓ PASS, partial 2 of 3 champion, nightly {ORDERS} +14.0 pt"
    )
    assert " ".join(lines[7].split()) == f"v6 2026-11-16 09:12 ✗ REGRESSION 2 of 3 {SUMS} -30.0 pt"
    assert " ".join(lines[9].split()) == "metric v1 v2 v3 v4 v5 v6 trend"
    assert " ".join(lines[11].split()) == f"{SUMS} .900 .920 .660 ✗ .930 .940 .600 ✗ -34.0 pt since v5"
    assert " ".join(lines[12].split()) == f"{ORDERS} (.600) (.660) .700 .710 .740 .730 -1.0 pt since v5"
    assert lines[-1] == "  ✗ called a regression; ( ) data, prompt, sampling or scorer differ from the newest"


@pytest.mark.parametrize("width", [50, 200])
def test_what_failed_in_no_metric_has_its_reason(width: int) -> None:
    """Metrics may pass alone and be worse together: a regression is never shown without a why."""
    worse = replace(
        shop()[0], outcome="REGRESSION", blocked=True, reason="pooled -2.0 pt over 3 metrics: worse together"
    )
    said = " ".join(" ".join(timeline_lines([worse], screen=Screen(width))).split())
    assert "REGRESSION" in said
    assert worse.reason in said
    assert worse.reason not in " ".join(timeline_lines([replace(worse, outcome="PASS")], screen=Screen(width)))


@pytest.mark.parametrize("width", [40, 60, 80, 110, 200, None])
@pytest.mark.parametrize("color", [True, False])
def test_the_history_fits(width: int | None, color: bool) -> None:
    """Every version, verdict, alias and newest value is there at any width, in no line that is too long."""
    lines = timeline_lines(shop(), screen=Screen(width, color))
    said = " ".join(" ".join(lines).split())
    assert ("\x1b[" in said) is color
    for words in ("REGRESSION", "PASS", "champion", "nightly", SUMS, ORDERS, ".600", ".730", "1.400", "since v5"):
        assert words in said
    assert all(f"v{number}" in said for number in range(1, 7))
    if width and not color:
        assert max(map(len, lines)) <= width


def test_old_versions_make_room_for_new_ones() -> None:
    """Where not all columns fit, the oldest are left out and counted; the newest two are always shown, or none."""
    lines = timeline_lines(shop(), screen=Screen(72))
    said = [line for line in lines if "older versions are not shown" in line]
    assert said == ["  3 older versions are not shown"]
    (header,) = (line.split() for line in lines if line.strip().startswith("metric"))
    assert header == ["metric", "v4", "v5", "v6", "trend"]
    one = timeline_lines(shop()[:1], screen=Screen(72))
    assert "first measured" in " ".join(one)
    narrow = timeline_lines(shop(), screen=Screen(50))
    assert not any(line.strip().startswith("metric") for line in narrow)
    assert "v6=.600✗" in " ".join(narrow)


def test_the_newest_are_told_with_what_was_before() -> None:
    """Fewer versions are shown, yet changes are still those since the version before."""
    lines = timeline_lines(shop(), last=1, screen=Screen(200))
    assert [line.split()[0] for line in lines[:4] if line] == ["version", "─" * (len(lines[1]) - 2), "v6"]
    assert " ".join(lines[6].split()) == f"{SUMS} .600 ✗ -34.0 pt since v5"
    assert "not shown" not in "".join(lines)
    assert timeline_lines(shop(), last=99, screen=Screen(200)) == timeline_lines(shop(), screen=Screen(200))
    (newest,) = timeline_json(shop(), last=1)
    assert (newest["name"], newest["metrics"][SUMS]["since"]) == ("v6", "v5")


def test_one_task_shows_what_informs_too() -> None:
    """With a task, all its metrics and no other's."""
    said = "\n".join(timeline_lines(shop(), task="prose/heldout", screen=Screen(200)))
    assert CHRF in said.split("trend")[1]
    assert SUMS not in said.split("trend")[1]


def test_machines_get_everything() -> None:
    """A list of versions, oldest first, each metric with what is known of it and its change."""
    found = json.loads(json.dumps(timeline_json(shop())))
    assert [each["name"] for each in found] == ["v1", "v2", "v3", "v4", "v5", "v6"]
    assert found[4]["aliases"] == ["champion", "nightly"]
    sums = found[5]["metrics"][SUMS]
    assert (sums["value"], sums["baseline"], sums["n"]) == (0.6, 0.9, 450)
    assert (sums["since"], sums["change"], sums["blocking"]) == ("v5", "-34.0 pt", True)
    assert (found[0]["metrics"][SUMS]["since"], found[0]["metrics"][SUMS]["change"]) == (None, None)
    assert found[5]["metrics"][CHRF]["change"] == "0.0 pt"
    assert set(timeline_json(shop(), task="prose/heldout")[0]["metrics"]) == {PROSE, CHRF}


@pytest.mark.parametrize("screen", [Screen(), Screen(1000), Screen(60), Screen(1000, encoding="ascii")])
def test_hostile_text_is_inert_in_every_line(screen: Screen) -> None:
    """Whatever stands in names, outcomes, times and aliases does nothing in a terminal."""
    for start in range(0, len(HOSTILE), 8):
        lines = timeline_lines(hostile(HOSTILE[start : start + 8]), screen=screen)
        assert len(lines) > 16
        assert [line for line in lines if acts(line)] == []
