"""A gated run: the hooks that are only there when a checkpoint or records were given."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Generator, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from evalgate.accept import accept_command
from evalgate.cards import relative
from evalgate.config import load_config, project_root
from evalgate.errors import InconclusiveWarning
from evalgate.gate import Outcome, Verdict
from evalgate.plugin import options
from evalgate.plugin.ci import note_in_junit
from evalgate.plugin.items import POOLED, MetricItem, PooledItem, usage_errors
from evalgate.plugin.progress import TerminalProgress
from evalgate.report import summary, terminal
from evalgate.report.power import power_summary, power_table
from evalgate.report.screen import Screen
from evalgate.session import Declared, Selected, Session
from evalgate.text import typed


class GatedRun:
    """Translates between pytest's hooks and the `Session`."""

    session: Session

    def __init__(self, config: pytest.Config) -> None:
        options.refuse_misuse(config)
        config.addinivalue_line("filterwarnings", "default::evalgate.errors.InconclusiveWarning")
        # --lf skips whole files at collection; the family of tests is what was collected before --lf.
        config.pluginmanager.set_blocked("lfplugin-collskip")
        self.config = config
        self.missing: list[str] = []
        self.members: list[MetricItem] = []
        self._ran: set[Selected] = set()

    # -- start and collection -----------------------------------------------------------------------------------------

    def pytest_sessionstart(self) -> None:
        """Preflight: whatever is wrong with a checkpoint or a setting is said before anything else happens."""
        with usage_errors():
            root = project_root(self.config.invocation_params.dir)
            self.session = Session(
                load_config(root, options.overrides(self.config)),
                root,
                models=self.config.option.eval_model,
                train=self._train(),
                records=self.config.option.eval_records,
                record_only=self.config.option.eval_record_only,
                command=typed("pytest", *self.config.invocation_params.args),
                progress=TerminalProgress(self.config),
            )

    def _train(self) -> tuple[str, list[str]] | None:
        """What is to be trained first; looking at the tests trains nothing."""
        option = self.config.option
        return (option.eval_train[0], option.eval_train_set) if option.eval_train else None

    def declare(self, declared: Declared) -> Declared:
        """A task was collected."""
        return self.session.declare(declared)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Tests that use `evaluate` run once per checkpoint."""
        names = list(self.session.candidates)
        if "evaluate" in metafunc.fixturenames and len(names) > 1:
            metafunc.parametrize("evaluate", names, indirect=True)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, session: pytest.Session, items: list[pytest.Item]) -> Generator[None]:
        """See the family before `-k`, `-m` and `--lf` deselect from it; add the pooled tests after."""
        self.members = [item for item in items if isinstance(item, MetricItem)]
        yield
        selected = [item for item in items if isinstance(item, MetricItem) and item.blocking]
        for name in dict.fromkeys(item.selected.candidate for item in selected):
            if sum(item.selected.candidate == name for item in selected) > 1 and not self.session.record_only:
                title = f"{POOLED}[{name}]" if len(self.session.candidates) > 1 else POOLED
                nodeid = f"{self.session.config.suites}::{title}"
                items.append(PooledItem.from_parent(session, name=title, nodeid=nodeid, candidate=name))

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Plan: read data, render prompts, load baselines. What is wrong there ends the run before an engine starts.

        Where nothing will run, nothing is trained either: pytest comes here after a mistyped path and an empty -k, too.
        """
        broken = session.testsfailed and not session.config.option.continue_on_collection_errors
        if session.items and not broken and not options.only_looks(session.config):
            with usage_errors():
                self.session.prepare(self._selected(session.items))

    def pytest_report_collectionfinish(self, items: list[pytest.Item]) -> list[str]:
        """What will be asked of whom; nothing with `-q`."""
        if self.config.option.verbose < 0:
            return []
        names = terminal.safe(", ".join(self.session.candidates))
        tasks = len({each.task for each in self._selected(items)})
        head = f"evalgate: {names} · {tasks} task{'s' * (tasks != 1)}, {self.session.requests} requests"
        return [head, *self._power_lines()]

    def _power_lines(self) -> list[str]:
        """What the gates will be able to see: two lines at most, with `-v` the whole table."""
        plan = self.session.power
        if plan is None or not plan.lines:
            return []
        return power_table(plan) if self.config.option.verbose else power_summary(plan)

    @staticmethod
    def _selected(items: Iterable[pytest.Item]) -> list[Selected]:
        return [item.selected for item in items if isinstance(item, MetricItem)]

    # -- the run ------------------------------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """One batch for all tests before the first of them reports."""
        if not options.only_looks(session.config) and not session.testsfailed:
            with usage_errors():
                self.answer(session)
        return (yield)

    def answer(self, session: pytest.Session) -> None:
        """Evaluate every checkpoint at once, and reach the verdicts."""
        self.session.run(self._selected(session.items))

    def error_of(self, item: MetricItem) -> str | None:
        """Why a test has no verdict."""
        verdict = self._note(item)
        if self.session.record_only:
            return self.session.fault(item.selected)
        if verdict is None:
            return "no verdict was reached"
        return verdict.reason if verdict.outcome is Outcome.ERROR else None

    def _note(self, item: MetricItem) -> Verdict | None:
        """The verdict of a test, noted in its JUnit properties and among those that ran."""
        verdict = self.session.verdict(item.selected)
        self._ran.add(item.selected)
        if verdict and not item.user_properties:
            near_ties = self.session.reports[item.selected.candidate].near_ties
            item.user_properties.append(("evalgate.candidate", terminal.safe(item.selected.candidate)))
            item.user_properties.extend(terminal.junit_properties(verdict, near_ties=near_ties))
        return verdict

    def failure_of(self, item: MetricItem) -> str | None:
        """Why a test fails; `None` lets it pass."""
        verdict = self.session.verdict(item.selected)
        if verdict is None:
            return None
        if verdict.outcome is Outcome.INCONCLUSIVE and self.session.config.policy.inconclusive == "warn":
            warnings.warn_explicit(
                InconclusiveWarning(f"{item.nodeid}: {verdict.reason}"), None, str(item.path), item.line
            )
        if not verdict.fails(self.session.config.policy):
            return None
        report = self.session.reports[item.selected.candidate]
        details = terminal.detail_lines(
            verdict,
            self._relative(report.card),
            candidate=report.data.candidates.get(item.declared.id),
            baseline=report.data.baselines.get(item.declared.id),
            accept=self._accept_command(item.selected.candidate),
        )
        return "\n".join([terminal.status_word(verdict), *details])

    def _accept_command(self, name: str) -> str:
        candidate = self.session.candidates[name]
        path = candidate.checkpoint.path if candidate.checkpoint else None
        return accept_command({"digest": candidate.digest}, self._relative(Path(path)) if path else None)

    def _relative(self, path: Path) -> str:
        return relative(self.config.invocation_params.dir, path)

    def pooled_error(self, item: PooledItem) -> str | None:
        """Why nothing could be pooled."""
        report = self.session.reports.get(item.candidate)
        if report is None:
            return "no verdict was reached"
        return report.family.reason if report.family.outcome is Outcome.ERROR else None

    def pooled_failure(self, item: PooledItem) -> str | None:
        """Why the checkpoint as a whole is blocked though each of its metrics may pass."""
        family = self.session.reports[item.candidate].family
        return family.reason if family.fails_together(self.session.config.policy) else None

    # -- what one sees ------------------------------------------------------------------------------------------------

    def pytest_report_teststatus(
        self, report: pytest.TestReport
    ) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
        """Difference, interval and counts beside PASSED and FAILED."""
        said = dict(getattr(report, "user_properties", ())).get("evalgate.says")
        if report.when != "call" or not said or self.config.option.verbose < 1:
            return None
        passed = report.outcome == "passed"
        return report.outcome, "." if passed else "F", (str(said), {"green": passed, "red": not passed})

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """A gate that `required` names and that did not run is not a pass; nor, where undecided fails, is no gate."""
        if not options.only_looks(session.config):
            tasks = [declared.task for declared in self.session.declared.values()]
            toothless = bool(self.session.reports) and not any(task.blocking for task in tasks)
            if toothless and self.session.config.policy.inconclusive == "fail" and not session.exitstatus:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED
            self.missing = self.session.missing_required(self._ran)
            if self.missing and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
                session.exitstatus = pytest.ExitCode.TESTS_FAILED
            note_in_junit(self.config, self.session)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The verdicts: a table at a terminal, a line each in a log, one line per checkpoint with `-q`."""
        screen = Screen.of(sys.__stdout__, color=terminalreporter.hasmarkup)
        if not terminalreporter.isatty:
            screen = replace(screen, width=None)
        verbose = self.config.option.verbose
        lines: list[str] = []
        if verbose >= 0:
            lines += [screen.text(terminal.safe(line, 800)) for line in self.session.lines]
        for name, report in self.session.reports.items():
            card = self._relative(report.card)
            lines += (
                [screen.text(summary.one_line(report.family, name=name, card=card))]
                if verbose < 0
                else self._summary(name, card, screen)
            )
        if lines and verbose >= 0:
            terminalreporter.section("evalgate")
        for line in lines:
            terminalreporter.line(line)
        if self.missing:
            terminalreporter.line(f"required and not run, so this is no pass: {', '.join(self.missing)}", red=True)

    def _summary(self, name: str, card: str, screen: Screen) -> list[str]:
        report, verbose = self.session.reports[name], self.config.option.verbose > 0
        lines = summary.summary_lines(
            report.family,
            name=name,
            card=card,
            ledger_head=self.session.ledger.head,
            near_ties=report.near_ties,
            screen=screen,
            verbose=verbose,
        )
        evaluated = (e for (_, candidate), e in self.session.evaluations.items() if candidate == name)
        tokens = summary.tokens_line(evaluated) if verbose else None
        return [*lines, *screen.lines(f"  {tokens}")] if tokens else lines

    def pytest_unconfigure(self) -> None:
        """End the engine's child, whatever happened."""
        if hasattr(self, "session"):
            self.session.close()
