"""Power before a run: numbers against the formulas, laws, and where expectations come from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalgate.errors import RecordError
from evalgate.evaluation import Acceptance
from evalgate.gate import Gate, Member, Policy, decide
from evalgate.ledger import Ledger
from evalgate.power import Observed, Planned, PowerLine, family_steps, plan_power, strictest_level
from evalgate.scoring import Scorer, bits_per_byte, exact_match, function
from evalgate.session import Declared
from evalgate.session.baselines import Baselines
from evalgate.session.power import comparisons_entry, power_of
from evalgate.stats import (
    discordance_bound,
    minimum_detectable_effect,
    paired_binary,
    paired_scores,
    samples_needed,
)
from evalgate.store import Store, baseline_path, write_baseline
from evalgate.task import Sample, Sampling, Task
from tests.unit.evaluations import BITS, EXACT, answers, evaluation


def half(output: str, sample: Sample) -> float:
    """A score that is not right or wrong."""
    return 0.5


def line(
    n: int = 1062,
    *,
    scorer: Scorer | None = None,
    steps: int = 10,
    policy: Policy | None = None,
    flip_rate: float = 0.0,
    **planned: Any,
) -> PowerLine:
    """The line of one metric in a family of so many."""
    metric = Planned(task="suite/task", scorer=scorer or exact_match(), n=n, **planned)
    (only,) = plan_power([metric], policy or Policy(), steps=steps, flip_rate=flip_rate).lines
    return only


def seen(loss: int = 9, gain: int = 5, n: int = 200, sd: float = 0.3, deff: float = 1.0) -> Observed:
    """A last comparison."""
    return Observed(loss=loss, gain=gain, n=n, clusters=n, sd=sd, deff=deff)


# -- numbers ----------------------------------------------------------------------------------------------------------


def test_the_example_of_the_notes() -> None:
    """Ten tasks at 5 points and 20 % discordance: 1062 samples at the level really used, alpha/20; alpha/10 is 932."""
    found = line(n=450)
    assert (found.level, found.psi, found.needed, found.source) == (0.05 / 20, 0.20, 1062, "assumed")
    assert samples_needed(0.05, psi=0.2, alpha=0.05 / 10) == 932


@pytest.mark.parametrize(
    ("drop", "psi", "n"),
    [
        (0.01, 0.05, 3090), (0.01, 0.10, 6181), (0.01, 0.20, 12364), (0.01, 0.30, 18546),
        (0.02, 0.05, 771), (0.02, 0.10, 1544), (0.02, 0.20, 3090), (0.02, 0.30, 4635),
        (0.05, 0.05, 122), (0.05, 0.10, 246), (0.05, 0.20, 493), (0.05, 0.30, 740),
        (0.10, 0.10, 60), (0.10, 0.20, 122), (0.10, 0.30, 184),
    ],
)  # fmt: skip
def test_the_table_of_the_notes(drop: float, psi: float, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One metric at alpha: samples needed by drop and discordance, and so many see the drop while one less does not."""
    monkeypatch.setattr("evalgate.power.ASSUMED_DISCORDANCE", psi)
    scorer = exact_match(gate=Gate(margin=drop))
    assert line(n, scorer=scorer, steps=1).needed == n
    assert not line(n, scorer=scorer, steps=1).underpowered
    assert line(n - 1, scorer=scorer, steps=1).underpowered


def test_counted_answers_use_the_bound_of_the_last_comparison() -> None:
    """14 of 200 answers changed: the upper 80 % bound, not 7 %, and not the assumed 20 %."""
    found = line(n=300, observed=seen(9, 5, 200))
    psi = discordance_bound(14, 200)
    assert (found.psi, found.sd, found.source) == (psi, None, "last comparison")
    assert 0.07 < psi < 0.1
    assert found.detectable == minimum_detectable_effect(300, psi=psi, alpha=0.0025)
    assert found.needed == samples_needed(0.05, psi=psi, alpha=0.0025)


def test_means_use_the_spread_of_the_last_comparison() -> None:
    """sd and design effect of what was compared, in the metric's own units."""
    scorer = function(half, name="half", low=0, high=10)
    found = line(n=300, scorer=scorer, observed=seen(sd=2.5, deff=1.5))
    assert (found.psi, found.sd, found.deff, found.margin, found.source) == (None, 2.5, 1.5, 0.5, "last comparison")
    assert found.detectable == minimum_detectable_effect(300, sd=2.5, deff=1.5, alpha=0.0025)
    assert found.needed == samples_needed(0.5, sd=2.5, deff=1.5, alpha=0.0025)


