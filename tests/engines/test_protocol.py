from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalgate import errors
from evalgate.checkpoint import Checkpoint
from evalgate.engines import length_bound, protocol
from evalgate.request import Completion, Request

texts = st.text(st.characters(), max_size=30)  # surrogates and line separators included
BASE = Checkpoint("b", "/b", "full", "sha256:1", "sha256:2", None, "LlamaForCausalLM", 64, (1, 2))


@given(texts, st.lists(texts, max_size=3), st.booleans(), st.integers(0, 2**70), st.lists(texts, max_size=2))
def test_a_request_keeps_its_id_across_the_pipe(
    prompt: str, continuations: list[str], special: bool, seed: int, stop: list[str]
) -> None:
    """Any text, also a lone surrogate or U+2028, comes through one ASCII line unchanged."""
    request = Request("sha256:0", prompt, special, tuple(continuations), seed=seed, temperature=0.3, stop=tuple(stop))
    line = protocol.line("ask", protocol.request_to_json(request))
    assert line.isascii()
    assert line.count("\n") == 1
    kind, value = protocol.message(line)
    assert kind == "ask"
    assert protocol.request_from_json(value) == request
    assert protocol.request_from_json(value).id == request.id


@given(texts, st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=3))
def test_a_completion_is_the_same_after_the_pipe(text: str, logprobs: list[float]) -> None:
    """Floats lose no bit."""
    completion = Completion(
        "sha256:0", text, "stop", tuple(logprobs), tuple(value > 0 for value in logprobs), 3, 4, None, 0.1 + 0.2
    )
    _, value = protocol.message(protocol.line("answer", protocol.completion_to_json(completion)))
    assert protocol.completion_from_json(value) == completion


def test_nan_never_travels() -> None:
    """A log-prob that is no number is refused where it is written, not read as a score."""
    with pytest.raises(ValueError, match="JSON"):
        protocol.line("answer", protocol.completion_to_json(Completion("sha256:0", logprobs=(float("nan"),))))


def test_checkpoints_travel_with_their_base() -> None:
    """The child computes the same digests from what it is sent."""
    adapter = Checkpoint("a", "/a", "adapter", "sha256:3", "sha256:2", None, "LlamaForCausalLM", 64, (1,), BASE)
    start = protocol.Start(
        engine="fake", options={"x": 1}, device="cpu", checkpoints=(BASE, adapter), first=BASE.digest,
        max_length=None, scratch="/s",
    )  # fmt: skip
    _, value = protocol.message(protocol.line("start", protocol.start_to_json(start)))
    read = protocol.start_from_json(value)
    assert read == start
    assert [one.digest for one in read.checkpoints] == [BASE.digest, adapter.digest]


@pytest.mark.parametrize("kind", [errors.ConfigError, errors.EngineError, errors.CheckpointError])
def test_errors_keep_class_place_and_advice(kind: type[errors.EvalgateError]) -> None:
    """What the child raises is what the parent raises."""
    raised = protocol.error_from_json(protocol.error_to_json(kind("what", where="where", mend="mend")))
    assert type(raised) is kind
    assert str(raised) == "where: what. mend"


def test_a_missing_library_names_its_extra() -> None:
    """The one error that is built from other words."""
    raised = protocol.error_from_json({"kind": "MissingExtraError", "library": "peft", "extra": "transformers"})
    assert isinstance(raised, errors.MissingExtraError)
    assert "pytest-evalgate[transformers]" in str(raised)


@given(texts, st.lists(texts, max_size=3), st.integers(1, 500))
def test_the_length_bound_holds_for_a_tokenizer_of_bytes(prompt: str, continuations: list[str], room: int) -> None:
    """A tokenizer that makes one token of each byte, and adds two, never needs more."""
    request = Request("sha256:0", prompt, continuations=tuple(continuations), max_tokens=room)
    size = len(prompt.encode("utf-8", "surrogatepass")) + 2
    sizes = [len(text.encode("utf-8", "surrogatepass")) for text in continuations]
    assert length_bound(request) >= size + (max(sizes) + 1 if sizes else room)
