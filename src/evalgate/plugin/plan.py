"""`--eval-plan`: what the samples of the collected tasks can see. No checkpoint, no engine, and nothing is recorded."""

from __future__ import annotations

import io
import sys
from collections.abc import Generator, Sequence
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from evalgate.config import load_config, project_root
from evalgate.ledger import Ledger
from evalgate.plugin import PLAN_NAME, options
from evalgate.plugin.items import MetricItem, usage_errors
from evalgate.power import PowerPlan
from evalgate.report.power import power_table
from evalgate.samples import read_samples
from evalgate.session import Declared
from evalgate.session.baselines import Baselines
from evalgate.session.power import power_of
from evalgate.session.words import declare
from evalgate.store import Store


class PlanRun:
    """Collects, reads the eval data, shows the table, and runs no test."""

    def __init__(self, config: pytest.Config) -> None:
        options.refuse_misuse(config)
        # --lf skips whole files at collection; the family of tests is what was collected before --lf.
        config.pluginmanager.set_blocked("lfplugin-collskip")
        self.config = config
        self.plan: PowerPlan | None = None
        self._declared: dict[str, Declared] = {}

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None]:
        """See the family before `-k`, `-m` and `--lf` deselect from it."""
        with usage_errors():
            for item in items:
                if isinstance(item, MetricItem):
                    declare(self._declared, item.declared, lambda declared: declared.task)
        yield

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Read the eval data of what is selected, and what the project knows of it."""
        selected = [item.selected for item in session.items if isinstance(item, MetricItem)]
        if session.testsfailed or not selected:
            return
        with usage_errors():
            root = project_root(self.config.invocation_params.dir)
            config = load_config(root, options.overrides(self.config))
            state = root / config.state
            tasks = dict.fromkeys(each.task for each in selected)
            self.plan = power_of(
                self._declared,
                {id_: read_samples(self._declared[id_].task, id_) for id_ in tasks},
                {(each.task, each.metric) for each in selected},
                policy=config.policy,
                baselines=Baselines(config.baseline, Store(state)),
                ledger=Ledger(state / "ledger.jsonl"),
            )

    def pytest_report_collectionfinish(self) -> list[str]:
        """The table."""
        return power_table(self.plan) if self.plan and self.plan.lines else []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Nothing runs, also where pytest was told to go on after errors."""
        if session.testsfailed:
            raise session.Interrupted("not every suite could be collected")
        if self.plan is None or not self.plan.lines:
            raise pytest.UsageError("--eval-plan found no blocking metric here: pytest evalsuites/ --eval-plan")
        return True


class _Reader:
    """Keeps the plan of a pytest run that this process started."""

    plan: PowerPlan | None = None

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """The plan is made by now."""
        run = session.config.pluginmanager.get_plugin(PLAN_NAME)
        self.plan = run.plan if run else None


def read_plan(paths: Sequence[str]) -> PowerPlan | None:
    """What `pytest --eval-plan` makes of these paths, by default of the project's suites.

    Where it makes nothing of them, what pytest said is on standard error.
    """
    root = project_root(Path.cwd())
    reader, said = _Reader(), io.StringIO()
    with redirect_stdout(said):
        # The command line has imported the plugin before pytest could rewrite its asserts, which matters to nobody.
        quiet = ("--verbosity=-2", "-W", "ignore::pytest.PytestAssertRewriteWarning")
        where = paths or [str(root / load_config(root, {}).suites)]
        code = pytest.main(["--eval-plan", *quiet, *where], plugins=[reader])
    if code:
        sys.stderr.write(said.getvalue())
        return None
    return reader.plan
