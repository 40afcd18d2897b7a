"""`evalgate judge`: a judge of the settings is measured on labelled answers through the engine, and shown."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from evalgate.calibrate import write_calibration
from evalgate.calibration import read_calibrations, read_reports
from evalgate.instrument import Case
from evalgate.judges.prompt import messages
from evalgate.preflight import load_added_tokens, read_checkpoint
from evalgate.scoring import judge
from tests.plugin.conftest import SUITE, Project
from tests.unit.test_calibration import report

JUDGED = SUITE.replace("numeric(tolerance=1)", 'judge("Is the sum right?")').replace("numeric", "judge")
METRIC = "arithmetic/addition::judge"
N = 40
Row = dict[str, Any]


def rows() -> list[Row]:
    """Sums and answers: two of three are wrong, which people call 1 and 2."""
    return [
        {
            "id": f"s{i:03}",
            "question": f"{i}+5=",
            "answer": str(i + 5 + i % 3),
            "reference": str(i + 5),
            "label": (5, 2, 1)[i % 3],
        }
        for i in range(N)
    ]


def setting(project: Project, grade: Callable[[Row], int], *, fail: Sequence[str] = ()) -> str:
    """A judge `tiny` that grades the labelled answers like that, and what the labels' file is called.

    The fake engine knows the grade of each prompt as our own judge renders it, and fails those with a text of `fail`.
    """
    folder = project.path / "runs/judge"
    if not folder.exists():
        project.checkpoint("judge")
        (folder / "chat_template.jinja").write_text("{% for message in messages %}{{ message.content }}{% endfor %}")
    labelled = rows()
    instrument = judge("Is the sum right?").judge
    assert instrument is not None
    special = load_added_tokens(read_checkpoint(folder))

    def prompt(row: Row) -> str:
        case = Case(row["id"], row["question"], row["answer"], row["reference"])
        return messages(instrument, case, special=special)[0]["content"]

    answers = {prompt(row): str(grade(row)) for row in labelled}
    table = "\n".join(f"{json.dumps(text)} = {json.dumps(label)}" for text, label in answers.items())
    project.configure()
    with (project.path / "pyproject.toml").open("a") as file:
        file.write('\n[tool.evalgate.judges.tiny]\nmodel = "runs/judge"\nengine = "fake"\n')
        file.write(f"fail = {json.dumps(list(fail))}\n")
        file.write(f"[tool.evalgate.judges.tiny.answers]\n{table}\n")
    project.suite("test_arithmetic", JUDGED)
    (project.path / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in labelled))
    return "labels.jsonl"


def test_a_judge_that_agrees_may_block(project: Project) -> None:
    """Exit code 0, a table, the sentence, and a file that says of which judge; `show` shows it."""
    labels = setting(project, lambda row: 5 if row["label"] > 3 else 1)
    done = project.evalgate("judge", "calibrate", labels, "--metric", METRIC, "--judge", "tiny")
    assert done.returncode == 0, done.stderr
    assert re.search(r"kappa 1\.000 \[1\.000, 1\.000\] on 40 labels: may block \(floor \.600\)", done.stdout)
    for name in ("kappa", "weighted kappa", "alpha", "true positives", "true negatives", "flips"):
        assert re.search(rf"^{name} +-?\d?\.\d\d\d", done.stdout, re.MULTILINE), name
    ((path, kept),) = read_reports(project.path / "evalsuites/calibrations").items()
    assert f"evalsuites/calibrations/{path.name}" in done.stdout
    assert (kept.metric, kept.models, kept.n) == (METRIC, ("tiny",), N)
    assert kept.flips.value == 0
    assert kept.instrument["settings"]["rubric"] == "Is the sum right?"
    assert kept.by
    shown = project.evalgate("judge", "show")
    assert shown.returncode == 0
    for part in (METRIC, "tiny", kept.judge.removeprefix("sha256:")[:12], "may block"):
        assert part in " ".join(shown.stdout.split())


def test_a_judge_that_agrees_too_little_is_kept_and_said(project: Project) -> None:
    """Exit code 1, and the file is there: it is information, and holds the metric back from blocking."""
    labels = setting(project, lambda row: 5 if row["label"] > 1 else 1)
    done = project.evalgate("judge", "calibrate", labels, "--metric", METRIC)
    assert done.returncode == 1, done.stderr
    assert "may not block (floor .600)" in done.stdout
    (found,) = read_calibrations(project.path / "evalsuites/calibrations").values()
    assert found.kappa < 0.6
    assert "may not block" in " ".join(project.evalgate("judge", "show").stdout.split())


def test_the_floor_is_a_setting(project: Project) -> None:
    """One that is above a judge's kappa, of an error in forty labels, holds it back."""
    labels = setting(project, lambda row: 5 if row["label"] > 3 or row["id"] == "s001" else 1)
    with (project.path / "pyproject.toml").open("a") as file:
        file.write("[tool.evalgate.judges]\nkappa = 0.99\n")
    done = project.evalgate("judge", "calibrate", labels, "--metric", METRIC)
    assert done.returncode == 1, done.stderr
    assert re.search(r"kappa \.94\d .*: may not block \(floor \.990\)", done.stdout)


def test_a_judge_that_cannot_be_measured_leaves_no_file(project: Project) -> None:
    """Exit code 2 and one line: its engine fails one answer, there are no labels, no such metric or no such judge."""
    labels = setting(project, lambda row: 5 if row["label"] > 3 else 1, fail=["7+5="])
    for says, *given in (
        ("4 of 40 labelled answers have no judgement, the first: sample s007", labels, "--metric", METRIC),
        ("there is no such file", "nowhere.jsonl", "--metric", METRIC),
        (f"There are {METRIC}", labels, "--metric", "arithmetic/addition::exact_match"),
        ("tony", labels, "--metric", METRIC, "--judge", "tony"),
    ):
        done = project.evalgate("judge", "calibrate", *given)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
        assert says in done.stderr
    project.suite(
        "test_arithmetic", f"{JUDGED}\nsums = Task(samples=[], prompt='', scorers=[judge('x')], name='addition')\n"
    )
    twice = project.evalgate("judge", "calibrate", labels, "--metric", METRIC)
    assert (twice.returncode, "both declare arithmetic/addition" in twice.stderr) == (2, True), twice.stderr
    assert not (project.path / "evalsuites/calibrations").exists()
    assert "no judge is calibrated in evalsuites/" in project.evalgate("judge", "show").stdout


def test_a_damaged_calibration_is_one_line(project: Project) -> None:
    """`show` reads as strictly as a gate does."""
    path = write_calibration(project.path / "evalsuites", report())
    path.write_text(path.read_text().replace('"n": 320', '"n": 3200'))
    done = project.evalgate("judge", "show")
    assert done.returncode == 2
    assert "was damaged or edited" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", [("calibrate",), ("show",)])
def test_help_reads_well(project: Project, command: tuple[str, ...]) -> None:
    """Every command explains itself."""
    done = project.evalgate("judge", *command, "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout
