"""Judging as a session does it: bound instruments, one batch, the cache, canaries, panels, failures."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evalgate.cache import Cache
from evalgate.config import EngineConfig, JudgeConfig, JudgesConfig
from evalgate.errors import CheckpointError, ConfigError, InputError, JudgeError
from evalgate.instrument import Calibration, Case, Instrument, Job, Judgement
from evalgate.judging import Judges
from evalgate.judging.hearing import whole
from evalgate.scoring import deepeval_metric, exact_match, judge, prefer, ragas_metric
from evalgate.task import Task
from tests.plugin.judging import V1, answers
from tests.unit.test_evaluate import Told

RUBRIC = "Is the answer right?"
CASES = [Case(f"s{i:02d}", f"{i}+{i}=", str(2 * i) if i % 3 else "?", str(2 * i)) for i in range(12)]


def instrument(rubric: str = RUBRIC, **more: Any) -> Instrument:
    """A native judge of a rubric."""
    made = judge(rubric, **more).judge
    assert made is not None
    return made


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    """An empty cache."""
    with Cache(tmp_path / "cache.sqlite") as made:
        yield made


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A judge's folder."""
    shutil.copytree(V1, tmp_path / "judge")
    return tmp_path / "judge"


def judges(model: Path, cache: Cache, labels: Mapping[str, str], told: Told | None = None, **more: Any) -> Judges:
    """Judges with one model in the fake engine, which answers prompts with these labels."""
    engine = EngineConfig(name="fake", options={"answers": labels, **more.pop("options", {})})
    config = JudgesConfig(default="tiny", models={"tiny": JudgeConfig(model=str(model), engine=engine)})
    return Judges(config, model.parent / "state", cache, told or Told(), **more)


def started(told: Told) -> int:
    """How many engines were started."""
    return sum("starting" in line for line in told.said)


def test_all_instruments_are_one_batch(model: Path, cache: Cache) -> None:
    """Two rubrics over the same answers start one engine once; every case has its judgement, right ones the higher."""
    told = Told()
    both = [instrument(), instrument("Is this the sum?")]
    labels = {prompt: label for each in both for prompt, label in answers(each, CASES).items()}
    made = judges(model, cache, labels, told)
    bound = [made.bound(each) for each in both]
    said = made.judge([(each, case) for each in bound for case in CASES])
    made.close()
    assert started(told) == 1
    assert said.faults == {}
    for each in bound:
        for case in CASES:
            judgement = said.of(each, case)
            assert judgement.value is not None
            assert (judgement.value > 3) is (case.answer == case.reference)


def test_what_was_judged_is_not_asked_again(model: Path, cache: Cache) -> None:
    """The same cases start no engine; one more case asks for that one alone, canaries being known too."""
    labels = answers(instrument(), CASES)
    first, again, more = Told(), Told(), Told()
    for told, cases in ((first, CASES[:10]), (again, CASES[:10]), (more, CASES)):
        made = judges(model, cache, labels, told)
        bound = made.bound(instrument())
        found = made.judge([(bound, case) for case in cases])
        made.close()
        assert all(found.of(bound, case).value is not None for case in cases)
    assert (started(first), started(again), started(more)) == (1, 0, 1)
    assert more.done == 2


def test_fresh_judgements_are_asked_and_forgotten(model: Path, cache: Cache) -> None:
    """To see whether a judge contradicts itself it must be asked; what it says then is not what is remembered."""
    told = Told()
    made = judges(model, cache, answers(instrument(), CASES), told)
    bound = made.bound(instrument())
    asked = [(bound, case) for case in CASES]
    fresh = made.judge(asked, fresh=True, probe=False)
    assert told.done == len(CASES)
    kept = made.judge(asked, probe=False)
    made.close()
    assert told.done == 2 * len(CASES)
    assert fresh.found == kept.found, "the fake judge does not contradict itself"


