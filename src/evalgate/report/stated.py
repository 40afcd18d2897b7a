"""What people state about a model: `model_card.md` beside the suites, read into metadata and the sections of a card.

A file may begin with YAML between two lines of `---`, for what a hub's metadata holds and nobody can measure. The
text below is Markdown; its headings are matched to the sections of Mitchell et al., Model Cards for Model Reporting
(2019), by the names that people use for them. docs/cards.md lists both.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from evalgate.errors import ConfigError

if TYPE_CHECKING:
    from markdown_it.token import Token

FILE = "model_card.md"
MORE = "more"
# Section to the headings that mean it, in lower case without punctuation.
SECTIONS: Mapping[str, tuple[str, ...]] = {
    "details": ("model details", "model description", "description", "overview", "about", "model summary", "summary"),
    "licence": ("licence", "license", "licensing"),
    "contact": ("contact", "model card contact", "questions", "feedback", "model card authors", "authors"),
    "citation": ("citation", "cite", "how to cite"),
    "use": ("intended use", "intended uses", "use", "uses", "direct use", "downstream use", "use cases"),
    "misuse": (
        "out of scope",
        "out of scope use",
        "out of scope uses",
        "misuse",
        "not intended for",
        "prohibited uses",
    ),
    "factors": ("factors", "relevant factors", "evaluation factors", "factors and slices", "slices", "groups"),
    "metrics": ("metrics", "why these metrics", "choice of metrics", "performance measures", "metrics and why"),
    "evaluation_data": (
        "evaluation data",
        "eval data",
        "evaluation datasets",
        "testing data",
        "test data",
        "eval sets",
    ),
    "training_data": ("training data", "training dataset", "training datasets", "training set", "data"),
    "training": ("training", "training procedure", "training details", "fine tuning", "finetuning"),
    "analyses": ("quantitative analyses", "results", "evaluation", "evaluation results", "performance"),
    "ethics": ("ethical considerations", "ethics", "safety", "risks", "risks and harms", "privacy"),
    "biases": ("bias", "biases", "known biases", "fairness"),
    "limits": (
        *("limitations", "limits", "known limitations", "caveats", "caveats and recommendations", "recommendations"),
        *("bias risks and limitations", "limitations and biases", "limitations and bias", "limitations and caveats"),
    ),
    "environment": ("environment", "hardware", "software", "technical specifications", "compute infrastructure"),
}
_SECTION_OF = {name: section for section, names in SECTIONS.items() for name in names}
_TEXT = {"text": str}
_TEXTS = {"text": str, "a list of texts": list}
# What people may state for the hub, and as what. What is measured (model-index) is not among it.
_KEYS: Mapping[str, Mapping[str, type]] = {
    **dict.fromkeys(("license", "license_name", "license_link", "library_name", "model_name", "pipeline_tag"), _TEXT),
    **dict.fromkeys(("base_model_relation", "new_version", "thumbnail"), _TEXT),
    **dict.fromkeys(("language", "tags", "base_model", "datasets"), _TEXTS),
    "eval_datasets": {"a mapping of suite/task": dict},
}
_HUB_KEYS = {"id": True, "task_id": True, "revision": False, "metric": False}  # and whether they must be there
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_FRONT = re.compile(r"\A\ufeff?---[ \t]*\n(?P<yaml>.*?)^---[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_DEEPEST = 6  # level of headings
_UNSTATED = re.compile(r"\s*(\[more information needed\])?\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class HubTask:
    """The benchmark on the hub whose data an eval set is.

    Attributes:
        id: of the dataset, `org/name`.
        task_id: within the benchmark.
        revision: of the dataset, `None` for whatever it is now.
        metric: which of the task's metrics the benchmark reports; `None` where there is one.
    """

    id: str
    task_id: str
    revision: str | None = None
    metric: str | None = None


@dataclass(frozen=True, slots=True)
class Stated:
    """What people state.

    Attributes:
        meta: for the hub's metadata, by its names.
        sections: name of a section (`SECTIONS`, or `MORE`) to its Markdown, its headings from the fourth level on.
        eval_datasets: `suite/task` to the benchmark on the hub.
    """

    meta: Mapping[str, Any] = field(default_factory=dict)
    sections: Mapping[str, str] = field(default_factory=dict)
    eval_datasets: Mapping[str, HubTask] = field(default_factory=dict)


def parse(statement: str | None, where: str = FILE) -> Stated:
    """Metadata and sections of a statement.

    Args:
        statement: Markdown, possibly with front matter; `None` states nothing.
        where: it stands, for messages.

    Raises:
        ConfigError: the front matter is no YAML, or says what it cannot; or a code or HTML block is not closed.
    """
    meta, text = _split(statement or "", where)
    hub = {task: _hub_task(task, value, where) for task, value in meta.pop("eval_datasets", {}).items()}
    if len({(each.id, each.task_id) for each in hub.values()}) < len(hub):
        raise ConfigError("eval_datasets: two tasks name the same task of one dataset", where=where)
    return Stated(meta, _sections(text, where), hub)


def body(statement: str, where: str = FILE) -> str:
    """A statement as people read it: no front matter and no comments (ConfigError where the front matter is wrong)."""
    text = _split(statement, where)[1]
    return "\n".join(_without_comments(text, _tokens(text)))


def reported(task: str, hub: HubTask, metrics: Collection[str]) -> str:
    """Which of a task's metrics its benchmark reports; of several, people choose (ConfigError)."""
    metric = hub.metric or (next(iter(metrics)) if len(metrics) == 1 else None)
    if metric is None or metric not in metrics:
        what = f"names no metric, and {task} has several" if metric is None else f"names {metric!r}, not in {task}"
        raise ConfigError(f"eval_datasets {what}", where=FILE, mend=f"Write metric: one of {', '.join(metrics)}.")
    return metric


