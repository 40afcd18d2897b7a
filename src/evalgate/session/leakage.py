"""Which samples of the declared eval sets stand in a training text."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from evalgate.finetune import Recipe
from evalgate.leakage import EvalText, Leaks, find_leaks, refuse
from evalgate.prompt import render_prompt
from evalgate.samples import RESERVE_STEPS, read_samples
from evalgate.session.words import Declared
from evalgate.task import Messages, Task


def leaks_of(recipe: Recipe, declared: Iterable[Declared]) -> Leaks:
    """Check the training text against every eval set, reserves included.

    Raises:
        InputError: an eval set is leaked beyond what the configuration allows, or cannot be read.
    """
    leaks = find_leaks(list(recipe.data.texts()), {each.id: eval_texts(each.task, each.id) for each in declared})
    refuse(leaks, recipe.config.data.max_leaked)
    return leaks


def eval_texts(task: Task, where: str) -> list[EvalText]:
    """What a copy of each sample in a training text would say: the prompt as declared, and the target."""
    return [
        EvalText(sample.id, f"{_said(render_prompt(task, sample))} {_target(sample.target)}", sample.cluster)
        for sample in read_samples(task, where, RESERVE_STEPS)
    ]


def _said(prompt: str | Messages) -> str:
    return prompt if isinstance(prompt, str) else "\n".join(str(message["content"]) for message in prompt)


def _target(target: Any) -> str:
    return target if isinstance(target, str) else "" if target is None else json.dumps(target, ensure_ascii=False)
