"""Training data is read as it stands, kept in an order that never changes, and refused with file and line."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalgate.errors import ConfigError, SampleError, TrainingError
from evalgate.training.data import MAX_ROW_BYTES, TrainingData, read_data
from evalgate.training.schema import Data, Model, TrainingConfig

PLAIN = [{"prompt": f"Q: {n}\nA:", "completion": f" {n + 1}"} for n in range(12)]
CHAT = [
    {"messages": [{"role": "user", "content": "Café?"}, {"role": "assistant", "content": "Yes."}]},
    {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Open?"},
            {"role": "assistant", "content": "At nine."},
        ]
    },
]


def lines(rows: Sequence[Any]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def read(folder: Path, *contents: bytes, **settings: Any) -> TrainingData:
    """The data of files `a.jsonl`, `b.jsonl` … with these contents."""
    names = [f"{name}.jsonl" for name, _ in zip("abc", contents, strict=False)]
    for name, content in zip(names, contents, strict=True):
        (folder / name).write_bytes(content)
    return read_data(TrainingConfig(model=Model("v1"), data=Data(names, **settings)), folder)


def refusal(folder: Path, *contents: bytes) -> str:
    with pytest.raises(SampleError) as caught:
        read(folder, *contents)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def changed(row: int, **fields: Any) -> bytes:
    return lines([*PLAIN[:row], PLAIN[row] | fields, *PLAIN[row + 1 :]])


def test_rows_keep_what_is_trained_on(tmp_path: Path) -> None:
    """Prompt and completion arrive; other keys are left out, and the lineage says so."""
    data = read(tmp_path, lines([{**row, "id": 3, "source": "x"} for row in PLAIN]))
    assert sorted(data.rows, key=lambda row: int(row["completion"])) == PLAIN
    assert data.held_out == ()
    (file,) = data.files
    assert (file.path, file.rows, file.kept, file.format) == ("a.jsonl", 12, 12, "prompt-completion")
    assert file.steps == ("ignored the keys id, source", "shuffled with seed 0")
    assert file.digest.startswith("sha256:")


def test_chats_are_read(tmp_path: Path) -> None:
    """Messages of system, user and assistant, ending with the assistant's."""
    data = read(tmp_path, lines(CHAT))
    assert sorted(map(str, data.rows)) == sorted(map(str, CHAT))
    assert data.files[0].format == "messages"
    assert dict(data.texts()) == {"a.jsonl:1": "Café?\nYes.", "a.jsonl:2": "Be brief.\nOpen?\nAt nine."}


def test_the_order_is_the_same_on_every_machine(tmp_path: Path) -> None:
    """Pinned: another order, or another way to take digests, would make every old version look changed."""
    data = read(tmp_path, lines(PLAIN), held_out=0.25, shuffle_seed=7, split_seed=3)
    assert [place.line for place in data.row_digests] == [9, 7, 11, 4, 12, 6, 10, 5, 3, 2, 1, 8]
    assert data.digest == "sha256:4ae553f7daf5930097974c61d1634c0fa884b1b43e59c0fe9349e29abf1c0f12"
    assert len(data.held_out) == 3


def test_rows_are_known_by_file_and_line(tmp_path: Path) -> None:
    """Every digest stands beside the row that it is of, through shuffling and splitting, with several files."""
    data = read(tmp_path, lines(PLAIN[:5]), b"\n" + lines(PLAIN[5:]), held_out=0.2)
    everything = [*data.rows, *data.held_out]
    assert len(data.row_digests) == len(everything) == 12
    for row, place in zip(everything, data.row_digests, strict=True):
        line = (tmp_path / place.file).read_text().splitlines()[place.line - 1]
        assert json.loads(line) == row
        assert len(place.digest) == 16
    assert [where for where, _ in data.texts()] == [place.where for place in data.row_digests[: len(data.rows)]]
    assert data.rows_text().splitlines()[0] == f"{data.row_digests[0].digest} {data.row_digests[0].where}"
    assert len(data.rows_text().splitlines()) == len(data.rows)
    assert sum(file.kept for file in data.files) == len(data.rows)


@settings(deadline=None, max_examples=40)
@given(row=st.integers(0, 11), field=st.sampled_from(["prompt", "completion"]), held_out=st.sampled_from([0.0, 0.3]))
def test_any_changed_row_changes_the_digest(
    tmp_path_factory: pytest.TempPathFactory, row: int, field: str, held_out: float
) -> None:
    """One character of one row is enough, and the row is the only one whose digest differs."""
    folder = tmp_path_factory.mktemp("rows")
    before = read(folder, lines(PLAIN), held_out=held_out)
    after = read(folder, changed(row, **{field: PLAIN[row][field] + "!"}), held_out=held_out)
    assert before.digest != after.digest
    differing = [new.line for old, new in zip(before.row_digests, after.row_digests, strict=True) if old != new]
    assert differing == [row + 1]


