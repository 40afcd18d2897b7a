"""Scorers: completion and sample to score. Declaring one imports nothing beyond the standard library."""

from __future__ import annotations

from evalgate.scoring.answer import strip_reasoning
from evalgate.scoring.assertions import promptfoo
from evalgate.scoring.code import code_digest, function
from evalgate.scoring.deepeval import deepeval_metric
from evalgate.scoring.likelihood import bits_per_byte, choice
from evalgate.scoring.ragas import ragas_metric
from evalgate.scoring.rubric import judge, prefer
from evalgate.scoring.scorer import Score, Scorer, apply
from evalgate.scoring.structure import json_schema
from evalgate.scoring.text import bleu, chrf, exact_match, includes, numeric, regex, rouge
from evalgate.scoring.uptrain import uptrain_metric

__all__ = [
    "Score",
    "Scorer",
    "apply",
    "bits_per_byte",
    "bleu",
    "choice",
    "chrf",
    "code_digest",
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
    "strip_reasoning",
    "uptrain_metric",
]
