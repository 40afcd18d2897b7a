"""Whatever models, judges and data files wrote does nothing in a summary, a comment, an annotation or a report."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from tests.plugin.hostile import EVERY, PAYLOADS, active_in, commands_in, formulas_in, invisible

from evalgate.report import CardData
from evalgate.report.ci import Annotation, Links, Place, Told, annotate, comment, github, gitlab
from evalgate.report.results import Results, compared
from evalgate.report.terminal import junit_properties

RUN = "https://github.com/someone/something/actions/runs/17"
Hostile = Callable[..., CardData]


def told_of(*cards: CardData, error: str | None = None, exit_code: int = 1) -> Told:
    """A session that gated these, as the plugin tells it; with the first one's name wherever else a name may stand."""
    name = cards[0].name
    return Told(
        results=Results(
            exit=exit_code,
            candidates=tuple(
                compared(card.name, card.name, card.name, card.family, f"reports/{card.name}/index.html")
                for card in cards
            ),
            error=error,
            ledger=name,
        ),
        cards={card.name: card for card in cards},
        places={task: Place(f"evalsuites/{name}.py", 3) for card in cards for task in card.candidates},
        missing=(name,),
        command=f"pytest --model {name}",
        links=Links(RUN, f"{RUN}/"),
    )


@pytest.mark.parametrize("kind", PAYLOADS)
def test_the_payloads_act_where_nothing_stops_them(kind: str) -> None:
    """Negative control: the checkers find what the payloads do where they stand as they are."""
    assert len(PAYLOADS[kind]) >= 40
    plain = "## ❌ {0}\n\n| {0} | b | c | d | e | f |\n\n- {0}\n\n{0}\n\n```text\n{0}\n```\n"
    finds: dict[str, Callable[[str], object]] = {
        "ansi": invisible,
        "osc 8": invisible,
        "commands": commands_in,
        "markdown": lambda text: active_in(plain.format(text)),
        "formulas": lambda text: formulas_in('"x","{}"\r\n'.format(text.replace('"', '""'))),
    }
    missed = [text for text in PAYLOADS[kind] if not finds[kind](text)]
    assert len(PAYLOADS[kind]) - len(missed) >= 40, missed
    assert not active_in(plain.format("a word"))


@pytest.mark.parametrize("kind", PAYLOADS)
def test_nothing_acts_in_markdown(hostile_card: Hostile, kind: str) -> None:
    """Comment and summary hold our own structure, links to the run alone, and no control character or command."""
    for text in PAYLOADS[kind]:
        told = told_of(hostile_card(text))
        summary = github.summary(told, 0)
        assert summary
        for said in (comment(told), summary, comment(told_of(hostile_card("x"), error=text))):
            assert active_in(said, links=(RUN,)) == [], text
            assert not invisible(said), text
            assert commands_in(said) == [], text


def test_nothing_acts_in_annotations(hostile_card: Hostile) -> None:
    """Each line is one command of ours with the properties that we gave it; the data hold no control character."""
    for text in EVERY:
        found = annotate(told_of(hostile_card(text)))
        lines = github.commands(found)
        assert len(lines) == len(found) <= 10
        for line in lines:
            (command,) = commands_in(line)
            assert command.name in ("error", "warning", "notice")
            assert set(command.properties) <= {"file", "line", "title"}
            assert not invisible(command.data + command.properties["title"])
        log = "\n".join(lines)
        assert len(commands_in(log)) == len(lines)
        assert not invisible(log)


def test_an_annotation_comes_back_as_it_was() -> None:
    """What the runner reads is what was said: percent signs, line feeds, colons and commas survive."""
    said = "100 %25 of it, a:b::c\r\n=]"
    (line,) = github.commands([Annotation("error", said, said, "k", Place(f"a,b:{said}/t.py", 7))])
    (command,) = commands_in(line)
    assert command.data == command.properties["title"] == said
    assert command.properties["file"] == f"a,b:{said}/t.py"
    assert command.properties["line"] == "7"


def test_nothing_acts_in_outputs(hostile_card: Hostile) -> None:
    """The file of outputs sets three values, whatever a checkpoint's folder is called, and no other."""
    for text in EVERY:
        told = told_of(replace(hostile_card(text), name=f"{text}\nEOF\nother=x"))
        said = github.outputs(told, "reports/comment.md")
        lines, found = said.split("\n"), {}
        while lines[0]:
            name, _, end = lines.pop(0).partition("<<")
            place = lines.index(end)
            found[name] = lines[:place]
            del lines[: place + 1]
        assert list(found) == ["verdict", "card", "comment"]
        assert len(found["card"]) == 1
        assert not invisible(said)


def test_nothing_acts_in_reports_of_gitlab(hostile_card: Hostile) -> None:
    """Pure ASCII, no markup, every entry of the shape that GitLab reads; an address has no space and no control."""
    for text in EVERY:
        told = told_of(hostile_card(text))
        quality, links = gitlab.code_quality(annotate(told), "evalsuites"), gitlab.annotations_report(told)
        for raw in (quality, links):
            assert not set(raw.decode("ascii")) & set("<>&\x1b\r")
        for entry in json.loads(quality):
            assert not invisible(entry["description"] + entry["location"]["path"])
        for entry in json.loads(links)["evalgate"]:
            assert not invisible(entry["external_link"]["label"])
            assert not set(entry["external_link"]["url"]) & set(" <>\"'\n\r\x1b\u2028")


def test_nothing_acts_in_junit(hostile_card: Hostile) -> None:
    """Properties are XML when an XML writer is given them, and inert when somebody prints them."""
    for text in EVERY:
        data = hostile_card(text)
        for verdict in data.family.verdicts:
            pairs = junit_properties(verdict, near_ties=data.near_ties)
            node = ElementTree.Element("properties")
            for name, value in pairs:
                ElementTree.SubElement(node, "property", name=name, value=value)
                assert not invisible(value)
                assert not commands_in(value)
            read = ElementTree.fromstring(ElementTree.tostring(node, encoding="utf-8"))
            assert [each.get("value") for each in read] == [value for _, value in pairs]
