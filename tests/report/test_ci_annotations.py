"""Annotations: one per metric that fails, at its task's line, one for the session; as GitHub and GitLab read them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tests.plugin.hostile import commands_in

from evalgate.gate import Outcome
from evalgate.report import CardData
from evalgate.report.ci import Annotation, Links, Place, Told, annotate, github, gitlab
from evalgate.report.results import Results, compared


def told(*cards: CardData, exit_code: int = 1, error: str | None = None) -> Told:
    """A session that gated these."""
    candidates = tuple(compared(c.name, c.digest or "", None, c.family, f"reports/{c.name}/index.html") for c in cards)
    return Told(
        results=Results(exit=exit_code, candidates=candidates, error=error),
        cards={card.name: card for card in cards},
        places={task: Place("evalsuites/test_shop.py", 12) for card in cards for task in card.candidates},
        links=Links(files="https://gitlab.example/p/-/jobs/5/artifacts/file/"),
    )


def test_what_fails_is_an_error_at_its_task(demo: CardData) -> None:
    """Errors for what blocks, a warning for what is undecided, a notice for what informs, nothing for what passed."""
    first, *found = annotate(told(demo))
    assert (first.level, first.title, first.place) == ("error", "evalgate REGRESSION: v3", None)
    assert first.message.endswith("card: reports/v3/index.html")
    assert [(each.level, each.title) for each in found] == [
        ("error", "REGRESSION arithmetic/addition::exact_match"),
        ("notice", "REGRESSION arithmetic/addition::chrf"),
        ("warning", "INCONCLUSIVE facts/lookup::exact_match"),
        ("error", "NO BASELINE chat/identity::exact_match"),
    ]
    assert {each.place for each in found} == {Place("evalsuites/test_shop.py", 12)}
    assert found[0].message.startswith(
        "-6.0 pt [-8.5, -3.7]  n=500  was .936, now .876; worse: p < .0001 at level .025"
    )
    assert "41 samples broke, 11 were fixed; worst slice digits=2 -17.4 pt" in found[0].message


def test_undecided_is_an_error_where_the_policy_says_so(demo: CardData) -> None:
    """`inconclusive = "fail"` makes it block, and so it is shown."""
    family = replace(demo.family, policy=replace(demo.family.policy, inconclusive="fail"))
    found = annotate(told(replace(demo, family=family)))
    assert [each.level for each in found if each.title.startswith("INCONCLUSIVE")] == ["error"]


def test_commands_are_what_the_runner_reads(demo: CardData) -> None:
    """Errors first; file and line as given, in a command each."""
    found = commands_in("\n".join(github.commands(annotate(told(demo)))))
    assert [each.name for each in found] == ["error", "error", "error", "warning", "notice"]
    assert found[1].properties == {
        "file": "evalsuites/test_shop.py",
        "line": "12",
        "title": "REGRESSION arithmetic/addition::exact_match",
    }
    assert "file" not in found[0].properties


@pytest.mark.parametrize(("count", "shown", "more"), [(9, 9, 0), (10, 10, 0), (11, 9, 2), (500, 9, 491)])
def test_ten_of_a_level_are_shown(count: int, shown: int, more: int) -> None:
    """GitHub shows no more of a step: the tenth then says how many there are, and the session's own is never lost."""
    some = [Annotation("error", f"t{i}", "m", f"k{i}") for i in range(count)]
    lines = github.commands([*some, Annotation("warning", "w", "m", "k")])
    errors = [line for line in lines if line.startswith("::error")]
    assert len(errors) == shown + bool(more) <= github.ANNOTATIONS
    assert lines[0] == "::error title=t0::m"
    assert (f"::error title=evalgate::{more} more: the summary and the cards have them" in errors) == bool(more)
    assert lines[-1] == "::warning title=w::m"


def test_a_session_without_verdicts_is_an_error() -> None:
    """What a person typed wrong is annotated, too, and is in GitLab's report: no report at all looks like a pass."""
    broken = Told(results=Results(exit=4, error="--model: no such folder"))
    (only,) = annotate(broken)
    assert (only.level, only.message) == ("error", "--model: no such folder")
    (entry,) = json.loads(gitlab.code_quality([only], "evalsuites"))
    assert entry["location"] == {"path": "evalsuites", "lines": {"begin": 1}}
    assert entry["severity"] == "critical"


def test_a_pass_is_a_notice(demo: CardData) -> None:
    """And GitLab's report is empty."""
    verdicts = tuple(verdict for verdict in demo.family.verdicts if verdict.outcome is Outcome.PASS)
    family = replace(demo.family, verdicts=verdicts, outcome=Outcome.PASS, reason="all hold")
    found = annotate(told(replace(demo, family=family), exit_code=0))
    assert [(each.level, each.title) for each in found] == [("notice", "evalgate PASS: v3")]
    assert json.loads(gitlab.code_quality(found, "evalsuites")) == []


def test_code_quality_is_of_the_published_shape(demo: CardData) -> None:
    """Description, check_name, fingerprint, severity, location: the fields that GitLab reads, with values it knows."""
    found = json.loads(gitlab.code_quality(annotate(told(demo)), "evalsuites"))
    assert len(found) == 4
    for entry in found:
        assert set(entry) == {"description", "check_name", "fingerprint", "severity", "location"}
        assert entry["severity"] in ("info", "minor", "major", "critical", "blocker")
        assert entry["location"] == {"path": "evalsuites/test_shop.py", "lines": {"begin": 12}}
        assert entry["check_name"] == "evalgate"
    assert len({entry["fingerprint"] for entry in found}) == 4


def test_a_finding_is_the_same_one_in_the_next_run(demo: CardData) -> None:
    """Its fingerprint depends on task and metric, not on numbers or on what tonight's candidate is called."""
    worse = replace(demo.family.verdicts[0], reason="other numbers")
    again = replace(demo, name="v9", family=replace(demo.family, verdicts=(worse, *demo.family.verdicts[1:])))
    keys = [[each.key for each in annotate(told(card))] for card in (demo, again)]
    assert keys[0] == keys[1]
    both = annotate(told(demo, again))
    assert len({each.key for each in both}) == len(both) == 9


def test_the_job_page_links_the_cards(demo: CardData) -> None:
    """A section with a link per candidate; none where the job has no address."""
    (link,) = json.loads(gitlab.annotations_report(told(demo)))["evalgate"]
    assert link == {
        "external_link": {
            "label": "v3: REGRESSION, the card",
            "url": "https://gitlab.example/p/-/jobs/5/artifacts/file/reports/v3/index.html",
        }
    }
    assert json.loads(gitlab.annotations_report(replace(told(demo), links=Links()))) == {}
