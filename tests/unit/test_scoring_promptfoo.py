"""promptfoo's assertions as a suite declares them: what they name, what is refused, what templates make of a sample."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalgate.errors import ScorerError, TaskError
from evalgate.instrument import DEFAULT, Case, Instrument
from evalgate.request import Completion
from evalgate.scoring import Scorer, apply, promptfoo
from evalgate.scoring.assertions import CODE, GRADED, REFUSED, assertions_from, is_graded, leaves, of_case
from evalgate.task import Sample

VALUES: Mapping[str, Any] = {"word-count": 3, "javascript": "output.length > 1", "contains-any": ["a", "b"]}


def instrument(scorer: Scorer) -> Instrument:
    assert scorer.judge is not None
    return scorer.judge


def rendered(value: Any, case: Case, kind: str = "contains") -> Any:
    """What a value becomes for a case."""
    fields = tuple(case.fields)
    assertions, _, _ = of_case(instrument(promptfoo([{"type": kind, "value": value}], fields=fields)), case)
    return assertions[0]["value"]


@pytest.mark.parametrize("kind", sorted(CODE | GRADED))
def test_each_assertion_is_taken(kind: str) -> None:
    """Every supported type makes a scorer from 0 to 1 whose instrument knows whether a model is asked."""
    scorer = promptfoo([{"type": kind, "value": VALUES.get(kind, "x")}])
    judge = instrument(scorer)
    assert (scorer.name, scorer.low, scorer.high, scorer.binary) == ("promptfoo", 0, 1, False)
    assert (judge.kind, judge.asks) == ("promptfoo", kind in GRADED)
    assert judge.by == (DEFAULT,)


def test_names_in_templates_are_the_fields_that_are_shown() -> None:
    """Fields are found in strings, lists and sets; question and reference are none; JavaScript's are named."""
    judge = instrument(
        promptfoo(
            [
                {"type": "contains", "value": "{{ city | upper }}"},
                {
                    "type": "assert-set",
                    "assert": [{"type": "contains-any", "value": ["{{ river }}", "{{ question }}"]}],
                },
                {"type": "is-json", "value": {"const": "{{ not_a_template }}"}},
                {"type": "javascript", "value": "output === context.vars.town"},
            ],
            fields=["town"],
        )
    )
    assert judge.fields == ("city", "river", "town")
    assert not judge.reference
    assert instrument(promptfoo([{"type": "equals", "value": "{{ reference }}"}])).reference
    assert instrument(promptfoo([{"type": "javascript", "value": "output === context.vars.reference"}])).reference
    assert instrument(promptfoo([{"type": "context-faithfulness"}])).fields == ("context", "query")


def test_everything_that_changes_a_judgement_is_identity() -> None:
    """Assertions, their order, weights and the threshold are in the digests; the name of the judge is not."""
    base: list[dict[str, Any]] = [
        {"type": "llm-rubric", "value": "polite"},
        {"type": "contains", "value": "x", "weight": 2},
    ]
    digests = {
        instrument(scorer).digest
        for scorer in (
            promptfoo(base),
            promptfoo(base[::-1]),
            promptfoo(base, threshold=0.5),
            promptfoo([base[0], {**base[1], "weight": 3}]),
            promptfoo([base[0], {**base[1], "value": "y"}]),
        )
    }
    assert len(digests) == 5
    assert instrument(promptfoo(base)).digest == instrument(promptfoo(base, by="other")).digest
    assert promptfoo(base).metric.digest == promptfoo(base, by=["a", "b"]).metric.digest


def test_by_names_judges() -> None:
    """One judge, or a panel."""
    rubric = [{"type": "llm-rubric", "value": "polite"}]
    assert instrument(promptfoo(rubric, by="small")).by == ("small",)
    assert instrument(promptfoo(rubric, by=["small", "large"])).by == ("small", "large")