def test_a_judge_that_misses_canaries_is_not_believed(model: Path, cache: Cache) -> None:
    """Every judgement of it is an error that says why; a calibration still measures it."""
    made = judges(model, cache, dict.fromkeys(answers(instrument(), CASES), "5"))
    bound = made.bound(instrument())
    asked = [(bound, case) for case in CASES]
    said = made.judge(asked)
    measured = made.judge(asked, probe=False)
    made.close()
    assert "canaries" in said.faults[bound.digest]
    assert all(said.of(bound, case).value is None and "canaries" in str(said.of(bound, case).error) for case in CASES)
    assert all((measured.of(bound, case).value or 0) > 4 for case in CASES)


@pytest.mark.parametrize("order", [1, -1], ids=["before", "after"])
def test_canaries_of_every_task_are_shown(order: int, model: Path, cache: Cache) -> None:
    """Two tasks with one judge, of which only one knows what is bad: the judge has to tell it, whoever asks first."""
    evasive = ["I do not know.", "Ask somebody else.", "That depends."]
    both = [instrument(), instrument(bad=evasive)][::order]
    taken_in = dict.fromkeys(evasive, "5")
    labels = {prompt: label for each in both for prompt, label in answers(each, CASES, taken_in).items()}
    made = judges(model, cache, labels)
    bound = [made.bound(each) for each in both]
    said = made.judge([(each, case) for each in bound for case in CASES])
    made.close()
    assert bound[0].digest == bound[1].digest, "canaries are no part of what a judge is"
    assert "I do not know." in said.faults[bound[0].digest]


def test_a_judge_whose_engine_fails_gives_errors(model: Path, cache: Cache) -> None:
    """Each judgement names its sample and the judge; nothing of it is in the cache, and the next session asks again."""
    labels = answers(instrument(), CASES)
    broken = judges(model, cache, labels, options={"crash_after": 0})
    bound = broken.bound(instrument())
    said = broken.judge([(bound, case) for case in CASES], probe=False)
    broken.close()
    for case in CASES:
        error = str(said.of(bound, case).error)
        assert error.startswith(f"sample {case.sample}: the judge tiny failed: ")
    mended = judges(model, cache, labels)
    again = mended.bound(instrument())
    healthy = mended.judge([(again, case) for case in CASES], probe=False)
    mended.close()
    assert again.digest == bound.digest, "what fails is no identity"
    assert all(healthy.of(again, case).value is not None for case in CASES)


def test_answers_that_came_before_a_crash_are_kept(model: Path, cache: Cache) -> None:
    """A judge that dies in the middle loses nothing that it had answered: the next session asks for the rest."""
    labels = answers(instrument(), CASES)
    broken = judges(model, cache, labels, options={"crash_after": 5})
    bound = broken.bound(instrument())
    broken.judge([(bound, case) for case in CASES], probe=False)
    broken.close()
    told = Told()
    rest = judges(model, cache, labels, told, options={"crash_after": len(CASES) - 5})
    said = rest.judge([(bound, case) for case in CASES], probe=False)
    rest.close()
    assert all(said.of(bound, case).value is not None for case in CASES), "no more than the rest could be asked"
    assert told.done == len(CASES), "what was answered before counts too"


def test_a_case_that_nobody_judged_is_an_error(model: Path, cache: Cache) -> None:
    """What was not asked for has no score."""
    made = judges(model, cache, {})
    bound = made.bound(instrument())
    assert made.judge([]).of(bound, CASES[0]).error == "was not judged"


def test_a_process_that_fails_as_a_whole_leaves_errors() -> None:
    """What it had judged counts, the rest is an error each with its sample: none is missing."""
    jobs = [Job(instrument(), case) for case in CASES[:3]]

    def judged() -> Iterator[Judgement]:
        yield Judgement(jobs[0].id, 4.0)
        raise JudgeError("the process died", where="judges.log")

    said = list(whole(jobs, judged()))
    assert [each.job for each in said] == [job.id for job in jobs]
    assert [each.value for each in said] == [4.0, None, None]
    assert said[2].error == "sample s02: judges.log: the process died"
    quiet = list(whole(jobs, iter([Judgement(jobs[1].id, 1.0)])))
    assert [each.error for each in quiet] == [None, "sample s00: was not judged", "sample s02: was not judged"]


# -- identity ----------------------------------------------------------------------------------------------------------


