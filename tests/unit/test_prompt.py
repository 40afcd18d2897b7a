"""A prompt is what was written, with the sample's fields in it, and nothing else."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalgate.errors import SampleError, TaskError
from evalgate.prompt import render_prompt
from evalgate.scoring import exact_match
from evalgate.task import Sample, Task

UNHURRIED = settings(deadline=None)  # the first example imports libraries, and cores are shared
PLAIN = st.text(st.characters(exclude_characters="{}%#\r", exclude_categories=["Cs"]))


def task(prompt: Any, name: str | None = None) -> Task:
    return Task(samples=(), prompt=prompt, scorers=[exact_match()], name=name)


def render(prompt: Any, **fields: Any) -> Any:
    return render_prompt(task(prompt), Sample("s-1", fields))


@UNHURRIED
@given(PLAIN)
def test_text_without_markup_is_kept_byte_for_byte(text: str) -> None:
    """White space, line ends, quotes and HTML come out as they were written."""
    assert render(text) == text


@UNHURRIED
@given(st.text(), PLAIN, PLAIN)
def test_fields_are_data(value: str, before: str, after: str) -> None:
    """A field is put in as it is, whatever it holds: it is neither escaped nor rendered again."""
    assert render(before + "{{ x }}" + after, x=value) == before + value + after


@pytest.mark.parametrize("value", ["{{ 7 * 7 }}", "{% for x in y %}", "{# gone #}", "{{ secret }}", "<b>&amp;</b>"])
def test_markup_in_a_field_is_never_rendered(value: str) -> None:
    """Text from a data set or from a model cannot run as a template, in texts or in messages."""
    assert render("Q: {{ x }}\n", x=value, secret="s") == f"Q: {value}\n"
    chat = render([{"role": "user", "content": "{{ x }}"}], x=value, secret="s")
    assert chat == [{"role": "user", "content": value}]


def test_templates_have_jinja_s_means() -> None:
    """Loops, conditions, filters and tests work; an optional field may be asked for."""
    prompt = (
        "{% for x in xs %}{{ loop.index }}. {{ x|upper }}\n{% endfor %}{% if hint is defined %}{{ hint }}{% endif %}"
    )
    assert render(prompt, xs=["a", "b"]) == "1. A\n2. B\n"
    assert render(prompt, xs=[], hint="h") == "h"


def test_tojson_writes_plain_json() -> None:
    """JSON in a prompt is what a person would write, without the escapes that HTML needs."""
    assert render("{{ x|tojson }}", x={"a": "<é>", "b": [1, None]}) == '{"a": "<é>", "b": [1, null]}'
    assert render("{{ x|tojson(indent=1) }}", x=["'"]) == '[\n "\'"\n]'


def test_messages_keep_order_roles_and_other_texts() -> None:
    """A chat is a list of messages with rendered contents; roles are never templates."""
    prompt = [
        {"role": "system", "content": "You add."},
        {"role": "user", "content": "{{ a }}+{{ b }}"},
        {"role": "tool", "name": "adder", "content": "{{ a + b }}"},
    ]
    assert render(prompt, a=1, b=2) == [
        {"role": "system", "content": "You add."},
        {"role": "user", "content": "1+2"},
        {"role": "tool", "name": "adder", "content": "3"},
    ]


def test_missing_field_is_told_with_the_nearest() -> None:
    """The message names field, sample, prompt, the fields there are and the one that may be meant."""
    with pytest.raises(SampleError) as caught:
        render_prompt(task("{{ questoin }}", "facts"), Sample("f-7", {"id": "f-7", "question": "q"}))
    assert str(caught.value) == (
        "sample f-7, prompt of facts: the template names 'questoin'; the fields are id, question."
        " Did you mean 'question'?"
    )
    with pytest.raises(SampleError, match=r"'zzz'; the fields are a$"):
        render("{{ zzz }}", a=1)
    with pytest.raises(SampleError, match=r"sample s-1, prompt, message 1: the template names 'b'"):
        render([{"role": "user", "content": "{{ b }}"}], a=1)
    with pytest.raises(SampleError, match="no attribute 'titel'"):
        render("{{ doc.titel }}", doc={"title": 1})


@pytest.mark.parametrize("prompt", ["{{ a + b }}", "{{ a / 0 }}", "{{ a|round(b) }}", "{{ range(10 ** 9)|list }}"])
def test_template_that_fails_on_values_names_the_sample(prompt: str) -> None:
    """Arithmetic on the wrong kinds of values is told with sample and error, in one line."""
    with pytest.raises(SampleError, match=r"^sample s-1, prompt: the template fails with \w+Error: .+"):
        render(prompt, a=1, b="x")


@pytest.mark.parametrize(
    ("prompt", "line"),
    [("a\n{{ b", 2), ("{% if x %}\n\n", 1), ("\n\n{{ a|uper }}", 3), ("{% endif %}", 1), ("{{ a|random }}", 1)],
)
def test_syntax_error_is_told_with_its_line(prompt: str, line: int) -> None:
    """What is no template is the task's fault; so is a filter that draws lots."""
    with pytest.raises(TaskError, match=f"^prompt, line {line}: not a template: "):
        render(prompt, a=[1], x=1)


