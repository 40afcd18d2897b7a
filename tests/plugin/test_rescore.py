"""A scorer that changed: stored outputs are scored again on both sides, and that is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from evalgate.ledger import Ledger
from evalgate.store import read_baseline
from tests.plugin.conftest import SUITE, Project

STRICT = SUITE.replace("tolerance=1", "tolerance=0")
CHOICE = """
from evalgate import Task, choice, jsonl

addition = Task(
    samples=jsonl("data/addition.jsonl"),
    prompt="{{ a }}+{{ b }}=",
    scorers=[choice(*map(str, range(5, 34)))],
)
"""
BASELINE = "evalsuites/baselines/arithmetic/addition.jsonl"


def verdicts(project: Project) -> dict[str, str]:
    """Task and metric to outcome, of the last run."""
    body = Ledger(project.path / ".evalgate/ledger.jsonl").entries()[-1].body
    found: dict[str, str] = body["verdicts"]
    return found


def test_the_baseline_is_scored_by_the_scorer_of_today(accepted: Project) -> None:
    """The changed metric is compared, the line says so once, and neither the baseline nor its digest changes."""
    path = accepted.path / BASELINE
    before = path.read_bytes()
    accepted.suite("test_arithmetic", STRICT)
    result = accepted.run("evalsuites", "--model", "runs/v2")
    assert result.ret == 0
    assert verdicts(accepted) == {"arithmetic/addition::exact_match": "PASS", "arithmetic/addition::numeric": "PASS"}
    line = "arithmetic/addition: scorer numeric changed: v1's stored outputs were scored again"
    assert result.stdout.str().splitlines().count(line) == 1
    assert path.read_bytes() == before
    baseline = read_baseline(path)
    assert baseline is not None
    entry = Ledger(accepted.path / ".evalgate/ledger.jsonl").entries()[-1]
    assert entry.body["baselines"] == {"arithmetic/addition": baseline.digest}


def test_an_unchanged_scorer_is_no_line(accepted: Project) -> None:
    """The negative control."""
    result = accepted.run("evalsuites", "--model", "runs/v2")
    assert "scored again" not in result.stdout.str()


def test_a_regression_is_found_by_the_new_scorer(accepted: Project) -> None:
    """A scorer that joins and blocks sees the drop in outputs which were recorded before there was one."""
    joined = "includes(gate=Gate(margin=0.05)), numeric(tolerance=1)"
    accepted.suite("test_arithmetic", SUITE.replace("numeric(tolerance=1)", joined).replace("Gate,", "Gate, includes,"))
    result = accepted.run("evalsuites", "--model", "runs/v3", "-v")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*addition::includes FAILED*-25.0 pt*was .950, now .700*", "*includes is new: v1's*"])


def test_records_are_scored_again_too(accepted: Project) -> None:
    """With --eval-records both sides are old: both are scored again, without checkpoint or engine."""
    assert accepted.run("evalsuites", "--model", "runs/v3", "--eval-record-only").ret == 0
    records = [path for path in (accepted.path / ".evalgate/records").iterdir() if path.name.startswith("v3")]
    moved = accepted.path / "from_gpu_box"
    shutil.move(records[0], moved)
    shutil.rmtree(accepted.path / "runs")
    accepted.suite("test_arithmetic", STRICT)
    result = accepted.run("evalsuites", "--eval-records", "from_gpu_box")
    assert result.ret == 1
    assert verdicts(accepted)["arithmetic/addition::numeric"] == "REGRESSION"
    result.stdout.fnmatch_lines(
        ["*scorer numeric changed: v3's stored outputs were scored again; v1's stored outputs were scored again"]
    )
    entry = Ledger(accepted.path / ".evalgate/ledger.jsonl").entries()[-1]
    (record,) = moved.rglob("*.jsonl")
    assert entry.body["records"]["arithmetic/addition"] == json.loads(record.read_bytes().splitlines()[0])["digest"]


def test_the_anchor_is_scored_again(accepted: Project) -> None:
    """Drift is measured by the same scorer as the gate: the first baseline's outputs count, not its old scores."""
    assert accepted.run("evalsuites", "--model", "runs/v2", "--eval-record-only").ret == 0
    assert accepted.evalgate("accept", "runs/v2", "-m", "next").returncode == 0
    accepted.suite("test_arithmetic", STRICT)
    result = accepted.run("evalsuites", "--model", "runs/v3")
    result.stdout.fnmatch_lines(["*v2's stored outputs were scored again; v1's stored outputs were scored again"])
    result.stdout.fnmatch_lines(["*drifted from the anchor*"])
    assert "drift is unknown" not in result.stdout.str()


