"""Settings: defaults, the project's table, what was typed; anything else is an error that says what to write."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from evalgate.config import Config, EngineConfig, JudgesConfig, load_config, project_root
from evalgate.errors import ConfigError
from evalgate.gate import Policy


def project(folder: Path, text: str) -> Path:
    (folder / "pyproject.toml").write_text(text, "utf-8")
    return folder


def test_without_a_file_or_a_table_the_defaults_hold(tmp_path: Path) -> None:
    """No pyproject.toml, one of another tool, and an empty table all mean the defaults."""
    assert load_config(tmp_path, {}) == Config()
    for text in ("", "[tool.other]\nx = 1\n", "[tool.evalgate]\n", "tool = 3\n"):
        assert load_config(project(tmp_path, text), {"alpha": None}) == Config()
    assert (Config().suites, Config().state, Config().reports) == ("evalsuites", ".evalgate", "reports")
    assert Config().policy == Policy()


def test_every_key_of_the_table_arrives(tmp_path: Path) -> None:
    """Each key sets its field; the engine's unknown keys are passed on as they are."""
    text = """
[tool.evalgate]
suites = "suites"
state = ".state"
reports = "cards"
baseline = "support-bot"
required = ["test_a/add::exact_match"]
base = "models/base"
seed = 3
alpha = 0.01
power = 0.9
margin = 0.04
bits_per_byte_margin = 0.02
pooled_margin = 0.03
min_n = 50
inconclusive = "fail"
pass_rule = "all"
compare_policy = "strict"
reserve = "confirm"
baseline_model = "runs/v1"
registry = "shop"
registry_uri = "http://mlflow:5000"

[tool.evalgate.engine]
name = "transformers"
python = "/opt/bin/python"
start_timeout = 60
dtype = "bfloat16"
max_model_len = 4096
compilation_config = { level = 3 }
"""
    policy = Policy(
        alpha=0.01,
        power=0.9,
        margin=0.04,
        bits_per_byte_margin=0.02,
        pooled_margin=0.03,
        min_n=50,
        inconclusive="fail",
        pass_rule="all",
        engine="strict",
        reserve="confirm",
    )
    assert all(getattr(policy, f.name) != f.default for f in fields(Policy))
    assert load_config(project(tmp_path, text), {}) == Config(
        suites="suites",
        state=".state",
        reports="cards",
        baseline="support-bot",
        required=("test_a/add::exact_match",),
        base=str(tmp_path / "models/base"),
        baseline_model=str(tmp_path / "runs/v1"),
        registry="shop",
        registry_uri="http://mlflow:5000",
        seed=3,
        policy=policy,
        engine=EngineConfig(
            name="transformers",
            python="/opt/bin/python",
            start_timeout=60,
            options={"dtype": "bfloat16", "max_model_len": 4096, "compilation_config": {"level": 3}},
        ),
    )


def test_what_was_typed_wins(tmp_path: Path) -> None:
    """An option replaces the table's value, leaves the others, and a typed path is taken as typed."""
    table = '[tool.evalgate]\nalpha = 0.01\nmargin = 0.1\nbase = "b"\n'
    text = f'{table}[tool.evalgate.engine]\nname = "vllm"\ndtype = "half"\n'
    typed = {"alpha": 0.05, "engine.name": "fake", "base": "other", "margin": None}
    config = load_config(project(tmp_path, text), typed)
    assert (config.policy.alpha, config.policy.margin, config.base) == (0.05, 0.1, "other")
    assert config.engine == EngineConfig(name="fake", options={"dtype": "half"})


def test_the_registry_is_where_somebody_says_else_a_file_of_the_project(tmp_path: Path) -> None:
    """The settings win over MLflow's own variables, and those over the file; a password is never kept."""
    told = {"MLFLOW_TRACKING_URI": "http://tracking"}
    assert Config().registry_at(tmp_path, {}) == f"sqlite:///{tmp_path}/.evalgate/mlflow.db"
    assert Config().registry_at(tmp_path, told) == "http://tracking"
    assert Config().registry_at(tmp_path, {**told, "MLFLOW_REGISTRY_URI": "http://registry"}) == "http://registry"
    assert Config(registry_uri="http://settings").registry_at(tmp_path, told) == "http://settings"
    with pytest.raises(ConfigError, match="an address without a password"):
        load_config(project(tmp_path, '[tool.evalgate]\nregistry_uri = "https://me:word@mlflow"\n'), {})


