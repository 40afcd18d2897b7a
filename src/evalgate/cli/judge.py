"""What is done with judges: calibrate, show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evalgate.cli.app import app, console, shown

if TYPE_CHECKING:
    from evalgate.calibration import Report
    from evalgate.instrument import Case, Instrument, Judgement
    from evalgate.stats import Estimate

judge = typer.Typer(
    name="judge",
    help="Measure how far judges agree with people, and show what was measured.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(judge)

Suites = Annotated[str | None, typer.Option("--suites", help="folder of the suites [default: that of the settings]")]


@judge.command()
def calibrate(
    labels: Annotated[
        Path, typer.Argument(help="JSON Lines: id, question, answer, label, and what the judge is shown")
    ],
    metric: Annotated[str, typer.Option("--metric", metavar="SUITE/TASK::METRIC", help="whose judge is measured")],
    suites: Suites = None,
    name: Annotated[
        str | None, typer.Option("--judge", help="a judge of the settings, or a model [default: theirs]")
    ] = None,
) -> None:
    """Let a judge grade answers that people have graded, twice, and keep how far they agree, to be committed.

    Exit codes: 0 the metric may block, 1 it agrees too little (that is kept too), 2 it could not be measured.
    """
    from rich.table import Table

    from evalgate.accept import person
    from evalgate.cache import Cache
    from evalgate.calibrate import calibrate as measure
    from evalgate.calibrate import verdict, write_calibration
    from evalgate.cli.progress import ConsoleProgress
    from evalgate.config import load_config, project_root
    from evalgate.judging import Judges

    root = project_root(Path.cwd())
    config = load_config(root, {"judge": name, "suites": suites}, prefix="--")
    suite, instrument = _declared(root / config.suites, metric)
    state = root / config.state
    with Cache(state / "cache.sqlite") as cache:
        judges = Judges(config.judges, state, cache, ConsoleProgress(console), registry=config.registry_at(root))
        try:
            bound = judges.bound(instrument)

            def ask(cases: Sequence[Case], *, fresh: bool = False) -> Mapping[str, Judgement]:
                found = judges.judge([(bound, case) for case in cases], fresh=fresh, probe=False)
                return {case.id: found.of(bound, case) for case in cases}

            report = measure(
                bound, labels, ask, lambda cases: ask(cases, fresh=True), metric=metric, names=judges.names(bound),
                by=person(root),
            )  # fmt: skip
        finally:
            judges.close()
    path = write_calibration(suite.parent, report)
    may, said = verdict(report, config.judges.kappa)
    table = Table("", "value", "95 %", "n", "", box=None, pad_edge=False)
    for row in _measured(report):
        table.add_row(*row)
    console.print(table)
    _say(said, _style(may))
    _say(f"written to {shown(path)}. Commit it: calibrations are reviewed like code.")
    raise typer.Exit(0 if may else 1)


@judge.command()
def show(suites: Suites = None) -> None:
    """Show the calibrations there are: of which judge, how far it agrees with people, and whether it may block."""
    from evalgate.calibrate import verdict
    from evalgate.calibration import FOLDER, read_reports
    from evalgate.config import load_config, project_root
    from evalgate.digest import short

    root = project_root(Path.cwd())
    config = load_config(root, {"suites": suites}, prefix="--")
    folders = sorted((root / config.suites).rglob(FOLDER))
    reports = [report for folder in folders for report in read_reports(folder).values()]
    if not reports:
        how = "evalgate judge calibrate LABELS --metric SUITE/TASK::METRIC"
        _say(f"no judge is calibrated in {config.suites}/. Measure one: {how}")
    for each in reports:
        may, said = verdict(each, config.judges.kappa)
        _say(f"{each.metric}  {', '.join(each.models) or 'no model'}  judge {short(each.judge)}  {each.at[:10]}")
        _say(f"  {said}", _style(may))


def _style(may: bool) -> str:
    return "bold green" if may else "bold red"


def _declared(suites: Path, metric: str) -> tuple[Path, Instrument]:
    """The file of the suite that declares a metric, and the judge behind it (InputError with those there are)."""
    from difflib import get_close_matches

    from evalgate.errors import InputError
    from evalgate.plugin.metrics import declared_scorers

    judges = {
        name: (declared.suite, scorer.judge)
        for name, (declared, scorer) in declared_scorers([str(suites)]).items()
        if scorer.judge
    }
    if metric in judges:
        return judges[metric]
    near = get_close_matches(metric, judges, n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise InputError(
        f"{shown(suites)} declares no metric {metric!r} with a judge",
        mend=f"{hint}There are {', '.join(sorted(judges)) or 'none'}.",
    )


def _measured(report: Report) -> Iterator[tuple[str, str, str, str, str]]:
    """What was measured, a row each: name, value, interval, n, meaning."""
    from evalgate.text import share

    def row(name: str, found: Estimate, meaning: str) -> tuple[str, str, str, str, str]:
        return name, share(found.value), f"[{share(found.low)}, {share(found.high)}]", str(found.n), meaning

    yield row("kappa", report.kappa, "agreement with people on right or wrong, beyond chance")
    yield row("weighted kappa", report.weighted_kappa, "the same on the scale")
    yield "alpha", share(report.alpha), "", str(report.n), "Krippendorff's, on the scale"
    yield row("true positives", report.true_positive, "of what people call right")
    yield row("true negatives", report.true_negative, "of what they do not")
    yield row("flips", report.flips, "verdicts that changed when it was asked again")
    if report.positions:
        yield row("positions", report.positions, "preferences that did not hang on the order")
    if report.side_error:
        yield row("side error", report.side_error, "how much more it flatters the candidate than the baseline")
    if report.annotators:
        yield row("people: kappa", report.annotators.kappa, "agreement of people with each other")
        yield "people: alpha", share(report.annotators.alpha), "", str(report.annotators.n), "Krippendorff's"


def _say(text: str, style: str = "") -> None:
    from evalgate.report.terminal import safe

    console.print(safe(text, 2000), markup=False, soft_wrap=True, style=style or None)
