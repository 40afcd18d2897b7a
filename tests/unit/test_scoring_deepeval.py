"""Metrics of deepeval as a suite declares them: nothing of deepeval is imported."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from evalgate import Gate, Sample, Scorer, TaskError, deepeval_metric
from evalgate.instrument import DEFAULT, Instrument
from evalgate.scoring.deepeval import METRICS, UNFIT

STEPS = ["Check whether the answer says what the reference says."]
SEEN = ["input", "actual_output", "expected_output"]


def instrument(scorer: Scorer) -> Instrument:
    """What judges."""
    assert scorer.judge is not None
    return scorer.judge


def g_eval(**changes: Any) -> Scorer:
    """A GEval that is in order but for the changes."""
    return deepeval_metric("GEval", **{"evaluation_steps": STEPS, "evaluation_params": SEEN, **changes})


def test_a_metric_is_its_name_and_its_arguments() -> None:
    """Class name, arguments and the fields with passages are what the identity covers; the scorer's name is not."""
    scorer = deepeval_metric("FaithfulnessMetric", contexts="passages", truths_extraction_limit=3)
    judge = instrument(scorer)
    assert (scorer.name, scorer.low, scorer.high, scorer.higher_is_better) == ("faithfulness", 0.0, 1.0, True)
    assert (judge.kind, judge.by, judge.fields, judge.asks) == ("deepeval", (DEFAULT,), ("passages",), True)
    assert judge.settings == {
        "metric": "FaithfulnessMetric",
        "arguments": {"truths_extraction_limit": 3},
        "contexts": ["passages"],
        "revision": 1,
        "max_tokens": 2048,
    }
    named = deepeval_metric("FaithfulnessMetric", contexts="passages", truths_extraction_limit=3, name="true")
    assert instrument(named).digest == judge.digest
    assert named.name == "true"


@pytest.mark.parametrize(
    "other",
    [
        deepeval_metric("FaithfulnessMetric", contexts="passages"),
        deepeval_metric("FaithfulnessMetric", contexts="other", truths_extraction_limit=3),
        deepeval_metric("FaithfulnessMetric", contexts="passages", truths_extraction_limit=4),
        deepeval_metric("FaithfulnessMetric", contexts="passages", truths_extraction_limit=3, max_tokens=99),
        deepeval_metric("HallucinationMetric", contexts="passages"),
    ],
)
def test_whatever_changes_a_score_changes_the_identity(other: Scorer) -> None:
    """Another metric, argument, field or limit is another instrument."""
    scorer = deepeval_metric("FaithfulnessMetric", contexts="passages", truths_extraction_limit=3)
    assert instrument(other).digest != instrument(scorer).digest
    assert other.metric.digest != scorer.metric.digest


def test_names_are_those_of_deepeval() -> None:
    """Names in records are readable and need no thought."""
    names = {metric: deepeval_metric(metric, **arguments(metric)).name for metric in METRICS}
    assert names["AnswerRelevancyMetric"] == "answer_relevancy"
    assert names["PIILeakageMetric"] == "pii_leakage"
    assert names["GEval"] == "g_eval"
    assert len(set(names.values())) == len(METRICS)


def arguments(metric: str) -> dict[str, Any]:
    """What a metric cannot do without."""
    needs: dict[str, Any] = {"contexts": "passages"} if METRICS[metric].contexts == "must" else {}
    return needs | ({"evaluation_steps": STEPS, "evaluation_params": SEEN} if metric == "GEval" else {})


def test_a_gate_and_judges_are_passed_on() -> None:
    """A gate blocks, `by` names one judge or a panel; what asks no model has no judge."""
    gate = Gate(margin=0.02)
    assert g_eval(gate=gate).gate == gate
    assert instrument(g_eval(by="strict")).by == ("strict",)
    assert instrument(g_eval(by=["a", "b"])).by == ("a", "b")
    exact = instrument(deepeval_metric("ExactMatchMetric"))
    assert (exact.asks, exact.by, exact.reference) == (False, (), True)
    assert "max_tokens" not in exact.settings


