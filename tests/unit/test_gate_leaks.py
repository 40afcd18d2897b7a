"""Leaked samples: the verdict stands on all samples and on clean ones, and one that turns is INCOMPARABLE."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalgate.evaluation import Evaluation, Row
from evalgate.gate import Family, Gate, Member, Outcome, Policy, Verdict, decide
from evalgate.report.card.sides import provenance
from evalgate.report.card.view import lines
from evalgate.report.summary import summary_lines
from evalgate.report.terminal import detail_lines, junit_properties
from tests.unit.evaluations import answers, evaluation

POLICY = Policy()


def member(after: Sequence[float], before: Sequence[float], leaked: Collection[int] = (), **more: Any) -> Member:
    """A member with these scores; the samples at these positions leaked."""
    sides = {key: more.pop(key) for key in ("slices", "clusters") if key in more}
    task = more.pop("task", "arithmetic/addition")
    fields: dict[str, Any] = {
        "task": task,
        "metric": "exact_match",
        "blocking": True,
        "gate": Gate(),
        "candidate": evaluation(after, task=task, **sides),
        "baseline": evaluation(before, task=task, name="v2", **sides),
        "leaked": frozenset(f"q{position:05}" for position in leaked),
    }
    return Member(**fields | more)


def only(given_member: Member, policy: Policy = POLICY) -> Verdict:
    """The verdict of a family of one, which is the family's."""
    family = decide([given_member], policy)
    [verdict] = family.verdicts
    assert family.outcome is verdict.outcome
    return verdict


def memorised(n: int = 400, leaked: int = 100, worse: int = 60) -> Member:
    """A candidate that got worse on clean samples and makes it up on those that it was trained on."""
    before = [0.0] * leaked + [1.0] * (n - leaked)
    after = [1.0] * leaked + [0.0] * worse + [1.0] * (n - leaked - worse)
    return member(after, before, range(leaked))


def provenanced(given_evaluation: Evaluation, ids: Collection[str]) -> Evaluation:
    """The same, its record naming these ids."""
    return replace(given_evaluation, provenance={"leaked": sorted(ids)})


# -- one metric -------------------------------------------------------------------------------------------------------


def test_a_pass_that_leaked_samples_made_is_incomparable() -> None:
    """Better on all samples and worse on the clean ones: neither is said; and the reason says both."""
    verdict = only(memorised())
    assert only(replace(memorised(), leaked=frozenset())).outcome is Outcome.PASS
    assert verdict.outcome is Outcome.INCOMPARABLE
    assert verdict.fails(POLICY)
    assert verdict.clean is not None
    assert (verdict.clean.outcome, verdict.leaked) == (Outcome.REGRESSION, 100)
    assert verdict.comparison is not None
    assert verdict.clean.comparison is not None
    assert (verdict.comparison.test.n, verdict.clean.comparison.test.n) == (400, 300)
    assert verdict.clean.comparison.test.delta == pytest.approx(-0.2)
    assert verdict.reason.startswith("+10.0 pt [")
    assert (
        "100 samples stand in the training text; PASS on all samples, on the 300 clean ones REGRESSION: -20.0 pt"
        in verdict.reason
    )


def test_a_verdict_that_holds_on_clean_samples_stays_and_says_so() -> None:
    """The same outcome twice is that outcome, with the clean numbers beside it."""
    before, after = answers(n=1000, loss=5, gain=5)
    verdict = only(member(after, before, range(20, 120)))
    assert verdict.outcome is Outcome.PASS
    said = "100 samples stand in the training text, on the 900 clean ones PASS: 0.0 pt [-0.6, +0.6]  n=900  "
    assert verdict.reason.endswith(f"{said}was .994, now .994")
    before, after = answers(n=1000, loss=150, gain=5)
    verdict = only(member(after, before, range(200, 300)))
    assert (verdict.outcome, verdict.clean and verdict.clean.outcome) == (Outcome.REGRESSION, Outcome.REGRESSION)


def test_nothing_changes_without_leaks() -> None:
    """No leak, or leaks of samples that were not asked: the verdict is what it always was."""
    before, after = answers(n=500, loss=20, gain=12)
    plain = only(member(after, before))
    assert (plain.clean, plain.leaked) == (None, 0)
    assert only(member(after, before, [700])) == plain


