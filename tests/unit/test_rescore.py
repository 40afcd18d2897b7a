"""Stored outputs, scored again by scorers that changed since they were recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalgate.checkpoint import Checkpoint
from evalgate.compare import incomparable
from evalgate.digest import digest
from evalgate.evaluate import assemble
from evalgate.evaluation import Evaluation
from evalgate.plan import plan_task
from evalgate.request import Completion
from evalgate.rescore import outdated, rescore
from evalgate.scoring import Score, Scorer, choice, exact_match, function, numeric
from evalgate.task import Sample, Sampling, Task

V1 = Checkpoint("v1", None, "full", digest("w"), digest("t"), None, "LlamaForCausalLM", 2048)
SAMPLES = tuple(Sample(f"s{i}", {"a": i, "target": str(i)}, target=str(i)) for i in range(6))
NEAR = numeric(tolerance=1)


def task(*scorers: Scorer, **changes: Any) -> Task:
    """A task of six samples whose target is their number."""
    return Task(samples=[], prompt="{{ a }}", scorers=scorers, **changes)


def recorded(made: Task, text: Callable[[Sample, int], str], samples: Sequence[Sample] = SAMPLES) -> Evaluation:
    """The evaluation of a model that writes this text for a sample and generation."""
    plan = plan_task("suite/task", made, samples, [f"Q{s.id}" for s in samples], V1, digest("samples"))
    completions = {
        request.id: Completion(request.id, text=text(question.sample, k))
        for question in plan.questions
        for k, request in enumerate(question.generations)
    }
    for question in plan.questions:
        for request in question.scored.values():
            logprobs = tuple(-1.0 - i for i, _ in enumerate(request.continuations))
            completions[request.id] = Completion(request.id, finish="score", logprobs=logprobs)
    return assemble(plan, completions, environment={}, provenance={}, policy={})


def off_by_one(sample: Sample, _: int) -> str:
    """An answer that is one too high."""
    return str(int(sample.target) + 1)


def view(evaluation: Evaluation, made: Task, samples: Sequence[Sample] = SAMPLES) -> Evaluation:
    """Scored again, which must be possible."""
    found = rescore(evaluation, made, samples)
    assert found is not None
    return found


def test_a_changed_setting_scores_the_stored_outputs() -> None:
    """Every answer is off by one: wrong without a tolerance, right with one; the rest of the row stays."""
    strict = recorded(task(numeric()), off_by_one)
    assert strict.mean("numeric") == 0.0
    again = view(strict, task(NEAR))
    assert again.mean("numeric") == 1.0
    assert again.metrics == (NEAR.metric,)
    assert [row.outputs for row in again.rows] == [row.outputs for row in strict.rows]
    assert incomparable(recorded(task(NEAR), off_by_one), again, "numeric") == ()


def test_the_view_is_what_a_fresh_evaluation_would_be() -> None:
    """Same answers, same scorers: a view has the digest of the evaluation that the new scorers would have made."""
    again = view(recorded(task(numeric()), off_by_one), task(NEAR))
    assert again.digest == recorded(task(NEAR), off_by_one).digest


def test_the_view_points_to_its_record() -> None:
    """Whoever names the baseline names what was accepted, also after a second change."""
    strict = recorded(task(numeric()), off_by_one)
    again = view(strict, task(NEAR))
    assert (again.record, again.origin) == (strict.digest, strict.digest)
    assert again.digest != strict.digest
    assert view(again, task(numeric(tolerance=2))).record == strict.digest
    assert (strict.record, strict.origin) == (strict.digest, None)


def test_nothing_is_scored_again_where_nothing_changed() -> None:
    """The negative control: equal scorers give no view."""
    same = task(numeric(), exact_match())
    assert outdated(recorded(same, off_by_one), same) == ()
    assert rescore(recorded(same, off_by_one), same, SAMPLES) is None


def test_what_is_said_of_a_judge_goes_with_its_scores() -> None:
    """A view must not name the judge of scores that it no longer holds; the others stay, and so does the record."""
    said = {"numeric": {"kind": "native"}, "exact_match": {"kind": "deepeval"}}
    strict = replace(recorded(task(numeric(), exact_match()), off_by_one), environment={"engine": {}, "judges": said})
    assert view(strict, task(NEAR, exact_match())).environment == {
        "engine": {},
        "judges": {"exact_match": {"kind": "deepeval"}},
    }
    assert view(strict, task(NEAR, exact_match(ignore_case=True))).judge("numeric") == {}
    assert strict.judge("numeric") == {"kind": "native"}


def test_a_new_scorer_is_added_and_the_others_stay() -> None:
    """A metric that the record never had is measured; one that did not change keeps score and note."""
    old = recorded(task(exact_match()), off_by_one)
    both = task(exact_match(), NEAR)
    assert outdated(old, both) == (NEAR,)
    again = view(old, both)
    assert [metric.name for metric in again.metrics] == ["exact_match", "numeric"]
    assert [row.scores for row in again.rows] == [{"exact_match": 0.0, "numeric": 1.0}] * 6


@pytest.mark.parametrize("changed", [{"high": 2.0}, {"higher_is_better": False}, {"binary": False}])
def test_range_and_orientation_make_another_metric(changed: dict[str, Any]) -> None:
    """They are not in the scorer's digest, and yet the view takes them over."""
    before = Scorer("mine", _right, binary=True)
    after = replace(before, **{"binary": False, **changed})
    assert before.metric.digest == after.metric.digest
    assert view(recorded(task(before), off_by_one), task(after)).metrics == (after.metric,)


