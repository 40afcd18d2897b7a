"""Training rows to token ids and labels, with the tokenizer and the chat template that the version is served with.

The loss counts completions only. A text row's completion ends with the end-of-sequence token. Of a chat row every
assistant turn counts where the template marks them (`{% generation %}`), else the last one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalgate.errors import TrainingError

IGNORED = -100  # torch's index of a position without loss
MARKED = re.compile(r"\{%-?\s*generation\s*-?%\}")


@dataclass(frozen=True, slots=True)
class Encoded:
    """Rows as `{"input_ids", "labels"}`; how many were cut at `max_length`, and how many had nothing left to learn."""

    rows: list[dict[str, list[int]]]
    cut: int
    dropped: int


def encode(path: Path, tokenizer: Any, max_length: int) -> Encoded:
    """Read and encode a `.jsonl` file of prompt/completion and messages rows, in its order.

    Raises:
        TrainingError: no row has a token to learn, or the chat template fails.
    """
    rows, number, cut = [], 0, 0
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            row = json.loads(line)
            try:
                ids, labels = _chat(row, tokenizer) if "messages" in row else _text(row, tokenizer)
            except Exception as error:  # a template may raise anything
                raise TrainingError(
                    f"the row cannot be encoded: {type(error).__name__}: {error}", where=f"{path}:{number}"
                ) from error
            cut += len(ids) > max_length
            ids, labels = ids[:max_length], labels[:max_length]
            if any(label != IGNORED for label in labels[1:]):  # the first token follows from nothing
                rows.append({"input_ids": ids, "labels": labels})
    if not rows:
        raise TrainingError(
            f"none of the {number} rows has anything to learn within {max_length} tokens",
            where=str(path),
            mend="Raise data.max_length.",
        )
    return Encoded(rows, cut, dropped=number - len(rows))


def _text(row: Mapping[str, Any], tokenizer: Any) -> tuple[list[int], list[int]]:
    text, end = row["prompt"] + row["completion"], tokenizer.eos_token or ""
    whole = tokenizer(text if text.endswith(end) else text + end)["input_ids"]
    return _completion(tokenizer(row["prompt"])["input_ids"], whole)


def _chat(row: Mapping[str, Any], tokenizer: Any) -> tuple[list[int], list[int]]:
    messages = row["messages"]
    if MARKED.search(tokenizer.chat_template or ""):
        marked = tokenizer.apply_chat_template(messages, return_assistant_tokens_mask=True, return_dict=True)
        ids, mask = marked["input_ids"], marked["assistant_masks"]
        return ids, [token if learnt else IGNORED for token, learnt in zip(ids, mask, strict=True)]
    prompt = tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, return_dict=True)["input_ids"]
    return _completion(prompt, tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"])


def _completion(prompt: list[int], whole: list[int]) -> tuple[list[int], list[int]]:
    """The completion begins where the two differ: a tokenizer may join the prompt's end with what follows."""
    start = next((n for n, (a, b) in enumerate(zip(prompt, whole, strict=False)) if a != b), len(prompt))
    return whole, [IGNORED] * start + whole[start:]