def test_identity_is_content(model: Path, cache: Cache) -> None:
    """The same bytes under another name are the same judge; other bytes, rubric, scale or engine options another."""
    known = judges(model, cache, {}).bound(instrument())
    copy = model.with_name("copy")
    shutil.copytree(model, copy)
    assert judges(copy, cache, {}).bound(instrument()).digest == known.digest
    assert judges(model, cache, {}).bound(instrument("Is it?")).digest != known.digest
    assert judges(model, cache, {}).bound(instrument(scale=(0, 1))).digest != known.digest
    assert judges(model, cache, {"other": "answers"}).bound(instrument()).digest != known.digest
    config = copy / "config.json"
    config.write_text(config.read_text().replace("{", '{"of_test": 1,', 1))
    assert judges(copy, cache, {}).bound(instrument()).digest != known.digest


def test_an_endpoint_is_known_by_its_names(cache: Cache, tmp_path: Path) -> None:
    """Address, model and revision are all there is; another revision is another judge."""

    def bound(**more: Any) -> str:
        config = JudgeConfig(
            model="big", url="http://127.0.0.1:9/v1", engine=EngineConfig(name="openai", options={}), **more
        )
        return (
            Judges(JudgesConfig(default="c", models={"c": config}), tmp_path, cache, Told()).bound(instrument()).digest
        )

    assert bound() == bound()
    assert bound(revision="2") != bound()


def test_versions_of_a_library_are_in_the_identity(model: Path, cache: Cache) -> None:
    """Another deepeval may judge otherwise; a metric of ragas that asks no model names none."""
    made = judges(model, cache, {})
    scorer = deepeval_metric("GEval", name="g", evaluation_steps=["Compare."], evaluation_params=["actual_output"])
    assert scorer.judge is not None
    identity = made.bound(scorer.judge).identity or {}
    assert "deepeval" in identity["versions"]
    assert len(identity["models"]) == 1
    exact = ragas_metric("ExactMatch")
    assert exact.judge is not None
    assert (made.bound(exact.judge).identity or {})["models"] == []


def test_a_calibration_belongs_to_one_judge(model: Path, cache: Cache) -> None:
    """It is found by the bound digest, counts from the floor on, and changes no digest itself."""
    bare = judges(model, cache, {}).bound(instrument())
    known = {bare.digest: Calibration(bare.digest, 0.55, 300), "sha256:other": Calibration("sha256:other", 0.9, 300)}
    found = judges(model, cache, {}, calibrations=known).bound(instrument())
    assert (found.digest, found.calibrated) == (bare.digest, False)
    config = JudgesConfig(default="tiny", kappa=0.5, models=judges(model, cache, {}).config.models)
    assert Judges(config, model.parent, cache, Told(), calibrations=known).bound(instrument()).calibrated
    assert not judges(model, cache, {}, calibrations=known).bound(instrument("Is it?")).calibration


def test_a_task_without_judges_is_not_touched(model: Path, cache: Cache) -> None:
    """Its very object stays; one with a judge keeps its code scorers as they are."""
    made = judges(model, cache, {})
    plain = Task(samples=[{"id": "a"}], prompt="x", scorers=[exact_match()])
    assert made.bind(plain) is plain
    both = Task(samples=[{"id": "a"}], prompt="x", scorers=[exact_match(), judge(RUBRIC)])
    bound = made.bind(both)
    assert bound.scorers[0] is both.scorers[0]
    assert bound.scorers[1].judge is not None
    assert bound.scorers[1].judge.identity is not None
    assert bound.scorers[1].metric.digest == both.scorers[1].metric.digest, "models have a digest of their own"
    assert bound.scorers[1].metric.judge != both.scorers[1].metric.judge


