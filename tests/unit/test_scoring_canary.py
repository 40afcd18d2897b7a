"""Answers of which a suite knows what they are, for judges of every kind."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from evalgate.errors import TaskError
from evalgate.instrument import Case
from evalgate.judges.canaries import canaries
from evalgate.scoring import Scorer, deepeval_metric, judge, promptfoo, ragas_metric, uptrain_metric

STEPS: dict[str, Any] = {"evaluation_steps": ["Compare."], "evaluation_params": ["actual_output"]}
KINDS: dict[str, Callable[..., Scorer]] = {
    "native": partial(judge, "Is it polite?", reference=False),
    "deepeval": partial(deepeval_metric, "GEval", name="g", **STEPS),
    "ragas": partial(ragas_metric, "AnswerAccuracy"),
    "promptfoo": partial(promptfoo, [{"type": "llm-rubric", "value": "It is polite."}]),
    "uptrain": partial(uptrain_metric, "response_completeness"),
}
CASE = Case("s1", "Say hello.", "hello", "hello")


def made(kind: str, **known: Any) -> Scorer:
    """A judge of a kind with canaries of its own."""
    return KINDS[kind](**known)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_takes_canaries_of_its_own(kind: str) -> None:
    """They are shown among the session's cases, each with what it has to come out as, and change no identity."""
    scorer = made(kind, good=["You are welcome."], bad=["Go away."])
    assert scorer.judge is not None
    shown = {canary.case.answer: canary.good for canary in canaries(scorer.judge, [CASE])}
    assert shown["You are welcome."] is True
    assert shown["Go away."] is False
    bare = made(kind).judge
    assert bare is not None
    assert bare.digest == scorer.judge.digest


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "native"])
def test_libraries_have_no_other_canaries(kind: str) -> None:
    """Whether a library's metric minds an empty answer is its own affair: nothing is guessed."""
    bare = made(kind).judge
    assert bare is not None
    assert canaries(bare, [CASE]) == ()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"good": "hello"}, "good is the text 'hello', expected a list"),
        ({"bad": ["no", "no"]}, "bad names 'no' twice"),
        ({"bad": [3]}, "expected a list of texts"),
        ({"good": ["x"], "bad": ["x"]}, "'x' is said to be good and bad"),
    ],
)
def test_canaries_that_mean_nothing_are_refused(kind: str, known: dict[str, Any], message: str) -> None:
    """One text where a list is meant, an answer twice, or on both sides."""
    with pytest.raises(TaskError, match=message):
        made(kind, **known)


def test_a_metric_that_is_better_lower_takes_none() -> None:
    """Good is above the middle of the range: of such a metric it would be read upside down."""
    with pytest.raises(TaskError, match="NoiseSensitivity is better where it is lower"):
        ragas_metric("NoiseSensitivity", contexts="page", good=["x"])
