"""The noise floor, over the fake engine where an engine is needed, and as arithmetic on what it answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalgate.cache import Cache
from evalgate.checkpoint import Checkpoint
from evalgate.digest import digest
from evalgate.engines import EngineSettings, FakeEngine
from evalgate.evaluate import Evaluator, assemble
from evalgate.evaluation import Evaluation, Row
from evalgate.noise import PROMPTS, Canary, NoiseFloor, canary, measure, mode, near_ties
from evalgate.plan import Plan, TaskPlan, plan_task
from evalgate.preflight import read_checkpoint
from evalgate.request import Completion
from evalgate.scoring import Scorer, choice, exact_match, function, numeric
from evalgate.task import Sample, Sampling, Task
from tests.unit.evaluations import evaluation

V1 = Path(__file__).parents[2] / "fixtures/checkpoints/v1"
SHIPPED = Checkpoint("v1", None, "full", "sha256:1", "sha256:t", None, "Fake", 64)
CANDIDATE = Checkpoint("v2", None, "full", "sha256:2", "sha256:t", None, "Fake", 64)
ENGINE = {"name": "fake", "device": "cpu", "determinism": "scheduling"}


def make_task(**changes: Any) -> Task:
    return Task(**{"samples": [], "prompt": "p {{ a }}", "scorers": [exact_match()]} | changes)


def make_plan(
    name: str = "suite/one", *, rows: int = 100, task: Task | None = None, checkpoint: Checkpoint = SHIPPED
) -> TaskPlan:
    """A plan of a task whose samples ask `<name> <number>` and want the number."""
    samples = [Sample(f"s{n:03}", {"a": n}, str(n)) for n in range(rows)]
    prompts = [f"{name} {n}" for n in range(rows)]
    return plan_task(name, task or make_task(), samples, prompts, checkpoint, digest(name))


def complete(plan: TaskPlan, **options: Any) -> dict[str, Completion]:
    """What the fake engine says to all of a plan."""
    return {request.id: FakeEngine(**options).complete(request) for request in Plan((plan,)).requests}


def record(plan: TaskPlan, **options: Any) -> Evaluation:
    """The evaluation of a plan."""
    return assemble(plan, complete(plan, **options), environment={}, provenance={}, policy={})


def altered(baseline: Evaluation, changes: Mapping[str, Mapping[str, Any]]) -> Evaluation:
    """A baseline with some rows, by sample id, that say something else."""
    return replace(baseline, rows=tuple(replace(row, **changes.get(row.id, {})) for row in baseline.rows))


def again(plan: TaskPlan, baseline: Evaluation, **options: Any) -> NoiseFloor:
    """The noise floor of one task."""
    asked = canary({plan.id: baseline}, [plan], SHIPPED)
    answered = {request.id: FakeEngine(**options).complete(request) for request in asked.requests}
    return measure(asked, answered, ENGINE)


# -- what is asked again -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "task",
    [
        make_task(),
        make_task(sampling=Sampling(max_tokens=3, stop=("x",), json_schema={"type": "integer"})),
        make_task(sampling=Sampling(n=4, temperature=0.7, top_p=0.9, top_k=7, seed=5)),
        make_task(prompt=[{"role": "user", "content": "p {{ a }}"}]),
        make_task(scorers=[choice("a", "b"), exact_match()]),
    ],
    ids=["greedy", "schema", "drawn", "chat", "two kinds"],
)
def test_the_baseline_is_asked_what_it_was_asked(task: Task) -> None:
    """Every request is one of those behind the record: same prompt, sampling, seed and special tokens."""
    plan = make_plan(task=task, rows=8)
    requests = canary({plan.id: record(plan)}, [plan], SHIPPED).requests
    assert {request.id for request in requests} == {question.generations[0].id for question in plan.questions}


def test_the_seed_is_the_records() -> None:
    """A suite that draws with another seed now asks the baseline with the old one."""
    old = make_plan(task=make_task(sampling=Sampling(temperature=1.0, seed=1)), rows=3)
    new = make_plan(task=make_task(sampling=Sampling(temperature=1.0, seed=2)), rows=3)
    requests = canary({new.id: record(old)}, [new], SHIPPED).requests
    assert {r.id for r in requests} == {r.id for r in Plan((old,)).requests}
    assert not {r.id for r in requests} & {r.id for r in Plan((new,)).requests}


def test_plans_of_a_candidate_lend_their_samples_only() -> None:
    """The candidate's checkpoint is in no request; a task planned for two candidates is asked once."""
    shipped = make_plan(rows=3)
    plans = [make_plan(rows=3, checkpoint=CANDIDATE), make_plan(rows=3, checkpoint=replace(CANDIDATE, weights="x"))]
    requests = canary({shipped.id: record(shipped)}, plans, SHIPPED).requests
    assert len(requests) == 3
    assert {request.checkpoint for request in requests} == {SHIPPED.digest}


