"""Samples of lm-evaluation-harness: real ones of our own model, and every way in which a file may be damaged."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evalgate.compare import incomparable
from evalgate.errors import RecordError
from evalgate.importers import named, read_foreign
from evalgate.store import parse, serialise
from tests.unit.importers.real import FOREIGN, Json, copied, edit_json, edit_lines, lm_eval, read, results_of

STRICT, FLEXIBLE = "exact_match,strict-match", "exact_match,flexible-extract"
EVERY = sorted((FOREIGN / "lm_eval").rglob("samples_*.jsonl"))


@pytest.fixture
def sums(tmp_path: Path) -> Path:
    """A copy of v3's sums with its results beside it."""
    return copied(lm_eval("v3", "sums"), tmp_path)


# -- what is read -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", EVERY, ids=lambda p: f"{p.parent.name[-2:]}-{p.name.split('_')[1]}")
def test_means_are_those_that_the_tool_reported(path: Path) -> None:
    """Every metric's mean is the number in results_*.json, and every sample of the run is there."""
    evaluation, told = read(path), json.loads(results_of(path).read_text())
    task = evaluation.task.removeprefix("lm-eval/")
    assert evaluation.metrics
    for metric in evaluation.metrics:
        key = metric.name if "," in metric.name else f"{metric.name},none"
        assert evaluation.mean(metric.name) == pytest.approx(told["results"][task][key], abs=1e-9)
    assert len(evaluation.rows) == told["n-samples"][task]["effective"]
    assert not evaluation.errors


def test_the_regression_is_in_the_numbers() -> None:
    """v3 forgot its sums: what the fixtures are for."""
    assert read(lm_eval("v1", "sums")).mean(STRICT) == 1
    assert read(lm_eval("v3", "sums")).mean(STRICT) == pytest.approx(19 / 30)


def test_generated_text_is_kept() -> None:
    """Prompt, target and response of each document are the ones in the file."""
    evaluation = read(lm_eval("v3", "sums"))
    lines = {str(line["doc_id"]): line for line in map(json.loads, lm_eval("v3", "sums").read_text().splitlines())}
    for row in evaluation.rows:
        assert row.prompt == lines[row.id]["arguments"]["gen_args_0"]["arg_0"]
        assert row.outputs == tuple(lines[row.id]["resps"][0])
        assert row.target == lines[row.id]["target"]
    assert evaluation.sampling["generation_kwargs"] == {"until": ["\n"], "max_gen_toks": 8, "do_sample": False}
    assert evaluation.sampling["n"] == 1


def test_a_filter_is_a_metric_of_its_own() -> None:
    """Two filters give two metrics with identities of their own, in the order of the file; acc has none."""
    strict, flexible = read(lm_eval("v1", "sums")).metrics
    assert (strict.name, flexible.name) == (STRICT, FLEXIBLE)
    assert strict.digest != flexible.digest
    assert [m.name for m in read(lm_eval("v1", "reviews")).metrics] == ["acc", "acc_norm"]


def test_right_or_wrong_is_binary() -> None:
    """exact_match and acc hold 0 and 1 only, from 0 to 1, and more is better."""
    for metric in (*read(lm_eval("v3", "sums")).metrics, *read(lm_eval("v3", "reviews")).metrics):
        assert (metric.low, metric.high, metric.binary, metric.higher_is_better) == (0, 1, True, True)


def test_bits_per_byte_weigh_by_bytes() -> None:
    """Log-likelihood and bytes of each document become bits for a byte; lower is better and there is no upper end."""
    evaluation = read(lm_eval("v1", "prose"))
    (metric,) = evaluation.metrics
    assert (metric.name, metric.high, metric.higher_is_better, metric.weighted) == ("bits_per_byte", None, False, True)
    line = json.loads(lm_eval("v1", "prose").read_text().splitlines()[0])
    likelihood, size = line["bits_per_byte"]
    row = next(row for row in evaluation.rows if row.id == "0")
    assert row.weight == size
    assert row.scores["bits_per_byte"] == pytest.approx(-likelihood / math.log(2) / size)
    assert row.outputs == ()


