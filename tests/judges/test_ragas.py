"""ragas itself in the judges' child, through the gateway: transport, schemas, states, all in one start of the child."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from evalgate.instrument import Case, Endpoint, Job, Judgement
from evalgate.judges.chat import HIDDEN
from evalgate.judges.gateway import Gateway
from evalgate.judges.process import judge_in_child
from evalgate.request import Completion
from evalgate.scoring import ragas_metric
from evalgate.scoring.ragas import MAX_TOKENS, METRICS
from tests.judges.answering import MODEL, Model, job, least, watched
from tests.unit.test_judge_payloads import PAYLOADS
from tests.unit.test_scoring_ragas import declared

QUESTION, ANSWER, REFERENCE = "Where is it?", 'It is "in the red house" now.', "In the red house."
PASSAGES = ["It is in the red house.", "The red house is by the lake."]
CASE = Case("s-1", QUESTION, ANSWER, REFERENCE, {"passages": PASSAGES})
# What metrics without a model say of the case, by hand: ROUGE-L finds 4 words of 7 and of 4.
KNOWN = {"ExactMatch": 0.0, "StringPresence": 0.0, "QuotedSpansAlignment": 1.0, "RougeScore": pytest.approx(8 / 11)}
CODE = ("BleuScore", "CHRFScore", "ExactMatch", "NonLLMStringSimilarity", "RougeScore", "StringPresence")
# What metrics that ask say where the model's reply is the least that the schema allows, the first choice every time.
LEAST = {
    "AnswerAccuracy": 0.0,
    "AnswerCorrectness": 0.5,
    "ContextEntityRecall": 1.0,
    "ContextPrecision": 0.0,
    "ContextPrecisionWithReference": 0.0,
    "ContextPrecisionWithoutReference": 0.0,
    "ContextRecall": 0.0,
    "ContextRelevance": 0.0,
    "ContextUtilization": 0.0,
    "DomainSpecificRubrics": 1.0,
    "FactualCorrectness": 0.0,
    "Faithfulness": 0.0,
    "NoiseSensitivity": 0.0,
    "ResponseGroundedness": 0.0,
    "RubricsScoreWithReference": 1.0,
    "RubricsScoreWithoutReference": 1.0,
    "SQLSemanticEquivalence": 0.0,
    "SummaryScore": (1 - len(ANSWER) / len("\n".join(PASSAGES))) / 2,  # no question answered, but it is shorter
}
# Questions for one answer with two passages, as docs/judges-libraries.md says them.
QUESTIONS = {
    "AnswerAccuracy": 2,
    "AnswerCorrectness": 3,
    "ContextEntityRecall": 2,
    "ContextPrecision": 2,
    "ContextPrecisionWithReference": 2,
    "ContextPrecisionWithoutReference": 2,
    "ContextRecall": 1,
    "ContextRelevance": 2,
    "ContextUtilization": 2,
    "DomainSpecificRubrics": 1,
    "FactualCorrectness": 4,
    "Faithfulness": 2,
    "NoiseSensitivity": 7,
    "ResponseGroundedness": 2,
    "RubricsScoreWithReference": 1,
    "RubricsScoreWithoutReference": 1,
    "SQLSemanticEquivalence": 1,
    "SummaryScore": 3,
}
LIMITS = {metric: 1000 + number for number, metric in enumerate(METRICS)}
"""Tokens of a reply, for each metric its own: by them a request says whose it is."""
FAULTS: dict[str, tuple[str | Completion, str]] = {
    "prose": ("I would say: good.", "expected one JSON object"),
    "empty": ("", "expected one JSON object"),
    "prose around": ('Sure! {"rating": 4}', "expected one JSON object"),
    "code fence": ('```json\n{"rating": 4}\n```', "expected one JSON object"),
    "two objects": ('{"rating": 4} {"rating": 0}', "expected one JSON object"),
    "a name twice": ('{"rating": 4, "rating": 0}', "a name stands in it twice"),
    "a list": ('[{"rating": 4}]', "is not of type 'object'"),
    "quoted": ('{"rating": "4"}', "'4' is not of type 'integer'"),
    "out of range": ('{"rating": 7}', "7 is not one of [0, 2, 4]"),
    "between": ('{"rating": 3}', "3 is not one of [0, 2, 4]"),
    "fraction": ('{"rating": 3.5}', "3.5 is not of type 'integer'"),
    "true": ('{"rating": true}', "True is not of type 'integer'"),
    "null": ('{"rating": null}', "None is not of type 'integer'"),
    "NaN": ('{"rating": NaN}', "NaN is no number"),
    "Infinity": ('{"rating": Infinity}', "Infinity is no number"),
    "1e999": ('{"rating": 1e999}', "inf is not of type 'integer'"),
    "nothing in it": ("{}", "'rating' is a required property"),
    "another name": ('{"grade": 4}', "'rating' is a required property"),
    "deep": ("[" * 100_000, "expected one JSON object"),
    "cut": (Completion("", '{"rating": 4}', "length"), "cut off after 2048 tokens: give a larger max_tokens"),
    "no answer": (Completion("", error="429 after 3 attempts in 7.1 s"), "429 after 3 attempts in 7.1 s"),
}


@dataclass(frozen=True)
class Judged:
    """What came of one run of the child."""

    jobs: Mapping[str, Job]
    judgements: Mapping[str, Judgement]
    model: Model
    endpoint: Endpoint
    folder: Path
    did: tuple[str, ...]

    def of(self, name: str) -> Judgement:
        return self.judgements[self.jobs[name].id]

    def usual(self) -> list[str]:
        """Prompts of faults and payloads, all of AnswerAccuracy with the usual limit of a reply."""
        prompts = zip(self.model.asked, self.model.prompts, strict=True)
        return [prompt for request, prompt in prompts if request.max_tokens == MAX_TOKENS and "query" in said(prompt)]


BLANK = " "
"""As what ragas is shown an empty answer."""


def said(prompt: str) -> Any:
    """The object that ragas wrote at the end of a prompt, which holds all that others wrote."""
    return json.loads(prompt.rpartition("\ninput: ")[2].rpartition("\nOutput: ")[0].replace(HIDDEN, ""))


def reply(prompt: str, schema: Mapping[str, Any]) -> str | Completion:
    """The least that the schema allows, or what the question asks for, of the first judge or the second."""
    shown = said(prompt)
    which, _, name = str(shown.get("query", "")).partition(" replies ")
    if which == "both" or (which == "the second" and shown["user_answer"] == REFERENCE):  # which is shown them swapped
        return FAULTS[name][0]
    if which == "the first" and shown["user_answer"] != REFERENCE:
        return FAULTS[name][0]
    return json.dumps({"statements": []} if shown.get("question") == "nothing" else least(schema))


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    """Every metric, fault and payload, judged by one child."""
    folder = tmp_path_factory.mktemp("judges")
    environ, did = watched(tmp_path_factory.mktemp("watch"))
    accuracy, similarity = ragas_metric("AnswerAccuracy"), "NonLLMStringSimilarity"
    jobs = {metric: job(declared(metric, max_tokens=LIMITS[metric]), CASE) for metric in METRICS}
    for name in FAULTS:
        for which in ("both", "the first", "the second"):
            jobs[f"{which} {name}"] = job(accuracy, Case(f"f-{name}", f"{which} replies {name}", ANSWER, REFERENCE))
    for name, text in PAYLOADS.items():
        jobs[f"payload {name}"] = job(accuracy, Case(f"p-{name}", QUESTION, text, REFERENCE))
    for metric in CODE:
        jobs[f"equal {metric}"] = job(declared(metric), Case("s-2", QUESTION, REFERENCE, REFERENCE))
        jobs[f"empty {metric}"] = job(declared(metric), Case("s-3", QUESTION, "", REFERENCE))
    jobs["levenshtein"] = job(ragas_metric(similarity), Case("s-4", QUESTION, "kitten", "sitting"))
    hamming = ragas_metric(similarity, distance_measure="hamming")
    jobs["hamming"] = job(hamming, Case("s-5", QUESTION, "abcd", "abxd"))
    jobs["wrong measure"] = job(ragas_metric(similarity, distance_measure="far"), CASE)
    jobs["wrong argument"] = job(ragas_metric("FactualCorrectness", beta="big"), CASE)
    faithful = ragas_metric("Faithfulness", contexts=("page", "passages"))
    jobs["no statements"] = job(faithful, Case("s-6", "nothing", ANSWER, None, {"page": "P.", "passages": PASSAGES}))
    jobs["several passages"] = job(faithful, Case("s-7", QUESTION, ANSWER, None, {"page": "P.", "passages": PASSAGES}))
    model = Model(reply)
    with Gateway({MODEL.name: MODEL}, model, lambda model, messages: None) as endpoint:
        found = list(
            judge_in_child(
                list(jobs.values()),
                endpoint,
                python=None,
                folder=folder,
                log=folder / "log",
                environ=os.environ | environ,
            )
        )
    return Judged(jobs, {one.job: one for one in found}, model, endpoint, folder, tuple(did.read_text().splitlines()))


@pytest.mark.parametrize("metric", sorted(LEAST))
def test_every_metric_that_asks_computes_its_value(judged: Judged, metric: str) -> None:
    """Question, answer, reference and passages go in under ragas' names, and the replies become ragas' value."""
    assert judged.of(metric).error is None
    assert judged.of(metric).value == pytest.approx(LEAST[metric], abs=1e-6)


@pytest.mark.parametrize("metric", sorted(KNOWN))
def test_metrics_without_a_model_have_known_values(judged: Judged, metric: str) -> None:
    """What needs no judge is ragas' arithmetic, to the digit."""
    assert judged.of(metric).error is None
    assert judged.of(metric).value == KNOWN[metric]


