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
        MissingToolError,
        RecordError,
        SampleError,
        ScorerError,
        TaskError,
    )
    from evalgate.evaluation import Acceptance, Evaluation, Metric, Row
    from evalgate.gate import Family, Gate, Member, Outcome, Policy, Verdict, decide
    from evalgate.importers.promptfoo import promptfoo_config
    from evalgate.publishing import publish
    from evalgate.request import Completion, Engine, Request
    from evalgate.scoring import (
        Score,
        Scorer,
        bits_per_byte,
        bleu,
        choice,
        chrf,
        deepeval_metric,
        exact_match,
        function,
        includes,
        json_schema,
        judge,
        numeric,
        prefer,
        promptfoo,
        ragas_metric,
        regex,
        rouge,
        uptrain_metric,
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
        "MissingToolError",
        "RecordError",
        "SampleError",
        "ScorerError",
        "TaskError",
    ),
    "evaluation": ("Acceptance", "Evaluation", "Metric", "Row"),
    "gate": ("Family", "Gate", "Member", "Outcome", "Policy", "Verdict", "decide"),
    "importers.promptfoo": ("promptfoo_config",),
    "publishing": ("publish",),
    "request": ("Completion", "Engine", "Request"),
    "scoring": (
        "Score",
        "Scorer",
        "bits_per_byte",
        "bleu",
        "choice",
        "chrf",
        "deepeval_metric",
        "exact_match",
        "function",
        "includes",
        "json_schema",
        "judge",
        "numeric",
        "prefer",
        "promptfoo",
        "ragas_metric",
        "regex",
        "rouge",
        "uptrain_metric",
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
    "MissingToolError",
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
    "deepeval_metric",
    "exact_match",
    "function",
    "includes",
    "json_schema",
    "jsonl",
    "judge",
    "numeric",
    "prefer",
    "promptfoo",
    "promptfoo_config",
    "publish",
    "ragas_metric",
    "regex",
    "rouge",
    "uptrain_metric",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'evalgate' has no attribute {name!r}")
    value = getattr(import_module(f"evalgate.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
