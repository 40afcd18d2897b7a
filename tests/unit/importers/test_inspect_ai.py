"""Logs of inspect_ai: real ones of our own model, and every way in which a log may be damaged or unfinished."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from typing import Any
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZIP_STORED

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evalgate.compare import incomparable
from evalgate.errors import MissingExtraError, RecordError
from evalgate.importers import archive
from evalgate.store import parse, serialise
from tests.unit.importers.real import FOREIGN, Json, edit_json, inspect, members, read, zipped

CHAT = [inspect("chat", place=0), inspect("chat", place=1)]
ROUGH = inspect("rough", ".json")
FAILED = inspect("rough", ".eval")


def changed(tmp_path: Path, change: Callable[[Json, list[Json]], object], path: Path = CHAT[0]) -> Path:
    """A copy of a log whose header and samples were changed."""
    content = members(path)
    change(content["header.json"], [value for name, value in content.items() if name.startswith("samples/")])
    return zipped(tmp_path / "changed.eval", content)


# -- what is read -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CHAT, ids=["v1", "v4-full"])
def test_means_are_those_that_the_tool_reported(path: Path) -> None:
    """Both scorers' means over two epochs are the numbers in the log's header, and every question is there."""
    evaluation, header = read(path), members(path)["header.json"]
    told = {score["name"]: score["metrics"] for score in header["results"]["scores"]}
    assert evaluation.mean("exact") == pytest.approx(told["exact"]["mean"]["value"], abs=1e-9)
    assert evaluation.mean("includes") == pytest.approx(told["includes"]["accuracy"]["value"], abs=1e-9)
    assert len(evaluation.rows) == header["eval"]["dataset"]["samples"] == 30
    assert not evaluation.errors


def test_epochs_are_averaged_first() -> None:
    """A question's score is the mean over its epochs; both outputs are kept, and n is the number of epochs."""
    samples = [value for name, value in members(CHAT[1]).items() if name.startswith("samples/")]
    evaluation = read(CHAT[1])
    assert evaluation.sampling["n"] == 2
    halves = 0
    for row in evaluation.rows:
        drawn = sorted((s for s in samples if s["id"] == row.id), key=lambda s: int(s["epoch"]))
        assert row.outputs == tuple(s["output"]["choices"][0]["message"]["content"] for s in drawn)
        assert row.scores["includes"] == fmean(s["scores"]["includes"]["value"] == "C" for s in drawn)
        assert (row.prompt, row.target) == (drawn[0]["input"], drawn[0]["target"])
        halves += row.scores["includes"] == 0.5
    assert halves  # an average, not a vote


def test_a_log_says_how_it_was_drawn() -> None:
    """Settings, solver and task arguments are the sampling; the seed is apart; the tool is the engine."""
    evaluation = read(CHAT[0])
    assert evaluation.task == "inspect/chat"
    assert evaluation.sampling["generate_config"] == {"max_tokens": 48, "temperature": 0.8}
    assert evaluation.sampling["solver"] == [["generate", {"tool_calls": "loop"}]]
    assert evaluation.seed == 7
    assert evaluation.environment["engine"] == {"name": "inspect_ai hf", "version": "0.3.285"}
    assert evaluation.checkpoint["name"] == "v1"
    assert evaluation.checkpoint["identity"]["weights"].startswith("unknown")


def test_two_runs_pair_by_content() -> None:
    """Two models on one task have the same pairs and scorers and are other checkpoints."""
    v1, v4 = read(CHAT[0]), read(CHAT[1])
    assert v1.keys == v4.keys
    assert v1.metrics == v4.metrics
    assert v1.checkpoint["digest"] != v4.checkpoint["digest"]
    assert incomparable(v4, v1, "exact") == ()


def test_a_broken_sample_is_an_error_and_no_zero() -> None:
    """The sample that raised keeps its place with the tool's words on one line, without output or score."""
    evaluation = read(ROUGH)
    (broken,) = evaluation.errors
    assert len(evaluation.rows) == 6
    assert (broken.id, broken.scores, broken.outputs) == ("q5", {}, ())
    assert "the tool of this sample" in (broken.error or "")
    assert parse(serialise(evaluation), "x") == evaluation