REFUSALS: list[tuple[Any, str]] = [
    ([], "at least one"),
    ("contains", "at least one"),
    (["contains"], "an object with a type"),
    ([{"value": "x"}], "an object with a type"),
    ([{"type": "contians", "value": "x"}], "Did you mean 'contains'"),
    ([{"type": "xyzzy", "value": "x"}], "There are answer-relevance|There are bleu"),
    ([{"type": "contains"}], "needs a value"),
    ([{"type": "llm-rubric", "value": ""}], "needs a value"),
    ([{"type": "contains", "value": "x", "weight": -1}], "weight is -1"),
    ([{"type": "contains", "value": "x", "weight": True}], "weight is True"),
    ([{"type": "contains", "value": "x", "weight": float("nan")}], "weight is nan"),
    ([{"type": "contains", "value": "x", "weight": 0}], "nothing counts"),
    ([{"type": "levenshtein", "value": "x", "threshold": "5"}], "threshold is '5'"),
    ([{"type": "contains", "value": "x", "transform": "output.trim()"}], "transform is not supported"),
    ([{"type": "contains", "value": "x", "provider": "openai:gpt-4"}], "by="),
    ([{"type": "contains", "value": "x", "rubricPrompt": "y"}], "rubricPrompt is not supported"),
    ([{"type": "llm-rubric", "value": "x", "config": {}}], "config is not supported"),
    ([{"type": "contains", "value": "file:///etc/passwd"}], "names a file"),
    ([{"type": "contains", "value": " file://x"}], "names a file"),
    ([{"type": "contains-any", "value": ["a", "file://x.js"]}], "names a file"),
    ([{"type": "is-json", "value": {"a": ["package:x:y"]}}], "names a file"),
    ([{"type": "llm-rubric", "value": "x", "rubricPrompt": "file://r.txt"}], "names a file"),
    ([{"type": "llm-rubric", "value": "x", "rubricPrompt": [{"content": "file://r.txt"}]}], "names a file"),
    ([{"type": "javascript", "value": "file://check.js"}], "names a file"),
    ([{"type": "javascript", "value": "output === '{{ city }}'"}], "context.vars"),
    ([{"type": "javascript", "value": 7}], "code as text"),
    ([{"type": "contains", "value": "{{ city"}], "no template"),
    ([{"type": "contains", "value": "{% if %}"}], "no template"),
    ([{"type": "contains", "value": object()}], "JSON values"),
    ([{"type": "not-factuality", "value": "x"}], "ignores the not-"),
    ([{"type": "not-model-graded-closedqa", "value": "x"}], "ignores the not-"),
    ([{"type": "webhook", "value": "http://x"}], "network"),
    ([{"type": "not-webhook", "value": "http://x"}], "network"),
    ([{"type": "promptfoo:redteam:harmful", "value": "x"}], "attacks models"),
    ([{"type": "trajectory:tool-used", "value": "x"}], "replayed"),
    ([{"type": "trace-span-count", "value": "x"}], "replayed"),
    ([{"type": "python", "value": "len(output)"}], r"function\(f\)"),
    ([{"type": "assert-set", "assert": []}], "at least one"),
    ([{"type": "assert-set", "assert": [{"type": "x"}]}], "assertion 1, assertion 1: there is no assertion 'x'"),
    ([{"type": "assert-set", "assert": [{"type": "is-xml"}], "threshold": 2}], "threshold is 2"),
    ([{"type": "assert-set", "assert": [{"type": "is-xml"}], "config": 2}], "config is not supported"),
]


@pytest.mark.parametrize(("assertions", "said"), REFUSALS, ids=range(len(REFUSALS)))
def test_what_cannot_mean_anything_is_refused(assertions: Any, said: str) -> None:
    """A mistake is told in one line that says which assertion it is in, when the suite is loaded."""
    with pytest.raises(TaskError, match=said) as caught:
        promptfoo(assertions)
    assert str(caught.value).startswith("promptfoo(…)")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", sorted(REFUSED))
def test_what_cannot_judge_stored_answers_is_refused(kind: str) -> None:
    """Each assertion that asks a service, needs embeddings or how an answer was made says which of them it is."""
    with pytest.raises(TaskError, match=kind):
        promptfoo([{"type": kind, "value": "x"}])
    assert kind not in CODE | GRADED


@pytest.mark.parametrize("threshold", [-0.1, 1.1, "0.5", float("nan"), True])
def test_a_threshold_is_a_share(threshold: Any) -> None:
    """A threshold is a number from 0 to 1."""
    with pytest.raises(TaskError, match="threshold"):
        promptfoo([{"type": "is-json"}], threshold=threshold)


def test_a_judge_for_what_asks_none_is_refused() -> None:
    """by= means nothing where no assertion asks a model."""
    with pytest.raises(TaskError, match="asks no model"):
        promptfoo([{"type": "is-json"}], by="small")


