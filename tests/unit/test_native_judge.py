"""Our own judge: what is asked for a job, and what is made of what comes back."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalgate.checkpoint import Checkpoint
from evalgate.digest import digest
from evalgate.engines.fake import FakeEngine
from evalgate.instrument import Case, Job, Judgement, JudgeModel
from evalgate.judges import native
from evalgate.judges.prompt import messages
from evalgate.request import Completion
from evalgate.scoring import Scorer, judge, prefer

WEIGHTS = Checkpoint("judge-v1", None, "full", digest("w"), digest("t"), None, "LlamaForCausalLM", 2048)
MODEL = JudgeModel("ours", WEIGHTS, digest("engine"), special=("QQ",))
CASE = Case("s-7", "2 + 2? QQ", "4", reference="four", other="5")
LOG = st.floats(-60, 0)
GRADES = st.lists(LOG, min_size=5, max_size=5)
CHOICES = st.lists(LOG, min_size=3, max_size=3)


def job(scorer: Scorer, case: Case = CASE) -> Job:
    assert scorer.judge is not None
    return Job(scorer.judge, case, MODEL)


GRADE, REASON, PREFER = job(judge("Right?")), job(judge("Right?", explain=True)), job(prefer())


def scored(*logprobs: float) -> Completion:
    return Completion("r", finish="score", logprobs=logprobs)


def wrote(text: str, finish: str = "stop") -> Completion:
    return Completion("r", text=text, finish=finish)


def value(judgement: Judgement) -> float:
    assert judgement.error is None
    assert judgement.value is not None
    return judgement.value


def test_a_grade_is_one_request_for_all_labels() -> None:
    """The likelihoods of the scale's grades after the rendered conversation, to which nothing is added."""
    (conversation,) = native.conversations(GRADE)
    request = native.request(GRADE, conversation, "<|user|>…")
    assert (request.prompt, request.messages, request.special_tokens) == ("<|user|>…", None, False)
    assert request.continuations == ("1", "2", "3", "4", "5")
    assert request.checkpoint == WEIGHTS.digest
    assert request.json_schema is None


def test_endpoints_get_the_conversation() -> None:
    """Where the engine applies a template that nobody here sees, messages take the prompt's place."""
    (conversation,) = native.conversations(GRADE)
    request = native.request(GRADE, conversation)
    assert (request.prompt, request.messages, len(request.continuations)) == ("", conversation, 5)


def test_a_reason_is_one_generation_in_json() -> None:
    """Greedy, bounded, reason first, and no other grade than the scale's."""
    scale = job(judge("Right?", scale={-1: "no", 3: "yes"}, explain=True))
    (conversation,) = native.conversations(scale)
    request = native.request(scale, conversation, "…")
    assert request.continuations == ()
    assert (request.temperature, request.max_tokens) == (0.0, native.MAX_TOKENS)
    assert request.json_schema is not None
    assert list(request.json_schema["properties"]) == ["reason", "grade"] == request.json_schema["required"]
    assert request.json_schema["properties"]["grade"] == {"type": "integer", "enum": [-1, 3]}
    assert request.json_schema["additionalProperties"] is False
    assert request.json_schema["properties"]["reason"] == {"type": "string", "maxLength": native.REASON}
    endpoint = native.request(scale, conversation).json_schema
    assert endpoint is not None
    assert endpoint["properties"]["reason"] == {"type": "string"}


def test_a_preference_is_asked_in_both_orders() -> None:
    """Two conversations, the candidate's answer first and then the baseline's, both about A, B and C."""
    first, second = native.conversations(PREFER)
    assert first[0]["content"].index('"4"') < first[0]["content"].index('"5"')
    assert second[0]["content"].index('"5"') < second[0]["content"].index('"4"')
    assert native.request(PREFER, first).continuations == ("A", "B", "C")
    assert native.request(PREFER, first).id != native.request(PREFER, second).id


def test_the_model_s_special_tokens_are_told_to_the_prompt() -> None:
    """They do not reach the model as tokens."""
    (conversation,) = native.conversations(GRADE)
    assert conversation == messages(GRADE.instrument, CASE, special=("QQ",))[0:1]
    assert "QQ" not in conversation[0]["content"]


def test_a_job_without_a_model_cannot_be_asked() -> None:
    """A native judge always asks one."""
    bare = replace(GRADE, model=None)
    with pytest.raises(ValueError, match="this job has none"):
        native.request(bare, native.conversations(bare)[0])