@pytest.mark.parametrize(
    "planned",
    [{"scorer": function(half, name="half", low=0, high=10)}, {"generations": 4}, {"clusters": 100}],
    ids=["score", "generations", "clusters"],
)
def test_means_assume_a_fifth_of_the_questions_crosses_the_range(planned: dict[str, Any]) -> None:
    """Before a comparison: sd = sqrt(.2) of the range, design effect 1, and it is called assumed."""
    found = line(n=300, **planned)
    wide = 10 if "scorer" in planned else 1
    assert found.sd == pytest.approx(math.sqrt(0.2) * wide)
    assert (found.psi, found.deff, found.source) == (None, 1.0, "assumed")
    assert found.detectable == pytest.approx(wide * minimum_detectable_effect(300, sd=math.sqrt(0.2), alpha=0.0025))


def test_a_comparison_in_which_nothing_varied_says_nothing_of_means() -> None:
    """A standard deviation of 0 would promise that every drop is seen: the assumption holds on."""
    assert line(n=300, generations=4, observed=seen(0, 0, 300, sd=0.0)).source == "assumed"
    counted = line(n=300, observed=seen(0, 0, 300, sd=0.0))
    assert counted.source == "last comparison"
    assert counted.psi == pytest.approx(1 - 0.2 ** (1 / 300))


def test_bits_per_byte_is_unknown_until_the_first_comparison() -> None:
    """No number is given without one; the margin is 1 % of the baseline, and unknown without a baseline."""
    before = line(scorer=bits_per_byte(), baseline=0.9)
    assert (before.sd, before.detectable, before.needed, before.unknown) == (None, None, None, True)
    assert before.margin == pytest.approx(0.009)
    assert not before.underpowered
    after = line(n=300, scorer=bits_per_byte(), baseline=0.9, observed=seen(sd=0.05, deff=2.0))
    assert after.detectable == minimum_detectable_effect(300, sd=0.05, deff=2.0, alpha=0.0025)
    assert after.needed == samples_needed(0.009, sd=0.05, deff=2.0, alpha=0.0025)
    lost = line(n=300, scorer=bits_per_byte(), observed=seen(sd=0.05))
    assert (lost.margin, lost.needed, lost.unknown, lost.blind) == (None, None, True, False)


def test_the_noise_floor_raises_the_discordance_and_never_lowers_it() -> None:
    """What a repeated run changes by itself will change again."""
    assert line(flip_rate=0.1).psi == 0.20
    raised = line(flip_rate=0.3)
    assert (raised.psi, raised.source) == (0.3, "noise floor")
    assert line(observed=seen(9, 5, 200), flip_rate=0.12).psi == 0.12
    assert line(observed=seen(9, 5, 200), flip_rate=0.01).source == "last comparison"


@pytest.mark.parametrize(("clusters", "decidable"), [(8, False), (9, True)])
def test_few_clusters_can_never_be_significant(clusters: int, decidable: bool) -> None:
    """At alpha/20 = .0025 all of 8 clusters worse (2^-8 = .0039) prove nothing; 9 (.00195) can."""
    found = line(n=10_000, clusters=clusters)
    assert found.clusters_needed == 9
    assert found.undecidable is not decidable
    assert found.underpowered is not decidable
    assert not found.blind


def test_a_level_that_clusters_reach_exactly_is_reached() -> None:
    """2^-5 is no larger than .03125; one that is a hair lower needs a sixth cluster."""
    assert line(clusters=5, policy=Policy(alpha=2**-5), steps=1).clusters_needed == 5
    assert line(clusters=5, policy=Policy(alpha=2**-5 - 1e-6), steps=1).clusters_needed == 6


def test_fewer_samples_than_the_policy_asks_for() -> None:
    """A margin that 20 samples see needs 30 all the same."""
    scorer = exact_match(gate=Gate(margin=0.9))
    found = line(n=20, scorer=scorer, steps=1)
    assert (found.blind, found.too_few, found.underpowered, found.needed) == (False, True, True, 30)
    assert not line(n=30, scorer=scorer, steps=1).underpowered