@pytest.mark.parametrize("metric", CODE)
def test_equal_texts_reach_the_end_of_the_range_and_empty_ones_the_other(judged: Judged, metric: str) -> None:
    """Rounding carries no value out of its range (BLEU of equal texts is above 1), and no answer is an answer."""
    assert judged.of(f"equal {metric}").value == 1.0
    assert judged.of(f"empty {metric}").value == 0.0


def test_arguments_reach_the_metric(judged: Judged) -> None:
    """An argument is JSON in the suite and what ragas wants in the child."""
    assert judged.of("levenshtein").value == pytest.approx(1 - 3 / 7)
    assert judged.of("hamming").value == 0.75
    assert "'far' is not a valid DistanceMeasure" in str(judged.of("wrong measure").error)
    assert "Beta must be a float" in str(judged.of("wrong argument").error)


def test_every_case_is_tested_here() -> None:
    """No metric is declared and not computed: the tables of this file are all that can be declared."""
    assert {*LEAST, *KNOWN, *CODE} == {*METRICS}
    assert {*LEAST} == {name for name, needs in METRICS.items() if needs.asks}


@pytest.mark.parametrize("which", ["both", "the first", "the second"])
@pytest.mark.parametrize("name", sorted(FAULTS))
def test_a_faulty_reply_is_an_error_and_no_score(judged: Judged, which: str, name: str) -> None:
    """One line with sample, fault, questions and seconds; also where ragas would go on with the other of two judges."""
    judgement = judged.of(f"{which} {name}")
    assert judgement.value is None
    error = str(judgement.error)
    assert error.startswith(f"sample f-{name}: ragas AnswerAccuracy: ")
    assert FAULTS[name][1] in error
    assert re.search(r" \(after \d+\.\d s, 2 questions to the model\)$", error)
    assert "\n" not in error


