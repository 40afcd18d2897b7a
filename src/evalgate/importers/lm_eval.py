"""Samples of lm-evaluation-harness (`--log_samples`), with the `results_*.json` that it writes beside them.

Format: `EvaluationTracker.save_results_samples` of lm-eval 0.4: one JSON line per document and filter, in which
`arguments` and `resps` are the requests and answers and each name in `metrics` is a field with this document's value.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from evalgate import __version__
from evalgate.digest import canonical, digest
from evalgate.errors import RecordError
from evalgate.evaluation import Evaluation, Row
from evalgate.importers.foreign import (
    AGAIN,
    RIGHT_OR_WRONG,
    SHARES,
    Measure,
    checkpoint,
    get,
    is_number,
    metric_name,
    pair,
    plain,
    read_bytes,
    read_object,
    samples_digest,
    scored,
    settle_all,
    shown,
)

TOOL = "lm-eval"
_FILE = re.compile(r"samples_(?P<task>.+)_(?P<when>\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)\.jsonl")
_FIELDS = frozenset(("doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics")) | {
    "doc_hash", "prompt_hash", "target_hash",
}  # fmt: skip
_NO_MEANS = {"perplexity": "exponential of a mean", "bypass": "placeholder: nothing was scored"}
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # of a function in a task's settings: another one in every process


@dataclass(frozen=True)
class _Results:
    """What `results_*.json` says of one task; an absent one says nothing.

    Attributes:
        content: of the file; empty without one.
        task: of which it is asked.
        file: its name, `None` without one.
    """

    content: Mapping[str, Any]
    task: str
    file: str | None

    def of_task(self, section: str) -> Mapping[str, Any]:
        """What a section (`configs`, `results`, …) says of the task."""
        found = (self.content.get(section) or {}).get(self.task)
        return found if isinstance(found, Mapping) else {}

    @cached_property
    def run(self) -> Mapping[str, Any]:
        """Model and settings of the run."""
        return self.content.get("config") or {}

    @cached_property
    def version(self) -> Any:
        """Of the task."""
        return (self.content.get("versions") or {}).get(self.task)

    def declared(self, section: str, key: str, name: str) -> Any:
        """The entry of a list in the task's settings whose `key` is the name, as it is the same in every process."""
        entries = self.of_task("configs").get(section) or []
        entry = next((e for e in entries if isinstance(e, Mapping) and e.get(key) == name), None)
        return json.loads(_ADDRESS.sub("", canonical(entry))) if entry else None


@dataclass(frozen=True, slots=True)
class _Line:
    """One document under one filter, and where it stands."""

    doc: str
    filter: str
    content: Mapping[str, Any]
    where: str

    @property
    def metrics(self) -> Sequence[str]:
        """Names of the metrics; before lm-eval 0.4.6 they were not listed, and were every field of no other use."""
        return self.content.get("metrics") or [name for name in self.content if name not in _FIELDS]

    @property
    def requests(self) -> list[list[Any]]:
        """The arguments of each request: prompt, and continuation or generation settings."""
        asked = get(self.content, "arguments", (dict, list), self.where)
        parts = asked.values() if isinstance(asked, dict) else asked
        found = [list(part.values()) if isinstance(part, dict) else list(part) for part in parts]
        if not found or not all(request and isinstance(request[0], str) for request in found):
            raise RecordError("arguments hold no prompt", where=self.where, mend=AGAIN)
        return found


def read(path: Path, directions: Mapping[str, bool]) -> Evaluation:
    """The evaluation in one `samples_*.jsonl` (RecordError)."""
    named = _FILE.fullmatch(path.name)
    if named is None:
        what = "is not named as lm-eval names its samples, samples_TASK_TIME.jsonl"
        raise RecordError(what, where=shown(path), mend="Give it its name back: task and time are read from it.")
    task, when = named["task"], named["when"]
    lines = list(_lines(path))
    documents = _documents(lines, path)
    results = _results(path, task, when, len(documents))
    measures, refused = _measures(lines, results, directions)
    metrics, left_out = settle_all(measures, refused, shown(path))
    rows = tuple(scored(_row(document), metrics, measures) for document in documents.values())
    config = results.of_task("configs")
    created = results.content.get("date")
    kept = ("doc_to_text", "doc_to_target", "doc_to_choice", "description", "num_fewshot")
    seed = results.run.get("torch_seed")
    return Evaluation(
        task=f"{TOOL}/{task}",
        checkpoint=_checkpoint(path, when, results),
        prompt=digest([TOOL, task, {name: config.get(name) for name in kept}]),
        sampling=_sampling(lines),
        seed=seed if isinstance(seed, int) else 0,
        samples=samples_digest(rows),
        metrics=tuple(metrics),
        rows=rows,
        environment=_environment(results),
        provenance={
            "created": datetime.fromtimestamp(created, UTC).isoformat(timespec="seconds")
            if is_number(created)
            else f"{when[:10]}T{when[11:19].replace('-', ':')}",
            "command": f"evalgate import {path.name}",
            "evalgate": __version__,
            "imported": {
                "tool": TOOL,
                "version": results.content.get("lm_eval_version"),
                "file": path.name,
                "results": results.file,
                "unknown": []
                if results.file
                else ["task version", "model arguments", "number of samples", "aggregates"],
            },
            "left_out": left_out,
        },
    )


