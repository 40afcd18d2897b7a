"""Drift of form: whether a candidate writes longer or repeats itself more, which judges are known to be taken in by."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from evalgate.evaluation import Evaluation
from evalgate.scoring.answer import strip_reasoning

LENGTH = 0.2
"""Change of the mean length worth telling, as a share of the baseline's."""
REPETITION = 0.05
"""Rise of the share of repeated word sequences worth telling."""
WORDS = 4


@dataclass(frozen=True, slots=True)
class Form:
    """How the answers of one side look.

    Attributes:
        length: mean, in characters.
        repetition: share of all sequences of four words that stand earlier in the same answer, 0 to 1.
    """

    length: float
    repetition: float


@dataclass(frozen=True, slots=True)
class Drift:
    """The form of both sides' answers to the same samples.

    Attributes:
        n: samples that both sides answered; without any, both forms are 0.
        candidate, baseline: their forms.
    """

    n: int
    candidate: Form
    baseline: Form

    @property
    def longer(self) -> float:
        """Change of the mean length as a share of the baseline's; infinite where the baseline wrote nothing."""
        if self.baseline.length == 0:
            return float("inf") if self.candidate.length else 0.0
        return self.candidate.length / self.baseline.length - 1

    def line(self) -> str | None:
        """What is worth telling, in one line; `None` where there is nothing."""
        said = []
        before, now = self.baseline, self.candidate
        if abs(self.longer) > LENGTH:
            change = f"{_percent(abs(self.longer))} {'longer' if self.longer > 0 else 'shorter'} than the baseline's"
            if not before.length:
                change = "longer than the baseline's, which are empty"
            said.append(f"answers are {change} ({before.length:.0f} → {now.length:.0f} characters)")
        if now.repetition - before.repetition > REPETITION:
            share = f"{_percent(before.repetition)} → {_percent(now.repetition)}"
            said.append(f"answers repeat themselves more ({share} of all sequences of {WORDS} words)")
        return "; ".join(said) or None


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def drift(candidate: Evaluation, baseline: Evaluation) -> Drift:
    """Compare the outputs of two evaluations, reasoning cut out where their task declares it.

    Args:
        candidate: of the checkpoint under test.
        baseline: of the same task; samples that only one side answered are left out.
    """
    texts = [_answers(evaluation) for evaluation in (candidate, baseline)]
    both = sorted(texts[0].keys() & texts[1].keys())
    forms = [_form([text for id_ in both for text in side[id_]]) for side in texts]
    return Drift(len(both), *forms)


def _answers(evaluation: Evaluation) -> dict[str, list[str]]:
    """Sample id to the answers as judges see them."""
    markers = evaluation.sampling.get("reasoning")

    def answer(text: str) -> str:
        return strip_reasoning(text, (markers[0], markers[1])) if markers else text

    return {row.id: [answer(text) for text in row.outputs] for row in evaluation.rows if row.outputs and not row.error}


def _form(texts: list[str]) -> Form:
    counts = [_sequences(text.split()) for text in texts]
    every = sum(total for total, _ in counts)
    again = sum(total - distinct for total, distinct in counts)
    return Form(fmean(map(len, texts)) if texts else 0.0, again / every if every else 0.0)


def _sequences(words: list[str]) -> tuple[int, int]:
    """How many sequences of words there are, and how many different ones."""
    found = list(zip(*(words[start:] for start in range(WORDS)), strict=False))
    return len(found), len(set(found))