def test_a_scorer_that_breaks_on_a_stored_output_is_no_score(project: Project) -> None:
    """The baseline is then incomplete in that metric: INCOMPARABLE, and the line names the sample and the fault."""
    function = "from evalgate import function\n\ndef careful(output, sample):\n    return float(output != 'x')\n"
    suite = function + SUITE.replace("numeric(tolerance=1)", "function(careful, gate=Gate(margin=0.05))")
    project.suite("test_arithmetic", suite)
    project.accept("runs/v1")
    project.configure({"v2": 0})  # v1 wrote "?", v2 does not
    project.suite("test_arithmetic", suite.replace("output != 'x'", "int(output) < 99"))
    result = project.run("evalsuites", "--model", "runs/v2")
    assert result.ret == 1
    assert verdicts(project) == {
        "arithmetic/addition::exact_match": "PASS",
        "arithmetic/addition::careful": "INCOMPARABLE",
    }
    result.stdout.fnmatch_lines(["*v1's stored outputs were scored again (10 could not be, first*careful*s000*"])


def test_a_changed_log_likelihood_scorer_is_refused(project: Project) -> None:
    """What it saw is not stored: INCOMPARABLE by the scorer's digest, and nothing claims otherwise."""
    project.suite("test_arithmetic", CHOICE)
    project.accept("runs/v1")
    project.suite("test_arithmetic", CHOICE.replace("range(5, 34)))", "range(5, 34)), normalise='bytes')"))
    result = project.run("evalsuites", "--model", "runs/v2")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["INCOMPARABLE*", "*not comparable with the baseline: scorer: candidate*, baseline*"])
    assert "scored again" not in result.stdout.str()
    records = project.run("evalsuites", "--eval-records", ".evalgate/records")
    assert records.ret == 1
    records.stdout.fnmatch_lines(["*made with another scorer choice than the suite declares now*"])


def test_questions_that_changed_too_are_refused_by_name(accepted: Project) -> None:
    """Nothing stored answers what is asked now: the line says so, and the verdict what differs."""
    rows = [json.loads(line) for line in _data(accepted).read_text().splitlines()]
    _data(accepted).write_text("".join(json.dumps({**row, "target": row["target"] + " "}) + "\n" for row in rows))
    accepted.suite("test_arithmetic", STRICT)
    result = accepted.run("evalsuites", "--model", "runs/v2")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*none of v1's stored outputs answers a question as it is asked now"])
    assert verdicts(accepted)["arithmetic/addition::numeric"] == "INCOMPARABLE"


def test_scoring_again_needs_the_eval_data(accepted: Project) -> None:
    """Records need none as long as the scorers are the same; then one line names the file, with exit code 4."""
    _data(accepted).unlink()
    assert accepted.run("evalsuites", "--eval-records", ".evalgate/records").ret == 0
    accepted.suite("test_arithmetic", STRICT)
    result = accepted.run("evalsuites", "--eval-records", ".evalgate/records")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: evalsuites/data/addition.jsonl: there is no such file*"])


def _data(project: Project) -> Path:
    return project.path / "evalsuites/data/addition.jsonl"