def check(statement: str | None, metrics: Mapping[str, Collection[str]]) -> None:
    """Refuse, before anything runs, a statement of which no card could be made.

    Args:
        statement: of the project.
        metrics: `suite/task` to the metrics that its verdicts will be about.

    Raises:
        ConfigError: as `parse`, or a benchmark of the hub names a metric that its task does not have.
    """
    for task, hub in parse(statement).eval_datasets.items():
        if task in metrics:
            reported(task, hub, metrics[task])


def joined(files: Mapping[str, str]) -> str | None:
    """The statements of several suites as one, with one front matter; `None` where there is none.

    Args:
        files: path, for messages, to content.

    Raises:
        ConfigError: one of them is wrong (as in `parse`), or two state different things in one field.
    """
    import yaml

    texts, meta, source = [], dict[str, Any](), dict[str, str]()
    for where, content in files.items():
        parse(content, where)
        stated, text = _split(content, where)
        texts += [text.strip("\n")] if text.strip() else []
        for key, value in stated.items():
            if isinstance(value, dict) and key in meta:
                value = _merged(meta[key], value, key, (where, source[key]))
            elif list in _KEYS[key].values() and key in meta:
                value = list(dict.fromkeys([*_listed(meta[key]), *_listed(value)]))
            elif meta.get(key, value) != value:
                raise _differ(key, (where, source[key]))
            meta[key], source[key] = value, where
    front = f"---\n{yaml.safe_dump(meta, sort_keys=False, allow_unicode=True)}---\n\n" if meta else ""
    return front + "\n\n".join(texts) + "\n" if front or texts else None


def _merged(was: Mapping[str, Any], now: Mapping[str, Any], key: str, where: tuple[str, str]) -> dict[str, Any]:
    for name in was.keys() & now.keys():
        if was[name] != now[name]:
            raise _differ(f"{key}.{name}", where)
    return {**was, **now}


def _differ(key: str, where: tuple[str, str]) -> ConfigError:
    return ConfigError(f"states another {key} than {where[1]}", where=where[0], mend="One card says one thing.")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


# -- front matter -----------------------------------------------------------------------------------------------------


def _split(statement: str, where: str) -> tuple[dict[str, Any], str]:
    """Front matter and text; line feeds alone end lines."""
    import yaml

    text = statement.replace("\r\n", "\n").replace("\r", "\n")
    front = _FRONT.match(text)
    if front is None:
        if re.match(r"\ufeff?---[ \t]*\n", text):
            raise ConfigError("its front matter is not closed", where=where, mend="Write a line of --- below it.")
        return {}, text
    try:
        meta = yaml.safe_load(front["yaml"])
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"its front matter is no YAML: {error!s:.200}", where=where) from error
    if not isinstance(meta, dict | None):
        raise ConfigError("its front matter holds no keys with values", where=where)
    for key, value in (meta or {}).items():
        _check(key, value, where)
    return dict(meta or {}), text[front.end() :]


