"""From a plan to evaluations, over the fake engine in its real child."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from evalgate.cache import Cache, cache_key
from evalgate.checkpoint import Checkpoint
from evalgate.engines import EngineSettings
from evalgate.errors import CheckpointError, EngineError
from evalgate.evaluate import Evaluator, assemble
from evalgate.evaluation import Evaluation
from evalgate.plan import Plan
from evalgate.preflight import read_checkpoint
from evalgate.request import Completion, Request
from evalgate.scoring import choice, exact_match, function
from evalgate.task import Sampling, Task

V1 = Path(__file__).parents[2] / "fixtures/checkpoints/v1"
ROWS = [{"id": f"s{i}", "a": i, "target": str(i * 2)} for i in range(6)]
ANSWERS = {f"twice {i}:": str(i * 2) if i else "?" for i in range(6)}


class Told:
    """Progress that remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.done = 0

    def start(self, total: int, known: int, unit: str = "answers") -> None:
        """Note the sizes."""
        self.said.append(f"{known} of {total}")

    def advance(self, count: int, note: str = "") -> None:
        """Count."""
        self.done += count

    def say(self, text: str) -> None:
        """Note a line."""
        self.said.append(text)

    def stop(self) -> None:
        """Note the end."""
        self.said.append("stop")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    """A copy of the tiny model, to be changed at will."""
    shutil.copytree(V1, tmp_path / "v1")
    return read_checkpoint(tmp_path / "v1")


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    """An empty cache."""
    with Cache(tmp_path / "cache.sqlite") as made:
        yield made


def evaluator(
    checkpoint: Checkpoint, cache: Cache, tmp_path: Path, told: Told | None = None, **options: Any
) -> Evaluator:
    """An evaluator over the fake engine."""
    settings = EngineSettings(name="fake", options={"answers": ANSWERS, **options}, log_dir=tmp_path / "logs")
    return Evaluator([checkpoint], settings, cache, told or Told())


def twice(**changes: Any) -> Task:
    """A task that the fake gets right, except for the first sample."""
    return Task(**{"samples": ROWS, "prompt": "twice {{ a }}:", "scorers": [exact_match()]} | changes)


def run(made: Evaluator, task: Task) -> Evaluation:
    """The evaluation of one task."""
    (plan,) = made.plan("suite/twice", task)
    answers = made.answer(Plan((plan,)))
    return assemble(plan, answers.completions, environment={}, provenance={}, policy={})


def test_answers_are_scored_row_by_row(checkpoint: Checkpoint, cache: Cache, tmp_path: Path) -> None:
    """Rows are sorted, hold prompt, target, output and score, and the mean is theirs."""
    made = evaluator(checkpoint, cache, tmp_path)
    result = run(made, twice())
    made.close()
    assert [row.id for row in result.rows] == sorted(str(row["id"]) for row in ROWS)
    assert (result.rows[1].prompt, result.rows[1].target, result.rows[1].outputs) == ("twice 1:", "2", ("2",))
    assert result.mean("exact_match") == pytest.approx(5 / 6)
    assert result.checkpoint["digest"] == checkpoint.digest


def test_what_is_known_is_not_asked_again(checkpoint: Checkpoint, cache: Cache, tmp_path: Path) -> None:
    """A second evaluator on the same cache answers without a child, with the same record and environment."""
    first = evaluator(checkpoint, cache, tmp_path)
    one = run(first, twice())
    first.close()
    told = Told()
    second = evaluator(checkpoint, cache, tmp_path, told)
    other = run(second, twice())
    assert not second.asker.started
    assert other.digest == one.digest
    assert told.said == ["6 of 6", "stop"]
    assert second.asker.environment(checkpoint) == first.asker.environment(checkpoint)


def test_a_crash_loses_nothing_that_was_counted(checkpoint: Checkpoint, cache: Cache, tmp_path: Path) -> None:
    """What progress has counted is in the cache; the resumed run asks for the rest and gives the straight record."""
    told = Told()
    crashing = evaluator(checkpoint, cache, tmp_path, told, crash_after=3)
    with pytest.raises(EngineError):
        run(crashing, twice())
    crashing.close()
    assert told.done <= 3
    resumed_told = Told()
    resumed = evaluator(checkpoint, cache, tmp_path, resumed_told)
    result = run(resumed, twice())
    resumed.close()
    assert resumed_told.said[0] == f"{told.done} of 6"
    with Cache(tmp_path / "other.sqlite") as fresh:
        straight = evaluator(checkpoint, fresh, tmp_path)
        assert run(straight, twice()).digest == result.digest
        straight.close()


