"""Aliases: only what passes is promoted, every move is in the journal, and going back never goes forth."""

from __future__ import annotations

import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evalgate.errors import ConfigError, InputError, RecordError
from evalgate.ledger import Ledger
from evalgate.preflight import read_checkpoint, resolve_model
from evalgate.promote import Aliases, Move, promote, rollback
from evalgate.records import Library
from evalgate.runs import one_run
from evalgate.store import Header
from evalgate.version import LINEAGE
from evalgate.versions import linked, point, version_folders
from tests.unit.tiny_versions import judge, ledger_of, make_project, spoil, version


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three versions, each with a verdict that passes."""
    root = make_project(tmp_path / "project")
    for value in (0.25, 0.5, 0.75):
        judge(root, version(root, value=value))
    return root


def move(root: Path, name: str, alias: str = "champion", *, force: bool = False, why: str = "") -> Move:
    """Promote a version by its newest verdict in the ledger."""
    run = one_run(name, root / "runs", ledger_of(root))
    return promote(run.folder, alias, ledger=ledger_of(root), verdict=run.verdict, force=force, why=why)


def back(root: Path, alias: str = "champion") -> Move:
    """Roll an alias back."""
    return rollback(alias, runs=root / "runs", ledger=ledger_of(root))


def champion(root: Path) -> str | None:
    """Where the alias stands, by the journal, which the link must follow."""
    told = Aliases(root / "runs").current().get("champion")
    assert linked(root / "runs").get("champion") == told
    assert Aliases(root / "runs").problems() == []
    return told


def test_a_promotion_is_a_link_and_two_entries(root: Path) -> None:
    """The relative link, the journal and the project's ledger say the same, with the verdict that it rests on."""
    done = move(root, "v1", why="the first")
    assert (done.version, done.previous, done.moved, done.forced) == ("v1", None, True, False)
    assert os.readlink(root / "runs/champion") == "v1"
    (entry,) = Aliases(root / "runs").journal.entries()
    newest = next(ledger_of(root).newest("promote"))
    assert entry.body == newest.body
    verdict = one_run("v1", root / "runs", ledger_of(root)).verdict
    assert verdict is not None
    assert (entry.kind, entry.body["version"], entry.body["verdict"]) == ("promote", "v1", verdict.entry)
    assert (entry.body["forced"], entry.body["why"]) == (False, "the first")


