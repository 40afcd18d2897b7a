"""`sweep.yaml`, and the search over points whose results are there already: the real study and files, no pytest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalgate.digest import digest, short
from evalgate.errors import ConfigError, EvalgateError
from evalgate.lock import alone
from evalgate.report.results import CandidateResult, MetricResult, Results
from evalgate.sweep import Dimension, Done, Outcome, Pruning, Sweep, best, load_sweep, run_sweep, table
from evalgate.sweep.definition import override_text
from evalgate.sweep.study import search
from evalgate.sweep.trial import Runner
from tests.training.project import V1

METRIC = "arithmetic/sums::exact_match"
GOOD = f"""
name: sums
train: conf/sft.yaml
objective: {METRIC}
trials: 20
space:
  lora.r: {{choices: [4, 8, 16]}}
  optimizer.learning_rate: {{low: 1e-4, high: 3.0e-3, log: true}}
  schedule.batch_size: {{low: 2, high: 8, step: 2}}
"""


def written(folder: Path, text: str) -> Path:
    """A sweep.yaml."""
    path = folder / "sweep.yaml"
    path.write_text(text)
    return path


# -- the definition ---------------------------------------------------------------------------------------------------


def test_a_definition_is_read(tmp_path: Path) -> None:
    """Choices, ranges, whole numbers by their ends, and 1e-4, which YAML takes for text."""
    sweep = load_sweep(written(tmp_path, GOOD))
    rank, rate, batch = sweep.space
    assert (sweep.name, sweep.trials, sweep.direction, sweep.constraint) == ("sums", 20, "maximize", "gate")
    assert rank == Dimension("lora.r", choices=("4", "8", "16"))
    assert (rate.low, rate.high, rate.log, rate.whole) == (1e-4, 3e-3, True, False)
    assert (batch.step, batch.whole, batch.text(4.0)) == (2.0, True, "4")


def test_every_choice_end_and_rung_is_tried_beforehand(tmp_path: Path) -> None:
    """The overrides that the training configuration is checked with hold each at least once, and every key always."""
    sweep = load_sweep(written(tmp_path, GOOD + "pruning: {key: schedule.epochs, rungs: [1, 2]}"))
    rows = sweep.checks()
    tried = {override for row in rows for override in row}
    assert {"lora.r=4", "lora.r=8", "lora.r=16", "schedule.batch_size=2", "schedule.batch_size=8"} <= tried
    assert {"optimizer.learning_rate=0.0001", "optimizer.learning_rate=0.003"} <= tried
    assert {"schedule.epochs=1", "schedule.epochs=2"} <= tried
    assert all(len({override.partition("=")[0] for override in row}) >= 3 for row in rows)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("trials: 20", "trails: 20"), "unknown key 'trails'. Did you mean 'trials'?"),
        (("trials: 20", "trials: 0"), "trials = 0: expected a whole number from 1"),
        (("trials: 20", "trials: yes"), "trials = True: expected a whole number"),
        (("name: sums", "name: ../sums"), "name = '../sums' is no name"),
        (("name: sums\n", ""), "name is missing"),
        ((METRIC, "exact_match"), "'exact_match' is no metric of a task. Write it as suite/task::metric"),
        (("trials: 20", "trials: 20\ndirection: maximise"), "Did you mean 'maximize'?"),
        (("trials: 20", "trials: 20\nconstraint: gates"), "Did you mean 'gate'?"),
        (("trials: 20", "trials: 20\nparallel: 2"), "parallel = 2 needs backend: ray"),
        (("trials: 20", "trials: 20\nsuites: {}"), "suites = {}: expected a list of texts"),
        (("choices: [4, 8, 16]", "choices: []"), "space.lora.r: choices is empty"),
        (("choices: [4, 8, 16]", "choices: [4, 4]"), "a choice stands twice"),
        (("choices: [4, 8, 16]", "choice: [4]"), "unknown key 'choice'. Did you mean 'choices'?"),
        (("choices: [4, 8, 16]", "choices: [4], low: 1"), "either choices, or low and high"),
        (("choices: [4, 8, 16]", "choices: [{a: 1}]"), "cannot be given as key=value"),
        (("lora.r:", "lora..r:"), "'lora..r' is no key of a configuration"),
        (("low: 2, high: 8", "low: 8, high: 8"), "low = 8 is not below high = 8"),
        (("low: 2, high: 8", "low: two, high: 8"), "low = 'two': expected a number"),
        (("low: 2, high: 8", "low: .nan, high: 8"), "low = nan: expected a number"),
        (("step: 2", "step: 0.5"), "whole numbers have whole ends and steps"),
        (("step: 2", "step: -1"), "step is above 0"),
        (("step: 2", "log: 1"), "log = 1: expected true or false"),
        (("low: 1e-4", "low: 0"), "on a logarithmic scale it is above 0"),
        (("trials: 20", "trials: 20\npruning: {key: a, rungs: []}"), "rungs are the budgets"),
        (("trials: 20", "trials: 20\npruning: {key: a, rungs: [2, 1]}"), "rungs rise"),
        (("trials: 20", "trials: 20\npruning: {key: lora.r, rungs: [1]}"), "lora.r is in space, and it is the budget"),
        (("trials: 20", "trials: 20\nbackend: ray\npruning: {key: a, rungs: [1]}"), "pruning needs backend: optuna"),
        (("trials: 20", "trials: 20\nbackend: optuma"), "Did you mean 'optuna'?"),
        (("trials: 20", "trials: ["), "cannot be read"),
    ],
)
def test_what_is_written_wrong_is_one_line(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    """File, place, what is wrong, and the nearest key."""
    assert change[0] in GOOD
    path = written(tmp_path, GOOD.replace(*change))
    with pytest.raises(ConfigError) as caught:
        load_sweep(path)
    assert said in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "space: {}", GOOD[: GOOD.index("space")] + "space: {}"])
def test_a_definition_without_content_is_refused(tmp_path: Path, text: str) -> None:
    """An empty file, a list, nothing to search."""
    with pytest.raises(ConfigError):
        load_sweep(written(tmp_path, text))
    with pytest.raises(ConfigError, match="No such file"):
        load_sweep(tmp_path / "nowhere.yaml")


_VALUES: st.SearchStrategy[object] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="ascii", categories=("L", "N", "P", "Zs")), max_size=12),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


@given(_VALUES)
def test_hydra_reads_a_choice_back(value: object) -> None:
    """What stands behind `key=` means the value that was written; a plain word that looks like a number is one."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    (read,) = OverridesParser.create().parse_overrides([f"key={override_text(value, 'here')}"])
    assert _plain(read.value()) == _words(value)


