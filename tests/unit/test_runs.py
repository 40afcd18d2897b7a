"""Listing, filtering and showing versions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalgate.errors import ConfigError, RecordError
from evalgate.promote import promote
from evalgate.runs import COLUMNS, Run, describe, list_runs, one_run, row, where
from evalgate.version import LINEAGE
from tests.unit.tiny_versions import PARENT, judge, ledger_of, make_project, spoil, training, version


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """v1 passed and is champion, v2 is blocked, v3 was judged in part, v4 and v5 never; v5 says nothing of itself."""
    root = make_project(tmp_path_factory.mktemp("runs") / "project")
    folders = [
        version(root, rank=4, training=training(losses=(2.0, 0.25), lora__r=4), parent=PARENT, epoch=1.0, why="small"),
        version(root, rank=8, training=training(losses=(2.0, 0.5), lora__r=8), parent=PARENT, epoch=2.0, why="large"),
        version(root, rank=2, training=training(lora__r=2)),
        version(root, rank=2, value=0.5, training=training(lora__r=2)),
        version(root, rank=3),
    ]
    judge(root, folders[0], "REGRESSION")
    judge(root, folders[0])
    judge(root, folders[1])
    judge(root, folders[1], "REGRESSION")
    judge(root, folders[2], partial=["facts/facts::exact_match"])
    promote(
        folders[0], "champion", ledger=ledger_of(root), verdict=one_run("v1", root / "runs", ledger_of(root)).verdict
    )
    return root


@pytest.fixture(scope="module")
def runs(root: Path) -> list[Run]:
    found, problems = list_runs(root / "runs", ledger_of(root))
    assert problems == []
    return found


def names(runs: list[Run]) -> list[str]:
    return [run.folder.name for run in runs]


def test_the_newest_verdict_of_the_content_counts(runs: list[Run]) -> None:
    """Passed after it was blocked, blocked after it passed, partial is no pass, none is none."""
    assert names(runs) == ["v1", "v2", "v3", "v4", "v5"]
    assert [str(run.verdict) if run.verdict else None for run in runs] == [
        "passed",
        "blocked (REGRESSION)",
        "partial",
        None,
        None,
    ]
    assert [run.facts()["passed"] for run in runs] == [True, False, False, False, False]
    assert runs[1].verdict is not None
    assert runs[1].verdict.failing == {"arithmetic/addition::exact_match": "REGRESSION"}


def test_the_table_says_what_people_ask_first(runs: list[Run]) -> None:
    """Name, parent, method, rank from the weights, learning rate, epochs, loss, verdict, aliases, why."""
    first, last = (dict(zip(COLUMNS, row(run), strict=True)) for run in (runs[0], runs[-1]))
    created = runs[0].lineage.created[:16]
    assert tuple(first.values()) == (
        *("v1", "base", "lora", "4", "0.0002", "1", "0.250", "passed", "champion", "small", created),
    )
    assert (last["r"], last["method"], last["lr"], last["loss"]) == ("3", "adapter", "-", "-")


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("passed", ["v1"]),
        ("lora.r==8", ["v2"]),
        ("lora.r==8 and passed", []),
        ("lora.r >= 4", ["v1", "v2"]),
        ("not lora.r > 2", ["v3", "v4", "v5"]),
        ("rank == 3", ["v5"]),
        ("loss < 0.4", ["v1"]),
        ("loss < 0.4 or blocked", ["v1", "v2"]),
        ("'champion' in aliases", ["v1"]),
        ("parent.name == 'base' and epoch > 1", ["v2"]),
        ("why == 'large'", ["v2"]),
        ("verdict == 'REGRESSION'", ["v2"]),
        ("verdict == none", ["v4", "v5"]),
        ("name.startswith('v')", ["v1", "v2", "v3", "v4", "v5"]),
        ("optimizer.learning_rate == 2e-4 and held_out_loss > 0", []),
        ("code.commit == 'x'", []),
    ],
)
def test_conditions_filter(runs: list[Run], expression: str, expected: list[str]) -> None:
    """Over the configuration's keys and what is known; what a version does not say is never true of it."""
    assert names(where(runs, expression)) == expected


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("lorra.r == 8", "Did you mean lora?"),
        ("lora.rr == 8", "Did you mean lora.r?"),
        ("learning_rate < 1", "Did you mean optimizer.learning_rate?"),
        ("pased", "Did you mean passed?"),
        ("lora.r ==", "is no condition"),
        ("", "is no condition"),
        ("name > 3", "is no condition"),
        ("1 / 0", "is no condition"),
        ("name.nonsense()", "is no condition"),
        ("name.__class__.__mro__", "is no condition"),
        ("passed }} {{ 1", "is no condition"),
        ("range(3)", "nothing is called 'range'"),
        ("passed | nofilter", "is no condition"),
    ],
)
def test_a_bad_condition_is_one_line(runs: list[Run], expression: str, said: str) -> None:
    """An unknown name is told with the nearest one, anything else in one line; names also where there is no version."""
    for some in (runs, []) if "called" in said or "mean" in said else (runs,):
        with pytest.raises(ConfigError) as caught:
            where(some, expression)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)


