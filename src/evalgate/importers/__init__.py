"""Per-sample results of other tools, read as evaluations: nothing runs, and nothing is made up.

What a tool does not say stays unknown and is said to be: weights without a digest, a metric without a direction.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from evalgate.digest import digest
from evalgate.errors import RecordError
from evalgate.evaluation import Evaluation
from evalgate.importers.foreign import AGAIN, one_line, shown

_INSPECT_LOG = re.compile(r"\d{4}-\d\d-\d\dT.+\.json")  # as inspect_ai names them: a folder may hold other JSON too
_SURPRISES = (AttributeError, LookupError, OSError, OverflowError, RecursionError, TypeError, ValueError)
_MEND = "Name samples_*.jsonl of lm-eval (--log_samples), an .eval or .json log of inspect_ai, or a folder of them."


def read_foreign(
    path: Path, *, directions: Mapping[str, bool] | None = None, suite: str = "evalsuites"
) -> list[Evaluation]:
    """The evaluations in a file or folder of another tool, in the order of its file names.

    Args:
        path: `samples_*.jsonl` of lm-evaluation-harness, an `.eval` or `.json` log of inspect_ai, or a folder that
            holds such files at any depth.
        directions: metric name to whether more is better, for metrics of which the tool does not say.
        suite: folder of the suites, in which these evaluations may become baselines.

    Raises:
        RecordError: there is nothing to read, or a file is damaged, unfinished, or without a metric to compare.
        MissingExtraError: a log is compressed with Zstandard, and nothing here can read that.
    """
    if not path.exists():
        raise RecordError("there is no such file or folder", where=shown(path), mend=_MEND)
    found = list(_files(path)) if path.is_dir() else [path]
    if not found:
        raise RecordError("holds no results of lm-eval or inspect_ai", where=shown(path), mend=_MEND)
    evaluations = [_read(file, directions or {}) for file in found]
    return [replace(e, provenance={**e.provenance, "suite": suite}) for e in evaluations]


def named(evaluations: list[Evaluation], name: str) -> list[Evaluation]:
    """The same evaluations under a name that a person gives: these runs are of one model, says the person.

    Without it every run whose weights nobody knows is a checkpoint of its own.

    Raises:
        RecordError: the runs say that they are of different models.
    """
    told = [{k: v for k, v in e.checkpoint["identity"].items() if k != "run"} for e in evaluations]
    for evaluation, identity in zip(evaluations, told, strict=True):
        if identity != told[0]:
            raise RecordError(
                f"one name was given for several models: {evaluations[0].checkpoint['name']} of "
                f"{evaluations[0].provenance['imported']['file']} and {evaluation.checkpoint['name']} of "
                f"{evaluation.provenance['imported']['file']}",
                mend="Import each model with a name of its own.",
            )
    identity = {**told[0], "name": name} if told else {}
    checkpoint = {"name": name, "digest": digest(identity), "identity": identity}
    return [replace(evaluation, checkpoint=checkpoint) for evaluation in evaluations]


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        lm_eval = path.name.startswith("samples_") and path.suffix == ".jsonl"
        if lm_eval or path.suffix == ".eval" or _INSPECT_LOG.fullmatch(path.name):
            yield path


def _read(path: Path, directions: Mapping[str, bool]) -> Evaluation:
    from evalgate.importers import inspect_ai, lm_eval

    if path.suffix == ".jsonl":
        read = lm_eval.read
    elif path.suffix in (".eval", ".json") and not path.name.startswith("results_"):
        read = inspect_ai.read
    else:
        raise RecordError("is no file of per-sample results", where=shown(path), mend=_MEND)
    try:
        return read(path, directions)
    except _SURPRISES as error:
        # Any field of a foreign file may hold anything; what no check expected is refused all the same.
        what = f"is not what the tool writes: {type(error).__name__} {one_line(str(error), 100)}"
        raise RecordError(what, where=shown(path), mend=AGAIN) from error