def test_what_is_no_mean_is_left_out_by_name() -> None:
    """BLEU and the perplexities are made of all documents at once: each is named with its reason."""
    assert set(read(lm_eval("v1", "sums")).provenance["left_out"]) == {"bleu,strict-match", "bleu,flexible-extract"}
    left_out = read(lm_eval("v1", "prose")).provenance["left_out"]
    assert set(left_out) == {"word_perplexity", "byte_perplexity"}
    assert "bits_per_byte" in left_out["byte_perplexity"]


def test_multiple_choice_says_what_was_chosen() -> None:
    """No text was generated; the likeliest option stands beside acc, and right answers chose their target."""
    for row in read(lm_eval("v3", "reviews")).rows:
        assert row.outputs == ()
        assert list(row.notes) == ["acc"]  # acc_norm chooses by another rule, and the file does not say what
        assert (row.notes["acc"].strip() == row.target) == (row.scores["acc"] == 1)


def test_two_runs_pair_by_content() -> None:
    """Two models on one task have the same ids, pairs and scorers, and are other checkpoints: they can be compared."""
    v1, v3 = read(lm_eval("v1", "sums")), read(lm_eval("v3", "sums"))
    assert v1.keys == v3.keys
    assert v1.samples == v3.samples
    assert v1.metrics == v3.metrics
    assert v1.checkpoint["digest"] != v3.checkpoint["digest"]
    assert incomparable(v3, v1, STRICT) == ()


def test_another_prompt_is_another_question(sums: Path) -> None:
    """A changed prompt, target or option finds no partner."""
    edit_lines(sums, lambda lines: [line["arguments"]["gen_args_0"].update(arg_0="Sum?") for line in lines])
    changed, before = read(sums), read(lm_eval("v3", "sums"))
    assert not set(changed.keys[1]) & set(before.keys[1])
    assert incomparable(changed, before, STRICT)[0].field == "coverage"


# -- identity ---------------------------------------------------------------------------------------------------------


def _filter(told: Json) -> None:
    told["configs"]["sums"]["filter_list"][0]["filter"][0]["regex_pattern"] = "x"


@pytest.mark.parametrize(
    ("change", "other"),
    [
        (lambda told: told["versions"].update(sums=2.0), {STRICT, FLEXIBLE}),
        (_filter, {STRICT}),
        (lambda told: told["configs"]["sums"]["metric_list"][0].update(ignore_case=True), {STRICT, FLEXIBLE}),
        (lambda told: told["config"]["model_args"].update(pretrained="elsewhere"), set()),
        (lambda told: told.update(lm_eval_version="0.4.14"), set()),
        (lambda told: told["configs"]["sums"]["metadata"].update(pretrained="elsewhere"), set()),
    ],
    ids=["task version", "filter", "metric settings", "model", "harness", "metadata"],
)
def test_the_scorer_is_what_the_tool_says_it_is(sums: Path, change: Callable[[Json], Any], other: set[str]) -> None:
    """Another version, filter or setting is another scorer; another model or release of the tool is not."""
    before = {m.name: m.digest for m in read(sums).metrics}
    edit_json(results_of(sums), change)
    assert {m.name for m in read(sums).metrics if m.digest != before[m.name]} == other


def test_a_function_is_the_same_in_every_process(sums: Path) -> None:
    """The address of a function in a task's settings changes nothing."""

    def measured_by(function: str) -> str:
        entry = {"metric": "exact_match", "metric_fn": function}
        edit_json(results_of(sums), lambda told: told["configs"]["sums"].update(metric_list=[entry]))
        return read(sums).metrics[0].digest

    assert measured_by("<function f at 0x7f01>") == measured_by("<function f at 0x7f02>")
    assert measured_by("<function f at 0x7f01>") != measured_by("<function g at 0x7f01>")


def test_unknown_weights_are_said_to_be_unknown() -> None:
    """The name is the folder's, the identity says that nobody knows the weights, and two runs are two checkpoints."""
    one, other = read(lm_eval("v1", "sums")), read(lm_eval("v1", "prose"))
    assert one.checkpoint["name"] == other.checkpoint["name"] == "v1"
    assert one.checkpoint["identity"]["weights"].startswith("unknown")
    assert one.checkpoint["identity"]["model_args"]["pretrained"] == "fixtures/checkpoints/v1"
    assert one.checkpoint["digest"] != other.checkpoint["digest"]
    together = named([one, other], "ours")
    assert len({e.checkpoint["digest"] for e in together}) == 1
    assert {e.checkpoint["name"] for e in together} == {"ours"}