def test_who_blocks(model: Path, cache: Cache) -> None:
    """An uncalibrated judge in the first place blocks nothing; calibrated, it blocks like code."""
    made = judges(model, cache, {})
    task = Task(samples=[{"id": "a"}], prompt="x", scorers=[judge(RUBRIC), exact_match()])
    assert made.bind(task).blocking == ()
    digest = made.bind(task).scorers[0].metric.judge
    assert digest is not None
    made.calibrations[digest] = Calibration(digest, 0.8, 300)
    assert [scorer.name for scorer in made.bind(task).blocking] == ["judge"]


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_a_judge_must_be_named(model: Path, cache: Cache, tmp_path: Path) -> None:
    """No judge, several without a default, a name that is none: each says what there is."""
    models = dict(judges(model, cache, {}).config.models)
    two = {**models, "other": models["tiny"]}
    with pytest.raises(ConfigError, match=r"a metric needs a judge.*tool.evalgate.judges.mine"):
        Judges(JudgesConfig(), tmp_path, cache, Told()).bound(instrument())
    with pytest.raises(ConfigError, match=r'a metric needs a judge.*judge = "tiny"'):
        Judges(JudgesConfig(models=two), tmp_path, cache, Told()).bound(instrument())
    with pytest.raises(ConfigError, match="no judge is called 'nobody'; there are tiny"):
        judges(model, cache, {}).bound(instrument(by="nobody"))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model": "runs/nope"}, r"^the judge mine, model: 'runs/nope' is no folder"),
        ({"model": "runs/nope", "engine": EngineConfig(name="vlm")}, r"^the judge mine, engine: 'vlm' is no engine"),
        ({"model": "big", "url": "127.0.0.1:9/v1"}, r"^the judge mine, url: expected an http\(s\) address"),
        (
            {"model": "big", "url": "http://x/v1", "engine": EngineConfig(name="openai", options={"concurrency": 0})},
            r"^the judge mine, concurrency: expected 1 to 1024",
        ),
    ],
)
def test_a_mistake_in_a_judge_is_told_of_that_judge(
    cache: Cache, tmp_path: Path, config: Mapping[str, Any], said: str
) -> None:
    """Checks that candidates share speak of `--model` and `engine.…`: of a judge they name the judge and its key."""
    settings = JudgesConfig(default="mine", models={"mine": JudgeConfig(**config)})
    with pytest.raises(InputError, match=said):
        Judges(settings, tmp_path, cache, Told()).bound(instrument())


def test_a_judge_is_asked_in_a_chat(model: Path, cache: Cache) -> None:
    """Weights without a chat template are refused before anything starts."""
    (model / "chat_template.jinja").unlink()
    with pytest.raises(CheckpointError, match=r"the judge tiny.*has no chat template"):
        judges(model, cache, {}).bound(instrument())


# -- preferences -------------------------------------------------------------------------------------------------------


def test_a_preference_asks_in_both_orders(model: Path, cache: Cache) -> None:
    """One that takes whatever stands first is no preference: .5, and what it said in each order is noted."""
    scorer = prefer("Which answer is right?")
    assert scorer.judge is not None
    pairs = [replace(case, answer=case.reference or "", other="?") for case in CASES]
    truth = answers(scorer.judge, pairs)
    for labels, value in ((truth, 1.0), (dict.fromkeys(truth, "A"), 0.5), (dict.fromkeys(truth, "B"), 0.5)):
        with Cache(model.parent / f"{value}-{len(labels)}-{next(iter(labels.values()))}.sqlite") as apart:
            made = judges(model, apart, labels)
            bound = made.bound(scorer.judge)
            said = made.judge([(bound, case) for case in pairs], probe=False)
            made.close()
        assert {said.of(bound, case).value for case in pairs} == {value}
        assert "baseline first" in str(said.of(bound, pairs[0]).explanation)


def test_a_question_that_is_asked_once_counts_as_often_as_it_is_answered(model: Path, cache: Cache) -> None:
    """Equal answers make the same question in either order: progress reaches its total all the same."""
    scorer = prefer("Which answer is right?")
    assert scorer.judge is not None
    pairs = [replace(case, other=case.answer if i % 2 else "?") for i, case in enumerate(CASES)]
    told = Told()
    made = judges(model, cache, answers(scorer.judge, pairs), told)
    bound = made.bound(scorer.judge)
    made.judge([(bound, case) for case in pairs], probe=False)
    made.close()
    assert told.said[0] == f"0 of {2 * len(pairs)}"
    assert told.done == 2 * len(pairs)
