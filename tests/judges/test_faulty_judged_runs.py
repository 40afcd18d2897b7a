"""Sessions whose judge's endpoint breaks: errors of the judges' metrics alone, and whoever is stopped resumes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from evalgate.evaluation import Evaluation
from evalgate.ledger import Ledger
from evalgate.store import read_records
from tests.judges.faulty import FaultyServer, instance
from tests.judges.test_faulty_judges import TOOK, TRIED

V1 = Path(__file__).parents[2] / "fixtures/checkpoints/v1"
SUITE = """
from evalgate import (
    Gate, Sampling, Task, deepeval_metric, exact_match, judge, jsonl, prefer, promptfoo, ragas_metric,
)

where = Task(
    samples=jsonl("rows.jsonl"),
    prompt="{{ id }}:",
    sampling=Sampling(max_tokens=8),
    scorers=[
        exact_match(gate=Gate(margin=0.3)),
        judge("Is the answer right?", name="score", gate=Gate(margin=0.3)),
        judge("Is the answer right?", name="explain", explain=True),
        prefer(name="preference"),
        deepeval_metric(
            "GEval", name="deepeval", evaluation_steps=["Compare."], evaluation_params=["input", "actual_output"]
        ),
        ragas_metric("AnswerAccuracy", name="ragas"),
        promptfoo([{"type": "llm-rubric", "value": "is right"}], name="promptfoo"),
    ],
)
"""
KINDS = ("score", "explain", "preference", "deepeval", "ragas", "promptfoo")
ROWS = [{"id": f"s{i:02d}", "target": f"In town(s{i:02d})."} for i in range(40)]
NEW = {"s30": "429", "s31": "hang", "s32": "truncated", "s33": "prose", "s34": "wrong-model"}
"""Samples that the first checkpoint gets wrong and the second right: their faults, while there are any."""
CANARIES = ("s00:", "s01:", "s02:")
"""Questions of canaries, which are those of the first samples."""
OFF = " ".join(f"-p no:{name}" for name in ("deepeval", "langsmith_plugin", "hydra_pytest", "asyncio", "cacheprovider"))


def shown(body: Mapping[str, Any]) -> list[str]:
    """The texts that our own prompt fences: question, reference, and one answer or two; of a library's prompt none."""
    text = body["messages"][-1]["content"]
    return [json.loads(said) for _, said in re.findall(r'#([0-9a-f]{8})#("[^\n]*")#\1#', text)]


def best(body: Mapping[str, Any]) -> str:
    """The label of a judge that knows the truth."""
    _, reference, *answers = shown(body)
    right = [answer == reference for answer in answers]
    if len(right) == 1:
        return "5" if right[0] else "1"
    return "C" if right[0] == right[1] else "A" if right[0] else "B"


def reply(body: Mapping[str, Any]) -> str:
    """The same judge where it has to write: the truth in our own form, anything good in a library's."""
    if shown(body):
        return json.dumps({"reason": "It is so.", "grade": int(best(body))})
    schema = body["response_format"]["json_schema"]["schema"]
    return json.dumps(instance(schema, schema, body["messages"]))


def about(body: Mapping[str, Any]) -> str:
    """The sample that a question is about, where it is one of the new ones."""
    return next((name for name in NEW if f"town({name})" in json.dumps(body)), "")


def form(body: Mapping[str, Any]) -> str:
    """Which kind of judge asks."""
    if shown(body):
        return "native"
    fields = set(body["response_format"]["json_schema"]["schema"]["properties"])
    return "promptfoo" if "pass" in fields else "ragas" if "rating" in fields else "deepeval"