def test_weights_that_change_while_they_load_are_refused(checkpoint: Checkpoint, cache: Cache, tmp_path: Path) -> None:
    """Answers of other weights than were hashed are neither scored nor cached."""
    made = evaluator(checkpoint, cache, tmp_path)
    (plan,) = made.plan("suite/twice", twice())
    config = Path(str(checkpoint.path)) / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "rope_theta": 7.0}))
    with pytest.raises(CheckpointError, match="changed while"):
        made.answer(Plan((plan,)))
    made.close()
    config.write_text((V1 / "config.json").read_text())
    again = Told()
    honest = evaluator(checkpoint, cache, tmp_path, again)
    run(honest, twice())
    honest.close()
    assert again.said[0] == "0 of 6"


def test_an_error_is_never_a_score(checkpoint: Checkpoint, cache: Cache, tmp_path: Path) -> None:
    """A request that failed leaves a row with the sample's name and no score."""
    made = evaluator(checkpoint, cache, tmp_path, fail=["twice 3:"])
    result = run(made, twice())
    made.close()
    (broken,) = result.errors
    assert broken.id == "s3"
    assert broken.scores == {}
    assert "s3" in str(broken.error)


def test_a_scorer_that_raises_is_a_fault_of_its_metric_alone(
    checkpoint: Checkpoint, cache: Cache, tmp_path: Path
) -> None:
    """A user's function that divides by zero on one sample is named there; other metrics keep that sample's score."""

    def shaky(output: str, sample: object) -> float:
        return 1 / (int(output) - 4) if output.isdecimal() else 0.0

    made = evaluator(checkpoint, cache, tmp_path)
    result = run(made, twice(scorers=[function(shaky, low=-10, high=10), exact_match()]))
    made.close()
    (broken,) = result.errors
    assert broken.id == "s2"
    assert broken.error is None
    assert list(broken.faults) == ["shaky"]
    assert "ZeroDivisionError" in broken.faults["shaky"]
    assert broken.scores == {"exact_match": 1.0}
    assert [row.id for row in result.unscored("shaky")] == ["s2"]
    assert result.unscored("exact_match") == ()


def completions(plan_texts: Mapping[str, str]) -> dict[str, Completion]:
    """Completions by request id."""
    return {key: Completion(key, text=text) for key, text in plan_texts.items()}


def test_k_generations_are_averaged_first(checkpoint: Checkpoint, cache: Cache, tmp_path: Path) -> None:
    """The unit is the question: two of four right is a score of one half."""
    task = twice(sampling=Sampling(n=4, temperature=1.0))
    (plan,) = evaluator(checkpoint, cache, tmp_path).plan("suite/twice", task)
    texts = {
        request.id: question.sample.target if k < 2 else "?"
        for question in plan.questions
        for k, request in enumerate(question.generations)
    }
    result = assemble(plan, completions(texts), environment={}, provenance={}, policy={})
    assert {row.scores["exact_match"] for row in result.rows} == {0.5}
    assert all(len(row.outputs) == 4 for row in result.rows)


def test_a_row_keeps_its_margin(checkpoint: Checkpoint, cache: Cache, tmp_path: Path) -> None:
    """As the engine said it, from the cache too; a row whose request failed has none."""
    for _ in range(2):
        made = evaluator(checkpoint, cache, tmp_path, margins={"twice 1:": 0.25}, fail=["twice 2:"])
        rows = {row.id: row for row in run(made, twice()).rows}
        made.close()
        assert [rows[name].margin for name in ("s0", "s1", "s2")] == [1.0, 0.25, None]


def test_the_canary_rides_along_past_the_cache(checkpoint: Checkpoint, cache: Cache, tmp_path: Path) -> None:
    """Its prompts are answered now though the cache knows them, and the cache keeps what it had."""
    before = evaluator(checkpoint, cache, tmp_path)
    (old,) = before.plan("suite/twice", twice())
    known = before.answer(Plan((old,))).completions
    before.close()
    # The same engine identity with other answers: what a cache cannot know of a machine that is noisy.
    told = Told()
    noisy = evaluator(checkpoint, cache, tmp_path, told, answers=ANSWERS | {"twice 1:": "noise", "new 1:": "2"})
    noisy.asker.engine_digest = before.asker.engine_digest
    (new,) = noisy.plan("suite/new", twice(prompt="new {{ a }}:"))
    asked = old.questions[1].generations
    given = noisy.answer(Plan((new, old)), asked)
    noisy.close()
    assert given.canary[asked[0].id].text == "noise"
    assert given.completions[asked[0].id] == known[asked[0].id]
    assert (given.cached, given.generated, told.done) == (6, 6, 6)
    key = cache_key(asked[0], before.asker.engine_digest)
    assert cache.get([key])[key].text == "2"


def test_a_canary_that_the_plan_asks_too_is_asked_once(checkpoint: Checkpoint, cache: Cache, tmp_path: Path) -> None:
    """An A/A run on an empty cache needs no second answer."""
    made = evaluator(checkpoint, cache, tmp_path)
    (plan,) = made.plan("suite/twice", twice())
    asked = plan.questions[0].generations
    given = made.answer(Plan((plan,)), asked)
    made.close()
    assert given.canary == {asked[0].id: given.completions[asked[0].id]}
    assert (
        given.generated == len(cache.get(cache_key(r, made.asker.engine_digest) for r in Plan((plan,)).requests)) == 6
    )