def _plain(value: object) -> object:
    from hydra.core.override_parser.types import QuotedString

    if isinstance(value, QuotedString):
        return value.text
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _words(value: object) -> object:
    """A word without quotes is read as Hydra reads words: `true`, `null`, `1e-4`."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    if isinstance(value, list):
        return [_words(each) for each in value]
    if isinstance(value, str) and override_text(value, "here") == value:
        return _plain(OverridesParser.create().parse_overrides([f"key={value}"])[0].value())
    return value


# -- a search whose points are known ----------------------------------------------------------------------------------

RANKS, BATCHES = ("4", "8", "16"), ("2", "4", "6", "8")
SWEEP = Sweep(
    name="known",
    train="conf/sft.yaml",
    objective=METRIC,
    trials=20,
    space=(Dimension("lora.r", choices=RANKS), Dimension("schedule.batch_size", low=2, high=8, step=2, whole=True)),
)


def keep(folder: Path, overrides: Iterable[str], results: Results) -> Path:
    """Put results where the runner looks before it runs a point."""
    path = folder / short(digest(sorted(overrides)), 16) / "results.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(results.as_bytes())
    return path


def result(
    value: float | None, outcome: str = "PASS", exit_code: int | None = None, version: str = "runs/v2"
) -> Results:
    """What a session's file says of one candidate."""
    code = exit_code if exit_code is not None else int(outcome != "PASS")
    metric = MetricResult(True, outcome, "why", value=value)
    candidate = CandidateResult("v2", "sha256:0", version, outcome, outcome != "PASS", "why", metrics={METRIC: metric})
    return Results(code, (candidate,))


def known(folder: Path, score: Callable[[int, int], Results], sweep: Sweep = SWEEP) -> Runner:
    """A runner whose every point has its results."""
    for rank, batch in product(RANKS, BATCHES):
        keep(folder, [f"lora.r={rank}", f"schedule.batch_size={batch}"], score(int(rank), int(batch)))
    return Runner(sweep, folder, folder, ("evalsuites",))


