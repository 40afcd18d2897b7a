"""The documentation's snippets: suites that declare what they say, settings that are accepted, links that lead on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import evalgate
from evalgate.config import Config, load_config

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ELSEWHERE = ("training.md",)  # its snippets stand in tests and trainers of somebody's project
PROMPTFOO = """
prompts: ["What is the capital of {{ country }}?"]
tests: [{vars: {country: France}, assert: [{type: icontains, value: Paris}]}]
"""


def snippets(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def cases(language: str) -> list[Any]:
    """Every block of every page, by page and number."""
    return [
        pytest.param(snippet, id=f"{page.name}-{number}")
        for page in PAGES
        if page.name not in ELSEWHERE
        for number, snippet in enumerate(snippets(page, language), 1)
    ]


@pytest.mark.parametrize("snippet", cases("python"))
def test_python_declares_what_it_shows(snippet: str, tmp_path: Path) -> None:
    """Every snippet of a suite runs as it stands, so that no name, argument or value in it is wrong."""
    (tmp_path / "promptfooconfig.yaml").write_text(PROMPTFOO, "utf-8")
    made = {name: getattr(evalgate, name) for name in evalgate.__all__}  # some snippets are but one call
    exec(compile(snippet, str(tmp_path / "test_page.py"), "exec"), made | {"__file__": str(tmp_path / "test_page.py")})


def test_a_wrong_snippet_is_found(tmp_path: Path) -> None:
    """The negative control: an argument that does not exist, and a value that is none."""
    for wrong in ("judge('Is it?', grades=(1, 5))", "judge('Is it?', scale=(5, 1))", "Task()"):
        with pytest.raises((TypeError, evalgate.TaskError)):
            test_python_declares_what_it_shows(wrong, tmp_path)


@pytest.mark.parametrize("snippet", cases("toml"))
def test_settings_are_accepted(snippet: str, tmp_path: Path) -> None:
    """Every snippet of settings is read without a complaint, and says something."""
    (tmp_path / "pyproject.toml").write_text(snippet, "utf-8")
    assert load_config(tmp_path, {}) != Config()


def test_the_judges_of_the_page_are_those_of_the_settings(tmp_path: Path) -> None:
    """One on this machine, one behind an endpoint, and the first judges where nobody is named."""
    (settings,) = snippets(ROOT / "docs/judges.md", "toml")
    (tmp_path / "pyproject.toml").write_text(settings, "utf-8")
    judges = load_config(tmp_path, {}).judges
    assert judges.default == "tiny"
    assert judges.models["tiny"].engine.options == {"dtype": "float32"}
    assert judges.models["large"].engine.name == "openai"
    assert judges.models["large"].revision == "2026-05"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    """A page that was renamed is missed here first."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []
