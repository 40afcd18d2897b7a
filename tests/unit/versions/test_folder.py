"""A version on disk: what it says, in which order it is listed, and that every changed byte is found."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evalgate.errors import RecordError
from evalgate.version import LINEAGE, lineage_from_json
from evalgate.versions import list_versions, next_name, read_lineage, verify, version_folders
from tests.unit.tiny_versions import PARENT, make_project, spoil, training, version


@pytest.fixture(scope="module")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_project(tmp_path_factory.mktemp("versions") / "project")
    return version(root, training=training(), parent=PARENT, extra={"evalgate.rows.txt": b"0 a:1\n"})


@pytest.fixture
def made(_made: Path, tmp_path: Path) -> Path:
    """A version of one's own."""
    (folder := tmp_path / "runs/v1").mkdir(parents=True)
    for path in _made.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_a_flipped_bit_in_any_file_is_found(made: Path) -> None:
    """100 random bits of random files, one at a time: each is named; nothing else is."""
    dice = random.Random(1)
    assert verify(made) == []
    files = sorted(path for path in made.iterdir() if path.name != LINEAGE)
    for _ in range(100):
        path = dice.choice(files)
        content = path.read_bytes()
        place = dice.randrange(len(content))
        spoil(path, content[:place] + bytes([content[place] ^ 1 << dice.randrange(8)]) + content[place + 1 :])
        (problem,) = verify(made)
        assert problem.startswith(str(path))
        assert "was changed after publishing" in problem
        path.write_bytes(content)


def test_missing_and_added_files_are_found(made: Path) -> None:
    """A file that went and files that came are named, in folders too, whatever their names hold."""
    (made / "evalgate.rows.txt").unlink()
    (made / "sub").mkdir()
    (made / "sub/new\nline").write_text("")
    (made / "link").symlink_to("nowhere")
    problems = verify(made)
    assert [problem.split(": ", 1)[1].split(".")[0] for problem in problems] == [
        "is missing",
        "was added after publishing",
        "was added after publishing",
    ]
    assert not any("\n" in problem for problem in problems)


def test_a_file_replaced_by_a_pipe_is_told_and_never_waited_for(made: Path) -> None:
    """A pipe or a link in a file's place is a problem, not a hang."""
    (made / "evalgate.rows.txt").unlink()
    os.mkfifo(made / "evalgate.rows.txt")
    assert "is no regular file" in verify(made)[0]
    (made / LINEAGE).rename(made / "other")
    (made / LINEAGE).symlink_to("other")
    with pytest.raises(RecordError, match="could not be read"):
        read_lineage(made)


def test_a_renamed_version_is_told(made: Path) -> None:
    """A folder under another name than it was published with still loads, and verify says so."""
    other = made.rename(made.with_name("v9"))
    assert read_lineage(other).name == "v1"
    assert "was published as 'v1'" in verify(other)[0]


def test_versions_are_listed_in_natural_order(tmp_path: Path, made: Path) -> None:
    """v2 before v10; links, hidden folders, files and folders without evalgate.json are no versions."""
    runs = made.parent
    for name in ("v10", "v2", "v2-epoch-1", "b", ".staging-1", "plain"):
        (runs / name).mkdir()
        if name != "plain":
            (runs / name / LINEAGE).write_bytes((made / LINEAGE).read_bytes())
    (runs / "champion").symlink_to("v2")
    (runs / "v77").write_text("")
    assert [path.name for path in version_folders(runs)] == ["b", "v1", "v2", "v2-epoch-1", "v10"]
    assert [lineage.name for _, lineage in list_versions(runs)] == ["v1"] * 5
    assert next_name(runs) == "v78"
    assert version_folders(tmp_path / "nothing") == ()
    assert next_name(tmp_path / "nothing") == "v1"


def _without(value: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: below for key, below in value.items() if key != name}


DAMAGED: dict[str, Callable[[dict[str, Any]], str]] = {
    "cut": lambda v: json.dumps(v)[:200],
    "no JSON": lambda v: "{",
    "no object": lambda v: "[]",
    "a number": lambda v: "7",
    "deep": lambda v: "[" * 100_000,
    "twice": lambda v: json.dumps(v)[:-1] + ', "name": "v2"}',
    "newer": lambda v: json.dumps(v | {"format": 2}),
    "format of text": lambda v: json.dumps(v | {"format": "1"}),
    "no name": lambda v: json.dumps(_without(v, "name")),
    "no files": lambda v: json.dumps(_without(v, "files")),
    "files of numbers": lambda v: json.dumps(v | {"files": {"a": 1}}),
    "files in a list": lambda v: json.dumps(v | {"files": ["a"]}),
    "name of a number": lambda v: json.dumps(v | {"name": 3}),
    "kind": lambda v: json.dumps(v | {"kind": "half"}),
    "base": lambda v: json.dumps(v | {"base": {"digest": 1}}),
    "parent": lambda v: json.dumps(v | {"parent": {"name": "a"}}),
    "parent of text": lambda v: json.dumps(v | {"parent": "v0"}),
    "losses": lambda v: json.dumps(v | {"training": v["training"] | {"losses": 3}}),
    "NaN": lambda v: json.dumps(v | {"epoch": float("nan")}),
    "leaked": lambda v: json.dumps(v | {"training": v["training"] | {"leaked": {"a/b": 3}}}),
    "rows": lambda v: json.dumps(
        v | {"training": v["training"] | {"data": [v["training"]["data"][0] | {"rows": "1"}]}}
    ),
    "losses of text": lambda v: json.dumps(v | {"training": v["training"] | {"losses": ["low"]}}),
    "epoch": lambda v: json.dumps(v | {"epoch": "two"}),
    "config": lambda v: json.dumps(v | {"training": v["training"] | {"config": {"lora": {"r": 99}}}}),
    "data": lambda v: json.dumps(v | {"training": v["training"] | {"data": [{"path": "x"}]}}),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_lineage_is_one_line(made: Path, damage: str) -> None:
    """Whatever is wrong with evalgate.json is a RecordError of one line that names the file, for verify too."""
    value = json.loads((made / LINEAGE).read_text())
    (made / LINEAGE).write_text(DAMAGED[damage](value))
    with pytest.raises(RecordError) as caught:
        read_lineage(made)
    assert str(caught.value).startswith(str(made / LINEAGE))
    assert "\n" not in str(caught.value)
    assert verify(made) == [str(caught.value)]


def test_a_lineage_that_is_no_text_is_one_line(made: Path) -> None:
    """Bytes that are no UTF-8, and a file that is not there."""
    (made / LINEAGE).write_bytes(b"\xff\xfe{}")
    with pytest.raises(RecordError, match="is no JSON"):
        read_lineage(made)
    (made / LINEAGE).unlink()
    with pytest.raises(RecordError, match="no published version"):
        read_lineage(made)


def test_a_lineage_reads_back(made: Path) -> None:
    """What was written is what is read."""
    lineage = read_lineage(made)
    assert lineage_from_json(json.loads(json.dumps(lineage.as_json())), "x") == lineage
    assert lineage.training == training()
