"""Metrics of ragas, declared without importing it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from evalgate.errors import TaskError
from evalgate.scoring.canary import known_answers
from evalgate.scoring.library import Contexts, Needs, known, library_metric
from evalgate.scoring.scorer import Scorer

if TYPE_CHECKING:
    from evalgate.gate import Gate

REVISION = 1
"""Of `judges/ragas.py`: how a model is asked on a metric's behalf, and which of its replies count."""
PACKAGE = "ragas.metrics.collections"
MAX_TOKENS = 2048

_BLIND = {"answer": False, "contexts": "must"}
_RUBRICS = {"contexts": "may", "arguments": ("rubrics",), "low": 1.0, "high": 5.0}
_CODE = {"reference": True, "asks": False}
_NEEDS: dict[str, dict[str, Any]] = {
    "AnswerAccuracy": {"reference": True},
    "AnswerCorrectness": {"reference": True, "arguments": ("weights", "beta")},
    "BleuScore": {**_CODE, "arguments": ("kwargs",)},
    "CHRFScore": {**_CODE, "arguments": ("kwargs",)},
    "ContextEntityRecall": {**_BLIND, "reference": True},
    "ContextPrecision": {**_BLIND, "reference": True},
    "ContextPrecisionWithReference": {**_BLIND, "reference": True},
    "ContextPrecisionWithoutReference": {"contexts": "must"},
    "ContextRecall": {**_BLIND, "reference": True},
    "ContextRelevance": _BLIND,
    "ContextUtilization": {"contexts": "must"},
    "DomainSpecificRubrics": _RUBRICS,
    "ExactMatch": _CODE,
    "FactualCorrectness": {"reference": True, "arguments": ("mode", "beta", "atomicity", "coverage")},
    "Faithfulness": {"contexts": "must"},
    "NoiseSensitivity": {"reference": True, "contexts": "must", "arguments": ("mode",), "higher_is_better": False},
    "NonLLMStringSimilarity": {**_CODE, "arguments": ("distance_measure",)},
    "QuotedSpansAlignment": {"asks": False, "contexts": "must", "arguments": ("casefold", "min_span_words")},
    "ResponseGroundedness": {"contexts": "must"},
    "RougeScore": {**_CODE, "arguments": ("rouge_type", "mode")},
    "RubricsScoreWithReference": {**_RUBRICS, "reference": True},
    "RubricsScoreWithoutReference": _RUBRICS,
    "SQLSemanticEquivalence": {"reference": True, "contexts": "may"},
    "StringPresence": _CODE,
    "SummaryScore": {"contexts": "must", "arguments": ("length_penalty", "coeff")},
}
METRICS = {name: Needs(**needs) for name, needs in _NEEDS.items()}
_EMBEDS = "compares embeddings, and evalgate runs no embedding model: take FactualCorrectness or AnswerAccuracy"
_TALKS = "judges messages and tool calls of an agent, and evalgate's cases are answers: take judge(…)"
_LOOKS = "looks at images, and evalgate's cases are texts"
UNFIT = {
    "AgentGoalAccuracy": _TALKS,
    "AgentGoalAccuracyWithReference": _TALKS,
    "AgentGoalAccuracyWithoutReference": _TALKS,
    "AnswerRelevancy": _EMBEDS,
    "DataCompyScore": "compares tables with a library that ragas does not bring: take function(…)",
    "InstanceSpecificRubrics": "wants rubrics with each sample: take RubricsScoreWithReference, with the same for all",
    "MultiModalFaithfulness": _LOOKS,
    "MultiModalRelevance": _LOOKS,
    "SemanticSimilarity": _EMBEDS,
    "ToolCallAccuracy": _TALKS,
    "ToolCallF1": _TALKS,
    "TopicAdherence": _TALKS,
}


def ragas_metric(
    metric: str | type,
    *,
    contexts: Contexts = None,
    by: str | Sequence[str] | None = None,
    good: Sequence[str] = (),
    bad: Sequence[str] = (),
    gate: Gate | None = None,
    name: str | None = None,
    max_tokens: int = MAX_TOKENS,
    **arguments: Any,
) -> Scorer:
    """A metric of `ragas.metrics.collections`, computed by ragas in the judges' process.

    Values are from 0 to 1, of the rubric metrics from 1 to 5. Whatever ragas turns into "not a number", leaves out of a
    mean or asks again is an error here. An empty answer is shown as one blank, since ragas refuses the empty text.

    Args:
        metric: its name, or the class; a suite that imports ragas for it waits some seconds longer.
        contexts: name of the sample's field with the passages (a text or a list of texts), or names of several.
        by: name of the judge in `[tool.evalgate.judges.NAME]`, or names of several: a panel, whose mean counts.
        good: answers that are good whatever was asked: canaries, which each session shows the judge.
        bad: answers that are bad whatever was asked, likewise.
        gate: margin and floor; blocks only with a calibration above its own floor.
        name: of the metric, by default ragas's, such as `factual_correctness`.
        max_tokens: of each reply of the judge; a longer one is an error.
        arguments: of the metric's constructor, such as `mode="precision"`, as JSON values.

    Raises:
        TaskError: no such metric, one that cannot judge answers here (embeddings, agents, images), arguments that it
            does not take, passages missing or not looked at, a gate on what never sees the answer.
    """
    called = _called(metric)
    where = f"ragas_metric({called!r:.80})"
    needs = known(called, METRICS, UNFIT, "ragas", where)
    if called == "AnswerCorrectness" and not _facts_alone(arguments.get("weights")):
        raise TaskError(
            "weighs in the similarity of embeddings, and evalgate runs no embedding model",
            where=where,
            mend="Write weights=[1.0, 0.0].",
        )
    settings = {"revision": REVISION} | ({"max_tokens": max_tokens} if needs.asks else {})
    return library_metric(
        "ragas",
        called,
        needs,
        contexts=contexts,
        by=by,
        known=known_answers(good, bad, where),
        gate=gate,
        name=name or _snake(called),
        arguments=arguments,
        settings=settings,
        where=where,
    )


def _called(metric: str | type) -> str:
    """Name of a metric, of a class without importing anything."""
    if isinstance(metric, str):
        return metric
    if isinstance(metric, type) and f"{metric.__module__}.".startswith(f"{PACKAGE}."):
        return metric.__name__
    raise TaskError(
        f"{metric!r:.120} is no class of {PACKAGE}",
        where="ragas_metric",
        mend='Write the metric\'s name, such as ragas_metric("Faithfulness", contexts="passages"):'
        " evalgate makes the object, with its own judge.",
    )


def _facts_alone(weights: Any) -> bool:
    """Whether similarity of embeddings weighs nothing; ragas' own weights are .75 and .25."""
    return isinstance(weights, list | tuple) and len(weights) == 2 and weights[1] == 0


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
