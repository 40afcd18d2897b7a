"""Settings: `[tool.evalgate]` of the project's pyproject.toml, over which command-line options win."""

from __future__ import annotations

import json
import math
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from evalgate.errors import ConfigError
from evalgate.gate import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """`[tool.evalgate.engine]`.

    Attributes:
        name: of the engine.
        python: interpreter of an environment of its own, `None` for this one.
        start_timeout: seconds until the engine must have loaded its first checkpoint.
        options: every other key, passed on to the engine as it is (vLLM: dtype, max_model_len, …).
    """

    name: str = "vllm"
    python: str | None = None
    start_timeout: float = 600.0
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """`[tool.evalgate]`. Folders are relative to the project's root.

    Attributes:
        suites: folder of the suites.
        state: folder of records, cache and ledger.
        reports: folder of the model cards.
        baseline: name of the product whose baselines count, `None` for the only one.
        required: `suite/task::metric` of gates that must have run, or `all`.
        base: where an adapter's base lies, `None` for where the adapter says.
        baseline_model: where the checkpoint behind the baselines lies; some of its prompts are then asked again in
            every run, which says how much of a difference is noise. An adapter's base is found without it.
        registry: the model in an MLflow registry that mirrors versions and aliases, `None` for no mirror.
        registry_uri: of that MLflow, `None` for what MLflow's own variables say, else a SQLite file of the project.
        seed: number of another measurement, whose draws are independent of the first's; `None` is the first.
        policy: how verdicts are reached; its fields are keys of the table.
        engine: see `EngineConfig`.
    """

    suites: str = "evalsuites"
    state: str = ".evalgate"
    reports: str = "reports"
    baseline: str | None = None
    required: tuple[str, ...] = ()
    base: str | None = None
    baseline_model: str | None = None
    registry: str | None = None
    registry_uri: str | None = None
    seed: int | None = None
    policy: Policy = field(default_factory=Policy)
    engine: EngineConfig = field(default_factory=EngineConfig)

    def registry_at(self, root: Path, environ: Mapping[str, str] | None = None) -> str:
        """Address of the MLflow registry in which `models:/name@alias` is looked up and aliases are mirrored."""
        environ = os.environ if environ is None else environ
        said = self.registry_uri or environ.get("MLFLOW_REGISTRY_URI") or environ.get("MLFLOW_TRACKING_URI")
        return said or f"sqlite:///{root.resolve() / self.state / 'mlflow.db'}"


def project_root(start: Path) -> Path:
    """The nearest folder upward with a pyproject.toml, else where one stands.

    pytest's own rootdir is no substitute: it also looks at what follows `--model`, and finds `/` for a model elsewhere.
    """
    return next((folder for folder in (start, *start.parents) if (folder / "pyproject.toml").is_file()), start)


def load_config(rootdir: Path, overrides: Mapping[str, Any]) -> Config:
    """The settings in force.

    Args:
        rootdir: folder of the pyproject.toml; without the file or the table, defaults hold.
        overrides: what was typed, by the names of the keys (`alpha`, `engine.name`); `None` is what was not typed.

    Raises:
        ConfigError: no TOML, an unknown key (with the nearest one there is), a value of the wrong type or out of range.
    """
    path = rootdir / "pyproject.toml"
    settings = {key: _checked(key, value, f"{path} [tool.evalgate]") for key, value in _flat(_table(path)).items()}
    for folder in ("base", "baseline_model"):
        if settings.get(folder):
            settings[folder] = str(rootdir / settings[folder])
    typed = {key: value for key, value in overrides.items() if value is not None}
    settings |= {key: _checked(key, value, f"--eval-{_option(key)}") for key, value in typed.items()}

    policy = {_POLICY[key]: value for key, value in settings.items() if key in _POLICY}
    engine = {key.removeprefix(_ENGINE): value for key, value in settings.items() if key.startswith(_ENGINE)}
    named = {f.name for f in fields(EngineConfig)} - {"options"}
    return Config(
        **{key: value for key, value in settings.items() if key not in _POLICY and not key.startswith(_ENGINE)},
        policy=replace(Policy(), **policy),
        engine=EngineConfig(
            **{key: value for key, value in engine.items() if key in named},
            options={key: value for key, value in engine.items() if key not in named},
        ),
    )


