"""promptfoo's configurations as tasks: what comes in, under which names, and what is refused with its place."""

from __future__ import annotations

import builtins
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from evalgate import promptfoo_config
from evalgate.errors import MissingExtraError, TaskError
from evalgate.instrument import Case
from evalgate.prompt import render_prompt
from evalgate.samples import read_samples
from evalgate.scoring.assertions import of_case
from evalgate.task import Sampling, Task

CONFIG = """\
# yaml-language-server: $schema=https://promptfoo.dev/config-schema.json
description: Support answers
providers: [openai:gpt-5, file://mine.js]
prompts:
  - "Answer in one sentence: {{ query }}"
  - label: polite chat
    raw: '[{"role": "system", "content": "Be polite."}, {"role": "user", "content": "{{ query }}"}]'
defaultTest:
  options: {provider: openai:gpt-5}
  assert:
    - {type: not-contains, value: as an AI}
  metadata: {language: en}
evaluateOptions: {maxConcurrency: 4}
tests:
  - description: opening hours
    vars: &hours
      query: When do you open?
      hour: "9"
    assert:
      - type: contains
        value: "{{ hour }}"
      - type: llm-rubric
        value: names an hour
        provider: anthropic:claude
        weight: 2
    metadata: {topic: hours, ticket: T-1}
    threshold: 0.5
  - vars:
      <<: *hours
      query: |
        Wann öffnen Sie?
    metadata: {topic: hours, language: de, ticket: T-2}
  - vars: {query: [Hi, Hello], id: greeting}
    metadata: {topic: greeting, ticket: T-3}
    prompts: [polite chat]
"""


def load(
    folder: Path, text: str | Mapping[str, Any], file: str = "promptfooconfig.yaml", **options: Any
) -> dict[str, Task]:
    """The tasks of a configuration."""
    (folder / file).write_text(text if isinstance(text, str) else json.dumps(text), "utf-8")
    return promptfoo_config(folder / file, **options)


def one(folder: Path, **test: Any) -> Task:
    """The task of one test on one prompt."""
    config = {"prompts": ["{{ q }}"], "tests": [{"vars": {"q": "?"}, "assert": [{"type": "is-json"}], **test}]}
    return load(folder, config, "c.json")["prompt-1"]


def own(task: Task, number: int = 0) -> dict[str, Any]:
    """What a sample brings for promptfoo."""
    found: dict[str, Any] = read_samples(task, "suite/task")[number].fields["promptfoo"]
    return found


def test_a_configuration_becomes_tasks(tmp_path: Path) -> None:
    """A task for each prompt, a sample for each test that is meant for it, with variables, slices and assertions."""
    tasks = load(tmp_path, CONFIG, sampling=Sampling(max_tokens=9), by="small", name="pf")
    assert list(tasks) == ["prompt-1", "polite-chat"]
    plain, polite = tasks.values()
    assert plain.prompt == [{"role": "user", "content": "Answer in one sentence: {{ query }}"}]
    assert [message["role"] for message in polite.prompt if isinstance(message, Mapping)] == ["system", "user"]
    assert plain.sampling.max_tokens == 9
    (scorer,) = plain.scorers
    assert scorer.judge is not None
    assert (scorer.name, scorer.judge.by, scorer.judge.asks) == ("pf", ("small",), True)
    samples = {sample.fields["query"]: sample for sample in read_samples(plain, "suite/plain")}
    assert set(samples) == {"When do you open?", "Wann öffnen Sie?"}
    first, second = samples["When do you open?"], samples["Wann öffnen Sie?"]
    assert first.slices == {"topic": "hours"}
    assert first.fields["promptfoo"] == {
        "assert": [
            {"type": "not-contains", "value": "as an AI"},
            {"type": "contains", "value": "{{ hour }}"},
            {"type": "llm-rubric", "value": "names an hour", "weight": 2},
        ],
        "vars": {"query": "When do you open?", "hour": "9"},
        "threshold": 0.5,
    }
    assert second.fields["promptfoo"]["assert"] == [{"type": "not-contains", "value": "as an AI"}]
    assert second.fields["promptfoo"]["vars"] == {"query": "Wann öffnen Sie?", "hour": "9"}
    rendered = render_prompt(plain, first)
    assert rendered == [{"role": "user", "content": "Answer in one sentence: When do you open?"}]


