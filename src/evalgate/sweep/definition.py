"""What a `sweep.yaml` may say, all of it checked before anything runs.

    name: sums                              # of the study: the same name goes on where it was
    train: conf/sft.yaml                    # training configuration, relative to the project
    suites: [evalsuites]                    # by default the project's suites
    objective: arithmetic/sums::exact_match # mean value of a metric
    direction: maximize                     # or minimize
    constraint: gate                        # a blocked candidate is infeasible; none: the score alone counts
    trials: 20
    seed: 0
    backend: optuna                         # or ray
    parallel: 1                             # trials at once (ray)
    space:                                  # keys of the training configuration
      lora.r: {choices: [4, 8, 16]}
      optimizer.learning_rate: {low: 1.0e-4, high: 3.0e-3, log: true}
      schedule.epochs: {low: 1, high: 4}    # whole ends mean whole numbers, unless int: false; step: is possible too
    pruning: {key: schedule.epochs, rungs: [1, 2], startup: 4}

With `pruning` a trial is first trained and evaluated at each rung of a budget (any number of the configuration), and
goes on only if its score there is no worse than the median of the trials before it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from itertools import zip_longest
from pathlib import Path
from typing import Any

from evalgate.errors import ConfigError, MissingExtraError

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,79}")
_OBJECTIVE = re.compile(r"[^\s:]+/[^\s:]+::[^\s:]+")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*([./][A-Za-z0-9_]+)*")
_STARTUP = 4
_BEFORE_QUOTE = re.compile(r"(\\*)('|\Z)")
_WORD = re.compile(r"[A-Za-z0-9_./+-]+")


@dataclass(frozen=True, slots=True)
class Dimension:
    """One key of the training configuration and what it may be.

    Attributes:
        key: such as `lora.r`.
        choices: as Hydra reads them behind `key=`; empty for a range.
        low, high: ends of the range, both included.
        log: equal ratios are equally likely, not equal differences.
        step: distance of the values, `None` for any (whole numbers: 1).
        whole: only whole numbers.
    """

    key: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    whole: bool = False

    @property
    def samples(self) -> tuple[str, ...]:
        """Every choice, or both ends, as Hydra reads them."""
        return self.choices or (self.text(self.low), self.text(self.high))

    def text(self, value: Any) -> str:
        """A value of this dimension as Hydra reads it behind `key=`."""
        return str(int(value)) if self.whole and not self.choices else str(value)


@dataclass(frozen=True, slots=True)
class Pruning:
    """A budget, the rungs of it at which a trial may end, and how many trials end at none."""

    key: str
    rungs: tuple[str, ...]
    startup: int = _STARTUP


@dataclass(frozen=True, slots=True)
class Sweep:
    """A `sweep.yaml`; see the module's docstring for each key."""

    name: str
    train: str
    objective: str
    trials: int
    space: tuple[Dimension, ...]
    suites: tuple[str, ...] = ()
    direction: str = "maximize"
    constraint: str = "gate"
    seed: int = 0
    backend: str = "optuna"
    parallel: int = 1
    pruning: Pruning | None = None

    def checks(self) -> list[list[str]]:
        """Overrides that together hold every choice, every end and every rung at least once."""
        columns = [[f"{each.key}={text}" for text in each.samples] for each in self.space]
        rows = [[text or column[0] for text, column in zip(row, columns, strict=True)] for row in zip_longest(*columns)]
        if self.pruning:
            rows += [[*rows[0], f"{self.pruning.key}={rung}"] for rung in self.pruning.rungs]
        return rows