def test_a_margin_above_the_expected_discordance_is_planned_with_as_much() -> None:
    """A drop of half of all questions changes half of them."""
    assert line(scorer=exact_match(gate=Gate(margin=0.5)), steps=1, policy=Policy(min_n=5)).needed == samples_needed(
        0.5, psi=0.5, alpha=0.05
    )


def test_the_level_is_that_of_the_gate() -> None:
    """One metric is tested at alpha, several by Holm at alpha/2, whose strictest step decides what is seen."""
    assert (strictest_level(0.05, 1), strictest_level(0.05, 2)) == (0.05, 0.0125)
    baseline, candidate = answers(n=200, loss=9, gain=5)
    members = [
        Member(
            task=f"a/{i}",
            metric="exact_match",
            blocking=True,
            gate=Gate(),
            candidate=evaluation(candidate, task=f"a/{i}"),
            baseline=evaluation(baseline, name="v1", task=f"a/{i}"),
        )
        for i in range(3)
    ]
    verdicts = decide(members, Policy()).verdicts
    assert verdicts[0].detectable == line(n=200, steps=3, observed=seen(9, 5, 200)).detectable


def test_a_family_has_a_step_per_blocking_metric() -> None:
    """Metrics that only inform take nothing of the level."""
    plain = Task(samples=[], prompt="", scorers=[exact_match(), function(half, name="half")])
    gated = Task(samples=[], prompt="", scorers=[exact_match(gate=Gate()), function(half, name="half", gate=Gate())])
    assert family_steps([(plain, ()), (gated, ())]) == 3


# -- laws -------------------------------------------------------------------------------------------------------------

EXPECTED: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}),
    st.just({"scorer": function(half, name="half", low=0, high=10)}),
    st.just({"clusters": 60}),
    st.integers(0, 100).map(lambda loss: {"observed": seen(loss, 20, 200)}),
    st.floats(0.01, 3).map(lambda sd: {"generations": 4, "observed": seen(sd=sd, deff=1.5)}),
)


@given(n=st.integers(30, 5000), more=st.integers(1, 5000), steps=st.integers(1, 50), expected=EXPECTED)
def test_more_samples_see_smaller_drops(n: int, more: int, steps: int, expected: dict[str, Any]) -> None:
    """The minimum detectable effect never grows with n, and what is needed does not depend on n."""
    few, many = line(n, steps=steps, **expected), line(n + more, steps=steps, **expected)
    assert few.detectable is not None
    assert many.detectable is not None
    assert many.detectable <= few.detectable
    assert many.needed == few.needed


@given(n=st.integers(30, 5000), steps=st.integers(1, 50), expected=EXPECTED)
def test_larger_families_see_less(n: int, steps: int, expected: dict[str, Any]) -> None:
    """Every metric more makes the level stricter, the drop that is seen larger, and more samples needed."""
    few, many = line(n, steps=steps, **expected), line(n, steps=steps + 1, **expected)
    assert few.detectable is not None
    assert many.detectable is not None
    assert few.needed is not None
    assert many.needed is not None
    assert many.level < few.level
    assert few.detectable <= many.detectable
    assert few.needed <= many.needed


@given(n=st.integers(30, 20_000), margin=st.floats(0.005, 0.5), tighter=st.floats(0.3, 1), expected=EXPECTED)
def test_tighter_margins_need_more(n: int, margin: float, tighter: float, expected: dict[str, Any]) -> None:
    """A smaller margin never needs fewer samples; a line is blind exactly where it has fewer than it needs."""
    if "scorer" in expected:
        expected = {"clusters": 60}
    lines = [
        line(n, scorer=exact_match(gate=Gate(margin=share)), policy=Policy(min_n=5), **expected)
        for share in (margin, margin * tighter)
    ]
    needed = [found.needed or 0 for found in lines]
    assert needed[0] <= needed[1]
    for found, samples in zip(lines, needed, strict=True):
        if samples > 5:
            assert found.blind == (samples > n)


# -- what a comparison showed -----------------------------------------------------------------------------------------


