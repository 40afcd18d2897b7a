"""`card.json`: everything a card says but the samples, for machines; and the same back again.

A card is rendered from what this file holds and from the records that it names, so it can be made again at any time,
with the same bytes, and nothing runs. `card.schema.json` beside this module is its published JSON Schema.

Numbers that JSON does not have stand as the texts "inf", "-inf" and "nan". A field is never removed or given another
meaning without a new `format`; new ones may appear.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from evalgate.compare import Comparison, Difference, Paired, SliceResult
from evalgate.errors import ConfigError, RecordError
from evalgate.evaluation import Acceptance, Evaluation, Metric, Row
from evalgate.gate import Family, Outcome, Policy, Verdict
from evalgate.power import PowerLine, PowerPlan
from evalgate.report.card import CardData, Costs
from evalgate.report.past.history import Past, PastMetric
from evalgate.stats import PairedTest
from evalgate.version import lineage_from_json

if TYPE_CHECKING:
    from collections.abc import Callable

FORMAT = 1
_LOST = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


@cache
def schema() -> Mapping[str, Any]:
    """The published JSON Schema of the document."""
    found: Mapping[str, Any] = json.loads(files("evalgate.report").joinpath("card.schema.json").read_text("utf-8"))
    return found


def as_document(data: CardData) -> dict[str, Any]:
    """A card without its samples, as JSON values."""
    tasks = {task: {"candidate": _header(e), "baseline": None} for task, e in data.candidates.items()}
    for task, baseline in data.baselines.items():
        tasks.setdefault(task, {"candidate": None})["baseline"] = _header(baseline)
    return {
        "format": FORMAT,
        "name": data.name,
        "digest": data.digest,
        "folder": data.folder,
        "generated": data.generated,
        "command": data.command,
        "ledger": data.ledger_head,
        "outcome": str(data.family.outcome),
        "blocked": data.family.fails(data.family.policy),
        "family": _value(data.family),
        "evaluations": tasks,
        "lineage": data.lineage.as_json() if data.lineage else None,
        "statement": data.statement,
        "statements": list(data.statements),
        "noise": data.noise,
        "near_ties": _value(data.near_ties),
        "lines": list(data.lines),
        "power": _value(data.power),
        "costs": _value(data.costs),
        "history": _value(data.history),
    }


def _header(evaluation: Evaluation) -> dict[str, Any]:
    """An evaluation without its rows, which its digest finds, and how many they are."""
    return {
        "digest": evaluation.digest,
        "record": evaluation.record,
        "samples": len(evaluation.rows),
        "identity": evaluation.identity,
        "environment": dict(evaluation.environment),
        "provenance": dict(evaluation.provenance),
        "policy": dict(evaluation.policy),
        "acceptance": asdict(evaluation.acceptance) if evaluation.acceptance else None,
    }


def _value(value: Any) -> Any:
    """JSON values of dataclasses, mappings, sequences and numbers; the paired scores behind a comparison stay out."""
    if is_dataclass(value):
        return {each.name: _value(getattr(value, each.name)) for each in fields(value) if each.name != "pairs"}
    if isinstance(value, Mapping):
        return {str(key): _value(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_value(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(float(value))
    if value is None or isinstance(value, bool | int | float):
        return value
    return str(value)


def evaluations_of(document: Mapping[str, Any], side: str) -> dict[str, str]:
    """Task id to the digest of its evaluation on one side, `candidate` or `baseline`, where there is one."""
    return {task: sides[side]["digest"] for task, sides in document["evaluations"].items() if sides[side]}


def from_document(document: Mapping[str, Any], rows: Callable[[str, str], tuple[Row, ...]], where: str) -> CardData:
    """The card that a document and the rows of its evaluations make.

    Args:
        document: what `as_document` made.
        rows: finds the rows of an evaluation by task and digest.
        where: the document lies, for messages.

    Raises:
        RecordError: it is damaged, or of a newer format.
    """
    check(document, where)
    try:
        power, costs, lineage = document["power"], document["costs"], document["lineage"]
        sides = {
            side: {
                task: _evaluation(found[side], rows(task, found[side]["digest"]))
                for task, found in document["evaluations"].items()
                if found[side]
            }
            for side in ("candidate", "baseline")
        }
        return CardData(
            name=document["name"],
            family=_family(document["family"]),
            candidates=sides["candidate"],
            baselines=sides["baseline"],
            statement=document["statement"],
            ledger_head=document["ledger"],
            command=document["command"],
            generated=document["generated"],
            noise=document["noise"],
            near_ties={name: tuple(ids) for name, ids in document["near_ties"].items()},
            lines=tuple(document["lines"]),
            lineage=lineage_from_json(lineage, where) if lineage else None,
            folder=document["folder"],
            power=_power(power) if power else None,
            costs=Costs(**costs) if costs else None,
            statements=tuple(document["statements"]),
            history=tuple(map(_past, document["history"])),
        )
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as exc:
        raise RecordError(f"is no card's document: {exc!r:.200}", where=where, mend="Run the gate again.") from exc


def check(document: Any, where: str) -> None:
    """Hold a document to the published schema (RecordError with the place and what is wrong)."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    found = document.get("format") if isinstance(document, dict) else None
    if isinstance(found, int) and found > FORMAT:
        raise RecordError(
            f"has format {found}, this evalgate reads up to {FORMAT}", where=where, mend="Update evalgate."
        )
    error = best_match(Draft202012Validator(schema()).iter_errors(document))
    if error:
        what = f"does not match card.schema.json at {error.json_path}: {error.message:.200}"
        raise RecordError(what, where=where, mend="Run the gate again.")