def slope(rank: int, batch: int) -> Results:
    """The best of all is blocked: rank 16; the best that passes is rank 8 with a batch of 8."""
    return result(rank / 100 + batch / 1000, "REGRESSION" if rank == 16 else "PASS", version=f"runs/r{rank}b{batch}")


def quiet(done: Done) -> None:
    """Nobody listens."""


def test_a_blocked_candidate_is_infeasible(tmp_path: Path) -> None:
    """The best score is blocked by the gate: the best that passes is named, with the command that promotes it."""
    done = search(SWEEP, known(tmp_path, slope), tmp_path / "s.sqlite", quiet)
    assert [each.number for each in done] == list(range(20))
    found = best(done, SWEEP)
    assert found is not None
    assert found.outcome == Outcome(0.088, True, "PASS", "runs/r8b8")
    lines = table(done, SWEEP)
    assert len(lines) == 1 + 20 + 2
    assert lines[-2:] == [
        f"best: trial {found.number}, runs/r8b8, {METRIC} .088",
        "evalgate promote runs/r8b8 --as champion",
    ]


def test_without_the_constraint_the_score_alone_counts(tmp_path: Path) -> None:
    """`constraint: none` takes the blocked one; `direction: minimize` the smallest that passes."""
    anything = replace(SWEEP, constraint="none")
    runner = known(tmp_path, slope, anything)
    found = best(search(anything, runner, tmp_path / "a.sqlite", quiet), anything)
    assert found is not None
    assert found.outcome is not None
    assert found.outcome.version == "runs/r16b8"
    assert table([found], anything)[-1] == "the gate says REGRESSION: it is not to be promoted"
    least = replace(SWEEP, direction="minimize")
    found = best(search(least, replace(runner, sweep=least), tmp_path / "b.sqlite", quiet), least)
    assert found is not None
    assert found.outcome is not None
    assert found.outcome.version == "runs/r4b2"


def test_when_nothing_passes_nothing_is_promoted(tmp_path: Path) -> None:
    """All are blocked: no best, and no command."""
    runner = known(tmp_path, lambda r, b: result(r / 100, "REGRESSION"))
    done = search(replace(SWEEP, trials=3), runner, tmp_path / "s.sqlite", quiet)
    assert best(done, SWEEP) is None
    assert table(done, SWEEP)[-1] == "no trial passed the gate"


def test_a_failed_test_beside_the_gates_is_no_pass(tmp_path: Path) -> None:
    """The candidate passes and a test of the suite does not: infeasible, and said."""
    runner = known(tmp_path, lambda r, b: result(r / 100, exit_code=1))
    done = search(replace(SWEEP, trials=3), runner, tmp_path / "s.sqlite", quiet)
    assert {each.outcome.verdict for each in done if each.outcome} == {"PASS, a test failed"}
    assert best(done, SWEEP) is None


def test_a_blocked_candidate_whose_tests_were_skipped_is_infeasible(tmp_path: Path) -> None:
    """The gate's word counts, whatever pytest's exit code was."""
    found = Runner(SWEEP, tmp_path, tmp_path, ())._outcome(result(0.9, "REGRESSION", exit_code=0))
    assert not found.feasible


class KilledError(BaseException):
    """Ends the process's work in the middle of a trial, as a signal does."""


def test_a_killed_sweep_proposes_what_it_would_have_proposed(tmp_path: Path) -> None:
    """Killed after every second trial: 20 end, with the points of the straight sweep, and no killed one is left."""
    import optuna

    runner = known(tmp_path, slope)
    straight = [each.overrides for each in search(SWEEP, runner, tmp_path / "straight.sqlite", quiet)]
    assert len(set(straight[:8])) >= 4  # every trial has a seed of its own, also before there is anything to learn
    path, kills = tmp_path / "killed.sqlite", 0
    ended = 0
    while ended < 20:
        budget = [2]

        def count(done: Done, budget: list[int] = budget) -> None:
            budget[0] -= 1

        class Mortal(Runner):
            def run(self, overrides: Iterable[str], budget: list[int] = budget) -> Outcome:
                if not budget[0]:
                    raise KilledError
                return super().run(list(overrides))

        mortal = Mortal(SWEEP, tmp_path, tmp_path, ("evalsuites",))
        try:
            done = search(SWEEP, mortal, path, count)
            ended = len(done)
        except KilledError:
            kills += 1
    assert kills == 9
    assert sorted(each.overrides for each in done) == sorted(straight)
    states = [trial.state.name for trial in optuna.load_study(study_name="known", storage=f"sqlite:///{path}").trials]
    assert (states.count("COMPLETE"), states.count("FAIL"), states.count("RUNNING")) == (20, 9, 0)


