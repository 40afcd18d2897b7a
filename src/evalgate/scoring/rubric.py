"""Scorers of our own judge: a rubric that grades answers on a scale, or prefers one of two answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING, Any

from evalgate.errors import TaskError
from evalgate.instrument import DEFAULT, Instrument
from evalgate.scoring.canary import known_answers, texts
from evalgate.scoring.scorer import Scorer, judged

if TYPE_CHECKING:
    from jinja2 import Template

    from evalgate.gate import Gate
    from evalgate.task import Sample

REVISION = 1
"""Of `judges.prompt`, its templates and its fence: in the identity of every native judge."""
PREFERENCE = "Which answer is better: does what the question asks for, is right, and leaves nothing out?"
LABELS = range(10)
"""What a judge can answer in one token."""
MOST = 101
"""Grades of a scale: nobody tells more apart, and all of them stand in the prompt."""


def judge(
    rubric: str,
    *,
    scale: tuple[int, int] | Mapping[int, str] = (1, 5),
    reference: bool = True,
    fields: Sequence[str] = (),
    explain: bool = False,
    template: str | None = None,
    by: str | Sequence[str] | None = None,
    good: Sequence[str] = (),
    bad: Sequence[str] = (),
    gate: Gate | None = None,
    name: str = "judge",
) -> Scorer:
    """The grade that a judge gives: the mean over the scale, weighted by how probable the judge finds each grade.

    Question, answer, reference and fields are shown as JSON strings between marks that their authors cannot know. A
    judge that cannot be asked, or replies otherwise than asked, is an error and never a score.

    Args:
        rubric: what the judge is to look at, in plain words.
        scale: lowest and highest grade, or each grade with its meaning; grades are whole numbers, higher is better.
        reference: whether the judge sees the sample's target.
        fields: names of further fields of the sample that it sees.
        explain: the judge writes its reason, then one grade. It costs a generation, where a bare grade costs one token.
        template: a Jinja template in place of ours; it is given `rubric`, `grades`, `fence`, `question`, `fields`
            (pairs of name and value), `reference` (none without), `answer` and `ask`, texts all, fenced where they
            come from data.
        by: name of the judge in `[tool.evalgate.judges.NAME]`, or names of several: a panel, whose mean counts.
        good: answers that are good whatever the question is: canaries, and never among the usual bad ones.
        bad: answers that are bad whatever the question is, beside the usual canaries (see `judges.canaries`).
        gate: margin and floor; blocks only with a calibration above its own floor.
        name: of the metric.

    Raises:
        TaskError: a rubric without words, a scale that is none, grades beyond 0 to 9 without `explain`, a template with
            a fault or that does not show the answer, or names that are no names.
    """
    where = f"judge(name={name!r})"
    grades = _scale(scale, explain, where)
    names = texts(fields, "fields", where)
    known = known_answers(good, bad, where)
    settings = {
        "rubric": _rubric(rubric, where),
        "scale": {str(grade): meaning for grade, meaning in grades.items()},
        "explain": explain,
        "template": template,
        "revision": REVISION,
    }
    if template is not None:
        _try(template, rubric, names, reference, where)
    instrument = Instrument(
        kind="native",
        settings=settings,
        low=float(min(grades)),
        high=float(max(grades)),
        by=_judges(by, where),
        fields=names,
        reference=reference,
        good=known[0],
        bad=known[1],
    )
    return judged(name, instrument, gate=gate, check=_check(instrument))


def prefer(
    rubric: str = PREFERENCE,
    *,
    reference: bool = True,
    fields: Sequence[str] = (),
    by: str | Sequence[str] | None = None,
    gate: Gate | None = None,
    name: str = "prefer",
) -> Scorer:
    """1 where a judge prefers the candidate's answer to the baseline's, 0 where the baseline's, .5 where neither.

    The judge is asked twice, with either answer first; only what it says both times counts.

    Args:
        rubric: what makes an answer the better one.
        reference: whether the judge sees the sample's target.
        fields: names of further fields of the sample that it sees.
        by: as of `judge`.
        gate: as of `judge`.
        name: of the metric.

    Raises:
        TaskError: a rubric without words, or names that are no names.
    """
    where = f"prefer(name={name!r})"
    instrument = Instrument(
        kind="native",
        settings={"rubric": _rubric(rubric, where), "revision": REVISION},
        by=_judges(by, where),
        fields=texts(fields, "fields", where),
        reference=reference,
        pairwise=True,
    )
    return judged(name, instrument, gate=gate, check=_check(instrument))


@cache
def compiled(template: str) -> Template:
    """A judge's template: sandboxed, without files, chance or escapes (jinja2's TemplateError where it is none)."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, trim_blocks=True, autoescape=False, keep_trailing_newline=True
    )
    del environment.filters["random"], environment.globals["lipsum"]
    return environment.from_string(template)


