"""What stands behind a verdict: power, leaks, golden samples, judges, tokens, and the commands that show it again."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest

from evalgate.digest import digest, short
from evalgate.gate import Outcome, Verdict
from evalgate.report import CardData
from evalgate.report.card import evidence
from evalgate.report.card.commands import commands
from evalgate.report.card.judged import UNCALIBRATED, judged
from evalgate.report.card.tokens import spent
from evalgate.report.power import COLUMNS

ORDERS = "orders/extraction"


# -- power, leaks, golden samples --------------------------------------------------------------------------------------


def test_power_is_said_in_words(full: CardData) -> None:
    """Each blocking metric has the columns of `evalgate plan`, and a word for what they mean."""
    assert full.power
    found = evidence.power(full.power)
    assert found
    assert found.head == "power .80 at level .005 (alpha .05, 5 tests)"
    assert all(len(cells) == len(COLUMNS) for cells, _ in found.rows)
    assert [said.partition(":")[0] for _, said in found.rows] == ["underpowered"] * 3
    assert "assumed until the first comparison" in found.legend[-1]
    strong = replace(full.power.lines[0], detectable=0.01, needed=400)
    unknown = replace(full.power.lines[0], detectable=None)
    said = evidence.power(replace(full.power, lines=(strong, unknown)))
    assert said
    assert [word for _, word in said.rows] == ["enough", "not known"]


def test_without_a_plan_there_is_no_power(full: CardData) -> None:
    """Records that were only compared have none, nor has a family without a blocking metric."""
    assert full.power
    assert evidence.power(None) is None
    assert evidence.power(replace(full.power, lines=())) is None


def test_leaked_samples_are_counted_with_what_the_others_say(demo: CardData) -> None:
    """By the verdict where it was computed, else by what either side's records name."""
    assert evidence.leaked(demo.family, demo.candidates, demo.baselines) == []
    first, *others = demo.family.verdicts
    clean = replace(first, outcome=Outcome.PASS, comparison=None, reason="nothing left")
    family = replace(demo.family, verdicts=(replace(first, leaked=12, clean=clean), *others))
    facts = demo.baselines["facts/lookup"]
    baselines = {**demo.baselines, "facts/lookup": replace(facts, provenance={"leaked": ["facts-0001", "facts-0002"]})}
    assert evidence.leaked(family, demo.candidates, baselines) == [
        ("arithmetic/addition::exact_match", "12", "PASS  nothing left"),
        ("facts/lookup::exact_match", "2", "not computed"),
    ]


def test_golden_samples_are_counted_and_named(demo: CardData) -> None:
    """Where they are declared, and where they broke."""
    assert evidence.golden(demo.family, demo.candidates) == [("arithmetic/addition", "2", "none")]
    assert evidence.golden(demo.family, {}) == []


# -- judges -----------------------------------------------------------------------------------------------------------


def facts_of(data: CardData) -> dict[str, str]:
    """What is said of the one judge."""
    (found,) = judged(data.family, data.candidates, data.baselines)
    assert (found.task, found.metric) == (ORDERS, "exact_match")
    return dict(found.facts)


def saying(data: CardData, **changes: object) -> CardData:
    """The card with something else recorded of the judge."""
    side = data.candidates[ORDERS]
    described = {**side.environment["judges"]["exact_match"], **changes}
    environment = {**side.environment, "judges": {"exact_match": described}}
    return replace(data, candidates={**data.candidates, ORDERS: replace(side, environment=environment)})


def test_a_judge_is_described(full: CardData) -> None:
    """Model, agreement, rubric and digests, canaries, the baseline's judge, and what may sway it."""
    assert facts_of(full) == {
        "Judge": f"native, tiny: judge-v1 ({short(digest('tiny'))})",
        "Agreement with people": "kappa 0.93 on 1,200 labels",
        "Blocks": "yes",
        "Rubric": f"Is it what was asked for? ({short(digest('Is it what was asked for?'))})",
        "Settings": short(digest(full.candidates[ORDERS].environment["judges"]["exact_match"]["settings"])),
        "Identity (weights, prompt, rubric, decoding)": digest("it"),
        "Canaries and refused replies": "no score was refused: no canary was misjudged, no reply unusable",
        "Baseline's scores": "by the same judge",
        "Beside the verdict": "answers are 31 % longer than the baseline's",
    }


