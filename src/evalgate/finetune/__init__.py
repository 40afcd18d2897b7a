"""From a training configuration to a published version: checked first, trained in a child, never trained twice."""

from __future__ import annotations

from evalgate.finetune.make import finetune, publish_exports, train_recipe
from evalgate.finetune.recipe import Recipe, prepare, recipe_of, release

__all__ = ["Recipe", "finetune", "prepare", "publish_exports", "recipe_of", "release", "train_recipe"]
