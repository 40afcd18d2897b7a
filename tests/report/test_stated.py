"""What people state: front matter, sections by their usual names, and every way to get it wrong."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalgate.errors import ConfigError
from evalgate.report import CardData, render_card
from evalgate.report.stated import MORE, SECTIONS, HubTask, body, check, joined, parse

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("section", "name"), [(section, name) for section, names in SECTIONS.items() for name in names]
)
def test_every_usual_heading_is_known(section: str, name: str) -> None:
    """Case, punctuation and level of a heading do not matter."""
    assert parse(f"### {name.title()}:\n\nsaid").sections == {section: "said"}
    assert parse(f"{name.upper()}\n-----\nsaid").sections == {section: "said"}


def test_the_headings_are_in_the_docs() -> None:
    """docs/cards.md lists every name that is accepted."""
    docs = (ROOT / "docs/cards.md").read_text("utf-8").lower()
    missing = [name for names in SECTIONS.values() for name in names if name not in docs]
    assert not missing


def test_a_hugging_face_template_is_read() -> None:
    """Nested headings of the hub's own template find their sections, placeholders state nothing."""
    stated = parse(
        "# Model Card for shop\n\nA shop.\n\n## Uses\n\n### Direct Use\n\ndraft\n\n### Out-of-Scope Use\n\nmedicine\n\n"
        "## Bias, Risks, and Limitations\n\n[More Information Needed]\n\n### Recommendations\n\nask a person\n\n"
        "## Technical Specifications [optional]\n\nnone\n"
    )
    assert stated.sections == {
        "details": "#### Model Card for shop\n\nA shop.",
        "use": "draft",
        "misuse": "medicine",
        "limits": "ask a person",
        MORE: "#### Technical Specifications [optional]\n\nnone",
    }


def test_unknown_headings_are_kept() -> None:
    """What nobody foresaw is in the card all the same, with what stands below it; deeper headings stay."""
    stated = parse(
        "## Intended use\n\na\n\n### At the counter\n\nb\n\n## Colour\n\nc\n\n### Shade\n\nd\n\n## Limits\n\ne"
    )
    assert stated.sections == {
        "use": "a\n\n##### At the counter\n\nb",
        MORE: "#### Colour\n\nc\n\n##### Shade\n\nd",
        "limits": "e",
    }


def test_sections_of_several_files_come_together() -> None:
    """Two suites state their limits: the card has both."""
    said = joined({"a.md": "# One\n\n## Limits\n\nfirst", "b.md": "# Two\n\n## Limits\n\nsecond"})
    assert parse(said).sections == {"limits": "first\n\nsecond"}


def test_comments_are_for_authors() -> None:
    """A comment is no statement; other HTML is people's own."""
    assert parse("<!-- fill me in -->\n\n## Limits\n\n<!--\nlater\n-->\n").sections == {}
    assert parse("## Limits\n\n<b>none</b>").sections == {"limits": "<b>none</b>"}


def test_headings_in_code_are_no_headings() -> None:
    """A fence with a # in it, and a list with a heading in it, divide nothing."""
    text = "## Intended use\n\n```sh\n# Limits\nls\n```\n\n- # Limits"
    assert parse(text).sections == {"use": text.removeprefix("## Intended use\n\n")}


def test_nothing_states_nothing() -> None:
    """No file, an empty one, and headings alone."""
    for text in (None, "", "\n\n", "# Title\n\n## Limits\n\n## Intended use\n"):
        assert parse(text).sections == {}
    assert joined({}) is None
    assert joined({"a": "", "b": "\n"}) is None


FRONT = """---
license: apache-2.0
language: [en, de]
tags: shop
eval_datasets:
  suite/task: {id: org/name, task_id: default, revision: abc, metric: exact_match}
---
# Shop

Sells.
"""


def test_front_matter_is_read_and_not_shown() -> None:
    """Metadata come apart from the text, with either kind of line end and a byte order mark."""
    for text in (FRONT, FRONT.replace("\n", "\r\n"), f"\ufeff{FRONT}"):
        stated = parse(text)
        assert stated.meta == {"license": "apache-2.0", "language": ["en", "de"], "tags": "shop"}
        assert stated.eval_datasets == {"suite/task": HubTask("org/name", "default", "abc", "exact_match")}
        assert body(text) == "# Shop\n\nSells.\n"
    assert body("# Shop\n\n---\n\nSells.\n") == "# Shop\n\n---\n\nSells.\n"
    assert parse("---\n---\nhi").meta == {}


