"""What metrics of judge libraries have in common where a suite declares them: tables of what each needs and gives.

Nothing here imports a library: a suite that names a metric pays for it only in the judges' own process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal

from evalgate.digest import digest
from evalgate.errors import TaskError
from evalgate.instrument import DEFAULT, Instrument
from evalgate.scoring.answer import kind
from evalgate.scoring.scorer import Scorer, judged
from evalgate.scoring.text import filled_target, text_target

if TYPE_CHECKING:
    from evalgate.gate import Gate
    from evalgate.task import Sample

Contexts = str | Sequence[str] | None
"""Names of the fields that hold passages: a text each, or a list of texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a library's metric needs and gives.

    Attributes:
        reference: whether it sees the target.
        contexts: whether it sees passages, of a sample's fields.
        answer: whether it sees the answer at all.
        arguments: names that its constructor takes.
        asks: whether it asks a model.
        low, high: range of the values.
        higher_is_better: orientation.
    """

    reference: bool = False
    contexts: Literal["never", "may", "must"] = "never"
    answer: bool = True
    arguments: tuple[str, ...] = ()
    asks: bool = True
    low: float = 0.0
    high: float = 1.0
    higher_is_better: bool = True


def known(metric: str, table: Mapping[str, Needs], unfit: Mapping[str, str], library: str, where: str) -> Needs:
    """What a metric needs.

    Raises:
        TaskError: there is none of that name, or it is one that cannot judge answers here.
    """
    if metric in table:
        return table[metric]
    if metric in unfit:
        raise TaskError(f"{metric} {unfit[metric]}", where=where)
    near = get_close_matches(metric, table, n=1)
    raise TaskError(
        f"{library} has no metric {metric!r:.80} for answers" + (f", did you mean {near[0]!r}?" if near else ""),
        where=where,
        mend=f"There are {', '.join(sorted(table))}.",
    )


def library_metric(
    library: str,
    metric: str,
    needs: Needs,
    *,
    contexts: Contexts,
    by: str | Sequence[str] | None,
    known: tuple[tuple[str, ...], tuple[str, ...]],
    gate: Gate | None,
    name: str,
    arguments: Mapping[str, Any],
    settings: Mapping[str, Any],
    where: str,
) -> Scorer:
    """The scorer of a metric that a library computes in the judges' process.

    Args:
        library: kind of the instrument.
        metric: as the library calls it.
        needs: what it needs and gives.
        contexts: names of the sample's fields with passages.
        by: names of the judges in the settings; `None` leaves the choice to them.
        known: its own canaries, see `known_answers`.
        gate: margin and floor.
        name: of the metric in records and test ids.
        arguments: of the library's constructor, JSON values.
        settings: whatever else changes a judgement.
        where: for messages.

    Raises:
        TaskError: arguments that the metric does not take or that are no JSON, passages that it needs or does not look
            at, a judge for what asks none, a gate on what never sees the answer.
    """
    for argument in arguments:
        if argument not in needs.arguments:
            takes = f"It takes {', '.join(needs.arguments)}." if needs.arguments else "It takes none."
            raise TaskError(f"{metric} has no argument {argument!r}", where=where, mend=takes)
    try:
        digest(dict(arguments))
    except (TypeError, ValueError) as error:
        raise TaskError(f"arguments must be JSON values: {error}", where=where) from None
    limit = settings.get("max_tokens", 1)
    if type(limit) is not int or limit < 1:
        raise TaskError(f"max_tokens={limit!r}, expected a whole number above 0", where=where)
    if by is not None and not needs.asks:
        raise TaskError(f"{metric} asks no model, so by={by!r} means nothing", where=where, mend="Leave by out.")
    if gate is not None and not needs.answer:
        raise TaskError(
            f"{metric} looks at question, passages and reference, never at the answer: no checkpoint could fail it",
            where=where,
            mend="Leave the gate out, or take a metric that sees the answer.",
        )
    if not needs.higher_is_better and (known[0] or known[1]):
        raise TaskError(
            f"{metric} is better where it is lower, and canaries are read the other way round",
            where=where,
            mend="Leave good and bad out.",
        )
    fields = _fields(contexts, metric, needs, where)
    instrument = Instrument(
        kind=library,
        settings={"metric": metric, "arguments": dict(arguments), "contexts": list(fields), **settings},
        low=needs.low,
        high=needs.high,
        by=_judges(by, where) if needs.asks else (),
        fields=fields,
        reference=needs.reference,
        asks=needs.asks,
        good=known[0],
        bad=known[1],
    )
    scorer = judged(name, instrument, gate=gate, check=_check(needs, fields))
    return replace(scorer, higher_is_better=needs.higher_is_better)


def _fields(contexts: Contexts, metric: str, needs: Needs, where: str) -> tuple[str, ...]:
    fields = _names("contexts", () if contexts is None else contexts, where)
    if fields and needs.contexts == "never":
        raise TaskError(f"{metric} looks at no passages", where=where, mend="Leave contexts out.")
    if not fields and needs.contexts == "must":
        raise TaskError(
            f"{metric} compares the answer with passages, and none are named",
            where=where,
            mend='Name the field that holds them, such as contexts="passages".',
        )
    return fields


def _judges(by: str | Sequence[str] | None, where: str) -> tuple[str, ...]:
    judges = (DEFAULT,) if by is None else _names("by", by, where)
    if not judges:
        raise TaskError("by names no judge", where=where, mend="Leave it out for the judge of the settings.")
    return judges


def _names(what: str, given: str | Sequence[str], where: str) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) or not isinstance(given, Iterable) else tuple(given)
    if not all(isinstance(name, str) and name.strip() for name in names) or len(set(names)) != len(names):
        raise TaskError(f"{what}={given!r:.80}, expected names, each once", where=where)
    return names


def _check(needs: Needs, fields: tuple[str, ...]) -> Callable[[Sample], str | None]:
    target = filled_target if needs.asks else text_target  # libraries take an empty reference for a missing one

    def check(sample: Sample) -> str | None:
        if needs.reference and (why := target(sample)):
            return why
        return next(filter(None, (_passages(sample.fields.get(name), name) for name in fields)), None)

    return check


def _passages(value: Any, name: str) -> str | None:
    """Why a field holds no passages, if so."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple):
        return f"the field {name!r} holds {kind(value)}, expected passages: a text or a list of texts"
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        return f"the field {name!r} holds no passages, or one that is empty or no text"
    return None