def test_lists_are_expanded_and_ids_are_taken(tmp_path: Path) -> None:
    """A list in a variable makes a test of each member; a variable id names them, with a number where it repeats."""
    polite = load(tmp_path, CONFIG)["polite-chat"]
    samples = read_samples(polite, "suite/polite")
    assert [sample.id for sample in samples if sample.id.startswith("greeting")] == ["greeting", "greeting-2"]
    assert len(samples) == 4
    assert polite.slices == ("language", "topic")
    assert {sample.slices["language"] for sample in samples} == {"de", "en"}


def test_metadata_that_never_repeats_is_no_slice(tmp_path: Path) -> None:
    """Ticket numbers split nothing."""
    assert all("ticket" not in task.slices for task in load(tmp_path, CONFIG).values())


def test_ids_depend_on_content_alone(tmp_path: Path) -> None:
    """Another order of the tests, or another description, changes no id; another variable does."""

    def ids(*tests: Mapping[str, Any]) -> list[str]:
        config = {"prompts": ["{{ q }}"], "defaultTest": {"assert": [{"type": "is-json"}]}, "tests": list(tests)}
        return [str(row["id"]) for row in load(tmp_path, config, "c.json")["prompt-1"].samples]  # type: ignore[union-attr]

    a, b, c = ({"vars": {"q": letter}} for letter in "abc")
    assert ids(a, b) == ids({**b, "description": "x"}, a)[::-1]
    assert ids(a) != ids(c)
    assert len(set(ids(a, a, b))) == 3


def test_the_assertions_reach_the_judge(tmp_path: Path) -> None:
    """What a test declares is what a case of its sample is asked, rendered with its variables."""
    task = load(tmp_path, CONFIG)["prompt-1"]
    judge = task.scorers[0].judge
    assert judge is not None
    sample = next(s for s in read_samples(task, "s/t") if s.fields["promptfoo"]["threshold"])
    shown = {name: sample.fields[name] for name in judge.fields}
    assertions, threshold, _ = of_case(judge, Case(sample.id, "Q", "A", None, shown))
    assert [each["value"] for each in assertions] == ["as an AI", "9", "names an hour"]
    assert threshold == 0.5


def test_plain_prompts_may_stay_plain(tmp_path: Path) -> None:
    """chat=False keeps a text a text."""
    assert load(tmp_path, CONFIG, chat=False)["prompt-1"].prompt == "Answer in one sentence: {{ query }}"