@pytest.mark.parametrize(
    "prompt",
    [
        "{{ a.__class__ }}",
        "{{ a.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ xs.append(1) }}",
        "{{ fields.update(a=1) }}",
        "{{ '{0.__class__}'.format(a) }}",
    ],
)
def test_sandbox_holds(prompt: str) -> None:
    """A template reaches no Python internals and cannot change the sample it renders."""
    fields: dict[str, Any] = {"a": 1, "xs": [], "fields": {}}
    with pytest.raises(TaskError, match="sandbox forbids"):
        render(prompt, **fields)
    assert fields == {"a": 1, "xs": [], "fields": {}}


@pytest.mark.parametrize(
    "prompt", ["{% include 'x' %}", "{% extends 'x' %}", "{% import 'x' as x %}", "\n{% from 'x' import y %}"]
)
def test_template_reads_no_other(prompt: str) -> None:
    """There is no file, and no path, that a template could read."""
    with pytest.raises(TaskError, match=r"line \d: a template stands alone"):
        render(prompt)


def test_there_is_no_chance_in_a_prompt() -> None:
    """Jinja's filler text, another at each call, is no name here."""
    with pytest.raises(SampleError, match="'lipsum'"):
        render("{{ lipsum() }}")


def test_carriage_return_is_kept_or_refused() -> None:
    """Jinja would turn a carriage return into a line feed, so it is refused; as an escape or data it stays."""
    with pytest.raises(TaskError, match=r"Write \{\{ '\\r' \}\}"):
        render("a\r\nb")
    assert render(r"a{{ '\r' }}b{{ x }}", x="\r\n") == "a\rb\r\n"


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ([], "at least one message"),
        ([{"role": "robot", "content": "x"}], "message 1: the role is 'robot', expected one of system, user"),
        ([{"role": "user", "content": "x"}, {"role": "user"}], "message 2: expected a message with role and content"),
        (["x"], "message 1: expected a message"),
        ([{"role": "user", "content": ["x"]}], "message 1: expected a template, found"),
        ([{"role": "user", "content": None}], "message 1: expected a template, found None"),
    ],
)
def test_messages_that_are_none_are_refused(prompt: Any, says: str) -> None:
    """A chat needs messages with a known role and a text."""
    with pytest.raises(TaskError, match=says):
        render(prompt)


def test_ten_thousand_short_prompts_take_less_than_a_second() -> None:
    """Templates are compiled once, so that rendering is no part of a run that anybody notices."""
    addition = task("Q: {{ a }}+{{ b }}=\nA:")
    samples = [Sample(f"s-{n}", {"id": f"s-{n}", "a": n, "b": 1}) for n in range(10_000)]
    start = time.process_time()
    texts = [render_prompt(addition, sample) for sample in samples]
    assert time.process_time() - start < 1
    assert texts[-1] == "Q: 9999+1=\nA:"
