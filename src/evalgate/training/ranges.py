"""What each value of a training configuration may be, and which of them cannot stand together."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Any

from evalgate.errors import ConfigError, MissingExtraError
from evalgate.text import listed
from evalgate.training.schema import TrainingConfig

METHODS = ("lora", "qlora", "full")
KINDS = ("none", "ddp", "fsdp", "deepspeed")
DEVICES = ("auto", "cpu", "cuda")
DTYPES = ("auto", "float32", "bfloat16", "float16")
TRACKERS = ("mlflow", "wandb", "tensorboard", "comet", "trackio", "neptune")
BITSANDBYTES_OPTIMIZERS = frozenset(
    {
        "adamw_8bit",
        "adamw_bnb_8bit",
        "ademamix",
        "ademamix_8bit",
        "lion_32bit",
        "lion_8bit",
        "paged_adamw_32bit",
        "paged_adamw_8bit",
        "paged_ademamix_32bit",
        "paged_ademamix_8bit",
        "paged_lion_32bit",
        "paged_lion_8bit",
        "rmsprop_bnb",
        "rmsprop_bnb_32bit",
        "rmsprop_bnb_8bit",
    }
)
OPTIMIZERS = BITSANDBYTES_OPTIMIZERS | {"adafactor", "adagrad", "adamw_torch", "adamw_torch_fused", "rmsprop", "sgd"}
# The rest of transformers' names need arguments of their own, another library or another accelerator.
OTHER_OPTIMIZERS = frozenset(
    {
        "adalomo",
        "adamw_anyprecision",
        "adamw_torch_4bit",
        "adamw_torch_8bit",
        "adamw_torch_npu_fused",
        "adamw_torch_xla",
        "apollo_adamw",
        "apollo_adamw_layerwise",
        "galore_adafactor",
        "galore_adafactor_layerwise",
        "galore_adamw",
        "galore_adamw_8bit",
        "galore_adamw_8bit_layerwise",
        "galore_adamw_layerwise",
        "grokadamw",
        "lomo",
        "schedule_free_adamw",
        "schedule_free_radam",
        "schedule_free_sgd",
        "stable_adamw",
    }
)
LR_SCHEDULERS = frozenset(
    {
        "constant",
        "constant_with_warmup",
        "cosine",
        "cosine_with_restarts",
        "inverse_sqrt",
        "linear",
        "polynomial",
    }
)
# These need arguments of their own, or a metric while they train.
OTHER_LR_SCHEDULERS = frozenset(
    {"cosine_warmup_with_min_lr", "cosine_with_min_lr", "greedy", "reduce_lr_on_plateau", "warmup_stable_decay"}
)

_Rule = tuple[Callable[[Any], bool], str]


def _whole(low: int, high: int | None = None) -> _Rule:
    expected = f"a whole number from {low}" + (f" to {high}" if high is not None else "")
    return lambda value: type(value) is int and low <= value and (high is None or value <= high), expected


def _number(low: float, high: float | None = None, *, above: bool = False, below: bool = False) -> _Rule:
    """A finite number; the ends count, but not the lower one with `above` and the upper one with `below`."""

    def good(value: Any) -> bool:
        if not isinstance(value, float) or not math.isfinite(value):
            return False
        return (value > low if above else value >= low) and (high is None or (value < high if below else value <= high))

    start = f"a finite number {'above' if above else 'from'} {low:g}"
    return good, start if high is None else f"{start} {'and below' if below else 'to'} {high:g}"


def _choice(names: Collection[str]) -> _Rule:
    return lambda value: value in names, f"one of {listed(sorted(names), 6)}"


def _text(expected: str) -> _Rule:
    return lambda value: isinstance(value, str) and bool(value.strip()) and "\0" not in value, expected


def _texts(expected: str) -> _Rule:
    one, _ = _text(expected)

    def good(value: Any) -> bool:
        return bool(value) and all(one(each) for each in value) and len(set(value)) == len(value)

    return good, expected


def _or_none(rule: _Rule) -> _Rule:
    good, expected = rule
    return lambda value: value is None or good(value), f"{expected}, or null"


_SEED = _whole(0, 2**32 - 1)
_SWITCH: _Rule = (lambda value: isinstance(value, bool), "true or false")
_WORDS: _Rule = (lambda value: isinstance(value, str), "a text")

RULES: Mapping[str, _Rule] = {
    "name": _or_none(_text("a name, such as v3")),
    "why": _WORDS,
    "hypothesis": _WORDS,
    "method": _choice(METHODS),
    "model.base": _text("a folder of a checkpoint, or name@revision of a hub model"),
    "model.chat_template": _or_none(_text("a .jinja file")),
    "data.files": _texts("a list of .jsonl files, each once"),
    "data.rows": _or_none(_whole(1)),
    "data.shuffle_seed": _SEED,
    "data.held_out": _number(0, 1, below=True),
    "data.split_seed": _SEED,
    "data.max_length": _whole(8),
    "data.max_leaked": _number(0, 1),
    "lora.r": _whole(1),
    "lora.alpha": _whole(1),
    "lora.dropout": _number(0, 1, below=True),
    "lora.target_modules": _texts("a list of module names, each once, or [all-linear]"),
    "lora.rslora": _SWITCH,
    "quantization.bits": (lambda value: value in (4, 8), "4 or 8"),
    "quantization.type": _choice(("nf4", "fp4")),
    "quantization.double": _SWITCH,
    "optimizer.name": _choice(OPTIMIZERS),
    "optimizer.learning_rate": _number(0, above=True),
    "optimizer.weight_decay": _number(0),
    "optimizer.beta1": _number(0, 1, below=True),
    "optimizer.beta2": _number(0, 1, below=True),
    "optimizer.max_grad_norm": _number(0, above=True),
    "schedule.epochs": _number(0, above=True),
    "schedule.max_steps": _or_none(_whole(1)),
    "schedule.batch_size": _whole(1),
    "schedule.accumulation": _whole(1),
    "schedule.lr_scheduler": _choice(LR_SCHEDULERS),
    "schedule.warmup": _number(0, 1, below=True),
    "schedule.save_steps": _or_none(_whole(1)),
    "precision.dtype": _choice(DTYPES),
    "precision.gradient_checkpointing": _SWITCH,
    "distribution.kind": _choice(KINDS),
    "distribution.processes": _whole(1),
    "distribution.zero_stage": _whole(1, 3),
    "distribution.device": _choice(DEVICES),
    "distribution.threads": _whole(1),
    "seeds.model": _SEED,
    "seeds.data": _SEED,
    "tracking.trackers": (
        lambda value: all(name in TRACKERS for name in value) and len(set(value)) == len(value),
        f"a list of {', '.join(TRACKERS)}, each once",
    ),
    "tracking.project": _text("a name of the project"),
    "tracking.uri": _or_none(_text("an address or database of MLflow")),
    "publishing.runs": _text("a folder, such as runs"),
    "publishing.epochs": _SWITCH,
    "publishing.sign_key": _or_none(_text("the file of a private key")),
}
_NAMES: Mapping[str, Collection[str]] = {
    "method": METHODS,
    "quantization.type": ("nf4", "fp4"),
    "optimizer.name": OPTIMIZERS,
    "schedule.lr_scheduler": LR_SCHEDULERS,
    "precision.dtype": DTYPES,
    "distribution.kind": KINDS,
    "distribution.device": DEVICES,
    "tracking.trackers": TRACKERS,
}


def check_ranges(config: TrainingConfig, where: Callable[[str], str]) -> None:
    """Every value is one that can be, and they can stand together.

    Args:
        config: composed, with the right types.
        where: a key was set, for messages.

    Raises:
        ConfigError: the first value that cannot be, or two that cannot be together.
        MissingExtraError: what the method, the optimizer or the distribution needs is not installed.
    """
    values = flat(config.as_json())
    for key, (good, expected) in RULES.items():
        if not good(values[key]):
            raise ConfigError(
                f"{key} = {shown(values[key])}: expected {expected}", where=where(key), mend=_near(key, values[key])
            )
    _check_together(config, where)
    if config.method == "qlora" or config.optimizer.name in BITSANDBYTES_OPTIMIZERS:
        _require("bitsandbytes", "qlora")
    if config.distribution.kind == "deepspeed":
        _require("deepspeed", "deepspeed")


def _check_together(config: TrainingConfig, where: Callable[[str], str]) -> None:
    """What no value shows alone. One process of deepspeed is allowed: it is still DeepSpeed."""
    sharing, lora = config.distribution, config.lora
    if sharing.kind == "none" and sharing.processes > 1:
        raise ConfigError(
            f"{sharing.processes} processes share nothing with distribution.kind = none",
            where=where("distribution.processes"),
            mend="Set distribution.kind to ddp, fsdp or deepspeed.",
        )
    if sharing.kind in ("ddp", "fsdp") and sharing.processes == 1:
        raise ConfigError(
            f"one process of {sharing.kind} shares nothing",
            where=where("distribution.kind"),
            mend="Set distribution.processes too, to 2 or more.",
        )
    if config.method == "qlora" and (
        sharing.kind == "fsdp" or (sharing.kind == "deepspeed" and sharing.zero_stage == 3)
    ):
        raise ConfigError(
            f"quantised weights cannot be sharded by {sharing.kind}",
            where=where("distribution.kind"),
            mend="Use distribution.kind=ddp, deepspeed with zero_stage 1 or 2, or method=lora.",
        )
    if config.precision.dtype == "float16" and sharing.device == "cpu":
        raise ConfigError(
            "float16 cannot be trained on the CPU",
            where=where("precision.dtype"),
            mend="Use precision.dtype=float32 or bfloat16.",
        )
    if "all-linear" in lora.target_modules and len(lora.target_modules) > 1:
        raise ConfigError(
            f"lora.target_modules = {shown(lora.target_modules)}: all-linear stands alone",
            where=where("lora.target_modules"),
            mend="Name the modules, or write [all-linear].",
        )
    if config.tracking.uri is not None and "mlflow" not in config.tracking.trackers:
        raise ConfigError(
            "tracking.uri is MLflow's, which is not among tracking.trackers",
            where=where("tracking.uri"),
            mend="Add mlflow to tracking.trackers, or set tracking.uri to null.",
        )


def _near(key: str, value: Any) -> str | None:
    """What may have been meant by a name that is not there."""
    if key in _NAMES and value in (*OTHER_OPTIMIZERS, *OTHER_LR_SCHEDULERS):
        return "transformers has it too, but it needs more than a name, and evalgate has no keys for that."
    names = _NAMES.get(key, ())
    wrong = next((str(each) for each in (value if isinstance(value, list) else [value]) if each not in names), "")
    near = get_close_matches(wrong.lower(), names, 1)
    return f"Did you mean {near[0]}?" if near else None


def _require(library: str, extra: str) -> None:
    if find_spec(library) is None:  # looked up and not imported: importing it would load torch
        raise MissingExtraError(library, extra)


def flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested mappings as one, by dotted keys."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{above}{name}.") if isinstance(value, Mapping) else {f"{above}{name}": value}
    return found


def shown(value: Any) -> str:
    """A value as it would be written, cut where it is long."""
    text = value if isinstance(value, str) and value.isprintable() and value.strip() else ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