def test_no_statements_are_no_value(judged: Judged) -> None:
    """Where ragas says "not a number", there is an error that names the sample."""
    assert judged.of("no statements").value is None
    assert str(judged.of("no statements").error).startswith("sample s-6: ragas Faithfulness: ValueError: gave nan")
    assert judged.of("several passages").error is None


@pytest.mark.parametrize("name", sorted(PAYLOADS))
def test_payloads_arrive_to_the_letter_and_change_nothing_else(judged: Judged, name: str) -> None:
    """Template syntax, addresses, delimiters: the answer stands in ragas' JSON as it was, the rest is the same."""
    judgement, text = judged.of(f"payload {name}"), PAYLOADS[name].replace(HIDDEN, "") or BLANK
    if any("\ud800" <= letter <= "\udfff" for letter in text):  # half a character, which no JSON of ragas can hold
        assert "gave nan" in str(judgement.error)
        return
    assert judgement.error is None
    assert judgement.value == 0.0
    asked = [prompt for prompt in judged.usual() if text in said(prompt).values()]
    assert {tuple(sorted(said(prompt).values())) for prompt in asked} == {tuple(sorted((QUESTION, text, REFERENCE)))}
    assert len(asked) == 2
    usual = [prompt for prompt in judged.usual() if ANSWER in said(prompt).values()]
    assert {frame(prompt) for prompt in asked} == {frame(prompt) for prompt in usual}


