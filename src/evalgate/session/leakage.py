"""Which samples of the declared eval sets stand in a training text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from evalgate.leakage import EvalText, Leaks, find_leaks, refuse
from evalgate.prompt import render_prompt
from evalgate.samples import RESERVE_STEPS, read_samples
from evalgate.session.words import Candidate, Declared
from evalgate.task import Messages, Task

if TYPE_CHECKING:
    from evalgate.finetune import Recipe


class Training:
    """What this session found of its eval sets in the training texts that it read, by the recipe's key.

    A version remembers what was found when it was trained; its recipe may be taken again with other eval sets.
    """

    def __init__(self) -> None:
        self._recipes: dict[str, Recipe] = {}
        self._found: dict[str, Mapping[str, tuple[str, ...]]] = {}

    def check(self, recipe: Recipe, declared: Iterable[Declared]) -> Leaks:
        """As `leaks_of`, and kept."""
        leaks = leaks_of(recipe, declared)
        self._recipes[recipe.key] = recipe
        self._found[recipe.key] = {**self._found.get(recipe.key, {}), **leaks.ids}
        return leaks

    def check_late(self, declared: Declared) -> None:
        """A task that nobody collected is evaluated after something was trained (InputError as `leaks_of`)."""
        for recipe in list(self._recipes.values()):
            self.check(recipe, [declared])

    def leaked(self, candidate: Candidate, task: str) -> frozenset[str]:
        """Samples of a task that stood in a candidate's training text, as far as its lineage or this session knows."""
        made = candidate.lineage.training if candidate.lineage else None
        if made is None:
            return frozenset()
        return frozenset(made.leaked.get(task, ())).union(self._found.get(made.key, {}).get(task, ()))


def leaks_of(recipe: Recipe, declared: Iterable[Declared]) -> Leaks:
    """Check the training text against every eval set, reserves included.

    Raises:
        InputError: an eval set is leaked beyond what the configuration allows, or cannot be read.
    """
    leaks = find_leaks(list(recipe.data.texts()), {each.id: eval_texts(each.task, each.id) for each in declared})
    refuse(leaks, recipe.config.data.max_leaked)
    return leaks


def eval_texts(task: Task, where: str) -> list[EvalText]:
    """What a copy of each sample in a training text would say: the prompt as declared, and the target.

    Who copies a chat may leave out its system message, and of several right answers give one: forms of their own.
    """
    return [
        EvalText(sample.id, f"{said} {target}", sample.cluster)
        for sample in read_samples(task, where, RESERVE_STEPS)
        for said in _said(render_prompt(task, sample))
        for target in _targets(sample.target)
    ]


def _said(prompt: str | Messages) -> list[str]:
    if isinstance(prompt, str):
        return [prompt]
    asked = [message for message in prompt if message["role"] != "system"]
    forms = [prompt, asked] if asked and len(asked) < len(prompt) else [prompt]
    return ["\n".join(str(message["content"]) for message in form) for form in forms]


def _targets(target: Any) -> list[str]:
    if isinstance(target, list | tuple) and target:
        return [json.dumps(target, ensure_ascii=False), *(each for each in target if isinstance(each, str))]
    return [target if isinstance(target, str) else "" if target is None else json.dumps(target, ensure_ascii=False)]