def test_the_alias_is_a_model(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--model runs/champion` is the version under its own name; the link is no version of the list."""
    monkeypatch.chdir(root)
    move(root, "v2")
    checkpoint = read_checkpoint(resolve_model("runs/champion"))
    assert checkpoint.name == "v2"
    assert checkpoint.digest == done_digest(root, "v2")
    assert [path.name for path in version_folders(root / "runs")] == ["v1", "v2", "v3"]


def done_digest(root: Path, name: str) -> str:
    return one_run(name, root / "runs", ledger_of(root)).lineage.digest


def test_back_goes_one_further_back_each_time(root: Path) -> None:
    """v1, v2, v3; back is v2, back again v1, then there is nothing; a new promotion begins from there."""
    for name in ("v1", "v2", "v3"):
        move(root, name)
    assert (back(root).version, champion(root)) == ("v2", "v2")
    assert (back(root).version, champion(root)) == ("v1", "v1")
    with pytest.raises(ConfigError, match="at nothing before"):
        back(root)
    move(root, "v3")
    assert (back(root).version, champion(root)) == ("v1", "v1")
    kinds = [entry.kind for entry in ledger_of(root).entries() if entry.kind != "verdict"]
    assert kinds == ["promote"] * 3 + ["rollback"] * 2 + ["promote", "rollback"]


def test_promoting_where_it_stands_is_no_move(root: Path) -> None:
    """Nothing is journalled, and going back is not lengthened by it."""
    move(root, "v1")
    assert move(root, "v1").moved is False
    assert len(Aliases(root / "runs").journal.entries()) == 1


MOVES = st.lists(st.tuples(st.sampled_from(["champion", "canary"]), st.sampled_from(["v1", "v2", "v3", "back"])))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=MOVES)
def test_any_sequence_of_moves_is_what_a_stack_says(root: Path, moves: list[tuple[str, str]]) -> None:
    """Whatever is promoted and rolled back, journal, link and both ledgers agree with the simple model."""
    model: dict[str, list[str]] = {"champion": [], "canary": []}
    with tempfile.TemporaryDirectory(dir=root) as folder:
        runs = Path(folder)
        for name in ("v1", "v2", "v3"):
            shutil.copytree(root / "runs" / name, runs / name)
        ledger = Ledger(runs.parent / f"{runs.name}.jsonl")
        known = {name: one_run(name, root / "runs", ledger_of(root)).verdict for name in ("v1", "v2", "v3")}
        for alias, what in moves:
            stack = model[alias]
            if what == "back":
                if len(stack) < 2:
                    with pytest.raises(ConfigError):
                        rollback(alias, runs=runs, ledger=ledger)
                else:
                    stack.pop()
                    assert rollback(alias, runs=runs, ledger=ledger).version == stack[-1]
            else:
                done = promote(runs / what, alias, ledger=ledger, verdict=known[what])
                assert done.moved == (stack[-1:] != [what])
                stack += [what] if done.moved else []
            expected = {name: each[-1] for name, each in model.items() if each}
            assert Aliases(runs).current() == linked(runs) == expected
        assert Aliases(runs).journal.verify() == ledger.verify() == []
        entries = [(e.kind, e.body) for e in ledger.entries()]
        assert entries == [(e.kind, e.body) for e in Aliases(runs).journal.entries()]


def test_what_does_not_pass_is_refused_with_what_is_missing(root: Path) -> None:
    """No verdict, a blocked one, a partial one: each is one line with the command; nothing moves."""
    version(root, rank=3)
    judge(root, root / "runs/v2", "REGRESSION")
    judge(root, root / "runs/v3", partial=["facts/facts::exact_match"])
    version(root, rank=5)
    judge(root, root / "runs/v5", "NO BASELINE")
    for name, said in (
        ("v5", r"NO BASELINE\)\. Accept a baseline, then run: pytest evalsuites/ --model runs/v5"),
        ("v4", r"runs/v4: has no recorded verdict\. Run: pytest evalsuites/ --model runs/v4"),
        ("v2", r"runs/v2: its newest verdict is REGRESSION \(arithmetic/addition::exact_match REGRESSION\)"),
        ("v3", r"PARTIAL: facts/facts::exact_match did not run\. Run all of them: pytest evalsuites/ --model runs/v3"),
    ):
        with pytest.raises(RecordError, match=said) as caught:
            move(root, name)
        assert "--force --why" in str(caught.value)
    assert champion(root) is None
    assert not (root / "runs/aliases.jsonl").exists()


def accepted(root: Path, task: str, record: str, checkpoint: str = "sha256:base") -> dict[str, Header]:
    """A task and its baseline."""
    return {task: Header(root, record, 1, task, {"digest": checkpoint}, (), {})}


def test_a_verdict_must_cover_what_has_a_baseline(root: Path) -> None:
    """A run of one suite alone passes, and yet says nothing of the others."""
    judge(root, root / "runs/v1", baselines={"arithmetic/addition": "sha256:a"})
    run = one_run("v1", root / "runs", ledger_of(root))
    one = accepted(root, "arithmetic/addition", "sha256:a")
    both = one | accepted(root, "facts/facts", "sha256:b")
    with pytest.raises(RecordError, match="facts/facts did not run"):
        promote(run.folder, "champion", ledger=ledger_of(root), verdict=run.verdict, tasks=both)
    assert promote(run.folder, "champion", ledger=ledger_of(root), verdict=run.verdict, tasks=one).moved


def test_a_verdict_must_be_on_the_baselines_that_count(root: Path) -> None:
    """Another line's baseline, or one from before, is no bar; to be the baseline itself is enough."""
    judge(root, root / "runs/v1", baselines={"arithmetic/addition": "sha256:old"})
    run = one_run("v1", root / "runs", ledger_of(root))
    now = accepted(root, "arithmetic/addition", "sha256:new")
    with pytest.raises(RecordError, match="not on the baseline that is accepted now: arithmetic/addition"):
        promote(run.folder, "champion", ledger=ledger_of(root), verdict=run.verdict, tasks=now)
    own = accepted(root, "arithmetic/addition", "sha256:new", run.lineage.digest)
    assert promote(run.folder, "champion", ledger=ledger_of(root), verdict=run.verdict, tasks=own).moved


def test_a_verdict_on_other_content_does_not_count(root: Path) -> None:
    """A version of the same name and path with other weights has no verdict."""
    for path in [*(root / "runs/v1").iterdir()]:
        path.unlink()
    (root / "runs/v1").rmdir()
    version(root, rank=3, name="v1")
    with pytest.raises(RecordError, match="no recorded verdict"):
        move(root, "v1")


def test_force_needs_a_reason_and_is_journalled(root: Path) -> None:
    """Without a reason it is refused; with one the journal says forced and why. What passes is never called forced."""
    version(root, rank=3)
    with pytest.raises(ConfigError, match="needs a reason"):
        move(root, "v4", force=True, why=" ")
    assert move(root, "v4", force=True, why="the gate is down").forced
    assert not move(root, "v1", force=True, why="sure").forced
    bodies = [entry.body for entry in Aliases(root / "runs").journal.entries()]
    assert [(body["forced"], body["why"]) for body in bodies] == [(True, "the gate is down"), (False, "sure")]


@pytest.mark.parametrize("damage", ["weights", "lineage", "added"])
def test_a_changed_version_is_never_promoted(root: Path, damage: str) -> None:
    """Also when forced: its verdict is of other bytes."""
    folder = root / "runs/v1"
    if damage == "added":
        folder.chmod(0o755)
        (folder / "modeling.txt").write_text("")
    else:
        spoil(folder / {"weights": "adapter_model.safetensors", "lineage": LINEAGE}[damage], b"{}")
    with pytest.raises(RecordError) as caught:
        promote(folder, "champion", ledger=ledger_of(root), verdict=None, force=True, why="x")
    assert ".. " not in str(caught.value)  # one full stop before the mend
    assert champion(root) is None


def test_rolling_back_to_what_is_gone_or_changed_is_refused(root: Path) -> None:
    """The version before must be there, of the same content and unchanged; else nothing moves."""
    move(root, "v1")
    move(root, "v2")
    folder = root / "runs/v1"
    good = (folder / "adapter_model.safetensors").read_bytes()
    spoil(folder / "adapter_model.safetensors", good[:-1])
    with pytest.raises(RecordError, match="was changed after publishing"):
        back(root)
    spoil(folder / "adapter_model.safetensors", good)
    folder.chmod(0o755)
    folder.rename(root / "away")
    with pytest.raises(RecordError, match="no published version"):
        back(root)
    version(root, rank=3, name="v1")
    with pytest.raises(RecordError, match="another version than the one that was promoted"):
        back(root)
    assert champion(root) == "v2"


def test_unknown_aliases_and_bad_names_are_one_line(root: Path) -> None:
    """Rolling back what is no alias, and names of versions or none at all."""
    with pytest.raises(ConfigError, match="no alias 'champion'; there are: none yet"):
        back(root)
    move(root, "v1", "canary")
    with pytest.raises(ConfigError, match="there are: canary"):
        back(root)
    for alias in ("v9", "v1", "../x", "", "a b"):
        with pytest.raises(ConfigError):
            move(root, "v1", alias)
    with pytest.raises(ConfigError, match="no folder"):
        rollback("champion", runs=root / "nothing", ledger=ledger_of(root))
    with pytest.raises(InputError):
        promote(root / "lora", "champion", ledger=ledger_of(root), verdict=None)


def test_a_link_that_disagrees_is_told_and_put_right(root: Path) -> None:
    """Moved by hand or lost in a crash: the journal is the truth, and the next move mends the link."""
    move(root, "v1")
    point(root / "runs", "champion", "v3")
    (problem,) = Aliases(root / "runs").problems()
    assert "leads to 'v3', but the journal says 'v1'" in problem
    assert "evalgate promote runs/v1 --as champion" in problem
    assert move(root, "v1").moved is False
    assert champion(root) == "v1"
    (root / "runs/champion").unlink()
    assert len(Aliases(root / "runs").problems()) == 1
    move(root, "v2", "canary")
    assert champion(root) == "v1"


def test_a_crash_between_journal_and_link_is_put_right(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal has the move, the link does not: the error says so, and the same command again ends well."""
    move(root, "v1")

    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("evalgate.versions.aliases.os.symlink", refuse)
        with pytest.raises(RecordError, match="the move itself is in the journal"):
            move(root, "v2")
    assert os.readlink(root / "runs/champion") == "v1"
    move(root, "v2")
    assert champion(root) == "v2"
    told = [entry.body["version"] for entry in ledger_of(root).entries() if entry.kind == "promote"]
    assert told == ["v1", "v2"]


def test_a_damaged_journal_moves_nothing(root: Path) -> None:
    """A changed line, or one that is no move, is an error of one line."""
    move(root, "v1")
    journal = root / "runs/aliases.jsonl"
    good = journal.read_bytes()
    journal.write_bytes(good.replace(b'"v1"', b'"v2"'))
    with pytest.raises(RecordError, match="its hash differs"):
        move(root, "v2")
    with Library(root) as library:
        files, problems, notes = library.verify()
    assert any("its hash differs" in line for line in problems)
    assert (files, len(notes)) == (3, 2)  # everything else is told all the same
    journal.write_bytes(good)
    Ledger(journal).append("rollback", {"alias": "canary", "version": "v1", "digest": "x"})
    with pytest.raises(RecordError, match="is no move of an alias"):
        move(root, "v2")


def test_two_movers_at_once_leave_link_and_journal_agreeing(root: Path) -> None:
    """Many promotions from two threads: the chain holds, and the link is where the journal ends."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda n: move(root, f"v{n % 3 + 1}"), range(30)))
    assert champion(root) in ("v1", "v2", "v3")
    assert Aliases(root / "runs").journal.verify() == []
