"""The door of ragas: metrics of `ragas.metrics.collections`, in the judges' process. No other module imports it.

ragas' own `evaluate` turns every exception into NaN and leaves it out of the mean, and the metrics that ask two judges
go on with one of them where the other fails. Here the first failure of a model is the failure of the metric.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from openai import AsyncOpenAI
from pydantic import BaseModel
from ragas.llms.base import InstructorBaseRagasLLM
from ragas.metrics import collections

from evalgate.judges.reply import ask

_BINARY = {"enum": [0, 1]}
_GRADED = {"rating": {"enum": [0, 1, 2]}}
_SOME = {"statements": {"minItems": 1}}
# What ragas says in its prompts and not in its schemas, by model and field: any whole number would do there, and an
# empty list of verdicts would count as "no claim is right".
NARROWER: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "AnswerAccuracyOutput": {"rating": {"enum": [0, 2, 4]}},
    "ContextPrecisionOutput": {"verdict": _BINARY},
    "ContextRecallClassification": {"attributed": _BINARY},
    "ContextRelevanceOutput": _GRADED,
    "NLIStatementOutput": _SOME,
    "ResponseGroundednessOutput": _GRADED,
    "RubricScoreOutput": {"score": {"enum": [1, 2, 3, 4, 5]}},
    "StatementFaithfulnessAnswer": {"verdict": _BINARY},
    "StatementFaithfulnessOutput": _SOME,
    "AnswersGenerated": {"answers": {"minItems": 1, "items": {"enum": ["0", "1"]}}},
}


ROUNDING = 1e-9
BLANK = " "
"""An empty answer, for metrics that ask: they refuse the empty text, and to say nothing is an answer all the same."""


async def measure(
    spec: Mapping[str, Any], case: Mapping[str, Any], client: AsyncOpenAI | None, model: str | None
) -> tuple[float, str | None]:
    """Value and reason of one metric for one case.

    Args:
        spec: settings of `ragas_metric`: metric, arguments, contexts, and max_tokens where a model is asked.
        case: question, answer, reference and fields.
        client: of the gateway, without retries of its own; `None` for metrics that ask no model.
        model: what the gateway calls the judge.

    Raises:
        Exception: whatever ragas or the model's side did wrong; a value that is no number is found by the worker.
    """
    judge = Judge(client, model, spec["max_tokens"]) if client is not None and model is not None else None
    metric = _metric(spec, judge)
    if judge is not None and not case["answer"]:
        case = {**case, "answer": BLANK}
    result = await metric.ascore(**_shown(metric, spec, case))
    if judge is not None and judge.failure is not None:
        raise judge.failure
    return _rounded(result.value, metric), result.reason


class Judge(InstructorBaseRagasLLM):
    """Asks for the schema, takes nothing else, and remembers the first failure, which metrics may swallow."""

    def __init__(self, client: AsyncOpenAI, model: str, max_tokens: int) -> None:
        self.client, self.model, self.max_tokens = client, model, max_tokens
        self.failure: Exception | None = None

    async def agenerate(self, prompt: str, response_model: type[BaseModel]) -> BaseModel:
        """The reply as ragas' own object."""
        try:
            schema = narrowed(response_model.model_json_schema())
            text, _ = await ask(self.client, self.model, prompt, self.max_tokens, schema)
            return response_model.model_validate_json(text, strict=True)
        except Exception as error:
            self.failure = self.failure or error
            raise

    def generate(self, prompt: str, response_model: type[BaseModel]) -> BaseModel:
        """Never called: metrics are computed by `ascore`."""
        raise NotImplementedError


def _metric(spec: Mapping[str, Any], judge: Judge | None) -> collections.BaseMetric:
    made = getattr(collections, spec["metric"])
    arguments = dict(spec["arguments"])
    takes = inspect.signature(made).parameters
    if "llm" in takes:
        arguments["llm"] = judge
    if "max_retries" in takes:  # the same question again, decoded without chance, gets the same reply
        arguments["max_retries"] = 1
    if "distance_measure" in arguments:
        arguments["distance_measure"] = collections.DistanceMeasure(arguments["distance_measure"])
    metric: collections.BaseMetric = made(**arguments)
    return metric


def _shown(metric: collections.BaseMetric, spec: Mapping[str, Any], case: Mapping[str, Any]) -> dict[str, Any]:
    """What of the case the metric asks for, by ragas' names."""
    passages: list[str] = []
    for name in spec["contexts"]:
        value = case["fields"][name]
        passages += [value] if isinstance(value, str) else value
    given = {"user_input": case["question"], "response": case["answer"], "reference": case["reference"]}
    takes = inspect.signature(metric.ascore).parameters
    if passages:  # by one name: rubric metrics take either and would show them twice
        given["retrieved_contexts" if "retrieved_contexts" in takes else "reference_contexts"] = passages
    return {name: value for name, value in given.items() if name in takes and value is not None}


def _rounded(value: Any, metric: collections.BaseMetric) -> Any:
    """The value, moved onto an end of its range where arithmetic has missed it: BLEU of equal texts is above 1."""
    ends = metric.allowed_values if isinstance(metric.allowed_values, tuple) else ()
    return next((end for end in ends if isinstance(value, float) and abs(value - end) <= ROUNDING), value)


def narrowed(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a reply with what ragas leaves to the prompt."""
    for part in (schema, *schema.get("$defs", {}).values()):
        for field, more in NARROWER.get(part.get("title", ""), {}).items():
            part["properties"][field] = part["properties"][field] | more
    return schema
