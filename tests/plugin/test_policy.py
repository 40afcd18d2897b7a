"""`--eval-inconclusive`, `--eval-alpha`, `--eval-baseline`, `--eval-base`, `--eval-reports`."""

from __future__ import annotations

import json

import pytest

from tests.plugin.conftest import SUITE, Project

SMALL = SUITE.replace("data/addition.jsonl", "data/small.jsonl")


@pytest.fixture
def small(project: Project) -> Project:
    """A task of 30 samples on which the candidate v2 is wrong once more than the baseline: too little to tell."""
    lines = (project.path / "evalsuites/data/addition.jsonl").read_text().splitlines()[:30]
    (project.path / "evalsuites/data/small.jsonl").write_text("\n".join(lines) + "\n")
    project.suite("test_arithmetic", SMALL)
    project.configure({"v1": 3, "v2": 5})
    project.accept("runs/v1")
    return project


def test_too_little_evidence_passes_with_a_warning(small: Project) -> None:
    """INCONCLUSIVE is a warning and a line of its own that says how many samples would decide."""
    result = small.run("evalsuites", "--model", "runs/v2", "-v")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*addition::exact_match INCONCLUSIVE*", "*InconclusiveWarning*"])
    assert "samples would" in result.stdout.str()


def test_too_little_evidence_fails_a_release_gate(small: Project) -> None:
    """The same with --eval-inconclusive fail exits 1."""
    assert small.run("evalsuites", "--model", "runs/v2", "--eval-inconclusive", "fail").ret == 1


def test_alpha_is_the_level_of_the_gate(project: Project) -> None:
    """A drop that is significant at .05 and not at .0005 is REGRESSION at the one and not at the other."""
    project.configure({"v1": 10, "v2": 19})
    project.accept("runs/v1")
    assert project.run("evalsuites", "--model", "runs/v2", "--eval-alpha", "0.05").ret == 1
    assert project.run("evalsuites", "--model", "runs/v2", "--eval-alpha", "0.0005").ret == 0


def test_products_have_baselines_of_their_own(accepted: Project) -> None:
    """--eval-baseline NAME compares with what was accepted under that name, and only with that."""
    missing = accepted.run("evalsuites", "--model", "runs/v2", "--eval-baseline", "kiosk")
    missing.stdout.fnmatch_lines(["*NO BASELINE*"])
    assert accepted.evalgate("accept", "runs/v2", "-m", "for kiosks", "--name", "kiosk").returncode == 0
    assert accepted.run("evalsuites", "--model", "runs/v2", "--eval-baseline", "kiosk").ret == 0
    assert (accepted.path / "evalsuites/baselines/arithmetic/addition@kiosk.jsonl").is_file()


def test_reports_go_where_they_are_told(accepted: Project) -> None:
    """--eval-reports names the folder of the cards."""
    accepted.run("evalsuites", "--model", "runs/v2", "--eval-reports", "cards")
    assert (accepted.path / "cards/v2/index.html").is_file()


def test_base_says_where_an_adapters_base_lies(project: Project) -> None:
    """An adapter whose base is elsewhere needs --eval-base; without it the error names the option."""
    adapter = project.path / "runs/lora"
    from tests.plugin.conftest import V1

    (adapter).mkdir()
    source = V1.parent / "v2"
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (adapter / name).write_bytes((source / name).read_bytes())
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "gone/base"}))
    refused = project.run("evalsuites", "--model", "runs/lora")
    assert refused.ret == 4
    refused.stderr.fnmatch_lines(["ERROR: *--eval-base*"])
    found = project.run("evalsuites", "--model", "runs/lora", "--eval-base", str(V1))
    found.stdout.fnmatch_lines(["*NO BASELINE*"])


def test_a_floor_holds_beside_the_baseline(project: Project) -> None:
    """A floor that the candidate misses is a REGRESSION, however little it dropped."""
    project.suite("test_arithmetic", SUITE.replace("margin=0.05", "margin=0.05, floor=0.97"))
    project.accept("runs/v1")
    result = project.run("evalsuites", "--model", "runs/v2")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*floor*"])