@dataclass(frozen=True)
class Session:
    """A run of pytest that has ended.

    Attributes:
        code: pytest's exit code.
        said: what it printed.
        outcomes: metric to outcome.
        record: the newest one.
        asked: bodies of the questions that the endpoint was asked.
    """

    code: int
    said: str
    outcomes: Mapping[str, str] = field(default_factory=dict)
    record: Evaluation | None = None
    asked: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Project:
    """A project on disk, and its judge's endpoint."""

    path: Path
    server: FaultyServer

    def write(self, **limits: float) -> None:
        """Suite, labels, checkpoints and settings."""
        (self.path / "evalsuites").mkdir()
        (self.path / "evalsuites/test_towns.py").write_text(SUITE)
        rows = "".join(json.dumps(row) + "\n" for row in ROWS)
        (self.path / "evalsuites/rows.jsonl").write_text(rows)
        labels = [
            {"id": f"l{i}", "question": f"l{i}:", "reference": "Yes.", "answer": answer, "label": label}
            for i, (answer, label) in enumerate([("Yes.", 5), ("No.", 1)] * 30)
        ]
        (self.path / "labels.jsonl").write_text("".join(json.dumps(label) + "\n" for label in labels))
        right = {row["id"]: row["target"] for row in ROWS}
        answers = {
            "v1": {**right, **{name: f"Beside town({name})." for name in NEW}},
            "v2": {**right, **dict.fromkeys(("s00", "s01", "s02"), "No.")},
        }
        tables = "\n".join(
            f"[tool.evalgate.engine.checkpoints.{name}]\n"
            + "\n".join(f'"{question}:" = "{answer}"' for question, answer in some.items())
            for name, some in answers.items()
        )
        said = "\n".join(f"{name} = {value}" for name, value in limits.items())
        (self.path / "pyproject.toml").write_text(
            f'[tool.evalgate.engine]\nname = "fake"\n{tables}\n'
            f'[tool.evalgate.judges.cloud]\nmodel = "judge"\nurl = "{self.server.url}"\n{said}\n'
        )
        for name in answers:
            shutil.copytree(V1, self.path / name)
            config = self.path / name / "config.json"
            config.write_text(json.dumps({**json.loads(config.read_text()), "of_test": name}))

    def hurry(self) -> None:
        """Wait for the endpoint no longer than seconds."""
        settings = self.path / "pyproject.toml"
        text = settings.read_text().replace("read_timeout = 60", "read_timeout = 1.5")
        settings.write_text(text.replace("total_timeout = 90", "total_timeout = 2.5"))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Pytest in a process group of its own, as a terminal starts it."""
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", "evalsuites", *arguments],
            cwd=self.path,
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str) -> Session:
        """Pytest to its end."""
        before = len(self.server.seen)
        process = self.start(*arguments)
        said = process.communicate(timeout=120)[0]
        entries = Ledger(self.path / ".evalgate/ledger.jsonl").entries()
        verdicts = entries[-1].body.get("verdicts", {}) if entries else {}
        outcomes = {name.rpartition("::")[2]: outcome for name, outcome in verdicts.items()}
        record = read_records(str(self.path / ".evalgate/records"))[-1]
        asked = tuple(seen.body for seen in self.server.seen[before:])
        return Session(process.returncode, said, outcomes, record, asked)

    def evalgate(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The command."""
        command = [sys.executable, "-m", "evalgate", *arguments]
        return subprocess.run(
            command, cwd=self.path, env=_environment(), capture_output=True, text=True, timeout=120, check=False
        )


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "CI"} | {"PYTEST_ADDOPTS": OFF}


@dataclass(frozen=True)
class Stopped:
    """A session that was stopped while its judge said nothing.

    Attributes:
        code: exit code.
        seconds: from the signal to the end of pytest.
        left: processes of the session that lived on for ten seconds.
        started: how many there were beside pytest.
    """

    code: int
    seconds: float
    left: frozenset[int]
    started: int


