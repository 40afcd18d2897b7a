"""Evaluations: identity, completeness, means and the arrays that comparisons read."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalgate.errors import RecordError
from evalgate.evaluation import Acceptance, Evaluation, Metric, Row
from tests.unit.evaluations import BITS, EXACT, evaluation


def test_rows_are_sorted_whatever_order_they_come_in() -> None:
    """The order of rows is no identity."""
    made = evaluation([1, 0, 1])
    turned = replace(made, rows=made.rows[::-1])
    assert [row.id for row in turned.rows] == ["q00000", "q00001", "q00002"]
    assert turned.digest == made.digest


def test_two_rows_of_one_sample_are_refused() -> None:
    """A sample that stands twice would be counted twice."""
    with pytest.raises(RecordError, match="arithmetic/addition: two rows share the sample id 'a'"):
        evaluation([1, 0, 1], ids=["a", "b", "a"])


def test_digest_covers_content_and_nothing_else() -> None:
    """Names, environment, policy and acceptance change nothing; a score, a prompt or a checkpoint does."""
    made = evaluation([1, 0, 1])
    acceptance = Acceptance("me", "2026-01-01T00:00:00Z", "first", None, made.digest)
    same = replace(
        made,
        checkpoint=dict(made.checkpoint) | {"name": "renamed"},
        environment={"engine": {"name": "other"}},
        provenance={"command": "pytest"},
        policy={"alpha": 0.01},
        acceptance=acceptance,
    )
    assert same.digest == made.digest
    assert made.digest.startswith("sha256:")
    changed: list[Evaluation] = [
        evaluation([1, 0, 0]),
        evaluation([1, 0, 1], name="v4"),
        evaluation([1, 0, 1], sampling={"max_tokens": 9}),
        evaluation([1, 0, 1], seed=1),
        evaluation([1, 0, 1], pairs={0: "other"}),
        evaluation([1, 0, 1], task="arithmetic/other"),
        replace(made, metrics=(replace(EXACT, higher_is_better=False),)),
        replace(made, samples="sha256:0"),
        replace(made, prompt="sha256:0"),
    ]
    assert len({made.digest, *(each.digest for each in changed)}) == len(changed) + 1


def test_errors_and_missing_scores_make_it_incomplete() -> None:
    """A row with an error has no answer; a row without a score is unscored even if nobody said why."""
    made = evaluation([1, None, None], errors={1: "engine died"})
    assert [row.id for row in made.errors] == ["q00001"]
    assert [row.id for row in made.unscored("exact_match")] == ["q00001", "q00002"]
    assert evaluation([1, 0]).unscored("exact_match") == ()


def test_an_unknown_metric_is_named_with_those_there_are() -> None:
    """KeyError tells what could have been asked."""
    with pytest.raises(KeyError, match="'bleu' is no metric of arithmetic/addition; there are exact_match"):
        evaluation([1]).metric("bleu")
    assert evaluation([1]).metric("exact_match") is EXACT


def test_mean_skips_rows_without_score_and_weighs_weighted_metrics() -> None:
    """Only a weighted metric reads weights; without any score there is no mean."""
    assert evaluation([1, 0, None, 1]).mean("exact_match") == pytest.approx(2 / 3)
    assert evaluation([1, 0], weights=[1, 3]).mean("exact_match") == 0.5
    assert evaluation([1.0, 2.0], metric=BITS, weights=[1, 3]).mean("bits_per_byte") == 1.75
    assert math.isnan(evaluation([None, None]).mean("exact_match"))
    assert math.isnan(evaluation([]).mean("exact_match"))


def test_columns_are_arrays_in_row_order_that_nobody_can_change() -> None:
    """They are cached in a frozen object."""
    made = evaluation([1, None, 0], weights=[1, 2, 3])
    np.testing.assert_array_equal(made.columns["exact_match"], [1, np.nan, 0])
    np.testing.assert_array_equal(made.weights, [1, 2, 3])
    assert made.keys == (("q00000", "q00001", "q00002"), ("0" * 12, "0" * 11 + "1", "0" * 11 + "2"))
    assert made.columns is made.columns
    with pytest.raises(ValueError, match="read-only"):
        made.columns["exact_match"][0] = 5


def test_rows_without_cluster_stand_for_themselves() -> None:
    """Even beside a cluster whose name is their id."""
    assert evaluation([1, 0]).clusters is None
    made = evaluation([1, 0, 1, 0], clusters=["q00001", None, "q00001", None])
    assert made.clusters is not None
    assert made.clusters.tolist() == [0, 1, 0, 2]


def test_slices_are_positions_by_name_and_value() -> None:
    """A row may lack a slice."""
    made = evaluation([1, 0, 1], slices=[{"digits": "1"}, {"digits": "2"}, {"digits": "1", "carry": "yes"}])
    assert {key: found.tolist() for key, found in made.slices.items()} == {
        ("digits", "1"): [0, 2],
        ("digits", "2"): [1],
        ("carry", "yes"): [2],
    }


def test_frame_has_a_column_per_slice_and_metric() -> None:
    """Slices that are whole numbers are numbers, so that people may compare with 2."""
    made = evaluation([1, None], slices=[{"digits": "2"}, {"digits": "many"}], errors={1: "engine died"})
    frame = made.frame
    assert list(frame.columns) == ["id", "digits", "exact_match", "output", "target", "cluster", "error"]
    assert frame.query("digits == 2")["exact_match"].tolist() == [1]
    assert frame["digits"].tolist() == [2, "many"]
    assert frame["error"].tolist()[1] == "engine died"
    assert replace(made, rows=(replace(made.rows[0], outputs=()),)).frame["output"].tolist() == [None]


def test_row_json_leaves_defaults_out() -> None:
    """A baseline is reviewed like code, so it says only what there is to say."""
    row = Row(id="a", pair="0", prompt="Q", target=None, outputs=(), scores={"em": 1.0})
    assert row.as_json() == {"id": "a", "pair": "0", "prompt": "Q", "target": None, "outputs": (), "scores": {"em": 1}}
    assert replace(row, cluster="doc", error="x").as_json().keys() - row.as_json().keys() == {"cluster", "error"}


def test_an_unbounded_metric_has_no_range() -> None:
    """One open end is enough."""
    assert Metric("bleu", "d", low=0, high=100).range == 100
    assert BITS.range is None
    assert Metric("x", "d", low=None).range is None


@given(st.permutations(range(6)))
def test_every_array_is_the_same_for_any_order_of_rows(order: list[int]) -> None:
    """Whatever the engine finished first."""
    made = evaluation([1, 0, 1, 1, 0, None], clusters=["a", "b", "a", None, "b", None], weights=[1, 2, 3, 4, 5, 6])
    other = replace(made, rows=tuple(made.rows[i] for i in order))
    assert made.clusters is not None
    assert other.clusters is not None
    np.testing.assert_array_equal(made.columns["exact_match"], other.columns["exact_match"])
    np.testing.assert_array_equal(made.clusters, other.clusters)
    assert (made.keys, made.mean("exact_match")) == (other.keys, other.mean("exact_match"))


def test_digests_are_those_of_the_records_that_lie_in_repositories() -> None:
    """Written down before rows had looks and metrics judges: a baseline accepted then is the same baseline now."""
    assert evaluation([1, 0, 1]).digest == "sha256:e1f169ce6b310d08d56f20a47b52eee18693f30c71d7488c6cbe5a8d2a808e3d"
    bits = evaluation([1.5, 0, 1], metric=BITS, weights=[1, 2, 3])
    assert bits.digest == "sha256:50cf5cf2756eedff63c10e321a34929b4c00ab243ec5e362401a6af21c14fb1b"


def test_what_only_judges_and_preferences_have_is_identity_where_it_is_there() -> None:
    """And is left out of all other metrics' JSON, whose open ends stay in it."""
    assert EXACT.as_json().keys() == {"name", "digest", "low", "high", "binary", "higher_is_better", "weighted"}
    assert BITS.as_json()["high"] is None
    judge, preferred = replace(EXACT, judge="sha256:1"), replace(EXACT, against="sha256:1")
    assert judge.as_json() == EXACT.as_json() | {"judge": "sha256:1"}
    assert preferred.as_json() == EXACT.as_json() | {"against": "sha256:1"}
    digests = {evaluation([1, 0], metric=metric).digest for metric in (EXACT, judge, preferred)}
    assert len(digests) == 3


