"""`evalgate card`: the card of a recorded verdict again, byte for byte, and nothing runs."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from evalgate.ledger import Ledger
from evalgate.store import Store, read_records
from tests.plugin.conftest import SUITE, Project

FORMS = {"index.html", "card.json", "README.md", "samples.jsonl"}


def files_of(folder: Path) -> dict[str, bytes]:
    """Relative path to content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_writes_every_form(gated: Project) -> None:
    """Page, JSON, README and samples of each version, and a page of all versions."""
    reports = gated.path / "reports"
    assert set(files_of(reports / "v3")) == FORMS
    assert (reports / "index.html").is_file()
    document = json.loads((reports / "v3/card.json").read_bytes())
    assert (document["name"], document["outcome"], document["blocked"]) == ("v3", "REGRESSION", True)
    assert [past["name"] for past in document["history"]] == ["v2"]
    assert len((reports / "v3/samples.jsonl").read_text().splitlines()) == 200


def test_the_same_card_again_without_running_anything(gated: Project) -> None:
    """Folder, name and digest mean the same card; its files are those of the run, to the byte; no engine is asked."""
    reports = gated.path / "reports"
    before = files_of(reports / "v3")
    gated.configure(fail_start="nothing may start")
    digest = json.loads(before["card.json"])["digest"]
    for model in ("runs/v3", "v3", digest.removeprefix("sha256:")[:12]):
        shutil.rmtree(reports)
        done = gated.evalgate("card", model)
        assert done.returncode == 0, done.stderr
        assert files_of(reports / "v3") == before
        assert "reports/v3/index.html" in done.stdout
    assert len(Ledger(gated.path / ".evalgate/ledger.jsonl").entries()) == 6  # two for each of three runs, none since


def test_the_card_stays_what_it_was_when_the_baseline_moves(gated: Project) -> None:
    """Another baseline tomorrow, or a deleted one, changes nothing of what was compared yesterday."""
    before = files_of(gated.path / "reports/v3")
    done = gated.evalgate("accept", "runs/v2", "-m", "better")
    assert done.returncode == 0, done.stderr
    assert gated.evalgate("card", "runs/v3").returncode == 0
    shutil.rmtree(gated.path / "evalsuites")
    assert gated.evalgate("card", "v3").returncode == 0
    after = files_of(gated.path / "reports/v3")
    assert after == before


def test_a_baseline_that_was_scored_again_is_kept_as_it_was_compared(accepted: Project) -> None:
    """A changed scorer makes a view of the baseline's record; the card is made of the view, later as well."""
    accepted.suite("test_arithmetic", SUITE.replace("tolerance=1", "tolerance=2"))
    run = accepted.run("evalsuites", "--model", "runs/v2")
    run.stdout.fnmatch_lines(["*scored again*"])
    before = files_of(accepted.path / "reports/v2")
    shutil.rmtree(accepted.path / "reports")
    assert accepted.evalgate("card", "runs/v2").returncode == 0
    assert files_of(accepted.path / "reports/v2") == before


def test_statements_are_read_as_they_are_now(gated: Project) -> None:
    """What people state may be put right without a run: the card made again says it."""
    statement = gated.path / "evalsuites/model_card.md"
    statement.write_text("## Intended use\n\nSums of small numbers.\n")
    assert gated.run("evalsuites", "--model", "runs/v2", "-q").ret == 0
    assert "Sums of small numbers" in (gated.path / "reports/v2/index.html").read_text()
    statement.write_text("## Intended use\n\nSums of numbers below 25.\n")
    assert gated.evalgate("card", "v2").returncode == 0
    for form in ("index.html", "README.md"):
        text = (gated.path / "reports/v2" / form).read_text()
        assert "below 25" in text
        assert "small numbers" not in text


def test_a_statement_may_be_written_after_the_run(gated: Project) -> None:
    """Where nothing was stated when the gate ran, the card made again says what is stated by now."""
    (gated.path / "evalsuites/model_card.md").write_text("## Intended use\n\nSums of small numbers.\n")
    assert gated.evalgate("card", "v2").returncode == 0
    assert "Sums of small numbers" in (gated.path / "reports/v2/README.md").read_text()


def test_json_goes_to_the_terminal_and_keeps_to_the_schema(gated: Project) -> None:
    """`--json` prints card.json and writes nothing; `--schema` prints what it keeps to."""
    shutil.rmtree(gated.path / "reports")
    document = json.loads(gated.evalgate("card", "v3", "--json").stdout)
    schema = json.loads(gated.evalgate("card", "--schema").stdout)
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(document)
    assert not (gated.path / "reports").exists()