def stop(project: Project, kind: str, send: Callable[[subprocess.Popen[str]], None]) -> Stopped:
    """Start a session, let the endpoint fall silent to one kind of judge, and stop pytest when it does."""
    server = project.server
    before = len(server.seen)
    server.pick = lambda body: "hang" if about(body) and form(body) == kind else None
    process = project.start("--model", "v1", "--eval-record-only")
    assert process.stdout is not None
    with process.stdout:
        deadline = time.monotonic() + 60
        while not any(about(seen.body) and form(seen.body) == kind for seen in server.seen[before:]):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.5)  # until the other answers of this moment have come
        family = descendants(process.pid)
        began = time.monotonic()
        send(process)
        process.communicate(timeout=30)
    seconds = time.monotonic() - began
    while (left := frozenset(filter(lives, family))) and time.monotonic() - began < 10:
        time.sleep(0.1)
    server.pick = None
    return Stopped(process.returncode, seconds, left, len(family))


def interrupt(process: subprocess.Popen[str]) -> None:
    """Ctrl-C, as a terminal sends it: to pytest's process group."""
    os.killpg(process.pid, signal.SIGINT)


def descendants(pid: int) -> set[int]:
    """Processes that a process has started, and those that they have."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def lives(pid: int) -> bool:
    """Whether a process is there, and not only its exit code."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyServer]:
    """A judge that knows the truth."""
    with FaultyServer(best=best, reply=reply, retry_after="0.1") as server:
        yield server


@dataclass(frozen=True)
class Story:
    """Of one project: sessions that are stopped, one that resumes and is accepted, a broken endpoint, a mended one."""

    interrupted: Stopped
    interrupted_later: Stopped
    killed: Stopped
    left: int
    resumed: Session
    questions: Mapping[str, int]  # of these four, as JSON, and how often each was asked
    broken: Session
    refused: str
    mended: Session
    again: Session