def test_a_trial_that_failed_is_tried_again_by_the_next_start(tmp_path: Path) -> None:
    """An error is no score: after three in a row the search ends, and the same points are proposed to the next."""
    five = replace(SWEEP, trials=5)
    nowhere = Runner(five, tmp_path, tmp_path, ("evalsuites",))  # pytest says that there is no such configuration
    done = search(five, nowhere, tmp_path / "s.sqlite", quiet)
    assert [each.outcome for each in done] == [None, None, None]
    assert all(each.error and "sft.yaml" in each.error for each in done)
    assert len({each.overrides for each in done}) == 3
    assert best(done, five) is None
    assert [line.split()[1] for line in table(done, five)[1:4]] == ["ERROR"] * 3
    again = search(five, known(tmp_path, slope, five), tmp_path / "s.sqlite", quiet)
    assert [each.number for each in again] == [3, 4, 5, 6, 7]
    assert [each.overrides for each in again[:3]] == [each.overrides for each in done]
    assert all(each.outcome for each in again)


def test_a_trial_worse_than_the_median_ends_at_its_rung(tmp_path: Path) -> None:
    """After the first trials, a point whose score at one epoch is below the median is never trained in full."""
    pruning = replace(SWEEP, pruning=Pruning("schedule.epochs", ("1",), startup=3))
    runner = known(tmp_path, slope, pruning)
    for rank, batch in product(RANKS, BATCHES):
        point = [f"lora.r={rank}", f"schedule.batch_size={batch}"]
        keep(tmp_path, [*point, "schedule.epochs=1"], result(int(rank) / 100))
    done = search(pruning, runner, tmp_path / "s.sqlite", quiet)
    pruned = [each for each in done if each.pruned]
    assert 0 < len(pruned) < 17
    assert not any(each.pruned for each in done[:3])
    assert {each.overrides[0] for each in pruned} <= {"lora.r=4", "lora.r=8"}
    found = best(done, pruning)
    assert found is not None
    assert not found.pruned
    assert "pruned" in "\n".join(table(done, pruning))


@pytest.mark.parametrize(
    ("results", "said"),
    [
        (result(None, "ERROR"), "why"),
        (result(0.9, "NO BASELINE"), "the gate says NO BASELINE"),
        (result(0.9, "INCOMPARABLE"), "the gate says INCOMPARABLE"),
        (Results(4, error="a suite is broken"), "a suite is broken"),
        (Results(0), f"{METRIC} was not evaluated"),
        (result(0.9, exit_code=2), "exit code 2"),
        (replace(result(0.9), candidates=result(0.9).candidates * 2), "pytest gated v2, v2: one candidate was meant"),
    ],
)
def test_what_is_no_score_is_an_error(tmp_path: Path, results: Results, said: str) -> None:
    """Nothing of it becomes a number."""
    with pytest.raises(EvalgateError, match=said):
        Runner(SWEEP, tmp_path, tmp_path, ())._outcome(results)


# -- a project --------------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A configuration that could be trained, and a suite; neither is."""
    for folder in ("conf", "evalsuites", "data"):
        (tmp_path / folder).mkdir()
    shutil.copytree(V1, tmp_path / "base")
    (tmp_path / "pyproject.toml").write_text('[tool.evalgate]\nsuites = "evalsuites"\n')
    (tmp_path / "data/sums.jsonl").write_text('{"prompt": "1+1=", "completion": "2"}\n')
    (tmp_path / "evalsuites/test_arithmetic.py").write_text("")
    (tmp_path / "conf/sft.yaml").write_text(
        "defaults: [evalgate, _self_]\nmodel: {base: base}\ndata: {files: [data/sums.jsonl]}\n"
    )
    known(tmp_path / ".evalgate/sweeps/known", slope)
    return tmp_path