def test_one_name_is_one_model() -> None:
    """Runs that say they are of different models are not given one name."""
    with pytest.raises(RecordError, match=r"several models: v1 of .* and v3 of"):
        named([read(lm_eval("v1", "sums")), read(lm_eval("v3", "sums"))], "ours")


def test_a_pinned_revision_is_an_identity(sums: Path) -> None:
    """A hub's commit is weights that somebody knows: two runs of it are one checkpoint, but for an adapter."""
    edit_json(results_of(sums), lambda told: told["config"].update(model_sha="f" * 40))
    assert "run" in read(sums).checkpoint["identity"]
    edit_json(results_of(sums), lambda told: told["config"]["model_args"].pop("peft"))
    first = read(sums)
    edit_json(results_of(sums), lambda told: told.update(date=1.0))
    assert read(sums).checkpoint == first.checkpoint
    assert "revision" in first.checkpoint["identity"]["weights"]


def test_no_secret_and_no_path_is_kept(sums: Path) -> None:
    """Keys are dropped and absolute paths cut, also where the model's arguments are one text as in older releases."""
    arguments = "pretrained=/home/somebody/v9,api_key=sk-123,tokenizer=mine"
    edit_json(results_of(sums), lambda told: told["config"].update(model_args=arguments))
    edit_json(results_of(sums), lambda told: told.update(model_name="/home/somebody/v9"))
    evaluation = read(sums)
    assert evaluation.checkpoint["name"] == "v9"
    assert evaluation.checkpoint["identity"]["model_args"] == {"pretrained": "v9", "tokenizer": "mine"}
    record = serialise(evaluation).decode()
    for private in ("somebody", "sk-123", str(sums.parent)):
        assert private not in record


def test_a_record_reads_back(sums: Path) -> None:
    """What is imported is an evaluation like every other."""
    for evaluation in read_foreign(FOREIGN / "lm_eval"):
        assert parse(serialise(evaluation), "x") == evaluation


# -- without the results file -----------------------------------------------------------------------------------------


def test_samples_alone_are_read_and_say_what_is_missing(sums: Path) -> None:
    """Known metrics are read, the model is the folder's name, and the record names what nobody knows."""
    results_of(sums).unlink()
    alone = read(sums)
    assert alone.mean(STRICT) == pytest.approx(19 / 30)
    assert "task version" in alone.provenance["imported"]["unknown"]
    assert alone.provenance["imported"]["results"] is None
    assert alone.checkpoint["name"] == sums.parent.name.rpartition("__")[2]
    reasons = [difference.field for difference in incomparable(alone, read(lm_eval("v3", "sums")), STRICT)]
    assert reasons == ["scorer"]  # a version that nobody knows is not the same version


def test_an_unknown_metric_needs_a_direction(sums: Path) -> None:
    """Nobody guesses whether more is better: the metric is left out by name, unless a person says it."""
    results_of(sums).unlink()
    edit_lines(sums, lambda lines: [line.update(metrics=["exact_match", "words"], words=3.5) for line in lines])
    without = read(sums)
    assert "words,strict-match" not in [m.name for m in without.metrics]
    assert "--lower-is-better" in without.provenance["left_out"]["words,strict-match"]
    told = read(sums, directions={"words,strict-match": False}).metric("words,strict-match")
    assert (told.low, told.high, told.binary, told.higher_is_better) == (None, None, False, False)


def test_older_releases_listed_no_metrics(sums: Path) -> None:
    """Before 0.4.6 every field of no other use was a metric, and arguments were lists."""

    def older(lines: list[Json]) -> None:
        for line in lines:
            del line["metrics"]
            line["arguments"] = [list(line["arguments"]["gen_args_0"].values())]

    edit_lines(sums, older)
    assert [m.name for m in read(sums).metrics] == [STRICT, FLEXIBLE]
    assert read(sums).keys == read(lm_eval("v3", "sums")).keys


# -- faults -----------------------------------------------------------------------------------------------------------


