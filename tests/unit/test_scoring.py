"""What each scorer makes of an answer, what it refuses, and what its digest covers."""

from __future__ import annotations

import json
import math
import socket
import string
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from evalgate.errors import EngineError, ScorerError, TaskError
from evalgate.gate import Gate
from evalgate.request import Completion
from evalgate.scoring import (
    Score,
    Scorer,
    apply,
    bits_per_byte,
    bleu,
    choice,
    chrf,
    exact_match,
    function,
    includes,
    json_schema,
    numeric,
    regex,
    rouge,
    strip_reasoning,
)
from evalgate.task import Sample

UNHURRIED = settings(deadline=None)  # the first example imports libraries, and cores are shared
SPACE = st.text(" \t\n\r", max_size=3)


def is_long(output: str, sample: Sample) -> bool:
    return len(output) > 9


def asked(target: Any = None, **fields: Any) -> Sample:
    return Sample("s-1", {"id": "s-1", "target": target} | fields, target)


def value(scorer: Scorer, text: str, target: Any = None, **fields: Any) -> float:
    return apply(scorer, Completion("r", text), asked(target, **fields)).value


def likely(scorer: Scorer, logprobs: tuple[float, ...], sample: Sample) -> Score:
    return apply(scorer, Completion("r", finish="score", logprobs=logprobs), sample)


def reason(scorer: Scorer, sample: Sample) -> str | None:
    assert scorer.check is not None
    return scorer.check(sample)


# exact_match, includes, regex


@UNHURRIED
@given(st.text(), SPACE, SPACE, SPACE, SPACE)
def test_exact_match_ignores_space_around_either_side(text: str, a: str, b: str, c: str, d: str) -> None:
    """White space around the answer and around the target changes nothing, whichever has it."""
    assert value(exact_match(), a + text + b, c + text + d) == 1


@UNHURRIED
@given(st.text(), st.text())
def test_exact_match_is_equality_of_stripped_texts(answer: str, target: str) -> None:
    """It is symmetric, and right exactly where the stripped texts are equal."""
    found = value(exact_match(), answer, target)
    assert found == value(exact_match(), target, answer) == float(answer.strip() == target.strip())


@pytest.mark.parametrize(
    ("target", "answer", "right"),
    [
        (84, "84", 1),
        (84, "84.0", 0),
        (0.5, "0.5", 1),
        (True, "true", 1),
        ("", " ", 1),
        ("Yes", "yes", 0),
        ("a b", "ab", 0),
    ],
)
def test_exact_match_reads_numbers_as_json_writes_them(target: Any, answer: str, right: int) -> None:
    """A target that is no text is compared as its JSON; inner space and case count."""
    assert value(exact_match(), answer, target) == right


def test_case_is_ignored_on_request_only() -> None:
    """Case folding reaches beyond ASCII."""
    assert value(exact_match(ignore_case=True), "STRASSE", "straße") == 1
    assert value(includes(ignore_case=True), "It is PARIS.", "paris") == 1
    assert value(includes(), "It is PARIS.", "paris") == 0


@UNHURRIED
@given(st.text(), st.text(string.ascii_letters, min_size=1), st.text())
def test_includes_finds_the_target_anywhere(before: str, target: str, after: str) -> None:
    """An answer that holds the target is right, whatever stands around it."""
    assert value(includes(), before + target + after, f" {target}\n") == 1


@pytest.mark.parametrize(
    ("scorer", "answer", "right"),
    [
        (regex(r"^\d+$"), "84", 1),
        (regex(r"^\d+$"), "84 apples", 0),
        (regex(r"answer: (\w+)", group=1), "my answer: B, not C", 1),
        (regex(r"answer: (?P<letter>\w+)", group="letter"), "answer: C", 0),
        (regex(r"answer: (B)?", group=1), "answer: ", 0),
        (regex(r"(?i)ANSWER: (\w)", group=1), "no letter", 0),
        (regex(r"\w", group=0), "B", 1),
    ],
)
def test_regex_matches_or_compares_its_group(scorer: Scorer, answer: str, right: int) -> None:
    """Without a group the match is right; with one, what it caught is held against the target."""
    assert value(scorer, answer, "B") == right


def test_group_that_caught_nothing_is_wrong_even_for_an_empty_target() -> None:
    """A group outside of the match is no answer."""
    assert value(regex("a(b)?", group=1), "a", "") == 0