def test_the_mean_is_weighted_by_probability() -> None:
    """Half on 4 and half on 5 is 4.5, whatever share of all text the grades have."""
    sure = native.read(GRADE, [scored(-90, -90, -90, -90, -0.001)])
    assert value(sure) == pytest.approx(5)
    assert sure == Judgement(GRADE.id, sure.value, "5 (100%)")
    assert value(native.read(GRADE, [scored(-math.inf, -math.inf, -math.inf, -3.0, -3.0)])) == 4.5
    spread = native.read(GRADE, [scored(*map(math.log, (0.1, 0.0001, 0.2, 0.3, 0.3999)))])
    assert value(spread) == pytest.approx(0.1 + 0.0002 + 0.6 + 1.2 + 1.9995)
    assert spread.explanation == "5 (40%), 4 (30%), 3 (20%)"


@given(GRADES, st.floats(-100, 0))
def test_only_what_labels_have_of_each_other_counts(logs: list[float], shift: float) -> None:
    """In range; the same wherever the labels lie together; the opposite grades give the opposite mean."""
    found = value(native.read(GRADE, [scored(*logs)]))
    assert 1 <= found <= 5
    assert value(native.read(GRADE, [scored(*(log + shift for log in logs))])) == pytest.approx(found, abs=1e-9)
    assert value(native.read(GRADE, [scored(*reversed(logs))])) == pytest.approx(6 - found, abs=1e-9)


@given(st.lists(st.floats(-60, -5), min_size=5, max_size=5), st.floats(0, 5))
def test_a_likelier_end_of_the_scale_draws_the_mean(logs: list[float], more: float) -> None:
    """The highest grade upwards, the lowest downwards."""
    mean = value(native.read(GRADE, [scored(*logs)]))
    assert value(native.read(GRADE, [scored(*logs[:4], logs[4] + more)])) >= mean - 1e-9
    assert value(native.read(GRADE, [scored(logs[0] + more, *logs[1:])])) <= mean + 1e-9


@pytest.mark.parametrize(
    ("logs", "said"),
    [
        ((-1.0, -1.0), "expected 5 numbers up to 0"),
        ((), "expected 5 numbers"),
        ((-1.0,) * 6, "expected 5 numbers"),
        ((math.nan, -1.0, -1.0, -1.0, -1.0), "nan"),
        ((math.inf, -1.0, -1.0, -1.0, -1.0), "inf"),
        ((3.0, -1.0, -1.0, -1.0, -1.0), "up to 0"),
        ((-math.inf,) * 5, "finds none of 1, 2, 3, 4, 5 possible"),
    ],
)
def test_log_likelihoods_that_are_none_are_errors(logs: tuple[float, ...], said: str) -> None:
    """Too few, too many, NaN, above certainty or all impossible: no score."""
    found = native.read(GRADE, [scored(*logs)])
    assert found.value is None
    assert found.error is not None
    assert found.error.startswith("sample s-7: judge ours: ")
    assert said in found.error


@pytest.mark.parametrize("one", [GRADE, REASON, PREFER])
def test_what_the_engine_could_not_answer_is_an_error(one: Job) -> None:
    """In its words, with sample and judge, on one line; one failed order of a preference is enough."""
    failed = Completion("r", error="gave up after 4 attempts\nin 12.0 s: 429")
    others = [scored(-1.0, -2.0, -3.0)] * one.instrument.pairwise
    found = native.read(one, [*others, failed])
    assert (found.job, found.value, found.explanation) == (one.id, None, None)
    assert found.error == "sample s-7: judge ours: gave up after 4 attempts in 12.0 s: 429"


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("A", "B", 1.0),
        ("B", "A", 0.0),
        ("A", "A", 0.5),
        ("B", "B", 0.5),
        ("C", "C", 0.5),
        ("A", "C", 0.5),
        ("C", "A", 0.5),
    ],
)
def test_a_preference_counts_where_both_orders_agree(first: str, second: str, expected: float) -> None:
    """A judge that only likes the first, or the second, prefers neither."""
    orders = [scored(*(-0.1 if label == said else -3.0 for label in "ABC")) for said in (first, second)]
    assert value(native.read(PREFER, orders)) == expected


def test_a_preference_says_what_each_order_said() -> None:
    """In words of candidate and baseline, with how sure the judge was."""
    orders = [scored(*map(math.log, (0.9, 0.05, 0.05))), scored(*map(math.log, (0.7, 0.2, 0.1)))]
    said = native.read(PREFER, orders).explanation
    assert said == "candidate first: the candidate (90%); baseline first: the baseline (70%)"
    tied = native.read(PREFER, [scored(-1.0, -1.0, -5.0), scored(-5.0, -5.0, -0.1)])
    assert tied.value == 0.5
    assert tied.explanation is not None
    assert tied.explanation.startswith("candidate first: neither")


@given(CHOICES, CHOICES)
def test_a_preference_is_fair(one: list[float], other: list[float]) -> None:
    """With candidate and baseline exchanged, the same answers of the judge give the opposite preference."""
    found = value(native.read(PREFER, [scored(*one), scored(*other)]))
    assert found in (0.0, 0.5, 1.0)
    assert value(native.read(PREFER, [scored(*other), scored(*one)])) == 1 - found


