"""What the plots draw: axes, curves, sparklines that join only what was measured alike, the heatmap's shades."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalgate.compare import SliceResult
from evalgate.report import CardData
from evalgate.report.card.heat import SLICES_SHOWN, heatmap, legend, marks
from evalgate.report.card.plots import CURVE, POINTS, Box, Scale, curve, segments
from evalgate.report.card.trend import BOX, SHOWN, trends
from evalgate.report.past.history import Past, PastMetric, measure_of


@pytest.mark.parametrize(("furthest", "limit"), [(0.0, 1), (0.99, 1), (3.0, 5), (19.5, 20), (20.0, 20), (450.0, 100)])
def test_the_axis_is_the_smallest_round_one(furthest: float, limit: float) -> None:
    """Every plot shares an axis that holds the widest interval; what lies outside is drawn at its edge."""
    scale = Scale.over([(-furthest, 0.0, furthest / 2)])
    assert scale.limit == limit
    assert scale.x(0) == scale.width / 2
    assert scale.x(-limit) == scale.pad
    assert scale.x(math.inf) == scale.x(limit) == scale.width - scale.pad
    assert Scale.over([]).limit == 1


# -- curves -----------------------------------------------------------------------------------------------------------


def places(points: str) -> list[tuple[float, ...]]:
    """A polyline's points as numbers."""
    return [tuple(map(float, point.split(","))) for point in points.split()]


@pytest.mark.parametrize("values", [(), (1.0,), (None, 1.0, None), (math.nan, 2.0, math.inf)])
def test_a_point_is_no_curve(values: tuple[float | None, ...]) -> None:
    """It takes two numbers; what is not finite is none."""
    assert curve("Loss", "", values) is None


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=1000))
def test_a_curve_stays_in_its_box(values: list[float]) -> None:
    """From the left to the right end, never outside, at most so many points however long the training was."""
    found = curve("Loss", "nats", values)
    assert found
    (line,) = found.lines
    points = places(line)
    assert len(points) == min(POINTS, len(values))
    assert (points[0][0], points[-1][0]) == (CURVE.left, CURVE.right)
    assert all(a[0] < b[0] for a, b in pairwise(points))
    assert all(CURVE.top <= y <= CURVE.bottom for _, y in points)
    assert (found.steps, found.averaged) == (len(values), len(values) > POINTS)


def test_a_curve_that_falls_falls() -> None:
    """The largest value lies at the top of the box, the lowest at the bottom, and the ends are said."""
    found = curve("Training loss", "nats", [3.0, 2.0, 1.0])
    assert found
    assert found.lines == ("46,8 181,60 316,112",)
    assert (found.low, found.high, found.first, found.last) == ("1", "3", "3", "1")
    assert found.spoken == "Training loss over 3 steps: 3 at first, 1 at last"


def test_a_curve_is_broken_where_nothing_is_known() -> None:
    """A step that was skipped has no norm: no line leads over it, and a lone value is still a point."""
    found = curve("Gradient norm", "", [1.0, 2.0, None, 4.0, math.nan, 1.0, 1.0])
    assert found
    assert [len(places(line)) for line in found.lines] == [2, 2, 2]
    assert len(set(places(found.lines[1]))) == 1
    many = curve("Gradient norm", "", [None if i % 2 else 1.0 for i in range(1000)])
    assert many
    assert len(many.lines) == 1


@given(st.lists(st.none() | st.integers(0, 9), max_size=30))
def test_segments_are_the_runs_between_gaps(values: list[int | None]) -> None:
    """Nothing is lost, nothing is joined over a gap, and no run is empty."""
    points = [None if value is None else (float(i), float(value)) for i, value in enumerate(values)]
    runs = segments(points)
    assert [point for run in runs for point in run] == [point for point in points if point]
    assert all(run for run in runs)
    assert all(b[0] - a[0] == 1 for run in runs for a, b in pairwise(run))
    assert all(b[0][0] - a[-1][0] > 1 for a, b in pairwise(runs))