def test_the_project_is_the_nearest_folder_with_its_file(tmp_path: Path) -> None:
    """The root is the nearest folder upward with a pyproject.toml; without one it is where one stands."""
    (below := tmp_path / "a" / "b").mkdir(parents=True)
    assert project_root(below) == below
    assert project_root(project(tmp_path / "a", "")) == tmp_path / "a"
    assert project_root(below) == tmp_path / "a"


@pytest.mark.parametrize("required", ['"all"', '["all"]'])
def test_required_takes_all(tmp_path: Path, required: str) -> None:
    """`all` needs no list."""
    assert load_config(project(tmp_path, f"[tool.evalgate]\nrequired = {required}\n"), {}).required == ("all",)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('alpha = "5%"', 'alpha = "5%": expected a number above 0 and up to 0.5, such as 0.05'),
        ("alpha = 5", "alpha = 5: expected a number above 0"),
        ("alpha = 0", "alpha = 0: expected"),
        ("alpha = nan", "alpha = nan: expected"),
        ("alpha = inf", "alpha = inf: expected"),
        ("alpha = true", "alpha = True: expected"),
        ("power = 1.0", "power = 1.0: expected a number between 0 and 1"),
        ("margin = -0.05", "margin = -0.05: expected a number above 0 and up to 1"),
        ("bits_per_byte_margin = 2", "bits_per_byte_margin = 2: expected"),
        ("pooled_margin = 1.5", "pooled_margin = 1.5: expected"),
        ("min_n = 30.0", "min_n = 30.0: expected a whole number from 5"),
        ("min_n = 4", "min_n = 4: expected"),
        ('inconclusive = "pass"', "inconclusive = \"pass\": expected 'warn' or 'fail'"),
        ('pass_rule = "any"', "expected 'pooled' or 'all'"),
        ('compare_policy = ["warn"]', "expected 'warn' or 'strict'"),
        ('suites = ""', "suites = \"\": expected text, such as 'evalsuites'"),
        ("reports = 3", "reports = 3: expected text"),
        ('required = "test_a/add"', "expected 'all', or a list of 'suite/task::metric'"),
        ('required = ["test_a/add"]', "expected 'all', or a list of 'suite/task::metric'"),
        ("required = [1]", "expected 'all'"),
        ("aplha = 0.05", "unknown key 'aplha'. Did you mean 'alpha'?"),
        ("reqired = []", "Did you mean 'required'?"),
        ("zzz = 1", "unknown key 'zzz'. Known keys: alpha, base, baseline, "),
        ('engine = "vllm"', 'engine = "vllm": expected a table. [tool.evalgate.engine]'),
        ("engine.start_timeout = 0", "engine.start_timeout = 0: expected seconds above 0"),
        ("engine.name = 3", "engine.name = 3: expected text"),
        ("engine.python = false", "engine.python = False: expected text"),
        ("engine.trust_remote_code = true", "engine.trust_remote_code is never passed on"),
        (f"baseline = [{', '.join('1' * 90)}]", "...: expected text"),
        ("alpha = ", "could not be read: "),
        ("alpha = 1\nalpha = 2", "could not be read: "),
    ],
)
def test_every_wrong_line_says_what_to_write(tmp_path: Path, line: str, says: str) -> None:
    """Wrong types, ranges, choices, spellings and TOML are one-line errors that name the file."""
    with pytest.raises(ConfigError) as caught:
        load_config(project(tmp_path, f"[tool.evalgate]\n{line}\n"), {})
    assert says in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "pyproject.toml"))
    assert "\n" not in str(caught.value)


def test_a_table_that_is_none_and_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    """`evalgate = 3` and a file in another encoding are errors, and so is a folder in the file's place."""
    with pytest.raises(ConfigError, match=r"tool.evalgate = 3: expected a table"):
        load_config(project(tmp_path, "[tool]\nevalgate = 3\n"), {})
    (tmp_path / "pyproject.toml").write_bytes(b"\xff\xfe[\0t\0")
    with pytest.raises(ConfigError, match="could not be read"):
        load_config(tmp_path, {})
    (tmp_path / "pyproject.toml").unlink()
    (tmp_path / "pyproject.toml").mkdir()
    with pytest.raises(ConfigError, match="could not be read"):
        load_config(tmp_path, {})


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ({"alpha": 2.0}, "--eval-alpha: alpha = 2.0: expected a number"),
        ({"alpha": float("nan")}, "--eval-alpha: alpha = nan: expected a number"),
        ({"engine.name": ""}, '--eval-engine: engine.name = "": expected text'),
        ({"pass_rule": "x"}, "--eval-pass-rule: "),
        ({"alhpa": 0.1}, "Did you mean 'alpha'?"),
    ],
)
def test_a_wrong_option_is_named_as_it_is_typed(tmp_path: Path, typed: dict[str, Any], says: str) -> None:
    """What is wrong on the command line is called by its option."""
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path, typed)
    assert says in str(caught.value)