@pytest.fixture(scope="module")
def project(server: FaultyServer, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with a calibrated judge whose gate blocks."""
    made = Project(tmp_path_factory.mktemp("judged-runs"), server)
    made.write(read_timeout=60, total_timeout=90)
    done = made.evalgate("judge", "calibrate", "labels.jsonl", "--metric", "towns/where::score")
    assert done.returncode == 0, done.stdout + done.stderr
    return made


@pytest.fixture(scope="module")
def story(project: Project) -> Story:
    """Seven sessions of one project, one after the other."""
    before = len(project.server.seen)
    interrupted, later = stop(project, "native", interrupt), stop(project, "ragas", interrupt)
    left = len(list((project.path / ".evalgate").glob("judges-*")))
    killed = stop(project, "promptfoo", subprocess.Popen.kill)
    resumed = project.run("--model", "v1", "--eval-record-only")
    assert resumed.code == 0, resumed.said
    questions = Counter(json.dumps(seen.body) for seen in project.server.seen[before:])
    accepted = project.evalgate("accept", "v1", "-m", "the first")
    assert accepted.returncode == 0, accepted.stderr
    project.hurry()
    project.server.pick = lambda body: NEW.get(about(body))
    broken = project.run("--model", "v2", "-v")
    refused = project.evalgate("accept", "v2", "-m", "hurry")
    assert refused.returncode != 0
    project.server.pick = None
    mended, again = project.run("--model", "v2"), project.run("--model", "v2")
    return Story(interrupted, later, killed, left, resumed, questions, broken, refused.stderr, mended, again)


def test_a_healthy_endpoint_gives_scores_in_every_kind(story: Story) -> None:
    """The negative control: the same harness, a full record."""
    assert story.resumed.record is not None
    kinds = set(KINDS) - {"preference"}  # which has no baseline yet
    assert all(kinds <= set(row.scores) and not set(row.faults) & kinds for row in story.resumed.record.rows)


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_endpoint_is_an_error_of_its_metrics(story: Story, kind: str) -> None:
    """ERROR for every kind, and why: one line a sample, with attempts and seconds; what was judged keeps its score."""
    assert story.broken.outcomes[kind] == "ERROR"
    assert story.broken.record is not None
    rows = {row.id: row for row in story.broken.record.rows}
    assert {sample for sample, row in rows.items() if kind in row.faults} == set(NEW)
    for sample in NEW:
        assert kind not in rows[sample].scores
        fault = rows[sample].faults[kind]
        assert sample in fault
        assert TRIED.search(fault), fault
        assert TOOK.search(fault), fault


def test_a_broken_endpoint_fails_the_run_and_nothing_else(story: Story) -> None:
    """Exit code 1; the metric that asks no judge has its verdict; the summary names sample, attempts and seconds."""
    assert story.broken.code == 1, story.broken.said
    assert story.broken.outcomes["exact_match"] == "PASS"
    summary = story.broken.said.rpartition("= evalgate =")[2]
    for kind in KINDS:
        said = re.search(rf"v2 towns/where::{kind} ERROR .*5 of 40 samples have no score[^:]*: (.*)", summary)
        assert said, summary
        why = said[1]
        assert why.startswith("sample s30: "), why
        assert TRIED.search(why), why
        assert TOOK.search(why), why
    assert "Traceback" not in story.broken.said


def test_an_incomplete_record_is_not_accepted(story: Story) -> None:
    """Nobody makes it a baseline in a hurry."""
    assert "rows have no answer or score" in story.refused


def test_a_mended_endpoint_is_asked_for_the_rest(story: Story) -> None:
    """The next session passes, and asks about nothing that was judged; canaries are shown anew."""
    assert story.mended.code == 0, story.mended.said
    assert set(story.mended.outcomes) == {"exact_match", *KINDS}
    assert "ERROR" not in story.mended.outcomes.values()
    rest = [body for body in story.mended.asked if not about(body)]
    assert {form(body) for body in rest} == {"native"}
    assert all(shown(body)[0] in CANARIES for body in rest)
    for library in ("deepeval", "ragas", "promptfoo"):
        assert {about(body) for body in story.mended.asked if form(body) == library} == set(NEW)


def test_an_unchanged_session_asks_nobody(story: Story) -> None:
    """Everything is known then, canaries too."""
    assert story.again.code == 0, story.again.said
    assert story.again.asked == ()
    assert story.again.record == story.mended.record


@pytest.mark.parametrize("which", ["interrupted", "interrupted_later"])
def test_an_interrupt_is_quick_and_leaves_nothing(story: Story, which: str) -> None:
    """Ctrl-C while an endpoint is silent to us or to a library: pytest's exit code 2, no process, no scratch file."""
    stopped: Stopped = getattr(story, which)
    assert (stopped.code, stopped.left) == (2, frozenset())
    assert stopped.seconds < 10
    assert stopped.started > 0
    assert story.left == 0


def test_a_killed_session_leaves_no_process(story: Story) -> None:
    """SIGKILL in the middle of promptfoo: engine, Node.js and all else end by themselves."""
    assert (story.killed.code, story.killed.left) == (-signal.SIGKILL, frozenset())
    assert story.killed.started > 1


def test_who_is_stopped_asks_for_the_rest_alone(story: Story) -> None:
    """What was judged before a stop is kept: of three stopped sessions, promptfoo's open questions were left."""
    asked = [body for body in story.resumed.asked if about(body)]
    assert {form(body) for body in asked} == {"promptfoo"}
    assert {about(body) for body in asked} == set(NEW)
    assert {form(body) for body in story.resumed.asked if not about(body)} <= {"native", "promptfoo"}


def test_no_answer_is_asked_for_twice(story: Story) -> None:
    """Whatever stopped a session: what the endpoint had said was kept, save for canaries, which are shown anew."""
    kept = {}
    for text, times in story.questions.items():
        body = json.loads(text)
        if not about(body) and not (form(body) == "native" and shown(body)[0] in CANARIES):
            kept[text] = times
    assert len(kept) > 35 * len(KINDS) - 35
    assert set(kept.values()) == {1}
