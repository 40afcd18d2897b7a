"""`--eval-records` and `--eval-record-only`: record where the model is, gate where it is not."""

from __future__ import annotations

import shutil

from tests.plugin.conftest import SUITE, WRONG, Project


def test_records_are_gated_without_checkpoint_or_engine(accepted: Project) -> None:
    """Records made elsewhere give the same verdicts with the checkpoints and the cache gone."""
    assert accepted.run("evalsuites", "--model", "runs/v3", "--eval-record-only").ret == 0
    shutil.move(accepted.path / ".evalgate/records", accepted.path / "from_gpu_box")
    shutil.rmtree(accepted.path / ".evalgate")
    shutil.rmtree(accepted.path / "runs")
    for folder in (accepted.path / "from_gpu_box").glob("v1-*"):
        shutil.rmtree(folder)
    result = accepted.run("evalsuites", "--eval-records", "from_gpu_box", "-v")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*addition::exact_match FAILED*-25.0 pt*"])
    assert "starting" not in result.stdout.str()


def test_record_only_compares_nothing(accepted: Project) -> None:
    """A worse model recorded with --eval-record-only exits 0, and can be compared later without running again."""
    assert accepted.run("evalsuites", "--model", "runs/v3", "--eval-record-only").ret == 0
    assert not (accepted.path / "reports/v3").exists()
    compared = accepted.evalgate("compare", "runs/v3", "runs/v1")
    assert compared.returncode == 1, compared.stderr
    assert "REGRESSION" in compared.stdout


def test_record_only_still_fails_on_errors(accepted: Project) -> None:
    """Recording is no reason to swallow a dead engine."""
    accepted.configure(WRONG, crash_after=3)
    result = accepted.run("evalsuites", "--model", "runs/v3", "--eval-record-only")
    assert result.ret == 1
    result.assert_outcomes(errors=2)


def test_records_of_another_prompt_are_refused(accepted: Project) -> None:
    """The suite changed since: the record is ERROR with what differs, never a silent comparison."""
    accepted.suite("test_arithmetic", SUITE.replace("}}=", "}} ="))
    result = accepted.run("evalsuites", "--eval-records", ".evalgate/records")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*made with another prompt than the suite declares now*"])


def test_a_folder_without_records_is_a_usage_error(project: Project) -> None:
    """A mistyped folder is one line and exit code 4."""
    result = project.run("evalsuites", "--eval-records", "nowhere")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: *nowhere*"])


def test_records_and_model_exclude_each_other(project: Project) -> None:
    """Both at once would leave open what was gated."""
    result = project.run("evalsuites", "--eval-records", ".", "--model", "runs/v1")
    assert result.ret == 4
