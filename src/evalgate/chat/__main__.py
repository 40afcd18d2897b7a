"""The child that renders chat templates: JSON lines in, JSON lines out, and as little else as can be enforced."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import Template, nodes
from jinja2.exceptions import SecurityError, TemplateSyntaxError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment

from evalgate.chat import MAX_CHARACTERS, MEMORY_BYTES
from evalgate.checkpoint import TEMPLATE_DATE


class _RaisedError(Exception):
    """The template called `raise_exception`."""


class _TooLongError(Exception):
    """The template wrote more than it may."""


class Sandbox(ImmutableSandboxedEnvironment):
    """Where jinja2 would print nothing for what is forbidden until more is asked of it, this refuses at once."""

    def unsafe_undefined(self, obj: Any, attribute: str) -> NoReturn:
        """Called for an attribute that the sandbox does not give away."""
        raise SecurityError(f"access to {attribute!r} of {type(obj).__name__!r} is unsafe")


class Generation(Extension):
    """`{% generation %}…{% endgeneration %}` marks what the assistant wrote; it renders as its content."""

    tags = {"generation"}  # noqa: RUF012  (jinja2 declares it so)

    def parse(self, parser: Parser) -> nodes.Node:
        """The block as a call with a body."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("content"), [], [], body).set_lineno(line)

    def content(self, caller: Macro) -> str:
        """What the body renders to."""
        return str(caller())


def raise_exception(message: object) -> NoReturn:
    """A template's way to refuse a conversation."""
    raise _RaisedError(str(message))


def tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON without the HTML escapes of jinja2's own filter, and with Python's options."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def strftime_now(form: str) -> str:
    """The recorded date; in transformers it is today's."""
    return datetime.fromisoformat(TEMPLATE_DATE).strftime(form)


def compile_template(text: str) -> Template:
    """A template in the environment that transformers gives to chat templates, apart from the fixed date.

    Source: `transformers.utils.chat_template_utils` (5.19): trimmed blocks, loop controls, a `generation` block,
    `tojson` without HTML escapes, `raise_exception` and `strftime_now`.
    """
    environment = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals.update(raise_exception=raise_exception, strftime_now=strftime_now)
    return environment.from_string(text)


def _render(template: Template, variables: Mapping[str, Any]) -> str:
    pieces, length = [], 0
    for piece in template.generate(**variables):
        pieces.append(piece)
        length += len(piece)
        if length > MAX_CHARACTERS:
            raise _TooLongError
    return "".join(pieces)


def answer(question: Mapping[str, Any]) -> dict[str, Any]:
    """One batch rendered, or the first fault in it; whatever a template does ends as one of the two."""
    texts: list[str] = []
    fault: dict[str, Any] = {}
    try:
        template = compile_template(question["template"])
        for messages in question["conversations"]:
            texts.append(_render(template, {**question["variables"], "messages": messages}))
    except _RaisedError as error:
        fault = {"fault": "raised", "message": str(error)}
    except SecurityError as error:
        fault = {"fault": "security", "message": str(error)}
    except _TooLongError:
        fault = {"fault": "size"}
    except MemoryError:
        fault = {"fault": "memory"}
    except TemplateSyntaxError as error:
        return {"fault": "failed", "message": f"is no template: {error.message} (line {error.lineno})"}
    except Exception as error:  # a template can raise whatever Python's expressions can
        fault = {"fault": "failed", "message": f"{type(error).__name__}: {error}"[:1000]}
    return fault | {"index": len(texts)} if fault else {"texts": texts}


def _limit(seconds: int) -> None:
    """Little memory, no file or socket to open, no core; and an end, should the parent be gone."""
    for what, value in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_NOFILE, 3),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (value, value))
    _limit_processor(seconds)


def _limit_processor(seconds: int) -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    end = int(usage.ru_utime + usage.ru_stime) + seconds + 1
    resource.setrlimit(resource.RLIMIT_CPU, (end, resource.RLIM_INFINITY))


def main(seconds: int) -> None:
    """Read questions from stdin and write answers to stdout until stdin ends.

    Args:
        seconds: of processor time for each, at most. The parent's clock is stricter; this ends an orphan.
    """
    # What Python and jinja2 import at the first literal, date and error must be there before no file can be opened.
    for text in ("{{ 'é' }}{{ strftime_now('%B') }}{{ messages | tojson }}", "{{ none.x.y }}", "{% if %}"):
        answer({"template": text, "variables": {}, "conversations": [[]]})
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    _limit(seconds)
    sink.write(b"ready\n")
    sink.flush()
    for line in source:
        _limit_processor(seconds)
        sink.write(json.dumps(answer(json.loads(line))).encode() + b"\n")
        sink.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
