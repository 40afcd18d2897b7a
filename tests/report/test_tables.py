"""`samples.jsonl`, `metrics.csv` and `samples.csv`: everything is in them, and nothing in them runs."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.plugin.hostile import EVERY, FORMULAS, commands_in, formulas_in, invisible

from evalgate.report import CardData
from evalgate.report.samples import BUCKETS
from evalgate.report.tables import CELL_LIMIT, cell, metrics_csv, samples_csv, samples_jsonl


def lines_of(data: CardData) -> list[dict[str, Any]]:
    """What the JSON lines say."""
    return [json.loads(line) for line in samples_jsonl(data)]


def rows_of(text: str) -> list[dict[str, str]]:
    """What a reader of CSV gets, by column."""
    assert text.startswith("\ufeff")
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))


def test_a_line_says_everything_of_a_sample(demo: CardData) -> None:
    """Texts, scores and tokens of both sides, slices, target, the bucket of each metric; null where there is none."""
    lines = lines_of(demo)
    assert len(lines) == sum(len(e.rows) for e in demo.candidates.values())
    assert list(dict.fromkeys(line["task"] for line in lines)) == list(demo.candidates)
    first = lines[0]
    row = demo.candidates[first["task"]].rows[0]
    was = demo.baselines[first["task"]].rows[0]
    assert (first["id"], first["prompt"], first["target"]) == (row.id, row.prompt, row.target)
    assert first["candidate"]["outputs"] == list(row.outputs)
    assert first["candidate"]["scores"] == dict(row.scores)
    assert first["baseline"]["outputs"] == list(was.outputs)
    assert first["candidate"]["tokens"] == list(row.tokens)
    assert first["slices"] == dict(row.slices)
    assert set(first["buckets"]) == set(row.scores)
    assert {name for line in lines for name in line["buckets"].values()} <= set(BUCKETS.values())
    new = [line for line in lines if line["task"] == "chat/identity"]
    assert new
    assert all(line["baseline"] is None and set(line["buckets"].values()) == {"Not compared"} for line in new)


def test_buckets_are_those_of_the_verdict(demo: CardData) -> None:
    """As many samples are Regressed and Fixed as the comparison says."""
    (verdict,) = (v for v in demo.family.verdicts if (v.task, v.metric) == ("arithmetic/addition", "exact_match"))
    assert verdict.comparison
    buckets = [line["buckets"]["exact_match"] for line in lines_of(demo) if line["task"] == verdict.task]
    assert buckets.count("Regressed") == len(verdict.comparison.broken) > 0
    assert buckets.count("Fixed") == len(verdict.comparison.fixed) > 0


def test_near_ties_are_named(reserve_card: Callable[[str], CardData]) -> None:
    """A flip that noise alone can make names its metrics; steps of the reserve are numbered."""
    data = reserve_card("top-up")
    lines = lines_of(data)
    tied = {line["id"] for line in lines if "exact_match" in line["near_ties"]}
    assert tied == set(data.near_ties["sums/all::exact_match"]) != set()
    assert {line["look"] for line in lines} == {0, 1, 2}


def test_lines_are_ascii_and_any_text_survives(hostile_card: Callable[..., CardData]) -> None:
    """Line and paragraph separators, controls and lone surrogates are escapes: one line is one object."""
    text = "\u2028a\u0085\r\n\x00\ud800é"
    data = hostile_card(text)
    raw = list(samples_jsonl(data))
    for line in raw:
        assert line.isascii()
        assert line.endswith(b"\n")
        assert len(line.decode().splitlines()) == 1
    assert json.loads(raw[0])["prompt"] == text


def test_metrics_are_numbers(demo: CardData) -> None:
    """A line per verdict; numbers are bare and full, and empty where nothing was compared."""
    text = metrics_csv(demo)
    rows = rows_of(text)
    assert [(row["task"], row["metric"]) for row in rows] == [(v.task, v.metric) for v in demo.family.verdicts]
    row = next(row for row in rows if row["task"] == "arithmetic/addition" and row["metric"] == "exact_match")
    assert (row["candidate"], row["blocking"], row["outcome"]) == ("v3", "yes", "REGRESSION")
    assert float(row["difference"]) == pytest.approx(-0.06)
    assert float(row["low"]) < -0.06 < float(row["high"]) < 0
    assert (row["n"], row["broken"], row["fixed"], row["near_ties"]) == ("500", "41", "11", "0")
    assert f",{float(row['difference'])!r}," in text
    new = next(row for row in rows if row["task"] == "chat/identity")
    assert (new["outcome"], new["difference"], new["n"], new["broken"]) == ("NO BASELINE", "", "", "")


def test_samples_have_a_line_each(demo: CardData) -> None:
    """Columns for what every sample has, then three per metric; a task's samples leave other tasks' metrics empty."""
    rows = rows_of(samples_csv(demo))
    assert len(rows) == len(lines_of(demo))
    assert list(rows[0])[:9] == [
        *("task", "id", "slices", "cluster", "prompt", "target", "output", "baseline_output", "error"),
    ]
    bits = [row for row in rows if row["task"] == "prose/heldout"]
    assert all(row["bits_per_byte score"] and not row["exact_match score"] for row in bits)
    sums = next(row for row in rows if row["task"] == "arithmetic/addition")
    assert sums["prompt"].startswith("Q: ")
    assert "⏎A:" in sums["prompt"]
    assert sums["slices"].startswith("carry=")
    orders = next(row for row in rows if row["task"] == "orders/extraction")
    assert json.loads(orders["target"])["items"]


def test_a_pandas_user_reads_them(demo: CardData) -> None:
    """The mark at the start is no part of the first column's name, and numbers arrive as numbers."""
    import pandas as pd

    frame = pd.read_csv(io.BytesIO(samples_csv(demo).encode()))
    assert frame.columns[0] == "task"
    assert frame["exact_match score"].dtype == float
    assert frame["exact_match score"].mean() == pytest.approx(
        sum(
            row.scores["exact_match"] for e in demo.candidates.values() for row in e.rows if "exact_match" in row.scores
        )
        / sum("exact_match" in row.scores for e in demo.candidates.values() for row in e.rows)
    )