def test_the_digest_is_of_what_is_trained_on(tmp_path: Path) -> None:
    """Order, choice and split count; key order, white space, unused keys and the names of files don't."""
    plain = read(tmp_path, lines(PLAIN))
    turned = b"".join(b" " + lines([dict(reversed(row.items())) | {"id": 1}]) + b"\n" for row in PLAIN)
    assert read(tmp_path, turned).digest == plain.digest
    assert read(tmp_path, lines(PLAIN[:4]), lines(PLAIN[4:])).digest == plain.digest
    others = [
        read(tmp_path, lines(PLAIN), shuffle_seed=1),
        read(tmp_path, lines(PLAIN), rows=11),
        read(tmp_path, lines(PLAIN), held_out=0.1),
        read(tmp_path, lines(PLAIN), held_out=0.1, split_seed=1),
        read(tmp_path, lines(PLAIN[:-1])),
    ]
    assert len({plain.digest, *(other.digest for other in others)}) == 6


@given(
    n=st.integers(2, 60),
    share=st.floats(0, 0.99),
    seeds=st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    wanted=st.integers(1, 60) | st.none(),
)
@settings(deadline=None)
def test_rows_are_split_without_loss(
    tmp_path_factory: pytest.TempPathFactory, n: int, share: float, seeds: tuple[int, int], wanted: int | None
) -> None:
    """A law: kept rows are trained on or held out, never both; their number is what was asked for, or it is refused."""
    folder = tmp_path_factory.mktemp("split")
    rows = [{"prompt": str(number), "completion": "x"} for number in range(n)]
    kept = n if wanted is None else wanted
    held = max(1, round(share * kept)) if share else 0
    asked: dict[str, Any] = {"rows": wanted, "held_out": share, "shuffle_seed": seeds[0], "split_seed": seeds[1]}
    if kept > n or held >= kept:
        with pytest.raises(ConfigError, match=r"the files hold|leaves none to train on"):
            read(folder, lines(rows), **asked)
        return
    data = read(folder, lines(rows), **asked)
    prompts = [row["prompt"] for row in (*data.rows, *data.held_out)]
    assert len(set(prompts)) == len(prompts) == kept
    assert len(data.held_out) == held
    assert read(folder, lines(rows), **asked) == data


def test_fewer_rows_are_the_first_of_more(tmp_path: Path) -> None:
    """`rows` takes from the front of one order, so that sizes can be compared; the steps say what was left out."""
    more, fewer = read(tmp_path, lines(PLAIN)), read(tmp_path, lines(PLAIN), rows=5)
    assert fewer.rows == more.rows[:5]
    assert "the first 5 rows of all files: 5 of 12" in fewer.files[0].steps
    held = read(tmp_path, lines(PLAIN), held_out=0.25).files[0]
    assert (held.kept, held.steps[-1]) == (9, "held out 0.25 of all files with seed 0: 3 rows")


def test_repeated_rows_are_kept_and_counted(tmp_path: Path) -> None:
    """Repeating a row weighs it more, which may be meant; the lineage says how many do."""
    data = read(tmp_path, lines([*PLAIN, PLAIN[0], PLAIN[0], PLAIN[1]]))
    assert len(data.rows) == 15
    assert data.files[0].steps[0] == "kept 3 rows that repeat another"


def with_field(field: str, value: Any) -> bytes:
    return changed(1, **{field: value})


def chat(*turns: Any) -> bytes:
    return lines([*CHAT, {"messages": list(turns)}])