def test_prompts_are_spread_over_the_tasks() -> None:
    """48 in all: a small task gives what it has, the large ones share the rest; log-likelihood tasks give none."""
    plans = [make_plan("s/a"), make_plan("s/b"), make_plan("s/small", rows=4)]
    scored = make_plan("s/scored", task=make_task(scorers=[choice("a", "b")]))
    asked = canary({plan.id: record(plan) for plan in (*plans, scored)}, [*plans, scored], SHIPPED).asked
    counts = {plan.id: sum(one.plan.id == plan.id for one in asked) for plan in (*plans, scored)}
    assert counts == {"s/a": 22, "s/b": 22, "s/small": 4, "s/scored": 0}
    assert len(asked) == PROMPTS


@given(st.permutations(range(3)))
def test_the_choice_is_the_same_every_time(order: list[int]) -> None:
    """Whatever the order of tasks; and it is not the first rows of the file."""
    plans = [make_plan(name, rows=40) for name in ("s/a", "s/b", "s/c")]
    baselines = {plan.id: record(plan) for plan in plans}
    chosen = canary(baselines, [plans[place] for place in order], SHIPPED)
    assert [one.row.id for one in chosen.asked] == [one.row.id for one in canary(baselines, plans, SHIPPED).asked]
    assert {one.row.id for one in chosen.asked} != {f"s{n:03}" for n in range(16)}


def without_answer(baseline: Evaluation) -> Evaluation:
    return altered(baseline, {row.id: {"outputs": (), "error": "engine died"} for row in baseline.rows})


@pytest.mark.parametrize(
    "change",
    [
        lambda e: replace(e, checkpoint={**e.checkpoint, "digest": CANDIDATE.digest}),
        lambda e: replace(e, prompt=digest("another prompt")),
        lambda e: replace(e, sampling={**e.sampling, "max_tokens": 7}),
        lambda e: altered(e, {row.id: {"prompt": "another"} for row in e.rows}),
        lambda e: altered(e, {row.id: {"target": "another", "pair": "0"} for row in e.rows}),
        without_answer,
        lambda e: replace(e, rows=tuple(replace(row, id=f"other {row.id}") for row in e.rows)),
    ],
    ids=["other weights", "other prompt", "other sampling", "prompt not as paired", "other target", "errors", "gone"],
)
def test_what_cannot_be_asked_as_it_was_is_not_asked(change: Any) -> None:
    """Nothing is measured that another cause could explain."""
    plan = make_plan(rows=5)
    assert canary({plan.id: record(plan)}, [plan], SHIPPED).asked, "the control"
    assert canary({plan.id: change(record(plan))}, [plan], SHIPPED).asked == ()
    assert canary({}, [plan], SHIPPED).asked == ()


# -- what came of it ---------------------------------------------------------------------------------------------------


def test_the_same_engine_is_token_identical() -> None:
    """And says so in one line, with mode and device."""
    plan = make_plan()
    floor = again(plan, record(plan))
    assert floor.identical
    assert (floor.prompts, floor.differ, floor.flips, floor.flipped, floor.noise) == (48, (), {}, 0, 0.0)
    assert floor.said == (
        "noise floor: 48 baseline prompts of v1 answered again, token-identical (batch invariance off, cpu)"
    )


def test_altered_outputs_are_found() -> None:
    """The negative control: other texts differ, and flip a score only where the scorer says so."""
    plan = make_plan(rows=40, task=make_task(scorers=[exact_match(), numeric(tolerance=1)]))
    right = {f"suite/one {n}": str(n) for n in range(40)}
    baseline = altered(
        record(plan, answers=right),
        {"s003": {"outputs": ("4",)}, "s005": {"outputs": ("five",)}, "s007": {"outputs": ("7 ",)}},
    )
    floor = again(plan, baseline, answers=right)
    assert not floor.identical
    assert floor.differ == tuple(f"suite/one::{name}" for name in sorted_by_pair(baseline, "s003", "s005", "s007"))
    assert set(floor.flips["suite/one::exact_match"]) == {"s003", "s005"}
    assert floor.flips["suite/one::numeric"] == ("s005",)
    assert (floor.flipped, floor.flip_rate) == (2, 2 / 40)
    assert 2 / 40 < floor.flip_bound < 0.15
    assert floor.said == (
        "noise floor: 3 of 40 answers of v1 differ when asked again, 2 scores flip "
        f"(5.0%, at most {floor.flip_bound:.1%} with 80% confidence) (batch invariance off, cpu)"
    )


