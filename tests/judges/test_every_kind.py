"""The example with every kind of judge, as a person runs it: real engines, real libraries, the real promptfoo.

Every command runs sealed: without a network, and where only the project and its own empty folders can be written to.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

import pytest

from evalgate.calibration import read_reports
from evalgate.digest import short
from evalgate.evaluation import Evaluation
from evalgate.judges.node import PROMPTFOO, promptfoo_folder
from evalgate.store import read_records
from tests.judges.sealed import Sealed, sealed

ROOT = Path(__file__).parents[2]
EXAMPLE, LABELS = ROOT / "examples/judges", ROOT / "fixtures/judge/labels.jsonl"
METRIC = "support/answers::judge"
KINDS = {
    "judge": "native",
    "includes": None,
    "g_eval": "deepeval",
    "answer_accuracy": "ragas",
    "similarity": "ragas",
    "contains": "promptfoo",
    "rubric": "promptfoo",
}
"""Of every metric, who judges; `None` is code."""
PREFER = 'prefer("Which answer says what the reference says?")'
ASK_NOBODY = {"similarity", "contains"}
ROWS = 40
FOLDERS = ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR")
LEFT = re.compile(
    # vLLM: what it learned of an architecture, and the meeting point of its one process
    r"XDG_CACHE_HOME/vllm(/.*)?|TMPDIR/vllm_dist_\w+"
    # torch: where compiled code would lie
    r"|TMPDIR/torchinductor_\w+"
)
"""What engines leave beside the project."""
WRITTEN = re.compile(r"\.evalgate(/.*)?|reports(/.*)?|evalsuites/(baselines|calibrations)(/.*)?")
"""What a project's runs write into it."""


@dataclass
class Shop:
    """A copy of the example with models, and what came of the commands that were run in it.

    Attributes:
        path: of the copy.
        beside: empty folders for everything that programs write elsewhere.
        done: name of a step to what came of it.
        seconds: name of a step to how long it took.
    """

    path: Path
    beside: Path
    done: dict[str, Sealed] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def environ(self) -> Mapping[str, str]:
        """Variables of every command: folders that were empty, and where promptfoo is."""
        folders = {name: str(self.beside / name) for name in FOLDERS}
        given = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"}
        return {**given, **folders, "EVALGATE_TOOLS": str(promptfoo_folder().parent)}

    def step(self, name: str, *command: str) -> Sealed:
        """Run a command, sealed, and keep what came of it."""
        began = time.monotonic()
        words = [sys.executable, "-m", *command]
        self.done[name] = sealed(words, self.path, [self.path, self.beside], self.environ)
        self.seconds[name] = time.monotonic() - began
        return self.done[name]

    def gate(self, name: str, *options: str) -> Sealed:
        """Run pytest."""
        quiet = ("-p", "no:cacheprovider", "-p", "no:hydra_pytest", "-p", "no:asyncio")
        return self.step(name, "pytest", "evalsuites", *quiet, "-v", *options)

    @property
    def records(self) -> list[Evaluation]:
        """Of v2, the one recorded longest ago first."""
        folders = list((self.path / ".evalgate/records").glob("v2-*"))
        assert folders, {name: done.out for name, done in self.done.items()}
        return list(read_records(str(folders[0])))

    def files(self) -> set[str]:
        """Every file of the project."""
        return {path.relative_to(self.path).as_posix() for path in self.path.rglob("*") if path.is_file()}