def test_a_canary_starts_no_engine(checkpoint: Checkpoint, cache: Cache, tmp_path: Path) -> None:
    """Where everything is known, nothing is asked again; the reported environment is the engine's identity."""
    first = evaluator(checkpoint, cache, tmp_path)
    (plan,) = first.plan("suite/twice", twice())
    first.answer(Plan((plan,)))
    assert first.asker.reported(checkpoint)["determinism"] == "batch-invariant"
    first.close()
    second = evaluator(checkpoint, cache, tmp_path)
    given = second.answer(Plan((plan,)), plan.questions[0].generations)
    assert not second.asker.started
    assert given.canary == {}
    assert second.asker.reported(checkpoint) == second.asker.engine_identity


def test_further_checkpoints_answer_canaries_and_are_not_evaluated(
    checkpoint: Checkpoint, cache: Cache, tmp_path: Path
) -> None:
    """They have no plan of their own; what they answer is checked like the candidate's weights."""
    shutil.copytree(V1, tmp_path / "v0")
    config = tmp_path / "v0" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "rope_theta": 7.0}))
    v0 = read_checkpoint(tmp_path / "v0")
    settings = EngineSettings(name="fake", options={"answers": ANSWERS}, log_dir=tmp_path / "logs")
    made = Evaluator([checkpoint], settings, cache, Told(), also=[v0, checkpoint])
    assert [one.name for one in made.known] == ["v1", "v0"]
    (plan,) = made.plan("suite/twice", twice())
    asked = Request(v0.digest, "twice 3:")
    assert made.answer(Plan((plan,)), [asked]).canary[asked.id].text == "6"
    assert cache.get_environment(made.asker.engine_digest, v0.digest) is None, "nothing of v0's was recorded"
    config.write_text((V1 / "config.json").read_text())
    (other,) = made.plan("suite/new", twice(prompt="new {{ a }}:"))
    with pytest.raises(CheckpointError, match="changed while"):
        made.answer(Plan((other,)), [asked])
    made.close()


def test_reasoning_is_stripped_before_scoring_and_kept_in_the_record(
    checkpoint: Checkpoint, cache: Cache, tmp_path: Path
) -> None:
    """The scorer sees the answer; the record keeps what was really written."""
    task = twice(reasoning=("<think>", "</think>"))
    (plan,) = evaluator(checkpoint, cache, tmp_path).plan("suite/twice", task)
    texts = {q.generations[0].id: f"<think>hm, 7?</think> {q.sample.target}" for q in plan.questions}
    result = assemble(plan, completions(texts), environment={}, provenance={}, policy={})
    assert result.mean("exact_match") == 1.0
    assert result.rows[0].outputs[0].startswith("<think>")


def test_a_choice_notes_what_was_chosen(checkpoint: Checkpoint, cache: Cache, tmp_path: Path) -> None:
    """Log-likelihood tasks have no output; the note says which label won."""
    rows = [{"id": "a", "target": "yes"}]
    made = evaluator(checkpoint, cache, tmp_path, answers={"p": "yes"})
    result = run(made, Task(samples=rows, prompt="p", scorers=[choice("yes", "no")]))
    made.close()
    assert result.rows[0].outputs == ()
    assert result.mean("choice") == 1.0
    assert "yes" in result.rows[0].notes["choice"]


def test_a_chat_goes_through_the_template_once(checkpoint: Checkpoint, cache: Cache, tmp_path: Path) -> None:
    """Chat prompts are rendered with the checkpoint's template and remembered."""
    task = twice(prompt=[{"role": "user", "content": "twice {{ a }}"}])
    made = evaluator(checkpoint, cache, tmp_path)
    (plan,) = made.plan("suite/twice", task)
    made.close()
    assert "twice 1" in plan.questions[1].prompt
    assert plan.questions[1].prompt != "twice 1"
    unable = evaluator(checkpoint, cache, tmp_path)
    unable.asker._renderer = None
    (again,) = unable.plan("suite/twice", task)
    assert unable.asker._renderer is None, "remembered prompts need no renderer"
    assert [q.prompt for q in again.questions] == [q.prompt for q in plan.questions]


def test_a_chat_without_a_template_is_refused(checkpoint: Checkpoint, cache: Cache, tmp_path: Path) -> None:
    """The message says what to add."""
    folder = Path(str(checkpoint.path))
    (folder / "chat_template.jinja").unlink()
    bare = read_checkpoint(folder)
    with pytest.raises(CheckpointError, match="no chat template"):
        evaluator(bare, cache, tmp_path).plan("suite/twice", twice(prompt=[{"role": "user", "content": "x"}]))