def sorted_by_pair(baseline: Evaluation, *names: str) -> list[str]:
    pairs = {row.id: row.pair for row in baseline.rows}
    return sorted(names, key=lambda name: pairs[name])


@pytest.mark.parametrize(
    "change", [{"finish": ("length",)}, {"tokens": (2, 9)}, {"outputs": ("other",)}], ids=["end", "tokens", "text"]
)
def test_identical_means_text_end_and_tokens(change: dict[str, Any]) -> None:
    """Any of the three tells two answers apart."""
    plan = make_plan(rows=3)
    assert again(plan, altered(record(plan), {"s001": change})).differ == ("suite/one::s001",)


def test_a_changed_scorer_flips_nothing() -> None:
    """Both texts are scored by today's scorer: what the record's scorer said is another question."""
    plan = make_plan(rows=3)
    baseline = altered(record(plan), {"s001": {"outputs": ("other",), "scores": {"exact_match": 1.0}}})
    floor = again(plan, baseline)
    assert floor.differ
    assert floor.flips == {}


def test_reasoning_is_no_part_of_a_score() -> None:
    """Another thought with the same answer differs and flips nothing."""
    plan = make_plan(rows=1, task=make_task(reasoning=("<think>", "</think>")))
    baseline = record(plan, answers={"suite/one 0": "<think>hm</think>0"})
    floor = again(plan, baseline, answers={"suite/one 0": "<think>ah</think>0"})
    assert (floor.differ, floor.flips) == (("suite/one::s000",), {})


def test_scorers_of_log_likelihoods_are_left_alone() -> None:
    """The canary generates; only what reads text is scored again."""
    plan = make_plan(rows=2, task=make_task(scorers=[choice("0", "1"), exact_match()]))
    right = {"suite/one 0": "0"}
    floor = again(plan, altered(record(plan), {"s000": {"outputs": ("1",)}}), answers=right)
    assert floor.flips == {"suite/one::exact_match": ("s000",)}


def test_noise_is_the_largest_change_of_a_margin() -> None:
    """Among identical greedy answers only, and unknown where the record has no margins."""
    plan = make_plan(rows=4)
    close = {"suite/one 0": 0.5, "suite/one 1": 0.25, "suite/one 2": 9.0}
    baseline = altered(record(plan), {"s002": {"outputs": ("other",)}})
    assert again(plan, baseline, margins=close).noise == 0.75
    unknown = altered(baseline, {row.id: {"margin": None} for row in baseline.rows})
    assert again(plan, unknown, margins=close).noise is None
    assert "margins within 0.8 nat" in again(plan, altered(record(plan), {}), margins={"suite/one 1": 0.25}).said


def test_an_error_is_no_difference_and_not_identical() -> None:
    """What was not answered is counted nowhere and said with its reason."""
    plan = make_plan(rows=3)
    floor = again(plan, record(plan), fail=["one 1"])
    assert (floor.prompts, floor.differ, floor.identical) == (2, (), False)
    assert floor.said.endswith("; 1 failed: suite/one, sample s001: the fake engine fails prompts with 'one 1'")
    nothing = again(plan, record(plan), fail=["one"])
    assert nothing.said.startswith("noise floor: not measured; 3 failed: ")
    assert not nothing.identical


def test_a_scorer_that_raises_is_an_error() -> None:
    """The text differs, and whether its score does nobody knows."""

    def shaky(output: str, sample: object) -> float:
        return 1.0 if int(output) else 0.0

    scorers: list[Scorer] = [function(shaky)]
    plan = make_plan(rows=2, task=make_task(scorers=scorers))
    right = {"suite/one 0": "0", "suite/one 1": "1"}
    floor = again(plan, record(plan, answers=right), answers=right | {"suite/one 1": "?"})
    assert floor.differ == ("suite/one::s001",)
    assert "ValueError" in floor.errors[0]


def test_what_was_not_asked_is_not_measured() -> None:
    """No engine, no canary: nothing is claimed."""
    plan = make_plan(rows=3)
    asked = canary({plan.id: record(plan)}, [plan], SHIPPED)
    for floor in (measure(asked, {}, ENGINE), measure(Canary(SHIPPED, ()), {}, ENGINE)):
        assert floor.said == "noise floor: not measured"
        assert not floor.identical


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        (ENGINE, "batch invariance off, cpu"),
        ({"determinism": "batch-invariant", "device": "cuda"}, "batch invariance on, cuda"),
        ({}, "determinism unknown, device unknown"),
    ],
)
def test_the_mode_is_what_the_engine_reports(engine: dict[str, str], said: str) -> None:
    """And never a guess."""
    assert mode(engine) == said