def _lines(path: Path) -> Iterator[_Line]:
    data = read_bytes(path)
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        where = f"{shown(path)}:{number}"
        content = read_object(line, where)
        doc = get(content, "doc_id", (int, str), where)
        yield _Line(str(doc), str(content.get("filter", "none")), content, where)


def _documents(lines: Sequence[_Line], path: Path) -> dict[str, dict[str, _Line]]:
    """Document id to filter to line (RecordError where a document stands twice, or there is none)."""
    found: dict[str, dict[str, _Line]] = {}
    for line in lines:
        if line.filter in found.setdefault(line.doc, {}):
            what = f"doc_id {line.doc} appears twice under the filter {line.filter!r}"
            raise RecordError(what, where=line.where, mend="Two runs were written into one file: keep one of them.")
        found[line.doc][line.filter] = line
    if not found:
        raise RecordError("holds no samples", where=shown(path), mend=AGAIN)
    return found


def _results(path: Path, task: str, when: str, documents: int) -> _Results:
    """The results file of the same run, known to belong to these samples."""
    beside = sorted(path.parent.glob(f"*_{when}.json"))
    if not beside:
        return _Results({}, task, None)
    results = _Results(read_object(read_bytes(beside[0]), shown(beside[0])), task, beside[0].name)
    if not results.of_task("results"):
        raise RecordError(f"says nothing of the task {task!r}", where=results.file, mend=AGAIN)
    asked = results.of_task("n-samples").get("effective")
    if isinstance(asked, int) and asked != documents:
        what = f"holds {documents} samples, but the run had {asked}: the file was cut"
        raise RecordError(what, where=shown(path), mend=AGAIN)
    return results


def _measures(
    lines: Sequence[_Line], results: _Results, directions: Mapping[str, bool]
) -> tuple[list[Measure], dict[str, str]]:
    """Every metric under every filter, in the order of the file, and those whose values are no numbers."""
    groups: dict[tuple[str, str], list[_Line]] = {}
    for line in lines:
        for metric in line.metrics:
            groups.setdefault((str(metric), line.filter), []).append(line)
    measures, refused = [], {}
    for (metric, filter_), members in groups.items():
        name = metric_name(metric if filter_ == "none" else f"{metric},{filter_}")
        found = _values(metric, members)
        if isinstance(found, str):
            refused[name] = found
            continue
        values, weights = found
        declared = results.declared("metric_list", "metric", metric) or {}
        higher = (results.of_task("higher_is_better")).get(metric)
        if not isinstance(higher, bool):
            higher = True if metric in RIGHT_OR_WRONG | SHARES else False if weights else None
        reported = results.of_task("results").get(f"{metric},{filter_}")
        aggregation = str(declared.get("aggregation") or "")
        measures.append(
            Measure(
                name=name,
                kind=metric,
                values=values,
                identity={
                    "tool": TOOL,
                    "task": results.task,
                    "version": results.version,
                    "metric": declared or metric,
                    "filter": results.declared("filter_list", "name", filter_) or filter_,
                },
                higher=directions.get(name, higher),
                right_or_wrong=all(value in (0, 1) for value in values.values()),
                graded=all(isinstance(line.content[metric], bool) for line in members if metric in line.content),
                reported=float(reported) if is_number(reported) else None,
                aggregation="" if aggregation in ("mean", metric) else aggregation,
                weights=weights,
            )
        )
    return measures, refused


def _values(metric: str, lines: Sequence[_Line]) -> tuple[dict[str, float], dict[str, float]] | str:
    """Values and weights by document, or why there are none (RecordError for NaN)."""
    if metric in _NO_MEANS:
        return f"it is the {_NO_MEANS[metric]}"
    values: dict[str, float] = {}
    weights: dict[str, float] = {}
    for line in lines:
        value = line.content.get(metric)
        if metric == "bits_per_byte" and isinstance(value, list) and len(value) == 2 and all(map(is_number, value)):
            likelihood, size = value
            if size <= 0:
                raise RecordError(f"bits_per_byte over {size} bytes", where=line.where, mend=AGAIN)
            values[line.doc], weights[line.doc] = -likelihood / math.log(2) / size, float(size)
        elif isinstance(value, int | float):
            if not math.isfinite(value):
                mend = "A score that is no number hides a fault of the run: mend it and evaluate again."
                raise RecordError(f"{metric} is {value}", where=line.where, mend=mend)
            values[line.doc] = value
        elif value is not None:
            also = ", as bits_per_byte says it per sample" if metric.endswith("_perplexity") else ""
            return f"its samples hold {type(value).__name__} values, which only lm-eval's own aggregation reads{also}"
    return values, weights