def _check(key: Any, value: Any, where: str) -> None:
    if key not in _KEYS:
        near = difflib.get_close_matches(str(key), _KEYS, n=1)
        mend = f"Did you mean {near[0]}?" if near else f"There are {', '.join(_KEYS)}."
        raise ConfigError(f"unknown key {key!r} in its front matter", where=where, mend=mend)
    kinds = _KEYS[key]
    texts = isinstance(value, list) and list in kinds.values() and all(isinstance(each, str) for each in value)
    if not (texts or (not isinstance(value, list) and isinstance(value, tuple(kinds.values())))):
        quoted = 'YAML reads no and yes as false and true: write "no".' if isinstance(value, bool) else None
        raise ConfigError(f"{key} is {value!r:.100}, expected {' or '.join(kinds)}", where=where, mend=quoted)


def _hub_task(task: Any, value: Any, where: str) -> HubTask:
    said, must = f"eval_datasets of {task}", [key for key, needed in _HUB_KEYS.items() if needed]
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        raise ConfigError(f"{said}: expected texts for id and task_id, found {value!r:.100}", where=where)
    if wrong := [key for key in (*value, *must) if key not in _HUB_KEYS or key not in value]:
        raise ConfigError(f"{said}: {wrong[0]!r} is {'unknown' if wrong[0] in value else 'missing'}", where=where)
    if not _HUB_ID.fullmatch(value["id"]):
        raise ConfigError(f"{said}: {value['id']!r:.100} is no dataset of the hub, such as org/name", where=where)
    return HubTask(**value)


# -- sections ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Heading:
    start: int
    end: int
    level: int
    title: str


def _sections(text: str, where: str) -> dict[str, str]:
    """Section to Markdown; what stands under no known heading is `MORE`, and before the first one `details`."""
    # By a sentinel below the text: that no block is left open, which would swallow what a card says next.
    tokens = _tokens(f"{text}\n\n# end")
    if [(token.type, token.level) for token in tokens[-3:-1]] != [("heading_open", 0), ("inline", 1)]:
        line = next(token.map[0] + 1 for token in reversed(tokens) if token.map)
        raise ConfigError("a code or HTML block is not closed", where=f"{where}, line {line} of its text")
    lines, headings = _without_comments(text, tokens), _headings(tokens[:-3])
    parts: dict[str, list[tuple[str, str]]] = {}
    section, under = "details", _DEEPEST
    for heading, after in zip([_Heading(0, 0, 0, ""), *headings], [*headings, None], strict=True):
        known, kept = _SECTION_OF.get(_plain(heading.title)), ""
        if known:
            section, under = known, heading.level
        elif heading.level:
            kept = heading.title
            if heading.level == 1:  # the title of the file: what stands below it is a description
                section, under = "details", 2
            elif heading.level <= under:
                section, under = MORE, heading.level
        said = "\n".join(lines[heading.end : after.start if after else None]).strip("\n")
        title = f"{'#' * min(max(heading.level - under, 0) + 4, _DEEPEST)} {kept}" if kept else ""
        parts.setdefault(section, []).append((title, "" if _UNSTATED.fullmatch(said) else said))
    return {
        section: "\n\n".join(text for pair in pairs for text in pair if text)
        for section, pairs in parts.items()
        if any(said for _, said in pairs)
    }


def _plain(title: str) -> str:
    return " ".join(re.findall(r"[a-z]+", title.lower().replace("&", " and ")))


def _tokens(text: str) -> list[Token]:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").parse(text)


def _headings(tokens: Sequence[Token]) -> list[_Heading]:
    return [
        _Heading(token.map[0], token.map[1], int(token.tag[1]), tokens[place + 1].content.replace("\n", " "))
        for place, token in enumerate(tokens)
        if token.type == "heading_open" and token.level == 0 and token.map
    ]


def _without_comments(text: str, tokens: Sequence[Token]) -> list[str]:
    """The lines of a text, those of comments empty: they are for authors."""
    lines = text.split("\n")
    for token in tokens:
        if token.type == "html_block" and token.map and re.fullmatch(r"\s*<!--.*?-->\s*", token.content, re.DOTALL):
            start, end = token.map
            lines[start:end] = [""] * (end - start)
    return lines