# -- near ties ---------------------------------------------------------------------------------------------------------


def pair_of(before: list[tuple[float, float | None]], after: list[tuple[float, float | None]]) -> list[Evaluation]:
    """Two evaluations from (score, margin) per sample."""
    made = []
    for side in (before, after):
        plain = evaluation([score for score, _ in side])
        rows: Iterator[tuple[Row, float | None]] = zip(plain.rows, (margin for _, margin in side), strict=True)
        made.append(replace(plain, rows=tuple(replace(row, margin=margin) for row, margin in rows)))
    return made


def test_a_flip_below_the_noise_on_either_side_is_a_near_tie() -> None:
    """Flips both ways count, equal scores never, and unknown margins prove nothing."""
    before, after = pair_of(
        [(1, 0.5), (0, 1e-5), (1, 1e-5), (1, 0.5), (1, None), (1, None)],
        [(0, 1e-5), (1, 0.5), (1, 1e-5), (0, 0.5), (0, 1e-5), (0, None)],
    )
    assert near_ties(after, before, 1e-3, "exact_match") == ("q00000", "q00001", "q00004")
    assert near_ties(after, before, 0.0, "exact_match") == ()
    assert near_ties(after, before, 1e-5, "exact_match") == (), "at the noise is not below it"


def test_near_ties_pair_by_what_was_asked() -> None:
    """Another prompt under the same id is no flip, and neither is a score that is not there."""
    before, after = pair_of([(1, 1e-5), (1, 1e-5)], [(0, 1e-5), (0, 1e-5)])
    assert near_ties(altered(after, {"q00000": {"pair": "x"}}), before, 1e-3, "exact_match") == ("q00001",)
    assert near_ties(altered(after, {"q00000": {"scores": {}}}), before, 1e-3, "exact_match") == ("q00001",)
    assert near_ties(after, before, 1e-3, "chrf") == ()


margins = st.none() | st.floats(0, 1)


@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0]), margins, margins), max_size=8), st.floats(0, 1), st.floats(0, 1))
def test_more_noise_never_makes_fewer_near_ties(
    rows: list[tuple[float, float | None, float | None]], one: float, two: float
) -> None:
    """And swapping the sides changes nothing."""
    before, after = pair_of([(1.0, m) for _, m, _ in rows], [(score, m) for score, _, m in rows])
    less, more = sorted((one, two))
    assert set(near_ties(after, before, less, "exact_match")) <= set(near_ties(after, before, more, "exact_match"))
    assert near_ties(before, after, more, "exact_match") == near_ties(after, before, more, "exact_match")


# -- together ----------------------------------------------------------------------------------------------------------


class Silent:
    """Progress that nobody hears."""

    def start(self, total: int, known: int, unit: str = "answers") -> None:
        """Nothing."""

    def advance(self, count: int, note: str = "") -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""


def test_a_canary_through_the_evaluator(tmp_path: Path) -> None:
    """Baseline recorded, another task run later: the canary rides along, and a stored text that was altered shows."""
    v1 = read_checkpoint(V1)
    rows = [{"id": f"s{n}", "a": n, "target": str(n)} for n in range(6)]
    old, new = make_task(samples=rows), make_task(samples=rows, prompt="new {{ a }}")
    with Cache(tmp_path / "cache.sqlite") as cache:
        made = Evaluator([v1], EngineSettings(name="fake", log_dir=tmp_path / "logs"), cache, Silent())
        (plan,) = made.plan("suite/old", old)
        answers = made.answer(Plan((plan,)))
        baseline = assemble(plan, answers.completions, environment={}, provenance={}, policy={})
        (fresh,) = made.plan("suite/new", new)
        asked = canary({plan.id: baseline}, [plan, fresh], v1)
        given = made.answer(Plan((plan, fresh)), asked.requests)
        made.close()
    floor = measure(asked, given.canary, made.asker.reported(v1))
    assert (floor.prompts, floor.identical, floor.noise) == (6, True, 0.0)
    changed = altered(baseline, {"s2": {"outputs": ("2",), "scores": {"exact_match": 1.0}}})
    shown = measure(canary({plan.id: changed}, [plan], v1), given.canary, {})
    assert shown.flips == {"suite/old::exact_match": ("s2",)}
