"""evalgate: is this checkpoint worse than the one we ship, and where?

A suite imports what it declares (`Task`, `Sampling`, `Gate`, `jsonl`, scorers); the rest is for those who build on it.
Names are loaded when they are first used, so that pytest runs that do not use evalgate pay next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evalgate.checkpoint import Checkpoint
    from evalgate.compare import Comparison, Difference
    from evalgate.errors import (
        CheckpointError,
        ConfigError,
        EngineError,
        EvalgateError,
        InputError,
        MissingExtraError,
        RecordError,
        SampleError,
        ScorerError,
        TaskError,
    )
    from evalgate.evaluation import Acceptance, Evaluation, Metric, Row
    from evalgate.gate import Family, Gate, Member, Outcome, Policy, Verdict, decide
    from evalgate.publishing import publish
    from evalgate.request import Completion, Engine, Request
    from evalgate.scoring import (
        Score,
        Scorer,
        bits_per_byte,
        bleu,
        choice,
        chrf,
        exact_match,
        function,
        includes,
        json_schema,
        numeric,
        regex,
        rouge,
    )
    from evalgate.stats import PairedTest
    from evalgate.task import Sample, Sampling, Task, jsonl

_HOMES = {
    "checkpoint": ("Checkpoint",),
    "compare": ("Comparison", "Difference"),
    "errors": (
        "CheckpointError",
        "ConfigError",
        "EngineError",
        "EvalgateError",
        "InputError",
        "MissingExtraError",
        "RecordError",
        "SampleError",
        "ScorerError",
        "TaskError",
    ),
    "evaluation": ("Acceptance", "Evaluation", "Metric", "Row"),
    "gate": ("Family", "Gate", "Member", "Outcome", "Policy", "Verdict", "decide"),
    "publishing": ("publish",),
    "request": ("Completion", "Engine", "Request"),
    "scoring": (
        "Score",
        "Scorer",
        "bits_per_byte",
        "bleu",
        "choice",
        "chrf",
        "exact_match",
        "function",
        "includes",
        "json_schema",
        "numeric",
        "regex",
        "rouge",
    ),
    "stats": ("PairedTest",),
    "task": ("Sample", "Sampling", "Task", "jsonl"),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

__version__ = "0.1.0"
__all__ = [
    "Acceptance",
    "Checkpoint",
    "CheckpointError",
    "Comparison",
    "Completion",
    "ConfigError",
    "Difference",
    "Engine",
    "EngineError",
    "EvalgateError",
    "Evaluation",
    "Family",
    "Gate",
    "InputError",
    "Member",
    "Metric",
    "MissingExtraError",
    "Outcome",
    "PairedTest",
    "Policy",
    "RecordError",
    "Request",
    "Row",
    "Sample",
    "SampleError",
    "Sampling",
    "Score",
    "Scorer",
    "ScorerError",
    "Task",
    "TaskError",
    "Verdict",
    "__version__",
    "bits_per_byte",
    "bleu",
    "choice",
    "chrf",
    "decide",
    "exact_match",
    "function",
    "includes",
    "json_schema",
    "jsonl",
    "numeric",
    "publish",
    "regex",
    "rouge",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'evalgate' has no attribute {name!r}")
    value = getattr(import_module(f"evalgate.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
