"""`evalgate history`: the versions that were gated, in order, and what became of each metric. Nothing runs."""

from __future__ import annotations

import json
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer

from evalgate.cli.app import app


@app.command()
def history(
    task: Annotated[str | None, typer.Option(help="metrics of this suite/task, those that inform as well")] = None,
    last: Annotated[int | None, typer.Option(min=1, help="the newest versions only")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="for machines")] = False,
) -> None:
    """Show the newest verdict on every version that was gated, oldest first, and the trend of each metric."""
    from evalgate.errors import InputError
    from evalgate.records import Library
    from evalgate.report.past.timeline import timeline_json, timeline_lines
    from evalgate.report.screen import Screen

    with Library(Path.cwd()) as library:
        past, suites = library.history(), library.config.suites
    tasks = sorted({name.rpartition("::")[0] for each in past for name in each.metrics})
    if task is not None and past and task not in tasks:
        near = get_close_matches(task, tasks, 1)
        known = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(tasks) or 'none'}."
        raise InputError(f"no verdict names the task {task!r}", where="--task", mend=known)
    if as_json:
        print(json.dumps(timeline_json(past, task=task, last=last), indent=2))
    elif past:
        print("\n".join(timeline_lines(past, task=task, last=last, screen=Screen.of(sys.stdout))))
    else:
        print(f"nothing was gated yet: pytest {suites}/ --model runs/v1")