def test_observed_keeps_what_planning_needs() -> None:
    """Counts and sd as tested; the design effect is 1 for counted answers and more where clusters agree."""
    plain = paired_binary(9, 5, 200, margin=0.05, alpha=0.05)
    assert Observed.of(plain, 0.05) == seen(9, 5, 200, sd=plain.sd, deff=1.0)
    before, after = [1.0] * 240, [0.0] * 60 + [1.0] * 180
    labels = [f"c{i // 4}" for i in range(240)]  # whole clusters of 4 got worse: they count as one question each
    grouped = Observed.of(paired_scores(before, after, margin=0.05, alpha=0.05, clusters=labels), 0.05)
    assert grouped.clusters == 60
    assert grouped.deff == pytest.approx(4, rel=0.1)
    single = Observed.of(paired_scores(before, after, margin=0.05, alpha=0.05), 0.05)
    assert single.clusters == 240
    assert single.deff == pytest.approx(1, rel=0.02)
    same = paired_scores(before, before, margin=0.05, alpha=0.05)
    assert (Observed.of(same, 0.05).sd, Observed.of(same, 0.05).deff) == (0.0, 1.0)


def test_observed_survives_the_ledger() -> None:
    """What is written reads back as the same."""
    assert Observed.from_json(seen().as_json(), "ledger") == seen()


@pytest.mark.parametrize(
    "change",
    [
        {"loss": -1}, {"loss": 201}, {"n": 0}, {"clusters": 0}, {"clusters": 201}, {"sd": -1.0}, {"sd": "wide"},
        {"sd": math.nan}, {"sd": math.inf}, {"deff": 0.5}, {"loss": 1.5}, {"loss": None}, {"more": 1},
    ],
)  # fmt: skip
def test_numbers_that_no_comparison_has_are_refused(change: dict[str, Any]) -> None:
    """A ledger that says impossible things is not planned with."""
    with pytest.raises(RecordError, match=r"^here: expected the numbers loss, gain, n, clusters, sd, deff"):
        Observed.from_json({**asdict(seen()), **change}, "here")
    with pytest.raises(RecordError, match=r"^here: "):
        Observed.from_json([1, 2], "here")


# -- what a project knows ---------------------------------------------------------------------------------------------


def declared(tmp_path: Path, name: str = "addition", **task: Any) -> Declared:
    """A task of the suite `arithmetic`."""
    given = {"samples": [], "prompt": "", "scorers": [exact_match()]} | task
    return Declared(f"arithmetic/{name}", Task(**given), tmp_path / "evalsuites/test_arithmetic.py")


def rows(n: int, clusters: Sequence[str] | None = None) -> list[Sample]:
    """Samples without content."""
    return [Sample(f"q{i:05}", {}, cluster=clusters[i % len(clusters)] if clusters else None) for i in range(n)]


def known(tmp_path: Path, *tasks: Declared, n: int = 300, clusters: Sequence[str] | None = None) -> list[PowerLine]:
    """The lines of tasks that all run."""
    store = Store(tmp_path / ".evalgate")
    return list(
        power_of(
            {task.id: task for task in tasks},
            {task.id: rows(n, clusters) for task in tasks},
            {(task.id, scorer.name) for task in tasks for scorer in task.task.scorers},
            policy=Policy(),
            baselines=Baselines(None, store),
            ledger=Ledger(tmp_path / ".evalgate/ledger.jsonl"),
        ).lines
    )


def accept(tmp_path: Path, name: str, metric: Any = EXACT) -> str:
    """Make an evaluation the baseline; its digest."""
    accepted = evaluation([1.0, 0.5, 1.0] if metric is BITS else [1.0, 0.0, 1.0], metric=metric, name=name)
    path = baseline_path(tmp_path / "evalsuites", "arithmetic/addition")
    write_baseline(path, accepted, Acceptance("me", "2026-01-01", "why", None, accepted.digest))
    return accepted.digest


def say(tmp_path: Path, loss: int, baseline: str, **more: Any) -> None:
    """A verdict in the ledger."""
    body = {
        "baselines": {"arithmetic/addition": baseline},
        "tests": {"arithmetic/addition::exact_match": seen(loss).as_json()},
    }
    Ledger(tmp_path / ".evalgate/ledger.jsonl").append("verdict", {**body, **more})


def psi(loss: int) -> float:
    """What a comparison with so many losses bounds."""
    return discordance_bound(loss + 5, 200)


