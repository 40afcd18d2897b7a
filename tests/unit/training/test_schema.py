"""The schema's own words: a configuration as JSON, and the part of it that decides the weights."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from evalgate.digest import canonical
from evalgate.training.job import config_from_json
from evalgate.training.ranges import RULES, flat
from evalgate.training.schema import (
    Data,
    Distribution,
    Lora,
    Model,
    Publishing,
    Quantization,
    Schedule,
    Tracking,
    TrainingConfig,
)

CONFIG = TrainingConfig(model=Model("v1"), data=Data(["a.jsonl"]))


def test_a_configuration_survives_json() -> None:
    """What stands in a version reads back as the same configuration, and is plain JSON."""
    assert config_from_json(CONFIG.as_json()) == CONFIG
    assert canonical(CONFIG.as_json())
    assert CONFIG.as_json() == asdict(CONFIG)


@pytest.mark.parametrize(
    "other",
    [
        replace(CONFIG, name="v9"),
        replace(CONFIG, why="another reason"),
        replace(CONFIG, hypothesis="another hope"),
        replace(CONFIG, tracking=Tracking(["mlflow"])),
        replace(CONFIG, publishing=Publishing("elsewhere", False)),
        replace(CONFIG, model=Model("a/copy/of/v1", "t.jinja")),
        replace(CONFIG, data=Data(["a/copy.jsonl"], max_leaked=0.5)),
        replace(CONFIG, schedule=Schedule(save_steps=3)),
        replace(CONFIG, quantization=Quantization(bits=8)),
        replace(CONFIG, distribution=Distribution(zero_stage=1)),
    ],
    ids=[
        "name",
        "why",
        "hypothesis",
        "tracking",
        "publishing",
        "base",
        "files",
        "save_steps",
        "quantization",
        "zero_stage",
    ],
)
def test_the_recipe_ignores_what_changes_no_weight(other: TrainingConfig) -> None:
    """Names, reasons, places and trackers don't make another candidate; bytes have digests beside the recipe."""
    assert other != CONFIG
    assert other.recipe() == CONFIG.recipe()


@pytest.mark.parametrize(
    "other",
    [
        replace(CONFIG, method="full"),
        replace(CONFIG, lora=Lora(r=16)),
        replace(CONFIG, data=Data(["a.jsonl"], shuffle_seed=1)),
        replace(CONFIG, data=Data(["a.jsonl"], max_length=64)),
        replace(CONFIG, schedule=Schedule(batch_size=16)),
        replace(CONFIG, distribution=Distribution(threads=2)),
    ],
    ids=["method", "rank", "order", "length", "batch", "threads"],
)
def test_the_recipe_keeps_what_changes_weights(other: TrainingConfig) -> None:
    """Whatever can change a bit of the result makes another candidate."""
    assert other.recipe() != CONFIG.recipe()


def test_every_value_of_the_schema_has_a_rule() -> None:
    """A value that is added to the schema cannot be forgotten by the checks, and no rule outlives its value."""
    assert set(flat(CONFIG.as_json())) == set(RULES)


def test_recipes_leave_the_configuration_as_it_is() -> None:
    """Taking the recipe removes nothing from what is published."""
    before: dict[str, Any] = CONFIG.as_json()
    CONFIG.recipe()
    assert CONFIG.as_json() == before


def test_the_recipe_of_full_weights_has_no_adapter() -> None:
    """The rank of an adapter that is not there is no other training; with a method that reads them settings count."""
    full, qlora = replace(CONFIG, method="full"), replace(CONFIG, method="qlora")
    assert replace(full, lora=Lora(r=2)).recipe() == full.recipe()
    assert replace(qlora, quantization=Quantization(bits=8)).recipe() != qlora.recipe()
    deepspeed = [replace(CONFIG, distribution=Distribution("deepspeed", 2, stage)).recipe() for stage in (1, 2)]
    assert deepspeed[0] != deepspeed[1]
