"""`--eval-results FILE`: what came out, for machines, whatever the session's end was."""

from __future__ import annotations

import json

import pytest

from evalgate.errors import RecordError
from evalgate.report.results import Results, read_results
from tests.plugin.conftest import SUITE, WRONG, Project


def results(project: Project, *args: str) -> Results:
    """The content of the file after a session with these arguments."""
    project.run("evalsuites", *args, "--eval-results", "out/results.json")
    return read_results(project.path / "out/results.json")


def test_numbers_and_verdicts(accepted: Project) -> None:
    """A regression: exit code, verdict, and each metric with its numbers, the informing ones too."""
    found = results(accepted, "--model", "runs/v3")
    assert (found.exit, found.verdict, found.error) == (1, 1, None)
    (v3,) = found.candidates
    assert (v3.name, v3.folder, v3.outcome, v3.blocked, v3.partial) == ("v3", "runs/v3", "REGRESSION", True, ())
    assert v3.digest.startswith("sha256:")
    assert v3.card
    assert (accepted.path / v3.card).is_file()
    metric = v3.metrics["arithmetic/addition::exact_match"]
    assert (metric.blocking, metric.outcome, metric.n) == (True, "REGRESSION", 200)
    assert (metric.value, metric.baseline, metric.margin) == (0.7, 0.95, 0.05)
    assert metric.difference == pytest.approx(-0.25)
    assert metric.low is not None
    assert metric.high is not None
    assert metric.low < -0.25 < metric.high < 0
    assert "was .950, now .700" in metric.reason
    assert not v3.metrics["arithmetic/addition::numeric"].blocking
    assert found.ledger == json.loads((accepted.path / ".evalgate/ledger.jsonl").read_text().splitlines()[-1])["hash"]


def test_a_pass_and_several_candidates(accepted: Project) -> None:
    """Each candidate has its own entry, in the order in which they were typed; alone, a good one passes."""
    found = results(accepted, "--model", "runs/v2", "--model", "runs/v3")
    assert [(each.name, each.outcome) for each in found.candidates] == [("v2", "PASS"), ("v3", "REGRESSION")]
    assert found.verdict == 1
    assert results(accepted, "--model", "runs/v2").verdict == 0


def test_what_was_deselected_is_partial(two_suites: Project) -> None:
    """`-k` leaves members out: they are named, and have no numbers."""
    found = results(two_suites, "--model", "runs/v2", "-k", "arithmetic")
    (v2,) = found.candidates
    assert v2.partial == ("second/doubling::exact_match",)
    assert set(v2.metrics) == {"arithmetic/addition::exact_match", "arithmetic/addition::numeric"}


def test_without_a_baseline_nothing_is_blocked_by_numbers(project: Project) -> None:
    """NO BASELINE is said, with the value and without a difference, and is no regression: 2."""
    found = results(project, "--model", "runs/v1")
    (v1,) = found.candidates
    metric = v1.metrics["arithmetic/addition::exact_match"]
    assert (v1.outcome, metric.outcome, metric.value, metric.difference) == ("NO BASELINE", "NO BASELINE", 0.95, None)
    assert found.verdict == 2


def test_a_record_is_no_verdict(project: Project) -> None:
    """`--eval-record-only` passes in pytest and decides nothing."""
    found = results(project, "--model", "runs/v1", "--eval-record-only")
    assert (found.exit, found.verdict, found.candidates[0].outcome) == (0, 2, None)


def test_an_engine_that_fails_is_an_error(accepted: Project) -> None:
    """Every metric is ERROR without numbers, and an engine that died is named."""
    for fault in ({"refuse": ["v3"]}, {"crash_after": 5}):
        accepted.configure(WRONG, **fault)
        found = results(accepted, "--model", "runs/v3")
        (v3,) = found.candidates
        assert (found.exit, found.verdict, v3.outcome, v3.blocked) == (1, 2, "ERROR", True)
        metrics = v3.metrics.values()
        assert {(metric.outcome, metric.value, metric.difference) for metric in metrics} == {("ERROR", None, None)}
    assert found.error
    assert "SIGKILL" in found.error or "signal" in found.error


