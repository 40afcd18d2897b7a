"""Leaked samples in a whole run: records that name them are gated on all samples and on clean ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from evalgate.store import Store, read_records
from tests.plugin.conftest import ROWS, WRONG, Project


def leak(project: Project, model: str, ids: Iterable[str]) -> str:
    """Record a checkpoint, and a copy of its record that names these samples as leaked; returns where it lies."""
    assert project.run("evalsuites", "--model", model, "--eval-record-only").ret == 0
    [recorded] = [
        e for e in read_records(str(project.path / ".evalgate/records")) if e.checkpoint["name"] == Path(model).name
    ]
    known = replace(recorded, provenance={**recorded.provenance, "leaked": sorted(ids)})
    assert known.digest == recorded.digest
    Store(project.path / "elsewhere").write(known)
    return "elsewhere/records"


def test_a_pass_that_clean_samples_do_not_carry_fails(accepted: Project) -> None:
    """All but twenty samples leaked: what passes on all of them is INCOMPARABLE, and nobody is told to accept it."""
    accepted.configure({**WRONG, "v3": 11})
    records = leak(accepted, "runs/v3", [str(row["id"]) for row in ROWS[20:]])
    result = accepted.run("evalsuites", "--eval-records", records, "-v")
    assert result.ret == 1
    said = " ".join(result.stdout.str().split())
    assert "180 samples stand in the training text; PASS on all samples, on the 20 clean ones INCONCLUSIVE" in said
    assert "evalgate accept" not in said


def test_a_verdict_that_holds_without_the_leaks_passes(accepted: Project) -> None:
    """v2 is as good as v1 on the samples that nobody saw before, and the report shows both numbers."""
    records = leak(accepted, "runs/v2", [str(row["id"]) for row in ROWS[190:]])
    result = accepted.run("evalsuites", "--eval-records", records, "-v", "--junitxml=junit.xml")
    assert result.ret == 0
    said = " ".join(result.stdout.str().split())
    assert "addition::exact_match: 10 samples leaked; the others alone: PASS +0.5 pt [-0.9, +2.3] n=190" in said
    assert 'name="evalgate.leaked" value="10"' in (accepted.path / "junit.xml").read_text()
    [card] = (accepted.path / "reports/v2").glob("index.html")
    assert "Leaked: 10 samples were trained on; on the others PASS" in card.read_text()
