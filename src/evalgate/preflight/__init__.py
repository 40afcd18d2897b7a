"""Preflight: a checkpoint folder is untrusted data, read with the standard library before any ML library sees it."""

from __future__ import annotations

from evalgate.preflight.hub import resolve_model
from evalgate.preflight.identity import read_checkpoint, verify_unchanged
from evalgate.preflight.memo import DigestMemo
from evalgate.preflight.template import load_added_tokens, load_template
from evalgate.preflight.view import clean_view

__all__ = [
    "DigestMemo",
    "clean_view",
    "load_added_tokens",
    "load_template",
    "read_checkpoint",
    "resolve_model",
    "verify_unchanged",
]