@given(st.text(max_size=30))
def test_any_text_is_a_condition_or_one_line(expression: str) -> None:
    """Whatever is typed: an answer or a ConfigError, never another exception."""
    try:
        where([], expression)
    except ConfigError as error:
        assert "\n" not in str(error)  # noqa: PT017


def test_a_version_is_found_by_name_alias_and_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a near miss is named."""
    monkeypatch.chdir(root)
    for text in ("v1", "champion", "runs/v1", "runs/champion", str(root / "runs/v1")):
        assert one_run(text, root / "runs", ledger_of(root)).folder == root / "runs/v1"
    with pytest.raises(ConfigError, match="Did you mean champion"):
        one_run("runs/champoin", root / "runs", ledger_of(root))
    with pytest.raises(ConfigError, match="no version in runs/"):
        one_run("lora", root / "runs", ledger_of(root))


def test_one_version_is_shown_in_full(runs: list[Run]) -> None:
    """Digest, parent, base, verdict with its ledger entry, ranks, loss, configuration and data."""
    text = "\n".join(describe(runs[0]))
    for part in (runs[0].lineage.digest, "base (base)", "champion", "passed at", "q_proj 4", "0.2500 after 2 steps"):
        assert part in text
    assert "data/a.jsonl (3 of 3 rows)" in text
    assert '"r": 4' in text
    assert "seconds" not in "\n".join(describe(runs[-1]))


def test_runs_are_json(runs: list[Run]) -> None:
    """What machines get holds the lineage, the verdict, aliases and ranks."""
    first = json.loads(json.dumps([run.as_json() for run in runs]))[0]
    assert first["training"]["config"]["lora"]["r"] == 4
    assert first["verdict"]["passed"] is True
    assert (first["aliases"], first["parameters"]) == (["champion"], 4 * 36)
    assert set(first["lora_ranks"].values()) == {4}


def test_a_damaged_version_hides_no_other(tmp_path: Path) -> None:
    """It is told in one line beside the list; asked for by name it is an error."""
    root = make_project(tmp_path / "project")
    one, two = version(root), version(root)
    spoil(one / LINEAGE, b"{}")
    spoil(two / "adapter_model.safetensors", b"")
    found, problems = list_runs(root / "runs", ledger_of(root))
    assert names(found) == ["v2"]
    assert row(found[0])[3] == "-"
    (problem,) = problems
    assert str(one / LINEAGE) in problem
    with pytest.raises(RecordError):
        one_run("v1", root / "runs", ledger_of(root))


def test_no_folder_is_no_version(tmp_path: Path) -> None:
    """A project that never trained has an empty list."""
    assert list_runs(tmp_path / "runs", ledger_of(tmp_path)) == ([], [])
