"""The door of UpTrain (legacy): its checks, in the judges' process. No other module imports it.

UpTrain's `EvalLLM` posts every row to a port of this machine, sends checks that it does not know to its makers' server,
keeps one operator per check for all threads, waits for a random minute between tries, and cuts JSON out of whatever a
model wrote. So its operators run here without it, and each asks through our client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from types import SimpleNamespace
from typing import Any

from openai import AsyncOpenAI
from uptrain.framework.base import Settings
from uptrain.framework.evalllm import EVAL_TO_OPERATOR_MAPPING, PARAMETRIC_EVAL_TO_OPERATOR_MAPPING
from uptrain.framework.evals import Evals
from uptrain.operators.language.llm import LLMMulticlient, Payload

from evalgate.judges.reply import ask

PARAMETRIC = {"critique_tone": "CritiqueTone", "guideline_adherence": "GuidelineAdherence"}
THREADS = ThreadPoolExecutor(32, "uptrain")
"""Not the loop's own threads: our client needs one of those to send the very question that they would wait for."""
NOWHERE = "http://127.0.0.1:9"
"""Where nothing listens, in place of UpTrain's servers."""


async def measure(
    spec: Mapping[str, Any], case: Mapping[str, Any], client: AsyncOpenAI | None, model: str | None
) -> tuple[float, str | None]:
    """Score and reason of one check for one case.

    Args:
        spec: settings of `uptrain_metric`: metric, arguments, contexts and max_tokens.
        case: question, answer and fields.
        client: of the gateway, without retries of its own.
        model: what the gateway calls the judge.

    Raises:
        ValueError: UpTrain gave no score, or there is no model to ask.
        Exception: whatever UpTrain or the model's side did wrong.
    """
    if client is None or model is None:
        raise ValueError("every check of UpTrain asks a model, and there is none")
    judge = Judge(client, model, spec["max_tokens"], asyncio.get_running_loop())
    run = partial(copy_context().run, _run, spec, case, judge)
    found = await judge.loop.run_in_executor(THREADS, run)  # an operator blocks until it has its replies
    score, reason = (
        next((found[name] for name in found if name.startswith(prefix)), None) for prefix in ("score_", "explanation_")
    )
    if score is None:
        raise ValueError("UpTrain gave no score")
    return score, reason


class Judge(LLMMulticlient):  # type: ignore[misc]
    """UpTrain's way to models, through our client and on its loop; the first failure ends the check."""

    def __init__(self, client: AsyncOpenAI, model: str, max_tokens: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.client, self.model, self.max_tokens, self.loop = client, model, max_tokens, loop
        self.settings = _settings("cot")

    def fetch_responses(
        self, input_payloads: list[Payload], validate_func: Callable[[dict[str, Any]], bool] | None = None
    ) -> list[Payload]:
        """The payloads with their replies; called by operators in a thread of their own."""
        for payload in input_payloads:
            answer = self._answer(payload.data["messages"][0]["content"], validate_func)
            payload.response = asyncio.run_coroutine_threadsafe(answer, self.loop).result()
        return input_payloads

    async def _answer(self, prompt: str, valid: Callable[[dict[str, Any]], bool] | None) -> Any:
        """One reply in the form in which operators read it."""
        text, reply = await ask(self.client, self.model, prompt, self.max_tokens)
        try:
            fits = (valid is None or valid(reply)) and not isinstance(reply.get("Score"), bool)
        except (LookupError, TypeError, AttributeError):  # of a reply that lacks what is looked up
            fits = False
        if not fits:
            raise ValueError(f"the judge's reply is not what UpTrain asks for: {text[:120]!r}")
        return SimpleNamespace(choices=[SimpleNamespace(message=SimpleNamespace(content=text))])


def _run(spec: Mapping[str, Any], case: Mapping[str, Any], judge: Judge) -> dict[str, Any]:
    """The one row that UpTrain's operator makes of a case."""
    import polars  # which comes with UpTrain: at the top its absence would be told before UpTrain's

    arguments = dict(spec["arguments"])
    settings = _settings(arguments.pop("eval_type", "cot"))
    name = spec["metric"]
    if name in PARAMETRIC:
        kind = PARAMETRIC_EVAL_TO_OPERATOR_MAPPING[PARAMETRIC[name]]
    else:
        kind = type(EVAL_TO_OPERATOR_MAPPING[Evals(name)])
    operator = kind(**arguments).setup(settings)
    operator._api_client = judge
    row = {"question": case["question"], "response": case["answer"], "context": _context(spec, case)}
    rows: list[dict[str, Any]] = operator.run(polars.DataFrame([row]))["output"].to_dicts()
    return rows[0]


def _context(spec: Mapping[str, Any], case: Mapping[str, Any]) -> str:
    values = [case["fields"][name] for name in spec["contexts"]]
    return "\n".join(text for value in values for text in ([value] if isinstance(value, str) else value))


def _settings(eval_type: str) -> Settings:
    """Neither keys nor servers, whatever the environment says."""
    return Settings(
        model="judge",
        eval_type=eval_type,
        evaluate_locally=True,
        uptrain_access_token="",
        uptrain_server_url=NOWHERE,
        uptrain_local_url=NOWHERE,
    )