def test_samples_are_checked_before_anything_runs() -> None:
    """A sample without a field that the assertions name, or without the reference, is found when data is read."""
    scorer = promptfoo([{"type": "contains", "value": "{{ city }} {{ reference }}"}])
    assert scorer.check is not None
    assert scorer.check(Sample("a", {"city": "Rome"}, target="x")) is None
    assert scorer.check(Sample("a", {"town": "Rome"}, target="x")) == "the assertions name 'city', which it has not"
    assert "no target" in (scorer.check(Sample("a", {"city": "Rome"})) or "")


def test_it_is_never_called_as_code() -> None:
    """Only a session asks the tool."""
    with pytest.raises(ScorerError, match="judge's"):
        apply(promptfoo([{"type": "is-json"}]), Completion("r", "x"), Sample("a", {}))


def test_values_are_rendered_with_what_the_sample_holds() -> None:
    """Strings and members of lists are templates; objects are not; what is no text is written as JSON."""
    case = Case("a", "Q?", "A", "R", {"city": "Rome", "n": 1.0, "yes": True, "none": None, "list": ["é", 1]})
    assert rendered("{{ city }} {{ question }} {{ reference }}", case) == "Rome Q? R"
    assert rendered("{{ n }} {{ yes }} {{ none }} {{ list }}", case) == '1.0 true null ["é", 1]'
    assert rendered(["{{ city }}", 7], case, "contains-any") == ["Rome", 7]
    assert rendered({"const": "{{ city }}"}, case, "is-json") == {"const": "{{ city }}"}
    assert rendered("keeps\n", case) == "keeps\n"
    assert rendered(5, case, "word-count") == 5


def test_sets_are_rendered_inside() -> None:
    """Templates in sets are rendered, and what stands beside them stays."""
    inner = {"type": "contains", "value": "{{ city }}", "weight": 2}
    judge = instrument(promptfoo([{"type": "assert-set", "assert": [inner], "threshold": 0.5}], threshold=0.7))
    assertions, threshold, shown = of_case(judge, Case("a", "Q", "A", None, {"city": "Rome"}))
    assert assertions == [{"type": "assert-set", "assert": [{**inner, "value": "Rome"}], "threshold": 0.5}]
    assert threshold == 0.7
    assert shown == {"question": "Q", "city": "Rome"}
    assert [each["type"] for each in leaves(assertions)] == ["contains"]


@pytest.mark.parametrize("value", ["{{ city.there.not }}", "{{ 1 / 0 }}", "{{ city.__class__.__mro__[1].x }}"])
def test_a_template_that_fails_on_a_sample_says_so(value: str) -> None:
    """What a template does wrong with one sample's values is told with the template; the sandbox holds."""
    with pytest.raises(TaskError, match="fails with"):
        rendered(value, Case("a", "Q", "A", None, {"city": "Rome"}))


@given(st.text(), st.text())
def test_data_is_never_a_template(text: str, answer: str) -> None:
    """Whatever a field or the reference holds comes through to the letter, and the answer plays no part."""
    case = Case("a", "Q", answer, text, {"field": text})
    assert rendered("<{{ field }}|{{ reference }}>", case) == f"<{text}|{text}>"


def test_samples_may_bring_their_own_assertions() -> None:
    """A field of the sample holds assertions, threshold and variables; the instrument names that field alone."""
    scorer = assertions_from("own", by=None, asks=True, gate=None, name="mine")
    own = {"assert": [{"type": "contains", "value": "{{ city }}"}], "threshold": 0.5, "vars": {"city": "Rome"}}
    judge = instrument(scorer)
    assertions, threshold, shown = of_case(judge, Case("a", "Q", "A", "R", {"own": own}))
    assert (scorer.name, judge.fields, judge.asks) == ("mine", ("own",), True)
    assert assertions == [{"type": "contains", "value": "Rome"}]
    assert threshold == 0.5
    assert shown == {"question": "Q", "reference": "R", "city": "Rome"}


def test_not_is_graded_as_its_base() -> None:
    """not-llm-rubric asks a model, not-contains asks none."""
    assert is_graded({"type": "not-llm-rubric"})
    assert not is_graded({"type": "not-contains"})


def test_the_documentation_names_every_assertion() -> None:
    """docs/judges-libraries.md lists what is supported."""
    page = (Path(__file__).parents[2] / "docs" / "judges-libraries.md").read_text("utf-8")
    section = page.partition("## promptfoo")[2].partition("\n## ")[0]
    assert set(re.findall(r"`([\w-]+)`", section)) >= CODE | GRADED
