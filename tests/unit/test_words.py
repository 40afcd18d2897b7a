"""The small words of the core: errors, digests, requests, checkpoints, and the public names."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import evalgate
from evalgate.checkpoint import ChatTemplate, Checkpoint
from evalgate.digest import PREFIX, canonical, digest, short
from evalgate.errors import CheckpointError, EngineError, EvalgateError, InputError, MissingExtraError
from evalgate.request import Request

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
BASE = Checkpoint("v1", "/a/v1", "full", digest("w"), digest("t"), None, "LlamaForCausalLM", 2048, (2,))
ADAPTER = Checkpoint("v2", "/a/v2", "adapter", digest("a"), digest("t"), None, "LlamaForCausalLM", 2048, (2,), BASE)


def test_a_message_is_one_line_with_where_what_and_mend() -> None:
    """However it was written, an error reads as one line."""
    error = EvalgateError("has no\nweights", where="runs/v3", mend="Save it again.")
    assert str(error) == "runs/v3: has no weights. Save it again."
    assert str(EvalgateError("is wrong")) == "is wrong"
    assert str(EvalgateError("did you mean 'a'?", mend="There are a.")) == "did you mean 'a'? There are a."


def test_a_missing_library_names_its_extra() -> None:
    """What is missing comes with the command that brings it."""
    assert str(MissingExtraError("ragas", "judges")) == "ragas is not installed. pip install 'pytest-evalgate[judges]'"


def test_what_a_person_did_and_what_an_engine_did_are_different_errors() -> None:
    """Input errors end a run with exit code 4; engine errors make gates ERROR."""
    assert issubclass(CheckpointError, InputError)
    assert not issubclass(EngineError, InputError)


@given(JSON)
def test_a_digest_depends_on_content_alone(value: Any) -> None:
    """A copy has the digest of the original, and the order of keys is no content."""
    again = dict(reversed(value.items())) if isinstance(value, dict) else value
    assert digest(again) == digest(value)
    assert digest(value).startswith(PREFIX)
    assert len(short(digest(value))) == 12


@given(JSON, JSON)
def test_different_content_has_different_canonical_text(one: Any, other: Any) -> None:
    """Canonical JSON tells values apart exactly where their digests do."""
    assert (canonical(one) == canonical(other)) == (digest(one) == digest(other))


def test_nan_has_no_digest() -> None:
    """What JSON cannot say is refused."""
    with pytest.raises(ValueError, match="JSON"):
        digest(float("nan"))


def test_a_lone_surrogate_has_a_digest() -> None:
    """Model output may be no valid text, and is stored all the same."""
    assert digest("\ud83d") != digest("?")


def test_a_checkpoint_is_its_content() -> None:
    """Name and path are no identity; weights, tokenizer, template, stop ids and base are."""
    assert replace(BASE, name="x", path="/elsewhere").digest == BASE.digest
    for change in (
        {"weights": digest("x")},
        {"tokenizer": digest("x")},
        {"template": digest("x")},
        {"stop_token_ids": (3,)},
    ):
        assert replace(BASE, **change).digest != BASE.digest
    assert replace(ADAPTER, base=replace(BASE, weights=digest("x"))).digest != ADAPTER.digest


def test_an_adapter_stands_on_its_root() -> None:
    """The engine loads the base of an adapter, and a full checkpoint itself."""
    assert ADAPTER.root is BASE
    assert BASE.root is BASE


def test_a_template_digest_covers_tokens_and_date() -> None:
    """Special tokens change a rendering as much as the text does."""
    one = ChatTemplate("v1", {"default": "x"}, {"bos_token": "<s>"})
    assert replace(one, checkpoint="other").digest == one.digest
    assert replace(one, tokens={}).digest != one.digest


ASKED = Request(digest("v1"), "2+2=", max_tokens=8, seed=1)


@pytest.mark.parametrize(
    "change",
    [
        {"checkpoint": digest("v2")},
        {"prompt": "2+3="},
        {"special_tokens": False},
        {"max_tokens": 9},
        {"temperature": 0.5},
        {"top_p": 0.9},
        {"top_k": 5},
        {"stop": ("\n",)},
        {"json_schema": {"type": "object"}},
        {"continuations": ("4",)},
    ],
)
def test_every_field_is_in_a_requests_id(change: dict[str, Any]) -> None:
    """Whatever can change the answer changes the id."""
    assert replace(ASKED, **change).id != ASKED.id


def test_a_seed_counts_only_where_something_is_drawn() -> None:
    """Greedy decoding draws nothing, so a new seed is the same question; sampling is not."""
    assert replace(ASKED, seed=2).id == ASKED.id
    drawn = replace(ASKED, temperature=1.0)
    assert replace(drawn, seed=2).id != drawn.id


def test_a_log_likelihood_depends_on_no_sampling() -> None:
    """The same continuations after the same prompt are one question, however the task samples."""
    scored = replace(ASKED, continuations=("4", "5"))
    assert replace(scored, max_tokens=99, temperature=1.0).id == scored.id


def test_public_names_are_sorted_and_there() -> None:
    """`__all__` is what one can import, in order, with a docstring each."""
    assert evalgate.__all__ == sorted(evalgate.__all__)
    for name in evalgate.__all__:
        assert getattr(evalgate, name) is not None
        assert name == "__version__" or getattr(evalgate, name).__doc__
    assert dir(evalgate) == evalgate.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    """Lazy names do not swallow typing mistakes."""
    with pytest.raises(AttributeError, match="Tusk"):
        _ = evalgate.Tusk


def test_importing_evalgate_is_light() -> None:
    """The package and a suite's names load the standard library only."""
    code = (
        "import sys; from evalgate import Task, Gate, exact_match, jsonl; "
        "print({'numpy', 'pandas', 'pydantic', 'jinja2', 'torch', 'scipy', 'rich', 'typer'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