def test_a_missing_score_is_an_error_and_no_zero(sums: Path) -> None:
    """A document without a value keeps its place with an error and no score, whether the field is null or absent."""
    results_of(sums).unlink()
    edit_lines(sums, lambda lines: (lines[0].update(exact_match=None), lines[1].pop("exact_match")))
    evaluation = read(sums)
    assert len(evaluation.rows) == 30
    assert {row.id for row in evaluation.errors} == {"0", "1"}
    assert all(not row.scores and STRICT in (row.error or "") for row in evaluation.errors)
    assert incomparable(read(lm_eval("v3", "sums")), evaluation, STRICT)[-1].field == "completeness"


def _score(value: object) -> Callable[[list[Json]], None]:
    return lambda lines: lines[3].update(exact_match=value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda lines: lines.append(dict(lines[0])), "doc_id 0 appears twice"),
        (lambda lines: lines.__delitem__(slice(4, None)), "holds 4 samples, but the run had 30"),
        (_score(float("nan")), "exact_match is nan"),
        (_score(float("inf")), "exact_match is inf"),
        (_score(0.25), "the samples' mean .* but the tool reported"),
        (lambda lines: lines[0].pop("doc_id"), "has no doc_id"),
        (lambda lines: lines[0].update(doc_id=[1]), "doc_id is"),
        (lambda lines: lines[0].update(arguments={}), "hold no prompt"),
        (lambda lines: lines[0].update(arguments=7), "arguments is 7"),
        (lambda lines: lines[0].update(target=float("nan")), "target"),
        (lambda lines: lines[0].update(resps=3), "TypeError"),
        (lambda lines: lines.clear(), "holds no samples"),
        (lambda lines: [line.update(metrics=["bleu"]) for line in lines], "no metric that can be compared .*bleu"),
        (lambda lines: [line.update(metrics=["bypass"], bypass=999) for line in lines], "placeholder"),
    ],
)
def test_a_damaged_file_is_refused(sums: Path, change: Callable[[list[Json]], Any], reason: str) -> None:
    """Every kind of damage is one line with its place and a mend; the whole file is read (the control)."""
    assert read(sums).mean(STRICT) == pytest.approx(19 / 30)
    edit_lines(sums, change)
    with pytest.raises(RecordError, match=reason) as caught:
        read(sums)
    assert caught.value.mend
    assert caught.value.where
    assert len(str(caught.value).splitlines()) == 1


def test_half_a_line_is_refused(sums: Path) -> None:
    """A file that was cut inside a line names the line."""
    sums.write_bytes(sums.read_bytes()[:-100])
    with pytest.raises(RecordError, match=r":60: is no JSON"):
        read(sums)


@pytest.mark.parametrize("name", ["samples.jsonl", "samples_sums.jsonl", "sums_2026-11-21T05-25-49.645406.jsonl"])
def test_a_renamed_file_is_refused(sums: Path, name: str) -> None:
    """Task and time stand in the name and nowhere else."""
    with pytest.raises(RecordError, match="is not named as lm-eval names"):
        read(sums.rename(sums.with_name(name)))


def test_results_of_another_task_are_refused(sums: Path) -> None:
    """A results file that does not know the task is not of this run."""
    edit_json(results_of(sums), lambda told: told["results"].pop("sums"))
    with pytest.raises(RecordError, match="says nothing of the task 'sums'"):
        read(sums)


def test_an_aggregation_of_its_own_must_agree(sums: Path) -> None:
    """A median is no mean: the metric is left out by name, unless the numbers agree anyway."""

    def median(told: Json) -> None:
        told["configs"]["sums"]["metric_list"][0]["aggregation"] = "median"
        told["results"]["sums"][STRICT] = 1.0

    edit_json(results_of(sums), median)
    evaluation = read(sums)
    assert [m.name for m in evaluation.metrics] == [FLEXIBLE]
    assert "median" in evaluation.provenance["left_out"][STRICT]


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_damage_becomes_a_traceback(tmp_path: Path, data: st.DataObject) -> None:
    """A file cut anywhere, or with any byte changed, is refused or read: nothing else ever comes out."""
    path = copied(lm_eval("v1", "prose"), tmp_path)
    whole = path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    cut = data.draw(st.booleans())
    path.write_bytes(
        whole[:place] if cut else whole[:place] + bytes([data.draw(st.integers(0, 255))]) + whole[place + 1 :]
    )
    with suppress(RecordError):
        assert len(read(path).rows) == 12
