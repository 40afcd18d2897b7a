"""Baselines: records that somebody accepted, committed beside the suites."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from evalgate.errors import RecordError
from evalgate.evaluation import Acceptance, Evaluation
from evalgate.store.files import file_name, publish, read_bytes, suite_folder
from evalgate.store.record import parse


def baseline_path(suite_dir: Path, task_id: str, name: str | None = None) -> Path:
    """`<suite_dir>/baselines/<suite>/<task>.jsonl`; another product's is `<task>@<name>.jsonl` beside it."""
    suite, _, task = task_id.rpartition("/")
    product = f"@{file_name(name)}" if name else ""
    return suite_dir / "baselines" / suite_folder(suite) / f"{file_name(task)}{product}.jsonl"


def anchor_path(baseline: Path) -> Path:
    """Where the first baseline of a line is kept, once another has taken its place: in `anchors/` beside it."""
    return baseline.parent / "anchors" / baseline.name


def read_baseline(path: Path, task: str | None = None) -> Evaluation | None:
    """The accepted evaluation of a task, `None` where there is none yet (RecordError as `parse_baseline`)."""
    data = read_bytes(path)
    return None if data is None else parse_baseline(data, str(path), task)


def parse_baseline(data: bytes, where: str, task: str | None = None) -> Evaluation:
    """The accepted evaluation in the bytes of a baseline, from a file or from `git show`.

    Args:
        data: the whole file.
        where: what error messages call it.
        task: whose baseline it must be; `None` takes any.

    Raises:
        RecordError: as `parse`; or nobody accepted it, it is another task's, or some of its samples have no answer.
    """
    baseline = parse(data, where)
    if baseline.acceptance is None:
        mend = "Accept it: evalgate accept <checkpoint> -m <why>."
        raise RecordError("is a record that nobody accepted", where=where, mend=mend)
    if task not in (None, baseline.task):
        raise RecordError(f"is the baseline of {baseline.task}, expected {task}", where=where, mend="Move it back.")
    _complete(baseline, where)
    return baseline


def write_baseline(path: Path, evaluation: Evaluation, acceptance: Acceptance) -> None:
    """Make an evaluation the baseline: the one file that replaces another, atomically.

    Raises:
        RecordError: some of its samples have no answer, or the disk refused; the baseline before it still stands.
    """
    _complete(evaluation, str(path))
    publish(path, replace(evaluation, acceptance=acceptance))


def _complete(evaluation: Evaluation, where: str) -> None:
    if errors := evaluation.errors:
        first = f"first {errors[0].id!r}: {errors[0].fault}"
        what = f"{len(errors)} of {len(evaluation.rows)} samples have no answer or score, {first}"
        raise RecordError(what, where=where, mend="Only a complete evaluation can be a baseline: run it again.")
