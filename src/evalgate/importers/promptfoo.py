"""promptfoo's configurations as tasks: each prompt becomes a task, each test a sample that brings its assertions.

The models under test and the graders that a configuration names are replaced: by the candidate, and by the judges of
the settings. Whatever else is not understood is refused with its place, never left out.
"""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalgate.digest import digest, short
from evalgate.importers.declared import Place, only, read
from evalgate.scoring.assertions import (
    assertions_from,
    check_assertion,
    check_assertions,
    check_threshold,
    is_graded,
    leaves,
    names_in,
)
from evalgate.scoring.structure import parse_strictly
from evalgate.task import Sampling, Task

if TYPE_CHECKING:
    from evalgate.gate import Gate

FIELD = "promptfoo"
"""The sample's field that holds its assertions."""
_SLICES = 20  # values, up to which metadata splits results
_REPLACED = {"providers", "targets"}
_OF_THE_TOOL = {"$schema", "description", "tags", "sharing", "outputPath", "commandLineOptions", "writeLatestResults"}
_CONFIG = {"prompts", "tests", "defaultTest", "evaluateOptions"} | _REPLACED | _OF_THE_TOOL
_TEST = {"description", "vars", "assert", "threshold", "metadata", "options", "prompts"}
_OPTIONS = {"provider", "rubricPrompt", "disableVarExpansion", "disableDefaultAsserts"}
_HARMLESS = {"maxConcurrency", "showProgressBar", "cache", "delay", "timeoutMs", "maxEvalTimeMs"}
_SEPARATOR = re.compile(r"^---\s*$", re.MULTILINE)


def promptfoo_config(
    path: str | Path,
    *,
    sampling: Sampling | None = None,
    chat: bool = True,
    by: str | Sequence[str] | None = None,
    gate: Gate | None = None,
    name: str = "promptfoo",
) -> dict[str, Task]:
    """The tests of a promptfoo configuration as tasks, one for each of its prompts, by the prompt's label or number.

    Bind it to a module-level name of a suite: `SUPPORT = promptfoo_config("promptfooconfig.yaml")`. Variables become
    fields of the samples; metadata whose values repeat become slices; a test's `threshold` makes its value 1 or 0.
    A variable `id` names the sample, else its content does; a variable `target` is the reference.

    Args:
        path: YAML or JSON, relative to the module that calls.
        sampling: how completions are drawn.
        chat: whether a prompt that is plain text is one message of the user, as promptfoo's chat models take it.
        by: names of the judges in the settings, for model-graded assertions.
        gate: margin and floor.
        name: of the metric.

    Raises:
        TaskError: the file cannot be read, or holds what is not supported; with file, line and place.
        MissingExtraError: it is YAML, and PyYAML is not installed.
    """
    module = Path(sys._getframe(1).f_globals.get("__file__", "."))
    config = read((module.parent / path).absolute())
    only(config, _CONFIG)
    only(config.child("evaluateOptions", {}), _HARMLESS)
    default = config.child("defaultTest", {})
    tests = [test for place in _tests(config) for test in _expanded(_test(place, default))]
    if not tests:
        raise config.error("there are no tests")
    asks = any(is_graded(leaf) for test in tests for leaf in leaves(test.assertions))
    if by is not None and not asks:
        raise config.error(f"asks no model, so by={by!r} means nothing", "Leave by out.")
    scorer = assertions_from(FIELD, by=by, asks=asks, gate=gate, name=name)
    tasks: dict[str, Task] = {}
    for number, prompt in enumerate(_prompts(config), start=1):
        label = re.sub(r"[^\w.-]+", "-", prompt.label).strip("-")[:60] or f"prompt-{number}"
        chosen = [test for test in tests if test.prompts is None or prompt.label in test.prompts]
        if not chosen:
            raise prompt.place.error(f"no test is for the prompt {prompt.label!r:.80}")
        tasks[label if label not in tasks else f"{label}-{number}"] = Task(
            samples=_rows(chosen),
            prompt=_messages(prompt, chat),
            scorers=[scorer],
            sampling=sampling or Sampling(),
            slices=_slices(chosen),
        )
    return tasks


@dataclass(frozen=True, slots=True)
class _Prompt:
    text: str
    label: str
    place: Place


@dataclass(frozen=True, slots=True)
class _Test:
    place: Place
    variables: Mapping[str, Any]
    assertions: Sequence[dict[str, Any]]
    threshold: float | None
    metadata: Mapping[str, Any]
    prompts: tuple[str, ...] | None
    expands: bool


