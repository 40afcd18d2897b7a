"""Tonight's candidate: trained, evaluated, gated, its card written, promoted or not; safe to start twice."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evalgate.config import load_config, project_root
from evalgate.errors import EvalgateError
from evalgate.gated import run_gate
from evalgate.ledger import Ledger
from evalgate.lock import alone
from evalgate.promote import Move, promote
from evalgate.records import Library
from evalgate.report.results import CandidateResult, Results
from evalgate.runs import verdicts
from evalgate.training.config import load_training
from evalgate.versions import check_alias

LOCK = "nightly.lock"
RESULTS = "nightly.json"


@dataclass(frozen=True, slots=True)
class Night:
    """What a night came to.

    Attributes:
        results: of the session.
        move: of the alias, `None` where nothing was to be promoted or nothing could be.
    """

    results: Results
    move: Move | None = None

    @property
    def code(self) -> int:
        """0 passed, and promoted where that was asked for; 1 a regression or a failed test; 2 nothing can be said."""
        return self.results.verdict

    @property
    def candidate(self) -> CandidateResult | None:
        """What was trained, `None` where it did not come to that."""
        return self.results.only


def nightly(
    train: str,
    overrides: Sequence[str] = (),
    *,
    suites: Sequence[str] = (),
    alias: str | None = None,
    start: Path | None = None,
) -> Night:
    """Run `pytest SUITES --train CONFIG --eval-nightly` and promote what passed.

    A second start while one is running is refused. After a crash the next start goes on: training from its last state,
    the evaluation from its cache; what was finished is not done again.

    Args:
        train: the configuration, as typed.
        overrides: `key=value`, as typed.
        suites: files, folders or test ids; by default the project's suites.
        alias: that the candidate gets when it passes.
        start: folder in the project, by default where one stands.

    Raises:
        EvalgateError: another one is running, pytest could not say what came out, or the candidate cannot be promoted.
        ConfigError: no such configuration, or no name for an alias; said before anything is trained.
    """
    start = start or Path.cwd()
    root = project_root(start)
    config = load_config(root, {})
    state = root / config.state
    training = load_training(start / train, overrides, root)
    if alias:
        check_alias(alias, root / training.publishing.runs)
    arguments = [*(suites or [os.path.relpath(root / config.suites, start)]), "--eval-train", train]
    arguments += [part for override in overrides for part in ("--eval-train-set", override)]
    with alone(state / LOCK, "evalgate nightly") as lock:
        results = run_gate([*arguments, "--eval-nightly"], cwd=start, results=state / RESULTS, holding=lock)
        night = Night(results)
        if not alias or night.code:
            return night
        return Night(results, _promoted(night.candidate, alias, root, Ledger(state / "ledger.jsonl")))


def _promoted(candidate: CandidateResult | None, alias: str, root: Path, ledger: Ledger) -> Move:
    if candidate is None or candidate.folder is None:
        raise EvalgateError("there is no candidate to promote")
    return promote(
        root / candidate.folder,
        alias,
        ledger=ledger,
        verdict=verdicts(ledger).get(candidate.digest),
        tasks=Library(root).accepted_tasks(),
        why="passed the nightly gate",
    )
