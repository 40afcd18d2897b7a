"""`--eval-results FILE`: what came out, for machines, whatever the end of the session was."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evalgate.cards import relative
from evalgate.gate import Outcome
from evalgate.plugin.items import gated_run, usage_errors
from evalgate.report.results import CandidateResult, Results, compared
from evalgate.report.terminal import safe
from evalgate.store import write_atomically

if TYPE_CHECKING:
    from evalgate.session import Candidate, Session


def keep(config: pytest.Config) -> Generator[None, pytest.ExitCode | int | None, pytest.ExitCode | int | None]:
    """Around the whole session: nobody changes its exit code after this."""
    path = config.invocation_params.dir / config.option.eval_results
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # what an earlier session wrote must not pass for this one's
    except OSError as exc:
        raise pytest.UsageError(f"--eval-results {path}: {exc.strerror}.") from None
    try:
        code = yield
    except BaseException as error:
        _write(path, results_of(config, error))
        raise
    _write(path, results_of(config, code))
    return code


def results_of(config: pytest.Config, ended: BaseException | pytest.ExitCode | int | None) -> Results:
    """What came out of a session that ended with this exit code, or by this exception."""
    run = gated_run(config)
    session: Session | None = getattr(run, "session", None)
    error = None
    if isinstance(ended, BaseException):
        usage = isinstance(ended, pytest.UsageError)
        code = int(pytest.ExitCode.USAGE_ERROR if usage else pytest.ExitCode.INTERNAL_ERROR)
        error = str(ended) if usage else repr(ended)
    else:
        code = int(ended or 0)
    found = Results(exit=code, error=error)
    if session:
        found = Results(
            exit=code,
            candidates=tuple(_result(session, session.candidates[name]) for name in session.gated),
            error=next((safe(why, 800) for why in (error, session.error, *session.untrained.values()) if why), None),
            ledger=session.ledger.head,
        )
    return found


def _write(path: Path, found: Results) -> None:
    with usage_errors():
        write_atomically(path, found.as_bytes())


def _result(session: Session, candidate: Candidate) -> CandidateResult:
    report, path = session.reports.get(candidate.name), candidate.checkpoint.path if candidate.checkpoint else None
    folder = relative(session.root, Path(path)) if path else None
    if report:
        card = relative(session.root, report.card)
        return compared(candidate.name, candidate.digest, folder, report.family, card)
    outcome = None if session.record_only and not session.error else str(Outcome.ERROR)
    return CandidateResult(candidate.name, candidate.digest, folder, outcome, blocked=outcome is not None)