def test_no_score_is_an_error_and_no_zero() -> None:
    """What inspect_ai calls unscored is an error once its metric is asked for; the rest has the tool's mean."""
    evaluation = read(ROUGH, directions={"unsure": True})
    assert {row.id for row in evaluation.errors} == {"q3", "q5"}
    assert evaluation.mean("unsure") == pytest.approx(3.141592653589793)


def test_a_scorer_of_several_values_is_several_metrics() -> None:
    """Each entry has its own name; one whose direction nobody knows is left out by name until a person says it."""
    without = read(ROUGH)
    assert [m.name for m in without.metrics] == ["includes", "manners.polite"]
    assert set(without.provenance["left_out"]) == {"manners.length", "unsure"}
    length = read(ROUGH, directions={"manners.length": False}).metric("manners.length")
    assert (length.low, length.high, length.binary, length.higher_is_better) == (None, None, False, False)
    grade = without.metric("manners.polite")
    assert (grade.low, grade.high, grade.binary) == (0, 1, False)  # a grade of its own may be P another time
    assert without.metric("includes").binary


@pytest.mark.parametrize("method", [ZIP_STORED, ZIP_DEFLATED], ids=["stored", "deflated"])
def test_every_form_of_a_log_is_the_same_evaluation(tmp_path: Path, method: int) -> None:
    """One .json, or a zip as older releases packed it, reads as the Zstandard log of today does."""
    content = members(CHAT[0])
    again = read(zipped(tmp_path / "old.eval", content, method))
    whole = {**content["header.json"], "samples": [v for n, v in content.items() if n.startswith("samples/")]}
    (tmp_path / "2026-11-21T05-20-07_chat.json").write_text(json.dumps(whole))
    for other in (again, read(tmp_path / "2026-11-21T05-20-07_chat.json")):
        assert other.digest == read(CHAT[0]).digest


def test_messages_pair_without_their_random_ids(tmp_path: Path) -> None:
    """A chat input is paired by role and content; its prompt reads as a conversation."""

    def chat(mark: str) -> Callable[[Json, list[Json]], object]:
        def change(header: Json, samples: list[Json]) -> None:
            for sample in samples:
                parts = [{"type": "text", "text": sample["input"]}, {"type": "image", "image": "x"}]
                sample["input"] = [
                    {"id": mark, "role": "system", "content": "Be kind."},
                    {"id": mark, "role": "user", "content": parts},
                ]

        return change

    one, other = read(changed(tmp_path, chat("a"))), read(changed(tmp_path, chat("b"), CHAT[1]))
    assert one.keys == other.keys
    assert one.rows[0].prompt.startswith("system: Be kind.\nuser: Hi!")
    assert one.rows[0].prompt.endswith("[image]")


@pytest.mark.parametrize(
    ("value", "mean", "binary"),
    [
        ("C", 1, True),
        ("I", 0, True),
        ("P", 0.5, False),
        ("N", 0, True),
        ("Yes", 1, True),
        ("0.25", 0.25, False),
        (True, 1, True),
        (0.75, 0.75, False),
        (1, 1, True),
    ],
)
def test_grades_count_as_the_tool_counts_them(tmp_path: Path, value: object, mean: float, binary: bool) -> None:
    """Letters, words, truth values and numbers become what inspect_ai makes of them."""

    def grade(header: Json, samples: list[Json]) -> None:
        header["results"]["scores"] = []
        for sample in samples:
            sample["scores"] = {"exact": {"value": value}}

    evaluation = read(changed(tmp_path, grade))
    assert evaluation.mean("exact") == mean
    assert evaluation.metric("exact").binary is binary


@pytest.mark.parametrize("value", ["B", "", [1, 2], float("inf")], ids=["letter", "empty", "list", "infinite"])
def test_a_value_that_the_tool_turns_into_0_is_no_value(tmp_path: Path, value: object) -> None:
    """inspect_ai warns and counts 0; here the metric is left out by name, and the other stays."""

    def grade(header: Json, samples: list[Json]) -> None:
        samples[0]["scores"]["exact"]["value"] = value

    evaluation = read(changed(tmp_path, grade))
    assert [m.name for m in evaluation.metrics] == ["includes"]
    assert "no value that inspect_ai counts" in evaluation.provenance["left_out"]["exact"]


