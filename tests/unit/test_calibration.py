"""The committed file of a calibration: what it holds, and that nobody can change it unseen."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalgate.calibrate import write_calibration
from evalgate.calibration import Annotators, Report, parse, read_calibrations, read_reports
from evalgate.digest import digest
from evalgate.errors import RecordError
from evalgate.instrument import Calibration, Instrument
from evalgate.stats import Estimate

INSTRUMENT = Instrument(
    kind="native",
    settings={"rubric": "Does the answer say what the reference says? Ä", "scale": {"1": "no", "5": "yes"}},
    low=1.0,
    high=5.0,
    identity={"models": ["sha256:aa"], "versions": {}},
)


def report(kappa: float = 0.87, **changed: Any) -> Report:
    """A calibration of a preference with everything in it, or with what is changed."""
    estimate = Estimate(0.9, 0.85, 0.95, 320)
    values: dict[str, Any] = {
        "metric": "shop/orders::judge",
        "judge": INSTRUMENT.digest,
        "instrument": INSTRUMENT.content,
        "models": ("tiny",),
        "labels": "sha256:bb",
        "n": 320,
        "right": 180,
        "kappa": Estimate(kappa, kappa - 0.05, min(kappa + 0.05, 1.0), 320),
        "weighted_kappa": estimate,
        "alpha": 0.88,
        "true_positive": estimate,
        "true_negative": estimate,
        "flips": Estimate(0.0, 0.0, 0.01, 320),
        "positions": estimate,
        "side_error": Estimate(-0.01, -0.2, 0.18, 320),
        "annotators": Annotators(estimate, estimate, 0.9, 100),
        "at": "2026-01-02T03:04:05+00:00",
        "by": "Ada <ada@example.com>",
        "evalgate": "0.1.0",
    }
    return Report(**values | changed)


PLAIN = report(positions=None, side_error=None, annotators=None)


@pytest.mark.parametrize("given", [report(), PLAIN], ids=["everything", "least"])
def test_what_is_written_is_read(tmp_path: Path, given: Report) -> None:
    """In the folder below the suites, under the metric's name and the judge's first twelve digits."""
    path = write_calibration(tmp_path, given)
    assert path == tmp_path / "calibrations" / f"judge-{INSTRUMENT.digest.removeprefix('sha256:')[:12]}.json"
    assert read_reports(path.parent) == {path: given}
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_file_is_for_people_too() -> None:
    """Sorted keys, a line each, umlauts as they are, and the same bytes whenever the same is written."""
    data = report().as_bytes()
    lines = data.decode().splitlines()
    keys = [line.split('"')[1] for line in lines if line.startswith(' "')]
    assert keys == sorted(keys)
    assert "Ä" in data.decode()
    assert data.endswith(b"}\n")
    assert data == parse(data, "file").as_bytes()


def test_judges_are_found_by_their_digest(tmp_path: Path) -> None:
    """With kappa, its interval, n and the file's path, which is what an instrument carries."""
    near: Any = pytest.approx
    other = replace(INSTRUMENT, reference=False)
    first = write_calibration(tmp_path, PLAIN)
    second = write_calibration(
        tmp_path, report(0.4, judge=other.digest, instrument=other.content, metric="shop/orders::tone")
    )
    assert read_calibrations(tmp_path / "calibrations") == {
        INSTRUMENT.digest: Calibration(INSTRUMENT.digest, 0.87, 320, str(first), near((0.82, 0.92))),
        other.digest: Calibration(other.digest, 0.4, 320, str(second), near((0.35, 0.45))),
    }


def test_without_a_folder_no_judge_is_calibrated(tmp_path: Path) -> None:
    """Which is no error: metrics without a gate need no calibration."""
    assert read_calibrations(tmp_path / "calibrations") == {}


def test_of_several_files_of_one_judge_the_lowest_kappa_counts(tmp_path: Path) -> None:
    """Nobody gets past the floor by measuring under another name until it fits."""
    for metric, kappa in (("a", 0.9), ("b", 0.5), ("c", 0.7)):
        write_calibration(tmp_path, report(kappa, metric=f"shop/orders::{metric}"))
    assert read_calibrations(tmp_path / "calibrations")[INSTRUMENT.digest].kappa == 0.5


def test_measuring_again_replaces_the_file(tmp_path: Path) -> None:
    """Git shows what changed; one judge of one metric has one file."""
    write_calibration(tmp_path, report(0.5))
    write_calibration(tmp_path, report(0.9))
    assert len(read_reports(tmp_path / "calibrations")) == 1
    assert read_calibrations(tmp_path / "calibrations")[INSTRUMENT.digest].kappa == 0.9


