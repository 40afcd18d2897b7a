"""The exception tree. A message is one line: where, what (expected and actual), and how to mend it.

EvalgateError
├── InputError            something typed or written is wrong: exit code 4 in pytest, 2 in the command line
│   ├── ConfigError       a key or value in [tool.evalgate] or on the command line
│   ├── TaskError         a Task, Scorer or Gate that cannot mean anything
│   ├── SampleError       eval data: a row, a field, a digest
│   ├── CheckpointError   a checkpoint folder, its weights, adapter, tokenizer or template
│   ├── RecordError       a stored evaluation, baseline, cache or ledger that cannot be trusted
│   ├── MissingExtraError      an optional library that is not installed
│   └── MissingToolError       a program that is not installed
├── TrainingError         the trainer failed, was killed, or its loss is no number: no version appeared
├── TrackerError          an experiment tracker or model registry could not be written: shown, never a verdict
├── JudgeError            a judge or the library around it failed as a whole: every metric that needed it is ERROR
├── EngineError           the engine could not answer: every gate that needed it is ERROR
└── ScorerError           a scorer raised or returned no number: the metric is ERROR
"""

from __future__ import annotations


class EvalgateError(Exception):
    """Base of everything evalgate raises on purpose.

    Args:
        what: what is wrong, with the expected and the actual value.
        where: file, key, sample or option it was found in.
        mend: what to do about it, best as a command to paste.
    """

    def __init__(self, what: str, *, where: str | None = None, mend: str | None = None) -> None:
        super().__init__(what)
        self.what, self.where, self.mend = what, where, mend

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        end = "" if text.endswith("?") else "."
        return " ".join(f"{text.rstrip('.')}{end} {self.mend}".split() if self.mend else text.split())


class InputError(EvalgateError):
    """Something that a person typed or wrote is wrong."""


class ConfigError(InputError):
    """A setting or an option is unknown, of the wrong type or out of range."""


class TaskError(InputError):
    """A task, scorer or gate is declared in a way that cannot mean anything."""


class SampleError(InputError):
    """Eval data is missing, malformed or not what its digest says."""


class CheckpointError(InputError):
    """A checkpoint cannot be trusted or served."""


class RecordError(InputError):
    """A stored evaluation, baseline or ledger is damaged, incomplete or of a newer format."""


class MissingExtraError(InputError):
    """An optional library is needed and not installed."""

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(f"{library} is not installed", mend=f"pip install 'pytest-evalgate[{extra}]'")


class MissingToolError(InputError):
    """A program that is no Python library is needed and not installed."""


class TrainingError(EvalgateError):
    """The trainer failed, was killed, or met a loss or gradient that is no finite number: no version appeared."""


class TrackerError(EvalgateError):
    """An experiment tracker or a model registry could not be written; it is shown and changes no verdict."""


class JudgeError(EvalgateError):
    """A judge, or the process of a judge library, failed to start, to answer or to stay alive."""


class EngineError(EvalgateError):
    """The engine failed to start, to answer or to stay alive."""


class ScorerError(EvalgateError):
    """A scorer raised an exception or returned something that is no finite number in its range."""


class InconclusiveWarning(UserWarning):
    """A metric passed because the policy lets too little evidence pass; the summary says so too."""