@pytest.mark.parametrize(
    ("leaked", "clean"),
    [(range(380), Outcome.INCONCLUSIVE), (range(400), Outcome.INCOMPARABLE), (range(397), Outcome.INCOMPARABLE)],
    ids=["twenty clean", "none clean", "three clean"],
)
def test_a_pass_that_too_few_clean_samples_carry_is_no_pass(leaked: range, clean: Outcome) -> None:
    """INCONCLUSIVE would pass with a warning: who leaks most of an eval set must not end there."""
    before, after = answers(n=400)
    verdict = only(member(after, before, leaked))
    assert only(member(after, before)).outcome is Outcome.PASS
    assert verdict.clean is not None
    assert verdict.clean.outcome is clean
    assert verdict.outcome is Outcome.INCOMPARABLE
    assert verdict.fails(POLICY)


def test_what_the_baseline_was_trained_on_is_left_out_as_well() -> None:
    """A baseline that knew answers by heart makes an honest candidate look worse."""
    before = [1.0] * 100 + [1.0] * 300
    after = [0.0] * 80 + [1.0] * 320
    honest = member(after, before)
    assert honest.baseline is not None
    ids = {f"q{n:05}" for n in range(100)}
    assert only(honest).outcome is Outcome.REGRESSION
    verdict = only(replace(honest, baseline=provenanced(honest.baseline, ids)))
    assert (verdict.outcome, verdict.leaked) == (Outcome.INCOMPARABLE, 100)
    assert "REGRESSION on all samples, on the 300 clean ones PASS" in verdict.reason


def test_what_any_record_names_is_left_out() -> None:
    """The member, the candidate's record and the baseline's: their union, and only ids that were asked."""
    given_member = member(*answers(n=200)[::-1], [0, 1])
    assert given_member.candidate is not None
    assert given_member.baseline is not None
    both = replace(
        given_member,
        candidate=provenanced(given_member.candidate, ["q00001", "q00002"]),
        baseline=provenanced(given_member.baseline, ["q00003", "unheard of"]),
    )
    assert only(both).leaked == 4


def test_a_golden_sample_that_broke_stays_broken() -> None:
    """It was even trained on: nothing that clean samples say makes that good."""
    before, after = answers(n=800, loss=1)
    verdict = only(member(after, before, range(10), golden=("q00000", "q00500")))
    assert verdict.outcome is Outcome.REGRESSION
    assert "golden samples broke: q00000" in verdict.reason
    assert "10 samples stand in the training text (golden: q00000)" in verdict.reason
    assert verdict.clean is not None
    assert verdict.clean.outcome is Outcome.PASS
    assert verdict.clean.comparison is not None
    assert verdict.clean.comparison.notes == ()  # a golden sample that leaked is not missed among the clean ones


def test_a_floor_is_held_by_clean_samples_too() -> None:
    """Memorised answers lift a mean above a floor that the model does not reach."""
    before = [1.0] * 300 + [0.0] * 100
    verdict = only(member(before, before, range(250), gate=Gate(floor=0.6)))
    assert verdict.outcome is Outcome.INCOMPARABLE
    assert "below its floor of .600: .333" in verdict.reason


def test_drift_from_the_anchor_is_looked_at_on_clean_samples() -> None:
    """The anchor loses the same samples, and what its own record names."""
    before, after = answers(n=500)
    anchor = provenanced(evaluation([1.0] * 500, name="v0"), ["q00004"])
    verdict = only(member(after, before, [1, 2], anchor=anchor))
    assert verdict.clean is not None
    assert verdict.clean.anchor is not None
    assert (verdict.leaked, verdict.clean.anchor.test.n) == (3, 497)


def test_a_slice_that_blocks_and_leaked_whole_is_no_pass() -> None:
    """A slice gated by itself has been looked at only where clean samples of it are left."""
    slices = [{"digits": "3" if n < 20 else "2"} for n in range(600)]
    before, after = answers(n=600)
    given_member = member(after, before, range(18), slices=slices, blocking_slices=("digits",))
    verdict = only(given_member)
    assert verdict.outcome is Outcome.INCOMPARABLE
    assert "no clean samples of slice digits=3" in verdict.reason
    assert only(replace(given_member, leaked=frozenset(["q00000"]))).outcome is Outcome.PASS


def test_leaks_do_not_cover_up_what_cannot_be_judged() -> None:
    """ERROR and NO BASELINE stay what they are; without a baseline the leaks are named."""
    given_member = memorised()
    assert only(replace(given_member, error="it died")).outcome is Outcome.ERROR
    verdict = only(replace(given_member, baseline=None))
    assert verdict.outcome is Outcome.NO_BASELINE
    assert "100 samples stand in the training text" in verdict.reason


# -- the reserve ------------------------------------------------------------------------------------------------------