def load_sweep(path: Path) -> Sweep:
    """Read and check a `sweep.yaml`.

    Raises:
        ConfigError: the file, a key or a value cannot be used; with the nearest key there is.
        MissingExtraError: PyYAML is not installed.
    """
    try:
        import yaml
    except ImportError:
        raise MissingExtraError("pyyaml", "sweep") from None
    where = str(path)
    try:
        value = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
        said = " ".join(str(getattr(exc, "strerror", None) or exc).split())
        raise ConfigError(f"cannot be read: {said}", where=where) from exc
    table = _table(value, {f.name for f in fields(Sweep)}, where)
    for key in ("name", "train", "objective", "trials", "space"):
        if table.get(key) is None:
            raise ConfigError(f"{key} is missing", where=where, mend="Give name, train, objective, trials and space.")
    if not _NAME.fullmatch(_text(table, "name", where)):
        mend = "It names a file: ASCII letters, digits and . _ -, the first no dot."
        raise ConfigError(f"name = {table['name']!a:.60} is no name", where=where, mend=mend)
    objective = _text(table, "objective", where)
    if not _OBJECTIVE.fullmatch(objective):
        mend = "Write it as suite/task::metric, such as arithmetic/sums::exact_match."
        raise ConfigError(f"objective = {objective!a} is no metric of a task", where=where, mend=mend)
    sweep = Sweep(
        name=table["name"],
        train=_text(table, "train", where),
        objective=objective,
        trials=_whole(table, "trials", 1, where),
        space=_space(table["space"], where),
        suites=_texts(table.get("suites", []), "suites", where),
        direction=_choice(table, "direction", ("maximize", "minimize"), where),
        constraint=_choice(table, "constraint", ("gate", "none"), where),
        seed=_whole(table, "seed", 0, where, default=0),
        backend=_choice(table, "backend", ("optuna", "ray"), where),
        parallel=_whole(table, "parallel", 1, where, default=1),
        pruning=_pruning(table.get("pruning"), where),
    )
    _require_fit(sweep, where)
    return sweep


def _require_fit(sweep: Sweep, where: str) -> None:
    """What can only be wrong together."""
    if sweep.backend == "ray" and sweep.pruning:
        raise ConfigError("pruning needs backend: optuna", where=where)
    if sweep.backend == "optuna" and sweep.parallel > 1:
        mend = "One trial has the whole machine; backend: ray runs several at once."
        raise ConfigError(f"parallel = {sweep.parallel} needs backend: ray", where=where, mend=mend)
    if sweep.pruning and sweep.pruning.key in {each.key for each in sweep.space}:
        mend = "Leave it out of one of the two."
        raise ConfigError(f"{sweep.pruning.key} is in space, and it is the budget of pruning", where=where, mend=mend)


def _space(value: Any, where: str) -> tuple[Dimension, ...]:
    if not isinstance(value, dict) or not value:
        mend = "Give at least one key of the training configuration, such as lora.r: {choices: [4, 8]}."
        raise ConfigError("space is empty", where=where, mend=mend)
    return tuple(_dimension(key, each, where) for key, each in value.items())


def _dimension(key: Any, value: Any, where: str) -> Dimension:
    place = f"{where}: space.{key}"
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise ConfigError(f"{key!a} is no key of a configuration", where=where, mend="Such as lora.r.")
    table = _table(value, {"choices", "low", "high", "log", "step", "int"}, place)
    if "choices" in table:
        if len(table) > 1:
            raise ConfigError("give either choices, or low and high", where=place)
        choices = table["choices"]
        if not isinstance(choices, list) or not choices:
            raise ConfigError("choices is empty", where=place, mend="Such as choices: [4, 8, 16].")
        texts = tuple(override_text(each, place) for each in choices)
        if len(set(texts)) < len(texts):
            raise ConfigError("a choice stands twice", where=place, mend="Give each once.")
        return Dimension(key, choices=texts)
    low, high = (_number(table, end, place) for end in ("low", "high"))
    if not low < high:
        raise ConfigError(f"low = {low:g} is not below high = {high:g}", where=place)
    log, step = _flag(table, "log", place, default=False), None
    if "step" in table:
        step = _number(table, "step", place)
        if step <= 0 or log:
            raise ConfigError("step is above 0, and only without log", where=place)
    parts = [low, high] + ([step] if step is not None else [])
    whole = _flag(table, "int", place, default=all(type(table.get(end)) is int for end in ("low", "high")))
    if whole and any(part != int(part) for part in parts):
        raise ConfigError("whole numbers have whole ends and steps", where=place, mend="Or say int: false.")
    if log and low <= 0:
        raise ConfigError(f"low = {low:g}: on a logarithmic scale it is above 0", where=place)
    return Dimension(key, low=low, high=high, log=log, step=step, whole=whole)


