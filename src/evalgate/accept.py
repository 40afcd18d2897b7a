"""Accepting: recorded evaluations become the baseline, by a person, with a reason, without running anything again."""

from __future__ import annotations

import getpass
import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from evalgate.digest import short
from evalgate.errors import InputError, RecordError
from evalgate.evaluation import Acceptance, Evaluation
from evalgate.ledger import Ledger
from evalgate.store import baseline_path, read_baseline, write_baseline


@dataclass(frozen=True, slots=True)
class Accepted:
    """One baseline that was written: where, what, and which it replaced."""

    path: Path
    evaluation: Evaluation
    previous: str | None


def accept(
    evaluations: Mapping[str, Evaluation],
    *,
    why: str,
    root: Path,
    ledger: Ledger,
    tasks: Sequence[str] = (),
    family: Iterable[str] = (),
    name: str | None = None,
    new_anchor: bool = False,
) -> list[Accepted]:
    """Make recorded evaluations the baseline.

    Args:
        evaluations: task id to the newest record of one checkpoint.
        why: the reason, kept in the baseline's header and the ledger.
        root: of the project; records name their suite relative to it.
        ledger: that notes the act.
        tasks: the tasks meant; all of them where none is named.
        family: every task that the last plan of this checkpoint had; all must be recorded unless tasks are named.
        name: of the product line, for `--eval-baseline NAME`.
        new_anchor: start a new line: drift is measured from here on.

    Raises:
        InputError: in CI, without a reason, or for a task without a complete record.
    """
    if os.environ.get("CI"):
        raise InputError(
            "accepting a baseline in CI is refused: the bar is moved by people and reviewed like code",
            mend="Run evalgate accept on your own machine and commit the baselines.",
        )
    if not why.strip():
        raise InputError("a baseline needs a reason", mend='Give one with -m "why this model is good enough".')
    wanted = tuple(tasks) or tuple(dict.fromkeys([*family, *evaluations]))
    missing = [task for task in wanted if task not in evaluations]
    if missing or not wanted:
        raise InputError(
            f"no record of {', '.join(missing) or 'any task'} for this checkpoint; "
            f"recorded: {', '.join(evaluations) or 'nothing'}",
            mend="Evaluate it first with pytest evalsuites/ --model …, or name the tasks to accept with --task.",
        )
    chosen = [evaluations[task] for task in wanted]
    for evaluation in chosen:
        if faults := evaluation.errors:
            raise RecordError(
                f"{len(faults)} of {len(evaluation.rows)} rows have no answer ({faults[0].error})",
                where=evaluation.task,
                mend="An incomplete evaluation cannot be accepted: run it again.",
            )
    return [_write(evaluation, why, root, ledger, name, new_anchor) for evaluation in chosen]


def _write(
    evaluation: Evaluation, why: str, root: Path, ledger: Ledger, name: str | None, new_anchor: bool
) -> Accepted:
    path = baseline_path(root / str(evaluation.provenance["suite"]), evaluation.task, name)
    before = read_baseline(path)
    anchor = before.acceptance.anchor if before and before.acceptance and not new_anchor else evaluation.digest
    acceptance = Acceptance(
        by=_person(root),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        why=why.strip(),
        previous=before.digest if before else None,
        anchor=anchor,
    )
    write_baseline(path, evaluation, acceptance)
    ledger.append(
        "accept",
        {
            "task": evaluation.task,
            "baseline": evaluation.digest,
            "checkpoint": evaluation.checkpoint["digest"],
            "previous": acceptance.previous,
            "anchor": anchor,
            "why": acceptance.why,
            "by": acceptance.by,
            "name": name,
        },
    )
    return Accepted(path, evaluation, acceptance.previous)


def _person(root: Path) -> str:
    """Who git says is at work here, else the login name."""
    found = [
        subprocess.run(["git", "config", key], cwd=root, capture_output=True, text=True, check=False).stdout.strip()
        for key in ("user.name", "user.email")
    ]
    return f"{found[0]} <{found[1]}>" if all(found) else getpass.getuser()


def accept_command(checkpoint: Mapping[str, object], path: str | None) -> str:
    """The command a person pastes to accept what was recorded."""
    return f'evalgate accept {path or short(str(checkpoint["digest"]))} -m "why"'