def test_nothing_in_them_runs(hostile_card: Callable[..., CardData]) -> None:
    """No cell of any field is a formula, a command or a control character, in the columns' names neither."""
    for text in EVERY:
        data = hostile_card(text)
        for said in (metrics_csv(data), samples_csv(data)):
            assert formulas_in(said) == [], text
            body = said.removeprefix("\ufeff").replace("\r\n", "\n")
            assert not invisible(body), text
            assert not commands_in(body), text


def test_what_is_no_finite_number_is_a_text(demo: CardData) -> None:
    """An interval without an end is no formula, and reads as what it is."""
    first, *rest = demo.family.verdicts
    assert first.comparison
    test = replace(first.comparison.test, low=-math.inf, high=math.inf)
    verdict = replace(first, comparison=replace(first.comparison, test=test))
    text = metrics_csv(replace(demo, family=replace(demo.family, verdicts=(verdict, *rest))))
    row = rows_of(text)[0]
    assert (row["low"], row["high"]) == ("'-inf", "inf")
    assert formulas_in(text) == []


def test_the_checker_finds_formulas() -> None:
    """Negative control: raw in a quoted cell, and behind a semicolon for those who split there, each is found."""
    for text in FORMULAS:
        assert formulas_in('"a","{}"\r\n'.format(text.replace('"', '""'))), text
        assert formulas_in(f'"a","b;{text.strip()};"\r\n'), text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("-5", "'-5"),
        ("  = 1", "'  = 1"),
        ("a;=1", "a;'=1"),
        ("it's -5, = 6", "it's -5, = 6"),
        ("a\nb", "a⏎b"),
        ("", ""),
        ("x" * 9_000, f"{'x' * (CELL_LIMIT - 1)}…"),
    ],
)
def test_a_text_changes_no_more_than_it_must(text: str, shown: str) -> None:
    """An apostrophe where a formula would start, line feeds made visible, and long texts cut."""
    assert cell(text) == shown


@given(st.text(alphabet=st.characters() | st.sampled_from("=+-@;,\"'\t\r\n ＝"), max_size=40))
def test_no_text_is_a_formula(text: str) -> None:
    """Law: whatever the text, its cell is none, on one line, and comes back from a reader as it was written."""
    file = io.StringIO()
    csv.writer(file, quoting=csv.QUOTE_ALL).writerow([cell(text), cell(text)])
    assert not formulas_in(file.getvalue())
    assert next(csv.reader(io.StringIO(file.getvalue(), newline=""))) == [cell(text)] * 2


def test_the_same_data_make_the_same_bytes(demo: CardData) -> None:
    """Nothing depends on time, chance or the order of a set."""
    again = replace(demo)
    assert b"".join(samples_jsonl(demo)) == b"".join(samples_jsonl(again))
    assert (metrics_csv(demo), samples_csv(demo)) == (metrics_csv(again), samples_csv(again))