def test_a_judge_that_nobody_calibrated_is_called_so(full: CardData) -> None:
    """Plainly, with what was not measured; an interval is shown where it was."""
    bare = saying(full, kappa=None, labels=None, models=[], versions={"ragas": "0.4.3", "a": "1"}, settings={"b": 1})
    facts = facts_of(bare)
    assert facts["Agreement with people"] == UNCALIBRATED
    assert facts["Judge"] == "native, asks no model"
    assert facts["Versions"] == "a 1, ragas 0.4.3"
    assert "Rubric" not in facts
    assert not judged(bare.family, bare.candidates, bare.baselines)[0].calibrated
    measured = facts_of(saying(full, interval=[0.881, 0.987]))
    assert measured["Agreement with people"] == "kappa 0.93 [0.88, 0.99] on 1,200 labels"


def test_scores_that_a_judge_was_refused_are_counted(full: CardData) -> None:
    """A judge that missed its canaries has no score anywhere, and says which."""
    side = full.candidates[ORDERS]
    rows = [replace(row, faults={"exact_match": "it misjudged 3 of 12 canaries"}) for row in side.rows]
    rows[0] = replace(rows[0], faults={"exact_match": "its own"})
    rows[1] = replace(rows[1], faults={})
    data = replace(full, candidates={**full.candidates, ORDERS: replace(side, rows=tuple(rows))})
    failed = tuple(replace(verdict, spec=None, comparison=None) for verdict in data.family.verdicts)  # as an ERROR is
    for told in (data, replace(data, family=replace(data.family, verdicts=failed))):
        said = facts_of(told)["Canaries and refused replies"]
        assert said == "399 of 400 samples have no score: it misjudged 3 of 12 canaries"


def test_another_judge_of_the_baseline_is_said(full: CardData, demo: CardData) -> None:
    """Whether both sides were judged alike."""
    before = full.baselines[ORDERS]
    other = replace(before, metrics=(replace(before.metrics[0], judge="sha256:other"),))
    for side, said in ((other, "by another judge: sha256:other"), (demo.baselines[ORDERS], "not judged")):
        data = replace(full, baselines={**full.baselines, ORDERS: side})
        assert facts_of(data)["Baseline's scores"] == said
    assert facts_of(replace(full, baselines={}))["Baseline's scores"] == "there is no baseline"


def test_without_a_judge_there_is_nothing_to_say(demo: CardData, full: CardData) -> None:
    """Metrics of code, and records that describe no judge."""
    assert judged(demo.family, demo.candidates, demo.baselines) == ()
    assert judged(full.family, demo.candidates, full.baselines) == ()


# -- tokens -----------------------------------------------------------------------------------------------------------


def test_tokens_are_summed_per_task_and_side(demo: CardData) -> None:
    """Prompt and completion, the mean per sample and how it changed; what nobody counted has no row."""
    (row,) = spent(demo.candidates, demo.baselines)
    assert (row.task, row.n, row.prompt, row.completion) == ("arithmetic/addition", "500", "4,500", "1,500")
    assert (row.was_prompt, row.was_completion, row.mean, row.was_mean) == ("4,500", "1,500", "3.0", "3.0")
    assert row.change == "0.0 %"
    assert spent({}, {}) == ()


def test_several_tasks_have_a_sum_over_what_both_sides_answered(demo: CardData) -> None:
    """A task without a counted baseline says so, and is not in the sum."""
    longer = {
        task: replace(side, rows=tuple(replace(row, tokens=(10, 6)) for row in side.rows))
        for task, side in demo.candidates.items()
    }
    before = {ORDERS: replace(longer[ORDERS], rows=tuple(replace(r, tokens=(10, 3)) for r in longer[ORDERS].rows))}
    rows = {row.task: row for row in spent(longer, {**demo.baselines, **before})}
    assert rows["chat/identity"].was_mean == rows["chat/identity"].change == ""
    assert rows[ORDERS].change == "+100.0 %"
    total = rows["2 tasks that both sides answered"]
    assert (total.n, total.completion, total.was_completion) == ("900", "5,400", "2,700")


