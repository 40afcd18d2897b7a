"""promptfoo's assertions as a scorer: which may stand in a suite, checked where they are declared.

What they say of an answer is asked of the real tool (`evalgate.judges.promptfoo`). Nothing here imports or runs it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING, Any

from evalgate.digest import digest
from evalgate.errors import TaskError
from evalgate.instrument import DEFAULT, Case, Instrument
from evalgate.scoring.canary import known_answers
from evalgate.scoring.scorer import Scorer, judged

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    from evalgate.gate import Gate
    from evalgate.task import Sample

REVISION = 1
"""Of how templates are rendered, replies are read and rows become values: in the identity of the instrument."""
SHARED = ("question", "reference")
"""What templates may name besides the sample's fields."""
CODE = frozenset(
    {
        *("equals", "contains", "icontains", "contains-any", "icontains-any", "contains-all", "icontains-all"),
        *("starts-with", "regex", "is-json", "contains-json", "is-html", "contains-html", "is-xml", "contains-xml"),
        *("is-refusal", "levenshtein", "bleu", "gleu", "rouge-n", "word-count", "javascript"),
    }
)
"""Assertions that ask no model."""
GRADED = frozenset(
    {"llm-rubric", "factuality", "model-graded-factuality", "model-graded-closedqa", "g-eval", "context-faithfulness"}
)
"""Assertions that a judge answers."""
_BARE = frozenset({"is-json", "contains-json", "is-html", "contains-html", "is-xml", "contains-xml", "is-refusal"})
_NEVER_INVERTED = frozenset({"factuality", "model-graded-factuality", "model-graded-closedqa"})
_EMBEDDINGS = "compares embeddings, which no judge here gives; llm-rubric asks the judge instead"
_FOREIGN = "runs code of another language; write it in Python as function(f)"
_NETWORK = "asks a service on the network"
_REPLAYED = "is about how an answer was made, and answers are replayed"
_PACKAGE = "needs a package that promptfoo is installed without"
_BLIND = "never looks at the answer: no checkpoint could fail it"
REFUSED = {
    **dict.fromkeys(("similar", "similar:cosine", "similar:dot", "similar:euclidean", "answer-relevance"), _EMBEDDINGS),
    **dict.fromkeys(("webhook", "moderation", "pi", "classifier", "search-rubric", "agent-rubric"), _NETWORK),
    **dict.fromkeys(("python", "ruby"), _FOREIGN),
    **dict.fromkeys(("cost", "latency", "perplexity", "perplexity-score", "guardrails", "finish-reason"), _REPLAYED),
    **dict.fromkeys(("is-valid-function-call", "is-valid-openai-function-call", "tool-call-f1"), _REPLAYED),
    **dict.fromkeys(("is-valid-openai-tools-call", "skill-used"), _REPLAYED),
    **dict.fromkeys(("meteor", "is-sql", "contains-sql"), _PACKAGE),
    **dict.fromkeys(("context-recall", "context-relevance"), _BLIND),
    **dict.fromkeys(("select-best", "max-score"), "compares several models; use prefer(…)"),
    "conversation-relevance": "is about conversations of several turns",
}
_KEYS = frozenset({"type", "value", "threshold", "weight", "metric"})
_MEND = f"There are {', '.join(sorted(CODE | GRADED))}, assert-set, and each with not- before it."


def promptfoo(
    assertions: Sequence[Mapping[str, Any]],
    *,
    threshold: float | None = None,
    by: str | Sequence[str] | None = None,
    fields: Sequence[str] = (),
    good: Sequence[str] = (),
    bad: Sequence[str] = (),
    gate: Gate | None = None,
    name: str = "promptfoo",
) -> Scorer:
    """What promptfoo says of an answer: the weighted mean of its assertions' scores, 0 to 1.

    The real tool judges; `evalgate setup promptfoo` installs it. A string in `value`, or in a list there, is a Jinja
    template over the sample's fields, `question` and `reference`. The answer is in no template: it reaches assertions
    and judges to the letter. `javascript` has the fields, `question` and `reference` in `context.vars`.

    Args:
        assertions: as promptfoo has them: `{"type": "icontains", "value": "{{ city }}"}`, `{"type": "llm-rubric", …}`.
        threshold: where given, the value is 1 where the mean reaches it, else 0, as promptfoo passes tests.
        by: names of the judges in the settings, for the model-graded ones; `None` leaves the choice to them.
        fields: names of the sample's fields that only JavaScript names; those in templates are found.
        good: answers that are good whatever was asked: canaries, which each session shows the judge.
        bad: answers that are bad whatever was asked, likewise.
        gate: margin and floor.
        name: of the metric.

    Raises:
        TaskError: an assertion that is none, that reads files, asks a service on the network, or cannot judge stored
            answers; each with the reason.
    """
    where = "promptfoo(…)"
    checked = check_assertions(assertions, where)
    check_threshold(threshold, where)
    asks = any(map(is_graded, leaves(checked)))
    if by is not None and not asks:
        raise TaskError(f"asks no model, so by={by!r} means nothing", where=where, mend="Leave by out.")
    known = known_answers(good, bad, where)
    named = names_in(checked)
    code = " ".join(str(each["value"]) for each in leaves(checked) if base(each) == "javascript")
    instrument = Instrument(
        kind="promptfoo",
        settings={"revision": REVISION, "assertions": checked, "threshold": threshold},
        by=judges(by),
        fields=tuple(sorted({*fields} | (named - {*SHARED}))),
        reference="reference" in named or "reference" in code,
        asks=asks,
        good=known[0],
        bad=known[1],
    )

    def check(sample: Sample) -> str | None:
        if missing := [field for field in instrument.fields if field not in sample.fields]:
            return f"the assertions name {', '.join(map(repr, missing))}, which it has not"
        if "reference" in named and sample.target is None:
            return "the assertions name the reference, and it has no target"
        return None

    return judged(name, instrument, gate=gate, check=check)


