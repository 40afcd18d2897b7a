"""Metrics of deepeval, declared without importing it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from evalgate.errors import TaskError
from evalgate.scoring.canary import known_answers
from evalgate.scoring.library import Contexts, Needs, known, library_metric
from evalgate.scoring.scorer import Scorer

if TYPE_CHECKING:
    from evalgate.gate import Gate

REVISION = 1
"""Of `judges/deepeval.py`: how a model is asked on a metric's behalf, and which of its replies count."""
PACKAGE = "deepeval.metrics"
MAX_TOKENS = 2048

_COMMON = ("include_reason", "strict_mode", "threshold")
_PLAIN = {"arguments": _COMMON}
_BLIND = {"arguments": _COMMON, "answer": False, "contexts": "must"}
_NEEDS: dict[str, dict[str, Any]] = {
    "AnswerRelevancyMetric": _PLAIN,
    "BiasMetric": _PLAIN,
    "ContextualPrecisionMetric": {**_BLIND, "reference": True},
    "ContextualRecallMetric": {**_BLIND, "reference": True},
    "ContextualRelevancyMetric": _BLIND,
    "ExactMatchMetric": {"reference": True, "asks": False},
    "FaithfulnessMetric": {
        "arguments": (*_COMMON, "penalize_ambiguous_claims", "truths_extraction_limit"),
        "contexts": "must",
    },
    "GEval": {"arguments": ("evaluation_params", "evaluation_steps", "rubric", "strict_mode", "threshold")},
    "HallucinationMetric": {"arguments": _COMMON, "contexts": "must"},
    "MisuseMetric": {"arguments": (*_COMMON, "domain")},
    "NonAdviceMetric": {"arguments": (*_COMMON, "advice_types")},
    "PIILeakageMetric": _PLAIN,
    "PatternMatchMetric": {"arguments": ("ignore_case", "pattern"), "asks": False},
    "PromptAlignmentMetric": {"arguments": (*_COMMON, "prompt_instructions")},
    "RoleViolationMetric": {"arguments": (*_COMMON, "role")},
    "SummarizationMetric": {"arguments": (*_COMMON, "assessment_questions", "n", "truths_extraction_limit")},
    "ToxicityMetric": _PLAIN,
}
METRICS = {name: Needs(**needs) for name, needs in _NEEDS.items()}
_TALKS = "judges traces and tool calls of an agent, and evalgate's cases are answers: take judge(…)"
_LOOKS = "looks at images, and evalgate's cases are texts"
_JEV = "asks a service that evalgate does not know: take GEval"
UNFIT = {
    "AgentLoopDetectionMetric": _TALKS,
    "ArgumentCorrectnessMetric": _TALKS,
    "DAGMetric": "is a graph of objects that no identity can be read of: take GEval or judge(…)",
    "ImageCoherenceMetric": _LOOKS,
    "ImageEditingMetric": _LOOKS,
    "ImageHelpfulnessMetric": _LOOKS,
    "ImageReferenceMetric": _LOOKS,
    "JevEval": _JEV,
    "JsonCorrectnessMetric": "wants a class of Python: take json_schema(…), which asks no model",
    "MCPUseMetric": _TALKS,
    "PlanAdherenceMetric": _TALKS,
    "PlanQualityMetric": _TALKS,
    "StepEfficiencyMetric": _TALKS,
    "TaskCompletionMetric": _TALKS,
    "TextToImageMetric": _LOOKS,
    "ToolCorrectnessMetric": _TALKS,
    "ToolPermissionMetric": _TALKS,
}
PARAMS = ("input", "actual_output", "expected_output", "context", "retrieval_context")
"""What GEval can be shown of a case, by deepeval's names."""
# Of a metric's constructor: who is asked and how, which is ours to say, and what is for people.
_OURS = ("name", "model", "system_one_model", "eval_mode", "async_mode", "verbose_mode", "flaky", "criteria")


