"""What makes candidates and finds where they went wrong: nightly, bisect, sweep, reproduce."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from evalgate.cli.app import app, console
from evalgate.errors import EvalgateError

Suites = Annotated[
    list[str] | None, typer.Argument(help="suites, folders or test ids [default: all suites]", show_default=False)
]
Config = Annotated[str, typer.Argument(help="a training configuration, such as conf/sft.yaml", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--train-set", metavar="KEY=VALUE", help="change the configuration, such as lora.r=16; repeat"),
]


@contextmanager
def resumable() -> Iterator[None]:
    """Ctrl-C is no verdict: 1 is what a regression ends with."""
    try:
        yield
    except KeyboardInterrupt:
        raise EvalgateError("interrupted", mend="The same command goes on where it was.") from None


@app.command()
def nightly(
    config: Config,
    suites: Suites = None,
    train_set: Overrides = None,
    promote: Annotated[
        str | None, typer.Option(metavar="ALIAS", help="alias that the candidate gets when it passes")
    ] = None,
) -> None:
    """Train tonight's candidate, gate it by the nightly rules, write its card, promote it if it passes.

    Exit code 0: it passed (and was promoted); 1: it regressed; 2: it could not be done. A second start while one is
    running does nothing and says so; after a crash the next start goes on where it was.
    """
    from evalgate.cli.versions import mirror_into_registry
    from evalgate.nightly import nightly as run_night
    from evalgate.plugin.ci import told_of
    from evalgate.records import Library
    from evalgate.report.terminal import safe

    with told_of("evalgate nightly") as tell, resumable():
        night = run_night(config, train_set or (), suites=suites or (), alias=promote)
    found, why = night.candidate, night.results.error
    name = found.folder or found.name if found else config
    said = {0: "passed", 1: "was blocked", 2: f"could not be gated{f': {why}' if why else ''}"}[night.code]
    line = f"nightly: {name} {said}" + (f", card {found.card}" if found and found.card else "")
    if night.move:
        line += f"; {night.move.alias} is {night.move.version}" + ("" if night.move.moved else ", as before")
    elif promote and night.code:
        line += f"; {promote} stays where it is"
    console.print(safe(line, 400), markup=False, soft_wrap=True)
    tell(line)
    if night.move:
        with Library(Path.cwd()) as library:
            mirror_into_registry(library, night.move)
    raise typer.Exit(night.code)


@app.command()
def sweep(config: Annotated[Path, typer.Argument(help="a sweep.yaml", show_default=False)]) -> None:
    """Search for the best candidate that the gate lets through. The same command goes on after a kill.

    Exit code 0: there is one; 1: no candidate passed the gate; 2: a trial could not be scored.
    """
    from evalgate.plugin.metrics import declared_metrics
    from evalgate.report.terminal import safe
    from evalgate.sweep import Done, best, load_sweep, run_sweep, table

    def say(done: Done) -> None:
        said = f"pruned at {done.outcome.value:g}" if done.pruned and done.outcome else done.error
        if done.outcome and not done.pruned:
            said = f"{done.outcome.value:g} {done.outcome.verdict} {done.outcome.version}"
        console.print(
            safe(f"trial {done.number}: {' '.join(done.overrides)}: {said}", 400), markup=False, soft_wrap=True
        )

    plan = load_sweep(config)
    with resumable():
        done = run_sweep(plan, metrics=declared_metrics, say=say, start=Path.cwd())
    for line in table(done, plan):
        console.print(safe(line, 400), markup=False, soft_wrap=True)
    raise typer.Exit(2 if any(each.error for each in done) else 0 if best(done, plan) else 1)


@app.command()
def bisect(
    version: Annotated[Path, typer.Argument(help="a version with its epochs beside it, such as runs/v3")],
    suites: Suites = None,
) -> None:
    """Find the first epoch of a version that regressed: one engine, evaluating no more epochs than needed.

    Exit code 0: the version holds; 1: the first that regressed was named; 2: it could not be decided.
    """
    from evalgate.plugin.bisect import bisect as search

    raise typer.Exit(search(version, suites or ()))


@app.command()
def reproduce(version: Annotated[Path, typer.Argument(help="a version's folder, such as runs/v3")]) -> None:
    """Train a version again from what its evalgate.json says, and compare: bytes, else environment and losses.

    Exit code 0: the same bytes, or another environment and losses that agree; 1: neither; 2: it could not be done.
    """
    from evalgate.cli.progress import ConsoleProgress
    from evalgate.records import Library
    from evalgate.report.terminal import safe
    from evalgate.reproduce import reproduce as train_again

    with Library(Path.cwd()) as library:
        found = train_again(version, root=library.root, state=library.state, progress=ConsoleProgress(console))
    for line in found.lines():
        console.print(safe(line, 400), markup=False, soft_wrap=True)
    raise typer.Exit(0 if found.agrees else 1)
