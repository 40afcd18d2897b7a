"""What `ragas_metric` makes of a declaration, and what it refuses before anything runs."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalgate import Gate, ragas_metric
from evalgate.errors import ScorerError, TaskError
from evalgate.instrument import DEFAULT, Instrument
from evalgate.request import Completion
from evalgate.scoring import Scorer, apply
from evalgate.scoring.ragas import METRICS, UNFIT
from evalgate.task import Sample

# What a declaration needs besides the metric's name, where it needs anything.
WITH: dict[str, dict[str, Any]] = {"AnswerCorrectness": {"weights": [1.0, 0.0]}}


def declared(metric: str, **more: Any) -> Scorer:
    contexts = {"contexts": "passages"} if METRICS[metric].contexts == "must" else {}
    return ragas_metric(metric, **{**contexts, **WITH.get(metric, {}), **more})


def instrument(scorer: Scorer) -> Instrument:
    assert scorer.judge is not None
    return scorer.judge


def sample(target: Any = "four", **fields: Any) -> Sample:
    return Sample("s-1", {"id": "s-1", "target": target} | fields, target)


@pytest.mark.parametrize("metric", sorted(METRICS))
def test_every_metric_can_be_declared_by_its_name(metric: str) -> None:
    """A name, and the passages where they are needed, are a whole declaration; nothing of ragas is imported for it."""
    scorer = declared(metric)
    judge = instrument(scorer)
    assert judge.kind == "ragas"
    assert judge.settings["metric"] == metric
    assert judge.by == ((DEFAULT,) if judge.asks else ())
    assert ("max_tokens" in judge.settings) == judge.asks
    assert (scorer.low, scorer.high) == (judge.low, judge.high)
    assert scorer.metric.judge == judge.digest
    assert scorer.gate is None


def test_declaring_imports_no_ragas() -> None:
    """A suite that names metrics of ragas pays nothing for it."""
    code = (
        "import sys; from evalgate import ragas_metric; ragas_metric('ExactMatch');"
        "assert not {'ragas', 'instructor', 'openai', 'pydantic'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        ("Faithfulness", "faithfulness"),
        ("CHRFScore", "chrf_score"),
        ("NonLLMStringSimilarity", "non_llm_string_similarity"),
        ("SQLSemanticEquivalence", "sql_semantic_equivalence"),
        ("ContextPrecisionWithoutReference", "context_precision_without_reference"),
    ],
)
def test_a_metric_is_called_as_ragas_calls_it(metric: str, name: str) -> None:
    """The name in records and test ids is ragas's own, unless the suite gives one."""
    assert declared(metric).name == name
    assert declared(metric, name="mine").name == "mine"


def test_a_class_is_read_by_its_name() -> None:
    """A class of ragas says its name and is not called: a suite may import ragas, and evalgate does not."""
    made = type("Faithfulness", (), {"__module__": "ragas.metrics.collections.faithfulness.metric"})
    by_class, by_name = ragas_metric(made, contexts="p"), ragas_metric("Faithfulness", contexts="p")
    assert instrument(by_class).digest == instrument(by_name).digest


@pytest.mark.parametrize(
    "given",
    [
        type("Faithfulness", (), {"__module__": "ragas.metrics._faithfulness"}),
        type("Faithfulness", (), {"__module__": "ragas.metrics.collectionsque"}),
        type("Faithfulness", (), {"__module__": "somewhere"})(),
        None,
        7,
    ],
)
def test_what_is_no_metric_of_collections_is_refused(given: Any) -> None:
    """ragas' older class of the same name measures something else, and an object has a judge of its own."""
    with pytest.raises(TaskError, match=r"no class of ragas\.metrics\.collections.*Write the metric's name"):
        ragas_metric(given)


@pytest.mark.parametrize("metric", sorted(UNFIT))
def test_metrics_that_cannot_judge_answers_say_why(metric: str) -> None:
    """Embeddings, agents, images and per-sample rubrics are refused, each with the way out."""
    with pytest.raises(TaskError, match=re.escape(f"ragas_metric('{metric}'): {metric} {UNFIT[metric][:40]}")):
        ragas_metric(metric)


def test_a_misspelt_metric_is_told_its_neighbour() -> None:
    """An unknown name gets the nearest one and the list."""
    with pytest.raises(TaskError, match=r"no metric 'Faithfullness'.*did you mean 'Faithfulness'\?.*AnswerAccuracy"):
        ragas_metric("Faithfullness")


@pytest.mark.parametrize(
    ("metric", "arguments", "says"),
    [
        ("Faithfulness", {}, r"compares the answer with passages, and none are named.*contexts=\"passages\""),
        ("Faithfulness", {"contexts": ()}, r"none are named"),
        ("Faithfulness", {"contexts": ("a", "a")}, r"contexts=\('a', 'a'\), expected names, each once"),
        ("Faithfulness", {"contexts": ("a", 3)}, r"expected names"),
        ("Faithfulness", {"contexts": 3}, r"contexts=3, expected names"),
        ("Faithfulness", {"contexts": " "}, r"expected names"),
        ("AnswerAccuracy", {"contexts": "a"}, r"AnswerAccuracy looks at no passages. Leave contexts out"),
        ("AnswerAccuracy", {"mode": "f1"}, r"has no argument 'mode'. It takes none"),
        ("AnswerAccuracy", {"max_retries": 9}, r"has no argument 'max_retries'"),
        ("AnswerAccuracy", {"llm": "x"}, r"has no argument 'llm'"),
        ("FactualCorrectness", {"modes": "f1"}, r"has no argument 'modes'. It takes mode, beta, atomicity, coverage"),
        ("FactualCorrectness", {"mode": {1, 2}}, r"arguments must be JSON values"),
        ("FactualCorrectness", {"beta": float("nan")}, r"arguments must be JSON values"),
        ("FactualCorrectness", {"max_tokens": 0}, r"max_tokens=0, expected a whole number above 0"),
        ("FactualCorrectness", {"max_tokens": True}, r"max_tokens=True, expected"),
        ("FactualCorrectness", {"by": ()}, r"by names no judge"),
        ("FactualCorrectness", {"by": ("a", "a")}, r"by=\('a', 'a'\), expected names, each once"),
        ("ExactMatch", {"by": "strict"}, r"ExactMatch asks no model, so by='strict' means nothing"),
        ("AnswerCorrectness", {}, r"similarity of embeddings.*weights=\[1.0, 0.0\]"),
        ("AnswerCorrectness", {"weights": [0.5, 0.5]}, r"similarity of embeddings"),
        ("AnswerCorrectness", {"weights": 1}, r"similarity of embeddings"),
    ],
)
def test_a_declaration_that_means_nothing_is_refused(metric: str, arguments: dict[str, Any], says: str) -> None:
    """What ragas would find out in the middle of a run is found when the suite is read."""
    with pytest.raises(TaskError, match=says):
        ragas_metric(metric, **arguments)