def test_json_needs_no_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration in JSON is read without PyYAML; one in YAML says which extra brings it."""
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "yaml":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert own(one(tmp_path))["vars"] == {"q": "?"}
    with pytest.raises(MissingExtraError, match=r"pytest-evalgate\[judges\]"):
        load(tmp_path, CONFIG)


def test_prompts_and_tests_stand_in_files_too(tmp_path: Path) -> None:
    """Texts are split at ---, Markdown is kept, JSON and YAML are conversations, tests come from YAML and JSON."""
    (tmp_path / "two.txt").write_text("One: {{ q }}\n---\nTwo: {{ q }}\n", "utf-8")
    (tmp_path / "whole.md").write_text("# {{ q }}\n\n---\n", "utf-8")
    (tmp_path / "chat.json").write_text('[{"role": "user", "content": "{{ q }}"}]', "utf-8")
    (tmp_path / "talk.yaml").write_text("- role: user\n  content: 'Q: {{ q }}'\n", "utf-8")
    (tmp_path / "tests.yaml").write_text("- vars: {q: a}\n  assert: [{type: is-json}]\n", "utf-8")
    (tmp_path / "tests.json").write_text('[{"vars": {"q": "b"}, "assert": [{"type": "is-xml"}]}]', "utf-8")
    names = ["two.txt", "whole.md", "chat.json", "talk.yaml"]
    config = {
        "prompts": [f"file://{name}" for name in names],
        "tests": ["file://tests.yaml", "file://tests.json"],
    }
    tasks = load(tmp_path, config, "c.json", chat=False)
    assert {name: task.prompt for name, task in tasks.items()} == {
        "two-1": "One: {{ q }}",
        "two-2": "Two: {{ q }}",
        "whole": "# {{ q }}\n\n---",
        "chat": [{"role": "user", "content": "{{ q }}"}],
        "talk": [{"role": "user", "content": "Q: {{ q }}"}],
    }
    assert {sample.fields["q"] for sample in read_samples(tasks["chat"], "s/t")} == {"a", "b"}
    alone = load(tmp_path, {"prompts": "{{ q }}", "tests": "file://tests.yaml"}, "d.json")
    assert len(alone) == 1


def test_options_of_tests(tmp_path: Path) -> None:
    """A rubric prompt of the options goes to graded assertions without one; default assertions can be left out."""
    graded = [{"type": "llm-rubric", "value": "x"}, {"type": "g-eval", "value": "x", "rubricPrompt": "own"}]
    nested = [{"type": "assert-set", "assert": graded}, {"type": "is-json"}]
    found = own(one(tmp_path, **{"assert": nested, "options": {"rubricPrompt": "P {{ output }}"}}))["assert"]
    assert [each.get("rubricPrompt") for each in found[0]["assert"]] == ["P {{ output }}", "own"]
    assert "rubricPrompt" not in found[1]
    config = {
        "defaultTest": {"assert": [{"type": "is-xml"}], "vars": {"q": "d", "r": 1}, "threshold": 0.25},
        "prompts": ["{{ q }}"],
        "tests": [
            {"assert": [{"type": "is-json"}], "options": {"disableDefaultAsserts": True}},
            {"vars": {"q": ["a", "b"]}, "options": {"disableVarExpansion": True}},
        ],
    }
    rows = list(load(tmp_path, config, "c.json")["prompt-1"].samples)  # type: ignore[arg-type]
    assert [[each["type"] for each in row["promptfoo"]["assert"]] for row in rows] == [["is-json"], ["is-xml"]]
    assert [row["promptfoo"]["vars"] for row in rows] == [{"q": "d", "r": 1}, {"q": ["a", "b"], "r": 1}]
    assert [row["promptfoo"]["threshold"] for row in rows] == [0.25, 0.25]


def test_a_variable_target_is_the_reference(tmp_path: Path) -> None:
    """Tests with a variable target have it as reference; those without have none."""
    asked = [{"type": "equals", "value": "{{ reference }}"}]
    tests = [
        {"vars": {"q": "a", "target": "A"}, "assert": asked},
        {"vars": {"q": "b"}, "assert": [{"type": "is-json"}]},
    ]
    samples = read_samples(load(tmp_path, {"prompts": ["{{ q }}"], "tests": tests}, "c.json")["prompt-1"], "s/t")
    assert {sample.fields["q"]: sample.target for sample in samples} == {"a": "A", "b": None}


def test_the_default_prompt_is_the_variable_prompt(tmp_path: Path) -> None:
    """Without prompts, promptfoo asks what the variable prompt holds."""
    config = {"tests": [{"vars": {"prompt": "Hi"}, "assert": [{"type": "is-json"}]}]}
    assert load(tmp_path, config, "c.json", chat=False)["prompt-1"].prompt == "{{ prompt }}"


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "redteam": ({"redteam": {}}, "c.json, redteam: redteam is not supported"),
    "scenarios": ({"scenarios": []}, "scenarios is not supported"),
    "extensions": ({"extensions": ["file://x.js"]}, "extensions is not supported"),
    "env": ({"env": {"A": "b"}}, "env is not supported"),
    "repeat": ({"evaluateOptions": {"repeat": 3}}, r"evaluateOptions\.repeat: repeat is not supported"),
    "no tests": ({"tests": []}, "there are no tests"),
    "no prompts": ({"prompts": []}, "there are no prompts"),
    "prompt of code": ({"prompts": ["file://prompt.py:make"]}, "not supported here"),
    "prompts of a pattern": ({"prompts": ["file://prompts/*.txt"]}, "not supported here"),
    "prompt that reads like a file": ({"prompts": ["prompt.txt"]}, "Write file://prompt.txt"),
    "missing prompt": ({"prompts": ["file://none.txt"]}, "cannot be read: No such file"),
    "prompt of a number": ({"prompts": [7]}, "expected a prompt"),
    "prompt with a function": ({"prompts": [{"raw": "x", "function": "y"}]}, "function is not supported"),
    "parts": ({"prompts": ['[{"role": "user", "content": [{"type": "text"}]}]']}, "both text"),
    "late chat": ({"prompts": ['[{"role": "user", "content": {{ q | dump }}}]']}, "only after rendering"),
    "tests of a table": ({"tests": "file://tests.csv"}, "not supported here"),
    "tests of a sheet": ({"tests": ["https://docs.google.com/x"]}, "not supported here"),
    "a prompt for nobody": ({"prompts": [{"raw": "x", "label": "y"}], "tests": [{"prompts": ["z"]}]}, "no test is for"),
}
REFUSED_TESTS: dict[str, tuple[Any, str]] = {
    "no object": (7, r"tests\[0\]: expected an object"),
    "provider": ({"provider": "echo"}, r"tests\[0\]\.provider: provider is not supported"),
    "scoring function": ({"assertScoringFunction": "file://x.js"}, "assertScoringFunction is not supported"),
    "transform": ({"options": {"transform": "output.trim()"}}, r"tests\[0\]\.options\.transform"),
    "no assertions": ({"assert": []}, "has no assertions"),
    "assertions of a text": ({"assert": "is-json"}, "expected a list"),
    "assertion of a text": ({"assert": ["is-json"]}, r"tests\[0\]\.assert\[0\]: expected an assertion"),
    "unknown assertion": ({"assert": [{"type": "is-jsn"}]}, r"tests\[0\]\.assert\[0\].*Did you mean 'is-json'"),
    "python": ({"assert": [{"type": "python", "value": "True"}]}, r"function\(f\)"),
    "in a set": (
        {"assert": [{"type": "assert-set", "assert": [{"type": "webhook", "value": "x"}]}]},
        r"tests\[0\]\.assert\[0\]\.assert\[0\].*network",
    ),
    "an unknown variable": ({"assert": [{"type": "equals", "value": "{{ answer }}"}]}, "its assertions name answer"),
    "no reference": ({"assert": [{"type": "equals", "value": "{{ reference }}"}]}, "its assertions name reference"),
    "threshold": ({"threshold": 2}, r"tests\[0\]\.threshold: the threshold is 2"),
    "a file": ({"vars": {"q": "file://q.txt"}}, r"tests\[0\]\.vars\.q: names a file"),
    "a template": ({"vars": {"q": "{{ r }}"}}, "is a template"),
    "an object": ({"vars": {"q": {"a": 1}}}, "expected a text, a number"),
    "nothing": ({"vars": {"q": None}}, "expected a text, a number"),
    "variables of a file": ({"vars": "file://vars.yaml"}, "expected variables by name"),
    "our name": ({"vars": {"promptfoo": "x"}}, "cannot be the name"),
    "metadata": ({"metadata": ["x"]}, "expected metadata by name"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_supported_is_named(tmp_path: Path, case: str) -> None:
    """Nothing of a configuration is left out without a word."""
    changed, said = REFUSED[case]
    test = {"vars": {"q": "?"}, "assert": [{"type": "is-json"}]}
    config = {"prompts": ["{{ q }}"], "tests": [test]} | changed
    if isinstance(config["tests"], list):
        config["tests"] = [test | each if isinstance(each, dict) else each for each in config["tests"]]
    with pytest.raises(TaskError, match=said):
        load(tmp_path, config, "c.json")


@pytest.mark.parametrize("case", REFUSED_TESTS)
def test_what_is_not_supported_in_a_test_is_named(tmp_path: Path, case: str) -> None:
    """A refusal says which test, and which key of it."""
    changed, said = REFUSED_TESTS[case]
    test = {"vars": {"q": "?"}, "assert": [{"type": "is-json"}]}
    config = {"prompts": ["{{ q }}"], "tests": [test | changed if isinstance(changed, dict) else changed]}
    with pytest.raises(TaskError, match=said):
        load(tmp_path, config, "c.json")


def test_a_refusal_names_the_line(tmp_path: Path) -> None:
    """In YAML a refusal says on which line what it is about begins."""
    with pytest.raises(TaskError) as caught:
        load(tmp_path, CONFIG.replace("type: contains", "type: contians"))
    assert str(caught.value).startswith("promptfooconfig.yaml:20, tests[0].assert[0]: there is no assertion")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prompts: [a]\nprompts: [b]\n", "c.yaml:1: prompts stands here twice"),
        ("tests:\n  - vars: {a: 1, a: 2}\n", r"c.yaml:2, tests\[0\].vars: a stands here twice"),
        ("a: [", "is not YAML"),
        ("a: !!python/object/apply:os.system [id]\n", "is not YAML"),
        ("", "expected an object"),
        ("- a\n", "expected an object"),
        ("a\x00", "is not YAML"),
    ],
)
def test_yaml_is_read_strictly(tmp_path: Path, text: str, said: str) -> None:
    """Doubled keys, code and half a file are refused."""
    with pytest.raises(TaskError, match=said):
        load(tmp_path, text, "c.yaml")


@pytest.mark.parametrize(
    ("name", "text"), [("c.json", '{"a": 1, "a": 2}'), ("c.json", "{"), ("c.js", "export default {}")]
)
def test_other_files_are_refused(tmp_path: Path, name: str, text: str) -> None:
    """JSON is read strictly, and no configuration runs code."""
    with pytest.raises(TaskError, match=r"is not JSON|neither YAML nor JSON"):
        load(tmp_path, text, name)


def test_a_missing_or_binary_file_is_one_line(tmp_path: Path) -> None:
    """A file that is not there, or no text, is told with its name."""
    with pytest.raises(TaskError, match=r"none\.yaml: cannot be read: No such file"):
        promptfoo_config(tmp_path / "none.yaml")
    (tmp_path / "c.yaml").write_bytes(b"\xff")
    with pytest.raises(TaskError, match="not UTF-8"):
        promptfoo_config(tmp_path / "c.yaml")


def test_a_variable_is_not_metadata_too(tmp_path: Path) -> None:
    """A slice and a field cannot share a name."""
    test = {"vars": {"q": "?"}, "assert": [{"type": "is-json"}], "metadata": {"q": "x"}}
    with pytest.raises(TaskError, match="both a variable and metadata"):
        load(tmp_path, {"prompts": ["{{ q }}"], "tests": [test, {**test, "vars": {"q": "!"}}]}, "c.json")


def test_by_means_nothing_without_a_graded_assertion(tmp_path: Path) -> None:
    """A judge is named only where one is asked."""
    with pytest.raises(TaskError, match="asks no model"):
        load(tmp_path, {"tests": [{"vars": {"prompt": "x"}, "assert": [{"type": "is-json"}]}]}, "c.json", by="small")