def _pruning(value: Any, where: str) -> Pruning | None:
    if value is None:
        return None
    place = f"{where}: pruning"
    table = _table(value, {f.name for f in fields(Pruning)}, place)
    rungs = table.get("rungs")
    if not isinstance(rungs, list) or not rungs or not all(_is_number(each) for each in rungs):
        raise ConfigError("rungs are the budgets to look at first, such as [1, 2]", where=place)
    if rungs != sorted(set(rungs)):
        raise ConfigError("rungs rise", where=place)
    key = _text(table, "key", place)
    startup = _whole(table, "startup", 1, place, default=_STARTUP)
    return Pruning(key, tuple(override_text(each, place) for each in rungs), startup)


def override_text(value: Any, where: str) -> str:
    """A value as Hydra's grammar of overrides reads it back."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float) and math.isfinite(value):
        return repr(value)
    if isinstance(value, str):
        return value if _WORD.fullmatch(value) else f"'{_BEFORE_QUOTE.sub(_escaped, value)}'"
    if isinstance(value, list):
        return "[" + ",".join(override_text(each, where) for each in value) + "]"
    raise ConfigError(f"{value!a} cannot be given as key=value", where=where, mend="Use numbers, words and lists.")


def _escaped(found: re.Match[str]) -> str:
    """Hydra takes backslashes for what they are, but not where a quote follows."""
    return found[1] * 2 + (r"\'" if found[2] else "")


# -- values -----------------------------------------------------------------------------------------------------------


def _table(value: Any, known: set[str], where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"expected keys and values, not {value!a:.60}", where=where)
    for key in value:
        if key not in known:
            near = get_close_matches(str(key), known, 1)
            mend = f"Did you mean {near[0]!r}?" if near else f"Known keys: {', '.join(sorted(known))}."
            raise ConfigError(f"unknown key {key!a}", where=where, mend=mend)
    return value


def _text(table: Mapping[str, Any], key: str, where: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{key} = {value!a:.60}: expected text", where=where)
    return value


def _texts(value: Any, key: str, where: str) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(each, str) and each.strip() for each in values):
        raise ConfigError(f"{key} = {value!a:.60}: expected a list of texts", where=where)
    return tuple(values)


def _choice(table: Mapping[str, Any], key: str, names: tuple[str, ...], where: str) -> str:
    value = table.get(key, names[0])
    value = "none" if value is None else value
    if value not in names:
        near = get_close_matches(str(value), names, 1)
        mend = f"Did you mean {near[0]!r}?" if near else None
        raise ConfigError(f"{key} = {value!a:.60}: expected {' or '.join(names)}", where=where, mend=mend)
    return str(value)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _number(table: Mapping[str, Any], key: str, where: str) -> float:
    value = table.get(key)
    if isinstance(value, str):  # YAML reads 1e-4, without a point, as text
        try:
            value = float(value)
        except ValueError:
            value = None
    if value is None or not _is_number(value):
        raise ConfigError(f"{key} = {table.get(key)!a:.60}: expected a number", where=where)
    return float(value)


def _whole(table: Mapping[str, Any], key: str, least: int, where: str, *, default: int | None = None) -> int:
    value = table.get(key, default)
    if type(value) is not int or value < least:
        raise ConfigError(f"{key} = {value!a:.60}: expected a whole number from {least}", where=where)
    return value


def _flag(table: Mapping[str, Any], key: str, where: str, *, default: bool) -> bool:
    value = table.get(key, default)
    if not isinstance(value, bool):
        raise ConfigError(f"{key} = {value!a:.60}: expected true or false", where=where)
    return value