def test_equal_values_lie_in_the_middle() -> None:
    """A flat line says that nothing changed, wherever it lies: neither at the top nor at the bottom."""
    assert Box(0, 0, 10, 10).points([5.0, 5.0]) == [(0.0, 5.0), (10.0, 5.0)]
    assert Box(0, 0, 10, 10).points([5.0]) == [(0.0, 5.0)]


# -- trends -----------------------------------------------------------------------------------------------------------


def history(demo: CardData, *values: tuple[float | None, bool], number: int = 0) -> list[Past]:
    """One version per value of a verdict's metric, measured like the demo's own or not."""
    verdict = demo.family.verdicts[number]
    ours = measure_of(demo.candidates[verdict.task].identity, verdict.metric)
    return [
        Past(
            name=f"v{i}",
            digest=str(i),
            outcome="PASS",
            blocked=False,
            reason="",
            at=f"2026-01-{i + 1:02}",
            metrics={
                f"{verdict.task}::{verdict.metric}": PastMetric(
                    "PASS", blocking=True, value=value, measure=ours if same else "another"
                )
            },
        )
        for i, (value, same) in enumerate(values)
    ]


def test_a_trend_ends_with_this_version(demo: CardData) -> None:
    """Its own value is the last point; up is better; versions and values are there in words."""
    (found, *others) = trends(demo.family, demo.candidates, history(demo, (0.8, True), (0.9, True)), "v3")
    assert found
    assert others == [None] * 5
    (line,) = found.lines
    points = places(line)
    assert (points[0], points[-1]) == ((BOX.left, BOX.bottom), found.last)
    assert points[1][1] == BOX.top
    assert found.spoken == "v0 .800, v1 .900, v3 .876"
    assert (found.compared, found.low, found.high, found.dots) == (3, ".800", ".900", ())


def test_where_lower_is_better_up_is_lower(demo: CardData) -> None:
    """Bits per byte that fall are a line that rises."""
    found = trends(demo.family, demo.candidates, history(demo, (1.9, True), (1.6, True), number=4), "v3")[4]
    assert found
    heights = [y for _, y in places(found.lines[0])]
    assert heights == sorted(heights, reverse=True)


def test_what_was_measured_otherwise_is_not_joined(demo: CardData) -> None:
    """The line breaks where the measure changed, also where it changes back, and the words say it."""
    past = history(demo, (0.8, True), (0.5, False), (0.6, False), (0.9, True))
    found = trends(demo.family, demo.candidates, past, "v3")[0]
    assert found
    assert [len(places(line)) for line in found.lines] == [2, 2]
    assert found.dots == ((BOX.left, 9.5),)
    assert found.spoken == "v0 .800; v1 .500, v2 .600 (measured otherwise); v3 .900, v3 .876"
    assert (found.compared, found.low) == (3, ".800")


@pytest.mark.parametrize("past", [(), ((0.5, False), (0.6, False)), ((None, True),)])
def test_a_single_measurement_is_no_trend(demo: CardData, past: tuple[tuple[float | None, bool], ...]) -> None:
    """Fewer than two versions that were measured alike have no line."""
    assert trends(demo.family, demo.candidates, history(demo, *past), "v3")[0] is None


def test_a_trend_shows_the_newest_versions(demo: CardData) -> None:
    """Of a long past the newest dozen is drawn, this version among them."""
    found = trends(demo.family, demo.candidates, history(demo, *[(0.5, True)] * 30), "v3")[0]
    assert found
    assert found.compared == SHOWN == len(places(found.lines[0]))
    assert found.spoken.startswith("v19 ")


def test_what_was_not_evaluated_has_no_trend(demo: CardData) -> None:
    """A metric without a value of this version has none, whatever its past."""
    lost = replace(demo.family, verdicts=(replace(demo.family.verdicts[0], value=None),))
    assert trends(lost, demo.candidates, history(demo, (0.8, True), (0.9, True)), "v3") == [None]
    assert trends(demo.family, {}, history(demo, (0.8, True), (0.9, True)), "v3") == [None] * 6


# -- the heatmap ------------------------------------------------------------------------------------------------------