def stepped(*looks: int) -> Evaluation:
    """An evaluation with one row per look given."""
    made = evaluation([1] * len(looks))
    return replace(made, rows=tuple(replace(row, look=look) for row, look in zip(made.rows, looks, strict=True)))


def test_rows_in_reserve_say_in_which_step_they_are_drawn() -> None:
    """The evaluation's look is the last; a look is content, since it decides what is compared."""
    assert (evaluation([1, 0]).look, evaluation([]).look, stepped(0, 2, 1).look) == (0, 0, 2)
    assert stepped(0, 0, 1).digest != stepped(0, 0, 0).digest == evaluation([1, 1, 1]).digest


def test_what_was_drawn_between_two_looks_is_a_view_of_the_same_record() -> None:
    """It names the record's digest, also a view of a view; where nothing is left out it is the evaluation itself."""
    made = stepped(0, 1, 0, 2, 1)
    assert made.drawn(0, 2) is made.drawn(0, 99) is made
    some = made.drawn(0, 1)
    assert [row.look for row in some.rows] == [0, 1, 0, 1]
    assert (some.record, some.drawn(1, 1).record, made.record) == (made.digest,) * 3
    assert some.digest != made.digest
    assert [row.id for row in made.drawn(1, 2).rows] == ["q00001", "q00003", "q00004"]
    assert made.drawn(3, 4).rows == ()
    assert (some.look, made.drawn(0, 0).look) == (1, 0)


def test_a_view_has_its_own_arrays() -> None:
    """Whatever was cached in the whole."""
    made = replace(stepped(0, 1, 0), metrics=(EXACT,))
    assert (len(made.columns["exact_match"]), len(made.keys[0])) == (3, 3)
    some = made.drawn(0, 0)
    assert (len(some.columns["exact_match"]), some.keys[0]) == (2, ("q00000", "q00002"))


def test_margins_are_outside_the_digest() -> None:
    """Two machines that write the same texts make the same evaluation, whatever their last bits are."""
    made = evaluation([1, 0])
    sure, unsure = (replace(made, rows=tuple(replace(row, margin=nats) for row in made.rows)) for nats in (2.5, 1e-6))
    assert made.digest == sure.digest == unsure.digest
    assert sure.rows[0].as_json()["margin"] == 2.5
    assert "margin" not in made.rows[0].as_json()
    assert replace(made, rows=(replace(made.rows[0], outputs=("other",)), made.rows[1])).digest != made.digest
