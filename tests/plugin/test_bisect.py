"""`--eval-bisect` and `evalgate bisect`: the first epoch that regressed, by one engine, with no look too many."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.plugin.conftest import Project


def trained(project: Project, wrong: list[int]) -> list[str]:
    """Versions v5-epoch-1 … v5 with so many wrong sums each."""
    names = [f"v5-epoch-{epoch}" for epoch in range(1, len(wrong))] + ["v5"]
    project.configure({"v1": 10, **dict(zip(names, wrong, strict=True))})
    for name in names:
        project.checkpoint(name)
    return names


def answered(project: Project) -> set[str]:
    """Names of the checkpoints that were asked anything."""
    return {path.name.rsplit("-", 1)[0] for path in (project.path / ".evalgate/records").iterdir()} - {"v1"}


def table(text: str) -> dict[str, str]:
    """Version to verdict."""
    rows = [line.split() for line in text.split("evalgate bisect")[-1].splitlines() if line.startswith("v5")]
    return {row[0]: " ".join(row[1:]) for row in rows}


def test_the_first_that_regressed_is_named(accepted: Project) -> None:
    """Of eight epochs the sixth forgot: six are evaluated, one engine starts, and the metric is named with its loss."""
    names = trained(accepted, [9, 10, 9, 10, 9, 60, 70, 80])
    done = accepted.evalgate("bisect", "runs/v5")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "the first that regressed is v5-epoch-6, in" in done.stdout
    assert "arithmetic/addition::exact_match -25.0 pt" in done.stdout
    assert done.stdout.count("evalgate: starting fake") == 1
    rows = table(done.stdout)
    assert list(rows) == names
    assert rows["v5-epoch-6"] == "REGRESSION arithmetic/addition::exact_match -25.0 pt"
    unseen = {name for name, said in rows.items() if said == "not needed"}
    assert unseen == {"v5-epoch-2", "v5-epoch-3"}
    assert answered(accepted) == set(names) - unseen


def test_a_version_that_holds_needs_no_search(accepted: Project) -> None:
    """Exit code 0, and only the version itself is evaluated, whatever its epochs were like."""
    trained(accepted, [90, 10, 9])
    done = accepted.evalgate("bisect", "runs/v5")
    assert (done.returncode, "there is nothing to find" in done.stdout) == (0, True), done.stdout + done.stderr
    assert answered(accepted) == {"v5"}


def test_evidence_that_is_not_monotone_is_said(accepted: Project) -> None:
    """It got worse, recovered and got worse again: all are evaluated, and the very first is named."""
    names = trained(accepted, [60, 9, 9, 60, 60])
    done = accepted.evalgate("bisect", "runs/v5")
    assert done.returncode == 1
    assert "not monotone" in done.stdout
    assert "the first that regressed is v5-epoch-1" in done.stdout
    assert answered(accepted) == set(names)


def test_what_cannot_be_compared_is_no_result(project: Project) -> None:
    """Without a baseline, or where a version cannot be served: exit code 2."""
    trained(project, [9, 60])
    done = project.evalgate("bisect", "runs/v5")
    assert (done.returncode, "NO BASELINE" in done.stdout) == (2, True)
    assert "could not be evaluated or compared" in done.stdout


def test_too_little_evidence_that_blocks_decides_nothing(accepted: Project) -> None:
    """Under `inconclusive = fail` a version that is undecided does not hold: exit code 2."""
    trained(accepted, [9, 9])
    settings = accepted.path / "pyproject.toml"
    few = settings.read_text().replace("[tool.evalgate]", "[tool.evalgate]\nmin_n = 500")
    settings.write_text(few)
    assert accepted.evalgate("bisect", "runs/v5").returncode == 0
    settings.write_text(few.replace("min_n", 'inconclusive = "fail"\nmin_n'))
    done = accepted.evalgate("bisect", "runs/v5")
    assert (done.returncode, table(done.stdout)["v5"].split()[0]) == (2, "INCONCLUSIVE")
    assert "could not be evaluated or compared" in done.stdout


def test_an_alias_is_the_version_that_it_names(accepted: Project) -> None:
    """Its epochs are searched."""
    trained(accepted, [9, 60])
    (accepted.path / "runs/champion").symlink_to("v5")
    done = accepted.evalgate("bisect", "runs/champion")
    assert done.returncode == 1, done.stderr
    assert "the first that regressed is v5, in" in done.stdout


def test_the_flag_takes_models_in_order(accepted: Project) -> None:
    """Any models in the order that was typed; tests of those that were not needed do not run; exit code 1 as ever."""
    trained(accepted, [9, 9, 60])
    models = ["runs/v5-epoch-1", "runs/v5-epoch-2", "runs/v5"]
    given = [part for model in models for part in ("--model", model)]
    result = accepted.run("evalsuites", *given, "--eval-bisect", "--eval-results", "results.json")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["the first that regressed is v5, in", "*exact_match -25.0 pt*"])
    found = json.loads((accepted.path / "results.json").read_text())
    assert [each["outcome"] for each in found["candidates"]] == ["PASS", "PASS", "REGRESSION"]


def test_epoch_and_step_come_from_the_version(accepted: Project) -> None:
    """What `evalgate.json` says stands in the table."""
    from evalgate.preflight import read_checkpoint
    from evalgate.version import Lineage

    names = trained(accepted, [9, 60])
    for number, name in enumerate(names, start=1):
        folder = Path(accepted.path / "runs" / name)
        digest = read_checkpoint(folder).digest
        lineage = Lineage(name, digest, "full", {}, "2026-01-01", epoch=float(number), step=40 * number)
        (folder / "evalgate.json").write_text(json.dumps(lineage.as_json()))
    done = accepted.evalgate("bisect", "runs/v5", "evalsuites/test_arithmetic.py")
    assert done.returncode == 1, done.stdout + done.stderr
    rows = table(done.stdout)
    assert rows["v5-epoch-1"].startswith("1 40 PASS")
    assert rows["v5"].startswith("2 80 REGRESSION")


@pytest.mark.parametrize("extra", [[], ["--model", "runs/v2", "--eval-record-only"]])
def test_what_cannot_be_searched_is_refused(accepted: Project, extra: list[str]) -> None:
    """One model, or a run that compares nothing."""
    result = accepted.run("evalsuites", "--model", "runs/v1", "--eval-bisect", *extra)
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--eval-bisect compares the versions of one training*"])


def test_a_version_without_epochs_is_one_line(accepted: Project) -> None:
    """The command line says what is missing, exit code 2."""
    done = accepted.evalgate("bisect", "runs/v1")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "no epoch of v1" in done.stderr