def test_g_eval_is_shown_what_it_names() -> None:
    """The reference is part of a case only where GEval looks at it, and so are passages."""
    assert instrument(g_eval()).reference
    assert not instrument(g_eval(evaluation_params=["input", "actual_output"])).reference
    shown = g_eval(evaluation_params=["ACTUAL_OUTPUT", "RETRIEVAL_CONTEXT"], contexts="passages")
    assert instrument(shown).settings["arguments"]["evaluation_params"] == ["actual_output", "retrieval_context"]
    assert instrument(shown).fields == ("passages",)


@pytest.mark.parametrize("given", [{"evaluation_steps": None}, {"evaluation_steps": []}, {"criteria": "be right"}])
def test_g_eval_without_steps_is_refused_and_told_why(given: dict[str, Any]) -> None:
    """From criteria the judge would write its own rubric anew for every answer."""
    with pytest.raises(TaskError, match=r"needs evaluation_steps.*a call each.*rubric random.*evaluation_steps=\["):
        g_eval(**given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"evaluation_steps": "Check."}, "expected a list of texts"),
        ({"evaluation_steps": [" "]}, "expected a list of texts"),
        ({"evaluation_params": None}, "actual_output among input"),
        ({"evaluation_params": ["input"]}, "actual_output among input"),
        ({"evaluation_params": ["actual_output", "tools_called"]}, "actual_output among input"),
        ({"evaluation_params": ["actual_output", "actual_output"]}, "actual_output among input"),
        ({"evaluation_params": ["actual_output", "context"]}, "compares the answer with passages"),
        ({"contexts": "passages"}, "looks at no passages"),
        ({"model": "gpt-4"}, "no argument 'model'"),
        ({"top_logprobs": 5}, "no argument 'top_logprobs'"),
        ({"rubric": object()}, "object cannot be read as JSON"),
        ({"rubric": {1: 2}}, "dict cannot be read as JSON"),
        ({"threshold": float("nan")}, "JSON"),
        ({"max_tokens": 0}, "max_tokens=0, expected a whole number above 0"),
        ({"max_tokens": True}, "max_tokens=True, expected a whole number above 0"),
        ({"by": []}, "by names no judge"),
    ],
)
def test_what_means_nothing_is_refused(given: dict[str, Any], said: str) -> None:
    """A declaration that would fail at the first answer fails where it stands."""
    with pytest.raises(TaskError) as raised:
        g_eval(**given)
    assert said in str(raised.value)


@pytest.mark.parametrize("metric", UNFIT)
def test_what_cannot_judge_answers_says_why(metric: str) -> None:
    """Metrics for agents, images and other services are refused by name, with what to take."""
    with pytest.raises(TaskError, match=rf"{metric}.*: {metric} "):
        deepeval_metric(metric)


def test_a_name_that_is_none_is_refused() -> None:
    """With the nearest that there is."""
    with pytest.raises(TaskError, match=r"no metric 'FaithfulnesMetric'.*did you mean 'FaithfulnessMetric'"):
        deepeval_metric("FaithfulnesMetric")


@pytest.mark.parametrize("metric", [5, object(), Gate, int])
def test_what_is_no_metric_is_refused(metric: Any) -> None:
    """Other objects and classes are told the form that works."""
    with pytest.raises(TaskError, match=r"no metric of deepeval\.metrics.*deepeval_metric\(\""):
        deepeval_metric(metric)


def test_samples_are_looked_at_before_anything_runs() -> None:
    """Passages that are not there and targets that are no text are found when the data are read."""
    check = deepeval_metric("ContextualRecallMetric", contexts="passages").check
    assert check is not None
    assert check(Sample("s", {"passages": ["one", "two"]}, "right")) is None
    assert check(Sample("s", {"passages": "one"}, "right")) is None
    for fields, target in (
        ({}, "right"),
        ({"passages": 5}, "right"),
        ({"passages": []}, "x"),
        ({"passages": "p"}, None),
    ):
        assert check(Sample("s", fields, target))


def test_declaring_imports_nothing() -> None:
    """A suite that names a metric does not wait for deepeval."""
    code = (
        "import sys; from evalgate import deepeval_metric; deepeval_metric('ToxicityMetric').metric;"
        "print(sorted({'deepeval', 'openai', 'pydantic', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
