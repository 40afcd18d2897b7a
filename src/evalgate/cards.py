"""Cards: what a run decided is kept once, and rendered from there, in the run itself and whenever somebody asks again.

`keep` puts the document into `.evalgate/cards/` and its digest into the ledger's verdict, `load` makes a `CardData` of
document, records and the past, `publish` writes a folder per version and the page of all versions.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from evalgate.digest import digest, short
from evalgate.errors import InputError, RecordError
from evalgate.evaluation import Metric, Row
from evalgate.ledger import Entry, Ledger
from evalgate.promote import Aliases
from evalgate.report import CardData, Past, PastMetric
from evalgate.report.document import as_document, evaluations_of, from_document, pretty
from evalgate.report.past.history import measure_of
from evalgate.store import Header, Store, file_name, write_atomically
from evalgate.versions import read_lineage

PAGE = "index.html"
COMMENT, CI = "comment.md", "ci"  # what a session's CI gets lies beside the page of all versions
METRICS, SAMPLES = "metrics.csv", "samples.csv"
AGAIN = "Run the gate again: finished answers are in the cache."
DAMAGED = "Restore it from a backup, or delete it: its verdict stays in the ledger. To have it back, gate that version."
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

    def newest(self, text: str) -> Entry | None:
        """The newest verdict with a card on the checkpoint of that name, or of the digest that begins so."""
        for entry in self._ledger.newest("verdict"):
            of, name = entry.body["candidate"], entry.body["name"]
            if "card" in entry.body and (text == name or (len(text) >= 6 and text in (of, short(of, len(text))))):
                return entry
        return None

    def history(self) -> list[Past]:
        """The newest verdict on every version, the oldest first (RecordError where ledger or documents are damaged)."""
        aliases = self._aliases()  # of today, so no card has them: it is the same tomorrow
        return [replace(past, aliases=aliases.get(past.digest, ())) for past in self._past(None)]

    def _past(self, before: int | None) -> list[Past]:
        newest: dict[str, Entry] = {}
        for entry in self._ledger.newest("verdict"):
            if len(newest) < REMEMBERED and (before is None or entry.n < before):
                newest.setdefault(entry.body["candidate"], entry)
        return [self._told(entry) for entry in reversed(newest.values())]

    def _told(self, entry: Entry) -> Past:
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
            raise RecordError(f"is no card's document: {exc}", where=str(path), mend=DAMAGED) from exc
        if not intact:
            raise RecordError("is not what was kept: its digest differs", where=str(path), mend=DAMAGED)
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
        """How many files of cards were checked, and what is damaged or gone, one line each."""
        checks: list[tuple[Callable[..., object], Any]] = [(self._sides.read, path) for path in self._sides.paths()]
        with suppress(RecordError):  # a damaged ledger is for the ledger to tell
            named = (e.body["card"] for e in self._ledger.newest("verdict") if "card" in e.body)
            checks += [(self._document, name) for name in named]
        problems = []
        for read, what in checks:
            try:
                read(what)
            except FileNotFoundError:
                problems.append(f"{self._path(what)}: is gone, and the ledger names it")
            except RecordError as error:
                problems.append(str(error))
        return len(checks), problems


def _metrics(document: Mapping[str, Any]) -> Iterator[tuple[str, PastMetric]]:
    for verdict in document["family"]["verdicts"]:
        compared, spec = verdict["comparison"], verdict["spec"]
        metric = Metric(**(compared["metric"] if compared else spec)) if compared or spec else None
        header = document["evaluations"].get(verdict["task"], {}).get("candidate")
        numbers: dict[str, Any] = {"value": _finite(verdict["value"])}
        if compared:
            test = compared["test"]
            numbers = {"value": _finite(compared["candidate"]), "baseline": _finite(compared["baseline"])}
            numbers |= {"low": _finite(test["low"]), "high": _finite(test["high"]), "n": test["n"]}
        if metric and header:
            numbers |= {"higher_is_better": metric.higher_is_better, "range": metric.range}
            numbers["measure"] = measure_of(header["identity"], metric.name)
        name = f"{verdict['task']}::{verdict['metric']}"
        yield name, PastMetric(outcome=verdict["outcome"], blocking=verdict["blocking"], **numbers)


def _finite(number: float | str | None) -> float | None:
    """A document's number, where a trend can show it: those that JSON does not have stand there as texts."""
    return None if isinstance(number, str) else number


def _outcomes(body: Mapping[str, Any]) -> Iterator[tuple[str, PastMetric]]:
    for name, outcome in body["verdicts"].items():
        yield name, PastMetric(outcome=outcome, blocking=False)


def folder_name(version: str) -> str:
    """Of a version's card: whatever the version is called, no file of the reports themselves stands in its place."""
    name = file_name(version)
    return f"%{ord(name[0]):02X}{name[1:]}" if name in (PAGE, COMMENT, CI) else name