@pytest.mark.parametrize("metric", ["a/b::../../x", "a/b::über maß", "a/b::.hidden", "a/b::" + "x" * 300, "a/b::con\n"])
def test_no_metric_leaves_the_folder(tmp_path: Path, metric: str) -> None:
    """Whatever it is called, its file lies in the folder, is visible and can be written."""
    path = write_calibration(tmp_path, report(metric=metric))
    assert path.resolve().parent == tmp_path / "calibrations"
    assert path.name.isascii()
    assert not path.name.startswith(".")
    assert read_reports(path.parent)[path].metric == metric


def edited(change: Callable[[dict[str, Any]], object]) -> bytes:
    """The file with a change, and a digest that fits it: what a determined hand would write."""
    value = json.loads(report().as_bytes())
    del value["digest"]
    change(value)
    return json.dumps({**value, "digest": digest(value)}).encode()


def test_a_better_kappa_by_hand_is_refused(tmp_path: Path) -> None:
    """The file has a digest over its content; the message says where and what to do."""
    path = write_calibration(tmp_path, report(0.412))
    path.write_bytes(path.read_bytes().replace(b"0.412", b"0.912"))
    with pytest.raises(RecordError) as caught:
        read_calibrations(path.parent)
    assert str(path) in str(caught.value)
    assert "was damaged or edited: its digest does not fit its content" in str(caught.value)
    assert "evalgate judge calibrate" in str(caught.value)


@settings(deadline=None, max_examples=200)
@given(st.integers(0, len(report().as_bytes()) - 2), st.integers(0, 7))
def test_any_flipped_bit_is_found(place: int, bit: int) -> None:
    """In a number, a name, a brace: nothing is read from a file that is not what was written."""
    data = bytearray(report().as_bytes())
    data[place] ^= 1 << bit
    try:
        found = parse(bytes(data), "file")
    except RecordError:
        return
    assert found == report()  # white space for white space


@pytest.mark.parametrize("size", [0, 1, 100, -3])
def test_a_torn_file_is_refused(size: int) -> None:
    """One line with the place, no traceback."""
    with pytest.raises(RecordError, match=r"^file: "):
        parse(report().as_bytes()[:size], "file")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda v: v.pop("kappa"), "is no calibration: 'kappa'"),
        (lambda v: v.update(more=1), "unexpected keyword argument 'more'"),
        (lambda v: v.update(n="320"), "n and right: expected counts"),
        (lambda v: v.update(n=True), "n and right: expected counts"),
        (lambda v: v.update(alpha="high"), "alpha: expected a number"),
        (lambda v: v.update(kappa=0.9), "estimate: expected one"),
        (lambda v: v["kappa"].update(value="0.9"), "estimate: expected finite numbers"),
        (lambda v: v["kappa"].update(value=7.0), "kappa: expected -1 to 1"),
        (lambda v: v["kappa"].pop("low"), "estimate: expected one"),
        (lambda v: v["annotators"].update(n=-1), "annotators: expected alpha and n"),
        (lambda v: v.update(judge="sha256:00"), "judge: expected the digest of the instrument"),
        (lambda v: v["instrument"].update(low=0), "judge: expected the digest of the instrument"),
        (lambda v: v.update(by=None), "by: expected text"),
        (lambda v: v.update(models=[1]), "models: expected names"),
        (lambda v: v.update(instrument=[]), "instrument: expected an object"),
        (lambda v: v.update(format=2), "has format 2, this evalgate reads up to 1. Update evalgate."),
        (lambda v: v.update(format="1"), "is no calibration"),
    ],
)
def test_what_cannot_be_is_refused(change: Callable[[dict[str, Any]], object], says: str) -> None:
    """Also with a digest that fits: a kappa of another judge than the one described, or no number at all."""
    with pytest.raises(RecordError) as caught:
        parse(edited(change), "file")
    assert says in str(caught.value)
    assert parse(edited(lambda value: None), "file") == report()


@pytest.mark.parametrize(
    "data", [b"[]", b"null", b"{}", b"\xff", b'{"format": 1, "format": 1}', b'{"format": NaN}', b"[" * 100_000, b"1"]
)
def test_what_is_no_calibration_is_refused(data: bytes) -> None:
    """Whatever stands in the file."""
    with pytest.raises(RecordError, match=r"^file: is no calibration|^file: was damaged"):
        parse(data, "file")


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    """Nor is what is no file."""
    huge = tmp_path / "judge.json"
    with huge.open("wb") as file:
        file.truncate(1 << 32)
    with pytest.raises(RecordError, match="has more than 4,194,304 bytes"):
        read_calibrations(tmp_path)
    huge.unlink()
    huge.mkdir()
    with pytest.raises(RecordError, match="could not be read"):
        read_calibrations(tmp_path)
