"""A model for judge libraries that answers by the schema it is asked for, and a watch on the child that asks it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evalgate.checkpoint import Checkpoint
from evalgate.digest import digest
from evalgate.instrument import Case, Job, JudgeModel
from evalgate.request import Completion, Request
from evalgate.scoring import Scorer

MODEL = JudgeModel(
    "gpt-judge",  # a name at which libraries take another way to the model, where they look at names
    Checkpoint("judge", None, "endpoint", digest("weights"), digest("tokenizer"), None, "", 0),
    engine=digest("engine"),
)


def least(schema: Mapping[str, Any], defs: Mapping[str, Any] | None = None) -> Any:
    """The plainest value that satisfies a schema: lists of one, the first of what may be chosen."""
    defs = schema.get("$defs", {}) if defs is None else defs
    if "$ref" in schema:
        return least(defs[schema["$ref"].rpartition("/")[2]], defs)
    if "anyOf" in schema:
        return least(schema["anyOf"][0], defs)
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("type") == "object":
        return {name: least(field, defs) for name, field in schema.get("properties", {}).items()}
    if schema.get("type") == "array":
        return [least(schema["items"], defs)]
    return {"string": "words", "integer": 0, "number": 0.0, "boolean": False}[schema["type"]]


class Model:
    """What a gateway asks: remembers every request, answers with what `reply` makes of prompt and schema.

    Args:
        reply: prompt and schema to the text of the reply, or to a whole completion.
    """

    def __init__(self, reply: Callable[[str, Mapping[str, Any]], str | Completion]) -> None:
        self.reply = reply
        self.asked: list[Request] = []

    def __call__(self, requests: Sequence[Request]) -> Iterator[Completion]:
        for request in requests:
            self.asked.append(request)
            assert request.messages is not None
            reply = self.reply(request.messages[-1]["content"], request.json_schema or {})
            if isinstance(reply, str):
                yield Completion(request.id, reply, completion_tokens=1)
            else:
                yield Completion(request.id, reply.text, reply.finish, error=reply.error, completion_tokens=1)

    @property
    def prompts(self) -> list[str]:
        """Of every request, its message."""
        return [(request.messages or ())[-1]["content"] for request in self.asked]


def job(scorer: Scorer, case: Case) -> Job:
    assert scorer.judge is not None
    return Job(scorer.judge, case, MODEL if scorer.judge.asks else None)


WATCH = """
import os, sys

out = os.open({out!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def watch(event, args):
    if event == "socket.connect" or event == "socket.getaddrinfo":
        told = args[1] if event == "socket.connect" else args[0]
        os.write(out, f"{{event}} {{told!r}}\\n".encode())
    elif event == "open" and isinstance(args[0], str) and (args[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        os.write(out, f"write {{os.path.abspath(args[0])}}\\n".encode())
    elif event in ("os.mkdir", "os.rename", "subprocess.Popen", "os.system", "os.posix_spawn"):
        os.write(out, f"{{event}} {{args[0]!r}}\\n".encode())

sys.addaudithook(watch)
"""
"""A `sitecustomize` that tells where a process connects, what it writes and what it starts."""


def watched(folder: Path) -> tuple[dict[str, str], Path]:
    """Variables under which a Python process is watched, and the file that tells what it did."""
    out = folder / "watched.log"
    (folder / "sitecustomize.py").write_text(WATCH.format(out=str(out)))
    return {"PYTHONPATH": str(folder)}, out