# -- identity ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda header, _: header["eval"].update(task_version=3), "scorer"),
        (lambda header, _: header["eval"]["scorers"][0].update(options={"strict": True}), "scorer"),
        (lambda header, _: header["plan"]["steps"].insert(0, {"solver": "chain_of_thought"}), "sampling.solver"),
        (lambda header, _: header["plan"]["config"].update(temperature=0.1), "sampling.temperature"),
        (lambda header, _: header["eval"].update(task="other"), "task"),
        (lambda header, samples: [s.update(target="?") for s in samples], "coverage"),
        (lambda header, samples: [s.update(choices=["a", "b"]) for s in samples], "coverage"),
        (lambda header, _: header["plan"]["config"].update(max_connections=3), None),
        (lambda header, _: header["eval"].update(model="hf/v9"), None),
    ],
)
def test_what_the_log_says_differs_is_refused(
    tmp_path: Path, change: Callable[[Json, list[Json]], Any], field: str | None
) -> None:
    """Another version, scorer, solver, setting, target or option is named; another model or connection is not."""
    found = [d.field for d in incomparable(read(changed(tmp_path, change)), read(CHAT[1]), "exact")]
    assert (field in found) if field else not found


def test_no_path_is_kept(tmp_path: Path) -> None:
    """Absolute paths of another machine are cut, in the model's arguments as in the task's."""

    def private(header: Json, samples: list[Json]) -> None:
        header["eval"]["model_args"] = {"model_path": "/home/somebody/v9", "api_key": "sk-123"}
        header["eval"]["task_args"] = {"data": "/home/somebody/data.jsonl"}

    record = serialise(read(changed(tmp_path, private))).decode()
    for text in ("somebody", "sk-123", str(tmp_path)):
        assert text not in record


# -- faults -----------------------------------------------------------------------------------------------------------


def test_a_failed_run_is_refused() -> None:
    """The real log of a run that ended with an error names its status and the command that finishes it."""
    with pytest.raises(RecordError, match=r"status is 'error'.*inspect eval-retry"):
        read(FAILED)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda header, _: header.update(status="started"), "status is 'started'"),
        (lambda header, _: header.update(status="cancelled"), "status is 'cancelled'"),
        (lambda header, _: header.update(invalidated=True), "invalidated"),
        (lambda header, _: header.pop("eval"), "has no eval"),
        (lambda header, _: header["eval"].pop("model"), "has no model"),
        (lambda header, _: header["results"].update(total_samples=61), "holds 60 samples, but the run had 61"),
        (lambda header, samples: samples[1].update(id=samples[0]["id"], epoch=1), "appears twice in epoch 1"),
        (lambda header, samples: samples[0].pop("epoch"), "has no epoch"),
        (lambda header, samples: samples[0].update(id=None), "id is None"),
        (lambda header, samples: samples[0].update(scores=["x"]), "AttributeError"),
        (lambda header, samples: samples[0]["scores"]["exact"].update(value="P"), "samples' mean exact is"),
        (lambda header, samples: [s.update(scores={}) for s in samples], "no metric that can be compared"),
        (lambda header, samples: samples[0].update(target=float("nan")), "ValueError"),
    ],
)
def test_a_damaged_log_is_refused(tmp_path: Path, change: Callable[[Json, list[Json]], Any], reason: str) -> None:
    """Each is one line with its place and a mend; unchanged, the same copy is read (the control)."""
    assert read(changed(tmp_path, lambda header, samples: None)).digest == read(CHAT[0]).digest
    path = changed(tmp_path, change)
    with pytest.raises(RecordError, match=reason) as caught:
        read(path)
    assert caught.value.mend
    assert caught.value.where
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_epoch_is_an_error(tmp_path: Path) -> None:
    """A question asked once instead of twice keeps its place and has no score."""
    content = members(CHAT[0])
    name = next(name for name in content if name.startswith("samples/"))
    lost = content.pop(name)["id"]
    content["header.json"]["results"].update(total_samples=59, scores=[])
    evaluation = read(zipped(tmp_path / "x.eval", content))
    assert [row.id for row in evaluation.errors] == [lost]
    assert "1 of 2 epochs" in (evaluation.errors[0].error or "")


