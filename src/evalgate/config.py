"""Settings: `[tool.evalgate]` of the project's pyproject.toml, over which command-line options win."""

from __future__ import annotations

import json
import math
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from evalgate.errors import ConfigError
from evalgate.gate import Policy
from evalgate.text import without_secrets


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
class JudgeConfig:
    """`[tool.evalgate.judges.NAME]`: one model that judges ask, on this machine or behind an endpoint.

    Attributes:
        model: a checkpoint's folder, `name@revision` or `models:/name@alias`; with `url`, the name that is asked there.
        url: base address of an OpenAI-compatible endpoint, ending in `/v1`; `None` for a model on this machine.
        revision: what an endpoint's model is called apart from its name: change it when the model behind it changes.
        base: where an adapter's base lies, `None` for where the adapter says.
        engine: which engine runs a model on this machine (by default the candidate's), with its options, or an
            endpoint's limits.
    """

    model: str
    url: str | None = None
    revision: str | None = None
    base: str | None = None
    engine: EngineConfig = field(default_factory=EngineConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgesConfig:
    """`[tool.evalgate.judges]`.

    Attributes:
        default: name of the judge that metrics ask which name none: what the key `judge` says, else the only one.
        python: interpreter of an environment with the judge libraries, `None` for this one.
        kappa: Cohen's kappa with people from which on a judge may block.
        models: name to judge, from the tables `[tool.evalgate.judges.NAME]`.
    """

    default: str | None = None
    python: str | None = None
    kappa: float = 0.6
    models: Mapping[str, JudgeConfig] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """`[tool.evalgate]`. Folders are relative to the project's root.

    Attributes:
        suites: folder of the suites.
        state: folder of records, cache and ledger.
        reports: folder of the model cards.
        ci: whose summary, annotations and reports are written: `auto` (by the environment), `github`, `gitlab`, `none`.
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
        judges: see `JudgesConfig`.
    """

    suites: str = "evalsuites"
    state: str = ".evalgate"
    reports: str = "reports"
    ci: str = "auto"
    baseline: str | None = None
    required: tuple[str, ...] = ()
    base: str | None = None
    baseline_model: str | None = None
    registry: str | None = None
    registry_uri: str | None = None
    seed: int | None = None
    policy: Policy = field(default_factory=Policy)
    engine: EngineConfig = field(default_factory=EngineConfig)
    judges: JudgesConfig = field(default_factory=JudgesConfig)

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


def load_config(rootdir: Path, overrides: Mapping[str, Any], *, prefix: str = "--eval-") -> Config:
    """The settings in force.

    Args:
        rootdir: folder of the pyproject.toml; without the file or the table, defaults hold.
        overrides: what was typed, by the names of the keys (`alpha`, `engine.name`); `None` is what was not typed.
        prefix: of the options that they were typed as, for messages.

    Raises:
        ConfigError: no TOML, an unknown key (with the nearest one there is), a value of the wrong type or out of range.
    """
    path = rootdir / "pyproject.toml"
    table = _table(path)
    of_judges = table.pop("judges", {})
    settings = {key: _checked(key, value, f"{path} [tool.evalgate]") for key, value in _flat(table).items()}
    for folder in ("base", "baseline_model"):
        if settings.get(folder):
            settings[folder] = str(rootdir / settings[folder])
    typed = {key: value for key, value in overrides.items() if value is not None}
    settings |= {key: _checked(key, value, f"{prefix}{_option(key)}") for key, value in typed.items()}

    default = settings.get("engine.name", EngineConfig().name)
    judges = _judges(of_judges, rootdir, f"{path} [tool.evalgate.judges", default)
    if "judge" in settings:
        place, named = (Path.cwd(), f"{prefix}judge") if "judge" in typed else (rootdir, f"{path} [tool.evalgate]")
        judges = _chosen(judges, settings.pop("judge"), place, named, default if default != "openai" else "vllm")
    elif len(judges.models) == 1:
        judges = replace(judges, default=next(iter(judges.models)))
    policy = {_POLICY[key]: value for key, value in settings.items() if key in _POLICY}
    engine = {key.removeprefix(_ENGINE): value for key, value in settings.items() if key.startswith(_ENGINE)}
    return Config(
        **{key: value for key, value in settings.items() if key not in _POLICY and not key.startswith(_ENGINE)},
        policy=replace(Policy(), **policy),
        judges=judges,
        engine=_engine(engine),
    )


def _engine(given: Mapping[str, Any]) -> EngineConfig:
    """Our own keys, and what is the engine's."""
    named = {f.name for f in fields(EngineConfig)} - {"options"}
    return EngineConfig(
        **{key: value for key, value in given.items() if key in named},
        options={key: value for key, value in given.items() if key not in named},
    )


def _judges(table: Any, rootdir: Path, where: str, default: str) -> JudgesConfig:
    """The judges' table: scalars are about all of them, each table in it is one."""
    if not isinstance(table, dict):
        raise ConfigError(f"judges = {_shown(table)}: expected a table", where=f"{where}]", mend=_JUDGES_MEND)
    tables = {name: value for name, value in table.items() if isinstance(value, dict)}
    scalars = {name: value for name, value in table.items() if name not in tables}
    for key, value in scalars.items():
        _obeyed(key, value, _JUDGES_RULES, f"{where}]")
    models = {name: _judge(name, value, rootdir, f"{where}.{name}]", default) for name, value in tables.items()}
    return JudgesConfig(models=models, **scalars)


def _judge(name: str, table: Mapping[str, Any], rootdir: Path, where: str, default: str) -> JudgeConfig:
    """One judge: every key that is not ours is its engine's."""
    if name == "default" or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
        raise ConfigError(f"{name!r} is no name for a judge", where=where, mend="Use letters, digits, -, _ and dots.")
    own = {key: value for key, value in table.items() if key in _JUDGE_RULES}
    for key, value in own.items():
        _obeyed(key, value, _JUDGE_RULES, where)
    if "model" not in own:
        raise ConfigError("the judge has no model", where=where, mend=_JUDGES_MEND)
    if "name" in table:
        raise ConfigError("a judge's name is that of its table", where=where, mend='The engine is engine = "vllm".')
    engine = {key: _checked(f"{_ENGINE}{key}", value, where) for key, value in table.items() if key not in own}
    named = own.pop("engine", None)
    if "url" in own:
        engine = {**engine, "name": "openai", "url": own["url"]}
    elif named or default != "openai":
        engine["name"] = named or default
    for folder in ("model", "base"):
        if folder in own and "url" not in own and (rootdir / own[folder]).is_dir():
            own[folder] = str(rootdir / own[folder])
    return JudgeConfig(**own, engine=_engine(engine))


def _chosen(judges: JudgesConfig, judge: str, folder: Path, where: str, engine: str) -> JudgesConfig:
    """The judges with another default: one of them by name, or a model given as `--model` takes it."""
    if judge in judges.models:
        return replace(judges, default=judge)
    local = folder / judge
    if not local.is_dir() and not re.search(r"@|:/", judge):
        near = get_close_matches(judge, judges.models, 1)
        known = f"There are {', '.join(judges.models)}." if judges.models else _JUDGES_MEND
        mend = f"Did you mean {near[0]!r}?" if near else known
        raise ConfigError(f"{judge!r} is neither a judge nor a folder", where=where, mend=mend)
    name = local.name if local.is_dir() else "judge"
    model = JudgeConfig(model=str(local.absolute()) if local.is_dir() else judge, engine=EngineConfig(name=engine))
    return replace(judges, default=name, models={**judges.models, name: model})


def _obeyed(key: str, value: Any, rules: Mapping[str, _Rule], where: str) -> None:
    if key not in rules:
        near = get_close_matches(key, rules, 1)
        mend = f"Did you mean {near[0]!r}?" if near else f"Known keys: {', '.join(sorted(rules))}."
        raise ConfigError(f"unknown key {key!r}", where=where, mend=mend)
    good, expected = rules[key]
    if not good(value):
        raise ConfigError(f"{key} = {_shown(value)}: expected {expected}", where=where)


_JUDGES_MEND = '[tool.evalgate.judges.mine] with model = "runs/judge-v1" makes one; an endpoint has url and model.'
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
    "ci": _choice("auto", "github", "gitlab", "none"),
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
    "judge": _text("runs/judge-v1"),
    "engine.name": _text("vllm"),
    "engine.python": _text("/opt/vllm/bin/python"),
    "engine.start_timeout": (lambda value: _is_number(value) and value > 0, "seconds above 0, such as 600"),
}

_JUDGES_RULES: dict[str, _Rule] = {
    "python": _text("/opt/judges/bin/python"),
    "kappa": (lambda value: _is_number(value) and 0 <= value < 1, "a number from 0 and below 1, such as 0.6"),
}
_JUDGE_RULES: dict[str, _Rule] = {
    "model": _text("runs/judge-v1"),
    "url": (_is_address, "an address without a password, such as 'http://localhost:8000/v1'"),
    "revision": _text("2026-05"),
    "base": _text("models/base"),
    "engine": _text("vllm"),
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
    _obeyed(key, value, _RULES, where)
    if key == "required":
        return ("all",) if value == "all" else tuple(value)
    return value


def _shown(value: Any) -> str:
    text = without_secrets(json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value))
    return text if len(text) <= 60 else f"{text[:57]}..."


def _option(key: str) -> str:
    return "engine" if key == "engine.name" else key.replace("_", "-").replace(".", "-")