def test_the_heatmap_has_every_slice_of_every_metric(demo: CardData) -> None:
    """A table per slice, its values in their natural order, a row per metric; each cell finds its samples."""
    found = heatmap(demo.family)
    assert {heat.name: heat.values for heat in found.slices} == {
        "digits": ("1", "2", "3"),
        "carry": ("no", "yes"),
        "phrasing": ("plain", "polite"),
        "rack": ("H", "K", "S", "W"),
    }
    digits = found.slices[0]
    assert [(task, metric) for task, metric, _ in digits.rows] == [
        ("arithmetic/addition", "exact_match"),
        ("arithmetic/addition", "chrf"),
    ]
    cell = digits.rows[0][2][1]
    assert cell
    assert (cell.number, cell.label, cell.effect, cell.shade) == (0, "digits=2", "-17.4 pt", "worse-4")
    assert (cell.q, cell.n, cell.marks) == ("< .0001", "167", ("warns",))
    assert found.limit == 20


@pytest.mark.parametrize(
    ("delta", "shade"),
    [
        (0.0004, "same"),
        (-0.01, "worse-1"),
        (-0.05, "worse-1"),
        (-0.051, "worse-2"),
        (-0.2, "worse-4"),
        (0.11, "better-3"),
    ],
)
def test_a_shade_tells_sign_and_size(demo: CardData, delta: float, shade: str) -> None:
    """Four steps to either side of what reads as no difference, over a round scale."""
    verdict = demo.family.verdicts[0]
    assert verdict.comparison
    part = verdict.comparison.slices[0]
    parts = (replace(part, value="a", delta=delta), replace(part, value="b", delta=-0.2))
    family = replace(demo.family, verdicts=(replace(verdict, comparison=replace(verdict.comparison, slices=parts)),))
    ((_, _, (cell, _)),) = heatmap(family).slices[0].rows
    assert cell
    assert cell.shade == shade
    assert shade in set(legend())


def test_of_many_values_the_worst_and_those_that_block_are_shown(demo: CardData) -> None:
    """Numbers are sorted as numbers; what is left out is counted; a metric without a value has an empty cell."""
    verdict, other = demo.family.verdicts[:2]
    assert verdict.comparison
    assert other.comparison
    part = replace(verdict.comparison.slices[0], blocking=False)
    many = tuple(replace(part, value=str(i), delta=-i / 100) for i in range(40))
    blocking = replace(part, value="last", delta=0.5, blocking=True)
    family = replace(
        demo.family,
        verdicts=(
            replace(verdict, comparison=replace(verdict.comparison, slices=(*many, blocking))),
            replace(other, comparison=replace(other.comparison, slices=(many[39],))),
        ),
    )
    (found,) = heatmap(family).slices
    assert found.values == (*map(str, range(40 - SLICES_SHOWN, 40)), "last")
    assert found.more == 28
    assert [cell is None for cell in found.rows[1][2]] == [True] * 11 + [False, True]


@pytest.mark.parametrize(
    ("q", "blocking", "p", "said"),
    [
        (None, False, None, ()),
        (0.1, False, None, ("warns",)),
        (0.11, False, None, ()),
        (0.01, True, 0.5, ("blocks",)),
        (0.5, True, 0.02, ("blocks", "worse")),
        (0.05, True, None, ("blocks", "worse")),
    ],
)
def test_marks_say_what_a_slice_does(q: float | None, blocking: bool, p: float | None, said: tuple[str, ...]) -> None:
    """One that blocks is held against its metric's level, the others against the false discovery rate."""
    part = SliceResult("digits", "2", 50, 0.5, 0.6, -0.1, 0.01, q=q, blocking=blocking, p_adjusted=p)
    assert marks(part, 0.025) == said


def test_without_slices_there_is_no_heatmap(demo: CardData) -> None:
    """A family in which nothing was compared, or nothing is sliced."""
    bare = tuple(replace(verdict, comparison=None) for verdict in demo.family.verdicts)
    assert heatmap(replace(demo.family, verdicts=bare)).slices == ()
