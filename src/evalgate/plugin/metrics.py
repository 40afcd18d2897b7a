"""Which metrics some suites declare: collected as pytest collects them, and nothing runs."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stdout

import pytest

from evalgate.errors import InputError
from evalgate.plugin.items import MetricItem


class _Collector:
    """Keeps the metrics that were collected."""

    metrics: frozenset[str] = frozenset()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Every task is known by now."""
        items = [item.selected for item in session.items if isinstance(item, MetricItem)]
        self.metrics = frozenset(f"{each.task}::{each.metric}" for each in items)


def declared_metrics(suites: Sequence[str]) -> frozenset[str]:
    """The `suite/task::metric` of these suites (InputError where they cannot be collected)."""
    collector, said = _Collector(), io.StringIO()
    quiet = ("--collect-only", "--verbosity=-2", "-W", "ignore::pytest.PytestAssertRewriteWarning")
    with redirect_stdout(said):
        code = pytest.main([*quiet, *suites], plugins=[collector])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        where = " ".join(suites)
        raise InputError(f"pytest cannot collect {where}", where=where, mend=f"See pytest --collect-only {where}")
    return collector.metrics