def test_the_html_card_shows_the_text_alone(demo: CardData) -> None:
    """Neither metadata nor comments for authors are in the page."""
    page = render_card(replace(demo, statement=f"{FRONT}\n<!-- for authors -->\n"))
    assert "<p>Sells.</p>" in page
    assert not re.search("eval_datasets|apache-2|for authors", page)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("---\nlicence: mit\n---\n", "unknown key 'licence'.*Did you mean license"),
        ("---\nmodel-index: []\n---\n", "unknown key 'model-index'"),
        ("---\n1: x\n---\n", "unknown key 1"),
        ("---\nlanguage: no\n---\n", 'language is False.*write "no"'),
        ("---\nlicense: [mit]\n---\n", "license is .*expected text"),
        ("---\ntags: [1]\n---\n", "tags is .*expected text or a list of texts"),
        ("---\ntags: 5\n---\n", "tags is 5"),
        ("---\n- a\n---\n", "holds no keys"),
        ("---\nhello\n---\n", "holds no keys"),
        ("---\na: {\n---\n", "is no YAML"),
        ("---\na: !!python/object:os.system {}\n---\n", "is no YAML"),
        ("---\nlicense: mit\n", "is not closed"),
        ("---\neval_datasets: [a]\n---\n", "eval_datasets is"),
        ("---\neval_datasets: {a/b: org/name}\n---\n", "expected texts for id and task_id"),
        ("---\neval_datasets: {a/b: {id: 1, task_id: x}}\n---\n", "expected texts"),
        ("---\neval_datasets: {a/b: {id: org/name}}\n---\n", "'task_id' is missing"),
        ("---\neval_datasets: {a/b: {id: org/name, task_id: x, split: y}}\n---\n", "'split' is unknown"),
        ("---\neval_datasets: {a/b: {id: ../name, task_id: x}}\n---\n", "is no dataset of the hub"),
        (
            "---\neval_datasets: {a/b: {id: o/n, task_id: x}, a/c: {id: o/n, task_id: x}}\n---\n",
            "two tasks name the same",
        ),
        ("## Limits\n\n```\nopen", "line 3 of its text: a code or HTML block is not closed"),
        ("```", "is not closed"),
        ("## Limits\n\n<!-- open", "is not closed"),
        ("<script>\nopen", "is not closed"),
    ],
)
def test_what_is_wrong_is_said(text: str, told: str) -> None:
    """One line with the file and what to mend; nothing is guessed or dropped."""
    with pytest.raises(ConfigError, match=told) as raised:
        parse(text, "suites/model_card.md")
    assert str(raised.value).startswith("suites/model_card.md")
    assert "\n" not in str(raised.value)


def test_front_matter_of_several_files_is_one() -> None:
    """Lists and mappings come together, the rest must be the same."""
    one = "---\nlicense: mit\ntags: a\neval_datasets: {x/y: {id: o/n, task_id: t}}\n---\nOne.\n"
    two = "---\nlicense: mit\ntags: [b, a]\neval_datasets: {x/z: {id: o/n, task_id: u}}\n---\nTwo.\n"
    said = joined({"a": one, "b": two})
    assert said
    assert body(said).strip() == "One.\n\nTwo."
    stated = parse(said)
    assert stated.meta == {"license": "mit", "tags": ["a", "b"]}
    assert set(stated.eval_datasets) == {"x/y", "x/z"}
    with pytest.raises(ConfigError, match="b: states another license than a"):
        joined({"a": one, "b": two.replace("mit", "apache-2.0")})
    with pytest.raises(ConfigError, match=r"b: states another eval_datasets\.x/y than a"):
        joined({"a": one, "b": one.replace("task_id: t", "task_id: other")})
    with pytest.raises(ConfigError, match=r"^b"):
        joined({"a": one, "b": "```"})


def test_a_statement_is_checked_before_a_run() -> None:
    """A benchmark whose metric is not said, or is none of the task's, is refused while nothing has run yet."""
    front = "---\neval_datasets: {{a/b: {{id: o/n, task_id: t{metric}}}}}\n---\n"
    several = {"a/b": ("exact_match", "chrf")}
    check(front.format(metric=", metric: chrf"), several)
    check(front.format(metric=""), {"a/b": ("chrf",)})
    check(front.format(metric=""), {"other/task": ("exact_match", "chrf")})
    check(None, several)
    for metric, told in (("", "names no metric, and a/b has several"), (", metric: bleu", "names 'bleu', not in a/b")):
        with pytest.raises(ConfigError, match=f"{told}. Write metric: one of exact_match, chrf"):
            check(front.format(metric=metric), several)


@settings(deadline=None)
@given(st.text(alphabet="#=-`~<>! \n*|[]:abLimits\t", max_size=80))
def test_any_text_is_kept_or_refused(text: str) -> None:
    """Law: a word below any text is in exactly one section, unless the text is refused as unclosed."""
    try:
        sections = parse(f"{text}\n\nWITNESS\n").sections
    except ConfigError:
        return
    assert sum(said.count("WITNESS") for said in sections.values()) == 1


def test_our_own_statement_is_complete() -> None:
    """The demo's model_card.md states every section that only people can state, and a licence for the hub."""
    stated = parse((ROOT / "evalsuites/model_card.md").read_text("utf-8"))
    assert set(SECTIONS) - set(stated.sections) <= {"analyses", "contact", "citation", "environment"}
    assert MORE not in stated.sections
    assert stated.meta["license"] == "apache-2.0"
