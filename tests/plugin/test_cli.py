"""The command line over real records: accept, compare, ls, show, verify, doctor."""

from __future__ import annotations

import pytest

from tests.plugin.conftest import WRONG, Project


@pytest.fixture
def recorded(accepted: Project) -> Project:
    """v1 is the baseline; v3 is recorded too."""
    assert accepted.run("evalsuites", "--model", "runs/v3", "--eval-record-only").ret == 0
    return accepted


def test_ls_lists_records(recorded: Project) -> None:
    """One line per record with checkpoint, task, n and means."""
    done = recorded.evalgate("ls")
    assert done.returncode == 0
    assert "arithmetic/addition" in done.stdout
    assert "exact_match 0.950" in done.stdout
    assert "exact_match 0.700" in done.stdout


def test_show_says_everything_needed_to_repeat(recorded: Project) -> None:
    """Identity, sampling with seed, environment, command."""
    done = recorded.evalgate("show", "runs/v3", "arithmetic/addition")
    assert done.returncode == 0, done.stderr
    for part in ("sha256:", '"max_tokens": 8', '"seed": 0', "pytest", "exact_match"):
        assert part in done.stdout
    sample = recorded.evalgate("show", "runs/v3", "arithmetic/addition", "--sample", "s000")
    assert '"0+5="' in sample.stdout


def test_compare_runs_nothing(recorded: Project) -> None:
    """Two recorded checkpoints by name or folder: exit 1 for a regression, 0 the other way round."""
    worse = recorded.evalgate("compare", "v3", "v1")
    assert (worse.returncode, "REGRESSION" in worse.stdout) == (1, True), worse.stderr
    better = recorded.evalgate("compare", "runs/v1", "runs/v3")
    assert better.returncode == 0, better.stderr
    assert "PASS" in better.stdout


def test_verify_finds_a_flipped_byte(recorded: Project) -> None:
    """Whole files pass; one changed output is found and named, exit code 2."""
    assert recorded.evalgate("verify").returncode == 0
    (record,) = (recorded.path / ".evalgate/records").glob("v3-*/arithmetic/*.jsonl")
    record.chmod(0o644)
    record.write_bytes(record.read_bytes().replace(b'"?"', b'"!"', 1))
    done = recorded.evalgate("verify")
    assert done.returncode == 2
    assert "addition" in done.stderr


def test_verify_needs_no_ledger(recorded: Project) -> None:
    """A clone without .evalgate verifies against its committed baselines; the missing ledger is a note."""
    import shutil

    shutil.rmtree(recorded.path / ".evalgate")
    done = recorded.evalgate("verify")
    assert done.returncode == 0, done.stderr
    assert "no ledger" in done.stdout
    assert "1 files checked" in done.stdout


def test_accept_in_ci_is_refused(recorded: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar is moved by people."""
    monkeypatch.setenv("CI", "true")
    done = recorded.evalgate("accept", "runs/v3", "-m", "why not")
    assert done.returncode == 2
    assert "refused" in done.stderr
    assert "Traceback" not in done.stderr


def test_accepting_moves_the_bar(recorded: Project) -> None:
    """After v3 is accepted, v3 passes and the header names what it replaced."""
    done = recorded.evalgate("accept", "runs/v3", "-m", "we live with it")
    assert done.returncode == 0, done.stderr
    assert "replaced" in done.stdout
    result = recorded.run("evalsuites", "--model", "runs/v3")
    result.stdout.fnmatch_lines(["*A/A*"])


def test_an_unknown_checkpoint_lists_what_there_is(recorded: Project) -> None:
    """A mistyped name is one line with the names recorded."""
    done = recorded.evalgate("show", "v9", "arithmetic/addition")
    assert done.returncode == 2
    assert "v1" in done.stderr
    assert "v3" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_doctor_says_what_would_run(recorded: Project) -> None:
    """Engine, suites, baselines; a setting that cannot be read is found."""
    done = recorded.evalgate("doctor")
    assert done.returncode == 0, done.stdout
    assert "engine fake" in done.stdout
    assert "1 suites and 1 baselines" in done.stdout
    recorded.configure(WRONG, settings="alfa = 1")
    broken = recorded.evalgate("doctor")
    assert broken.returncode == 2
    assert "alpha" in broken.stdout


@pytest.mark.parametrize(
    "command", ["", "accept", "compare", "plan", "ls", "show", "verify", "doctor", "nightly", "sweep", "bisect"]
)
def test_help_reads_well(project: Project, command: str) -> None:
    """Every command explains itself."""
    done = project.evalgate(*command.split(), "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout
