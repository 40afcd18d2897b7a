"""What judges are shown of a task."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalgate.cases import cases_of, question_of
from evalgate.evaluation import Row
from evalgate.instrument import Instrument
from evalgate.scoring import exact_match
from evalgate.task import Sample, Task

NATIVE = Instrument("native", {"rubric": "Is it right?"}, fields=("document",))
SAMPLE = Sample("s1", {"document": "Stock: 3 eggs.", "secret": "x"}, target="3")


def task(**more: object) -> Task:
    """A task of one question."""
    given: dict[str, object] = {"samples": [{"id": "s1"}], "prompt": "Q: {{ document }}", "scorers": [exact_match()]}
    return Task(**{**given, **more})  # type: ignore[arg-type]


def row(*outputs: str) -> Row:
    """What the baseline answered."""
    return Row("s1", "pair", "Q", "3", outputs, {})


def test_a_case_shows_what_the_instrument_names() -> None:
    """The question as declared, the answer, the reference, and of the fields only those that are named."""
    (case,) = cases_of(task(), NATIVE, SAMPLE, ["three"])
    assert (case.sample, case.question, case.answer, case.reference) == ("s1", "Q: Stock: 3 eggs.", "three", "3")
    assert case.fields == {"document": "Stock: 3 eggs."}
    assert case.other is None
    (blind,) = cases_of(task(), replace(NATIVE, reference=False), SAMPLE, ["three"])
    assert blind.reference is None


def test_a_target_that_is_no_text_is_shown_as_json() -> None:
    """Objects have one text, whatever the order of their keys in the data."""
    (case,) = cases_of(task(), NATIVE, replace(SAMPLE, target={"b": 1, "a": [2]}), ["x"])
    assert case.reference == '{"a":[2],"b":1}'
    (none,) = cases_of(task(), NATIVE, replace(SAMPLE, target=None), ["x"])
    assert none.reference is None


def test_reasoning_is_cut_out_before_judges_see_it() -> None:
    """A judge grades the answer, not the thoughts; of the baseline's answer, too."""
    thinking = task(reasoning=("<think>", "</think>"))
    rival = row("<think>b</think>2")
    pairwise = replace(NATIVE, pairwise=True)
    (case,) = cases_of(thinking, pairwise, SAMPLE, ["<think>a</think>3"], rival)
    assert (case.answer, case.other) == ("3", "2")


def test_every_generation_is_a_case_and_has_its_rival() -> None:
    """Generations are compared in order; where the baseline has fewer, with its last."""
    rival = row("r0", "r1")
    found = list(cases_of(task(), replace(NATIVE, pairwise=True), SAMPLE, ["a0", "a1", "a2"], rival))
    assert [(case.answer, case.other) for case in found] == [("a0", "r0"), ("a1", "r1"), ("a2", "r1")]
    assert [case.other for case in cases_of(task(), NATIVE, SAMPLE, ["a0"], rival)] == [None]


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("plain", "plain"),
        ([{"role": "user", "content": "hi"}], "hi"),
        ([{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}], "system: be kind\n\nuser: hi"),
    ],
)
def test_a_question_has_no_chat_template(prompt: object, said: str) -> None:
    """Candidates with other templates are asked the same question in the judge's eyes."""
    assert question_of(prompt) == said  # type: ignore[arg-type]


@given(st.text(), st.text(), st.text())
def test_the_id_is_the_content(answer: str, other: str, sample: str) -> None:
    """Equal content has one id whatever the sample is called; other content has another."""
    (first,) = cases_of(task(), NATIVE, SAMPLE, [answer])
    (again,) = cases_of(task(), NATIVE, replace(SAMPLE, id=sample), [answer])
    (changed,) = cases_of(task(), NATIVE, SAMPLE, [other])
    assert again.id == first.id
    assert (changed.id == first.id) is (answer == other)