def assertions_from(field: str, *, by: str | Sequence[str] | None, asks: bool, gate: Gate | None, name: str) -> Scorer:
    """The scorer of samples that bring their own assertions: `{"assert": […], "threshold": …, "vars": {…}}` in a field.

    Args:
        field: of the sample; what it holds was checked by `check_assertions`.
        by: names of the judges in the settings.
        asks: whether any of the assertions asks a model.
        gate: margin and floor.
        name: of the metric.
    """
    settings = {"revision": REVISION, "assert_from": field}
    instrument = Instrument("promptfoo", settings, by=judges(by), fields=(field,), asks=asks)
    return judged(name, instrument, gate=gate)


def judges(by: str | Sequence[str] | None) -> tuple[str, ...]:
    """Names of judges as an instrument has them."""
    return (DEFAULT,) if by is None else (by,) if isinstance(by, str) else tuple(by)


def of_case(instrument: Instrument, case: Case) -> tuple[list[dict[str, Any]], float | None, dict[str, Any]]:
    """Assertions with their values rendered, the threshold, and the variables of one case.

    Raises:
        TaskError: a template cannot be rendered with what the sample holds.
    """
    own = instrument.settings.get("assert_from")
    declared = case.fields[own] if own else instrument.settings
    fields = declared["vars"] if own else case.fields
    reference = {} if case.reference is None else {"reference": case.reference}
    shown = {"question": case.question, **reference, **fields}
    assertions = declared["assert"] if own else declared["assertions"]
    return [_rendered(each, shown) for each in assertions], declared.get("threshold"), shown


