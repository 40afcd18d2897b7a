"""Candidates that do not exist yet: trained within a session, checked against its eval sets, and taken in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from evalgate.errors import ConfigError, TrainingError
from evalgate.session.candidates import from_folder
from evalgate.session.words import Candidate

if TYPE_CHECKING:
    from evalgate.finetune import Recipe
    from evalgate.session.run import Session


def recipe_of(session: Session, train: tuple[str, Sequence[str]]) -> Recipe:
    """What is to be trained, checked; the candidate has its name before it is there, since test ids carry it."""
    recipe = _prepared(session, *train)
    if recipe.name in session.candidates:
        raise ConfigError(f"--train makes {recipe.name}, and --model names one too", mend="Leave out one of them.")
    session.candidates[recipe.name] = Candidate(recipe.name, recipe.key)
    return recipe


def train(session: Session, recipe: Recipe) -> None:
    """Make the session's candidate; where the trainer fails, each of its gates is an error."""
    try:
        folder = _made(session, recipe)
    except TrainingError as error:
        session.untrained[recipe.name] = str(error)
        return
    made = from_folder(folder, base=Path(recipe.base.path or ""), memo=session.cache.files)
    twin = next((c.name for c in session.candidates.values() if c.digest == made.digest), None)
    if twin:
        raise ConfigError(f"--train makes what {twin} is, which --model names", mend="Leave out one of them.")
    session.candidates[recipe.name] = replace(made, name=recipe.name)
    session.renew_evaluator()


def finetune(session: Session, config: str, overrides: Sequence[str]) -> Path:
    """What a test asks to be trained (InputError, TrainingError)."""
    return _made(session, _prepared(session, config, overrides))


def _prepared(session: Session, config: str, overrides: Sequence[str]) -> Recipe:
    from evalgate.finetune import prepare

    return prepare(Path(config), overrides, root=session.root, state=session.state, memo=session.cache.files)


def _made(session: Session, recipe: Recipe) -> Path:
    """The version of a recipe, trained now or found, once its data was checked against every declared eval set."""
    from evalgate.finetune import finetune

    leaks = session.training.check(recipe, session.declared.values())
    session.say(leaks.lines())
    return finetune(recipe, leaked=leaks.ids, command=session.command, progress=session.progress)