def _tests(config: Place) -> Iterator[Place]:
    """Every test, those of other files too."""
    given = config.child("tests")
    listed = given.children() if isinstance(given.value, list) else [given]
    for place in listed:
        if not isinstance(place.value, str):
            yield place
            continue
        other = read(_file(place, (".yaml", ".yml", ".json")))
        if not isinstance(other.value, list):
            raise other.error("expected a list of tests")
        yield from other.children()


def _file(place: Place, kinds: tuple[str, ...]) -> Path:
    """The file that a value names."""
    path = Path(str(place.value).removeprefix("file://"))
    if path.suffix not in kinds or "*" in str(path):
        raise place.error(f"{str(place.value)!r:.80} is not supported here", f"Name one file of {', '.join(kinds)}.")
    return place.file.parent / path


def _test(place: Place, default: Place) -> _Test:
    for each in (place, default):
        only(each, _TEST)
        only(each.child("options", {}), _OPTIONS)
    options = {**default.child("options", {}).value, **place.child("options", {}).value}
    assertions = [] if options.get("disableDefaultAsserts") else _assertions(default)
    assertions += _assertions(place)
    if not assertions:
        raise place.error("has no assertions", "A test without any passes whatever the model says.")
    if rubric := options.get("rubricPrompt"):
        assertions = [_with_rubric(each, rubric) for each in assertions]
    variables = _variables(default) | _variables(place)
    threshold = place.value.get("threshold", default.value.get("threshold"))
    check_threshold(threshold, place.child("threshold").where)
    checked = check_assertions(assertions, place.child("assert").where)
    known = {*variables, "question"} | ({"reference"} if "target" in variables else set())
    if missing := sorted(names_in(checked) - known):
        raise place.error(
            f"its assertions name {', '.join(missing)}, and its variables are {', '.join(variables) or 'none'}"
        )
    chosen = place.value.get("prompts")
    return _Test(
        place=place,
        variables=variables,
        assertions=checked,
        threshold=threshold,
        metadata=_metadata(default) | _metadata(place),
        prompts=None if chosen is None else tuple(map(str, chosen)),
        expands=not options.get("disableVarExpansion"),
    )


def _assertions(place: Place) -> list[dict[str, Any]]:
    found = place.child("assert", [])
    if not isinstance(found.value, list):
        raise found.error(f"expected a list of assertions, found {found.value!r:.80}")
    return [_own_grader(each) for each in found.children()]


def _own_grader(place: Place) -> dict[str, Any]:
    """An assertion without the grader that it names: the judge of the settings takes its place."""
    if not isinstance(place.value, Mapping):
        raise place.error(f"expected an assertion, found {place.value!r:.80}")
    found = {str(key): value for key, value in place.value.items() if key != "provider"}
    if found.get("type") == "assert-set" and isinstance(found.get("assert"), list):
        return found | {"assert": [_own_grader(each) for each in place.child("assert").children()]}
    check_assertion(found, place.where)  # here the line is known
    return found


def _with_rubric(assertion: dict[str, Any], rubric: Any) -> dict[str, Any]:
    if assertion.get("type") == "assert-set":
        return assertion | {"assert": [_with_rubric(each, rubric) for each in assertion["assert"]]}
    return {"rubricPrompt": rubric, **assertion} if is_graded(assertion) else assertion


def _variables(place: Place) -> dict[str, Any]:
    given = place.child("vars", {})
    if not isinstance(given.value, Mapping):
        raise given.error(f"expected variables by name, found {given.value!r:.80}")
    for name in given.value:
        here = given.child(name)
        if not isinstance(name, str) or name in (FIELD, "evalgate"):
            raise here.error(f"{name!r} cannot be the name of a variable")
        for value in here.value if isinstance(here.value, list) else [here.value]:
            if not isinstance(value, str | int | float | bool):
                raise here.error(f"is {value!r:.80}, expected a text, a number, true or false, or a list of them")
            if isinstance(value, str) and value.startswith(("file://", "package:")):
                raise here.error("names a file", "Write what stands in it here.")
            if isinstance(value, str) and ("{{" in value or "{%" in value):
                raise here.error("is a template, and variables are data here", "Write out what it renders to.")
    return {name: _without_last_break(value) for name, value in given.value.items()}


def _without_last_break(value: Any) -> Any:
    """As promptfoo renders variables: YAML's blocks end with a line break that nobody means."""
    return value.removesuffix("\n") if isinstance(value, str) else value


def _metadata(place: Place) -> dict[str, Any]:
    given = place.child("metadata", {})
    if not isinstance(given.value, Mapping):
        raise given.error(f"expected metadata by name, found {given.value!r:.80}")
    return {str(key): value for key, value in given.value.items()}


