"""What every HTML page of ours has: templates that escape, a policy that names its own style and script.

Two defences, each enough alone: Jinja escapes every text (samples travel packed and are shown through `textContent`),
and a content security policy allows a page's own style and script by their hashes, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment

_SURROGATES = re.compile(r"[\ud800-\udfff]")


@cache
def asset(name: str) -> str:
    """One of the files beside the templates."""
    return files("evalgate.report").joinpath("templates", name).read_text("utf-8")


@cache
def environment() -> Environment:
    """Of the templates: every text is escaped, a name that is not there is an error."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    loader = FunctionLoader(asset)
    return Environment(autoescape=True, loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def policy(style: str, script: str | None = None) -> str:
    """Nothing but our own style and script, by their hashes; no base address, no form, no string that becomes code."""
    style_source, script_source = (f"'{_hash(each)}'" if each else "'none'" for each in (style, script))
    return (
        f"default-src 'none'; style-src {style_source}; script-src {script_source}; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def encodable(html: str) -> str:
    """Text that UTF-8 can hold: half an emoji (a lone surrogate) becomes the character for what cannot be shown."""
    return _SURROGATES.sub("\ufffd", html)
