"""Logs of inspect_ai: an `.eval` zip (`header.json`, `samples/*.json`) or one `.json` with everything.

Format: `EvalLog` version 2 of inspect_ai 0.3, read without inspect_ai.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from statistics import fmean
from typing import Any

from evalgate import __version__
from evalgate.digest import digest
from evalgate.errors import RecordError
from evalgate.evaluation import Evaluation, Row
from evalgate.importers.archive import Archive
from evalgate.importers.foreign import (
    AGAIN,
    RIGHT_OR_WRONG,
    SHARES,
    Measure,
    checkpoint,
    get,
    is_number,
    metric_name,
    one_line,
    pair,
    plain,
    read_bytes,
    read_object,
    samples_digest,
    scored,
    settle_all,
    shown,
)

TOOL = "inspect_ai"
_GRADES = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
_WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
_PLUMBING = frozenset(
    ("max_retries", "timeout", "attempt_timeout", "max_connections", "adaptive_connections", "batch", "cache", "seed")
)  # how requests travel, not what is drawn
_FINISH = {"stop": "stop", "max_tokens": "length", "model_length": "length"}

Sample = Mapping[str, Any]


def read(path: Path, directions: Mapping[str, bool]) -> Evaluation:
    """The evaluation in one log (RecordError, MissingExtraError)."""
    where = shown(path)
    header, samples = _eval_log(path) if path.suffix == ".eval" else _json_log(path)
    spec = get(header, "eval", dict, where)
    questions = _questions(samples, where)
    _finished(header, sum(map(len, questions.values())), where)
    epochs = (spec.get("config") or {}).get("epochs") or 1
    measures, refused = _measures(questions, header, directions)
    metrics, left_out = settle_all(measures, refused, where)
    rows = tuple(scored(_row(name, drawn, epochs), metrics, measures) for name, drawn in questions.items())
    drawing = _settings(header)
    seed = drawing.get("seed")
    version = (spec.get("packages") or {}).get("inspect_ai")
    return Evaluation(
        task=f"inspect/{get(spec, 'task', str, where)}",
        checkpoint=checkpoint(
            TOOL,
            get(spec, "model", str, where),
            {name: spec[name] for name in ("model", "model_args", "model_roles") if spec.get(name)},
            str(spec.get("run_id") or spec.get("created")),
        ),
        prompt=digest([TOOL, spec["task"], _solver(header)]),
        sampling={
            "n": epochs,
            "temperature": drawing.get("temperature"),
            "generate_config": {k: v for k, v in drawing.items() if k not in _PLUMBING},
            "solver": _solver(header),
            "task_args": plain(spec.get("task_args") or {}),
        },
        seed=seed if isinstance(seed, int) else 0,
        samples=samples_digest(rows),
        metrics=tuple(metrics),
        rows=rows,
        environment={"engine": {"name": f"{TOOL} {spec['model'].partition('/')[0]}", "version": version}},
        provenance={
            "created": str(spec.get("created")),
            "command": f"evalgate import {where}",
            "evalgate": __version__,
            "imported": {"tool": TOOL, "version": version, "file": where, "unknown": ["prompts as the model saw them"]},
            "left_out": left_out,
        },
    )


def _eval_log(path: Path) -> tuple[Mapping[str, Any], list[Sample]]:
    with closing(Archive(path)) as archive:
        if "header.json" not in archive.names:
            _unfinished("started", shown(path))
        names = [name for name in archive.names if name.startswith("samples/") and name.endswith(".json")]
        return archive.read("header.json"), [_slim(archive.read(name)) for name in names]


def _json_log(path: Path) -> tuple[Mapping[str, Any], list[Sample]]:
    log = read_object(read_bytes(path), shown(path))
    if not isinstance(log.get("eval"), dict):
        mend = "Name samples_*.jsonl of lm-eval, or an .eval or .json log of inspect_ai."
        raise RecordError("is no log of inspect_ai: it has no eval", where=shown(path), mend=mend)
    return log, [_slim(sample) for sample in log.get("samples") or []]


def _slim(sample: Sample) -> Sample:
    """What of a sample is read: its events, nine tenths of a log, are let go at once."""
    kept = ("id", "epoch", "input", "choices", "target", "output", "scores", "error", "model_usage")
    return {name: sample[name] for name in kept if name in sample}


def _unfinished(status: Any, where: str) -> None:
    mend = f"Finish the run (inspect eval-retry {where}) and import the log that it writes."
    raise RecordError(f"is the log of a run that did not finish: its status is {status!r}", where=where, mend=mend)


def _finished(header: Mapping[str, Any], samples: int, where: str) -> None:
    """Refuse a log that does not hold everything that was asked."""
    if header.get("status") != "success":
        _unfinished(header.get("status"), where)
    if header.get("invalidated"):
        raise RecordError("was invalidated by a person", where=where, mend="Evaluate again.")
    if not samples:
        mend = "Run it again without --no-log-samples."
        raise RecordError("holds no samples", where=where, mend=mend)
    results = header.get("results") or {}
    asked = results.get("logged_samples") or results.get("total_samples")
    if isinstance(asked, int) and asked != samples and not results.get("early_stopping"):
        raise RecordError(f"holds {samples} samples, but the run had {asked}: some were lost", where=where, mend=AGAIN)


def _questions(samples: Sequence[Sample], where: str) -> dict[str, dict[int, Sample]]:
    """Sample id to epoch to sample (RecordError where one stands twice)."""
    found: dict[str, dict[int, Sample]] = {}
    for sample in samples:
        name, epoch = str(get(sample, "id", (int, str), where)), get(sample, "epoch", int, where)
        if epoch in found.setdefault(name, {}):
            what = f"the sample {name!r} appears twice in epoch {epoch}"
            raise RecordError(what, where=where, mend="Two runs were written into one log: keep one of them.")
        found[name][epoch] = sample
    return found


# -- values -----------------------------------------------------------------------------------------------------------


def _measures(
    questions: Mapping[str, Mapping[int, Sample]], header: Mapping[str, Any], directions: Mapping[str, bool]
) -> tuple[list[Measure], dict[str, str]]:
    """Every scorer's value, and every entry of a scorer that gives several, in the order of the log."""
    raw: dict[tuple[str, str | None], dict[str, list[Any]]] = {}
    for name, drawn in questions.items():
        for sample in drawn.values():
            for scorer, key, value in _scores(sample):
                raw.setdefault((scorer, key), {}).setdefault(name, []).append(value)
    measures, refused = [], {}
    for (scorer, key), by_sample in raw.items():
        name = metric_name(scorer if key is None else f"{scorer}.{key}")
        every = [value for values in by_sample.values() for value in values]
        strange = next((value for value in every if _number(value) is None), None)
        if strange is not None:
            refused[name] = f"{strange!r:.30} is no value that inspect_ai counts"
            continue
        # NaN is inspect_ai's own word for "no score": never a value, and no zero.
        numbers = {sample: [v for v in map(_number, values) if is_number(v)] for sample, values in by_sample.items()}
        graded = all(isinstance(value, bool | str) for value in every)
        told = _told(header, scorer, key)
        kind = scorer if key is None else key
        sure = graded or kind in RIGHT_OR_WRONG | SHARES or "accuracy" in told
        measures.append(
            Measure(
                name=name,
                kind=kind,
                values={sample: fmean(values) for sample, values in numbers.items() if values},
                identity=_identity(header, scorer, key),
                higher=directions.get(name, True if sure else None),
                right_or_wrong=(kind in RIGHT_OR_WRONG or all(isinstance(value, bool) for value in every))
                and all(value in (0, 1) for values in numbers.values() for value in values),
                graded=graded,
                reported=next((value for value in told.values() if is_number(value)), None),
            )
        )
    return measures, refused


