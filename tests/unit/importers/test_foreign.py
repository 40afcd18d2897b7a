"""What both formats share: which metrics are believed, what may be kept, and which files are recognised."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalgate.errors import RecordError
from evalgate.evaluation import Metric
from evalgate.importers import foreign, named, read_foreign
from evalgate.importers.foreign import Measure, metric_name, plain, settle
from tests.unit.importers.real import FOREIGN, copied, inspect, lm_eval

SCORES = st.lists(st.floats(0, 1), min_size=1)


def measure(values: Sequence[float], kind: str = "acc", **more: object) -> Measure:
    """A metric of a foreign log with these values."""
    told: dict[str, object] = {"identity": {}, "higher": True, "right_or_wrong": all(v in (0, 1) for v in values)}
    return Measure(name=kind, kind=kind, values={str(i): v for i, v in enumerate(values)}, **(told | more))  # type: ignore[arg-type]


def settled(found: Measure) -> Metric:
    """The metric, which must be one."""
    metric = settle(found, "here")
    assert isinstance(metric, Metric)
    return metric


@given(SCORES)
def test_a_range_is_known_and_seen(values: list[float]) -> None:
    """From 0 to 1 holds for kinds that are known and values that are in it; binary also needs nothing but 0 and 1."""
    known = settled(measure(values))
    assert (known.low, known.high) == (0, 1)
    assert known.binary == all(value in (0, 1) for value in values)
    assert not settled(measure(values, "f1")).binary
    unknown = settled(measure(values, "cosine"))
    assert (unknown.low, unknown.high, unknown.binary) == (None, None, False)
    wide = settled(measure([*values, 37.5]))
    assert (wide.low, wide.high, wide.binary) == (None, None, False)


@given(SCORES, st.floats(-2, 3))
def test_a_mean_that_differs_is_damage(values: list[float], told: float) -> None:
    """The tool's mean is that of its samples, or the files do not belong together; another aggregation is left out."""
    mean = sum(values) / len(values)
    assert settled(measure(values, reported=mean)).high == 1
    if abs(told - mean) > 1e-5:
        with pytest.raises(RecordError, match="the tool reported"):
            settle(measure(values, reported=told), "here")
        assert "median" in str(settle(measure(values, reported=told, aggregation="median"), "here"))
    assert "median" in str(settle(measure(values, aggregation="median"), "here"))  # nothing shows that it is a mean
    assert settled(measure(values, reported=mean, aggregation="def my_mean(items): …")).high == 1


def test_nobody_guesses() -> None:
    """Without a direction or without values there is a reason instead of a metric."""
    assert "--higher-is-better acc" in str(settle(measure([1], higher=None), "here"))
    assert "no sample" in str(settle(measure([]), "here"))


@given(st.text())
def test_a_metric_name_may_stand_in_a_test_id(text: str) -> None:
    """Whatever a log calls its metric, the name has no white space, brackets, slashes, `::` or control characters."""
    name = metric_name(text)
    assert name.isprintable()
    assert not re.search(r"[\s\[\]/\\]|::", name)
    assert len(name) <= 100


def test_two_metrics_of_one_name_are_refused() -> None:
    """Names that become the same are not told apart by chance."""
    with pytest.raises(RecordError, match="two metrics are called 'acc'"):
        foreign.settle_all([measure([1.0]), measure([0.0])], {}, "here")


def test_plain_keeps_what_is_no_secret() -> None:
    """Tokenizers and token limits are settings; tokens and keys are not."""
    told = {
        "tokenizer": "a/b",
        "max_tokens": 8,
        "hf_token": "s",
        "API_KEY": "s",
        "x": [{"password": "s", "y": "C:\\u\\v"}],
    }
    assert plain(told) == {"tokenizer": "a/b", "max_tokens": 8, "x": [{"y": "v"}]}


# -- files and folders ------------------------------------------------------------------------------------------------


def test_a_folder_is_read_whole(tmp_path: Path) -> None:
    """Logs of both tools at any depth, in the order of their names; other files beside them are none of ours."""
    (tmp_path / "deep").mkdir()
    copied(lm_eval("v1", "sums"), tmp_path / "deep")
    shutil.copy(inspect("chat"), tmp_path)
    shutil.copy(inspect("rough", ".json"), tmp_path)
    (tmp_path / "notes.json").write_text("[]")
    (tmp_path / "data.jsonl").write_text("{}")
    found = read_foreign(tmp_path, suite="suites")
    assert [e.task for e in found] == ["inspect/chat", "inspect/rough", "lm-eval/sums"]
    assert {e.provenance["suite"] for e in found} == {"suites"}
    assert all("/" not in e.provenance["imported"]["file"] for e in found)


def test_a_failed_log_spoils_its_folder() -> None:
    """One unfinished log among good ones is refused, not passed over."""
    with pytest.raises(RecordError, match="did not finish"):
        read_foreign(FOREIGN / "inspect")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("absent", "no such file or folder"),
        ("empty", "holds no results"),
        ("folder.eval", "holds no results"),
        ("x.csv", "no file of per-sample results"),
        ("results_1.json", "no file of per-sample results"),
    ],
)
def test_what_is_no_log_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    """The message says what could have been named."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.eval").mkdir()
    (tmp_path / "x.csv").write_text("a,b")
    (tmp_path / "results_1.json").write_text("{}")
    with pytest.raises(RecordError, match=rf"{reason}.*samples_\*\.jsonl"):
        read_foreign(tmp_path / name)


def test_a_file_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is held in memory as a whole, so there is a limit, said in bytes."""
    monkeypatch.setattr(foreign, "MAX_FILE", 1000)
    with pytest.raises(RecordError, match="more than 1,000"):
        read_foreign(lm_eval("v1", "sums"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    """Permissions are said as the system says them."""
    path = copied(lm_eval("v1", "sums"), tmp_path)
    path.chmod(0)
    with pytest.raises(RecordError, match="Permission denied"):
        read_foreign(path)


def test_nothing_is_named_without_runs() -> None:
    """An empty list stays one."""
    assert named([], "x") == []


def test_importing_loads_nothing_heavy() -> None:
    """The package loads neither numpy nor the library that unpacks logs, until a log needs it."""
    code = "import sys, evalgate.importers; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for heavy in ("'numpy'", "'backports.zstd'", "'pandas'", "'inspect_ai'"):
        assert heavy not in done.stdout