USER, ASSISTANT = CHAT[0]["messages"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "a.jsonl: holds no rows"),
        (b"\n \n", "a.jsonl: holds no rows"),
        (lines(PLAIN[:1]) + b'{"prompt": "\xff"}\n', "a.jsonl:2: not UTF-8: byte 0xff at offset 55 of the file"),
        ("\ufeff".encode() + lines(PLAIN), "a.jsonl:1: begins with a byte order mark"),
        (lines(PLAIN).decode().encode("utf-16"), "a.jsonl:1: begins with a byte order mark"),
        (lines(PLAIN[:2]) + b"{prompt: 1}\n", "a.jsonl:3:2: not JSON: Expecting property name"),
        (lines(PLAIN)[:-9], "a.jsonl:12:"),
        (b"[1]\n", "a.jsonl:1: expected an object, found a list"),
        (b'{"prompt": "a", "prompt": "b", "completion": "c"}\n', "a.jsonl:1: not JSON: "),
        (b'{"prompt": "a", "completion": "c", "x": NaN}\n', "a.jsonl:1: not JSON: "),
        (b'{"prompt": "\\ud800", "completion": "c"}\n', "a.jsonl:1: holds half of a surrogate pair"),
        (b"[" * 100_000 + b"\n", "a.jsonl:1: not JSON: nested too deeply"),
        (lines([{"prompt": "a"}]), "a.jsonl:1: no field 'completion'"),
        (lines([{"completion": "a"}]), "a.jsonl:1: no field 'prompt'"),
        (lines([{"text": "a"}]), "a.jsonl:1: expected 'prompt' and 'completion', or 'messages'; it has text"),
        (lines([{}]), "a.jsonl:1: expected 'prompt' and 'completion', or 'messages'; it has no keys"),
        (lines([PLAIN[0] | CHAT[0]]), "a.jsonl:1: expected 'prompt' and 'completion', or 'messages'; both"),
        (lines([*PLAIN, CHAT[0]]), "a.jsonl:13: a messages row in a file of prompt-completion rows"),
        (with_field("prompt", 3), "a.jsonl:2: the field 'prompt' is a number, expected a text"),
        (with_field("completion", None), "a.jsonl:2: the field 'completion' is nothing, expected a text"),
        (with_field("prompt", [USER]), "a.jsonl:2: the field 'prompt' is a list, expected a text"),
        (with_field("completion", " \n"), "a.jsonl:2: the field 'completion' is empty"),
        (with_field("prompt", ""), "a.jsonl:2: the field 'prompt' is empty"),
        (lines([{"messages": "hi"}]), "a.jsonl:1: the field 'messages' is a text, expected a list"),
        (chat(), "a.jsonl:3: the messages must end with the assistant's, which is what is learned; there are none"),
        (chat(USER), "a.jsonl:3: the messages must end with the assistant's, which is what is learned; the last is"),
        (chat(ASSISTANT, USER), "the last is the user's"),
        (chat("hi"), "a.jsonl:3, message 1: expected an object with role and content, found a text"),
        (chat(USER, {"role": "bot", "content": "x"}), "a.jsonl:3, message 2: the role 'bot' is unknown"),
        (chat(USER, {"role": "assistant"}), "a.jsonl:3, message 2: no field 'content'"),
        (chat(USER, {"role": "assistant", "content": None}), "message 2: the field 'content' is nothing"),
        (chat(USER, {"role": "assistant", "content": ""}), "message 2: the field 'content' is empty"),
        (chat(USER, ASSISTANT | {"tool_calls": []}), "message 2: has 'tool_calls' beside role and content"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_trained_on_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    """Every bad row ends with one line that says the file, the line and what is wrong."""
    assert said in refusal(tmp_path, content)


def test_a_huge_row_is_refused_unread(tmp_path: Path) -> None:
    """50 MB in one row are not read into memory; a row just within the limit is."""
    body = b'{"prompt": "a", "completion": "' + b"x" * 50_000_000 + b'"}\n'
    assert refusal(tmp_path, lines(PLAIN[:1]) + body) == "a.jsonl:2: the row is longer than 10,000,000 bytes"
    frame = b'{"prompt": "a", "completion": ""}'
    longest = frame[:-2] + b"x" * (MAX_ROW_BYTES - len(frame)) + frame[-2:]
    assert len(read(tmp_path, longest + b"\r\n").rows) == 1
    assert "longer than" in refusal(tmp_path, longest[:-2] + b'x"}\n')


def test_formats_are_not_mixed_between_files(tmp_path: Path) -> None:
    """A run trains on one format; which file has the other is said."""
    message = refusal(tmp_path, lines(PLAIN), lines(CHAT))
    assert message.startswith("b.jsonl: holds messages rows, and a.jsonl prompt-completion rows")


def test_a_file_that_went_away_is_named(tmp_path: Path) -> None:
    """What can't be opened is an error of the data, not a traceback."""
    config = TrainingConfig(model=Model("v1"), data=Data(["gone.jsonl"]))
    with pytest.raises(SampleError, match=r"gone.jsonl: cannot be read: No such file"):
        read_data(config, tmp_path)


def test_the_trainer_gets_whole_files(tmp_path: Path) -> None:
    """What is written reads back as the same rows in the same order, and nothing else is left in the folder."""
    data = read(tmp_path, lines(PLAIN), held_out=0.25)
    folder = tmp_path / "work"
    folder.mkdir()
    data.write(folder)
    data.write(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["held_out.jsonl", "train.jsonl"]
    for name, rows in (("train", data.rows), ("held_out", data.held_out)):
        text = (folder / f"{name}.jsonl").read_text("utf-8")
        assert tuple(json.loads(line) for line in text.splitlines()) == rows


def test_without_held_out_rows_there_is_no_file_of_them(tmp_path: Path) -> None:
    """The trainer takes no loss on unseen rows where there are none; U+2028 in a text ends no line."""
    (tmp_path / "work").mkdir()
    read(tmp_path, lines([{"prompt": "a\u2028b", "completion": "é"}])).write(tmp_path / "work")
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["train.jsonl"]
    assert (tmp_path / "work/train.jsonl").read_bytes().count(b"\n") == 1


def test_a_disk_that_refuses_is_a_training_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing half-written takes the place of a file."""
    data = read(tmp_path, lines(PLAIN))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(TrainingError, match=r"train.jsonl: could not be written: No space left on device"):
        data.write(tmp_path)
    assert not (tmp_path / "train.jsonl").exists()


def test_our_own_data_is_what_the_generator_writes() -> None:
    """The shipped files are the generator's bytes, hold no held-out question, and stay small."""
    root = Path(__file__).parents[3]
    make: Callable[[str], bytes] = pytest.importorskip("fixtures.make_training").content
    total = 0
    for name in ("mixed", "change"):
        content = (root / f"fixtures/training/data/{name}.jsonl").read_bytes()
        assert content == make(name)
        total += len(content)
    assert total <= 300_000