def test_a_reserve_that_only_the_baseline_answered_is_not_counted(demo: CardData) -> None:
    """Both sides are counted over the same samples, so that longer answers of other questions change nothing."""
    side = demo.candidates["arithmetic/addition"]
    tail = tuple(replace(row, id=f"reserve-{i}", tokens=(900, 900)) for i, row in enumerate(side.rows[:40]))
    was = replace(side, rows=side.rows + tail)
    for now, before in ((side, was), (was, side)):
        (row,) = spent({side.task: now}, {side.task: before})
        assert (row.n, row.completion, row.was_completion, row.change) == ("500", "1,500", "1,500", "0.0 %")
    (apart,) = spent({side.task: side}, {side.task: replace(was, rows=tail)})
    assert (apart.n, apart.completion, apart.was_completion) == ("500", "1,500", "36,000")


# -- commands ---------------------------------------------------------------------------------------------------------


def test_the_commands_can_be_copied(full: CardData) -> None:
    """Gate, show, render, train, accept, verify: with what this card is about filled in."""
    found = dict(commands(full))
    assert found == {
        "Gate it again": "pytest evalsuites/ --model runs/v3",
        "Show a sample that broke": "evalgate show runs/v3 arithmetic/addition --sample=sums-0024",
        "Make this page again, from the records": "evalgate card runs/v3",
        "Train it again, and compare": "evalgate reproduce runs/v3",
        "Accept it as the baseline": 'evalgate accept runs/v3 -m "why it is good enough"',
        "Check every record and the ledger's chain": "evalgate verify",
    }
    assert "Train it again, and compare" not in dict(commands(replace(full, lineage=None)))
    assert full.lineage
    assert full.lineage.training
    odd = replace(full.lineage, training=replace(full.lineage.training, config={"publishing": "odd"}))
    assert dict(commands(replace(full, folder=None, lineage=odd)))["Train it again, and compare"].endswith(" runs/v3")


def broken(data: CardData, *ids: str) -> CardData:
    """The card where these samples broke."""
    verdict = data.family.verdicts[0]
    assert verdict.comparison
    one: Verdict = replace(verdict, comparison=replace(verdict.comparison, broken=ids))
    return replace(data, family=replace(data.family, verdicts=(one,)))


@pytest.mark.parametrize("name", ["v3; rm -rf ~", "$(hit)", "`hit`", "it's", '"', "a b", "\\", "--model x", "!!", "*"])
def test_what_others_named_is_one_word_of_the_shell(full: CardData, name: str) -> None:
    """A name or an id with the shell's own characters stays a name, and one that is an option is left out."""
    found = dict(commands(replace(broken(full, name), folder=None, name=name)))
    shown = shlex.split(found["Make this page again, from the records"])
    if name.startswith("-"):
        assert shown == ["evalgate", "card", full.digest]
        assert "Show a sample that broke" not in found
        return
    assert shown == ["evalgate", "card", name]
    told = ["evalgate", "show", name, "arithmetic/addition", f"--sample={name}"]
    assert shlex.split(found["Show a sample that broke"]) == told


@pytest.mark.parametrize("name", ["a\nb", "a\u202eb", "a\x1b[31m", "a\u200bb", ""])
def test_what_does_not_show_as_what_it_is_is_not_offered(full: CardData, name: str) -> None:
    """Nobody can copy what nobody sees: another sample is shown, and the checkpoint is named by its digest."""
    found = dict(commands(replace(broken(full, name, "good"), folder=name, name=name)))
    show = found["Show a sample that broke"] if name else ""
    assert show.endswith("--sample=good") or not name
    assert found["Make this page again, from the records"] == f"evalgate card {full.digest}"
    nobody = replace(full, folder=None, name=name, candidates={})
    assert list(dict(commands(nobody))) == ["Gate it again"]
