"""What is done with recorded evaluations: accept, compare, import, plan, ls, show, verify, doctor. No model runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from evalgate.cli.app import Model, app, console, shown


@app.command()
def accept(
    model: Model,
    why: Annotated[str, typer.Option("-m", "--why", help="why it is good enough; kept in the baseline")],
    task: Annotated[list[str] | None, typer.Option(help="accept only this suite/task; repeat for several")] = None,
    name: Annotated[str | None, typer.Option(help="product line, for --eval-baseline NAME")] = None,
    new_anchor: Annotated[bool, typer.Option(help="start a new line: drift is measured from here on")] = False,
) -> None:
    """Make a checkpoint's recorded evaluations the baseline. Nothing runs again."""
    from evalgate.accept import accept as accept_records
    from evalgate.accept import selection_advice
    from evalgate.records import Library

    with Library(Path.cwd()) as library:
        records, family = library.last_run(library.digest_of(model))
        done = accept_records(
            records,
            why=why,
            root=library.root,
            ledger=library.ledger,
            tasks=task or (),
            family=family,
            name=name or library.config.baseline,
            new_anchor=new_anchor,
        )
        entries, suites = library.ledger.entries(), library.config.suites
    for entry in done:
        means = ", ".join(f"{m.name} {entry.evaluation.mean(m.name):.3f}" for m in entry.evaluation.metrics)
        verb = "unchanged" if entry.previous == entry.evaluation.digest else "replaced" if entry.previous else "new"
        console.print(f"{verb:9} {shown(entry.path)}  {means}", soft_wrap=True)
    if advice := selection_advice(done, model=model, suites=suites, entries=entries):
        console.print(advice, markup=False, soft_wrap=True)
    console.print(f"{len(done)} baselines accepted. Commit them: they are reviewed like code.")


@app.command()
def compare(
    candidate: Model,
    baseline: Annotated[str, typer.Argument(help="the other: folder, name, digest, or a folder of records")],
) -> None:
    """Compare the recorded evaluations of two checkpoints by the gate's rules. Nothing runs again."""
    from evalgate.gate import Outcome
    from evalgate.records import Library
    from evalgate.report.screen import Screen
    from evalgate.report.summary import summary_lines

    with Library(Path.cwd()) as library:
        family = library.compare(candidate, baseline)
    named = f"{candidate} against {baseline}"
    for line in summary_lines(family, name=named, card="evalgate show", screen=Screen.of(sys.stdout)):
        print(line)
    raise typer.Exit(0 if not family.fails(library.config.policy) else 1 if family.outcome is Outcome.REGRESSION else 2)


@app.command(name="import")
def import_results(
    paths: Annotated[list[Path], typer.Argument(help="samples_*.jsonl, .eval and .json logs, or folders of them")],
    name: Annotated[str | None, typer.Option(help="what to call the model: says that these runs are all of it")] = None,
    higher_is_better: Annotated[list[str] | None, typer.Option(help="a metric whose log does not say so")] = None,
    lower_is_better: Annotated[list[str] | None, typer.Option(help="a metric whose log does not say so")] = None,
) -> None:
    """Bring in per-sample results of lm-eval and inspect_ai, to compare them by the gate's rules. Nothing runs."""
    from evalgate.importers import named, read_foreign
    from evalgate.records import Library
    from evalgate.report.terminal import safe

    directions = dict.fromkeys(higher_is_better or (), True) | dict.fromkeys(lower_is_better or (), False)
    with Library(Path.cwd()) as library:
        suite = library.config.suites
        found = [each for path in paths for each in read_foreign(path, directions=directions, suite=suite)]
        if name:
            found = named(found, name)
        for evaluation in found:
            library.store.write(evaluation)
        then = library.next_comparison(found)
    for evaluation in found:
        means = "  ".join(f"{m.name} {evaluation.mean(m.name):.3f}" for m in evaluation.metrics)
        faults = f"  {len(evaluation.errors)} without an answer" if evaluation.errors else ""
        line = f"{evaluation.task}  {evaluation.checkpoint['name']}  n={len(evaluation.rows)}{faults}  {means}"
        left_out = (f"  left out: {m}: {why}" for m, why in evaluation.provenance["left_out"].items())
        for text in (line, *left_out):
            console.print(safe(text, 400), markup=False, soft_wrap=True)
    for text in then:
        console.print(safe(text, 400), markup=False, soft_wrap=True)


