"""The door of deepeval: its metrics for single answers, in the judges' process. No other module imports it.

A metric is asked with `a_measure`, a new object for every case: deepeval's own `evaluate` writes test runs and turns
errors into missing scores.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deepeval import metrics
from deepeval.metrics.g_eval.utils import Rubric
from deepeval.models import DeepEvalBaseLLM
from deepeval.test_case import LLMTestCase, SingleTurnParams
from openai import AsyncOpenAI, pydantic_function_tool

from evalgate.judges.reply import ask

if TYPE_CHECKING:
    from pydantic import BaseModel

NO_ANSWER = " "
"""An empty answer: deepeval refuses the empty text, and an answer that says nothing is the model's all the same."""


async def measure(
    spec: Mapping[str, Any], case: Mapping[str, Any], client: AsyncOpenAI | None, model: str | None
) -> tuple[float, str | None]:
    """Value and reason of one metric for one case.

    Args:
        spec: settings of `deepeval_metric`: metric, arguments, contexts, and max_tokens where a model is asked.
        case: question, answer, reference and fields.
        client: of the gateway, without retries of its own; `None` for metrics that ask no model.
        model: what the gateway calls the judge.

    Raises:
        Exception: whatever deepeval or the model's side did wrong; a score that is no number is found by the worker.
    """
    judge = Judge(client, model, spec["max_tokens"]) if client is not None and model is not None else None
    metric = _metric(spec, judge)
    await metric.a_measure(_shown(spec, case), _show_indicator=False)
    return metric.score, metric.reason


class Judge(DeepEvalBaseLLM):  # type: ignore[misc]
    """Asks for the schema and takes nothing else.

    Attributes:
        grades: lowest and highest that GEval's prompt asks for, where its schema has any number.
    """

    grades: tuple[int, int] | None = None

    def __init__(self, client: AsyncOpenAI, model: str, max_tokens: int) -> None:
        self.client, self.max_tokens = client, max_tokens
        super().__init__(model)

    def load_model(self) -> AsyncOpenAI:
        """There is nothing to load."""
        return self.client

    def get_model_name(self) -> str:
        """For deepeval's own words."""
        return str(self.name)

    def generate(self, prompt: str, schema: type[BaseModel] | None = None) -> BaseModel:
        """Never called: metrics are measured by `a_measure`."""
        raise NotImplementedError

    async def a_generate(self, prompt: str, schema: type[BaseModel] | None = None) -> BaseModel:
        """The reply as deepeval's own object; what is none is never read twice, as deepeval's reader of prose would."""
        if schema is None:
            raise ValueError("the metric asks without a schema, so nobody can tell what a good reply is")
        strict: dict[str, Any] = {**pydantic_function_tool(schema)["function"]["parameters"]}
        if self.grades and "score" in strict["properties"]:
            low, high = self.grades
            strict["properties"]["score"] = {"type": "number", "minimum": low, "maximum": high}  # else it may never end
        text, _ = await ask(self.client, str(self.name), prompt, self.max_tokens, strict)
        return schema.model_validate_json(text, strict=True)


def _metric(spec: Mapping[str, Any], judge: Judge | None) -> metrics.BaseMetric:
    made = getattr(metrics, spec["metric"])
    arguments = dict(spec["arguments"])
    if "evaluation_params" in arguments:
        arguments["evaluation_params"] = [SingleTurnParams(name) for name in arguments["evaluation_params"]]
    if "rubric" in arguments:
        arguments["rubric"] = [Rubric(**grade) for grade in arguments["rubric"] or ()]
    takes = inspect.signature(made).parameters
    ours = {"name": "judge", "model": judge}
    metric: metrics.BaseMetric = made(**arguments, **{name: value for name, value in ours.items() if name in takes})
    if judge is not None and isinstance(metric, metrics.GEval):
        judge.grades = (0, 1) if metric.strict_mode else metric.score_range
    return metric


def _shown(spec: Mapping[str, Any], case: Mapping[str, Any]) -> LLMTestCase:
    """The case by deepeval's names."""
    passages: list[str] = []
    for name in spec["contexts"]:
        value = case["fields"][name]
        passages += [value] if isinstance(value, str) else value
    shown = LLMTestCase(
        input=case["question"],
        actual_output=case["answer"] or NO_ANSWER,
        expected_output=case["reference"],
        context=passages or None,
        retrieval_context=passages or None,
    )
    shown.multimodal = False  # else "[DEEPEVAL:IMAGE:…]" in an answer is taken for a picture to open
    return shown
