"""What a suite declares: samples, prompt, sampling, scorers and slices, as frozen data."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalgate.digest import digest
from evalgate.errors import TaskError

if TYPE_CHECKING:
    from evalgate.scoring import Scorer


@dataclass(frozen=True, slots=True)
class Sample:
    """One question.

    Attributes:
        id: unique in its task; rows are sorted by it.
        fields: every field of the row, for the prompt.
        target: what is right, as it stands in the data; `None` where the scorer needs none.
        slices: slice name to this sample's value, as text.
        cluster: samples of one cluster (document, template, passage) are not independent; `None` without clusters.
        look: 0, or for a sample of the reserve the step in which it is drawn, from 1.
    """

    id: str
    fields: Mapping[str, Any]
    target: Any = None
    slices: Mapping[str, str] = field(default_factory=dict)
    cluster: str | None = None
    look: int = 0


@dataclass(frozen=True, slots=True)
class JsonLines:
    """Eval data in a file, read when the plan is made; make one with `jsonl`."""

    path: Path
    digest: str | None = None


def jsonl(path: str | Path, *, digest: str | None = None) -> JsonLines:
    """Samples in a JSON Lines file: one object a line with a unique `id` and the fields that the prompt names.

    Args:
        path: the file, relative to the module that calls.
        digest: `sha256:` and 64 hex digits of the file; where given, any other content is refused.
    """
    module = Path(sys._getframe(1).f_globals.get("__file__", "."))
    return JsonLines((module.parent / path).absolute(), digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How completions are drawn: identity, so evaluations that differ in any field but `seed` are not comparable.

    Attributes:
        max_tokens: longest completion in tokens.
        temperature: 0 is greedy.
        top_p: nucleus, 1 keeps all.
        top_k: most likely tokens kept, 0 keeps all.
        stop: texts that end a completion; they are not part of it.
        seed: of the draws; every request derives its own from it, the sample and the generation.
        n: generations per question, averaged before anything is compared.
        json_schema: the completion is forced to satisfy this schema (structured output).
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    stop: Sequence[str] = ()
    seed: int = 0
    n: int = 1
    json_schema: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            raise TaskError(
                f"stop is the text {self.stop!r}, expected a tuple of texts", mend=f"Write stop=({self.stop!r},)."
            )
        object.__setattr__(self, "stop", tuple(self.stop))
        for name, types in (
            ("max_tokens", int),
            ("temperature", int | float),
            ("top_p", int | float),
            ("top_k", int),
            ("seed", int),
            ("n", int),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, types):
                wanted = "a whole number" if types is int else "a number"
                raise TaskError(f"Sampling({name}={value!r}): expected {wanted}")
        for name, value, good in (
            ("max_tokens", self.max_tokens, self.max_tokens >= 1),
            ("temperature", self.temperature, 0 <= self.temperature < float("inf")),
            ("top_p", self.top_p, 0 < self.top_p <= 1),
            ("top_k", self.top_k, self.top_k >= 0),
            ("n", self.n, self.n >= 1),
        ):
            if not good:
                raise TaskError(f"Sampling({name}={value!r}) is out of range")
        if self.n > 1 and self.temperature == 0:
            raise TaskError(
                f"Sampling(n={self.n}) with temperature 0 draws the same completion {self.n} times",
                mend="Give a temperature above 0, or n=1.",
            )

    @property
    def identity(self) -> dict[str, Any]:
        """What must agree for two evaluations to be comparable (the seed is named apart, not refused)."""
        return {
            "max_tokens": self.max_tokens,
            "temperature": float(self.temperature),
            "top_p": float(self.top_p),
            "top_k": self.top_k,
            "stop": list(self.stop),
            "n": self.n,
            "json_schema": dict(self.json_schema) if self.json_schema is not None else None,
        }


Messages = Sequence[Mapping[str, str]]


@dataclass(frozen=True, eq=False)
class Task:
    """Samples, prompt, sampling, scorers and slices; a module-level Task of a suite becomes one test per scorer.

    Attributes:
        samples: `jsonl(...)`, or rows (mappings with an `id`) given in the suite itself.
        prompt: a Jinja template over the sample's fields, or chat messages whose contents are such templates.
        scorers: at least one; the first blocks, the others inform unless they carry a gate.
        sampling: how completions are drawn.
        target: name of the field that holds the target.
        slices: names of fields by which results are split.
        blocking_slices: those of them whose every value is gated by itself, beside the whole; the others only warn.
        reserve: samples kept back, in the form of `samples`: `--eval-top-up` draws them in steps where the others do
            not decide, `--eval-nightly` confirms a regression on them. Baselines record them too.
        labels: what people say of outputs that a judge scored: rows of `id`, `output` (the text) and, under the
            metric's name, a score in its units. Where enough of both sides' outputs have one, they correct the judge.
        cluster: name of the field that says which samples belong together.
        golden: ids of samples that must not break (greedy decoding only).
        template_kwargs: keyword arguments of the chat template, such as `enable_thinking`; identity.
        reasoning: (start, end) markers of reasoning that is cut out before scoring, such as `("<think>", "</think>")`.
        name: what it is called; by default the name of the variable it is bound to.
    """

    samples: JsonLines | Iterable[Mapping[str, Any]]
    prompt: str | Messages
    scorers: Sequence[Scorer]
    sampling: Sampling = Sampling()
    target: str = "target"
    slices: Sequence[str] = ()
    blocking_slices: Sequence[str] = ()
    reserve: JsonLines | Iterable[Mapping[str, Any]] | None = None
    labels: JsonLines | Iterable[Mapping[str, Any]] | None = None
    cluster: str | None = None
    golden: Sequence[str] = ()
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    reasoning: tuple[str, str] | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        from evalgate.scoring import Scorer

        for rows in ("samples", "reserve", "labels"):
            given = getattr(self, rows)
            if isinstance(given, str | Path):
                raise TaskError(f"{rows} is the path {str(given)!r}", mend=f'Write {rows}=jsonl("{given}") to read it.')
            if given is not None and not isinstance(given, JsonLines):
                object.__setattr__(self, rows, tuple(given))
        if isinstance(self.scorers, Scorer) or not all(isinstance(scorer, Scorer) for scorer in self.scorers):
            raise TaskError(
                f"scorers is {self.scorers!r:.80}, expected a list of scorers",
                mend="Call each, such as scorers=[exact_match()], and wrap your own: function(f).",
            )
        if self.reasoning is not None and not (
            len(self.reasoning) == 2 and all(isinstance(marker, str) and marker for marker in self.reasoning)
        ):
            raise TaskError(
                f"reasoning is {self.reasoning!r}, expected a start and an end marker",
                mend='Write reasoning=("<think>", "</think>").',
            )
        for plain in ("slices", "blocking_slices", "golden"):
            if isinstance(getattr(self, plain), str):
                raise TaskError(f"{plain} is the text {getattr(self, plain)!r}, expected a tuple of texts")
            object.__setattr__(self, plain, tuple(getattr(self, plain)))
        if unknown := [name for name in self.blocking_slices if name not in self.slices]:
            raise TaskError(
                f"blocking_slices names {', '.join(unknown)}, which is no slice; there are "
                f"{', '.join(self.slices) or 'none'}",
                mend="Name it in slices=… too.",
            )
        object.__setattr__(self, "scorers", tuple(self.scorers))
        names = [scorer.name for scorer in self.scorers]
        if not names:
            raise TaskError("a Task has no scorers", mend="Give at least one, such as scorers=[exact_match()].")
        if len(set(names)) < len(names):
            raise TaskError(
                f"two scorers of a Task share a name: {', '.join(names)}", mend="Rename one: exact_match(name=…)."
            )
        if self.golden and self.sampling.temperature > 0:
            raise TaskError("golden samples need greedy decoding", mend="Set temperature=0, or drop golden=….")

    @cached_property
    def blocking(self) -> tuple[Scorer, ...]:
        """The scorers that can fail a build: those with a gate, else the first (a judge's only once calibrated)."""
        gated = tuple(scorer for scorer in self.scorers if scorer.gate)
        first = self.scorers[0]
        return gated or ((first,) if first.judge is None or first.judge.calibrated else ())

    @cached_property
    def asked(self) -> dict[str, Any]:
        """What besides prompts and scorers makes two evaluations comparable: sampling, and how reasoning is cut out."""
        return self.sampling.identity | ({"reasoning": list(self.reasoning)} if self.reasoning else {})

    @cached_property
    def is_chat(self) -> bool:
        """Whether the prompt goes through the checkpoint's chat template."""
        return not isinstance(self.prompt, str)

    @cached_property
    def prompt_digest(self) -> str:
        """Digest of the prompt as declared, with the template's keyword arguments."""
        prompt = self.prompt if isinstance(self.prompt, str) else [dict(m) for m in self.prompt]
        return digest({"prompt": prompt, "template_kwargs": dict(self.template_kwargs), "reasoning": self.reasoning})
