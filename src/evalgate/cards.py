"""Cards: what a run decided is kept once, and rendered from there, in the run itself and whenever somebody asks again.

`keep` puts the document into `.evalgate/cards/` and its digest into the ledger's verdict, `load` makes a `CardData` of
document, records and the past, `publish` writes a folder per version and the page of all versions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from evalgate.digest import digest, short
from evalgate.errors import RecordError
from evalgate.evaluation import Metric, Row
from evalgate.ledger import Entry, Ledger
from evalgate.promote import Aliases
from evalgate.report import CardData, Past, PastMetric
from evalgate.report.document import as_document, evaluations_of, from_document, pretty
from evalgate.report.history import measure_of
from evalgate.store import Store, file_name, write_atomically
from evalgate.versions import read_lineage

PAGE = "index.html"
AGAIN = "Run the gate again: finished answers are in the cache."
REMEMBERED = 50  # versions in a history: as many as a chart can show


class Cards:
    """The documents of a project's cards, and what its candidates were compared with.

    Args:
        state: folder of records and ledger.
        store: the records.
        ledger: names the document of each verdict.
        runs: folder of the versions, for their aliases.
    """

    def __init__(self, state: Path, store: Store, ledger: Ledger, runs: Path) -> None:
        self.folder = state / "cards"
        self._store, self._ledger, self._runs = store, ledger, runs
        self._sides = Store(self.folder)

    def keep(self, data: CardData, verdict: Mapping[str, Any]) -> Entry:
        """Keep a card's document and what it was made of, then note the verdict in the ledger with its digest.

        A baseline is kept as it was compared: it may have been scored again, and be another one tomorrow.

        Raises:
            RecordError: the disk refused; then there is no verdict in the ledger.
        """
        for side in (data.candidates, data.baselines):
            for task, evaluation in side.items():
                if self._store.by_digest(task, evaluation.digest) is None:
                    self._sides.write(evaluation)
        document = as_document(replace(data, ledger_head=None, history=()))
        name = digest(document)
        write_atomically(self._path(name), pretty(document))
        return self._ledger.append("verdict", {**verdict, "card": name})

    def load(self, entry: Entry) -> CardData:
        """The card of a verdict, with the versions gated before it (RecordError where something is damaged or gone)."""
        name = entry.body["card"]
        try:
            document = self._document(name)
        except FileNotFoundError:
            raise RecordError("the card's document is gone", where=str(self._path(name)), mend=AGAIN) from None
        before = [past for past in self._past(entry.n) if past.digest != entry.body["candidate"]]
        sides = {found for side in ("candidate", "baseline") for found in evaluations_of(document, side).items()}
        rows = {key: self._rows(*key) for key in sorted(sides)}
        data = from_document(document, lambda *key: rows[key], str(self._path(name)))
        return replace(data, ledger_head=entry.hash, history=before)

    def newest(self, checkpoint: str) -> Entry | None:
        """The newest verdict on a checkpoint that has a card."""
        verdicts = self._ledger.newest("verdict")
        return next((e for e in verdicts if e.body["candidate"] == checkpoint and "card" in e.body), None)

    def history(self) -> list[Past]:
        """The newest verdict on every version, the oldest first (RecordError where ledger or documents are damaged)."""
        return self._past(None)

    def _past(self, before: int | None) -> list[Past]:
        newest: dict[str, Entry] = {}
        for entry in self._ledger.newest("verdict"):
            if len(newest) < REMEMBERED and (before is None or entry.n < before):
                newest.setdefault(entry.body["candidate"], entry)
        aliases = self._aliases()
        return [self._told(entry, aliases.get(of, ())) for of, entry in reversed(newest.items())]

    def _told(self, entry: Entry, aliases: tuple[str, ...]) -> Past:
        """A verdict as the past; one from before cards were kept has outcomes and no numbers."""
        body = entry.body
        try:
            document = self._document(body["card"])
        except (KeyError, FileNotFoundError):
            document = None
        return Past(
            name=body["name"],
            digest=body["candidate"],
            outcome=body["outcome"],
            blocked=body.get("blocked", body["outcome"] != "PASS"),
            reason=document["family"]["reason"] if document else "",
            at=entry.at,
            metrics=dict(_metrics(document) if document else _outcomes(body)),
            partial=tuple(body.get("partial", ())),
            aliases=aliases,
        )

    def _aliases(self) -> dict[str, tuple[str, ...]]:
        """Content digest to the aliases that point at it; what is wrong with them is for `evalgate verify` to say."""
        found: dict[str, list[str]] = {}
        try:
            for alias, version in sorted(Aliases(self._runs).current().items()):
                found.setdefault(read_lineage(self._runs / version).digest, []).append(alias)
        except RecordError:
            return {}
        return {of: tuple(names) for of, names in found.items()}

    def _path(self, name: str) -> Path:
        return self.folder / f"{short(name, 24)}.json"

    def _document(self, name: str) -> dict[str, Any]:
        """A document as it was kept (FileNotFoundError without it, RecordError where it is another now)."""
        path = self._path(name)
        try:
            document: dict[str, Any] = json.loads(path.read_bytes())
            intact = digest(document) == name
        except FileNotFoundError:
            raise
        except (OSError, ValueError, RecursionError) as exc:
            raise RecordError(f"is no card's document: {exc}", where=str(path), mend=AGAIN) from exc
        if not intact:
            raise RecordError("is not what was kept: its digest differs", where=str(path), mend=AGAIN)
        return document

    def _rows(self, task: str, of: str) -> tuple[Row, ...]:
        found = self._store.by_digest(task, of) or self._sides.by_digest(task, of)
        if found is None:
            raise RecordError(
                f"the evaluation {short(of)} of {task} is gone",
                where=str(self._store.records),
                mend=AGAIN,
            )
        return found.rows

    def problems(self) -> tuple[int, list[str]]:
        """How many documents and kept evaluations there are, and what is damaged, one line each."""
        problems, count = [], 0
        for entry in self._ledger.newest("verdict"):
            if "card" in entry.body:
                try:
                    self._document(entry.body["card"])
                    count += 1
                except FileNotFoundError:
                    problems.append(f"{self._path(entry.body['card'])}: is gone; the ledger's entry {entry.n} names it")
                except RecordError as error:
                    problems.append(str(error))
        for path in self._sides.paths():
            try:
                self._sides.read(path)
                count += 1
            except RecordError as error:
                problems.append(str(error))
        return count, problems


def _metrics(document: Mapping[str, Any]) -> Iterator[tuple[str, PastMetric]]:
    for verdict in document["family"]["verdicts"]:
        compared, spec = verdict["comparison"], verdict["spec"]
        metric = Metric(**(compared["metric"] if compared else spec)) if compared or spec else None
        header = document["evaluations"].get(verdict["task"], {}).get("candidate")
        numbers: dict[str, Any] = {"value": verdict["value"]}
        if compared:
            test = compared["test"]
            numbers = {"value": compared["candidate"], "baseline": compared["baseline"], "n": test["n"]}
            numbers |= {end: test[end] if isinstance(test[end], float | int) else None for end in ("low", "high")}
        if metric and header:
            numbers |= {"higher_is_better": metric.higher_is_better, "range": metric.range}
            numbers["measure"] = measure_of(header["identity"], metric.name)
        name = f"{verdict['task']}::{verdict['metric']}"
        yield name, PastMetric(outcome=verdict["outcome"], blocking=verdict["blocking"], **numbers)


def _outcomes(body: Mapping[str, Any]) -> Iterator[tuple[str, PastMetric]]:
    for name, outcome in body["verdicts"].items():
        yield name, PastMetric(outcome=outcome, blocking=False)


def publish(data: CardData, reports: Path) -> Path:
    """Write a card in every form into its folder below the reports, and return the page.

    Raises:
        RecordError: the disk refused.
    """
    from evalgate.report import render_card

    folder = reports / file_name(data.name)
    write_atomically(folder / "card.json", pretty(as_document(data)))
    write_atomically(folder / PAGE, render_card(data).encode())
    return folder / PAGE


def relative(root: Path, path: Path) -> str:
    """A path as reports show it: relative to the project where it lies inside."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
