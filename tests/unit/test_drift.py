"""Drift of form: candidates that write longer, or repeat themselves, are told beside the judges' scores."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalgate.drift import Drift, Form, drift
from evalgate.evaluation import Evaluation
from tests.unit.evaluations import evaluation

TEXTS = st.lists(st.text(st.sampled_from("ab \n"), max_size=60), min_size=1, max_size=6)


def side(outputs: Sequence[str], **changes: object) -> Evaluation:
    return evaluation([1.0] * len(outputs), outputs=list(outputs), **changes)  # type: ignore[arg-type]


def test_equal_sides_have_nothing_to_tell() -> None:
    """The same outputs do not drift."""
    found = drift(side(["one two three four five"] * 3), side(["one two three four five"] * 3))
    assert found == Drift(3, Form(23, 0), Form(23, 0))
    assert (found.longer, found.line()) == (0, None)


def test_longer_answers_are_told() -> None:
    """With the change, and both means in characters."""
    found = drift(side(["x" * 553, "x" * 553]), side(["x" * 400, "x" * 424]))
    assert found.line() == "answers are 34 % longer than the baseline's (412 → 553 characters)"


def test_shorter_answers_are_told() -> None:
    """A collapse in length is drift too."""
    assert drift(side(["x" * 10]), side(["x" * 100])).line() == (
        "answers are 90 % shorter than the baseline's (100 → 10 characters)"
    )


@pytest.mark.parametrize(("now", "told"), [(120, False), (121, True), (80, False), (79, True), (100, False)])
def test_a_fifth_is_not_worth_a_line(now: int, told: bool) -> None:
    """More than 20 % either way is."""
    assert (drift(side(["x" * now]), side(["x" * 100])).line() is not None) is told


def test_repetition_is_told() -> None:
    """Sequences of four words that stand earlier in the same answer, as a share of all sequences."""
    loop = " ".join(["a b c d"] * 5)
    plain = " ".join(f"w{i}" for i in range(20))
    found = drift(side([loop]), side([plain[: len(loop)]]))
    assert found.candidate.repetition == pytest.approx(13 / 17)
    assert found.baseline.repetition == 0
    assert found.line() == "answers repeat themselves more (0 % → 76 % of all sequences of 4 words)"


def test_less_repetition_is_not_told() -> None:
    """Only what takes judges in is: a rise of more than five points."""
    before = Form(100, 0.30)
    assert Drift(1, Form(100, 0.10), before).line() is None
    assert Drift(1, Form(100, 0.35), before).line() is None
    assert Drift(1, Form(100, 0.36), before).line() is not None


def test_both_are_one_line() -> None:
    """Length first, then repetition."""
    line = Drift(9, Form(200, 0.5), Form(100, 0.0)).line()
    assert line is not None
    assert line.startswith("answers are 100 % longer than the baseline's (100 → 200 characters); answers repeat")


def test_repetition_across_answers_is_none() -> None:
    """Equal answers to several questions are short answers, not loops."""
    assert drift(side(["one two three four"] * 4), side(["x"] * 4)).candidate.repetition == 0


def test_an_empty_baseline() -> None:
    """There is no share of nothing: it is said in words."""
    found = drift(side(["abc"]), side([""]))
    assert found.longer == float("inf")
    assert found.line() == "answers are longer than the baseline's, which are empty (0 → 3 characters)"
    assert drift(side([""]), side([""])).line() is None
    assert "100 % shorter" in str(drift(side([""]), side(["abc"])).line())


def test_only_samples_that_both_sides_answered_count() -> None:
    """Another eval set, or a row with an error, is no drift."""
    one = side(["x" * 10, "x" * 1000], ids=["a", "b"])
    assert drift(one, side(["x" * 10, "x" * 7], ids=["a", "c"])).n == 1
    assert drift(one, side(["x" * 10, ""], ids=["a", "b"], errors={1: "no answer"})).line() is None
    assert drift(one, side(["x"], ids=["z"])) == Drift(0, Form(0, 0), Form(0, 0))


def test_reasoning_is_not_part_of_answers() -> None:
    """Judges are shown answers without it, so its length says nothing of them."""
    thinking = {"reasoning": ["<think>", "</think>"]}
    now = side(["<think>" + "hm " * 100 + "</think>four"], sampling=thinking)
    assert drift(now, side(["four"], sampling=thinking)).candidate.length == 4
    assert drift(now, side(["<think></think>four"], sampling=thinking)).line() is None
    assert drift(side(["<think>hm</think>four"]), side(["four"])).candidate.length == 21


@given(TEXTS, st.data())
def test_laws(texts: list[str], data: st.DataObject) -> None:
    """Exchanged sides exchange their forms, shares are from 0 to 1, and an answer said twice over repeats itself."""
    others = data.draw(st.lists(st.text(max_size=30), min_size=len(texts), max_size=len(texts)))
    found, back = drift(side(texts), side(others)), drift(side(others), side(texts))
    assert (found.candidate, found.baseline, found.n) == (back.baseline, back.candidate, back.n)
    assert 0 <= found.candidate.repetition <= 1
    assert found.candidate.length == pytest.approx(sum(map(len, texts)) / len(texts))
    doubled = drift(side([f"{text} {text}" for text in texts]), side(texts))
    assert doubled.candidate.repetition >= doubled.baseline.repetition - 1e-9