def test_a_run_without_a_header_is_unfinished(tmp_path: Path) -> None:
    """Until a run ends its log has no header: it is refused as started."""
    content = {name: value for name, value in members(CHAT[0]).items() if name != "header.json"}
    with pytest.raises(RecordError, match="status is 'started'"):
        read(zipped(tmp_path / "x.eval", content))


def test_a_log_without_samples_is_refused(tmp_path: Path) -> None:
    """--no-log-samples leaves nothing to pair."""
    with pytest.raises(RecordError, match="holds no samples"):
        read(zipped(tmp_path / "x.eval", {"header.json": members(CHAT[0])["header.json"]}))


def test_other_json_is_refused(tmp_path: Path) -> None:
    """A JSON file that is no log says so."""
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(RecordError, match="is no log of inspect_ai"):
        read(tmp_path / "x.json")


def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    """A flipped byte inside a member, and a zip that was cut, are refused; nothing of them is imported."""
    whole = zipped(tmp_path / "x.eval", members(CHAT[0]), ZIP_STORED)
    data = whole.read_bytes()
    whole.write_bytes(data.replace(b'"status": "success"', b'"status": "succesS"'))
    with pytest.raises(RecordError, match="checksum differs"):
        read(whole)
    whole.write_bytes(data[:-200])
    with pytest.raises(RecordError, match="no whole zip"):
        read(whole)


def test_a_zip_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member is unpacked up to a limit, and all of them together up to another, whatever their headers say."""
    log = zipped(tmp_path / "x.eval", members(CHAT[0]))
    for limit, size in (("MAX_MEMBER", 1500), ("MAX_TOTAL", 20_000)):
        for path in (log, CHAT[0]):  # deflate and Zstandard
            with monkeypatch.context() as small:
                small.setattr(archive, limit, size)
                with pytest.raises(RecordError, match="unpacks to more than"):
                    read(path)


def test_a_locked_zip_is_refused(tmp_path: Path) -> None:
    """An encrypted member, and a way of packing that inspect_ai never used, are named."""
    path = zipped(tmp_path / "x.eval", members(CHAT[0]), ZIP_BZIP2)
    with pytest.raises(RecordError, match="method 12"):
        read(path)
    data = bytearray(zipped(tmp_path / "x.eval", members(CHAT[0])).read_bytes())
    for entry in range(len(data)):
        if data[entry : entry + 4] == b"PK\x01\x02":
            data[entry + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(RecordError, match="is encrypted"):
        read(path)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="the standard library reads Zstandard")
def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a reader of Zstandard today's logs name the extra; older logs need none."""
    monkeypatch.setitem(sys.modules, "backports", None)
    with pytest.raises(MissingExtraError, match=r"pytest-evalgate\[inspect\]"):
        read(CHAT[0])
    assert read(ROUGH).task == "inspect/rough"


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_damage_becomes_a_traceback(tmp_path: Path, data: st.DataObject) -> None:
    """A log cut anywhere, or with any byte changed, is refused or read as it was."""
    whole = CHAT[0].read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    rest = b"" if data.draw(st.booleans()) else bytes([data.draw(st.integers(0, 255))]) + whole[place + 1 :]
    (tmp_path / "x.eval").write_bytes(whole[:place] + rest)
    with suppress(RecordError):
        assert read(tmp_path / "x.eval").digest == read(CHAT[0]).digest


def test_the_fixtures_hold_no_path_of_a_machine() -> None:
    """What is committed was made from the repository's root: no absolute path stands in it."""
    for path in [*CHAT, FAILED]:
        for value in members(path).values():
            assert "/site-packages/" not in json.dumps(value)
    for path in (*(FOREIGN / "lm_eval").rglob("*.json*"), ROUGH):
        assert "/site-packages/" not in path.read_text()
        assert '"pretty_env_info": "' not in path.read_text().replace('"pretty_env_info": ""', "")


def test_a_json_log_is_changed_where_it_stands(tmp_path: Path) -> None:
    """An unfinished .json log is refused as an .eval log is."""
    path = tmp_path / "x.json"
    path.write_bytes(ROUGH.read_bytes())
    edit_json(path, lambda log: log.update(status="cancelled"))
    with pytest.raises(RecordError, match="status is 'cancelled'"):
        read(path)
