"""Rows to tokens: the loss counts completions, of the tokens that the version will be asked with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from evalgate.errors import TrainingError
from evalgate.training.rows import IGNORED, Encoded, encode

V1 = Path(__file__).parents[3] / "fixtures/checkpoints/v1"
MARKED = """{{ bos_token }}{% for m in messages %}<{{ m.role }}>
{%- if m.role == 'assistant' %}{% generation %}{{ m.content }}{{ eos_token }}{% endgeneration %}
{%- else %}{{ m.content }}{% endif %}{% endfor %}"""
TALK = {
    "messages": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "2"},
    ]
}


@pytest.fixture
def tokenizer() -> Any:
    """The tiny model's: one token per character or byte, a beginning and an end."""
    return AutoTokenizer.from_pretrained(V1)


def encoded(tmp_path: Path, tokenizer: Any, *rows: Mapping[str, Any], max_length: int = 100) -> Encoded:
    """Rows through a file."""
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return encode(path, tokenizer, max_length)


def seen_and_learnt(tokenizer: Any, row: Mapping[str, list[int]]) -> tuple[str, str]:
    """The text of a row, and the part of it that the loss counts."""
    learnt = [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label != IGNORED]
    assert learnt == [label for label in row["labels"] if label != IGNORED]
    return tokenizer.decode(row["input_ids"]), tokenizer.decode(learnt)


def test_a_completion_is_learnt_with_its_end(tmp_path: Path, tokenizer: Any) -> None:
    """The prompt is seen and not learnt; the end is learnt, so that the version stops."""
    (row,) = encoded(tmp_path, tokenizer, {"prompt": "1+1=", "completion": " 2"}).rows
    assert seen_and_learnt(tokenizer, row) == ("<|bos|>1+1= 2<|eos|>", " 2<|eos|>")


def test_an_end_that_is_written_is_not_doubled(tmp_path: Path, tokenizer: Any) -> None:
    """A completion may say its end itself."""
    (row,) = encoded(tmp_path, tokenizer, {"prompt": "1+1=", "completion": "2<|eos|>"}).rows
    assert seen_and_learnt(tokenizer, row)[1] == "2<|eos|>"


def test_a_chat_learns_its_last_answer(tmp_path: Path, tokenizer: Any) -> None:
    """Where the template marks nothing, what comes before the last answer is the prompt."""
    (row,) = encoded(tmp_path, tokenizer, TALK).rows
    text = "<|bos|><|user|>Hi<|assistant|>Hello<|eos|><|user|>1+1?<|assistant|>2<|eos|>"
    assert seen_and_learnt(tokenizer, row) == (text, "2<|eos|>")


def test_a_template_that_marks_answers_teaches_all(tmp_path: Path, tokenizer: Any) -> None:
    """Every assistant turn counts, and nothing else."""
    tokenizer.chat_template = MARKED
    (row,) = encoded(tmp_path, tokenizer, TALK).rows
    assert seen_and_learnt(tokenizer, row)[1] == "Hello<|eos|>2<|eos|>"


def test_a_long_row_is_cut_and_counted(tmp_path: Path, tokenizer: Any) -> None:
    """Its end goes; a row that just fits is not counted."""
    fits, long = {"prompt": "abc", "completion": "def"}, {"prompt": "abc", "completion": "defg"}
    some = encoded(tmp_path, tokenizer, fits, long, max_length=8)
    assert (some.cut, some.dropped) == (1, 0)
    assert [seen_and_learnt(tokenizer, row) for row in some.rows] == [
        ("<|bos|>abcdef<|eos|>", "def<|eos|>"),
        ("<|bos|>abcdefg", "defg"),
    ]


def test_a_row_whose_completion_is_cut_off_is_dropped_and_counted(tmp_path: Path, tokenizer: Any) -> None:
    """It would teach nothing; the others stay in their order."""
    rows = [{"prompt": prompt, "completion": "x"} for prompt in ("a", "b" * 50, "c")]
    some = encoded(tmp_path, tokenizer, *rows, max_length=10)
    assert (some.cut, some.dropped) == (1, 1)
    assert [seen_and_learnt(tokenizer, row)[0] for row in some.rows] == ["<|bos|>ax<|eos|>", "<|bos|>cx<|eos|>"]


def test_nothing_to_learn_at_all_is_refused(tmp_path: Path, tokenizer: Any) -> None:
    """With the number of rows, and the setting that cuts them."""
    with pytest.raises(TrainingError, match=r"none of the 1 rows .* 3 tokens. Raise data.max_length"):
        encoded(tmp_path, tokenizer, {"prompt": "long", "completion": "x"}, max_length=3)


@pytest.mark.parametrize("template", [None, "{{ raise_exception('no') }}", "{{ messages[7].content }}"])
def test_a_template_that_fails_is_told_with_the_row(tmp_path: Path, tokenizer: Any, template: str | None) -> None:
    """A base without a template, or with one that refuses the row: file, line and reason in one line."""
    tokenizer.chat_template = template
    with pytest.raises(TrainingError, match=r"train.jsonl:2: the row cannot be encoded: \w+: ") as caught:
        encoded(tmp_path, tokenizer, {"prompt": "a", "completion": "b"}, TALK)
    assert "\n" not in str(caught.value)