def test_what_was_typed_wrong_is_said(accepted: Project) -> None:
    """A usage error before the session, in it, or while suites are collected: written with exit code 4."""
    for wrong in (["--model", "runs/v9"], ["--model", "runs/v2", "--eval-alpha", "7"], ["--model", "runs/v2", "-n2"]):
        found = results(accepted, *wrong)
        assert (found.exit, found.verdict, found.candidates) in ((4, 2, ()), (4, 2, found.candidates)), wrong
        assert found.error, wrong
    accepted.suite("test_broken", SUITE.replace("addition.jsonl", "missing.jsonl"))
    found = results(accepted, "--model", "runs/v2")
    assert (found.exit, found.verdict, found.candidates[0].outcome) == (4, 2, "ERROR")
    assert found.error
    assert "missing.jsonl" in found.error


def test_a_failed_test_beside_the_gates_counts(accepted: Project) -> None:
    """The gate passes and an ordinary test does not: the candidate is not blocked by its verdict, yet it is no pass."""
    accepted.suite("test_own", "def test_own():\n    assert False\n")
    found = results(accepted, "--model", "runs/v2")
    assert (found.exit, found.verdict) == (1, 1)
    assert (found.candidates[0].outcome, found.candidates[0].blocked) == ("PASS", False)


def test_no_text_of_a_model_is_in_it(accepted: Project) -> None:
    """Outputs stay out, also where a scorer's error quotes one."""
    accepted.suite(
        "test_arithmetic",
        """
from evalgate import Sampling, Task, function, jsonl

def strict(output, sample):
    return 1.0 if output != "?" else float("secret " + output)

addition = Task(
    samples=jsonl("data/addition.jsonl"),
    prompt="{{ a }}+{{ b }}=",
    sampling=Sampling(max_tokens=8),
    scorers=[function(strict)],
)
""",
    )
    found = results(accepted, "--model", "runs/v3")
    metric = found.candidates[0].metrics["arithmetic/addition::strict"]
    assert (metric.outcome, "the card" in metric.reason) == ("ERROR", True)
    assert "secret" not in (accepted.path / "out/results.json").read_text()


def test_an_old_file_never_passes_for_a_new_one(accepted: Project) -> None:
    """What an earlier session wrote is gone before this one can fail."""
    path = accepted.path / "results.json"
    path.write_text("{}")
    accepted.suite("conftest", "import os, pytest\n\ndef pytest_sessionstart():\n    os._exit(9)\n")
    accepted.run("evalsuites", "--model", "runs/v2", "--eval-results", "results.json")
    assert not path.exists()
    with pytest.raises(RecordError, match="holds no results"):
        read_results(path)


def test_a_gate_that_was_skipped_is_no_pass(accepted: Project) -> None:
    """Pytest ends with 0 where a mark skips the blocked test; the verdict stays what it is."""
    suite = accepted.path / "evalsuites/test_arithmetic.py"
    suite.write_text("import pytest\n\npytestmark = pytest.mark.skip\n" + suite.read_text())
    assert accepted.run("evalsuites", "--model", "runs/v3", "--eval-results", "results.json").ret == 0
    found = read_results(accepted.path / "results.json")
    assert (found.exit, found.candidates[0].outcome, found.verdict) == (0, "REGRESSION", 1)


def test_a_newer_format_is_refused(accepted: Project) -> None:
    """A reader that does not know a format says so."""
    path = accepted.path / "results.json"
    path.write_text('{"format": 2}')
    with pytest.raises(RecordError, match="format 2"):
        read_results(path)


def test_a_file_that_cannot_be_written_is_an_error(accepted: Project) -> None:
    """Found before anything runs: nobody waits for results that cannot be kept."""
    (accepted.path / "out").write_text("a file, no folder")
    result = accepted.run("evalsuites", "--model", "runs/v2", "--eval-results", "out/results.json")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--eval-results *out/results.json: *"])
    assert not (accepted.path / "reports/v2").exists()
