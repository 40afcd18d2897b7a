"""A task's prompt for one sample: a sandboxed Jinja template, a function of the sample's fields and of nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from evalgate.errors import SampleError, TaskError

if TYPE_CHECKING:
    from jinja2 import Template
    from jinja2.sandbox import SandboxedEnvironment

    from evalgate.task import Sample, Task

ROLES = ("system", "user", "assistant", "tool")


def render_prompt(task: Task, sample: Sample) -> str | list[dict[str, str]]:
    """The prompt as text, or as chat messages where the task declares messages.

    What stands outside of `{{ }}` and `{% %}` is kept byte for byte. Fields are data: a field that holds `{{ }}` is not
    rendered again. Text is not escaped, and `tojson` writes plain JSON.

    Args:
        task: whose prompt is rendered.
        sample: whose fields the templates name.

    Raises:
        TaskError: a template has a syntax error, reaches for what the sandbox forbids or for another file, or the
            messages are none.
        SampleError: the sample has no such field, or a template fails on its values.
    """
    if isinstance(task.prompt, str):
        return _render(task.prompt, sample, _at(task))
    if not task.prompt:
        raise TaskError("a chat prompt needs at least one message", where=_at(task))
    return [_message(message, sample, _at(task, n)) for n, message in enumerate(task.prompt, start=1)]


def _at(task: Task, message: int | None = None) -> str:
    start = f"prompt of {task.name}" if task.name else "prompt"
    return start if message is None else f"{start}, message {message}"


def _message(message: Mapping[str, str], sample: Sample, where: str) -> dict[str, str]:
    if not isinstance(message, Mapping) or not {"role", "content"} <= set(message):
        raise TaskError(
            f"expected a message with role and content, found {message!r:.80}",
            where=where,
            mend='Write {"role": "user", "content": "…"}.',
        )
    if message["role"] not in ROLES:
        raise TaskError(f"the role is {message['role']!r}, expected one of {', '.join(ROLES)}", where=where)
    return {key: value if key == "role" else _render(value, sample, where) for key, value in message.items()}


def _render(text: str, sample: Sample, where: str) -> str:
    from jinja2.exceptions import SecurityError, UndefinedError

    if not isinstance(text, str):
        raise TaskError(f"expected a template, found {text!r:.80}", where=where)
    template = _compile(text, where)
    try:
        return template.render(sample.fields)
    except SecurityError as error:
        raise TaskError(f"the template reaches for what the sandbox forbids: {error}", where=where) from None
    except UndefinedError as error:
        raise _missing(str(error), sample, where) from None
    except Exception as error:  # a template may do arithmetic: what fails on a sample's values is told with the sample
        what = f"the template fails with {type(error).__name__}: {error}"
        raise SampleError(what, where=f"sample {sample.id}, {where}") from None


def _missing(reason: str, sample: Sample, where: str) -> SampleError:
    """Which field is missing, and the one that may be meant; Jinja names it only in its message."""
    where = f"sample {sample.id}, {where}"
    named = re.fullmatch(r"'(.+)' is undefined", reason, re.DOTALL)
    if named is None:
        return SampleError(f"the template names what is not there: {reason}", where=where)
    near = get_close_matches(named[1], sample.fields, n=1)
    return SampleError(
        f"the template names {named[1]!r}; the fields are {', '.join(sorted(sample.fields))}",
        where=where,
        mend=f"Did you mean {near[0]!r}?" if near else None,
    )


@lru_cache(maxsize=1024)
def _compile(text: str, where: str) -> Template:
    from jinja2 import TemplateSyntaxError, nodes

    if "\r" in text:
        raise TaskError("a template cannot hold a carriage return", where=where, mend=r"Write {{ '\r' }} for it.")
    try:
        tree = _environment().parse(text)
        for node in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
            raise TaskError("a template stands alone and reads no other", where=f"{where}, line {node.lineno}")
        return _environment().from_string(text)
    except TemplateSyntaxError as error:
        raise TaskError(f"not a template: {error.message}", where=f"{where}, line {error.lineno}") from None


@cache
def _environment() -> SandboxedEnvironment:
    """Jinja without files, escapes or chance; immutable, so that a template cannot change the sample it renders."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(  # prompts are text, not HTML
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )
    del environment.filters["random"], environment.globals["lipsum"]
    environment.filters["tojson"] = _tojson
    return environment


def _tojson(value: Any, indent: int | None = None) -> str:
    """Plain JSON, as chat templates have it; Jinja's own writes `<` as an escape, for HTML."""
    return json.dumps(value, ensure_ascii=False, indent=indent)
