"""Checks of UpTrain, declared without importing it. Legacy: upstream abandoned it in 2024."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any

from evalgate.errors import TaskError
from evalgate.scoring.canary import known_answers
from evalgate.scoring.library import Contexts, Needs, known, library_metric
from evalgate.scoring.scorer import Scorer

if TYPE_CHECKING:
    from evalgate.gate import Gate

REVISION = 1
"""Of `judges/uptrain.py`: how a model is asked on a check's behalf, and which of its replies count."""
MAX_TOKENS = 1024

_ALL = ("eval_type", "scenario_description")
CHECKS = {
    "critique_tone": Needs(arguments=(*_ALL, "llm_persona")),
    "factual_accuracy": Needs(arguments=_ALL, contexts="must"),
    "guideline_adherence": Needs(arguments=(*_ALL, "guideline", "response_schema")),
    "response_completeness": Needs(arguments=_ALL),
    "response_completeness_wrt_context": Needs(arguments=_ALL, contexts="must"),
    "response_conciseness": Needs(arguments=_ALL),
    "response_consistency": Needs(arguments=_ALL, contexts="must"),
    "valid_response": Needs(arguments=_ALL),
}
_SERVER = "is computed on UpTrain's own server, and evalgate sends nothing there"
_BLIND = "never looks at the answer"
_COMBINED = "combines checks that cannot be asked one by one: take factual_accuracy or judge(…)"
UNFIT = {
    "code_hallucination": "finds faults, so more of it is worse: take factual_accuracy or judge(…)",
    "context_conciseness": _BLIND,
    "context_relevance": _BLIND,
    "context_reranking": _BLIND,
    "critique_language": "gives four numbers: take judge(…) with a rubric for the one you mean",
    "multi_query_accuracy": _BLIND,
    "prompt_injection": _BLIND,
    "question_completeness": _BLIND,
    "response_alignment_with_scenario": _SERVER,
    "response_matching": _COMBINED,
    "response_relevance": _COMBINED,
    "response_sincerity_with_scenario": _SERVER,
    "sub_query_completeness": _BLIND,
}


def uptrain_metric(
    check: str | Enum,
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
    """A check of UpTrain, computed by UpTrain in the judges' process; 0 to 1. Legacy.

    UpTrain has had no release since 2024 and has an extra of its own, `pytest-evalgate[uptrain]`, best in an
    interpreter of its own. For new suites take `judge(…)`. Where UpTrain gives no score, there is an error and no 0.

    Args:
        check: value of `uptrain.Evals`, such as `factual_accuracy`, or its member.
        contexts: name of the sample's field with the context (a text or a list of texts), or names of several.
        by: name of the judge in `[tool.evalgate.judges.NAME]`, or names of several: a panel, whose mean counts.
        good: answers that are good whatever was asked: canaries, which each session shows the judge.
        bad: answers that are bad whatever was asked, likewise.
        gate: margin and floor; blocks only with a calibration above its own floor.
        name: of the metric, by default the check's.
        max_tokens: of each reply of the judge; a longer one is an error.
        arguments: `scenario_description`, `eval_type` ("cot" or "basic") and what the check takes, such as `guideline`.

    Raises:
        TaskError: no such check, one that gives no number for an answer or asks UpTrain's server, arguments that it
            does not take, a context missing or not looked at.
    """
    called = check.value if isinstance(check, Enum) else check
    where = f"uptrain_metric({called!r:.80})"
    needs = known(called, CHECKS, UNFIT, "UpTrain", where)
    if called == "guideline_adherence" and not arguments.get("guideline"):
        raise TaskError("there is no guideline to adhere to", where=where, mend='Write guideline="…".')
    if (way := arguments.get("eval_type", "cot")) not in ("cot", "basic"):
        raise TaskError(f"eval_type={way!r:.80}, expected 'cot' or 'basic'", where=where)
    return library_metric(
        "uptrain",
        called,
        needs,
        contexts=contexts,
        by=by,
        known=known_answers(good, bad, where),
        gate=gate,
        name=name or called,
        arguments=arguments,
        settings={"revision": REVISION, "max_tokens": max_tokens},
        where=where,
    )
