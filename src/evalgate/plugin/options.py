"""Every option of the plugin: all start with `--eval-`; `--model`, `--train` and `--train-set` are short forms."""

from __future__ import annotations

from argparse import ArgumentError

import pytest

SHORT_FORMS_TAKEN = pytest.StashKey[set[str]]()
NIGHTLY_ALPHA = 0.01
MODEL_HELP = (
    "checkpoint to gate: a version folder, a Hugging Face folder, a PEFT adapter folder, name@40-hex-revision of a hub "
    "model in the local cache, models:/name@alias of an MLflow registry, or with --eval-engine openai a model's name; "
    "several times: several in one engine"
)


def add(parser: pytest.Parser) -> None:
    """The `--eval-` options."""
    group = parser.getgroup("evalgate", "gates for fine-tuned language models")
    option = group.addoption
    option("--eval-model", action="append", default=[], metavar="CHECKPOINT", help=f"{MODEL_HELP} (short: --model)")
    option(
        "--eval-train",
        action="append",
        default=[],
        metavar="CONFIG",
        help="train a candidate by this configuration first, publish it under runs/ and gate it; the same "
        "configuration and data are never trained twice (short: --train)",
    )
    option(
        "--eval-train-set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change the configuration, such as lora.r=16 (Hydra's override grammar; repeat; short: --train-set)",
    )
    option(
        "--eval-base", metavar="DIR", help="where the base model of an adapter lies (default: what the adapter says)"
    )
    option(
        "--eval-records",
        metavar="DIR|URL",
        help="gate evaluations recorded elsewhere, with neither checkpoint nor engine",
    )
    option("--eval-record-only", action="store_true", help="evaluate and record; compare nothing")
    option(
        "--eval-plan",
        action="store_true",
        help="show what the samples of each blocking metric can see, and run nothing; no checkpoint is looked at",
    )
    option(
        "--eval-bisect",
        action="store_true",
        help="search several --model, given in the order of training, for the first that regressed",
    )
    option("--eval-baseline", metavar="NAME", help="compare with the baselines accepted under this name")
    option("--eval-engine", metavar="NAME", help="vllm (default), transformers, openai (an endpoint), or fake")
    option(
        "--eval-judge",
        metavar="NAME|DIR",
        help="who judges where a metric names no judge: one of [tool.evalgate.judges], or a checkpoint",
    )
    option(
        "--eval-alpha",
        type=float,
        metavar="A",
        help="level of the gate: false alarms per run of two equal models (0.05)",
    )
    option("--eval-inconclusive", choices=("warn", "fail"), help="what too little evidence does to a test (warn)")
    option(
        "--eval-compare-policy",
        choices=("warn", "strict"),
        help="what a baseline made by another engine, version, dtype or device does: named, or refused (warn)",
    )
    option(
        "--eval-seed",
        type=int,
        metavar="N",
        help="measure again: draw with seeds that are independent of every other N's (default: the tasks' own seeds)",
    )
    option(
        "--eval-top-up",
        action="store_true",
        help="where right-or-wrong samples do not decide, draw the task's reserve in steps (tested by e-values)",
    )
    option(
        "--eval-nightly",
        action="store_true",
        help=f"a new candidate every night: level {NIGHTLY_ALPHA}; a regression must show on the task's reserve too",
    )
    option(
        "--eval-baseline-model",
        metavar="DIR",
        help="checkpoint behind the baselines; some prompts are asked again of it, which measures the noise",
    )
    option("--eval-reports", metavar="DIR", help="where model cards are written (reports)")
    option(
        "--eval-ci",
        choices=("auto", "github", "gitlab", "none"),
        help="whose summary, annotations and reports are written (auto: by the environment)",
    )
    option("--eval-results", metavar="FILE", help="write verdicts and numbers there as JSON, for machines")


def add_short_forms(config: pytest.Config, parser: pytest.Parser) -> None:
    """`--model`, `--train` and `--train-set`, unless a conftest or another plugin has them."""
    group = parser.getgroup("evalgate")
    forms = (
        ("--model", {"action": "append", "default": [], "metavar": "CHECKPOINT"}),
        ("--train", {"action": "append", "default": [], "metavar": "CONFIG"}),
        ("--train-set", {"action": "append", "default": [], "metavar": "KEY=VALUE"}),
    )
    for name, how in forms:
        long = f"--eval-{name.removeprefix('--')}"
        try:
            group.addoption(name, dest=long[2:].replace("-", "_"), help=f"short for {long}", **how)
        except (ValueError, ArgumentError):
            config.stash.setdefault(SHORT_FORMS_TAKEN, set()).add(name)


def is_gated(config: pytest.Config) -> bool:
    """Whether this run gates anything."""
    option = config.option
    return not option.eval_plan and bool(option.eval_model or option.eval_train or option.eval_records)


def only_looks(config: pytest.Config) -> bool:
    """Whether tests are shown and none is run."""
    option = config.option
    return bool(option.collectonly or option.setupplan or option.showfixtures or option.show_fixtures_per_test)


def overrides(config: pytest.Config) -> dict[str, object]:
    """What was typed, by the names of the settings in `[tool.evalgate]`; flags win."""
    nightly, top_up = config.option.eval_nightly, config.option.eval_top_up
    given = {
        "base": config.option.eval_base,
        "baseline": config.option.eval_baseline,
        "engine.name": config.option.eval_engine,
        "alpha": NIGHTLY_ALPHA if nightly and config.option.eval_alpha is None else config.option.eval_alpha,
        "reserve": "confirm" if nightly else "top-up" if top_up else None,
        "baseline_model": config.option.eval_baseline_model,
        "judge": config.option.eval_judge,
        "inconclusive": config.option.eval_inconclusive,
        "compare_policy": config.option.eval_compare_policy,
        "seed": config.option.eval_seed,
        "reports": config.option.eval_reports,
        "ci": config.option.eval_ci,
    }
    return {name: value for name, value in given.items() if value is not None}


def refuse_misuse(config: pytest.Config) -> None:
    """Options of other plugins that would break what a gate promises."""
    value = config.getoption
    if (value("eval_model") or value("eval_train")) and value("eval_records"):
        raise pytest.UsageError(
            "--eval-records gates what was recorded: leave out --model and --train, or leave out --eval-records."
        )
    if len(value("eval_train")) > 1:
        raise pytest.UsageError(
            "--train makes one candidate in a run, and it was given twice: train the other in a run of its own, or in "
            "a test with the finetune fixture."
        )
    if value("eval_train_set") and not value("eval_train"):
        raise pytest.UsageError("--train-set changes a training's configuration: name it with --train CONFIG.")
    if value("eval_seed") is not None and value("eval_records"):
        raise pytest.UsageError("--eval-seed draws answers, and records have theirs: leave out one of the two.")
    if value("eval_top_up") and value("eval_nightly"):
        raise pytest.UsageError(
            "--eval-top-up draws the reserve to decide, --eval-nightly keeps it to confirm: leave out one of them."
        )
    if value("numprocesses", None) or value("dist", "no") != "no" or hasattr(config, "workerinput"):
        raise pytest.UsageError(
            "gates do not run under pytest-xdist: evalgate answers all tests in one engine batch, and each worker "
            "would start its own. Leave out -n (or add -n0)."
        )
    if value("reruns", None):
        raise pytest.UsageError(
            "--reruns repeats a gate until it passes, which is no gate: leave it out (or add --reruns 0); a "
            "flaky verdict is what alpha and INCONCLUSIVE are for."
        )