def looked(scores: Sequence[float], name: str, looks: Sequence[int]) -> Evaluation:
    """An evaluation whose rows are drawn in these steps."""
    plain = evaluation(scores, name=name)
    rows: list[Row] = [replace(row, look=look) for row, look in zip(plain.rows, looks, strict=True)]
    return replace(plain, rows=tuple(rows))


def test_a_reserve_is_looked_at_without_its_leaks() -> None:
    """The last look stays the last where all of its samples leaked, and nobody asks for more than there are."""
    looks = [0] * 300 + [1] * 100 + [2] * 100
    sides = {"candidate": looked([1.0] * 500, "v3", looks), "baseline": looked([1.0] * 500, "v2", looks)}
    top_up = replace(POLICY, reserve="top-up")
    family = decide([member([], [], range(400, 500), last_look=2, **sides)], top_up)
    [verdict] = family.verdicts
    assert (verdict.outcome, verdict.look, family.wants_reserve) == (Outcome.PASS, (2, 2), ())
    assert verdict.clean is not None
    assert verdict.clean.comparison is not None
    assert verdict.clean.comparison.test.n == 400


def test_more_of_the_reserve_is_wanted_where_clean_samples_could_decide() -> None:
    """Undecided on clean samples alone, and there is more to draw."""
    looks = [0] * 300 + [1] * 100 + [2] * 100
    before, after = answers(n=500, loss=60)
    asked = {"candidate": looked(after[:400], "v3", looks[:400]), "baseline": looked(before, "v2", looks)}
    given_member = member([], [], range(57), last_look=2, **asked)
    family = decide([given_member], replace(POLICY, reserve="top-up"))
    [verdict] = family.verdicts
    assert verdict.outcome is Outcome.INCOMPARABLE
    assert (verdict.clean and verdict.clean.outcome) is Outcome.INCONCLUSIVE
    assert family.wants_reserve == ("arithmetic/addition",)
    assert not verdict.clean or verdict.clean.wants_reserve


def test_a_regression_is_confirmed_on_clean_samples_of_the_reserve() -> None:
    """What was trained on cannot speak against it either."""
    looks = [0] * 400 + [1] * 200
    after = [0.0] * 80 + [1.0] * 320 + [0.0] * 30 + [1.0] * 170
    sides = {"candidate": looked(after, "v3", looks), "baseline": looked([1.0] * 600, "v2", looks)}
    verdict = only(member([], [], range(430, 500), last_look=1, **sides), replace(POLICY, reserve="confirm"))
    assert verdict.outcome is Outcome.REGRESSION
    assert verdict.clean is not None
    assert verdict.clean.confirmation is not None
    assert verdict.clean.confirmation.test.n == 130


# -- a family ---------------------------------------------------------------------------------------------------------


def pair(leaked: Collection[int] = ()) -> list[Member]:
    """Two members of which the second may have leaks, each fine on all samples."""
    first = member([1.0] * 600, [1.0] * 600, task="a/a")
    second = member([1.0] * 200 + [0.0] * 30 + [1.0] * 370, [0.0] * 200 + [1.0] * 400, leaked, task="b/b")
    return [first, second]


def test_one_metric_that_turns_makes_the_checkpoint_incomparable() -> None:
    """The others stay as they are, and the pooled test is there on clean samples too."""
    plain, family = decide(pair(), POLICY), decide(pair(range(200)), POLICY)
    assert (plain.outcome, plain.clean) == (Outcome.PASS, None)
    first, second = family.verdicts
    assert (first.outcome, first.clean, second.outcome) == (Outcome.PASS, None, Outcome.INCOMPARABLE)
    assert family.outcome is Outcome.INCOMPARABLE
    assert family.fails(POLICY)
    assert family.pooled is not None
    assert family.clean is not None
    assert (family.pooled.n, family.clean.n) == (1200, 1000)


@pytest.mark.parametrize("rule", ["pooled", "all"])
def test_a_pooled_test_that_turns_makes_the_checkpoint_incomparable(rule: str) -> None:
    """No metric by itself turns, all of them together do."""
    rng = np.random.default_rng(0)
    members = []
    for name in ("a/a", "b/b", "c/c", "d/d"):
        before = np.ones(260)
        after = np.ones(260)
        after[rng.choice(np.arange(60, 260), 8, replace=False)] = 0
        before[:12] = 0
        members.append(member(after.tolist(), before.tolist(), range(60), task=name, gate=Gate(margin=0.2)))
    policy = replace(POLICY, pass_rule=rule)
    plain = decide([replace(each, leaked=frozenset()) for each in members], policy)
    assert plain.outcome is Outcome.PASS
    family = decide(members, policy)
    assert {verdict.outcome for verdict in family.verdicts} == {Outcome.PASS}
    assert (family.together, family.outcome) == (Outcome.INCOMPARABLE, Outcome.INCOMPARABLE)
    assert family.fails_together(policy)
    assert family.reason.count("together PASS on all samples, REGRESSION on the clean ones") == 1