def test_a_project_without_a_ledger_assumes(tmp_path: Path) -> None:
    """Neither a missing ledger nor one of an earlier version is an error; looking makes no file."""
    assert known(tmp_path, declared(tmp_path))[0].source == "assumed"
    assert not (tmp_path / ".evalgate").exists()
    Ledger(tmp_path / ".evalgate/ledger.jsonl").append("verdict", {"verdicts": {}})
    assert known(tmp_path, declared(tmp_path))[0].source == "assumed"


def test_the_newest_comparison_counts(tmp_path: Path) -> None:
    """Of several with one baseline the last; another task's say nothing."""
    say(tmp_path, 40, "sha256:a")
    say(tmp_path, 20, "sha256:a")
    say(tmp_path, 1, "sha256:a", tests={"arithmetic/other::exact_match": seen(1).as_json()})
    assert known(tmp_path, declared(tmp_path))[0].psi == psi(20)


def test_a_comparison_with_the_present_baseline_is_preferred(tmp_path: Path) -> None:
    """An older comparison with the baseline that counts now says more than a newer one with another."""
    say(tmp_path, 40, accept(tmp_path, "v1"))
    say(tmp_path, 20, "sha256:another")
    assert known(tmp_path, declared(tmp_path))[0].psi == psi(40)
    accept(tmp_path, "v2")
    assert known(tmp_path, declared(tmp_path))[0].psi == psi(20)


def test_a_damaged_comparison_is_refused(tmp_path: Path) -> None:
    """Numbers that cannot be are an error that names the metric, not a plan."""
    say(tmp_path, 1, "sha256:a", tests={"arithmetic/addition::exact_match": {"loss": 1}})
    with pytest.raises(RecordError, match="verdict of arithmetic/addition::exact_match: expected the numbers"):
        known(tmp_path, declared(tmp_path))


def test_clusters_and_baseline_come_from_the_data(tmp_path: Path) -> None:
    """Distinct clusters are counted; the mean of an unbounded metric is read from its baseline."""
    clustered = declared(tmp_path, cluster="document")
    assert [(x.n, x.clusters) for x in known(tmp_path, clustered, clusters=["a", "b", "c"])] == [(300, 3)]
    accept(tmp_path, "v1", BITS)
    (prose,) = known(tmp_path, declared(tmp_path, scorers=[bits_per_byte()]))
    assert prose.baseline == pytest.approx(2.5 / 3)
    assert prose.margin == pytest.approx(2.5 / 300)
    (renamed,) = known(tmp_path, declared(tmp_path, scorers=[bits_per_byte(name="other")]))
    assert renamed.margin is None


def test_what_is_deselected_counts_in_the_level_only(tmp_path: Path) -> None:
    """A family of two of which one runs: one line, at the level of two, and with the noise floor that was measured."""
    first, second = declared(tmp_path), declared(tmp_path, "other", sampling=Sampling(n=1))
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append("verdict", {"noise": {"prompts": 48, "flipped": 24}})
    ledger.append("verdict", {"noise": {"prompts": 48, "flipped": 12}})
    ledger.append("verdict", {"noise": None})
    plan = power_of(
        {first.id: first, second.id: second},
        {first.id: rows(300)},
        {(first.id, "exact_match")},
        policy=Policy(),
        baselines=Baselines(None, Store(tmp_path)),
        ledger=ledger,
    )
    assert plan.lines[0].psi == 0.25
    assert [found.name for found in plan.lines] == ["arithmetic/addition::exact_match"]
    assert (plan.steps, plan.level) == (2, 0.0125)


def test_the_ledger_is_told_of_comparisons_between_two_checkpoints() -> None:
    """A checkpoint compared with itself differs in nothing, which says nothing of the next one."""
    baseline, candidate = answers(n=200, loss=9, gain=5)
    old = evaluation(baseline, name="v1")

    def entry(new: list[float], name: str) -> dict[str, dict[str, float]]:
        member = Member(
            task=old.task,
            metric="exact_match",
            blocking=True,
            gate=Gate(),
            candidate=evaluation(new, name=name),
            baseline=old,
        )
        return comparisons_entry(decide([member], Policy()))

    told = entry(candidate, "v3")["arithmetic/addition::exact_match"]
    assert (told["loss"], told["gain"], told["n"]) == (9, 5, 200)
    assert entry(baseline, "v1") == {}