@pytest.mark.parametrize(
    ("pattern", "group", "says"),
    [
        ("a(b", None, "at position 1"),
        ("a", 1, "no group 1"),
        ("(a)", "letter", "no group 'letter'"),
        ("[[a]", None, "nested"),
    ],
)
def test_pattern_that_cannot_work_is_refused_where_it_is_declared(pattern: str, group: Any, says: str) -> None:
    """A pattern that does not compile, or lacks the group, is an error with the position."""
    with pytest.raises(TaskError, match=says):
        regex(pattern, group)


# numeric


@UNHURRIED
@given(
    st.decimals(-(10**12), 10**12, places=3) | st.integers(-(10**30), 10**30).map(Decimal),
    st.sampled_from([",", "", "_"]),
    st.text("abc .!?\n", max_size=9),
    st.text(" .!?\nxyz", max_size=9),
)
def test_numeric_finds_what_was_formatted(number: Decimal, gap: str, before: str, after: str) -> None:
    """The last number of a text is found exactly, with its sign and thousands separators."""
    formatted = f"{number:,f}".replace(",", gap)
    text = f"{before} 7 and {formatted}{after}"
    assert value(numeric(), text, str(number)) == 1


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("10-3=7", 7),
        ("between 3-5", 5),
        ("it is 42.", 42),
        ("so...42", 42),
        ("-$1,234.50", -1234.5),
        ("\u22125 degrees", -5),
        ("1\u202f234\u202f567", 1234567),
        ("1, 2, 3", 3),
        ("1.2.3", 1.2),
        ("1.5e3", 1500),
        ("-.5", -0.5),
        ("f(2)-3", 3),
        ("50%", 50),
        ("12,34567", 34567),
    ],
)
def test_numeric_reads_numbers_as_people_write_them(text: str, number: float) -> None:
    """Minus signs, dashes, separators and points in and around numbers."""
    assert value(numeric(), text, number) == 1


def test_numeric_compares_exactly_up_to_the_tolerance() -> None:
    """Decimals, not floats: large whole numbers differ by one, and .3 is .2 from .1."""
    assert value(numeric(), "9007199254740993", 9007199254740992) == 0
    assert value(numeric(tolerance=0.2), "0.3", 0.1) == 1
    assert value(numeric(tolerance=0.19), "0.3", 0.1) == 0
    assert value(numeric(), f"-1{'0' * 40}1", f"-1{'0' * 40}1") == 1


@UNHURRIED
@given(st.text(string.ascii_letters + " .,-+v2"))
def test_numeric_scores_whatever_was_written(text: str) -> None:
    """No text makes it fail; without a digit it is wrong."""
    found = value(numeric(), text, 2)
    assert found in (0, 1)
    assert found == 0 or "2" in text


@pytest.mark.parametrize("text", ["", "none", "v2", "1e999999999999999999999"])
def test_answer_without_a_number_scores_0(text: str) -> None:
    """An answer that cannot be read is an answer, and wrong."""
    assert apply(numeric(), Completion("r", text), asked(0)) == Score(0.0, explanation="no number")


@pytest.mark.parametrize("tolerance", [-1, float("nan"), float("inf"), "1"])
def test_tolerance_out_of_range_is_refused(tolerance: Any) -> None:
    """A tolerance is a finite number from 0."""
    with pytest.raises(TaskError, match="tolerance"):
        numeric(tolerance)


# choice and bits per byte


@UNHURRIED
@given(st.lists(st.floats(-50, 0) | st.just(-1.0), min_size=2, max_size=5))
def test_choice_takes_the_likeliest_and_the_first_of_equals(logprobs: list[float]) -> None:
    """The answer is the first label of the highest log-likelihood."""
    labels = [f" {letter}" for letter in string.ascii_uppercase[: len(logprobs)]]
    score = likely(choice(*labels), tuple(logprobs), asked("A"))
    best = next(i for i, logprob in enumerate(logprobs) if logprob == max(logprobs))
    assert score == Score(float(best == 0), labels[best].strip())


def test_choice_by_bytes_lets_long_options_win() -> None:
    """Divided by their UTF-8 bytes, log-likelihoods of unequal options become comparable."""
    sample = asked("élan vital", options=["no", "élan vital"])
    assert likely(choice(), (-4.0, -10.0), sample).value == 0
    assert likely(choice(normalise="bytes"), (-4.0, -10.0), sample).value == 1
    assert likely(choice(normalise="bytes"), (-2.0, -10.5), sample).value == 1  # 11 bytes, not 10 characters