def publish(data: CardData, reports: Path) -> Path:
    """Write a card in every form into its folder below the reports, and return the page.

    Raises:
        RecordError: the disk refused.
        ConfigError: what people state about the model is wrong.
    """
    from evalgate.report import render_card
    from evalgate.report.hub import README, eval_results, readme
    from evalgate.report.tables import samples_jsonl

    folder = reports / folder_name(data.name)
    forms = {
        "samples.jsonl": b"".join(samples_jsonl(data)),
        "card.json": pretty(as_document(data)),
        README: readme(data).encode(),
        **{name: text.encode() for name, text in eval_results(data).items()},
        PAGE: render_card(data).encode(),
    }
    _clear(folder, forms)
    for name, content in forms.items():
        write_atomically(folder / name, content)
    return folder / PAGE


def _clear(folder: Path, forms: Container[str]) -> None:
    """Remove what an earlier verdict left here and this one does not have: it would pass for this one's."""
    try:
        for path in (*folder.glob(".eval_results/*.yaml"), folder / METRICS, folder / SAMPLES):
            if path.relative_to(folder).as_posix() not in forms:
                path.unlink(missing_ok=True)
    except OSError as exc:
        mend = "Remove it, then run the same command again."
        raise RecordError(f"could not be removed: {exc.strerror}", where=str(folder), mend=mend) from exc


def publish_overview(history: Sequence[Past], reports: Path, *, project: str, baselines: Iterable[Header]) -> Path:
    """Write the page of all versions, which leads to their cards, and return it (RecordError)."""
    from evalgate.report.past.overview import render_overview

    page = reports / PAGE
    past = linked(history, reports, baselines)
    generated = max((each.at for each in past), default="")  # of the newest verdict: the same past, the same bytes
    write_atomically(page, render_overview(past, project=project, generated=generated).encode())
    return page


def publish_tables(data: CardData, reports: Path) -> list[Path]:
    """Write metrics and samples for spreadsheets beside the card, and return the files (RecordError)."""
    from evalgate.report.tables import metrics_csv, samples_csv

    folder = reports / folder_name(data.name)
    tables = {folder / METRICS: metrics_csv(data), folder / SAMPLES: samples_csv(data)}
    for path, text in tables.items():
        write_atomically(path, text.encode("utf-8"))
    return list(tables)


def publish_statement(data: CardData, path: Path) -> Path:
    """Write the verdict as an in-toto statement, and return its path (RecordError)."""
    from evalgate.report.statement import statement

    write_atomically(path, json.dumps(statement(data), indent=1).encode() + b"\n")
    return path


def publish_copy(data: CardData, root: Path, target: Path) -> tuple[Path, tuple[str, ...]]:
    """Copy the version into a new folder with its card as README.md: the copy, and what was replaced in it.

    Raises:
        InputError: no folder is known of the checkpoint.
        ConfigError, CheckpointError: it cannot be copied there.
    """
    from evalgate.report.hub import copy_with_card, eval_results, readme

    if data.folder is None or not (root / data.folder).is_dir():
        mend = "Copy a version that lies in a folder."
        raise InputError(f"{data.name} has no folder here", where="--into", mend=mend)
    copied = copy_with_card(root / data.folder, target, readme(data), eval_results(data))
    return copied.path, copied.replaced


def statement_of(root: Path, names: Iterable[str]) -> str | None:
    """What people state about the model in these files, as they are now; `None` where none is left.

    Raises:
        RecordError: one cannot be read.
        ConfigError: one says what it cannot, or two of them different things.
    """
    from evalgate.report.stated import joined

    texts = {}
    for name in names:
        try:
            texts[name] = (root / name).read_text("utf-8")
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as exc:
            raise RecordError(f"cannot be read: {exc}", where=name, mend="Save it as UTF-8.") from exc
    return joined(texts)


def linked(past: Sequence[Past], reports: Path, baselines: Iterable[Header]) -> list[Past]:
    """The past with what is true today: which cards are there, and whose evaluations are the baselines.

    Args:
        past: the oldest first; of several versions of one name the last has the card.
        reports: folder of all cards.
        baselines: headers of the accepted evaluations.
    """
    accepted = Counter(header.checkpoint["digest"] for header in baselines)
    newest = {each.name: each.digest for each in past}
    return [
        replace(
            each,
            baseline=accepted[each.digest],
            card=f"{folder}/{PAGE}"
            if newest[each.name] == each.digest and (reports / (folder := folder_name(each.name)) / PAGE).is_file()
            else None,
        )
        for each in past
    ]


def relative(root: Path, path: Path) -> str:
    """A path as reports show it: relative to the project where it lies inside."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