def _row(filters: Mapping[str, _Line]) -> Row:
    """One document, without its scores: the answer found stands beside each metric of its filter."""
    first = next(iter(filters.values()))
    requests, target = first.requests, first.content.get("target")
    generated = any(isinstance(part, dict) for part in requests[0][1:])
    asked = [[part for part in request if isinstance(part, str)] for request in requests]
    said = [answer for answers in first.content.get("resps") or [] for answer in answers] if generated else []
    notes: dict[str, str] = {}
    for filter_, line in filters.items():
        answer = _answer(line, asked, generated)
        for metric in line.metrics:
            spoken = generated or metric == "acc"  # the normalised ones choose by another rule
            if spoken and answer is not None and answer.strip() not in (str(text).strip() for text in said):
                notes[metric_name(metric if filter_ == "none" else f"{metric},{filter_}")] = answer
    try:
        key = pair(asked[0][0], target, asked)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"the target is none that can be kept: {error}", where=first.where, mend=AGAIN) from error
    return Row(
        id=first.doc,
        pair=key,
        prompt=asked[0][0],
        target=target,
        outputs=tuple(str(text) for text in said),
        scores={},
        notes=notes,
    )


def _answer(line: _Line, asked: Sequence[Sequence[str]], generated: bool) -> str | None:
    """What the filter found in the text, or the likeliest of several continuations."""
    found = line.content.get("filtered_resps") or []
    if generated:
        return str(found[0]) if found and isinstance(found[0], str) else None
    try:
        likelihoods = [float(likelihood) for likelihood, _ in found]
    except (TypeError, ValueError):
        return None
    options = [request[-1] for request in asked]
    return options[likelihoods.index(max(likelihoods))] if 1 < len(likelihoods) == len(options) else None


def _sampling(lines: Sequence[_Line]) -> dict[str, Any]:
    """How answers were drawn, in the tool's own words; its metrics are one value per document, so n is 1."""
    requests = lines[0].requests
    asked = [part for line in lines for request in line.requests for part in request[1:] if isinstance(part, dict)]
    if not asked:
        kind = (
            "multiple_choice"
            if len(requests) > 1
            else "loglikelihood"
            if len(requests[0]) > 1
            else "loglikelihood_rolling"
        )
        return {"n": 1, "temperature": 0.0, "output_type": kind}
    settings = {canonical(part): part for part in asked}
    one = next(iter(settings.values()))
    return {
        "n": 1,
        "temperature": 0.0 if one.get("do_sample") is False else float(one.get("temperature") or 0),
        "output_type": "generate_until",
        "generation_kwargs": one if len(settings) == 1 else {"differ between samples": digest(sorted(settings))},
        "repeats": max(len(answers) for line in lines for answers in line.content.get("resps") or [[]]),
    }


def _checkpoint(path: Path, when: str, results: _Results) -> dict[str, Any]:
    """Who answered; the revision of a hub's model is the only thing by which lm-eval knows weights."""
    model = results.content.get("model_name")
    if not isinstance(model, str):
        folder = path.resolve().parent.name  # lm-eval writes the model's name there, with __ for slashes
        return checkpoint(TOOL, folder.rpartition("__")[2], {"folder": folder}, when)
    run = dict(results.run)
    if isinstance(arguments := run.get("model_args"), str):
        parts = (part.partition("=") for part in arguments.split(","))
        run["model_args"] = {key.strip(): value.strip() for key, _, value in parts}
    kept = ("model", "model_args", "model_revision", "model_sha", "peft_sha", "delta_sha")
    pinned = run.get("model_sha") and not {"peft", "delta"} & set(run.get("model_args") or {})
    told = {name: run[name] for name in kept if run.get(name)}
    return checkpoint(TOOL, model, told, None if pinned else str(results.content.get("date") or when))


def _environment(results: _Results) -> dict[str, Any]:
    run = results.run
    engine = {
        "name": f"{TOOL} {run['model']}" if run.get("model") else TOOL,
        "version": results.content.get("lm_eval_version"),
        "dtype": run.get("model_dtype"),
        "device": run.get("device"),
    }
    packages = {"transformers": results.content.get("transformers_version")}
    return {"engine": plain({k: v for k, v in engine.items() if v is not None}), "packages": packages}
