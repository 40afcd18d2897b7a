"""`--eval-bisect`: which of several `--model`, in the order of training, was the first that regressed. One engine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from evalgate.bisect import Found, Row, bisect_lines, epochs_of, first_bad
from evalgate.config import load_config, project_root
from evalgate.gate import Outcome
from evalgate.plugin import PLUGIN_NAME
from evalgate.plugin.items import MetricItem, PooledItem
from evalgate.plugin.run import GatedRun
from evalgate.report.terminal import safe


class _UndecidedError(Exception):
    """A version of which nobody can say whether it regressed."""


class BisectRun(GatedRun):
    """Evaluates one checkpoint after the other, as far as the search needs them; only their tests run."""

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config)
        if len(config.option.eval_model) < 2 or config.option.eval_record_only:
            raise pytest.UsageError(
                "--eval-bisect compares the versions of one training, in its order: give two or more --model and leave "
                "out --eval-record-only (evalgate bisect runs/v3 finds the epochs by itself)."
            )
        self.found: Found | None = None

    def answer(self, session: pytest.Session) -> None:
        """Ask one checkpoint at a time, and leave out the tests of those that nobody needed."""
        names = list(self.session.candidates)
        selected = self._selected(session.items)

        def regressed(place: int) -> bool:
            self.session.run([each for each in selected if each.candidate == names[place]])
            family = self.session.reports[names[place]].family
            if family.outcome is not Outcome.REGRESSION and family.fails(family.policy):
                raise _UndecidedError
            return family.outcome is Outcome.REGRESSION

        try:
            self.found = first_bad(len(names), regressed) if selected else None
        except _UndecidedError:
            self.found = None
        session.items[:] = [item for item in session.items if self._seen(item)]

    def _seen(self, item: pytest.Item) -> bool:
        if isinstance(item, MetricItem):
            return item.selected.candidate in self.session.reports
        return isinstance(item, PooledItem) and item.candidate in self.session.reports

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The table, after what there is to say of each version."""
        super().pytest_terminal_summary(terminalreporter)
        if not self.session.reports:
            return
        rows = []
        for name, candidate in self.session.candidates.items():
            report, lineage = self.session.reports.get(name), candidate.lineage
            epoch, step = (lineage.epoch, lineage.step) if lineage else (None, None)
            rows.append(Row(name, epoch, step, report.family if report else None))
        terminalreporter.section("evalgate bisect")
        for line in bisect_lines(rows, self.found):
            terminalreporter.line(safe(line, 400))


class _Reader:
    """Keeps what a pytest run that this process started has found."""

    run: BisectRun | None = None

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """The search has ended by now."""
        self.run = session.config.pluginmanager.get_plugin(PLUGIN_NAME)


def bisect(version: Path, suites: Sequence[str]) -> int:
    """Search the epochs of a version, on this terminal.

    Returns:
        0: the version holds; 1: the first that regressed was named; 2: it could not be decided.

    Raises:
        InputError: there is no such version, or none of its epochs.
    """
    root = project_root(Path.cwd())
    models = [part for folder in epochs_of(version) for part in ("--eval-model", os.path.relpath(folder))]
    where = list(suites) or [os.path.relpath(root / load_config(root, {}).suites)]
    reader = _Reader()
    # The command line has imported the plugin before pytest could rewrite its asserts, which matters to nobody.
    quiet = ("--no-header", "-W", "ignore::pytest.PytestAssertRewriteWarning")
    code = pytest.main(["--eval-bisect", *quiet, *where, *models], plugins=[reader])
    found = reader.run.found if reader.run else None
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) or found is None:
        return 2
    return 0 if found.first is None else 1
