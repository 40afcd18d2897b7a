"""Options of other plugins that would break a gate, and settings that mean nothing."""

from __future__ import annotations

import pytest

from tests.plugin.conftest import Project


@pytest.mark.parametrize(("option", "says"), [("-n2", "*one engine batch*"), ("--reruns=2", "*no gate*")])
def test_xdist_and_reruns_are_refused(project: Project, option: str, says: str) -> None:
    """Both end with exit code 4 and the reason."""
    result = project.run("evalsuites", "--model", "runs/v1", option)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"ERROR: {says}"])
    assert "INTERNALERROR" not in result.stderr.str() + result.stdout.str()


@pytest.mark.parametrize("option", ["-n0", "--reruns=0"])
def test_switched_off_they_are_fine(accepted: Project, option: str) -> None:
    """The negative control: an explicit zero is no reason to refuse."""
    assert accepted.run("evalsuites", "--model", "runs/v2", option).ret == 0


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("alfa = 0.05", "*alfa*alpha*"),
        ('alpha = "5%"', "*5%*number*"),
        ("alpha = nan", "*alpha*"),
        ('inconclusive = "maybe"', "*warn*fail*"),
    ],
)
def test_bad_settings_are_usage_errors(project: Project, settings: str, says: str) -> None:
    """Unknown keys name the nearest match; wrong values say what is expected."""
    project.configure({"v1": 10}, settings=settings)
    result = project.run("evalsuites", "--model", "runs/v1")
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"ERROR: {says}"])


def test_an_option_wins_over_the_settings(accepted: Project) -> None:
    """--eval-engine beats [tool.evalgate.engine]: an unknown name is refused where the settings name a good one."""
    result = accepted.run("evalsuites", "--model", "runs/v2", "--eval-engine", "vlm")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: *vlm*vllm*"])


def test_a_model_option_of_a_conftest_is_left_alone(project: Project) -> None:
    """Where a conftest has --model, pytest starts, and --eval-model is ours."""
    (project.path / "conftest.py").write_text(
        "def pytest_addoption(parser):\n    parser.addoption('--model', default='theirs')\n"
    )
    project.suite(
        "test_theirs", "def test_theirs(request):\n    assert request.config.getoption('--model') == 'mine'\n"
    )
    assert project.run("evalsuites/test_theirs.py", "--model", "mine").ret == 0
    refused = project.run("evalsuites/test_arithmetic.py", "--model", "runs/v1")
    assert refused.ret == 4
    refused.stderr.fnmatch_lines(["ERROR: *--eval-model runs/v3 (--model belongs to another plugin here)*"])
    ours = project.run("evalsuites/test_arithmetic.py", "--eval-model", "runs/v1")
    ours.stdout.fnmatch_lines(["*NO BASELINE*"])
