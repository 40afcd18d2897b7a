"""What judges are shown of a task: one case for each answer of each sample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evalgate.digest import canonical
from evalgate.evaluation import Row
from evalgate.instrument import Case, Instrument
from evalgate.prompt import render_prompt
from evalgate.scoring import strip_reasoning
from evalgate.task import Messages, Sample, Task


def cases_of(
    task: Task, judge: Instrument, sample: Sample, outputs: Sequence[str], other: Row | None = None
) -> Iterator[Case]:
    """The cases of one sample, one for each of its outputs.

    Args:
        task: says how reasoning is cut out, and what was asked.
        judge: says which fields it is shown, and whether the reference.
        sample: the question.
        outputs: one text per generation.
        other: the baseline's row, for preferences; its generations are compared in order, the last with what is left.
    """
    question = question_of(render_prompt(task, sample))
    target = sample.target
    for number, output in enumerate(outputs):
        rival = other.outputs[min(number, len(other.outputs) - 1)] if judge.pairwise and other else None
        yield Case(
            sample=sample.id,
            question=question,
            answer=_answer(task, output),
            reference=None if not judge.reference or target is None else _text(target),
            fields={name: sample.fields[name] for name in judge.fields if name in sample.fields},
            other=None if rival is None else _answer(task, rival),
        )


def question_of(prompt: str | Messages) -> str:
    """What was asked, without any chat template: of one message its text, of several role and text of each."""
    if isinstance(prompt, str):
        return prompt
    if len(prompt) == 1:
        return prompt[0]["content"]
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in prompt)


def _answer(task: Task, output: str) -> str:
    return strip_reasoning(output, task.reasoning) if task.reasoning else output


def _text(target: object) -> str:
    return target if isinstance(target, str) else canonical(target)