@dataclass(frozen=True)
class Told:
    """What was run, and what was looked at in between.

    Attributes:
        shop: with the commands' outcomes.
        before: files before anything ran.
        first: record of v2's first run.
        again: newest record after the unchanged run.
        reworded: after the rubric was changed.
    """

    shop: Shop
    before: set[str]
    first: Evaluation
    again: Evaluation
    reworded: Evaluation


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    """The whole story, once: measure, accept, gate, run again, change the rubric, try a bad judge, gate records."""
    with TemporaryDirectory(prefix="every-kind-") as folder:
        shop = Shop(Path(folder) / "shop", Path(folder) / "beside")
        shutil.copytree(EXAMPLE, shop.path, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        for name in ("v1", "v2", "judge"):
            shutil.copytree(ROOT / "fixtures/checkpoints" / name, shop.path / "runs" / name)
        for name in FOLDERS:
            (shop.beside / name).mkdir(parents=True)
        before = shop.files()
        measure = ("evalgate", "judge", "calibrate", str(LABELS), "--metric", METRIC)
        shop.step("measure", *measure)
        shop.gate("record", "--model", "runs/v1", "--eval-record-only")
        shop.step("accept", "evalgate", "accept", "runs/v1", "-m", "the first")
        shop.gate("gate", "--model", "runs/v2")
        first = shop.records[-1]
        shop.gate("again", "--model", "runs/v2")
        again = shop.records[-1]
        suite = shop.path / "evalsuites/test_support.py"
        declared = suite.read_text("utf-8")
        changed = declared.replace("Does the answer say", "Does the answer tell")
        suite.write_text(changed, "utf-8")
        shop.gate("unmeasured", "--model", "runs/v2")
        changed = changed.replace("            gate=Gate(margin=0.1),\n", "").replace(
            "    judge,\n", "    judge,\n    prefer,\n"
        )
        suite.write_text(changed.replace("        includes(),\n", f"        includes(),\n        {PREFER},\n"), "utf-8")
        shop.gate("reworded", "--model", "runs/v2")
        reworded = shop.records[-1]
        suite.write_text(declared, "utf-8")
        shop.step("measure v1", *measure, "--judge", "runs/v1")
        shop.gate("bad", "--model", "runs/v2", "--eval-judge", "runs/v1")
        shutil.rmtree(shop.path / "runs")
        (kept,) = (shop.path / ".evalgate/records").rglob(f"*-{short(first.digest)}.jsonl")
        shop.gate("records", "--eval-records", str(kept))
        yield Told(shop, before, first, again, reworded)


def starts(outcome: Sealed) -> list[str]:
    """Children that a command started: engines, libraries, promptfoo."""
    return re.findall(r"^evalgate: (starting .*|promptfoo \S+ judges .*)$", outcome.out, re.MULTILINE)


def test_our_judge_agrees_with_people(told: Told, capsys: pytest.CaptureFixture[str]) -> None:
    """The command measures kappa far above the floor, and what is committed is of this very judge."""
    done = told.shop.done["measure"]
    assert done.code == 0, done.out
    found = re.search(r"kappa (\S+) \[.*\] on 400 labels: may block", done.out)
    assert found, done.out
    with capsys.disabled():
        sys.stdout.write(f"\n{found[0]}\n")
    assert float(found[1]) >= 0.8
    reports = read_reports(EXAMPLE / "evalsuites/calibrations")
    (report,) = reports.values()
    assert told.first.metric("judge").judge == report.judge, "measure the example's judge again, see its README"
    assert report.kappa.value == pytest.approx(float(found[1]), abs=0.005)


def test_a_bad_judge_is_refused(told: Told) -> None:
    """v1, which never learned to judge, agrees by chance: the command says so, and its gate ends before any engine."""
    measured, gated = told.shop.done["measure v1"], told.shop.done["bad"]
    assert measured.code == 1, measured.out
    assert "may not block (floor .600)" in measured.out
    assert gated.code == pytest.ExitCode.USAGE_ERROR
    told_why = "a judge that blocks must be calibrated, and kappa"
    said = rf"{METRIC}: {told_why} -?0\.\d\d on 400 labels is below the floor of 0\.60"
    assert re.search(said, gated.out), gated.out
    assert starts(gated) == []


def test_a_candidate_is_gated_by_every_kind(told: Told) -> None:
    """Baseline and candidate are evaluated with one engine each for candidate and judge, and our own judge blocks."""
    for name, model in (("record", "v1"), ("gate", "v1, v2")):
        done = told.shop.done[name]
        assert done.code == 0, done.out
        libraries, promptfoo = starts(done)[2:]
        assert starts(done)[:2] == [f"starting vllm on cpu for {model}", "starting vllm on cpu for judge"]
        assert libraries.startswith("starting deepeval, ragas: ")
        assert promptfoo.startswith(f"promptfoo {PROMPTFOO} judges ")
    out = told.shop.done["gate"].out
    words = dict(re.findall(r"::answers::(\w+) ([A-Z]+)", out))
    assert words.keys() == KINDS.keys()
    assert words["judge"] == "PASSED"
    assert re.search(r"judge calibrated: kappa 0\.\d\d on 400 labels", out)
    assert "support/answers::judge" in out.partition("blocking metric")[2].partition("\n\n")[0]


def test_every_judge_gives_scores(told: Told) -> None:
    """The libraries' long prompts are answered in form, with JSON as asked: every metric has all its scores."""
    for row in told.first.rows:
        assert row.error is None
        assert row.faults == {}
        assert row.scores.keys() == KINDS.keys()
    assert len(told.first.rows) == ROWS
    for metric in told.first.metrics:
        values = [row.scores[metric.name] for row in told.first.rows]
        assert metric.low is not None
        assert metric.high is not None
        assert metric.low <= min(values) <= max(values) <= metric.high
    by_code = [row.scores["includes"] for row in told.first.rows]
    assert [row.scores["contains"] for row in told.first.rows] == by_code, "promptfoo saw the answers as we do"
    right, wrong = ([row.scores["judge"] for row in told.first.rows if row.scores["includes"] == is_] for is_ in (1, 0))
    assert fmean(right) > fmean(wrong) + 1, "our judge knows right from wrong on this task too"


def test_every_judge_has_an_identity(told: Told) -> None:
    """Each metric names its own instrument, and the record says which models and versions were behind it."""
    judges = {metric.name: metric.judge for metric in told.first.metrics}
    assert judges.pop("includes") is None
    assert None not in judges.values()
    assert len(set(judges.values())) == len(judges)
    versions = {
        "native": {},
        "deepeval": {"deepeval": version("deepeval")},
        "ragas": {"ragas": version("ragas")},
        "promptfoo": {"promptfoo": PROMPTFOO},
    }
    models = set()
    for name in judges:
        said = told.first.judge(name)
        assert said["kind"] == KINDS[name]
        assert versions[said["kind"]].items() <= said["versions"].items()
        assert [model["name"] for model in said["models"]] == ([] if name in ASK_NOBODY else ["tiny"])
        models |= {(model["model"], model["digest"]) for model in said["models"]}
    ((model, _),) = models
    assert model == "judge"
    said = told.first.judge("judge")
    assert said["kappa"] >= 0.8
    assert said["interval"][0] < said["kappa"] < said["interval"][1]
    assert told.first.judge("g_eval")["kappa"] is None


def test_an_unchanged_run_judges_nothing(told: Told) -> None:
    """All answers and judgements come from the cache: nothing is started, and the record is the same."""
    done = told.shop.done["again"]
    assert done.code == 0, done.out
    assert starts(done) == []
    assert "0 answers generated" in done.out
    assert told.again.digest == told.first.digest
    assert told.shop.seconds["again"] < 20


def test_another_rubric_judges_the_baseline_again(told: Told) -> None:
    """Its gate needs a calibration of its own; informing, it judges both sides' stored answers, and the run says so."""
    unmeasured, done = told.shop.done["unmeasured"], told.shop.done["reworded"]
    assert unmeasured.code == pytest.ExitCode.USAGE_ERROR
    assert (
        "nobody has measured how far this judge, with this rubric and these models, agrees with people"
        in unmeasured.out
    )
    assert starts(done) == ["starting vllm on cpu for judge"]
    assert "scorer judge changed: v1's stored outputs were scored again" in done.out
    changed = {metric.name for metric in told.reworded.metrics} - {"prefer"}
    assert changed == KINDS.keys()
    new = {name for name in changed if told.reworded.metric(name).judge != told.first.metric(name).judge}
    assert new == {"judge"}


def test_a_judge_that_fails_its_canaries_is_an_error(told: Told) -> None:
    """The tiny judge is no good at preferences: its canaries show it, and the other metrics have their verdicts."""
    done = told.shop.done["reworded"]
    assert done.code == pytest.ExitCode.TESTS_FAILED
    words = dict(re.findall(r"::answers::(\w+) ([A-Z]+)", done.out))
    assert {name for name, word in words.items() if word == "ERROR"} == {"prefer"}
    assert re.search(r"it misjudged \d+ of \d+ canaries", done.out)
    assert words.keys() == {*KINDS, "prefer"}


def test_records_are_gated_without_the_judge(told: Told) -> None:
    """Where no weights are, records say who judged, and our own judge blocks as it did."""
    done = told.shop.done["records"]
    assert done.code == 0, done.out
    assert starts(done) == []
    assert re.search(r"::answers::judge PASSED", done.out)
    assert re.search(r"judge calibrated: kappa 0\.\d\d on 400 labels", done.out)


def test_nothing_is_reached_and_nothing_is_left(told: Told) -> None:
    """No command tried to leave the machine; beside the project lie only what engines are known to leave there."""
    assert {name: done.lost for name, done in told.shop.done.items()} == dict.fromkeys(told.shop.done, 0)
    assert {name for name, done in told.shop.done.items() if done.shared} == set()
    beside = {path.relative_to(told.shop.beside).as_posix() for path in told.shop.beside.rglob("*")} - {*FOLDERS}
    assert sorted(path for path in beside if not LEFT.fullmatch(path)) == []
    made = told.shop.files() - told.before
    assert sorted(path for path in made if not WRITTEN.fullmatch(path)) == []
    assert made


TRESPASS = """
import socket
from pathlib import Path

def tell(what, *words):
    try:
        what(*words)
        print("done")
    except OSError as error:
        print(type(error).__name__)

with socket.create_server(("127.0.0.1", 0)) as server:
    tell(socket.create_connection, server.getsockname())
if {reach}:
    tell(socket.create_connection, ("192.0.2.1", 443))
    tell(socket.create_connection, ("2001:db8::1", 443))
    tell(socket.getaddrinfo, "evalgate.invalid", 443)
tell(Path("mine").write_text, "")
tell(Path("{outside}").write_text, "")
Path("/dev/shm/shared").write_text("")
"""


@pytest.mark.parametrize("reach", [False, True])
def test_the_seal_is_tight(tmp_path: Path, reach: bool) -> None:
    """Negative control: attempts to reach others are counted, and nothing can be written beside what is named."""
    inside = tmp_path / "inside"
    inside.mkdir()
    script = TRESPASS.format(reach=reach, outside=tmp_path / "stray")
    done = sealed([sys.executable, "-c", script], inside, [inside], {"PATH": os.environ["PATH"]})
    refused = ["OSError", "OSError", "gaierror"] if reach else []
    assert done.out.split() == ["done", *refused, "done", "OSError"]
    assert (done.code, done.shared) == (0, ["shared"])
    assert done.lost >= 2 if reach else done.lost == 0
    assert [path.name for path in tmp_path.rglob("*")] == ["inside", "mine"]
    assert not Path("/dev/shm/shared").exists()