def test_choice_asks_for_its_labels_or_for_the_field() -> None:
    """Continuations are the labels as they are written, or the sample's own options."""
    fixed, own = choice(" A", " B"), choice(field="answers")
    assert fixed.continuations is not None
    assert own.continuations is not None
    assert fixed.continuations(asked("A")) == (" A", " B")
    assert own.continuations(asked("2", answers=[1, 2])) == ("1", "2")


@pytest.mark.parametrize("logprobs", [(), (-1.0,), (-1.0, float("nan")), (-1.0, -2.0, -3.0)])
def test_loglikelihoods_that_do_not_align_are_an_error(logprobs: tuple[float, ...]) -> None:
    """Too few, too many or NaN is the engine's fault, never a score."""
    with pytest.raises(ScorerError, match="expected 2 numbers"):
        likely(choice("A", "B"), logprobs, asked("A"))


@pytest.mark.parametrize(
    ("labels", "settings", "says"),
    [
        (("A",), {}, "at least two"),
        (("A", " A"), {}, "stands twice"),
        (("A", " "), {}, "is empty"),
        (("A", "B"), {"field": "options"}, "one of them"),
        (("A", None), {}, "an option is nothing"),
        (("A", "B"), {"normalise": "tokens"}, "normalise='tokens'"),
    ],
)
def test_choice_that_is_none_is_refused(labels: Any, settings: Any, says: str) -> None:
    """Labels must be two or more different texts, given in one way."""
    with pytest.raises(TaskError, match=says):
        choice(*labels, **settings)


def test_bits_per_byte_of_a_uniform_model_is_eight() -> None:
    """A model that gives each byte 1/256 needs eight bits for it, whatever the text; bytes are UTF-8's."""
    scorer, sample = bits_per_byte(), asked("née Zoë")
    assert scorer.weight is not None
    assert scorer.weight(sample) == 9
    assert scorer.continuations is not None
    assert scorer.continuations(asked(" née\n")) == (" née\n",)
    assert likely(scorer, (-9 * math.log(256),), sample).value == pytest.approx(8)
    assert scorer.metric.range is None
    assert scorer.metric.weighted
    assert not scorer.metric.higher_is_better


def test_text_that_is_impossible_has_no_bits_per_byte() -> None:
    """Minus infinity is no finite number of bits, so it is an error."""
    with pytest.raises(ScorerError, match="returned inf"):
        likely(bits_per_byte(), (-math.inf,), asked("x"))


# json_schema

ORDER = {
    "type": "object",
    "properties": {"qty": {"type": "integer"}, "next": {"$ref": "#"}},
    "required": ["qty"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"qty": 2}', None),
        (' {"qty": 2, "next": {"qty": 3}}\n', None),
        ('{"qty": 2.0}', None),
        ('{"qty": 2.5}', "$.qty"),
        ('{"qty": "2"}', "$.qty"),
        ('{"qty": 2, "next": {}}', "$.next"),
        ('{"qty": 2, "qty": 3}', "stands twice"),
        ('{"qty": NaN}', "NaN"),
        ('{"qty": 1e999}', "range"),
        ('Sure! {"qty": 2}', "not JSON"),
        ('{"qty": 2', "not JSON"),
        ("", "not JSON"),
        ("[" * 100_000, "deeply"),
        ("9" * 5000, "not JSON"),
    ],
)
def test_json_schema_takes_one_strict_value_that_fits(text: str, says: str | None) -> None:
    """What is no JSON, or does not fit, scores 0 and says why in a bounded line."""
    score = apply(json_schema(ORDER), Completion("r", text), asked())
    assert score.value == float(says is None)
    assert (says or "") in (score.explanation or "")
    assert len(score.explanation or "") <= 200


@UNHURRIED
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_every_json_value_satisfies_the_empty_schema(content: Any) -> None:
    """Strict parsing refuses nothing that JSON allows."""
    assert value(json_schema({}), json.dumps(content)) == 1


def test_samples_may_bring_their_schema() -> None:
    """With a field, each sample is held to its own schema."""
    scorer = json_schema(field="form")
    assert value(scorer, "2", form={"type": "integer"}) == 1
    assert value(scorer, "2", form={"type": "string"}) == 0


