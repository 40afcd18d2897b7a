"""`judge(…)` and `prefer(…)`: what they declare, and what is refused before any engine starts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from evalgate import Gate, Scorer, Task, judge, prefer
from evalgate.digest import digest
from evalgate.errors import SampleError, ScorerError, TaskError
from evalgate.instrument import Case, Instrument
from evalgate.judges import prompt
from evalgate.request import Completion
from evalgate.samples import read_samples
from evalgate.scoring import apply
from evalgate.scoring.rubric import PREFERENCE, REVISION
from evalgate.task import Sample

RIGHT = "Does the answer say what the reference says?"


def instrument(scorer: Scorer) -> Instrument:
    assert scorer.judge is not None
    return scorer.judge


def test_a_rubric_is_enough() -> None:
    """One line declares a judge from 1 to 5 that sees the reference and is the settings' own."""
    scorer = judge(RIGHT)
    made = instrument(scorer)
    assert (scorer.name, scorer.low, scorer.high, scorer.binary, scorer.gate) == ("judge", 1, 5, False, None)
    assert (made.kind, made.by, made.reference, made.fields, made.pairwise) == ("native", ("default",), True, (), False)
    assert made.settings == {
        "rubric": RIGHT,
        "scale": dict.fromkeys("12345", ""),
        "explain": False,
        "template": None,
        "revision": REVISION,
    }


def test_everything_that_is_given_is_kept() -> None:
    """A scale with meanings is in rising order, and names, canaries and gate stand where they belong."""
    gate = Gate(margin=0.1)
    scorer = judge(
        RIGHT,
        scale={2: "right", 0: "wrong"},
        reference=False,
        fields=["page"],
        explain=True,
        by=["ours", "theirs"],
        good=[""],
        bad=["Yes.", "No."],
        gate=gate,
        name="truth",
    )
    made = instrument(scorer)
    assert list(made.settings["scale"].items()) == [("0", "wrong"), ("2", "right")]
    assert (made.low, made.high, made.by, made.fields) == (0.0, 2.0, ("ours", "theirs"), ("page",))
    assert (made.good, made.bad, made.reference, made.settings["explain"]) == (("",), ("Yes.", "No."), False, True)
    assert (scorer.gate, scorer.name, scorer.high) == (gate, "truth", 2)
    assert instrument(judge(RIGHT, by="ours")).by == ("ours",)


def test_a_preference_is_from_0_to_1() -> None:
    """The baseline's, neither, the candidate's; with a rubric of ours where none is given."""
    made = instrument(prefer())
    assert (prefer().name, made.low, made.high, made.pairwise, made.reference) == ("prefer", 0, 1, True, True)
    assert made.settings == {"rubric": PREFERENCE, "revision": REVISION}
    other = instrument(prefer("Which is shorter?", reference=False, fields=["page"], by="ours"))
    assert (other.settings["rubric"], other.reference, other.fields, other.by) == (
        "Which is shorter?",
        False,
        ("page",),
        ("ours",),
    )


@pytest.mark.parametrize(
    "other",
    [
        judge(RIGHT + " "),
        judge(RIGHT, scale=(1, 4)),
        judge(RIGHT, scale={1: "bad", 2: "", 3: "", 4: "", 5: ""}),
        judge(RIGHT, explain=True),
        judge(RIGHT, template="{{ answer }}{{ ask }}"),
        judge(RIGHT, reference=False),
        judge(RIGHT, fields=["page"]),
        prefer(RIGHT),
    ],
)
def test_what_changes_a_judgement_changes_the_identity(other: Scorer) -> None:
    """Rubric, scale, meanings, form, template and what is seen: each makes another instrument and another metric."""
    assert instrument(other).digest != instrument(judge(RIGHT)).digest
    assert other.metric.digest != judge(RIGHT).metric.digest


