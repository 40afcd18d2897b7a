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
from evalgate.ledger import Entry, Ledger
from evalgate.store import anchor_path, baseline_path, read_baseline, write_baseline


@dataclass(frozen=True, slots=True)
class Accepted:
    """One baseline that was written: where, what, which it replaced, and among how many candidates it was chosen."""

    path: Path
    evaluation: Evaluation
    previous: str | None
    selected_from: int = 1


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
        if evaluation.look < evaluation.policy.get("last_look", 0):
            raise InputError(
                f"its task keeps samples in reserve, and {evaluation.look} of {evaluation.policy['last_look']} steps "
                "of them were drawn: a later top-up would have nothing to compare with",
                where=evaluation.task,
                mend="Record all of them first, answers known come from the cache: pytest … --eval-record-only.",
            )
        if faults := evaluation.errors:
            raise RecordError(
                f"{len(faults)} of {len(evaluation.rows)} rows have no answer or score ({faults[0].fault})",
                where=evaluation.task,
                mend="An incomplete evaluation cannot be accepted: run it again.",
            )
    entries = ledger.entries()
    return [_write(evaluation, why, root, ledger, entries, name, new_anchor) for evaluation in chosen]


def _write(
    evaluation: Evaluation,
    why: str,
    root: Path,
    ledger: Ledger,
    entries: Sequence[Entry],
    name: str | None,
    new_anchor: bool,
) -> Accepted:
    path = baseline_path(root / str(evaluation.provenance["suite"]), evaluation.task, name)
    before = read_baseline(path)
    anchor = before.acceptance.anchor if before and before.acceptance and not new_anchor else evaluation.digest
    acceptance = Acceptance(
        by=person(root),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        why=why.strip(),
        previous=before.digest if before else None,
        anchor=anchor,
        selected_from=selected_from(evaluation, before, entries, name),
    )
    # Drift is measured from the anchor, so its record is committed too: a fresh clone must see what this machine sees.
    if anchor == evaluation.digest:
        anchor_path(path).unlink(missing_ok=True)
    elif before and before.acceptance and before.digest == anchor:
        write_baseline(anchor_path(path), before, before.acceptance)
    write_baseline(path, evaluation, acceptance)
    ledger.append(
        "accept",
        {
            "task": evaluation.task,
            "baseline": evaluation.digest,
            "checkpoint": evaluation.checkpoint["digest"],
            "previous": acceptance.previous,
            "anchor": anchor,
            "selected_from": acceptance.selected_from,
            "why": acceptance.why,
            "by": acceptance.by,
            "name": name,
        },
    )
    return Accepted(path, evaluation, acceptance.previous, acceptance.selected_from)


def selected_from(
    evaluation: Evaluation, before: Evaluation | None, entries: Sequence[Entry], name: str | None = None
) -> int:
    """Among how many candidates an evaluation was chosen, itself included.

    The best of k looks better than it is by the luck of the draw, so those count that were measured by the same draw:
    on the task's questions and, where tokens are drawn, by the same seed. A re-measurement by another seed is a fresh
    draw that nobody has chosen by. A candidate counts from its plan on, whether it was gated, only recorded or killed
    on the way: in each case somebody may have seen answers. It also counts where eval data was changed since, as most
    questions may still be the same. The incumbent that the others had to match is not counted.

    Args:
        evaluation: to be accepted.
        before: the baseline that it replaces.
        entries: of the ledger, oldest first.
        name: of the product line; each has acceptances of its own.
    """
    task, seen = evaluation.task, {evaluation.checkpoint["digest"]}
    for entry in reversed(entries):
        body = entry.body
        if entry.kind == "accept" and (body["task"], body["name"]) == (task, name):
            break
        asked = body.get("samples" if entry.kind == "plan" else "records", {})
        same_draw = not drawn(evaluation) or body.get("seeds", {}).get(task) in (None, evaluation.seed)
        if entry.kind in ("plan", "verdict") and task in asked and same_draw:
            seen |= set(body["candidates"].values()) if entry.kind == "plan" else {body["candidate"]}
    if before is None or before.acceptance is None:
        return len(seen)
    if before.checkpoint["digest"] != evaluation.checkpoint["digest"]:
        return len(seen - {before.checkpoint["digest"]})
    # The same checkpoint again: without a fresh draw, by seed or by questions, it is still chosen among the first ones.
    fresh = (drawn(evaluation) and before.seed != evaluation.seed) or not set(before.keys[1]) & set(evaluation.keys[1])
    return len(seen) + (0 if fresh else before.acceptance.selected_from - 1)


def drawn(evaluation: Evaluation) -> bool:
    """Whether the answers depend on the seed: text that was not decoded greedily."""
    return bool(evaluation.sampling.get("temperature")) and any(row.outputs for row in evaluation.rows)


def selection_advice(done: Sequence[Accepted], *, model: str, suites: str, entries: Sequence[Entry]) -> str | None:
    """One line on baselines that were the best of several: how to measure them again; `None` where none was."""
    several = [each for each in done if each.selected_from > 1]
    if not several:
        return None
    named = ", ".join(f"{each.evaluation.task} (of {each.selected_from})" for each in several)
    said = [f"chosen among several candidates by the same questions, so it looks better than it is: {named}."]
    again = [each.evaluation.task for each in several if drawn(each.evaluation)]
    if again:
        unused = 1 + max((entry.body.get("eval_seed") or 0 for entry in entries if entry.kind == "plan"), default=0)
        command = f"pytest {suites}/ --model {model} --eval-seed {unused} --eval-record-only"
        said.append(f"{', '.join(again)}: measure it again with fresh seeds ({command}), then accept it again.")
    greedy = [each.evaluation.task for each in several if not drawn(each.evaluation)]
    if greedy:
        said.append(f"{', '.join(greedy)}: no seed changes the answers; only new questions help.")
    return " ".join(said)


def person(root: Path) -> str:
    """Who git says is at work here, else the login name."""
    found = [
        subprocess.run(["git", "config", key], cwd=root, capture_output=True, text=True, check=False).stdout.strip()
        for key in ("user.name", "user.email")
    ]
    return f"{found[0]} <{found[1]}>" if all(found) else getpass.getuser()


def accept_command(checkpoint: Mapping[str, object], path: str | None) -> str:
    """The command a person pastes to accept what was recorded."""
    return f'evalgate accept {path or short(str(checkpoint["digest"]))} -m "why"'