def test_every_field_has_a_rule(tmp_path: Path) -> None:
    """Each setting of Config, Policy and EngineConfig can be written in the table: none is forgotten."""
    names = {f.name for f in fields(Config)} - {"policy", "engine"}
    names |= {f.name for f in fields(Policy)} - {"engine"} | {"compare_policy"}
    names |= {f"engine.{f.name}" for f in fields(EngineConfig)} - {"engine.options"}
    for name in names:
        with pytest.raises(ConfigError, match=f"{name} = .*expected"):
            load_config(project(tmp_path, f"[tool.evalgate]\n{name} = 1979-05-27\n"), {})


# -- judges ------------------------------------------------------------------------------------------------------------

JUDGES = """
[tool.evalgate]
{key}
[tool.evalgate.engine]
name = "transformers"
[tool.evalgate.judges]
kappa = 0.7
[tool.evalgate.judges.small]
model = "runs/judge"
dtype = "float32"
[tool.evalgate.judges.cloud]
url = "https://judge.example/v1"
model = "big"
revision = "2026-05"
api_key_env = "JUDGE_KEY"
"""


def judged(folder: Path, text: str, **typed: str) -> JudgesConfig:
    """The judges of a pyproject.toml."""
    (folder / "pyproject.toml").write_text(text)
    return load_config(folder, typed).judges


def test_judges_are_tables(tmp_path: Path) -> None:
    """A model on this machine runs in the engine of the candidate; an endpoint is one; other keys are its options."""
    (tmp_path / "runs/judge").mkdir(parents=True)
    found = judged(tmp_path, JUDGES.format(key='judge = "cloud"'))
    small, cloud = found.models["small"], found.models["cloud"]
    assert (found.default, found.kappa) == ("cloud", 0.7)
    assert small.model == str(tmp_path / "runs/judge")
    assert (small.engine.name, small.engine.options) == ("transformers", {"dtype": "float32"})
    assert (cloud.model, cloud.revision, cloud.engine.name) == ("big", "2026-05", "openai")
    assert cloud.engine.options == {"api_key_env": "JUDGE_KEY", "url": "https://judge.example/v1"}


def test_the_only_judge_is_the_default(tmp_path: Path) -> None:
    """Of several, the settings must say which one metrics mean that name none."""
    assert judged(tmp_path, '[tool.evalgate.judges.one]\nmodel = "m"').default == "one"
    assert judged(tmp_path, JUDGES.format(key="")).default is None


def test_a_judge_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--eval-judge` takes a name of the settings, or a checkpoint where one stands."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert judged(tmp_path, JUDGES.format(key=""), judge="small").default == "small"
    typed = judged(tmp_path, JUDGES.format(key=""), judge="mine")
    assert (typed.default, typed.models["mine"].model) == ("mine", str(tmp_path / "mine"))
    assert typed.models["mine"].engine.name == "transformers"
    with pytest.raises(ConfigError, match=r"'smal' is neither a judge nor a folder.*Did you mean 'small'"):
        judged(tmp_path, JUDGES.format(key=""), judge="smal")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tool.evalgate]\njudges = 3", "expected a table"),
        ("[tool.evalgate.judges]\nkapa = 0.5", "unknown key 'kapa'.*Did you mean 'kappa'"),
        ("[tool.evalgate.judges]\nkappa = 1.5", "a number from 0 and below 1"),
        ("[tool.evalgate.judges.one]\nurl = 'http://x/v1'", "the judge has no model"),
        ("[tool.evalgate.judges.one]\nmodel = 'm'\nurl = 'http://me:secret@x/v1'", "an address without a password"),
        ("[tool.evalgate.judges.one]\nmodel = 'm'\nname = 'vllm'", 'The engine is engine = "vllm"'),
        ("[tool.evalgate.judges.'a b']\nmodel = 'm'", "'a b' is no name for a judge"),
        ("[tool.evalgate.judges.default]\nmodel = 'm'", "'default' is no name for a judge"),
        ("[tool.evalgate]\njudge = 'nobody'", "'nobody' is neither a judge nor a folder"),
    ],
)
def test_a_wrong_judge_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """Every mistake names its place and what is expected."""
    with pytest.raises(ConfigError, match=message):
        judged(tmp_path, text)