def _try(template: str, rubric: str, fields: Sequence[str], reference: bool, where: str) -> None:
    """Render the template once, as it will be: what fails on harmless data fails here, before any engine starts."""
    answer = '#mark#"an answer"#mark#'
    shown: dict[str, Any] = {
        "rubric": rubric,
        "grades": "1, 2",
        "fence": "#mark#",
        "question": '#mark#"a question"#mark#',
        "fields": [(name, f'#mark#"a {name}"#mark#') for name in fields],
        "reference": '#mark#"a reference"#mark#' if reference else None,
        "answer": answer,
        "ask": "Reply with the grade alone.",
    }
    try:
        text = compiled(template).render(shown)
    except Exception as error:  # jinja2's own, and whatever a template's arithmetic raises
        raise TaskError(
            f"the template fails with {type(error).__name__}: {error}",
            where=where,
            mend=f"It is given {', '.join(shown)}.",
        ) from None
    if answer not in text:
        raise TaskError(
            "the template does not show the answer as it is", where=where, mend="Put {{ answer }} where it belongs."
        )


def _rubric(rubric: str, where: str) -> str:
    if not isinstance(rubric, str) or not rubric.strip():
        raise TaskError(
            f"the rubric is {rubric!r:.80}, expected words",
            where=where,
            mend='Say what is looked at, such as judge("Does the answer say what the reference says?").',
        )
    return rubric


def _scale(scale: tuple[int, int] | Mapping[int, str], explain: bool, where: str) -> dict[int, str]:
    """Grades in rising order with what they mean, if anything."""
    mend = 'Write scale=(1, 5), or scale={0: "wrong", 1: "right"}.'
    given = list(scale) if isinstance(scale, Mapping | list | tuple) else []
    if not given or not all(type(grade) is int for grade in given):
        raise TaskError(f"the scale is {scale!r:.80}, expected whole numbers", where=where, mend=mend)
    if isinstance(scale, Mapping):
        if not all(isinstance(meaning, str) for meaning in scale.values()):
            raise TaskError(f"the scale is {scale!r:.80}, expected a text for each grade", where=where, mend=mend)
        size = len(scale)
    else:
        if len(given) != 2:
            raise TaskError(
                f"the scale is {scale!r:.80}, expected its lowest and highest grade", where=where, mend=mend
            )
        size = given[1] - given[0] + 1
    if not 2 <= size <= MOST:
        raise TaskError(f"the scale {scale!r:.80} has not from 2 to {MOST} grades, rising", where=where, mend=mend)
    every = sorted(given) if isinstance(scale, Mapping) else range(given[0], given[1] + 1)
    grades = {grade: scale[grade] if isinstance(scale, Mapping) else "" for grade in every}
    if not explain and not set(grades) <= set(LABELS):
        raise TaskError(
            f"the scale is from {min(grades)} to {max(grades)}, expected grades from 0 to 9: one token each",
            where=where,
            mend="Choose such a scale, or let the judge write its reason and the grade: explain=True.",
        )
    return grades


def _judges(by: str | Sequence[str] | None, where: str) -> tuple[str, ...]:
    if by is None:
        return (DEFAULT,)
    names = texts((by,) if isinstance(by, str) else by, "by", where)
    if not names:
        raise TaskError("by names no judge", where=where, mend="Leave it out for the judge of the settings.")
    return names


def _check(instrument: Instrument) -> Callable[[Sample], str | None]:
    """What says why a sample cannot be shown to the judge: a field is missing, or the target."""

    def check(sample: Sample) -> str | None:
        for field in instrument.fields:
            if field not in sample.fields:
                near = get_close_matches(field, sample.fields, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sample.fields) or 'none'}"
                return f"the judge is to see the field {field!r}; {hint}"
        if instrument.reference and sample.target is None:
            return "the judge is to see a reference (else reference=False), and there is no target"
        return None

    return check
