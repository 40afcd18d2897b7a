"""A judge as everybody else sees it: an instrument that is shown cases and gives judgements, or says why it could not.

`judge(…)`, `prefer(…)`, `deepeval_metric(…)`, `ragas_metric(…)` and `promptfoo(…)` make scorers that carry an
`Instrument`. A session binds it to the models that the settings name: only then it has an identity. One answer is a
`Case`; instrument, case and model are a `Job`; what comes of a job is a `Judgement`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from evalgate.digest import digest

if TYPE_CHECKING:
    from evalgate.checkpoint import Checkpoint

KINDS = ("native", "deepeval", "ragas", "promptfoo", "uptrain")
DEFAULT = "default"
"""What `by` says where a metric leaves the choice of the judge to the settings."""


@dataclass(frozen=True)
class Case:
    """One answer as judges are shown it; its id is its content.

    Attributes:
        sample: id of the sample, for messages; not content.
        question: the prompt as declared, without any chat template; of a conversation, role and text of each message.
        answer: what is judged: one generation, with reasoning cut out.
        reference: the sample's target as text, `None` where the instrument is not to see it.
        fields: those of the sample's fields that the instrument names.
        other: the baseline's answer, for preferences.
    """

    sample: str
    question: str
    answer: str
    reference: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    other: str | None = None

    @cached_property
    def content(self) -> dict[str, Any]:
        """Everything that a judge is shown, as JSON values."""
        return {
            "question": self.question,
            "answer": self.answer,
            "reference": self.reference,
            "fields": dict(self.fields),
            "other": self.other,
        }

    @cached_property
    def id(self) -> str:
        """Digest of the content."""
        return digest(self.content)


@dataclass(frozen=True)
class JudgeModel:
    """A model behind judgements.

    Attributes:
        name: in the settings, `[tool.evalgate.judges.NAME]`; what libraries call it by.
        checkpoint: its weights on this machine, or an endpoint.
        engine: digest of the engine's identity: the same weights in another dtype are another judge.
        special: texts of its special tokens, where they are known: candidates' text must not become one.
    """

    name: str
    checkpoint: Checkpoint
    engine: str
    special: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """Of weights, tokenizer, template and engine; names and paths are in none of them."""
        return digest({"checkpoint": self.checkpoint.digest, "engine": self.engine})


@dataclass(frozen=True)
class Calibration:
    """How far a judge agrees with people: what `evalgate judge calibrate` measured, from a committed file.

    Attributes:
        judge: digest of the bound instrument that was measured.
        kappa: Cohen's kappa of judge and people, on right (above the middle of the scale) or wrong.
        n: labelled answers.
        path: of the file, for messages; not identity.
        interval: of kappa, 95 %.
    """

    judge: str
    kappa: float
    n: int
    path: str = ""
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Instrument:
    """What judges one metric: a rubric, or a metric of a library.

    Attributes:
        kind: one of `KINDS`.
        settings: everything that can change a judgement besides models and versions, as JSON values: rubric and scale,
            a library's metric and its arguments, assertions.
        low, high: range of the values.
        by: names of the judges in the settings; with several, a panel, whose mean counts.
        fields: names of the sample's fields that it is shown.
        reference: whether it is shown the target.
        pairwise: whether it prefers one of two answers, the candidate's (1) or the baseline's (0).
        asks: whether it asks a model at all.
        good, bad: answers of which the suite knows what they are, beside the usual canaries.
        identity: digests of the models and versions of libraries; `None` until a session has bound it.
        calibration: found for this instrument and these models.
        floor: Cohen's kappa from which on it may block.
    """

    kind: str
    settings: Mapping[str, Any]
    low: float = 0.0
    high: float = 1.0
    by: tuple[str, ...] = (DEFAULT,)
    fields: tuple[str, ...] = ()
    reference: bool = True
    pairwise: bool = False
    asks: bool = True
    good: tuple[str, ...] = ()
    bad: tuple[str, ...] = ()
    identity: Mapping[str, Any] | None = None
    calibration: Calibration | None = None
    floor: float = 0.6

    @property
    def calibrated(self) -> bool:
        """Whether it is known to agree with people well enough to block."""
        return self.calibration is not None and self.calibration.kappa >= self.floor

    @cached_property
    def content(self) -> dict[str, Any]:
        """What the digest covers: weights, prompt, rubric, decoding, versions; no names, no calibration."""
        return {
            "kind": self.kind,
            "settings": dict(self.settings),
            "range": [self.low, self.high],
            "fields": list(self.fields),
            "reference": self.reference,
            "pairwise": self.pairwise,
            "identity": dict(self.identity) if self.identity is not None else None,
        }

    @cached_property
    def digest(self) -> str:
        """Identity of the instrument: `Metric.judge`, and what a calibration is bound to."""
        return digest(self.content)


@dataclass(frozen=True)
class Job:
    """One case for one instrument and one model.

    Attributes:
        instrument: bound.
        case: what is judged.
        model: that is asked; `None` where the instrument asks none.
    """

    instrument: Instrument
    case: Case
    model: JudgeModel | None = None

    @cached_property
    def material(self) -> list[str | None]:
        """Digests of all that can change the judgement."""
        return [self.instrument.digest, self.case.id, self.model.digest if self.model else None]

    @cached_property
    def id(self) -> str:
        """Digest of the material: key of the cache."""
        return digest(self.material)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What came of a job.

    Attributes:
        job: id of the job.
        value: in the instrument's range; `None` where there is an error.
        explanation: the judge's reason, where it gives one.
        error: why there is no value, one line, with attempts and seconds where something was asked. Never a score.
    """

    job: str
    value: float | None
    explanation: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Judgements:
    """What judges said: by instrument and case.

    Attributes:
        found: (instrument's digest, case's id) to the judgement, of a panel the mean.
        faults: instrument's digest to why none of its judgements counts: it misjudged canaries.
    """

    found: Mapping[tuple[str, str], Judgement] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)

    def of(self, judge: Instrument, case: Case) -> Judgement:
        """The judgement of one case; an error where the judge is not to be trusted, or was not asked."""
        if why := self.faults.get(judge.digest):
            return Judgement(case.id, None, error=why)
        return self.found.get((judge.digest, case.id)) or Judgement(case.id, None, error="was not judged")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An OpenAI-compatible endpoint that judge libraries ask: our gateway, on this machine alone.

    Attributes:
        url: base address, ending in `/v1`.
        token: for `Authorization: Bearer`, new in every session.
    """

    url: str
    token: str
