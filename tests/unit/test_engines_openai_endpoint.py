"""Endpoints as checkpoints, and the options of the engine that asks them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalgate.config import EngineConfig
from evalgate.engines import EngineSettings, engine_identity, identity
from evalgate.engines.endpoint import EndpointOptions, base_address, endpoint, endpoint_options
from evalgate.engines.environment import child_environment
from evalgate.engines.protocol import Start, start_from_json, start_to_json
from evalgate.errors import ConfigError, MissingExtraError
from evalgate.preflight import verify_unchanged
from evalgate.session.candidates import from_endpoint, from_models

URL = "https://models.example/v1"
NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=8)


@given(st.tuples(NAMES, st.none() | NAMES), st.tuples(NAMES, st.none() | NAMES))
def test_model_and_revision_are_the_identity(one: tuple[str, str | None], two: tuple[str, str | None]) -> None:
    """Two checkpoints have the same digest where address, model and revision are the same, and only there."""
    first, second = (endpoint(URL, model, revision=revision or None) for model, revision in (one, two))
    assert (first.digest == second.digest) is (one == two)
    assert first.digest != endpoint("https://other.example/v1", one[0], revision=one[1]).digest


def test_an_endpoint_is_a_checkpoint() -> None:
    """Its name is the model, its path the address without a slash at the end; there are no files to verify."""
    made = endpoint(f"{URL}/", "org/judge")
    assert (made.kind, made.name, made.path, made.template, made.base) == ("endpoint", "org/judge", URL, None, None)
    assert made.digest == endpoint(URL, "org/judge").digest
    verify_unchanged(made)
    start = Start(engine="openai", options={}, device="cpu", checkpoints=(made,), first="", max_length=None, scratch="")
    assert start_from_json(start_to_json(start)).checkpoints == (made,)


@pytest.mark.parametrize(
    "url",
    ["", "models.example/v1", "ftp://models.example", "http://", "http://h:99999/v1", "http://a b/v1", None, 7, []],
)
def test_what_is_no_address_is_refused(url: object) -> None:
    """With an example of one."""
    with pytest.raises(ConfigError, match=r"engine\.url: expected an http.*127\.0\.0\.1"):
        base_address(url)


@pytest.mark.parametrize("part", ["https://me:SECRET@h/v1", "https://h/v1?key=SECRET", "https://h/v1#SECRET"])
def test_an_address_carries_no_secret(part: str) -> None:
    """It stands in records; and the refusal does not repeat what may be a key."""
    with pytest.raises(ConfigError, match="no user, password, query") as caught:
        endpoint(part, "judge")
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("model", ["", "  ", "a\nb", "a\x1b[31m"])
def test_a_model_has_a_printable_name(model: str) -> None:
    """It stands in tables and messages."""
    with pytest.raises(ConfigError, match="--model"):
        endpoint(URL, model)
    with pytest.raises(ConfigError, match="revision"):
        endpoint(URL, "judge", revision=" ")


def test_options_have_defaults() -> None:
    """Nothing has to be said but the address."""
    options = endpoint_options({"url": URL})
    assert (options.concurrency, options.total_timeout, options.max_body) == (16, 120, 8 << 20)
    assert options.names == ()
    assert endpoint_options({"model_says": "a"}).names == ("a",)
    assert endpoint_options({"model_says": ["a", "b"]}).names == ("a", "b")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("concurrency", 0),
        ("concurrency", 2.0),
        ("concurrency", True),
        ("connect_timeout", 0),
        ("read_timeout", float("nan")),
        ("total_timeout", float("inf")),
        ("total_timeout", "60"),
        ("max_body", 10),
        ("model_says", 7),
        ("model_says", [""]),
        ("model_says", {"a": 1}),
        ("revision", ""),
        ("ca_file", 3),
        ("extra_body", [1]),
        ("extra_body", {"temperature": 0}),
        ("url", "nowhere"),
    ],
)
def test_a_wrong_value_is_refused_by_name(option: str, value: Any) -> None:
    """Before anything is asked, also where the settings are made."""
    with pytest.raises(ConfigError, match=rf"engine\.{option}"):
        endpoint_options({option: value})
    with pytest.raises(ConfigError, match=rf"engine\.{option}"):
        EngineSettings(name="openai", options={option: value}, log_dir=Path("logs"))


def test_an_unknown_option_gets_the_nearest_name() -> None:
    """Or the list of them."""
    with pytest.raises(ConfigError, match="Did you mean 'concurrency'"):
        endpoint_options({"concurency": 3})
    with pytest.raises(ConfigError, match="There are: url, revision, api_key_env"):
        endpoint_options({"dtype": "float32"})


@pytest.mark.parametrize("options", [{"api_key": "sk-SECRET"}, {"api_key_env": "sk-SECRET"}, {"token": "sk-SECRET"}])
def test_a_key_in_the_settings_is_refused_and_not_repeated(options: dict[str, str]) -> None:
    """Only the name of its variable is written there."""
    with pytest.raises(ConfigError, match=r"OPENAI_API_KEY") as caught:
        endpoint_options(options)
    assert "SECRET" not in str(caught.value)


def settings(tmp_path: Path, **options: object) -> EngineSettings:
    """Of the engine."""
    return EngineSettings(name="openai", options=options, log_dir=tmp_path)


def test_the_engines_identity_holds_what_changes_answers(tmp_path: Path) -> None:
    """Address and revision are the checkpoint's; patience, concurrency and the key's variable change nothing."""
    plain = engine_identity(settings(tmp_path))
    assert plain["name"] == "openai"
    told = {"url": URL, "revision": "2", "api_key_env": "KEY", "concurrency": 2, "total_timeout": 3, "model_says": "x"}
    assert engine_identity(settings(tmp_path, **told)) == plain
    assert engine_identity(settings(tmp_path, extra_body={"min_p": 0.1})) != plain


def test_without_httpx_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a child is started."""
    monkeypatch.setattr(identity, "installed", lambda python: {"torch": "2"})
    with pytest.raises(MissingExtraError, match=r"pytest-evalgate\[endpoints\]"):
        engine_identity(settings(tmp_path))