def _evaluation(header: Mapping[str, Any], rows: tuple[Row, ...]) -> Evaluation:
    identity = {**header["identity"], "metrics": tuple(Metric(**metric) for metric in header["identity"]["metrics"])}
    made = Evaluation(
        **identity,
        rows=rows,
        environment=header["environment"],
        provenance=header["provenance"],
        policy=header["policy"],
        acceptance=Acceptance(**header["acceptance"]) if header["acceptance"] else None,
    )
    return made if header["record"] == header["digest"] else replace(made, origin=header["record"])


def _family(value: Mapping[str, Any]) -> Family:
    return Family(
        **{
            **value,
            "verdicts": tuple(map(_verdict, value["verdicts"])),
            "outcome": Outcome(value["outcome"]),
            "together": Outcome(value["together"]) if value["together"] else None,
            "policy": Policy(**value["policy"]),
            **{name: _test(value[name]) for name in ("pooled", "clean")},
            **{name: tuple(value[name]) for name in ("partial", "wants_reserve")},
        }
    )


def _verdict(value: Mapping[str, Any]) -> Verdict:
    compared = {
        name: _comparison(value[name]) if value[name] else None for name in ("comparison", "anchor", "confirmation")
    }
    return Verdict(
        **{
            **_numbers(value, "value", "p_adjusted", "level", "detectable"),
            **compared,
            "outcome": Outcome(value["outcome"]),
            "spec": Metric(**value["spec"]) if value["spec"] else None,
            "look": tuple(value["look"]) if value["look"] else None,
            "clean": _verdict(value["clean"]) if value["clean"] else None,
            "asides": tuple(value["asides"]),
        }
    )


def _comparison(value: Mapping[str, Any]) -> Comparison:
    ids = ("broken", "fixed", "golden_broken", "only_candidate", "only_baseline")
    slices = (_numbers(each, "candidate", "baseline", "delta") for each in value["slices"])
    return Comparison(
        **{
            **_numbers(value, "candidate", "baseline", "margin"),
            "metric": Metric(**value["metric"]),
            "test": _test(value["test"]),
            "pairs": _no_pairs(),
            **{name: tuple(value[name]) for name in ids},
            "slices": tuple(SliceResult(**each) for each in slices),
            "notes": tuple(Difference(**each) for each in value["notes"]),
        }
    )


def _no_pairs() -> Paired:
    """The scores themselves are in the records."""
    import numpy as np

    none, nowhere = np.empty(0), np.empty(0, dtype=np.intp)
    return Paired(positions=nowhere, candidate=none, baseline=none, difference=none, clusters=None, weights=None)


def _test(value: Mapping[str, Any] | None) -> PairedTest | None:
    numbers = ("delta", "low", "high", "p_reg", "p_ni", "sd", "discordance")
    return PairedTest(**_numbers(value, *numbers)) if value else None


def _power(value: Mapping[str, Any]) -> PowerPlan:
    numbers = ("detectable", "margin", "baseline", "sd", "psi", "level")
    lines = (PowerLine(**{**_numbers(line, *numbers), "metric": Metric(**line["metric"])}) for line in value["lines"])
    return PowerPlan(**{**value, "lines": tuple(lines)})


def _past(value: Mapping[str, Any]) -> Past:
    numbers = ("value", "baseline", "low", "high", "range")
    metrics = {name: PastMetric(**_numbers(metric, *numbers)) for name, metric in value["metrics"].items()}
    return Past(**{**value, "metrics": metrics, "partial": tuple(value["partial"]), "aliases": tuple(value["aliases"])})


def _numbers(value: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The same with the numbers that JSON does not have."""
    return {**value, **{name: _LOST.get(value[name], value[name]) for name in names if isinstance(value[name], str)}}


def pretty(document: Mapping[str, Any]) -> bytes:
    """As it stands in `card.json`; half an emoji (a lone surrogate) stays itself, as JSON's own escape."""
    return json.dumps(document, indent=1, ensure_ascii=True, allow_nan=False).encode() + b"\n"
