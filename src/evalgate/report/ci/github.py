"""GitHub Actions: workflow commands on standard output, the summary of a step, its outputs.

Commands are escaped as the runner reads them back (actions/runner, ActionCommand.cs; actions/toolkit, command.ts):
`%`, CR and LF in data, `:` and `,` as well in properties.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence

from evalgate.report.ci.annotation import Annotation
from evalgate.report.ci.comment import comment
from evalgate.report.ci.words import Links, Told
from evalgate.report.terminal import safe

ANNOTATIONS = 10
"""How many of each level GitHub shows of a step."""

SUMMARY_LIMIT = 200_000
"""Longest text that a session adds to its step's summary, in bytes; GitHub drops a summary beyond a mebibyte."""

STEP_LIMIT = 1024**2
_SMALLEST = 8_000


def is_github(environ: Mapping[str, str]) -> bool:
    """Whether this is a job of GitHub Actions, or of one that says so of itself."""
    return environ.get("GITHUB_ACTIONS") == "true"


def links(environ: Mapping[str, str]) -> Links:
    """The page of the run; what it kept has no address that is known before the run has ended."""
    server, repository, run = (environ.get(f"GITHUB_{name}", "") for name in ("SERVER_URL", "REPOSITORY", "RUN_ID"))
    good = re.fullmatch(r"https?://[\w.:-]+", server) and re.fullmatch(r"[\w.-]+/[\w.-]+", repository)
    return Links(f"{server}/{repository}/actions/runs/{run}" if good and re.fullmatch(r"[0-9]+", run) else None)


def commands(found: Sequence[Annotation]) -> list[str]:
    """A workflow command for each annotation; beyond `ANNOTATIONS` of a level the last one says how many more."""
    lines = []
    for level in ("error", "warning", "notice"):
        some = [each for each in found if each.level == level]
        shown = some[: ANNOTATIONS - 1] if len(some) > ANNOTATIONS else some
        lines += [_command(each) for each in shown]
        if rest := len(some) - len(shown):
            lines.append(f"::{level} title=evalgate::{rest} more: the summary and the cards have them")
    return lines


def _command(annotation: Annotation) -> str:
    properties = {"file": annotation.place.file, "line": str(annotation.place.line)} if annotation.place else {}
    properties["title"] = annotation.title
    said = ",".join(f"{name}={escape_property(value)}" for name, value in properties.items())
    return f"::{annotation.level} {said}::{escape_data(annotation.message)}"


def escape_data(value: str) -> str:
    """The message of a command."""
    return value.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def escape_property(value: str) -> str:
    """The value of a command's property."""
    return escape_data(value).replace(":", "%3A").replace(",", "%2C")


def summary(told: Told, there: int) -> str | None:
    """What is added to the step's summary, `None` where what stands there leaves no room.

    Args:
        told: what there is to tell.
        there: bytes that stand there already.
    """
    limit = min(SUMMARY_LIMIT, STEP_LIMIT - there)
    return f"\n{comment(told, limit=limit - 1, samples=10, marker=False)}" if limit > _SMALLEST else None


def outputs(told: Told, comment_path: str) -> str:
    """What is added to the step's outputs: `verdict` (see `Told.verdict`), `card` (a line each), `comment`."""
    cards = "\n".join(safe(each.card, 4_096) for each in told.results.candidates if each.card)
    values = {"verdict": told.verdict, "card": cards, "comment": safe(comment_path, 4_096)}
    end = f"evalgate_{secrets.token_hex(16)}"  # no name of a folder can guess it
    return "".join(f"{name}<<{end}\n{value}\n{end}\n" for name, value in values.items())
