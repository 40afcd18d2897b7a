"""Tasks as pytest nodes: a collector per task, an item per metric and checkpoint, one pooled item per checkpoint."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from evalgate.errors import EvalgateError, InputError
from evalgate.plugin.options import SHORT_FORMS_TAKEN, only_looks
from evalgate.report.terminal import safe
from evalgate.session import Declared, Selected
from evalgate.task import Task

if TYPE_CHECKING:
    from evalgate.plugin.run import GatedRun
    from evalgate.scoring import Scorer

POOLED = "pooled"
COLLECTED = pytest.StashKey[list[Declared]]()  # also what `-k` and `-m` deselect: a training must not have seen it


def gated_run(config: pytest.Config) -> GatedRun | None:
    """The run in force, if `--model` or `--eval-records` was given."""
    from evalgate.plugin import PLUGIN_NAME

    run: GatedRun | None = config.pluginmanager.get_plugin(PLUGIN_NAME)
    return run


@lru_cache(maxsize=256)
def bindings(path: Path) -> tuple[frozenset[str], dict[str, int]]:
    """What a module binds itself: names that imports brought in, and the line of every assigned name."""
    imported: set[str] = set()
    assigned: dict[str, int] = {}
    for node in _module_level(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            imported |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            assigned.setdefault(node.id, node.lineno)
    return frozenset(imported - set(assigned)), assigned


_SCOPES = (
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda),
    *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
)


def _module_level(module: ast.Module) -> Iterator[ast.AST]:
    """The nodes that run in the module's own scope, also inside if, for, try and with, in the order of the file."""
    todo: list[ast.AST] = [module]
    while todo:
        node = todo.pop()
        yield node
        todo += reversed([child for child in ast.iter_child_nodes(node) if not isinstance(child, _SCOPES)])


def suite_name(path: Path) -> str:
    """`test_arithmetic.py` is the suite `arithmetic`."""
    return path.stem.removeprefix("test_")


def collect_task(collector: pytest.Collector, name: str, obj: object) -> pytest.Collector | None:
    """A node for a module-level Task, or for a list or dict of Tasks, that this module defines itself."""
    found = tasks_of(name, obj)
    if not found or not isinstance(collector, pytest.Module):
        return None
    imported, lines = bindings(collector.path)
    if name in imported or name not in lines:  # an import, or a star import, brought it in
        return None
    return TaskGroup.from_parent(collector, name=name, tasks=found, line=lines[name])


def tasks_of(name: str, obj: object) -> dict[str, Task]:
    """Task names and tasks of a module-level value; empty for anything else."""
    if isinstance(obj, Task):
        return {obj.name or name: obj}
    keyed = enumerate(obj) if isinstance(obj, list | tuple) else obj.items() if isinstance(obj, dict) else ()
    pairs = list(keyed)
    if not pairs or not all(isinstance(task, Task) for _, task in pairs):
        return {}
    return {task.name or f"{name}[{key}]": task for key, task in pairs}


class TaskGroup(pytest.Collector):
    """The tests of one module-level name: one Task, or several in a list or dict."""

    def __init__(self, *, tasks: dict[str, Task], line: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tasks, self.line = tasks, line

    def collect(self) -> Iterator[pytest.Item]:
        """One item per task, checkpoint and scorer."""
        run = gated_run(self.config)
        names = list(run.session.candidates) if run else []
        for task_name, task in self.tasks.items():
            declared = Declared(f"{suite_name(self.path)}/{task_name}", task, self.path)
            if run:
                declared = run.declare(declared)
            self.config.stash.setdefault(COLLECTED, []).append(declared)
            title = "" if len(self.tasks) == 1 and task_name == self.name else f"{task_name}::"
            for candidate in names or [""]:
                for scorer in declared.task.scorers:
                    suffix = f"[{candidate}]" if len(names) > 1 else ""
                    yield MetricItem.from_parent(
                        self,
                        name=safe(f"{title}{scorer.name}{suffix}", 300),
                        declared=declared,
                        scorer=scorer,
                        candidate=candidate,
                        line=self.line,
                    )


class MetricItem(pytest.Item):
    """One metric of one task on one checkpoint: its outcome is the gate's verdict."""

    def __init__(self, *, declared: Declared, scorer: Scorer, candidate: str, line: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.declared, self.scorer, self.line = declared, scorer, line
        self.blocking = scorer in declared.task.blocking
        self.selected = Selected(declared.id, scorer.name, candidate)

    def setup(self) -> None:
        """An engine, judge or record that failed is an error of the test, not a failure of the model."""
        run = gated_run(self.config)
        if run and not only_looks(self.config) and (message := run.error_of(self)):
            pytest.fail(message, pytrace=False)

    def runtest(self) -> None:
        """Pass or fail as the verdict says."""
        run = gated_run(self.config)
        if run and (message := run.failure_of(self)):
            pytest.fail(message, pytrace=False)

    def reportinfo(self) -> tuple[Path, int, str]:
        """The line on which the task is declared, so that annotations point there."""
        return self.path, self.line - 1, self.nodeid.partition("::")[2]


class PooledItem(pytest.Item):
    """The pooled test over all blocking metrics of one checkpoint, at the end of the session."""

    def __init__(self, *, candidate: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.candidate = candidate

    def setup(self) -> None:
        """Without every evaluation there is nothing to pool."""
        run = gated_run(self.config)
        if run and not only_looks(self.config) and (message := run.pooled_error(self)):
            pytest.fail(message, pytrace=False)

    def runtest(self) -> None:
        """Fail where all tasks together got worse, though no single one shows it."""
        run = gated_run(self.config)
        if run and (message := run.pooled_failure(self)):
            pytest.fail(message, pytrace=False)

    def reportinfo(self) -> tuple[Path, None, str]:
        """It belongs to the suites as a whole."""
        return self.path, None, self.nodeid


def refuse_without_checkpoint(session: pytest.Session) -> None:
    """Tasks were collected and there is nothing to run them on."""
    if only_looks(session.config) or session.config.option.eval_plan or gated_run(session.config):
        return
    if any(isinstance(item, MetricItem) for item in session.items):
        taken = "--model" in session.config.stash.get(SHORT_FORMS_TAKEN, set())
        given = "--eval-model runs/v3 (--model belongs to another plugin here)" if taken else "--model runs/v3"
        raise pytest.UsageError(
            f"these suites gate a checkpoint, and none was given: pytest evalsuites/ {given} "
            "(or --train CONFIG, or --eval-records DIR; --collect-only needs none)."
        )


def shorten_input_error(call: pytest.CallInfo[Any], report: pytest.CollectReport | pytest.TestReport) -> None:
    """Show what a person wrote wrong as one line; during collection it also ends the run with exit code 4."""
    error = call.excinfo.value if call.excinfo else None
    if isinstance(error, EvalgateError):
        report.longrepr = safe(str(error), 2_000)
        if isinstance(report, pytest.CollectReport) and isinstance(error, InputError):
            raise pytest.UsageError(report.longrepr)


class usage_errors:  # noqa: N801 - reads as a statement
    """Turns what a person typed or wrote wrong into pytest's usage error: one line, exit code 4."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, InputError):
            raise pytest.UsageError(safe(str(error), 2_000)) from None
