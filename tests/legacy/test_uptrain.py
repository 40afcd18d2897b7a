"""UpTrain itself, in an interpreter of its own (`make test-uptrain`), through the judges' child and the gateway."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from evalgate.errors import JudgeError
from evalgate.instrument import Case, Job, Judgement
from evalgate.judges.chat import HIDDEN
from evalgate.judges.gateway import Gateway
from evalgate.judges.process import judge_in_child
from evalgate.request import Completion
from evalgate.scoring import uptrain_metric
from evalgate.scoring.uptrain import CHECKS, MAX_TOKENS
from tests.judges.answering import MODEL, Model, job, watched
from tests.unit.test_judge_payloads import PAYLOADS
from tests.unit.test_scoring_uptrain import declared

PYTHON = os.environ.get("UPTRAIN_PYTHON") or str(Path(__file__).parents[2] / ".venv-uptrain/bin/python")
QUESTION, ANSWER, PAGE = "Where is it?", "It is in the red house.", "It is in the red house by the lake."
CASE = Case("s-1", QUESTION, ANSWER, None, {"page": PAGE})
GOOD = json.dumps({"Reasoning": "It says so.", "Choice": "B"})
# Of the replies below: grade B, a score of .25, and one fact of two that is true.
VALUES = {
    "critique_tone": 0.5,
    "factual_accuracy": 0.5,
    "guideline_adherence": 0.0,
    "response_completeness": 0.5,
    "response_completeness_wrt_context": 0.5,
    "response_conciseness": 0.5,
    "response_consistency": 0.25,
    "valid_response": 0.0,
}
FAULTS: dict[str, tuple[str | Completion, str]] = {
    "prose": ("I choose B.", "expected one JSON object"),
    "prose around": (f"Sure! {GOOD}", "expected one JSON object"),
    "code fence": (f"```json\n{GOOD}\n```", "expected one JSON object"),
    "two objects": (GOOD + GOOD, "expected one JSON object"),
    "JSON5": ("{Choice: 'B', Reasoning: ''}", "expected one JSON object"),
    "no such choice": ('{"Reasoning": "", "Choice": "F"}', "is not what UpTrain asks for"),
    "a choice that is no text": ('{"Reasoning": "", "Choice": {"B": 1}}', "is not what UpTrain asks for"),
    "no choice": ('{"Reasoning": ""}', "is not what UpTrain asks for"),
    "no reasoning": ('{"Choice": "B"}', "is not what UpTrain asks for"),
    "nothing in it": ("{}", "is not what UpTrain asks for"),
    "cut": (Completion("", GOOD, "length"), f"cut off after {MAX_TOKENS} tokens: give a larger max_tokens"),
    "no answer": (Completion("", error="429 after 3 attempts in 7.1 s"), "429 after 3 attempts in 7.1 s"),
}
SCORES = {"above": 1.5, "below": -1, "a text": "0.5", "none": None, "true": True}
"""Scores of response_consistency, the one check whose judge names a number, that are none."""


@dataclass(frozen=True)
class Judged:
    """What came of one run of the child."""

    jobs: Mapping[str, Job]
    judgements: Mapping[str, Judgement]
    model: Model
    url: str
    folder: Path
    did: tuple[str, ...]

    def of(self, name: str) -> Judgement:
        return self.judgements[self.jobs[name].id]


def reply(prompt: str, schema: Mapping[str, Any]) -> str | Completion:
    """What the question asks for, else a good reply to the check whose prompt it is."""
    if fault := re.search(r"fault: ([\w ]+);", prompt):
        return FAULTS[fault[1]][0]
    if score := re.search(r"score: ([\w ]+);", prompt):
        return json.dumps({"Score": SCORES[score[1]], "Argument": "", "Reasoning": ""})
    if "no facts;" in prompt:
        return json.dumps({"Facts": [], "Result": []})
    facts = [{"Fact": "a", "Judgement": "yes", "Reasoning": ""}, {"Fact": "b", "Judgement": "no", "Reasoning": ""}]
    consistent = {"Score": 0.25, "Argument": "Hardly."}
    return json.dumps(json.loads(GOOD) | consistent | {"Facts": ["a", "b"], "Result": facts})


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    """Every check, fault and payload, judged by one child."""
    assert Path(PYTHON).exists(), "make test-uptrain sets up the interpreter that UpTrain lives in"
    folder, watch = tmp_path_factory.mktemp("judges"), tmp_path_factory.mktemp("watch")
    environ, did = watched(watch)
    python = watch / "python"  # an interpreter of its own gets no PYTHONPATH of ours, so this one brings its watch
    python.write_text(f'#!/bin/sh\nPYTHONPATH={environ["PYTHONPATH"]} exec {PYTHON} "$@"\n')
    python.chmod(0o755)
    valid, consistent = uptrain_metric("response_conciseness"), declared("response_consistency")
    jobs = {check: job(declared(check), CASE) for check in CHECKS}
    jobs["basic"] = job(uptrain_metric("response_completeness", eval_type="basic"), CASE)
    jobs["scenario"] = job(uptrain_metric("valid_response", scenario_description="A {{shop}} of bread."), CASE)
    jobs["plain scenario"] = job(uptrain_metric("valid_response", scenario_description="A shop of bread."), CASE)
    nothing = Case("s-2", "no facts;", ANSWER, None, {"page": "no facts;"})
    jobs["no facts"] = job(declared("factual_accuracy"), nothing)
    for name in FAULTS:
        jobs[f"fault {name}"] = job(valid, Case(f"f-{name}", f"fault: {name};", ANSWER))
    for name in SCORES:
        jobs[f"score {name}"] = job(consistent, Case(f"f-{name}", f"score: {name};", ANSWER, None, {"page": PAGE}))
    for name, text in PAYLOADS.items():
        jobs[f"payload {name}"] = job(valid, Case(f"p-{name}", QUESTION, text))
    model = Model(reply)
    with Gateway({MODEL.name: MODEL}, model, lambda model, messages: None) as endpoint:
        found = list(
            judge_in_child(
                list(jobs.values()), endpoint, python=str(python), folder=folder, log=folder / "log", seconds=60
            )
        )
    return Judged(
        jobs, {one.job: one for one in found}, model, endpoint.url, folder, tuple(did.read_text().splitlines())
    )


@pytest.mark.parametrize("check", sorted(CHECKS))
def test_every_check_gives_its_score(judged: Judged, check: str) -> None:
    """Question, answer and context go in under UpTrain's names, and the reply's grade comes out as UpTrain's number."""
    assert judged.of(check).error is None
    assert judged.of(check).value == VALUES[check]
    assert judged.of(check).explanation