def test_who_judges_and_canaries_are_no_identity() -> None:
    """Names of judges are not content (their weights are, once bound), and canaries change no judgement."""
    plain = instrument(judge(RIGHT))
    assert instrument(judge(RIGHT, by="ours", good=["x"], bad=["y"], name="truth")).digest == plain.digest


def test_the_prompt_is_pinned() -> None:
    """Templates, fence and escapes make up the revision: who changes them raises it, and this digest with it."""
    case = Case("s", "Q <x>", "A\n\u200b[INST]", "R", {"page": {"n": [1, None]}}, "B")
    shown = [
        prompt.messages(instrument(scorer), case, swapped=swapped, special=("Q",))
        for scorer in (judge(RIGHT), judge(RIGHT, explain=True), judge(RIGHT, scale={0: "no", 1: "yes"}), prefer())
        for swapped in (False, True)
    ]
    assert (REVISION, digest([[dict(m) for m in messages] for messages in shown])[:19]) == (1, "sha256:bdb5fdb15449")


@pytest.mark.parametrize("rubric", ["", " \n", None, 5, ["x"]])
@pytest.mark.parametrize("make", [judge, prefer])
def test_a_rubric_needs_words(make: Any, rubric: Any) -> None:
    """Nothing, white space and other things are no rubric."""
    with pytest.raises(TaskError, match=r"the rubric is .*, expected words"):
        make(rubric)


@pytest.mark.parametrize(
    ("scale", "said"),
    [
        ((1, 1), "has not from 2 to 101 grades"),
        ((5, 1), "has not from 2 to 101 grades"),
        ({1: "right"}, "has not from 2 to 101 grades"),
        ((0, 10), "from 0 to 10, expected grades from 0 to 9.*explain=True"),
        ((-1, 1), "from -1 to 1, expected grades from 0 to 9"),
        ({1: "a", 12: "b"}, "from 1 to 12"),
        ((0, 10**30), "has not from 2 to 101 grades"),
        ((1, 2, 3), "expected its lowest and highest grade"),
        ((1,), "expected its lowest and highest grade"),
        ((0.0, 1.0), "expected whole numbers"),
        ((False, True), "expected whole numbers"),
        ({"1": "a", "2": "b"}, "expected whole numbers"),
        ({0: 1, 1: 2}, "expected a text for each grade"),
        ((), "expected whole numbers"),
        ({}, "expected whole numbers"),
        (5, "expected whole numbers"),
        ("15", "expected whole numbers"),
        (None, "expected whole numbers"),
    ],
)
def test_a_scale_that_is_none_is_refused(scale: Any, said: str) -> None:
    """With what was given, what is expected and how to write it."""
    with pytest.raises(TaskError, match=said):
        judge(RIGHT, scale=scale)


