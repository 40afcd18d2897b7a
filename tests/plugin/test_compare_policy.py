"""`--eval-compare-policy`, and what else may differ from a baseline: refused by name, or named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evalgate.store import read_baseline, serialise, write_atomically, write_baseline
from tests.plugin.conftest import SUITE, Project

BASELINE = "evalsuites/baselines/arithmetic/addition.jsonl"
ELSEWHERE = {"name": "vllm", "version": "0.32.0", "dtype": "bfloat16", "device": "cuda"}
NAMED = (
    "engine.name: candidate fake, baseline vllm",
    "engine.version: candidate 1, baseline 0.32.0",
    "engine.dtype: candidate none, baseline bfloat16",
    "engine.device: candidate cpu, baseline cuda",
)


def made_elsewhere(project: Project, engine: Mapping[str, Any]) -> Path:
    """Let the baseline, and a folder of records, say that another engine made it; the folder."""
    path = project.path / BASELINE
    baseline = read_baseline(path)
    assert baseline is not None
    assert baseline.acceptance is not None
    environment = {**baseline.environment, "engine": {**baseline.environment["engine"], **engine}}
    moved = replace(baseline, environment=environment)
    write_baseline(path, moved, baseline.acceptance)
    folder = project.path / "elsewhere"
    write_atomically(folder / "addition.jsonl", serialise(replace(moved, acceptance=None)))
    return folder


def test_strict_refuses_another_engine_and_names_every_field(accepted: Project) -> None:
    """INCOMPARABLE with both values of each field, the command that accepts, and exit code 1."""
    made_elsewhere(accepted, ELSEWHERE)
    result = accepted.run("evalsuites", "--model", "runs/v2", "--eval-compare-policy", "strict")
    assert result.ret == 1
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*INCOMPARABLE*", "*evalgate accept runs/v2 -m*"])
    said = " ".join(result.stdout.str().split())
    for field in NAMED:
        assert field in said


@pytest.mark.parametrize("args", [(), ("--eval-compare-policy", "warn")], ids=["default", "warn"])
def test_warn_compares_and_names_every_field(accepted: Project, args: tuple[str, ...]) -> None:
    """The same baseline gives a verdict, with a note for each field."""
    made_elsewhere(accepted, ELSEWHERE)
    result = accepted.run("evalsuites", "--model", "runs/v2", *args)
    assert result.ret == 0
    for field in NAMED:
        result.stdout.fnmatch_lines([f"*note: {field} (2 metrics)"])


def test_strict_has_nothing_against_the_same_engine(accepted: Project) -> None:
    """The negative control: strict is no refusal of everything, and warn makes no notes."""
    result = accepted.run("evalsuites", "--model", "runs/v2", "--eval-compare-policy", "strict")
    assert result.ret == 0
    assert "note: engine" not in accepted.run("evalsuites", "--model", "runs/v2").stdout.str()


def test_the_setting_is_strict_and_the_option_wins(accepted: Project) -> None:
    """[tool.evalgate] compare_policy = "strict" refuses; --eval-compare-policy warn beats it."""
    made_elsewhere(accepted, {"dtype": "bfloat16"})
    accepted.configure({"v1": 10, "v2": 9}, settings='compare_policy = "strict"')
    refused = accepted.run("evalsuites", "--model", "runs/v2")
    assert refused.ret == 1
    refused.stdout.fnmatch_lines(["*engine.dtype: candidate none, baseline bfloat16*"])
    assert accepted.run("evalsuites", "--model", "runs/v2", "--eval-compare-policy", "warn").ret == 0


def test_evalgate_compare_follows_the_setting(accepted: Project) -> None:
    """Two recorded sets: compared with a note by default, refused with exit code 2 where the project is strict."""
    folder = made_elsewhere(accepted, {"device": "cuda"})
    warned = accepted.evalgate("compare", "runs/v1", str(folder))
    assert warned.returncode == 0, warned.stderr
    assert "note: engine.device: candidate cpu, baseline cuda" in warned.stdout
    accepted.configure({"v1": 10}, settings='compare_policy = "strict"')
    refused = accepted.evalgate("compare", "runs/v1", str(folder))
    assert refused.returncode == 2
    assert "INCOMPARABLE" in refused.stdout
    assert "engine.device: candidate cpu, baseline cuda" in " ".join(refused.stdout.split())


def test_another_policy_is_no_word(project: Project) -> None:
    """A value that is neither of the two ends with exit code 4, and says what there is."""
    result = project.run("evalsuites", "--model", "runs/v1", "--eval-compare-policy", "loose")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--eval-compare-policy*loose*warn*strict*"])


# -- what no policy lets pass -----------------------------------------------------------------------------------------


def test_sampling_is_refused_with_every_field(accepted: Project) -> None:
    """Two parameters that changed are both named with both values; the candidate is recorded all the same."""
    accepted.suite("test_arithmetic", SUITE.replace("max_tokens=8", 'max_tokens=9, stop=("\\n",)'))
    result = accepted.run("evalsuites", "--model", "runs/v2", "--eval-compare-policy", "warn")
    assert result.ret == 1
    said = " ".join(result.stdout.str().split())
    assert "sampling.max_tokens: candidate 9, baseline 8" in said
    assert 'sampling.stop: candidate ["\\n"], baseline []' in said
    assert accepted.evalgate("accept", "runs/v2", "-m", "longer answers").returncode == 0
    assert accepted.run("evalsuites", "--model", "runs/v2").ret == 0


@pytest.mark.parametrize(("changed", "code"), [(2, 0), (3, 1)])
def test_one_percent_of_the_questions_may_differ(accepted: Project, changed: int, code: int) -> None:
    """Of 200 questions 198 paired are compared; with 197 the coverage is refused, and says why they have no partner."""
    path = accepted.path / "evalsuites/data/addition.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows[-changed:]:
        row["target"] = "0"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = accepted.run("evalsuites", "--model", "runs/v2")
    assert result.ret == code
    said = " ".join(result.stdout.str().split())
    refused = "coverage: candidate 197 of 200 samples paired, 3 with another prompt or target, 0 new"
    assert (refused in said) == bool(code)


def test_an_incomplete_evaluation_neither_passes_nor_becomes_a_baseline(accepted: Project) -> None:
    """One answer that the engine failed to give: ERROR with the count, and accepting is refused."""
    accepted.configure({"v1": 10, "v2": 9}, fail=["19+14="])
    result = accepted.run("evalsuites", "--model", "runs/v2")
    assert result.ret == 1
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*1 of 200 samples*s199*"])
    before = (accepted.path / BASELINE).read_bytes()
    done = accepted.evalgate("accept", "runs/v2", "-m", "nearly")
    assert done.returncode == 2
    assert "1 of 200 rows have no answer" in done.stderr
    assert (accepted.path / BASELINE).read_bytes() == before


def test_the_same_weights_are_said(accepted: Project) -> None:
    """Gating the baseline's own checkpoint is an A/A comparison; another checkpoint is none."""
    same, other = (accepted.run("evalsuites", "--model", f"runs/{name}") for name in ("v1", "v2"))
    assert same.ret == 0
    assert "A/A: the same checkpoint on both sides" in " ".join(same.stdout.str().split())
    assert "A/A" not in other.stdout.str()


def test_a_tighter_gate_invalidates_no_baseline(accepted: Project) -> None:
    """Margin, floor and alpha are policy, not identity: the baseline stays comparable, and nothing is scored again."""
    accepted.suite("test_arithmetic", SUITE.replace("margin=0.05", "margin=0.04, floor=0.9"))
    result = accepted.run("evalsuites", "--model", "runs/v2", "--eval-alpha", "0.04")
    assert result.ret == 0
    assert "INCOMPARABLE" not in result.stdout.str()
    assert "scored again" not in result.stdout.str()
