"""The drift guard in a clone: the anchor is committed beside the baselines, and a lost one is said."""

from __future__ import annotations

import shutil

import pytest

from tests.plugin.conftest import WRONG, Project

ANCHOR = "evalsuites/baselines/arithmetic/anchors/addition.jsonl"


@pytest.fixture
def drifted(project: Project) -> Project:
    """Six baselines, each a little worse than the one before; v3 is a little worse than the last."""
    steps = {f"step{i}": 10 + 6 * i for i in range(1, 6)}
    project.configure({**WRONG, **steps, "v3": 46})
    for name in steps:
        project.checkpoint(name)
    for name in ("v1", *steps):
        project.accept(f"runs/{name}")
    shutil.rmtree(project.path / ".evalgate")
    return project


def test_small_drops_do_not_add_up_in_a_clone(drifted: Project) -> None:
    """Without any local record: 3 points below the last baseline, 18 below the first, which stops it."""
    assert (drifted.path / ANCHOR).is_file()
    result = drifted.run("evalsuites", "--model", "runs/v3")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*drifted from the anchor*"])


def test_a_lost_anchor_is_said(drifted: Project) -> None:
    """Nobody can say how far the line has drifted, and the summary says that."""
    (drifted.path / ANCHOR).unlink()
    result = drifted.run("evalsuites", "--model", "runs/v3")
    text = " ".join(result.stdout.str().split())
    assert "drifted from the anchor" not in text
    assert "arithmetic/addition: drift from the anchor is not guarded: addition.jsonl is not in anchors/" in text


def test_a_new_anchor_begins_a_new_line(drifted: Project) -> None:
    """By a command with a reason; the old anchor goes, and drift is measured from the new one."""
    drifted.accept("runs/step5", "--new-anchor")
    assert not (drifted.path / ANCHOR).exists()
    result = drifted.run("evalsuites", "--model", "runs/v3")
    assert "drift" not in result.stdout.str()
