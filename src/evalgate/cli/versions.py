"""What is done with versions: publish, runs, diff, promote, rollback. No model runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evalgate.cli.app import app, console, shown
from evalgate.text import typed

if TYPE_CHECKING:
    from evalgate.promote import Move
    from evalgate.records import Library

Folder = Annotated[Path, typer.Argument(help="folder of a version, or of a checkpoint that any trainer saved")]
Runs = Annotated[str, typer.Option("--runs", help="folder of the versions, below the project")]
AsJson = Annotated[bool, typer.Option("--json", help="for machines")]
Why = Annotated[str, typer.Option("-m", "--why", help="why; kept in the journal")]


SHOWN = 20  # changes of one kind; two other data sets differ in thousands of rows


@app.command()
def publish(
    folder: Annotated[Path, typer.Argument(help="what a trainer saved: a Hugging Face or PEFT folder in safetensors")],
    name: Annotated[str | None, typer.Option(help="of the version [default: the next free v<number>]")] = None,
    why: Annotated[str, typer.Option("-m", "--why", help="the rationale; kept in the version")] = "",
    hypothesis: Annotated[str, typer.Option(help="what it should improve and may not break")] = "",
    base: Annotated[Path | None, typer.Option(help="folder of an adapter's base")] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="folder whose tokenizer full weights get")] = None,
    sign_key: Annotated[Path | None, typer.Option(help="private key (PEM) to sign the version with")] = None,
    runs: Runs = "runs",
) -> None:
    """Make an immutable version of a folder that some trainer saved."""
    from evalgate.config import project_root
    from evalgate.publishing import publish as publish_folder

    made = publish_folder(
        folder,
        root=project_root(Path.cwd()),
        name=name,
        runs=runs,
        why=why,
        hypothesis=hypothesis,
        base=base,
        tokenizer_from=tokenizer,
        sign_key=sign_key,
        command=typed("evalgate", *sys.argv[1:]),
    )
    _say([f"published {shown(made)}. Gate it: pytest evalsuites/ --model {shown(made)}"])


@app.command(name="runs")
def list_versions(
    name: Annotated[str | None, typer.Argument(help="one version, by name, folder or alias, in full")] = None,
    where: Annotated[str | None, typer.Option(help='condition, such as "lora.r==8 and passed"')] = None,
    as_json: AsJson = False,
    runs: Runs = "runs",
) -> None:
    """List the versions with their newest verdicts and aliases; or show one."""
    from evalgate import runs as versions
    from evalgate.records import Library

    with Library(Path.cwd()) as library:
        folder, ledger = library.root / runs, library.ledger
        problems: list[str] = []
        if name:
            found = [versions.one_run(name, folder, ledger)]
        else:
            found, problems = versions.list_runs(folder, ledger)
    if where:
        found = versions.where(found, where)
    if as_json:
        print(json.dumps([each.as_json() for each in found], indent=2))
    elif name and found:
        _say(line for each in found for line in versions.describe(each))
    elif found:
        _say(_table([versions.COLUMNS, *map(versions.row, found)]))
    elif not problems:
        _say([f"no version {'for which that holds' if where else 'yet'} in {runs}/"])
    for problem in problems:
        print(f"evalgate: {_inert(problem)}", file=sys.stderr)
    raise typer.Exit(2 if problems else 0)


@app.command()
def diff(a: Folder, b: Folder, as_json: AsJson = False) -> None:
    """Compare two versions: settings, data by row, parents, code, environment, LoRA ranks read from the weights.

    Exit codes: 0 the same, 1 different, 2 it could not be said.
    """
    from evalgate.cache import Cache
    from evalgate.diff import diff as compare_folders
    from evalgate.records import Library

    with Library(Path.cwd()) as library, Cache(library.state / "cache.sqlite") as cache:
        base = Path(library.config.base) if library.config.base else None
        found = compare_folders(a, b, base=base, memo=cache.files)
    if as_json:
        print(json.dumps(found.as_json(), indent=2))
    else:
        for title, changes in found.sections.items():
            told = [(f"  {_inert(each.what)}", _value(each.a), _value(each.b)) for each in changes[:SHOWN]]
            _say(_table([(title, a.name, b.name), *told]))
            if len(changes) > SHOWN:
                _say([f"  and {len(changes) - SHOWN:,} more; --json has all"])
        _say(f"not compared: {line}" for line in found.unknown)
        if not found:
            _say(["no difference" if found.identified else "no difference was found, and not everything is known"])
    raise typer.Exit(1 if found else 0 if found.identified else 2)


@app.command()
def promote(
    version: Folder,
    alias: Annotated[str, typer.Option("--as", help="the alias that moves, such as champion")],
    force: Annotated[bool, typer.Option("--force", help="without a verdict that passes; needs --why")] = False,
    why: Why = "",
) -> None:
    """Point an alias at a version whose newest recorded verdict passes. Baselines stay as they are."""
    from evalgate.promote import promote as promote_version
    from evalgate.records import Library
    from evalgate.runs import one_run

    with Library(Path.cwd()) as library:
        run = one_run(str(version), library.root / "runs", library.ledger)
        move = promote_version(
            run.folder,
            alias,
            ledger=library.ledger,
            verdict=run.verdict,
            tasks=library.accepted_tasks(),
            force=force,
            why=why,
        )
    folder = shown(move.folder)
    if not move.moved:
        _say([f"{alias} is {folder} already"])
        mirror_into_registry(library, move)
        return
    _say([f"{alias} is {folder} now{f', it was {move.previous}' if move.previous else ''}"])
    if move.forced:
        _say([f"forced without a verdict that passes: {why}"])
    _say([f'Baselines are reviewed like code. To make it the bar: evalgate accept {folder} -m "why"'])
    mirror_into_registry(library, move)


@app.command()
def rollback(
    alias: Annotated[str, typer.Argument(help="such as champion")],
    why: Why = "",
    runs: Runs = "runs",
) -> None:
    """Point an alias at the version before. A second rollback goes one version further back."""
    from evalgate.promote import rollback as roll_back
    from evalgate.records import Library

    with Library(Path.cwd()) as library:
        move = roll_back(alias, runs=library.root / runs, ledger=library.ledger, why=why)
    _say([f"{alias} is {shown(move.folder)} again, it was {move.previous}"])
    mirror_into_registry(library, move)


def mirror_into_registry(library: Library, move: Move) -> None:
    """Where the settings name a registry, it follows; what goes wrong there comes after the move and undoes nothing."""
    if not library.config.registry:
        return
    from evalgate.trackers import mirror

    uri = library.config.registry_at(library.root)
    artifacts = library.state / "trackers" / "mlflow"
    _say(
        [
            mirror(
                uri,
                library.config.registry,
                move.alias,
                move.folder,
                move.lineage,
                root=library.root,
                artifacts=artifacts,
            )
        ]
    )


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        console.print(_inert(line), markup=False, soft_wrap=True)


def _inert(text: str) -> str:
    from evalgate.report.terminal import safe

    return safe(text, 2000)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns of their own widths; what a file wrote into a cell can neither break a line nor grow without end."""
    from evalgate.report.terminal import safe

    cells = [[safe(cell, 60) if place else safe(cell, 100) for place, cell in enumerate(row)] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def _value(value: Any) -> str:
    """A value of either side, short enough for a column; a dash is what is not there."""
    from evalgate.digest import PREFIX, short

    if isinstance(value, str):
        return f"{PREFIX}{short(value)}…" if value.startswith(PREFIX) else value or '""'
    return "-" if value is None else json.dumps(value, ensure_ascii=False)
