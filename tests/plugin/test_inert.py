"""Without `--model` the plugin costs next to nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HEAVY = {
    "torch",
    "vllm",
    "transformers",
    "pandas",
    "pydantic",
    "jinja2",
    "numpy",
    "scipy",
    "statsmodels",
    "sqlite3",
    "rich.progress",
}
PROBE = """
import json, sys, pytest
class Probe:
    def pytest_sessionfinish(self):
        print("LOADED", json.dumps(sorted(sys.modules)))
pytest.main([{arguments}], plugins=[Probe()])
"""


def loaded(folder: Path, *arguments: str) -> set[str]:
    """Modules in a pytest process at its end."""
    code = PROBE.format(arguments=", ".join(map(repr, arguments)))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=60, check=True
    )
    line = next(line for line in done.stdout.splitlines() if "LOADED" in line)
    return set(json.loads(line.partition("LOADED ")[2]))


def test_an_ordinary_run_loads_nothing(tmp_path: Path) -> None:
    """A test that does not use evalgate brings in the hooks and the options, and no other module of ours."""
    (tmp_path / "test_it.py").write_text("def test_it():\n    pass\n")
    modules = loaded(tmp_path, "-p", "no:hypothesispytest", "-p", "no:anyio", "test_it.py")
    assert not modules & HEAVY
    assert {m for m in modules if m.startswith("evalgate")} == {
        "evalgate",
        "evalgate.plugin",
        "evalgate.plugin.options",
    }


def test_declaring_tasks_loads_nothing_heavy(tmp_path: Path) -> None:
    """Collecting a suite without a checkpoint needs none of the big libraries either."""
    (tmp_path / "test_suite.py").write_text(
        "from evalgate import Task, exact_match, bits_per_byte, json_schema, bleu\n"
        "t = Task(samples=[], prompt='x', scorers=[exact_match(), bits_per_byte(), json_schema({}), bleu()])\n"
    )
    modules = loaded(tmp_path, "--collect-only", "-p", "no:hypothesispytest", "-p", "no:anyio", "test_suite.py")
    assert not modules & {"torch", "vllm", "transformers", "pandas", "pydantic", "scipy", "statsmodels", "sacrebleu"}
