"""The example jobs: what evalgate writes is picked up, and a job that may write runs nothing of a pull request."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from evalgate.report.ci import MARKER, gitlab

ROOT = Path(__file__).parents[2]
GITHUB = yaml.safe_load((ROOT / "examples/ci/github-actions.yml").read_text())
GITLAB = yaml.safe_load((ROOT / "examples/ci/gitlab-ci.yml").read_text())
COMMENT = GITHUB["jobs"]["comment"]["steps"][-1]


def test_no_code_of_a_fork_meets_a_token_that_writes() -> None:
    """Never `pull_request_target`; gates read alone, keep no credentials, and run for branches of the repository."""
    assert "pull_request_target" not in GITHUB[True]  # YAML 1.1 reads `on` as true
    assert "workflow_run" not in GITHUB[True]
    assert GITHUB["permissions"] == {"contents": "read"}
    for name in ("nightly", "pull-request"):
        job = GITHUB["jobs"][name]
        assert "permissions" not in job
        checkout = next(step for step in job["steps"] if "checkout" in step.get("uses", ""))
        assert checkout["with"]["persist-credentials"] is False
    assert "head.repo.full_name == github.repository" in GITHUB["jobs"]["pull-request"]["if"]


def test_who_writes_runs_nothing() -> None:
    """The comment's job checks out nothing and installs nothing; no expression stands in its shell."""
    job = GITHUB["jobs"]["comment"]
    assert job["permissions"] == {"pull-requests": "write"}
    assert [step.get("uses") for step in job["steps"]] == ["actions/download-artifact@v4", None]
    assert "${{" not in COMMENT["run"]
    assert set(re.findall(r"^\s*(?:\w+=\$\()?(\w+) ", COMMENT["run"], re.MULTILINE)) <= {"gh", "if"}


def test_only_actions_of_the_runner_s_makers() -> None:
    """No third party stands between a gate and its report."""
    used = {step["uses"] for job in GITHUB["jobs"].values() for step in job["steps"] if "uses" in step}
    assert all(action.startswith("actions/") for action in used)


@pytest.mark.parametrize(("there", "expected"), [("41\n42\n", "PATCH repos/o/r/issues/comments/42"),
                                                ("", "POST repos/o/r/issues/7/comments")])  # fmt: skip
def test_the_comment_is_replaced(tmp_path: Path, there: str, expected: str) -> None:
    """The step's own shell, with a `gh` that writes down what it was asked for: the last one of ours, or a new one."""
    gh = tmp_path / "gh"
    gh.write_text('#!/bin/sh\ncase "$*" in *--jq*) printf "%s" "$THERE";; *) echo "$*" >>asked;; esac\n')
    gh.chmod(0o755)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "THERE": there, "GITHUB_REPOSITORY": "o/r", "NUMBER": "7"}
    subprocess.run(["bash", "-e", "-c", COMMENT["run"]], cwd=tmp_path, env=environ, check=True)
    method, address = expected.split()
    asked = f"api --silent --method {method} {address} --field body=@reports/comment.md\n"
    assert (tmp_path / "asked").read_text() == asked


def test_the_marker_is_what_is_looked_for() -> None:
    """The comment begins with what the step searches."""
    found = re.search(r'startswith\("([^"]+)"\)', COMMENT["run"])
    assert found
    assert MARKER.startswith(found[1])


def test_the_gate_s_words_are_passed_on() -> None:
    """The verdict is an output of the job; the artifact that is downloaded is the one that was uploaded."""
    job: dict[str, Any] = GITHUB["jobs"]["pull-request"]
    assert job["outputs"]["verdict"] == "${{ steps.gate.outputs.verdict }}"
    assert any(step.get("id") == "gate" and step["run"].startswith("pytest ") for step in job["steps"])
    upload = next(step for step in job["steps"] if "upload" in step.get("uses", ""))
    assert upload["if"] == "always()"
    assert "reports/" in upload["with"]["path"]
    download = GITHUB["jobs"]["comment"]["steps"][0]
    assert download["with"]["name"] == upload["with"]["name"]


def test_gitlab_reads_the_reports() -> None:
    """JUnit, Code Quality and annotations are named where they are written, and kept whatever came out."""
    artifacts = GITLAB[".evalgate"]["artifacts"]
    assert artifacts["when"] == "always"
    assert artifacts["reports"] == {
        "junit": "gate.xml",
        "codequality": f"reports/ci/{gitlab.CODE_QUALITY}",
        "annotations": f"reports/ci/{gitlab.ANNOTATIONS}",
    }
    assert "reports/" in artifacts["paths"]
    assert any("--junit-xml gate.xml" in line for line in GITLAB["merge-request"]["script"])