_ENGINE = "engine."
# Keys of the table to fields of Policy; `engine` is a table of its own, so the policy about engines has another key.
_POLICY = {f.name: f.name for f in fields(Policy) if f.name != "engine"} | {"compare_policy": "engine"}

_Rule = tuple[Callable[[Any], bool], str]


def _text(example: str) -> _Rule:
    return lambda value: isinstance(value, str) and bool(value.strip()), f"text, such as {example!r}"


def _share(low: float, high: float, example: float) -> _Rule:
    expected = f"a number above {low:g} and up to {high:g}, such as {example:g}"
    return lambda value: _is_number(value) and low < value <= high, expected


def _choice(*names: str) -> _Rule:
    return lambda value: value in names, " or ".join(repr(name) for name in names)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_required(value: Any) -> bool:
    names = [value] if value == "all" else value
    if not isinstance(names, list | tuple):
        return False
    return all(isinstance(name, str) and (name == "all" or "::" in name) for name in names)


def _is_address(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and not urlsplit(value).password


_RULES: dict[str, _Rule] = {
    "suites": _text("evalsuites"),
    "state": _text(".evalgate"),
    "reports": _text("reports"),
    "baseline": _text("support-bot"),
    "required": (_is_required, "'all', or a list of 'suite/task::metric'"),
    "base": _text("models/base"),
    "baseline_model": _text("runs/v1"),
    "registry": _text("shop"),
    "registry_uri": (_is_address, "an address without a password, such as 'http://mlflow:5000'"),
    "seed": (lambda value: type(value) is int and value >= 0, "a whole number from 0, such as 1"),
    "alpha": _share(0, 0.5, 0.05),
    "power": (lambda value: _is_number(value) and 0 < value < 1, "a number between 0 and 1, such as 0.8"),
    "margin": _share(0, 1, 0.05),
    "bits_per_byte_margin": _share(0, 1, 0.01),
    "pooled_margin": _share(0, 1, 0.02),
    "min_n": (lambda value: type(value) is int and value >= 5, "a whole number from 5, such as 30"),
    "inconclusive": _choice("warn", "fail"),
    "pass_rule": _choice("pooled", "all"),
    "compare_policy": _choice("warn", "strict"),
    "reserve": _choice("keep", "top-up", "confirm"),
    "engine.name": _text("vllm"),
    "engine.python": _text("/opt/vllm/bin/python"),
    "engine.start_timeout": (lambda value: _is_number(value) and value > 0, "seconds above 0, such as 600"),
}


def _table(path: Path) -> dict[str, Any]:
    try:
        project = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as exc:  # ValueError: no TOML, or no UTF-8
        raise ConfigError(f"could not be read: {exc}", where=str(path), mend="Mend the file.") from exc
    tool = project.get("tool", {})
    table = tool.get("evalgate", {}) if isinstance(tool, dict) else {}
    if not isinstance(table, dict):
        raise ConfigError(f"tool.evalgate = {_shown(table)}: expected a table", where=str(path), mend="[tool.evalgate]")
    return table


def _flat(table: Mapping[str, Any]) -> dict[str, Any]:
    engine = table.get("engine", {})
    if not isinstance(engine, dict):
        return dict(table)
    rest = {key: value for key, value in table.items() if key != "engine"}
    return rest | {f"{_ENGINE}{key}": value for key, value in engine.items()}


def _checked(key: str, value: Any, where: str) -> Any:
    if key not in _RULES and key.startswith(_ENGINE):
        if key == "engine.trust_remote_code":
            mend = "Remove it: evalgate runs no code that a checkpoint brings."
            raise ConfigError("engine.trust_remote_code is never passed on", where=where, mend=mend)
        return value
    if key == "engine":
        raise ConfigError(f"engine = {_shown(value)}: expected a table", where=where, mend="[tool.evalgate.engine]")
    if key not in _RULES:
        near = get_close_matches(key, _RULES, 1)
        mend = f"Did you mean {near[0]!r}?" if near else f"Known keys: {', '.join(sorted(_RULES))}."
        raise ConfigError(f"unknown key {key!r}", where=where, mend=mend)
    good, expected = _RULES[key]
    if not good(value):
        raise ConfigError(f"{key} = {_shown(value)}: expected {expected}", where=where)
    if key == "required":
        return ("all",) if value == "all" else tuple(value)
    return value


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _option(key: str) -> str:
    return "engine" if key == "engine.name" else key.replace("_", "-").replace(".", "-")