def deepeval_metric(
    metric: str | type | object,
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
    """A metric of deepeval, computed by deepeval in the judges' process; values from 0 to 1, higher is better.

    Args:
        metric: name of a class of `deepeval.metrics`, such as "GEval" or "FaithfulnessMetric"; the class; or a metric
            as a deepeval suite makes it, whose model is not asked. A suite that imports deepeval for it waits some
            seconds longer.
        contexts: name of the sample's field with the passages (a text or a list of texts), or names of several.
        by: name of the judge in `[tool.evalgate.judges.NAME]`, or names of several: a panel, whose mean counts.
        good: answers that are good whatever was asked: canaries, which each session shows the judge.
        bad: answers that are bad whatever was asked, likewise.
        gate: margin and floor; blocks only with a calibration above its own floor.
        name: of the metric, by default deepeval's, such as `faithfulness`.
        max_tokens: of each reply of the judge; a longer one is an error.
        arguments: of the metric's constructor, as JSON values. GEval takes `evaluation_steps`, `evaluation_params` by
            name (`input`, `actual_output`, `expected_output`, `retrieval_context`), and `rubric` as dicts.

    Raises:
        TaskError: no such metric, one that cannot judge answers here (agents, images), arguments that it does not take
            or that are no JSON, GEval without its steps, passages missing or not looked at.
    """
    called, given = _taken_apart(metric)
    where = f"deepeval_metric({called!r:.80})"
    needs = known(called, METRICS, UNFIT, "deepeval", where)
    if given and arguments:
        raise TaskError(
            f"{', '.join(arguments)}: a metric that is made already takes no arguments",
            where=where,
            mend=f'Write deepeval_metric("{called}", …) with all of them.',
        )
    if type(max_tokens) is not int or max_tokens < 1:
        raise TaskError(f"max_tokens={max_tokens!r}, expected a whole number above 0", where=where)
    settled = {key: _plain(value, f"{where}, {key}", called) for key, value in (given or arguments).items()}
    if called == "GEval":
        needs = _of_g_eval(needs, settled, where)
    settings = {"revision": REVISION} | ({"max_tokens": max_tokens} if needs.asks else {})
    return library_metric(
        "deepeval",
        called,
        needs,
        contexts=contexts,
        by=by,
        known=known_answers(good, bad, where),
        gate=gate,
        name=name or _snake(called.removesuffix("Metric")),
        arguments=settled,
        settings=settings,
        where=where,
    )


def _of_g_eval(needs: Needs, arguments: dict[str, Any], where: str) -> Needs:
    """What GEval needs follows from what it is to be shown."""
    steps = arguments.get("evaluation_steps")
    if "criteria" in arguments or not steps:
        raise TaskError(
            "GEval needs evaluation_steps and no criteria: from criteria deepeval has the judge write the steps anew"
            " for every answer, which costs a call each and makes the rubric random",
            where=where,
            mend='Write evaluation_steps=["Check whether …", "…"].',
        )
    if not isinstance(steps, list) or not all(isinstance(step, str) and step.strip() for step in steps):
        raise TaskError("evaluation_steps: expected a list of texts", where=where)
    params = arguments.get("evaluation_params")
    names = [str(param).lower() for param in params] if isinstance(params, list) else []
    if "actual_output" not in names or not set(names) <= set(PARAMS) or len(set(names)) < len(names):
        raise TaskError(
            f"evaluation_params={params!r:.120}, expected what the judge sees: actual_output among {', '.join(PARAMS)}",
            where=where,
            mend='Write evaluation_params=["input", "actual_output", "expected_output"].',
        )
    arguments["evaluation_params"] = names
    contexts = {"context", "retrieval_context"} & set(names)
    return replace(needs, reference="expected_output" in names, contexts="must" if contexts else "never")


def _taken_apart(metric: str | type | object) -> tuple[str, dict[str, Any]]:
    """Name of a metric's class and, of one that is made, the arguments that it was made with; defaults are left out."""
    if isinstance(metric, str):
        return metric, {}
    made = metric if isinstance(metric, type) else type(metric)
    if not f"{made.__module__}.".startswith(f"{PACKAGE}."):
        raise TaskError(
            f"{made.__module__}.{made.__qualname__:.80} is no metric of {PACKAGE}",
            where="deepeval_metric",
            mend=_form(made.__name__),
        )
    if isinstance(metric, type):
        return made.__name__, {}
    found = {}
    for name, parameter in inspect.signature(made).parameters.items():
        # GEval keeps criteria beside steps: those that were given with steps change nothing.
        if name in _OURS and not (name == "criteria" and not getattr(metric, "evaluation_steps", None)):
            continue
        value = getattr(metric, name, parameter.default)
        if value is parameter.empty:
            raise TaskError(
                f"{made.__name__} does not keep its argument {name}", where="deepeval_metric", mend=_form(made.__name__)
            )
        default = parameter.default
        if value is not default and (
            default is parameter.empty or type(value) is not type(default) or value != default
        ):
            found[name] = value
    return made.__name__, found


def _plain(value: Any, where: str, metric: str) -> Any:
    """A value as JSON has it: members of enumerations by their values, models of pydantic as objects."""
    if isinstance(value, Enum):
        value = value.value
    if callable(dump := getattr(value, "model_dump", None)):
        value = dump(mode="json")
    if isinstance(value, list | tuple):
        return [_plain(item, where, metric) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(item, where, metric) for key, item in value.items()}
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TaskError(
        f"{type(value).__name__} cannot be read as JSON, and what is no JSON has no identity",
        where=where,
        mend=_form(metric),
    )


def _form(metric: str) -> str:
    return f'Write the name and the arguments: deepeval_metric("{metric}", argument=…), all of them JSON values.'


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