def frame(prompt: str) -> str:
    """All of a prompt that ragas wrote."""
    return prompt.rpartition("\ninput: ")[0]


@pytest.mark.parametrize("metric", sorted(LIMITS))
def test_a_metric_asks_what_it_costs(judged: Judged, metric: str) -> None:
    """So many questions for an answer, and none where no model is asked; the limit of a reply reaches the model."""
    asked = [request for request in judged.model.asked if request.max_tokens == LIMITS[metric]]
    assert len(asked) == QUESTIONS.get(metric, 0)


def test_every_question_is_asked_for_a_narrow_schema_and_without_chance(judged: Judged) -> None:
    """Temperature 0, and a schema in which no number is left to the prompt alone."""
    assert {request.temperature for request in judged.model.asked} == {0.0}
    asked = [field for request in judged.model.asked for field in fields(request.json_schema or {})]
    assert {field["type"] for field in asked} == {"string", "array", "integer", "boolean"}
    assert all("enum" in field for field in asked if field["type"] == "integer")


def fields(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for part in (schema, *schema.get("$defs", {}).values()):
        yield from part["properties"].values()


def test_nothing_is_asked_twice(judged: Judged) -> None:
    """A reply that does not count is not asked for again: decoded without chance it would be the same."""
    queries = [said(prompt)["query"] for prompt in judged.usual()]
    assert {queries.count(f"both replies {name}") for name in FAULTS} == {2}  # one of each judge


def test_the_child_speaks_to_the_gateway_alone(judged: Judged) -> None:
    """No telemetry, no name is looked up, no process is started, and no file is written outside the folder."""
    port = int(judged.endpoint.url.rpartition(":")[2].partition("/")[0])
    connected = {line for line in judged.did if line.startswith("socket.")}
    assert connected == {f"socket.connect ('127.0.0.1', {port})"}
    started = {line for line in judged.did if line.startswith(("subprocess", "os.posix_spawn", "os.system"))}
    assert started <= {"subprocess.Popen 'uname'"}  # with which Python tells the client what machine this is
    written = [line.partition(" ")[2].strip("'") for line in judged.did if line.startswith(("write ", "os.mkdir "))]
    assert [
        path for path in written if "__pycache__" not in path and not path.startswith((str(judged.folder), "/dev/"))
    ] == []


def test_metrics_without_a_model_need_no_endpoint(tmp_path: Path) -> None:
    """Where no job asks a model there is no gateway, and the values are the same."""
    jobs = {metric: job(declared(metric), CASE) for metric in KNOWN}
    found = judge_in_child(list(jobs.values()), None, python=None, folder=tmp_path, log=tmp_path / "log")
    values = {judgement.job: judgement.value for judgement in found}
    assert {metric: values[one.id] for metric, one in jobs.items()} == KNOWN