def test_a_reasoned_grade() -> None:
    """One object with both keys, in any order and with white space around it."""
    for text in ('{"reason": "It is so.", "grade": 4}', ' {"grade":4,\n"reason":"It\\nis so."}\n'):
        assert native.read(REASON, [wrote(text)]) == Judgement(REASON.id, 4.0, "It is so.")


BAD_REPLIES: dict[str, str] = {
    "nothing": "",
    "prose": "I would say 5.",
    "number": "5",
    "two objects": '{"reason": "a", "grade": 5}{"reason": "b", "grade": 1}',
    "two lines": '{"reason": "a", "grade": 5}\n{"reason": "b", "grade": 5}',
    "in a list": '[{"reason": "a", "grade": 5}]',
    "in a fence": '```json\n{"reason": "a", "grade": 5}\n```',
    "cut off": '{"reason": "a", "grade": 5',
    "text for number": '{"reason": "a", "grade": "5"}',
    "null": '{"reason": "a", "grade": null}',
    "true": '{"reason": "a", "grade": true}',
    "fraction": '{"reason": "a", "grade": 4.5}',
    "float": '{"reason": "a", "grade": 5.0}',
    "NaN": '{"reason": "a", "grade": NaN}',
    "too large for a number": '{"reason": "a", "grade": 1e999}',
    "above": '{"reason": "a", "grade": 6}',
    "below": '{"reason": "a", "grade": 0}',
    "far above": '{"reason": "a", "grade": ' + "9" * 4000 + "}",
    "doubled": '{"reason": "a", "grade": 1, "grade": 5}',
    "more": '{"reason": "a", "grade": 5, "sure": true}',
    "less": '{"grade": 5}',
    "reason of another kind": '{"reason": ["a"], "grade": 5}',
    "deep": "[" * 100_000,
    "long": "x" * 10**6,
    "control characters": '{"reason": "\x1b[2J", "grade": 5}',
}


@pytest.mark.parametrize("text", BAD_REPLIES.values(), ids=BAD_REPLIES)
def test_a_reply_in_another_form_is_an_error(text: str) -> None:
    """Never a score, never guessed at; one line of bounded length says so, with questions and seconds."""
    found = native.read(REASON, [wrote(text)], 2.34)
    assert found.value is None
    assert found.error is not None
    assert found.error.startswith("sample s-7: judge ours: ")
    assert found.error.endswith(" (after 2.3 s, 1 question to the model)")
    assert len(found.error) < 600
    assert found.error.isprintable()


def test_a_reply_that_was_cut_is_an_error() -> None:
    """Even where what is there could be read."""
    found = native.read(REASON, [wrote('{"reason": "a", "grade": 5}', finish="length")])
    assert found.error is not None
    assert found.error.startswith("sample s-7: judge ours: had not ended its reply after 1024 tokens (after")


@given(st.text(), st.integers(1, 5))
def test_any_reason_can_be_kept(reason: str, grade: int) -> None:
    """One line of UTF-8 with a bound, whatever the judge wrote."""
    found = native.read(REASON, [wrote(json.dumps({"reason": reason + "\ud800", "grade": grade}))])
    assert value(found) == grade
    assert found.explanation is not None
    assert len(found.explanation.encode()) <= 4 * native.REASON
    assert "\n" not in found.explanation


def test_completions_must_be_the_job_s() -> None:
    """One for each conversation: anything else is a mistake of the caller, not of the judge."""
    for one, number in ((GRADE, 0), (GRADE, 2), (PREFER, 1), (REASON, 3)):
        with pytest.raises(ValueError, match=f"{number} completions"):
            native.read(one, [scored(-1.0)] * number)


@pytest.mark.parametrize("scorer", [judge("Right?"), judge("Right?", scale={0: "no", 1: "yes"}), prefer()])
def test_from_job_to_judgement_through_an_engine(scorer: Scorer) -> None:
    """What is asked is what the engine protocol answers, and what it answers is read."""
    one = job(scorer)
    prompts = [conversation[0]["content"] for conversation in native.conversations(one)]
    best = ["A", "B"] if one.instrument.pairwise else [f"{one.instrument.high:g}"]
    engine = FakeEngine(answers=dict(zip(prompts, best, strict=True)))
    requests = [native.request(one, c, p) for c, p in zip(native.conversations(one), prompts, strict=True)]
    found = value(native.read(one, list(engine.generate(requests))))
    assert found > (one.instrument.low + one.instrument.high) / 2
    failing: Any = FakeEngine(fail=["Right?", "better"])
    assert native.read(one, list(failing.generate(requests))).value is None