def test_the_child_gets_the_one_variable_that_was_named(tmp_path: Path) -> None:
    """No other key, and no engine but this one gets any."""
    variables = {"MY_KEY": "1", "OTHER_KEY": "2", "PATH": "3"}
    named = settings(tmp_path, api_key_env="MY_KEY").variables
    assert named == ("MY_KEY",)
    assert {"MY_KEY", "PATH"} < set(child_environment("endpoint", variables, named))
    assert "OTHER_KEY" not in child_environment("endpoint", variables, named)
    assert settings(tmp_path).variables == ()
    assert EngineSettings(name="fake", options={"api_key_env": "MY_KEY"}, log_dir=tmp_path).variables == ()


def test_models_are_named_at_the_endpoint_of_the_settings() -> None:
    """`--model` is then the model's name; what test ids and folders carry holds no slash."""
    engine = EngineConfig(name="openai", options={"url": URL, "revision": "r1"})
    found = from_models(["org/judge", "../.."], base=None, memo={}, engine=engine)  # type: ignore[arg-type]
    assert list(found) == ["org-judge", "model"]
    assert found["org-judge"].checkpoint == endpoint(URL, "org/judge", revision="r1")
    with pytest.raises(ConfigError, match="same content"):
        from_models(["a", "a"], base=None, memo={}, engine=engine)  # type: ignore[arg-type]


def test_an_endpoint_needs_an_address() -> None:
    """The message shows the line to write."""
    with pytest.raises(ConfigError, match=r"needs an address.*url = "):
        from_endpoint("judge", EngineConfig(name="openai"))


def test_options_are_the_documented_ones() -> None:
    """Every option stands in the documentation's table."""
    text = (Path(__file__).parents[2] / "docs/endpoints.md").read_text("utf-8")
    missing = [name for name in EndpointOptions.__dataclass_fields__ if f"| `{name}` |" not in text]
    assert not missing