def _expanded(test: _Test) -> Iterator[_Test]:
    """A test for every combination of what lists in its variables hold, as promptfoo has it."""
    lists = {name: value for name, value in test.variables.items() if isinstance(value, list)}
    if not test.expands or not lists:
        yield test
        return
    for values in itertools.product(*lists.values()):
        yield replace(test, variables={**test.variables, **dict(zip(lists, values, strict=True))})


def _rows(tests: Sequence[_Test]) -> list[dict[str, Any]]:
    slices = _slices(tests)
    rows: list[dict[str, Any]] = []
    blank = {"target": None} if any("target" in test.variables for test in tests) else {}  # of all samples, or of none
    seen: Counter[str] = Counter()
    for test in tests:
        name = str(test.variables["id"]) if "id" in test.variables else short(digest(dict(test.variables)))
        seen[name] += 1
        own = {"assert": list(test.assertions), "vars": dict(test.variables), "threshold": test.threshold}
        told = {key: str(test.metadata.get(key, "none")) for key in slices}
        if clash := sorted(set(told) & set(test.variables)):
            raise test.place.error(f"{clash[0]} is both a variable and metadata", "Rename one of them.")
        unique = name if seen[name] == 1 else f"{name}-{seen[name]}"
        rows.append({**blank, **test.variables, **told, "id": unique, FIELD: own})
    return rows


def _slices(tests: Sequence[_Test]) -> tuple[str, ...]:
    """Metadata that splits the tests, as they are declared, into groups: plain values, of which one repeats."""
    declared = {(test.place.file, test.place.keys): test.metadata for test in tests}.values()
    found = []
    for key in dict.fromkeys(itertools.chain.from_iterable(declared)):
        values = [metadata.get(key, "none") for metadata in declared]
        plain = all(isinstance(value, str | int | float | bool) for value in values)
        if plain and len(set(map(str, values))) <= min(_SLICES, len(values) - 1):
            found.append(key)
    return tuple(found)


def _prompts(config: Place) -> Iterator[_Prompt]:
    given = config.child("prompts", ["{{ prompt }}"])
    listed = list(given.children()) if isinstance(given.value, list) else [given]
    if not listed:
        raise given.error("there are no prompts")
    for place in listed:
        entry, label = place, None
        if isinstance(place.value, Mapping):
            only(place, {"raw", "label", "id"})
            label = place.value.get("label") or place.value.get("id")
            entry = place.child("raw" if "raw" in place.value else "id")
        if not isinstance(entry.value, str) or not entry.value.strip():
            raise entry.error(f"expected a prompt, found {entry.value!r:.80}")
        texts = _prompt_texts(entry)
        for number, text in enumerate(texts, start=1):
            many = f"-{number}" if len(texts) > 1 else ""
            yield _Prompt(text, f"{label or _short_label(entry.value)}{many}", place)


def _short_label(text: str) -> str:
    return Path(text).stem if text.startswith("file://") else ""


def _prompt_texts(place: Place) -> list[str]:
    text: str = place.value
    if not text.startswith("file://"):
        if re.fullmatch(r"\S+\.(txt|json|jsonl|ya?ml|md|csv|j2|py|[cm]?[jt]s)(:\w+)?", text):
            raise place.error(f"{text!r:.80} reads like a file", f"Write file://{text}.")
        return [text]
    path = _file(place, (".txt", ".md", ".json", ".yaml", ".yml"))
    try:
        content = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise place.error(f"cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None
    if path.suffix in (".yaml", ".yml"):
        return [json.dumps(read(path).value)]
    return [part.strip() for part in _SEPARATOR.split(content)] if path.suffix == ".txt" else [content.strip()]


def _messages(prompt: _Prompt, chat: bool) -> str | list[dict[str, str]]:
    """A conversation where the prompt is one in JSON; else text, or one message of the user."""
    if prompt.text.lstrip().startswith("["):
        try:
            found = parse_strictly(prompt.text)
        except ValueError:
            found = None
        if isinstance(found, list) and all(isinstance(each, dict) for each in found):
            for each in found:
                if set(each) != {"role", "content"} or not all(isinstance(part, str) for part in each.values()):
                    raise prompt.place.error("expected messages with role and content, both text")
            return found
        if '"role"' in prompt.text:
            raise prompt.place.error(
                "is a conversation only after rendering", "Write it as JSON with templates inside texts."
            )
    return [{"role": "user", "content": prompt.text}] if chat else prompt.text