def _scores(sample: Sample) -> Iterator[tuple[str, str | None, Any]]:
    """Scorer, entry of its value where it gave several, and value."""
    for scorer, score in (sample.get("scores") or {}).items():
        value = score.get("value")
        if isinstance(value, dict):
            yield from ((scorer, key, item) for key, item in value.items())
        elif value is not None:
            yield scorer, None, value


def _number(value: Any) -> float | None:
    """As inspect_ai's `value_to_float` counts, but for what it turns into 0 with a warning: that is no value."""
    if isinstance(value, str):
        if (grade := _GRADES.get(value, _WORDS.get(value.lower()))) is not None:
            return grade
        try:
            value = float(value)
        except ValueError:
            return None
    return float(value) if isinstance(value, int | float) and not math.isinf(value) else None


def _told(header: Mapping[str, Any], scorer: str, key: str | None) -> dict[str, Any]:
    """The tool's own mean of a scorer over the samples that have a value, by the name of its metric."""
    for entry in (header.get("results") or {}).get("scores") or []:
        mine = entry.get("scorer") == scorer and entry.get("name") in (scorer, key)
        if mine and entry.get("reducer") in (None, "mean"):
            metrics = {name.rpartition("/")[2]: metric for name, metric in (entry.get("metrics") or {}).items()}
            return {
                n: metrics[n].get("value")
                for n in ("accuracy", "mean")
                if n in metrics and not metrics[n].get("params")
            }
    return {}


