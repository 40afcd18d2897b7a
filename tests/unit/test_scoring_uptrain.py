"""What `uptrain_metric` makes of a declaration, and what it refuses before anything runs."""

from __future__ import annotations

import re
import subprocess
import sys
from enum import Enum
from typing import Any

import pytest

from evalgate import uptrain_metric
from evalgate.errors import TaskError
from evalgate.instrument import DEFAULT
from evalgate.scoring import Scorer
from evalgate.scoring.uptrain import CHECKS, MAX_TOKENS, UNFIT
from evalgate.task import Sample


class Evals(Enum):
    """As UpTrain has it."""

    VALID_RESPONSE = "valid_response"


def declared(check: str, **more: Any) -> Scorer:
    contexts = {"contexts": "page"} if CHECKS[check].contexts == "must" else {}
    guideline = {"guideline": "Say please."} if check == "guideline_adherence" else {}
    return uptrain_metric(check, **{**contexts, **guideline, **more})


@pytest.mark.parametrize("check", sorted(CHECKS))
def test_every_check_can_be_declared_by_its_name(check: str) -> None:
    """A name, and context or guideline where they are needed, are a whole declaration."""
    scorer = declared(check)
    assert scorer.judge is not None
    assert (scorer.name, scorer.low, scorer.high) == (check, 0.0, 1.0)
    assert scorer.judge.kind == "uptrain"
    assert scorer.judge.by == (DEFAULT,)
    assert scorer.judge.settings["max_tokens"] == MAX_TOKENS
    assert scorer.judge.reference is False
    assert scorer.judge.asks is True


def test_a_member_of_the_enumeration_is_its_value() -> None:
    """`Evals.VALID_RESPONSE` and its text are the same check."""
    by_member, by_text = uptrain_metric(Evals.VALID_RESPONSE, name="valid"), uptrain_metric("valid_response")
    assert by_member.judge is not None
    assert by_text.judge is not None
    assert by_member.judge.digest == by_text.judge.digest
    assert by_member.name == "valid"


def test_declaring_imports_no_uptrain() -> None:
    """The suite needs nothing of UpTrain: it may live in another interpreter altogether."""
    code = (
        "import sys; from evalgate import uptrain_metric; uptrain_metric('valid_response');"
        "assert not {'uptrain', 'polars', 'litellm', 'openai'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("check", sorted(UNFIT))
def test_checks_that_cannot_judge_answers_say_why(check: str) -> None:
    """What looks at questions alone, gives several numbers or asks UpTrain's own server is refused."""
    with pytest.raises(TaskError, match=re.escape(f"{check} {UNFIT[check][:40]}")):
        uptrain_metric(check)


@pytest.mark.parametrize(
    ("check", "arguments", "says"),
    [
        ("valid_responses", {}, r"no metric 'valid_responses'.*did you mean 'valid_response'\?"),
        ("factual_accuracy", {}, r"compares the answer with passages, and none are named"),
        ("valid_response", {"contexts": "page"}, r"looks at no passages"),
        (
            "valid_response",
            {"guideline": "x"},
            r"has no argument 'guideline'. It takes eval_type, scenario_description",
        ),
        ("valid_response", {"max_tokens": -1}, r"max_tokens=-1, expected a whole number above 0"),
        ("valid_response", {"eval_type": "tot"}, r"eval_type='tot', expected 'cot' or 'basic'"),
        ("guideline_adherence", {}, r"there is no guideline to adhere to.*guideline="),
        ("guideline_adherence", {"guideline": ""}, r"there is no guideline"),
    ],
)
def test_a_declaration_that_means_nothing_is_refused(check: str, arguments: dict[str, Any], says: str) -> None:
    """What UpTrain would find out in the middle of a run is found when the suite is read."""
    with pytest.raises(TaskError, match=says):
        uptrain_metric(check, **arguments)


def test_samples_without_context_are_named_before_the_run() -> None:
    """The context stands in the named field, and no target is needed."""
    scorer = declared("factual_accuracy")
    assert scorer.check is not None
    assert scorer.check(Sample("s-1", {"page": "It is red."})) is None
    assert scorer.check(Sample("s-1", {})) == (
        "the field 'page' holds nothing, expected passages: a text or a list of texts"
    )


@pytest.mark.parametrize("changed", [{"scenario_description": "A shop."}, {"eval_type": "basic"}, {"max_tokens": 9}])
def test_whatever_changes_a_judgement_changes_the_digest(changed: dict[str, Any]) -> None:
    """Arguments and the limit of a reply are identity."""
    judge, other = declared("valid_response").judge, declared("valid_response", **changed).judge
    assert judge is not None
    assert other is not None
    assert judge.digest != other.digest
