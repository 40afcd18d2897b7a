"""GitLab CI: a Code Quality report and an annotations report, both in every tier.

The Code Quality report is the subset of Code Climate's format that GitLab reads: description, check_name, fingerprint,
severity, location.path, location.lines.begin. The annotations report attaches links to the page of the job.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from evalgate.report.ci.annotation import Annotation
from evalgate.report.ci.words import Links, Told
from evalgate.report.terminal import safe

CODE_QUALITY = "gl-code-quality.json"
ANNOTATIONS = "gl-annotations.json"
_SEVERITIES = {"error": "critical", "warning": "minor", "notice": "info"}
# JSON is pure ASCII here, and holds nothing that a page which shows it could take for markup.
_ESCAPES = str.maketrans({char: f"\\u{ord(char):04x}" for char in "<>&"})


def is_gitlab(environ: Mapping[str, str]) -> bool:
    """Whether this is a job of GitLab CI."""
    return environ.get("GITLAB_CI") == "true"


def links(environ: Mapping[str, str]) -> Links:
    """The page of the job, and the files that it keeps."""
    job = environ.get("CI_JOB_URL", "")
    good = re.fullmatch(r"https?://[\w.:-]+(/[\w.~-]+)+", job)
    return Links(job, f"{job}/artifacts/file/") if good else Links()


def code_quality(found: Sequence[Annotation], elsewhere: str) -> bytes:
    """One entry for each annotation that has a line; where nothing could be evaluated, one that says so.

    Args:
        found: annotations, the session's first.
        elsewhere: file that is named where none is to blame.
    """
    entries = [each for each in found if each.place]
    if found[0].level == "error" and not any(each.level == "error" for each in entries):
        entries.insert(0, found[0])
    return _json([_entry(each, elsewhere) for each in entries])


def _entry(annotation: Annotation, elsewhere: str) -> dict[str, Any]:
    place = annotation.place
    return {
        "description": f"{annotation.title}: {annotation.message}",
        "check_name": "evalgate",
        "fingerprint": annotation.key.removeprefix("sha256:"),
        "severity": _SEVERITIES[annotation.level],
        "location": {
            "path": place.file if place else elsewhere,
            "lines": {"begin": place.line if place else 1},
        },
    }


def annotations_report(told: Told) -> bytes:
    """Links to the cards; no section without any."""
    cards = [(each, told.links.file(f"{told.folder}{each.card}")) for each in told.results.candidates if each.card]
    found = [
        {"external_link": {"label": safe(f"{each.name}: {each.outcome}, the card", 120), "url": url}}
        for each, url in cards
        if url
    ]
    return _json({"evalgate": found} if found else {})


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1).translate(_ESCAPES).encode("ascii") + b"\n"