def swept(project: Path, sweep: Sweep) -> list[Done]:
    """A sweep of the project, whose only metric is the one that is searched for."""
    return run_sweep(sweep, metrics=lambda suites: {METRIC}, say=quiet, start=project)


def test_more_trials_go_on_with_the_same_search(project: Path) -> None:
    """Twenty, then five more; the first twenty stand as they were."""
    first = swept(project, SWEEP)
    more = swept(project, replace(SWEEP, trials=25))
    assert more[:20] == first
    assert len(more) == 25


@pytest.mark.parametrize(
    ("file", "text", "part"),
    [
        ("data/sums.jsonl", '{"prompt": "1+1=", "completion": "3"}\n', "the training data"),
        ("conf/sft.yaml", "defaults: [evalgate, _self_]\nmodel: {base: base}\nwhy: other\n"
         "data: {files: [data/sums.jsonl]}\n", "the training configuration"),
        ("evalsuites/test_more.py", "x = 1\n", "the suites"),
        ("pyproject.toml", "[tool.evalgate]\nalpha = 0.01\n", "[tool.evalgate]"),
    ],
)  # fmt: skip
def test_scores_from_before_a_change_are_not_mixed_with_those_after(
    project: Path, file: str, text: str, part: str
) -> None:
    """What changed is named, and another name for the sweep is asked for."""
    swept(project, replace(SWEEP, trials=2))
    (project / file).write_text(text)
    with pytest.raises(ConfigError) as caught:
        swept(project, SWEEP)
    assert f"{part} changed since the sweep known began" in str(caught.value)
    with pytest.raises(ConfigError, match=r"definition and .*changed"):
        swept(project, replace(SWEEP, seed=7))


@pytest.mark.parametrize(
    ("sweep", "said"),
    [
        (replace(SWEEP, space=(Dimension("lora.rank", choices=("4",)),)), "rank"),
        (replace(SWEEP, space=(Dimension("lora.r", low=-3, high=4, whole=True),)), "lora.r"),
        (replace(SWEEP, train="conf/stf.yaml"), "Did you mean sft.yaml?"),
        (replace(SWEEP, objective="arithmetic/sums::exact_mach"), f"Did you mean {METRIC}?"),
        (replace(SWEEP, objective="some/other::thing"), f"There are: {METRIC}"),
        (replace(SWEEP, pruning=Pruning("schedule.epoch", ("1",))), "epoch"),
    ],
)
def test_what_the_project_does_not_know_is_said_before_anything_runs(project: Path, sweep: Sweep, said: str) -> None:
    """Keys, ranges, the configuration's file, the objective: one line each, and no study was begun."""
    with pytest.raises(ConfigError) as caught:
        swept(project, sweep)
    assert said in str(caught.value)
    assert not (project / ".evalgate/sweeps/known.sqlite").exists()


def test_a_name_is_one_trials_only(project: Path) -> None:
    """A configuration that names its version cannot be trained twenty times."""
    with (project / "conf/sft.yaml").open("a") as file:
        file.write("name: v7\n")
    with pytest.raises(ConfigError, match="can be one trial's only"):
        swept(project, SWEEP)


def test_one_sweep_at_a_time(project: Path) -> None:
    """The second start says who is running, since when."""
    with (
        alone(project / ".evalgate/sweeps/known.lock", "the sweep known"),
        pytest.raises(EvalgateError, match=r"the sweep known is running already, since 20.* started by process"),
    ):
        swept(project, SWEEP)


def test_another_base_is_another_search(project: Path) -> None:
    """The same path with other content: scores over the old base are not mixed with those over the new one."""
    swept(project, replace(SWEEP, trials=1))
    config = json.loads((project / "base/config.json").read_text())
    (project / "base/config.json").write_text(json.dumps({**config, "of_test": 1}))
    with pytest.raises(ConfigError, match="the base model changed since the sweep known began"):
        swept(project, SWEEP)


def test_what_a_sweep_is_about_is_kept(project: Path) -> None:
    """Beside the study lies what its scores have in common."""
    swept(project, replace(SWEEP, trials=1))
    about = json.loads((project / ".evalgate/sweeps/known/about.json").read_text())
    assert set(about) == {
        "the sweep's definition",
        "the training configuration",
        "the base model",
        "the training data",
        "the suites",
        "[tool.evalgate]",
    }
