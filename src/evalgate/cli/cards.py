"""`evalgate card`: a recorded verdict's card again, in every form, out of what was kept. Nothing runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from evalgate.cli.app import app, console, shown


@app.command()
def card(
    model: Annotated[
        str | None, typer.Argument(help="a gated checkpoint's folder, name or digest", show_default=False)
    ] = None,
    reports: Annotated[Path | None, typer.Option(help="folder of all cards [default: that of the settings]")] = None,
    csv: Annotated[bool, typer.Option("--csv", help="metrics.csv and samples.csv too, for spreadsheets")] = False,
    into: Annotated[
        Path | None,
        typer.Option(help="copy the version into this new folder, with the card as its README.md, ready for a hub"),
    ] = None,
    attest: Annotated[
        Path | None, typer.Option(help="write the verdict there as an in-toto test-result statement, to be signed")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print card.json, and write nothing")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="print the JSON Schema of card.json")] = False,
) -> None:
    """Write the card of a checkpoint's newest verdict again: HTML, Hugging Face README, JSON. Nothing runs.

    People's statements (model_card.md) are read as they are now.
    """
    from evalgate.cards import publish, publish_copy, publish_statement, publish_tables
    from evalgate.records import Library
    from evalgate.report.document import as_document, pretty
    from evalgate.report.document import schema as card_schema

    if schema:
        print(json.dumps(card_schema(), indent=2))
        return
    if model is None:
        raise typer.BadParameter("name a checkpoint: evalgate card runs/v3", param_hint="MODEL")
    if as_json and (csv or into or attest):
        raise typer.BadParameter("writes nothing: run --csv, --into and --attest without it", param_hint="--json")
    with Library(Path.cwd()) as library:
        data = library.card(model)
        folder = reports or library.root / library.config.reports
        if as_json:
            print(pretty(as_document(data)).decode(), end="")
            return
        written = [publish(data, folder), library.publish_overview(folder)]
        if csv:
            written += publish_tables(data, folder)
        if attest:
            written.append(publish_statement(data, attest))
        if into:
            copy, replaced = publish_copy(data, library.root, into)
            written.append(copy)
            if replaced:
                print(f"evalgate: replaced in the copy: {', '.join(replaced)}", file=sys.stderr)
    for path in written:
        console.print(str(shown(path)), markup=False, soft_wrap=True)
