"""Which metrics some suites declare: collected as pytest collects them, and nothing runs."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING

import pytest

from evalgate.errors import InputError
from evalgate.plugin.items import MetricItem
from evalgate.session.words import declare

if TYPE_CHECKING:
    from evalgate.scoring import Scorer
    from evalgate.session import Declared


class _Collector:
    """Keeps the metrics that were collected."""

    found: Sequence[tuple[Declared, Scorer]] = ()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Every task is known by now."""
        self.found = [(item.declared, item.scorer) for item in session.items if isinstance(item, MetricItem)]


def declared_metrics(suites: Sequence[str]) -> frozenset[str]:
    """The `suite/task::metric` of these suites (InputError where they cannot be collected)."""
    return frozenset(declared_scorers(suites))


def declared_scorers(suites: Sequence[str]) -> Mapping[str, tuple[Declared, Scorer]]:
    """`suite/task::metric` to task and scorer (InputError where suites cannot be collected, or two share a task)."""
    collector, said, warned = _Collector(), io.StringIO(), io.StringIO()
    quiet = ("--collect-only", "--verbosity=-2", "-W", "ignore::pytest.PytestAssertRewriteWarning")
    with redirect_stdout(said), redirect_stderr(warned):  # other plugins warn there about settings of their own
        code = pytest.main([*quiet, *suites], plugins=[collector])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        where = " ".join(suites)
        sys.stderr.write(warned.getvalue())
        raise InputError(f"pytest cannot collect {where}", where=where, mend=f"See pytest --collect-only {where}")
    known: dict[str, Declared] = {}
    for declared, _ in collector.found:
        declare(known, declared, lambda each: each.task)
    return {f"{declared.id}::{scorer.name}": (declared, scorer) for declared, scorer in collector.found}