@app.command()
def plan(
    paths: Annotated[list[str] | None, typer.Argument(help="suites, folders or test ids [default: all suites]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="for machines")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="exit 1 if a blocking metric is known to be underpowered")
    ] = False,
) -> None:
    """Show what the samples of each blocking metric can see, and how many would do, before a GPU is used.

    No checkpoint is needed and nothing runs. `pytest evalsuites/ --eval-plan` shows the same, with pytest's options.
    """
    import json

    from evalgate.plugin.plan import read_plan
    from evalgate.report.power import power_json, power_table

    found = read_plan(paths or ())
    if found is None:
        raise typer.Exit(2)
    for line in [json.dumps(power_json(found), indent=2)] if as_json else power_table(found):
        console.print(line, markup=False, soft_wrap=True)
    raise typer.Exit(1 if strict and found.underpowered else 0)


@app.command(name="ls")
def list_records() -> None:
    """List what is recorded here: checkpoint, task, samples, means, time."""
    from evalgate.digest import short
    from evalgate.records import Library

    rows = []
    with Library(Path.cwd()) as library:
        for record in library.records():
            scores = "  ".join(f"{m.name} {record.mean(m.name):.3f}" for m in record.metrics)
            digest = short(record.checkpoint["digest"], 8)
            when = str(record.provenance.get("created", ""))[:16]
            rows.append((record.checkpoint["name"], digest, record.task, f"n={len(record.rows)}", when, scores))
    if not rows:
        console.print("nothing is recorded here yet: pytest evalsuites/ --model runs/v3")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        console.print(line.rstrip(), markup=False, soft_wrap=True)


@app.command()
def show(
    model: Model,
    task: Annotated[str, typer.Argument(help="suite/task")],
    sample: Annotated[str | None, typer.Option(help="one sample, with its prompt and outputs")] = None,
) -> None:
    """Show one recorded evaluation: identity, environment, command, means; or one of its samples."""
    from evalgate.records import Library, describe, describe_sample

    with Library(Path.cwd()) as library:
        record = library.record(model, task)
    for line in describe_sample(record, sample) if sample else describe(record):
        console.print(line, markup=False, soft_wrap=True)


@app.command()
def verify(
    runs: Annotated[str, typer.Option(help="folder of the versions, below the project")] = "runs",
    key: Annotated[Path | None, typer.Option(help="public key (PEM) that must have signed every version")] = None,
) -> None:
    """Hash everything again: records, baselines, versions, and the ledger's chain."""
    from evalgate.records import Library

    with Library(Path.cwd()) as library:
        checked, problems, notes = library.verify(runs=runs, key=key)
    for problem in problems:
        print(f"evalgate: {problem}", file=sys.stderr)
    for note in notes:
        console.print(note, markup=False, soft_wrap=True)
    console.print(f"{checked} files checked, {len(problems)} damaged")
    raise typer.Exit(2 if problems else 0)


@app.command()
def doctor() -> None:
    """Say what is installed, what would run, and what is missing, with the command that mends it."""
    from evalgate.doctor import examine

    findings = examine(Path.cwd(), os.environ)
    for finding in findings:
        mark = {"good": "✓", "bad": "✗", "note": "·"}[finding.state]
        console.print(f"{mark} {finding.what}", markup=False, soft_wrap=True)
        if finding.mend:
            console.print(f"  {finding.mend}", markup=False, soft_wrap=True)
    raise typer.Exit(2 if any(finding.state == "bad" for finding in findings) else 0)