def test_references_are_never_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reference to another place is refused before anything runs, and opens no connection even if it is scored."""
    opened: list[Any] = []

    def connect(*args: Any, **kwargs: Any) -> Any:
        opened.append(args)
        raise OSError("no network")

    monkeypatch.setattr(socket, "getaddrinfo", connect)
    remote = {"properties": {"a": {"$ref": "http://schemas.test/order.json"}}}
    away = json_schema(remote)
    with pytest.raises(TaskError, match="nothing is ever fetched"):
        reason(away, asked())
    with pytest.raises(ScorerError, match=r"schemas\.test"):
        value(away, '{"a": 1}')
    assert opened == []
    with pytest.raises(Exception, match=r"schemas\.test"):  # control: left to itself the library does fetch
        Draft202012Validator(remote).validate({"a": 1})
    assert opened
    local = {"$id": "http://schemas.test/", "$defs": {"b": {"$id": "b", "type": "null"}}, "$ref": "b"}
    assert reason(json_schema(local), asked()) is None


def test_what_is_no_schema_is_refused() -> None:
    """A broken schema of the suite is the task's fault, one in the data is the sample's; one of the two is needed."""
    with pytest.raises(TaskError, match="not a JSON Schema"):
        reason(json_schema({"type": "integr"}), asked())
    assert "not a JSON Schema" in (reason(json_schema(field="form"), asked(form={"type": 3})) or "")
    assert "found a list" in (reason(json_schema(field="form"), asked(form=[])) or "")
    for both in ({}, {"schema": {}, "field": "form"}):
        with pytest.raises(TaskError, match="takes a schema, or field"):
            json_schema(**both)  # type: ignore[arg-type]
    with pytest.raises(TaskError, match="JSON cannot write"):
        json_schema({"const": {1, 2}})


# bleu, chrf, rouge


@pytest.mark.parametrize("scorer", [bleu(), chrf(), chrf(word_order=2), rouge(), rouge("rouge1", stem=True)])
def test_overlap_measures_run_from_nothing_to_equal(scorer: Scorer) -> None:
    """Nothing in common is 0, an empty answer is 0, the target itself is 1, and half of it lies between."""
    target = "the cat sat on the mat"
    assert value(scorer, target, target) == 1
    assert value(scorer, "", target) == value(scorer, "zzz", target) == 0
    assert 0 < value(scorer, "the cat sat", target) < 1


def test_overlap_measures_give_the_published_values() -> None:
    """Worked out by hand: ROUGE-L of 2 of 3 words, BLEU of all n-grams with a brevity penalty, chrF of one order."""
    assert value(rouge(), "a c", "a b c") == pytest.approx(0.8)
    assert value(bleu(), "a b c d", "a b c d e") == pytest.approx(math.exp(1 - 5 / 4))
    assert value(chrf(), "a", "ab") == pytest.approx(5 * 1 * 0.5 / (4 * 1 + 0.5))  # only order 1 fits the answer


def test_case_and_stems_are_settings() -> None:
    """Lower case and stems are compared on request."""
    assert value(bleu(ignore_case=True), "A B C D", "a b c d") == value(chrf(ignore_case=True), "AB", "ab") == 1
    assert value(rouge(stem=True), "running", "runs") == 1 > value(rouge(), "running", "runs")


def test_unknown_variants_are_refused() -> None:
    """A kind of ROUGE or an order of chrF that does not exist is an error."""
    with pytest.raises(TaskError, match="rougeW"):
        rouge("rougeW")
    with pytest.raises(TaskError, match="word_order=7"):
        chrf(7)


# targets that cannot be scored


@pytest.mark.parametrize(
    ("scorer", "sample", "says"),
    [
        (exact_match(), asked(None), "found nothing"),
        (exact_match(), asked(["a"]), "found a list"),
        (exact_match(), asked({"a": 1}), "found an object"),
        (exact_match(), asked(b"a"), "found a bytes"),
        (includes(), asked(" "), "target is empty"),
        (regex("(a)", 1), asked(None), "found nothing"),
        (numeric(), asked("none"), "no number"),
        (numeric(), asked(True), "no number"),
        (choice("A", "B"), asked("C"), "none of the options A, B"),
        (choice("A", "B"), asked(None), "found nothing"),
        (choice(), asked("A"), "found nothing"),
        (choice(), asked("A", options=["A"]), "at least two"),
        (choice(), asked("A", options=["A", []]), "an option is a list"),
        (bits_per_byte(), asked(""), "target is empty"),
        (bleu(), asked(""), "target is empty"),
        (rouge(), asked("東京"), "no ASCII letter"),
    ],
)
def test_target_that_cannot_be_scored_is_known_before_the_engine_starts(
    scorer: Scorer, sample: Sample, says: str
) -> None:
    """Each scorer says why a sample can never be scored."""
    assert says in (reason(scorer, sample) or "")


@pytest.mark.parametrize(
    ("scorer", "sample"),
    [
        (exact_match(), asked("")),
        (includes(), asked(5)),
        (numeric(), asked("#### 1,234")),
        (choice(" A", " B"), asked("B")),
        (choice(), asked(2, options=[1, 2])),
        (rouge(), asked("Tokyo")),
    ],
)
def test_target_that_can_be_scored_is_not_refused(scorer: Scorer, sample: Sample) -> None:
    """The same checks let good samples pass."""
    assert reason(scorer, sample) is None


@UNHURRIED
@given(st.text())
def test_every_text_has_a_score(text: str) -> None:
    """Whatever a model writes, every scorer of text gives it a value in its range."""
    for scorer in (
        exact_match(),
        includes(),
        regex("a|(b)", 1),
        numeric(1),
        json_schema(ORDER),
        bleu(),
        chrf(),
        rouge(),
    ):
        assert 0 <= value(scorer, text, "1 word") <= 1


# reasoning

MARKS = ("<think>", "</think>")


@UNHURRIED
@given(st.text("ab <>/", max_size=20).filter(lambda text: "think" not in text), st.text("xyz\n"), st.text("cd \n"))
def test_reasoning_is_cut_out(before: str, reasoning: str, after: str) -> None:
    """Text without markers stays; what stands between them goes; markers that are never closed leave no answer."""
    assert strip_reasoning(before, MARKS) == before
    assert strip_reasoning(f"{before}<think>{reasoning}</think>{after}", MARKS) == before + after
    assert strip_reasoning(f"{before}<think>{reasoning}", MARKS) == before
    assert strip_reasoning(f"{reasoning}</think>{after}", MARKS) == after


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>a</think>4<think>b</think>2", "42"),
        ("template opened it</think>4<think>b</think>2", "42"),
        ("<think>a<think>b</think>c</think>d", "d"),
        ("<think></think>", ""),
        ("", ""),
    ],
)
def test_reasoning_of_several_stretches(text: str, answer: str) -> None:
    """Several, nested and half-open stretches of reasoning."""
    assert strip_reasoning(text, MARKS) == answer


def test_markers_are_plain_text() -> None:
    """A marker is no pattern, and both markers may be the same."""
    assert strip_reasoning("(*)a(*)b", ("(*)", "(*)")) == "b"


# apply: the one place where scorers are called


def giving(result: Any, **settings: Any) -> Scorer:
    def score(completion: Completion, sample: Sample) -> Any:
        if isinstance(result, BaseException):
            raise result
        return result

    return Scorer("mine", score, **settings)


@pytest.mark.parametrize(
    ("result", "number"),
    [
        (True, 1.0),
        (False, 0.0),
        (1, 1.0),
        (0.25, 0.25),
        (Score(True, "a"), 1.0),
        (np.float32(0.5), 0.5),
        (np.bool_(True), 1.0),
    ],
)
def test_numbers_and_truths_are_scores(result: Any, number: float) -> None:
    """Python's and numpy's numbers and booleans become a float in a Score, which keeps its answer."""
    score = apply(giving(result), Completion("r"), asked())
    assert score.value == number
    assert type(score.value) is float
    assert score.answer == getattr(result, "answer", None)


@pytest.mark.parametrize(
    "result", [float("nan"), float("inf"), -0.01, 1.01, None, "1", 1j, [1], np.array([1, 2]), Score(float("nan"))]
)
def test_what_is_no_number_in_range_is_an_error(result: Any) -> None:
    """NaN, infinity, values out of range and things that are no number are never scores."""
    with pytest.raises(ScorerError) as caught:
        apply(giving(result), Completion("r"), asked())
    assert str(caught.value).startswith("scorer mine, sample s-1: r")
    assert "\n" not in str(caught.value)


def test_error_says_what_was_expected() -> None:
    """The message holds the value and the range."""
    with pytest.raises(ScorerError, match=r"returned 7, expected a finite number from 1 to 5"):
        apply(giving(7, low=1, high=5), Completion("r"), asked())
    with pytest.raises(ScorerError, match=r"returned 0\.5, expected 0 or 1"):
        apply(giving(0.5, binary=True), Completion("r"), asked())
    with pytest.raises(ScorerError, match=r"returned -1, expected a finite number from 0$"):
        apply(giving(-1, high=None), Completion("r"), asked())
    assert apply(giving(1e9, high=None), Completion("r"), asked()).value == 1e9


def test_exception_of_a_scorer_is_its_error() -> None:
    """Type and text of the exception are told in one bounded line with scorer and sample."""
    with pytest.raises(ScorerError, match=r"^scorer mine, sample s-1: raised ValueError: two lines$"):
        apply(giving(ValueError("two\nlines")), Completion("r"), asked())
    with pytest.raises(ScorerError, match=r"raised judge is gone$"):
        apply(giving(EngineError("judge is gone")), Completion("r"), asked())
    with pytest.raises(ScorerError) as caught:
        apply(giving(ValueError("x" * 5000)), Completion("r"), asked())
    assert len(str(caught.value)) < 400


def test_engine_error_is_never_scored() -> None:
    """A completion that is an error gets no 0, even from a scorer that would give one."""
    with pytest.raises(ScorerError, match="out of memory"):
        apply(exact_match(), Completion("r", error="out of memory"), asked("x"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "two words"},
        {"name": "a::b"},
        {"name": "a[b]"},
        {"name": "x" * 101},
        {"name": "a\x1bb"},
        {"low": 1.0, "high": 0.0},
        {"low": 1.0, "high": 1.0},
        {"high": float("nan")},
        {"high": None, "binary": True},
        {"settings": {"words": {1, 2}}},
        {"settings": {"bar": float("nan")}},
    ],
)
def test_scorer_that_cannot_mean_anything_is_refused(wrong: dict[str, Any]) -> None:
    """Names that break test ids, empty ranges and settings that JSON cannot write are errors where they stand."""
    declared: dict[str, Any] = {"name": "mine", "score": lambda completion, sample: 1.0}
    with pytest.raises(TaskError):
        Scorer(**(declared | wrong))


def test_every_setting_changes_the_digest_and_a_gate_does_not() -> None:
    """No two variants of any scorers share a digest, even under one name; gates are policy."""
    makers: list[Callable[..., Scorer]] = [
        lambda **kw: exact_match(**kw),
        lambda **kw: exact_match(True, **kw),
        lambda **kw: includes(**kw),
        lambda **kw: includes(True, **kw),
        lambda **kw: regex("a", **kw),
        lambda **kw: regex("b", **kw),
        lambda **kw: regex("b", 0, **kw),
        lambda **kw: numeric(**kw),
        lambda **kw: numeric(0.1, **kw),
        lambda **kw: choice("a", "b", **kw),
        lambda **kw: choice("b", "a", **kw),
        lambda **kw: choice("b", "a", normalise="bytes", **kw),
        lambda **kw: choice(**kw),
        lambda **kw: choice(field="x", **kw),
        lambda **kw: json_schema({}, **kw),
        lambda **kw: json_schema({"type": "null"}, **kw),
        lambda **kw: json_schema(field="x", **kw),
        lambda **kw: bits_per_byte(**kw),
        lambda **kw: bleu(**kw),
        lambda **kw: bleu(True, **kw),
        lambda **kw: chrf(**kw),
        lambda **kw: chrf(2, **kw),
        lambda **kw: chrf(2, True, **kw),
        lambda **kw: rouge(**kw),
        lambda **kw: rouge(stem=True, **kw),
        lambda **kw: rouge("rouge2", **kw),
        lambda **kw: function(is_long, **kw),
        lambda **kw: function(is_long, settings={"words": 4}, **kw),
        lambda **kw: function(lambda output, sample: True, **kw),
    ]
    digests = {make(name="x").metric.digest for make in makers}
    assert len(digests) == len(makers)
    assert {make(name="x", gate=Gate(margin=0.1)).metric.digest for make in makers} == digests
    assert digests.isdisjoint(make(name="y").metric.digest for make in makers)


def test_declaring_scorers_imports_nothing_heavy() -> None:
    """Suites declare scorers when pytest collects them, so that must cost next to nothing."""
    code = (
        "import sys; import evalgate.scoring as s; s.bleu(); s.chrf(); s.rouge(); s.json_schema({}); s.choice();"
        "print({'numpy', 'pandas', 'sacrebleu', 'rouge_score', 'jsonschema', 'jinja2', 'pydantic'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
