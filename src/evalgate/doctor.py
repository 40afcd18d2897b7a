"""What is installed, what would run, and what is missing: `evalgate doctor`."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from evalgate import __version__
from evalgate.config import load_config, project_root
from evalgate.engines import EngineSettings, engine_identity
from evalgate.errors import EvalgateError, InputError
from evalgate.judges.node import PROMPTFOO, find_node, find_promptfoo, node_version
from evalgate.ledger import Ledger

OPTIONAL = {
    "trl": "train",
    "bitsandbytes": "qlora",
    "deepspeed": "deepspeed",
    "optuna": "sweep",
    "deepeval": "judges",
    "ragas": "judges",
    "evalica": "ppi",
    "mlflow": "trackers",
    "ray": "ray",
    "fsspec": "store",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    state: Literal["good", "bad", "note"]
    what: str
    mend: str | None = None


def examine(start: Path, environment: Mapping[str, str]) -> list[Finding]:
    """Look at everything a run needs, without starting an engine."""
    root = project_root(start)
    findings = [Finding("good", f"evalgate {__version__} on Python {platform.python_version()}, project {root}")]
    try:
        config = load_config(root, {})
    except EvalgateError as error:
        return [*findings, Finding("bad", str(error))]
    state = root / config.state
    settings = EngineSettings(
        name=config.engine.name,
        options=config.engine.options,
        python=config.engine.python,
        log_dir=state / "logs",
    )
    try:
        engine = engine_identity(settings)
        findings.append(
            Finding("good", f"engine {engine['name']} {engine['version']} on {engine.get('device', 'no device')}")
        )
    except EvalgateError as error:
        findings.append(Finding("bad", str(error.what), error.mend))
    suites = root / config.suites
    if suites.is_dir():
        count = len(list(suites.rglob("test_*.py")))
        baselines = len(list(suites.rglob("baselines/**/*.jsonl")))
        findings.append(Finding("good", f"{count} suites and {baselines} baselines in {config.suites}/"))
    else:
        findings.append(
            Finding("note", f"no folder {config.suites}/", "Write evalsuites/test_<topic>.py with a Task in it.")
        )
    for library, extra in OPTIONAL.items():
        try:
            findings.append(Finding("good", f"{library} {version(library)}"))
        except PackageNotFoundError:
            findings.append(Finding("note", f"{library} is not installed", f"pip install 'pytest-evalgate[{extra}]'"))
    findings.append(_promptfoo(environment))
    head = Ledger(state / "ledger.jsonl").head
    findings.append(Finding("note", f"ledger head {head}" if head else "no ledger yet: nothing ran here"))
    if environment.get("CI"):
        findings.append(Finding("note", "CI is set: evalgate accept is refused here"))
    return findings


def _promptfoo(environment: Mapping[str, str]) -> Finding:
    try:
        promptfoo = find_promptfoo(environment)
        node = find_node(environment)
    except InputError as error:
        return Finding("note", error.what, error.mend)
    return Finding("good", f"promptfoo {PROMPTFOO} in {promptfoo} on Node.js {node_version(node)}")