def leaves(assertions: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Every assertion, those inside of sets too."""
    for each in assertions:
        if each["type"] == "assert-set":
            yield from leaves(each["assert"])
        else:
            yield each


def base(assertion: Mapping[str, Any]) -> str:
    """Its type without `not-`."""
    return str(assertion["type"]).removeprefix("not-")


def is_graded(assertion: Mapping[str, Any]) -> bool:
    """Whether a judge answers it."""
    return base(assertion) in GRADED


def check_threshold(value: object, where: str) -> None:
    """Refuse what is no number from 0 to 1 (TaskError)."""
    if value is not None and not (_is_number(value) and 0 <= value <= 1):  # type: ignore[operator]
        raise TaskError(f"the threshold is {value!r:.80}, expected a number from 0 to 1", where=where)


def check_assertions(assertions: object, where: str) -> list[dict[str, Any]]:
    """The assertions as JSON values.

    Raises:
        TaskError: one cannot be used here; `where` is followed by its number.
    """
    if not isinstance(assertions, list | tuple) or not assertions:
        raise TaskError("expected a list with at least one assertion", where=where)
    found = [check_assertion(each, f"{where}, assertion {number}") for number, each in enumerate(assertions, start=1)]
    if not sum(each.get("weight", 1) for each in found):
        raise TaskError("every assertion has the weight 0, so nothing counts", where=where)
    try:
        digest(found)
    except (TypeError, ValueError) as error:
        raise TaskError(f"assertions must be JSON values: {error}", where=where) from None
    return found


def check_assertion(given: object, where: str) -> dict[str, Any]:
    """One assertion as JSON values (TaskError)."""
    if not isinstance(given, Mapping) or not isinstance(given.get("type"), str):
        raise TaskError(f"expected an object with a type, found {given!r:.80}", where=where)
    assertion, kind = dict(given), str(given["type"])
    if not _is_number(weight := assertion.get("weight", 1)) or weight < 0:
        raise TaskError(f"the weight is {weight!r:.80}, expected a number from 0", where=where)
    if kind == "assert-set":
        _only(assertion, {"type", "assert", "threshold", "weight", "metric"}, where)
        check_threshold(assertion.get("threshold"), where)
        return assertion | {"assert": check_assertions(assertion.get("assert"), where)}
    name = base(assertion)
    if name not in CODE | GRADED:
        raise _unfit(kind, name, where)
    if kind != name and name in _NEVER_INVERTED:
        mend = "Turn the sentence around instead."
        raise TaskError(f"promptfoo ignores the not- of {kind}", where=where, mend=mend)
    _only(assertion, _KEYS | ({"rubricPrompt"} if name in GRADED else {"config"} & _config(name)), where)
    if "threshold" in assertion and not _is_number(assertion["threshold"]):
        raise TaskError(f"the threshold is {assertion['threshold']!r:.80}, expected a number", where=where)
    _check_value(name, assertion.get("value"), where)
    _check_files(assertion, where)
    return assertion


def _config(name: str) -> set[str]:
    return {"config"} if name == "javascript" else set()


def _unfit(kind: str, name: str, where: str) -> TaskError:
    reason = "attacks models" if name.startswith("promptfoo:redteam:") else REFUSED.get(name)
    if name.startswith(("trajectory:", "trace-")):
        reason = _REPLAYED
    if reason:
        return TaskError(f"{kind} {reason}", where=where)
    near = get_close_matches(name, CODE | GRADED, n=1)
    mend = f"Did you mean {near[0]!r}?" if near else _MEND
    return TaskError(f"there is no assertion {kind!r:.80}", where=where, mend=mend)


def _only(assertion: Mapping[str, Any], known: set[str] | frozenset[str], where: str) -> None:
    if unknown := sorted(set(assertion) - known):
        mend = f"It may have {', '.join(sorted(known))}."
        if "provider" in unknown:
            mend = "The judge stands in the settings, [tool.evalgate.judges.NAME]; name it with by=…"
        raise TaskError(f"{assertion['type']} with {', '.join(unknown)} is not supported", where=where, mend=mend)


def _check_value(name: str, value: object, where: str) -> None:
    if value is None or value == "":
        if name in _BARE or name == "context-faithfulness":
            return
        raise TaskError(f"{name} needs a value", where=where)
    if name == "javascript":
        if not isinstance(value, str):
            raise TaskError(f"javascript needs its code as text, found {value!r:.80}", where=where)
        if "{{" in value or "{%" in value:  # data would become code
            mend = "Fields stand in context.vars, such as context.vars.city."
            raise TaskError("javascript is no template here", where=where, mend=mend)
        return
    for text in _templates(value):
        _undeclared(text, where)


def _check_files(value: object, where: str) -> None:
    """What stands in a file is in no digest, and may be code."""
    if isinstance(value, str) and value.lstrip().startswith(("file://", "package:")):
        mend = "Write what stands in it here: its content is part of what the metric is."
        raise TaskError(f"{value!r:.80} names a file", where=where, mend=mend)
    if isinstance(value, list | tuple | Mapping):
        for each in value.values() if isinstance(value, Mapping) else value:
            _check_files(each, where)


def names_in(assertions: Sequence[Mapping[str, Any]]) -> set[str]:
    """What the templates of the assertions name, and what context-faithfulness needs."""
    named: set[str] = set()
    for each in leaves(assertions):
        if base(each) == "context-faithfulness":
            named |= {"query", "context"}
        if base(each) != "javascript":
            for text in _templates(each.get("value")):
                named |= _undeclared(text, "promptfoo(…)")
    return named


def _templates(value: object) -> list[str]:
    """The strings that promptfoo takes for templates: a value that is one, or the members of a list."""
    return [each for each in (value if isinstance(value, list | tuple) else [value]) if isinstance(each, str)]


def _undeclared(text: str, where: str) -> set[str]:
    from jinja2 import TemplateSyntaxError
    from jinja2.meta import find_undeclared_variables

    try:
        return find_undeclared_variables(_environment().parse(text))
    except TemplateSyntaxError as error:
        mend = "Write {% raw %}…{% endraw %} around braces that are meant."
        raise TaskError(f"{text!r:.80} is no template: {error.message}", where=where, mend=mend) from None


def _rendered(assertion: Mapping[str, Any], shown: Mapping[str, Any]) -> dict[str, Any]:
    if assertion["type"] == "assert-set":
        return {**assertion, "assert": [_rendered(each, shown) for each in assertion["assert"]]}
    value = assertion.get("value")
    if base(assertion) == "javascript" or not _templates(value):
        return dict(assertion)
    if isinstance(value, str):
        return {**assertion, "value": _render(value, shown)}
    return {**assertion, "value": [_render(each, shown) if isinstance(each, str) else each for each in value or ()]}


def _render(text: str, shown: Mapping[str, Any]) -> str:
    try:
        return _environment().from_string(text).render(shown)
    except Exception as error:  # a template may compute: what fails on a sample's values is this sample's error
        what = f"the template {text!r:.80} fails with {type(error).__name__}: {error}"
        raise TaskError(what, where="promptfoo(…)") from None


@cache
def _environment() -> ImmutableSandboxedEnvironment:
    from jinja2 import StrictUndefined, Undefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def finalize(value: Any) -> Any:
        return value if isinstance(value, str | Undefined) else json.dumps(value, ensure_ascii=False)

    return ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False, finalize=finalize
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