def _right(completion: Completion, sample: Sample) -> bool:
    return bool(completion.text == sample.target)


@given(st.lists(st.integers(0, 3), min_size=24, max_size=24))
def test_generations_are_averaged(tries: list[int]) -> None:
    """With four generations a question's score is the mean over all four, exactly as in a run of its own."""
    drawing = {"sampling": Sampling(n=4, temperature=1.0)}

    def text(sample: Sample, k: int) -> str:
        return str(int(sample.target) + tries[int(sample.target) * 4 + k])

    again = view(recorded(task(numeric(), **drawing), text), task(NEAR, **drawing))
    assert again.digest == recorded(task(NEAR, **drawing), text).digest


def test_reasoning_is_stripped_the_same_way() -> None:
    """A number in the reasoning is not the answer, in a stored output as in a fresh one."""
    thinking = {"reasoning": ("<think>", "</think>")}

    def text(sample: Sample, _: int) -> str:
        return f"<think>99?</think>{sample.target}"

    again = view(recorded(task(numeric(), **thinking), text), task(exact_match(), **thinking))
    assert again.mean("exact_match") == 1.0
    assert again.rows[0].outputs == ("<think>99?</think>0",)


def test_notes_are_renewed() -> None:
    """What the old scorer found is not shown beside what the new one says."""

    def before(output: str, sample: Sample) -> Score:
        return Score(0.0, explanation="before")

    def after(output: str, sample: Sample) -> Score:
        return Score(1.0, explanation="after" if sample.target == "0" else None)

    again = view(recorded(task(function(before, name="f")), off_by_one), task(function(after, name="f")))
    assert [dict(row.notes) for row in again.rows] == [{"f": "after"}] + [{}] * 5


def test_a_fault_on_a_stored_output_is_an_error_and_no_score() -> None:
    """The row of which the scorer breaks has a fault that names it, and keeps its other scores as in a run."""

    def shaky(output: str, sample: Sample) -> float:
        return 1 / (int(output) - 3)

    made = task(exact_match(), function(shaky, name="shaky", low=-9, high=9))
    again = view(recorded(task(exact_match()), off_by_one), made)
    (broken,) = again.errors
    assert (broken.id, broken.scores) == ("s2", {"exact_match": 0.0})
    assert "ZeroDivisionError" in str(broken.fault)
    assert (len(again.unscored("shaky")), len(again.unscored("exact_match"))) == (1, 0)