def test_a_metric_that_only_informs_turns_without_failing_anything() -> None:
    """It says so, and the checkpoint passes."""
    inform = replace(pair(range(200))[1], blocking=False)
    family = decide([pair()[0], inform], POLICY)
    assert family.verdicts[1].outcome is Outcome.INCOMPARABLE
    assert (family.outcome, family.verdicts[1].fails(POLICY)) == (Outcome.PASS, False)


def test_a_regression_elsewhere_is_named_before_a_turn() -> None:
    """What is worse is said first."""
    before, after = answers(n=600, loss=200)
    family = decide([member(after, before, task="a/a"), pair(range(200))[1]], POLICY)
    assert family.outcome is Outcome.REGRESSION


# -- laws -------------------------------------------------------------------------------------------------------------

SCORES = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=5, max_size=120)


@settings(max_examples=80, deadline=None)
@given(SCORES)
def test_a_verdict_is_one_that_both_would_give_or_none(rows: list[tuple[bool, bool, bool]]) -> None:
    """Never better than on clean samples alone, and equal to it where it is said at all."""
    after, before = ([float(row[side]) for row in rows] for side in (0, 1))
    leaked = [position for position, row in enumerate(rows) if row[2]]
    verdict = only(member(after, before, leaked))
    whole = only(member(after, before))
    if not leaked:
        assert verdict == whole
        return
    assert verdict.clean is not None
    clean = [position for position in range(len(rows)) if position not in set(leaked)]
    if len(clean) >= 5:
        alone = only(member([after[p] for p in clean], [before[p] for p in clean]))
        assert alone.outcome is verdict.clean.outcome
    same = verdict.clean.outcome is whole.outcome
    assert verdict.outcome is (whole.outcome if same else Outcome.INCOMPARABLE)
    assert verdict.comparison == whole.comparison


# -- what is said -----------------------------------------------------------------------------------------------------


def test_people_see_both() -> None:
    """The summary, the lines under a test, the card and JUnit name leaks and clean numbers; none says: accept."""
    family: Family = decide(pair(range(200)), POLICY)
    said = "\n".join(summary_lines(family, name="v3", card="card"))
    assert "clean samples alone, pooled over blocking metrics" in said
    assert "PASS on all samples, on the 400 clean ones REGRESSION" in said
    flipped = family.verdicts[1]
    told = "\n".join(detail_lines(flipped, "card", accept="evalgate accept v3"))
    assert "200 samples stand in the training text" in told
    assert "evalgate accept" not in told
    properties = dict(junit_properties(flipped))
    assert (properties["evalgate.leaked"], properties["evalgate.outcome"]) == ("200", "INCOMPARABLE")
    assert properties["evalgate.clean"].startswith("REGRESSION  -7.5 pt [")
    [_, line] = lines(family)
    assert line.notes[0].startswith("Leaked: 200 samples were trained on; on the others REGRESSION  -7.5 pt")


def test_a_verdict_that_holds_shows_its_clean_numbers_in_the_summary() -> None:
    """One line per metric with leaks, also where it passes."""
    before, after = answers(n=1000)
    family = decide([member(after, before, range(100))], POLICY)
    said = "\n".join(summary_lines(family, name="v3", card="card"))
    assert "addition::exact_match: 100 samples leaked; the others alone: PASS  0.0 pt" in said


def test_the_card_counts_leaked_ids_of_a_record() -> None:
    """A table of provenance is no place for a thousand ids."""
    named = provenanced(evaluation([1.0] * 9), [f"q{n:05}" for n in range(7)])
    [field] = provenance({"a/a": named}, {"a/a": evaluation([1.0] * 9)})
    assert (field.name, field.candidate, field.baseline) == ("leaked", "7", "none")


def test_a_record_keeps_its_digest_when_its_leaks_are_known() -> None:
    """To learn of a leak is not to measure anything else; a view without the leaked rows is of the same record."""
    plain = evaluation([1.0] * 9)
    named = provenanced(plain, ["q00003"])
    assert named.digest == plain.digest
    assert (plain.leaked, named.leaked) == (frozenset(), frozenset({"q00003"}))
    view = named.without(named.leaked)
    assert (len(view.rows), view.record, view.digest == plain.digest) == (8, plain.digest, False)
    assert named.without({"elsewhere"}) is named
