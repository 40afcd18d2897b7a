"""Identity is content: canonical JSON and SHA-256, the same for the cache, the records and comparability."""

from __future__ import annotations

import hashlib
import json
from typing import Any

PREFIX = "sha256:"


def canonical(value: Any) -> str:
    """The one JSON text of a value: keys sorted, no white space, UTF-8 kept, NaN and infinity refused (ValueError)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """`sha256:` and 64 hex digits of the canonical JSON of a value: anything that `json` can write."""
    # surrogatepass: model output may hold a lone surrogate, and identity must exist for every text that can be stored.
    return PREFIX + hashlib.sha256(canonical(value).encode("utf-8", "surrogatepass")).hexdigest()


def short(full: str, length: int = 12) -> str:
    """The first hex digits of a digest, for names and tables."""
    return full.removeprefix(PREFIX)[:length]