def test_what_no_record_keeps_is_not_invented() -> None:
    """A scorer of tokens cannot be asked about a stored answer: an error, where 0 tokens would be a wrong score."""
    length = Scorer("length", lambda completion, _: completion.completion_tokens, high=None)
    again = view(recorded(task(exact_match()), off_by_one), task(exact_match(), length))
    assert len(again.errors) == 6
    assert "completion_tokens" in str(again.errors[0].fault)


def test_why_an_answer_ended_is_kept() -> None:
    """A scorer may look at `finish`, which records store; one brought in from elsewhere may lack it."""
    cut = Scorer("cut", lambda completion, _: completion.finish == "length", binary=True)
    old = recorded(task(exact_match()), off_by_one)
    rows = (replace(old.rows[0], finish=("length",)), replace(old.rows[1], finish=()), *old.rows[2:])
    again = view(replace(old, rows=rows), task(exact_match(), cut))
    assert [row.scores["cut"] for row in again.rows] == [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    "samples",
    [
        SAMPLES[1:],
        (replace(SAMPLES[0], target="7"), *SAMPLES[1:]),
        (replace(SAMPLES[0], id="other"), *SAMPLES[1:]),
    ],
    ids=["gone", "another target", "another id"],
)
def test_a_question_that_changed_has_no_score_of_the_changed_scorer(samples: Sequence[Sample]) -> None:
    """The new scorer may look at what changed: that metric is incomplete by name, and the other one is untouched."""
    both = task(exact_match(), NEAR)
    again = view(recorded(task(exact_match(), numeric()), off_by_one), both, samples)
    assert (again.rows[0].scores, again.rows[0].error) == ({"exact_match": 0.0}, None)
    assert again.rows[1].scores == {"exact_match": 0.0, "numeric": 1.0}
    fresh = recorded(both, off_by_one)
    assert [d.field for d in incomparable(fresh, again, "numeric")] == ["completeness"]
    assert not incomparable(fresh, again, "exact_match")


def test_without_any_question_in_common_there_is_no_view() -> None:
    """Then the scorer stays what is not comparable."""
    moved = [replace(sample, target="no") for sample in SAMPLES]
    assert rescore(recorded(task(numeric()), off_by_one), task(NEAR), moved) is None


def test_an_error_stays_an_error() -> None:
    """A row without an answer is not answered by scoring it again."""
    old = recorded(task(numeric()), off_by_one)
    lost = replace(old.rows[0], outputs=(), scores={}, error="sample s0: out of memory")
    again = view(replace(old, rows=(lost, *old.rows[1:])), task(NEAR))
    assert (again.rows[0].error, again.rows[0].scores) == (lost.error, {})


def test_log_likelihoods_cannot_be_asked_again() -> None:
    """A changed choice stays what it was, and is refused by name; a text scorer beside it is scored again."""
    one = choice("0", "1", "2", "3", "4", "5", name="pick")
    other = replace(one, version=2)
    old = recorded(task(one), lambda *_: "")
    assert outdated(old, task(other)) == (other,)
    assert rescore(old, task(other), SAMPLES) is None
    mixed = view(recorded(task(numeric(), one), off_by_one), task(NEAR, other))
    assert (mixed.mean("numeric"), mixed.metric("pick")) == (1.0, one.metric)
    fresh = recorded(task(NEAR, other), off_by_one)
    assert [d.field for d in incomparable(fresh, mixed, "pick")] == ["scorer"]
    assert not incomparable(fresh, mixed, "numeric")


def test_a_text_scorer_that_joins_log_likelihoods_has_no_outputs() -> None:
    """Nothing was generated then, so there is nothing to score."""
    pick = choice("0", "1", "2", "3", "4", "5", name="pick")
    old = recorded(task(pick), lambda *_: "")
    assert rescore(old, task(pick, numeric()), SAMPLES) is None


def test_weights_follow_the_scorer() -> None:
    """A row weighs what the scorer of today says it weighs."""
    light = Scorer("mine", _right, high=None, weight=lambda _: 1.0)
    heavy = replace(light, weight=lambda sample: 1.0 + int(sample.target), version=2)
    again = view(recorded(task(light), lambda sample, _: sample.target), task(heavy))
    assert [row.weight for row in again.rows] == [1, 2, 3, 4, 5, 6]