def test_long_scales_need_a_written_grade() -> None:
    """With a reason and a grade in JSON, grades may have several digits and a sign; 101 of them at most."""
    assert instrument(judge(RIGHT, scale=(0, 100), explain=True)).high == 100
    assert list(instrument(judge(RIGHT, scale=(-2, 2), explain=True)).settings["scale"]) == ["-2", "-1", "0", "1", "2"]
    with pytest.raises(TaskError, match="2 to 101 grades"):
        judge(RIGHT, scale=(0, 101), explain=True)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ answer", "TemplateSyntaxError"),
        ("{% for %}{{ answer }}", "TemplateSyntaxError"),
        ("{{ anwser }}", "'anwser' is undefined.*It is given rubric, grades"),
        ("{{ answer }}{{ answer | nofilter }}", "No filter named"),
        ("{{ answer }}{{ fields + 1 }}", "TypeError"),
        ("{{ answer }}{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ answer }}{% include 'x' %}", "no loader"),
        ("{{ answer }}{{ ''.__class__.__mro__ }}", "SecurityError"),
        ("{{ answer }}{{ [1, 2] | random }}", "No filter named 'random'"),
        ("{{ rubric }} {{ ask }}", r"does not show the answer as it is\. Put {{ answer }}"),
        ("{{ answer | upper }}", "does not show the answer as it is"),
        ("{% if reference is none %}{{ answer }}{% endif %}", "does not show the answer as it is"),
        ("", "does not show the answer as it is"),
    ],
)
def test_a_template_is_tried_when_it_is_declared(template: str, said: str) -> None:
    """Whatever fails on harmless data, or does not show the answer, fails before an engine starts."""
    with pytest.raises(TaskError, match=said):
        judge(RIGHT, template=template)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"fields": "page"}, "fields is the text 'page', expected a list"),
        ({"good": "yes"}, "good is the text 'yes'"),
        ({"bad": "no"}, "bad is the text 'no'"),
        ({"fields": [""]}, "expected a list of names"),
        ({"fields": ["a", "a"]}, "fields names 'a' twice"),
        ({"good": ["", ""]}, "good names '' twice"),
        ({"good": [1]}, "expected a list of texts"),
        ({"fields": 5}, "fields is 5, expected a list of names"),
        ({"good": 5}, "good is 5, expected a list of texts"),
        ({"by": 5}, "by is 5, expected a list of names"),
        ({"by": []}, "by names no judge"),
        ({"by": ""}, "expected a list of names"),
        ({"by": ["ours", "ours"]}, "by names 'ours' twice"),
        ({"good": ["x"], "bad": ["y", "x"]}, "the answer 'x' is said to be good and bad"),
        ({"name": "two words"}, "without white space"),
        ({"name": 5}, "scorer 5: a scorer's name stands in test ids"),
        ({"gate": 0.1}, r"the gate is 0.1, expected a Gate\. Write gate=Gate\(margin=0.05\)"),
    ],
)
def test_names_that_are_none_are_refused(arguments: Any, said: str) -> None:
    """A text or a number where a list is meant, empty and doubled names, an answer both good and bad, a bare margin."""
    with pytest.raises(TaskError, match=said):
        judge(RIGHT, **arguments)


@pytest.mark.parametrize("make", [judge, prefer])
def test_a_sample_without_what_the_judge_sees_is_told(make: Any) -> None:
    """Which sample, which field, and what may be meant; a target where the reference is seen, and only there."""
    seeing = make(RIGHT, fields=["context"])
    assert seeing.check(Sample("s", {"context": 1}, target="x")) is None
    assert "the field 'context'; did you mean 'contxt'?" in seeing.check(Sample("s", {"contxt": 1}, target="x"))
    assert "the field 'context'; there are zzz" in seeing.check(Sample("s", {"zzz": 1}, target="x"))
    assert "the field 'context'; there are none" in seeing.check(Sample("s", {}, target="x"))
    assert "there is no target" in seeing.check(Sample("s", {"context": 1}))
    assert seeing.check(Sample("s", {"context": 1}, target=["a list", 1])) is None
    assert make(RIGHT, reference=False).check(Sample("s", {})) is None


def test_eval_data_is_checked_when_it_is_read() -> None:
    """The reader names metric, sample and reason, before an engine starts."""
    rows = [{"id": "s-1", "q": "?", "target": "!", "page": ""}, {"id": "s-2", "q": "?", "target": "!"}]
    task = Task(samples=rows, prompt="{{ q }}", scorers=[judge(RIGHT, fields=["page"], name="truth")], name="t")
    with pytest.raises(SampleError, match="truth cannot score sample s-2: the judge is to see the field 'page'"):
        list(read_samples(task, "suite/t"))


def test_no_code_scores_for_a_judge() -> None:
    """Called as a scorer it is an error, never a score."""
    with pytest.raises(ScorerError, match="is a judge's"):
        apply(judge(RIGHT), Completion("r", "text"), Sample("s", {}, target="x"))


def test_settings_are_json() -> None:
    """What the child and the records get is what was declared."""
    for scorer in (judge(RIGHT, scale={0: "no", 3: "yes"}), prefer()):
        settings = dict(instrument(scorer).settings)
        assert json.loads(json.dumps(settings)) == settings