@pytest.mark.parametrize("args", [("--csv",), ("--into", "publish/v3"), ("--attest", "v3.intoto.json")])
def test_json_beside_what_writes_is_refused(gated: Project, args: tuple[str, ...]) -> None:
    """`--json` writes nothing, so what is asked to be written is never left out in silence."""
    done = gated.evalgate("card", "v3", "--json", *args)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--json: writes nothing: run --csv, --into and --attest without it" in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("runs/v1",), "no card of 'runs/v1' is kept here. Gate it: pytest evalsuites/ --model runs/v1"),
        (("nobody",), "'nobody' is no folder and no recorded one"),
        ((), "name a checkpoint: evalgate card runs/v3"),
    ],
)
def test_what_was_never_gated_has_no_card(gated: Project, args: tuple[str, ...], said: str) -> None:
    """Recorded only, unknown, not named: one line and exit code 2."""
    done = gated.evalgate("card", *args)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("what", ["document", "record", "gone"])
def test_damage_is_noticed(gated: Project, what: str) -> None:
    """A changed document, a changed record, a document that is gone: no card, one line, and `verify` says so too."""
    assert gated.evalgate("verify").returncode == 0
    state = gated.path / ".evalgate"
    name = Ledger(state / "ledger.jsonl").entries()[-1].body["card"].removeprefix("sha256:")[:24]
    document = state / f"cards/{name}.json"
    if what == "document":
        document.write_bytes(document.read_bytes().replace(b'"REGRESSION"', b'"PASS"'))
    elif what == "gone":
        document.unlink()
    else:
        (record,) = state.glob("records/v3-*/arithmetic/*.jsonl")
        record.write_bytes(record.read_bytes().replace(b'"?"', b'"!"', 1))
    (gated.path / "reports/v3/index.html").unlink()
    done = gated.evalgate("card", "v3")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert not (gated.path / "reports/v3/index.html").exists()
    assert gated.evalgate("verify").returncode == 2


def test_records_of_elsewhere_have_cards_that_last(gated: Project, tmp_path: Path) -> None:
    """What `--eval-records` gated is kept beside the verdict: the folder it came from may go."""
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(next((gated.path / ".evalgate/records").glob("v3-*")), elsewhere)
    shutil.rmtree(gated.path / ".evalgate")
    assert gated.run("evalsuites", "--eval-records", str(elsewhere), "-q").ret == 1
    before = files_of(gated.path / "reports/v3")
    shutil.rmtree(elsewhere)
    done = gated.evalgate("card", "v3")
    assert done.returncode == 0, done.stderr
    assert files_of(gated.path / "reports/v3") == before


def test_a_name_cannot_lead_a_card_out_of_the_reports(gated: Project, tmp_path: Path) -> None:
    """A record says what its checkpoint is called; whatever that is, the card lies below the reports."""
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(next((gated.path / ".evalgate/records").glob("v3-*")), elsewhere)
    (record,) = read_records(str(elsewhere))
    for old in elsewhere.rglob("*.jsonl"):
        old.unlink()
    Store(elsewhere).write(replace(record, checkpoint={**record.checkpoint, "name": "../../outside"}))
    gated.run("evalsuites", "--eval-records", str(elsewhere), "-q")
    (page,) = (path for path in gated.path.rglob("index.html") if "outside" in str(path))
    assert page.parent.parent == gated.path / "reports"
    assert not list(gated.path.parent.glob("outside*"))


@pytest.mark.parametrize(
    ("front", "said"),
    [
        ("license: [", "its front matter is no YAML"),
        ("licence: mit", "licence"),
        ("eval_datasets: {arithmetic/addition: {id: org/name, task_id: sums}}", "names no metric"),
    ],
)
def test_a_wrong_statement_is_found_before_anything_runs(gated: Project, front: str, said: str) -> None:
    """What people wrote wrong is one line and exit code 4, and no engine was started for it."""
    gated.configure(fail_start="nothing may start")
    (gated.path / "evalsuites/model_card.md").write_text(f"---\n{front}\n---\n")
    run = gated.run("evalsuites", "--model", "runs/v1")
    assert run.ret == 4
    run.stderr.fnmatch_lines([f"*model_card.md*{said}*"])