@pytest.mark.parametrize("metric", sorted(name for name, needs in METRICS.items() if not needs.answer))
def test_what_never_sees_the_answer_cannot_block(metric: str) -> None:
    """A metric of retrieval alone is the same for every checkpoint: as a gate it would always pass."""
    with pytest.raises(TaskError, match="never at the answer: no checkpoint could fail it"):
        declared(metric, gate=Gate(margin=0.1))
    assert declared(metric).gate is None


def test_what_sees_the_answer_can_block() -> None:
    """The gate is the scorer's (control of the test above)."""
    gate = Gate(margin=0.1)
    assert declared("Faithfulness", gate=gate).gate is gate


def test_ranges_and_orientation_are_ragas_own() -> None:
    """Rubric metrics grade from 1 to 5, all others from 0 to 1; of noise sensitivity less is better."""
    rubrics = {"DomainSpecificRubrics", "RubricsScoreWithReference", "RubricsScoreWithoutReference"}
    for metric in METRICS:
        scorer = declared(metric)
        assert (scorer.low, scorer.high) == ((1.0, 5.0) if metric in rubrics else (0.0, 1.0))
        assert scorer.metric.higher_is_better == (metric != "NoiseSensitivity")


@pytest.mark.parametrize(
    "changed",
    [
        {"contexts": "other"},
        {"contexts": ("passages", "other")},
        {"mode": "irrelevant"},
        {"max_tokens": 99},
    ],
)
def test_whatever_changes_a_judgement_changes_the_digest(changed: dict[str, Any]) -> None:
    """Metric, arguments, passages and the limit of a reply are identity; the judges' names and the metric's are not."""
    plain = declared("NoiseSensitivity")
    assert instrument(declared("NoiseSensitivity", **changed)).digest != instrument(plain).digest
    renamed = declared("NoiseSensitivity", name="noise", by=("a", "b"))
    assert instrument(renamed).digest == instrument(plain).digest
    assert instrument(renamed).by == ("a", "b")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"a": "text", "b": ["one", "two"]}, None),
        ({"a": "text"}, "the field 'b' holds nothing, expected passages"),
        ({"b": ["x"]}, "the field 'a' holds nothing"),
        ({"a": 3, "b": ["x"]}, "the field 'a' holds a number, expected passages: a text or a list of texts"),
        ({"a": {"x": "y"}, "b": ["x"]}, "the field 'a' holds an object"),
        ({"a": "text", "b": []}, "the field 'b' holds no passages"),
        ({"a": "text", "b": ["x", 3]}, "the field 'b' holds no passages, or one that is empty or no text"),
        ({"a": " ", "b": ["x"]}, "the field 'a' holds no passages"),
    ],
)
def test_samples_without_passages_are_named_before_the_run(fields: dict[str, Any], says: str | None) -> None:
    """Each of the fields holds a text or a list of texts with something in them."""
    check = ragas_metric("Faithfulness", contexts=("a", "b")).check
    assert check is not None
    found = check(sample(None, **fields))
    assert found is None if says is None else found is not None and found.startswith(says)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_what_passes_the_check_can_be_handed_on(value: Any) -> None:
    """Whatever stands in a field: it is a text or a list of texts with words in them, or the check says why not."""
    check = ragas_metric("Faithfulness", contexts="p").check
    assert check is not None
    texts = [value] if isinstance(value, str) else value
    good = isinstance(texts, list) and texts != [] and all(isinstance(t, str) and t.strip() for t in texts)
    assert (check(sample(p=value)) is None) == good


def test_a_reference_is_needed_where_the_metric_compares_with_one() -> None:
    """A missing target is found before the run, an empty one where ragas would take it for missing."""
    compares, matches, alone = (
        declared("AnswerAccuracy"),
        declared("ExactMatch"),
        declared("RubricsScoreWithoutReference"),
    )
    assert compares.check is not None
    assert matches.check is not None
    assert alone.check is not None
    assert "found nothing" in str(compares.check(sample(None)))
    assert compares.check(sample("")) == "the target is empty"
    assert compares.check(sample(4)) is None
    assert matches.check(sample("")) is None
    assert "found nothing" in str(matches.check(sample(None)))
    assert alone.check(sample(None)) is None


def test_no_code_scores_in_its_place() -> None:
    """The scorer's value is the session's to ask for: calling it is an error and no score."""
    with pytest.raises(ScorerError, match="is a judge's"):
        apply(declared("ExactMatch"), Completion("r", "four"), sample())