def _identity(header: Mapping[str, Any], scorer: str, key: str | None) -> dict[str, Any]:
    spec = header["eval"]
    scorers: list[dict[str, Any]] = spec.get("scorers") or []
    entry = next((e for e in scorers if str(e.get("name")).rpartition("/")[2] == scorer), {})
    return {
        "tool": TOOL,
        "task": spec.get("task"),
        "version": spec.get("task_version"),
        "scorer": scorer,
        "options": entry.get("options"),
        "key": key,
    }


# -- rows -------------------------------------------------------------------------------------------------------------


def _row(name: str, drawn: Mapping[int, Sample], epochs: int) -> Row:
    """One question, without its scores."""
    order = [drawn[epoch] for epoch in sorted(drawn)]
    first = order[0]
    asked = first.get("input")
    answers = [_answer(sample) for sample in order]
    faults = [f"epoch {s['epoch']}: {s['error'].get('message')}" for s in order if s.get("error")]
    if len(order) < epochs:
        faults.append(f"{len(order)} of {epochs} epochs are there")
    usage = [use for sample in order for use in (sample.get("model_usage") or {}).values()]
    return Row(
        id=name,
        pair=pair(_said(asked), first.get("choices"), first.get("target")),
        prompt=asked
        if isinstance(asked, str)
        else "\n".join(f"{role}: {_text(content)}" for role, content in _said(asked)),
        target=first.get("target"),
        outputs=() if faults else tuple(text for text, _ in answers),
        scores={},
        notes=_notes(first, answers[0][0]),
        finish=() if faults else tuple(finish for _, finish in answers),
        tokens=(sum(u.get("input_tokens") or 0 for u in usage), sum(u.get("output_tokens") or 0 for u in usage)),
        error=one_line(f"sample {name}: {'; '.join(faults)}") if faults else None,
    )


def _said(asked: Any) -> Any:
    """Input without the random ids that every message has."""
    return [[message["role"], message["content"]] for message in asked] if isinstance(asked, list) else asked


def _text(content: Any) -> str:
    """The text of a message; images and the like are named by their kind."""
    if isinstance(content, str):
        return content
    return "".join(part["text"] if "text" in part else f"[{part.get('type')}]" for part in content)


def _answer(sample: Sample) -> tuple[str, str]:
    """Text, and why it ended there."""
    choices = (sample.get("output") or {}).get("choices") or []
    if not choices:
        return "", "unknown"
    reason = str(choices[0].get("stop_reason"))
    return _text(choices[0]["message"]["content"]), _FINISH.get(reason, reason)


def _notes(sample: Sample, said: str) -> dict[str, str]:
    """The answer that each scorer found, unless it is the output itself."""
    found = {name: score.get("answer") for name, score in (sample.get("scores") or {}).items()}
    return {
        metric_name(name): answer
        for name, answer in found.items()
        if isinstance(answer, str) and answer.strip().lower() != said.strip().lower()
    }


# -- how answers were drawn -------------------------------------------------------------------------------------------


def _settings(header: Mapping[str, Any]) -> dict[str, Any]:
    """Generation settings of the run: the plan's win over the model's."""
    plan = (header.get("plan") or {}).get("config") or {}
    return {k: v for k, v in {**(header["eval"].get("model_generate_config") or {}), **plan}.items() if v is not None}


def _solver(header: Mapping[str, Any]) -> list[list[Any]]:
    """The steps between input and answer: another solver asks another question."""
    return [[step.get("solver"), plain(step.get("params"))] for step in (header.get("plan") or {}).get("steps") or []]
