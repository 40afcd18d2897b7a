"""The pytest plugin: hooks that translate and delegate, and that import nothing where no checkpoint is gated."""

from __future__ import annotations

import sys
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from evalgate.plugin import options

if TYPE_CHECKING:
    from collections.abc import Callable

    from evalgate.evaluation import Evaluation
    from evalgate.task import Task

PLUGIN_NAME = "evalgate-run"
PLAN_NAME = "evalgate-plan"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register every `--eval-` option."""
    options.add(parser)


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config, parser: pytest.Parser) -> Generator[None]:
    """Register `--model` after the conftests: where one of them has taken it, only `--eval-model` is ours."""
    yield
    options.add_short_form(early_config, parser)


def pytest_configure(config: pytest.Config) -> None:
    """Start a gated run, or a look at what one could see, where it was asked for."""
    if options.is_gated(config):
        from evalgate.plugin.run import GatedRun

        config.pluginmanager.register(GatedRun(config), PLUGIN_NAME)
    elif config.option.eval_plan:
        from evalgate.plugin.plan import PlanRun

        config.pluginmanager.register(PlanRun(config), PLAN_NAME)


def pytest_pycollect_makeitem(collector: pytest.Collector, name: str, obj: object) -> pytest.Collector | None:
    """Turn Task objects into tests; a suite that has any has imported `evalgate.task`."""
    if "evalgate.task" not in sys.modules:
        return None
    from evalgate.plugin.items import collect_task

    return collect_task(collector, name, obj)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse to run tasks without a checkpoint; looking at them needs none."""
    if "evalgate.plugin.items" in sys.modules:
        from evalgate.plugin.items import refuse_without_checkpoint

        refuse_without_checkpoint(session)


def pytest_exception_interact(call: pytest.CallInfo[Any], report: pytest.CollectReport) -> None:
    """A mistake in a suite is one line, not a traceback."""
    if "evalgate.errors" in sys.modules:
        from evalgate.plugin.items import shorten_input_error

        shorten_input_error(call, report)


@pytest.fixture
def evaluate(request: pytest.FixtureRequest) -> Callable[[Task], Evaluation]:
    """Evaluate a Task on the session's checkpoint and get the Evaluation: rows, means, and a pandas `frame`.

    With several checkpoints the test runs once for each. The answers come from the same queue and cache as the gates'.
    """
    from evalgate.plugin.items import evaluate_for

    return evaluate_for(request)
