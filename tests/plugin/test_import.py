"""`evalgate import`: runs of other tools, brought in and compared without running anything."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.plugin.conftest import Project

FOREIGN = Path(__file__).parents[1] / "foreign"
LM_EVAL = {model: str(FOREIGN / f"lm_eval/fixtures__checkpoints__{model}") for model in ("v1", "v3")}
CHAT = [str(path) for path in sorted((FOREIGN / "inspect").glob("*_chat_*.eval"))]
ROUGH = str(next((FOREIGN / "inspect").glob("*_rough_*.json")))


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """The command to paste."""
    return done.stdout.splitlines()[-1]


@pytest.fixture
def both(project: Project) -> Project:
    """Two runs of lm-eval, imported as one model each."""
    for model, folder in LM_EVAL.items():
        done = project.evalgate("import", folder, "--name", f"our-{model}")
        assert done.returncode == 0, done.stderr
    return project


def test_two_runs_of_lm_eval_are_compared(project: Project) -> None:
    """One line per record, the metrics left out by name, and a command that works as it is: v3 forgot its sums."""
    first = project.evalgate("import", LM_EVAL["v1"], "--name", "our-v1")
    assert first.returncode == 0, first.stderr
    assert "lm-eval/sums  our-v1  n=30  exact_match,strict-match 1.000" in first.stdout
    assert "left out: bleu,strict-match: " in first.stdout
    assert last_line(first).endswith("evalgate compare our-v1 OTHER")
    second = project.evalgate("import", LM_EVAL["v3"], "--name", "our-v3")
    assert last_line(second) == "evalgate compare our-v3 our-v1"
    done = project.evalgate(*shlex.split(last_line(second))[1:])
    assert done.returncode == 1, done.stderr
    assert "our-v3 against our-v1 lm-eval/sums::exact_match,strict-match REGRESSION -36.7 pt" in done.stdout
    assert "was 1.000 now .633" in done.stdout


def test_the_first_metric_blocks(both: Project) -> None:
    """The other way round nothing regresses but what really did: bits per byte, which v3 improved."""
    done = both.evalgate("compare", "our-v1", "our-v3")
    assert "lm-eval/sums::exact_match,strict-match PASS " in done.stdout
    assert "lm-eval/prose::bits_per_byte REGRESSION " in done.stdout
    assert re.search(r"lm-eval/reviews::acc_norm [A-Z]+ \(informs\)", done.stdout)


def test_two_logs_of_inspect_are_compared(project: Project) -> None:
    """Both in one command; the candidate is the later one, and equal models are no regression."""
    done = project.evalgate("import", *CHAT)
    assert done.returncode == 0, done.stderr
    assert "inspect/chat  v4-full  n=30  exact 0.817  includes 0.833" in done.stdout
    assert last_line(done) == "evalgate compare v4-full v1"
    compared = project.evalgate("compare", "v4-full", "v1")
    assert "inspect/chat::exact" in compared.stdout
    assert "REGRESSION" not in compared.stdout


def test_records_and_folders_of_them_are_ordinary(both: Project) -> None:
    """`ls`, `show` and `verify` know them, and a folder of records is compared as a name is."""
    assert "our-v3" in both.evalgate("ls").stdout
    shown = both.evalgate("show", "our-v1", "lm-eval/sums", "--sample", "0")
    assert '"Q: 26+58=\\nA:"' in shown.stdout
    assert both.evalgate("verify").returncode == 0
    (folder,) = (both.path / ".evalgate/records").glob("our-v1-*")
    done = both.evalgate("compare", "our-v3", str(folder))
    assert (done.returncode, "-36.7 pt" in done.stdout) == (1, True), done.stderr


def test_an_import_can_be_accepted(both: Project) -> None:
    """It becomes a baseline beside the suites, against which the next import is compared."""
    done = both.evalgate("accept", "our-v1", "-m", "what we ship")
    assert done.returncode == 0, done.stderr
    assert (both.path / "evalsuites/baselines/lm-eval/sums.jsonl").is_file()
    compared = both.evalgate("compare", "our-v3", "evalsuites/baselines")
    assert (compared.returncode, "-36.7 pt" in compared.stdout) == (1, True), compared.stderr


def test_an_incomplete_import_is_never_a_baseline(project: Project) -> None:
    """A sample that failed in the other tool is counted, compared as ERROR, and cannot be accepted."""
    done = project.evalgate("import", ROUGH)
    assert "n=6  1 without an answer" in done.stdout
    accepted = project.evalgate("accept", "v1", "-m", "why not")
    assert accepted.returncode == 2
    assert "1 of 6 rows have no answer" in accepted.stderr
    compared = project.evalgate("compare", "v1", "v1")
    assert (compared.returncode, "ERROR" in compared.stdout) == (2, True)


def test_runs_without_a_name_stay_apart(project: Project) -> None:
    """Nobody knows the weights of two runs of one name: they are two checkpoints, and the way out is said."""
    done = project.evalgate("import", LM_EVAL["v1"])
    assert done.returncode == 0, done.stderr
    assert "v1 is 2 checkpoints" in done.stdout
    assert "--name NAME" in done.stdout
    again = project.evalgate("import", LM_EVAL["v1"], "--name", "one")
    assert "checkpoints" not in again.stdout


def test_one_name_for_two_models_is_refused(project: Project) -> None:
    """Nothing is recorded."""
    done = project.evalgate("import", *LM_EVAL.values(), "--name", "ours")
    assert done.returncode == 2
    assert "several models: v1 of samples_" in done.stderr
    assert "nothing is recorded" in project.evalgate("ls").stdout


def test_a_person_says_what_a_log_does_not(project: Project) -> None:
    """A metric without a direction comes in once it is given."""
    done = project.evalgate("import", ROUGH, "--lower-is-better", "manners.length", "--higher-is-better", "unsure")
    assert "manners.length 20.750" in done.stdout
    assert "left out" not in done.stdout
    assert "2 without an answer" in done.stdout


def test_one_damaged_file_imports_nothing(project: Project) -> None:
    """All files are read before any is recorded; the fault is one line with exit code 2."""
    bad = project.path / "samples_sums_2026-01-01T00-00-00.jsonl"
    bad.write_text('{"doc_id": 0')
    done = project.evalgate("import", CHAT[0], str(bad))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "is no JSON" in done.stderr
    assert "nothing is recorded" in project.evalgate("ls").stdout


def test_hostile_names_are_inert(project: Project) -> None:
    """What a log calls its task, model and metrics reaches the terminal without its escapes."""
    log = json.loads(Path(ROUGH).read_text())
    log["eval"].update(task="a\x1b[31mb\n::error::c", model="hf/\x1b]0;x\x07v")
    log["results"]["scores"] = []
    for sample in log["samples"]:
        sample["scores"] = {"inc\x1b[2Jludes\n": {"value": True}}
    path = project.path / "hostile.json"
    path.write_text(json.dumps(log))
    done = project.evalgate("import", str(path))
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "\x07" not in done.stdout
    assert not any(line.startswith("::") for line in done.stdout.splitlines())


def test_help_says_what_is_read(project: Project) -> None:
    """Both tools and the option that joins runs are named."""
    done = project.evalgate("import", "--help")
    assert done.returncode == 0
    for word in ("lm-eval", "inspect_ai", "--name"):
        assert word in done.stdout