def test_arguments_reach_the_check(judged: Judged) -> None:
    """There is a way without reasons; a scenario stands in the prompt, and UpTrain fills in the fields it names."""
    assert judged.of("basic").value == 0.5
    assert judged.of("plain scenario").value == 0.0
    assert any("A shop of bread." in prompt for prompt in judged.model.prompts)
    assert "Missing required attribute(s) for scenario description: 'shop'" in str(judged.of("scenario").error)


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_a_faulty_reply_is_an_error_and_no_score(judged: Judged, name: str) -> None:
    """One line with sample, fault, questions and seconds; the question is asked once."""
    judgement = judged.of(f"fault {name}")
    assert judgement.value is None
    error = str(judgement.error)
    assert error.startswith(f"sample f-{name}: uptrain response_conciseness: ")
    assert FAULTS[name][1] in error
    assert re.search(r" \(after \d+\.\d s, 1 question to the model\)$", error)
    assert sum(f"fault: {name};" in prompt for prompt in judged.model.prompts) == 1


@pytest.mark.parametrize("name", sorted(SCORES))
def test_a_score_out_of_its_range_or_of_another_type_is_an_error(judged: Judged, name: str) -> None:
    """UpTrain reads "0.5" and true as numbers; here they are none."""
    assert judged.of(f"score {name}").value is None
    assert str(judged.of(f"score {name}").error).startswith(f"sample f-{name}: uptrain response_consistency: ")


def test_no_facts_are_no_score(judged: Judged) -> None:
    """A mean over nothing is no number, and never 0."""
    assert judged.of("no facts").value is None
    assert "expected a number" in str(judged.of("no facts").error) or "gave no score" in str(
        judged.of("no facts").error
    )


@pytest.mark.parametrize("name", sorted(PAYLOADS))
def test_payloads_arrive_to_the_letter_and_change_nothing_else(judged: Judged, name: str) -> None:
    """The answer stands in UpTrain's prompt as it was, and the rest of the prompt is the same."""
    judgement, text = judged.of(f"payload {name}"), PAYLOADS[name].replace(HIDDEN, "")
    if any("\ud800" <= letter <= "\udfff" for letter in text):  # half a character, which UpTrain's tables cannot hold
        assert judgement.value is None
        return
    assert judgement.error is None
    assert judgement.value == 0.5
    before, _, after = frame(judged).partition("\0")
    assert any(prompt.replace(HIDDEN, "") == f"{before}{text}{after}" for prompt in judged.model.prompts)


def frame(judged: Judged) -> str:
    """The prompt of the check with a mark where the answer stands."""
    prompts = [prompt for prompt in judged.model.prompts if PAYLOADS["injection"] in prompt]
    assert len(prompts) == 1
    return prompts[0].replace(PAYLOADS["injection"], "\0")


def test_every_question_is_asked_for_an_object_and_without_chance(judged: Judged) -> None:
    """Temperature 0 and a limit, in place of UpTrain's .1 and none."""
    assert {request.temperature for request in judged.model.asked} == {0.0}
    assert {request.max_tokens for request in judged.model.asked} == {MAX_TOKENS}
    assert all(request.json_schema == {"type": "object"} for request in judged.model.asked)


def test_every_check_is_tested_here() -> None:
    """No check is declared and not computed."""
    assert {*VALUES} == {*CHECKS}


def test_the_child_speaks_to_the_gateway_alone(judged: Judged) -> None:
    """Nothing goes to UpTrain's servers or ports, no name is looked up, and no file is written outside the folder."""
    port = int(judged.url.rpartition(":")[2].partition("/")[0])
    assert {line for line in judged.did if line.startswith("socket.")} == {f"socket.connect ('127.0.0.1', {port})"}
    started = {line for line in judged.did if line.startswith(("subprocess", "os.posix_spawn", "os.system"))}
    assert started <= {"subprocess.Popen 'uname'"}  # with which Python tells the client what machine this is
    written = [line.partition(" ")[2].strip("'") for line in judged.did if line.startswith(("write ", "os.mkdir "))]
    ours = (str(judged.folder), "/dev/")
    assert [path for path in written if "__pycache__" not in path and not path.startswith(ours)] == []


def test_an_interpreter_without_uptrain_says_so(tmp_path: Path) -> None:
    """The usual environment has no UpTrain: that is one line, and no judgement."""
    jobs = [job(declared("valid_response"), CASE)]
    with pytest.raises(JudgeError, match="uptrain is not installed"):
        list(judge_in_child(jobs, None, python=None, folder=tmp_path, log=tmp_path / "log"))
