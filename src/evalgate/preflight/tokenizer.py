"""The tokenizer's files: their digest, their largest id, and their special tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evalgate.digest import PREFIX, digest
from evalgate.errors import CheckpointError
from evalgate.preflight.config_json import read_config, read_object
from evalgate.preflight.files import Folder, quoted

CONFIG = "tokenizer_config.json"
MAX_TOKENIZER = 64 << 20

_JSON = ("tokenizer.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "tekken.json")
_TEXT = ("merges.txt", "vocab.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
FILES = (CONFIG, *_JSON, *_TEXT)
"""Everything of a tokenizer that an engine may see."""

_SUFFICIENT = ("tokenizer.json", "vocab.json", "tekken.json", *_TEXT[1:])

_OF_NO_MEANING = frozenset({
    # where it was saved, and the truncation and padding of the last call, which transformers writes along
    "chat_template", "name_or_path", "tokenizer_file", "special_tokens_map_file", "vocab_file", "merges_file",
    "is_local", "local_files_only", "processor_class", "transformers_version", "_commit_hash",
    "truncation_strategy", "truncation_side", "max_length", "stride",
    "padding", "padding_side", "pad_to_multiple_of", "pad_to_max_length",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """What preflight needs of a tokenizer.

    Attributes:
        digest: of its files.
        last: the token with the largest id, and that id; `None` for formats that are not read here (SentencePiece).
    """

    digest: str
    last: tuple[str, int] | None


def has_tokenizer(folder: Folder) -> bool:
    """Whether the folder brings a tokenizer of its own."""
    return any(name in folder.files for name in _SUFFICIENT)


def read_tokenizer(folder: Folder) -> Tokenizer:
    """The folder's tokenizer, whose digest covers no chat template, no local paths and no state of the last call.

    Raises:
        CheckpointError: no tokenizer, or a file of it that is malformed or asks for code.
    """
    if not has_tokenizer(folder):
        raise CheckpointError(
            "has no tokenizer (expected tokenizer.json)",
            where=folder.shown,
            mend="Save it beside the weights: tokenizer.save_pretrained(folder).",
        )
    content: dict[str, Any] = {}
    last = None
    if CONFIG in folder.files:
        content[CONFIG] = {k: v for k, v in _read_config(folder).items() if k not in _OF_NO_MEANING}
    for name in _JSON:
        if name in folder.files:
            value = read_object(folder, name, MAX_TOKENIZER)
            if last is None and name in ("tokenizer.json", "vocab.json"):
                last = _last(value, folder.where(name), name)
            content[name] = digest({k: v for k, v in value.items() if k not in ("truncation", "padding")})
    for name in _TEXT:
        if name in folder.files:
            content[name] = PREFIX + hashlib.sha256(folder.read(name, MAX_TOKENIZER)).hexdigest()
    return Tokenizer(digest(content), last)


def require_vocabulary(folder: Folder, tokenizer: Tokenizer, rows: int | None) -> None:
    """Refuse a tokenizer that can write ids for which the embedding has no row.

    Args:
        folder: that brings the tokenizer.
        tokenizer: read from it.
        rows: of the embedding; unknown where `None`.
    """
    if tokenizer.last is None or rows is None or tokenizer.last[1] < rows:
        return
    token, largest = tokenizer.last
    raise CheckpointError(
        f"token '{quoted(token)}' has id {largest:,}, but the embedding has {rows:,} rows",
        where=f"{folder.shown} (tokenizer)",
        mend="Take the tokenizer that the model was trained with, or resize the embeddings before training.",
    )


def special_tokens(folder: Folder) -> dict[str, str]:
    """Special tokens by name (`bos_token`, …) as transformers 5 gives them to a chat template."""
    config = _read_config(folder) if CONFIG in folder.files else {}
    named = config.get("extra_special_tokens")
    tokens = config | (named if isinstance(named, dict) else {})
    if "special_tokens_map.json" in folder.files and "added_tokens_decoder" not in config:
        tokens |= read_object(folder, "special_tokens_map.json")  # the older way, which then wins
    named_here = set(named) if isinstance(named, dict) else set()
    texts = {key: _content(value) for key, value in tokens.items() if key.endswith("_token") or key in named_here}
    return {key: text for key, text in sorted(texts.items()) if text is not None}


def added_tokens(folder: Folder) -> tuple[str, ...]:
    """Texts that tokenizer.json reads as one token of their own wherever they stand, also in what others wrote."""
    added = (read_object(folder, "tokenizer.json") if "tokenizer.json" in folder.files else {}).get("added_tokens")
    entries = added if isinstance(added, list) else []
    return tuple(sorted(text for entry in entries if (text := _content(entry))))


def _read_config(folder: Folder) -> dict[str, Any]:
    config = read_config(folder, CONFIG)
    if config.get("fast_tokenizer_files") not in (None, [], ["tokenizer.json"]):
        raise CheckpointError(
            "fast_tokenizer_files names another tokenizer than tokenizer.json",
            where=folder.where(CONFIG),
            mend="Save the tokenizer again with a current transformers.",
        )
    return config


def _content(value: Any) -> str | None:
    """The text of a token written as text or as the object of an AddedToken."""
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else None


def _last(content: Mapping[str, Any], where: str, name: str) -> tuple[str, int]:
    """The token with the largest id of a tokenizer.json or vocab.json, and that id."""
    model = content.get("model") if name == "tokenizer.json" else {"vocab": content}
    vocab = model.get("vocab") if isinstance(model, dict) else None
    added = (content.get("added_tokens") or []) if name == "tokenizer.json" else []
    if isinstance(vocab, list) and vocab and isinstance(vocab[-1], list) and vocab[-1]:  # Unigram: [token, score] by id
        vocab = {str(vocab[-1][0]): len(vocab) - 1}
    if isinstance(vocab, dict) and isinstance(added, list) and all(isinstance(entry, dict) for entry in added):
        ids: dict[str, Any] = vocab | {str(entry.get("content")): entry.get("id") for entry in added}
        if ids and all(type(number) is int and number >= 0 for number in ids.values()):
            token = max(ids, key=lambda text: int(ids[text]))
            return token, ids[token]
    raise CheckpointError(
        "is no tokenizer: it needs tokens with whole numbers as ids",
        where=where,
        mend="Save it again: tokenizer.save_pretrained(folder).",
    )
