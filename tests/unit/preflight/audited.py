"""Reads checkpoint folders under an audit hook and tells what Python did: `python -m …audited read|detonate`.

In a process of its own, since an audit hook cannot be removed. One JSON line in per folder, one out.
"""

from __future__ import annotations

import json
import pickle
import sys
import time
from pathlib import Path
from typing import Any

FORBIDDEN_EVENTS = ("socket.", "pickle.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "ctypes.")
FORBIDDEN_IMPORTS = {"torch", "transformers", "vllm", "peft", "safetensors", "jinja2", "pickle5"}
FORBIDDEN_FILES = (".py", ".bin", ".pt", ".pth", ".pkl", ".so")


class Watch:
    """Keeps the audit events that reading data cannot cause, for the folder that is being read."""

    def __init__(self) -> None:
        self.room = ""
        self.seen: list[str] = []
        sys.addaudithook(self)

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.room:
            return
        if (
            event.startswith(FORBIDDEN_EVENTS)
            or (event == "import" and str(args[0]).split(".")[0] in FORBIDDEN_IMPORTS)
            or (event == "open" and self._inside(args[0]) and str(args[0]).endswith(FORBIDDEN_FILES))
            or (event == "exec" and self._inside(args[0].co_filename))
            or (event == "compile" and self._inside(args[1]))
            or (event == "os.mkdir" and self._inside(args[0]))
        ):
            self.seen.append(f"{event} {args!r}"[:200])

    def _inside(self, path: object) -> bool:
        return str(path).startswith(self.room)


def read(path: Path) -> dict[str, Any]:
    """What `read_checkpoint` answers, with the type of the exception by name."""
    from evalgate.errors import CheckpointError
    from evalgate.preflight import read_checkpoint

    try:
        return {"digest": read_checkpoint(path).digest}
    except CheckpointError as error:
        return {"error": str(error)}
    except BaseException as error:
        return {"untyped": repr(error)}


def detonate(path: Path) -> dict[str, Any]:
    """The negative control: run what lies in the folder, as a careless loader would."""
    for file in sorted(path.iterdir()):
        if file.suffix == ".py":
            exec(compile(file.read_text(), str(file), "exec"), {})
        if file.suffix == ".bin":
            with file.open("rb") as stream:
                pickle.load(stream)
    return {}


def main() -> None:
    act = {"read": read, "detonate": detonate}[sys.argv[1]]
    import numpy  # noqa: F401  (a trusted library, which opens libraries of its own)

    watch = Watch()
    for line in sys.stdin:
        path = Path(json.loads(line))
        watch.seen, watch.room = [], str(path.parent)
        began = time.perf_counter()
        answer = act(path)
        answer |= {"seconds": time.perf_counter() - began}
        watch.room = ""
        sys.stdout.write(json.dumps(answer | {"seen": watch.seen, "torch": "torch" in sys.modules}) + "\n")


if __name__ == "__main__":
    main()
