"""The pytest plugin: hooks that translate and delegate, and that import nothing where no checkpoint is gated."""

from __future__ import annotations

import sys
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from evalgate.plugin import options

if TYPE_CHECKING:
    from evalgate.plugin.fixtures import Evaluate, Finetune

PLUGIN_NAME = "evalgate-run"
PLAN_NAME = "evalgate-plan"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register every `--eval-` option."""
    options.add(parser)


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config, parser: pytest.Parser) -> Generator[None]:
    """Register the short forms after the conftests: what one of them has taken, only `--eval-…` is ours."""
    yield
    options.add_short_forms(early_config, parser)


@pytest.hookimpl(wrapper=True)
def pytest_cmdline_main(
    config: pytest.Config,
) -> Generator[None, pytest.ExitCode | int | None, pytest.ExitCode | int | None]:
    """Keep what came out for machines, if a file was named for it, and tell the CI."""
    around = _unchanged()
    if config.option.eval_results:
        from evalgate.plugin.results import keep

        around = keep(config)
    if options.is_gated(config):
        from evalgate.plugin.ci import tell

        around = tell(config, around)
    return (yield from around)


def _unchanged() -> Generator[None, pytest.ExitCode | int | None, pytest.ExitCode | int | None]:
    return (yield)


def pytest_configure(config: pytest.Config) -> None:
    """Start a gated run, or a look at what one could see, where it was asked for."""
    if config.option.eval_bisect:
        from evalgate.plugin.bisect import BisectRun

        config.pluginmanager.register(BisectRun(config), PLUGIN_NAME)
    elif options.is_gated(config):
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
def evaluate(request: pytest.FixtureRequest) -> Evaluate:
    """Evaluate a Task and get the Evaluation: rows, means, and a pandas `frame`.

    `evaluate(task)` asks the session's checkpoint; with several the test runs once for each. `evaluate(task, version)`
    asks what `finetune` has made. The answers come from the same queue and cache as the gates'.
    """
    from evalgate.plugin.fixtures import evaluate_for

    return evaluate_for(request)


@pytest.fixture(scope="session")
def finetune(request: pytest.FixtureRequest) -> Finetune:
    """Train a candidate: `finetune("conf/sft.yaml", "lora.r=16")` is the folder of the version that it published.

    The training text is checked against every collected eval set first. The same configuration and data are never
    trained twice, also not in another session or after a crash: then the version that is there is returned at once.
    """
    from evalgate.plugin.fixtures import finetune_for

    return finetune_for(request)
