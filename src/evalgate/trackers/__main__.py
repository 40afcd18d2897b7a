"""The child: `python -P -m evalgate.trackers NAME` reads one request from stdin and answers with one line of JSON."""

from __future__ import annotations

import json
import os
import sys
import warnings
from importlib import import_module
from typing import Any

from evalgate.trackers.note import Note


def main(name: str) -> None:
    """Do what the request asks and say what was done; whatever the library raises is the answer too."""
    # What libraries print goes to stderr: stdout is the answer's.
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    try:
        said: dict[str, Any] = {"said": do(name, json.load(sys.stdin))}
    except Exception as error:
        said = {"error": f"{type(error).__name__}: {error}"}
    answer.write(json.dumps(said))
    answer.close()
    sys.stderr.flush()
    os._exit(0)  # all is written, and what these libraries do on their way out can hang


def do(name: str, request: dict[str, Any]) -> str:
    """Hand the request to the module of that name."""
    module = import_module(f"evalgate.trackers.{name}")
    if name == "registry":
        return str(module.register(**request))
    note = request["note"]
    return str(module.write(request["run"], Note(**{**note, "files": tuple(note["files"])})))


if __name__ == "__main__":
    main(sys.argv[1])
