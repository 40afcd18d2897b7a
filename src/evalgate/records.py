"""What both shells do with records: find them, compare them, check them, describe them. No model runs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote
from types import TracebackType
from typing import Any, Self

from evalgate.cache import Cache
from evalgate.cards import Cards, linked, publish_overview, statement_of
from evalgate.config import Config, load_config, project_root
from evalgate.digest import short
from evalgate.errors import InputError, RecordError
from evalgate.evaluation import Evaluation
from evalgate.gate import Family, Gate, Member, decide
from evalgate.ledger import Ledger
from evalgate.preflight import read_checkpoint, resolve_model
from evalgate.promote import Aliases
from evalgate.report import CardData, Past
from evalgate.store import Header, Store, baseline_path, read_baseline, read_header, read_records
from evalgate.versions import verify as verify_version
from evalgate.versions import verify_signature, version_folders


class Library:
    """The records, baselines and ledger of a project."""

    def __init__(self, start: Path) -> None:
        self.root = project_root(start)
        self.config = load_config(self.root, {})
        self.state = self.root / self.config.state
        self.store = Store(self.state)
        self.ledger = Ledger(self.state / "ledger.jsonl")
        self.cards = Cards(self.state, self.store, self.ledger, self.root / "runs")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def records(self) -> Iterator[Evaluation]:
        """Every record, by checkpoint and task, oldest first."""
        yield from sorted(
            self.store.all(), key=lambda r: (r.checkpoint["name"], r.task, str(r.provenance.get("created", "")))
        )

    def digest_of(self, text: str) -> str:
        """The checkpoint that a folder, a name or the first digits of a digest mean.

        Raises:
            InputError: none or several records match.
        """
        if Path(text).is_dir():
            base = Path(self.config.base) if self.config.base else None
            cache = Cache(self.state / "cache.sqlite")
            try:
                folder = resolve_model(text, registry=self.config.registry_at(self.root))
                return read_checkpoint(folder, base=base, memo=cache.files).digest
            finally:
                cache.close()
        known: dict[str, str] = {r.checkpoint["digest"]: r.checkpoint["name"] for r in self.store.all()}
        found = [d for d, name in known.items() if text == name or (len(text) >= 6 and short(d, 64).startswith(text))]
        if len(found) == 1:
            return found[0]
        listed = ", ".join(f"{name} ({short(digest, 8)})" for digest, name in known.items()) or "nothing"
        raise InputError(
            f"{text!r} is {'several checkpoints' if found else 'no folder and no recorded one'}; recorded: {listed}",
            mend="Name a folder, or the first digits of a digest.",
        )

    def last_run(self, digest: str) -> tuple[dict[str, Evaluation], tuple[str, ...]]:
        """The newest record of each task of a checkpoint, and the family that its last run was planned with."""
        planned = [e for e in self.ledger.entries() if e.kind == "plan" and digest in e.body["candidates"].values()]
        return self.store.for_checkpoint(digest), tuple(planned[-1].body["family"]) if planned else ()

    def record(self, model: str, task: str) -> Evaluation:
        """The newest record of one task of a checkpoint."""
        records, _ = self.last_run(self.digest_of(model))
        if task not in records:
            raise RecordError(
                f"no record of {task!r} for {model}; recorded: {', '.join(sorted(records)) or 'nothing'}",
                mend="Record it with pytest evalsuites/ --model …",
            )
        return records[task]

    def card(self, model: str) -> CardData:
        """The card of a checkpoint's newest verdict; people's statements are read as they are now.

        Args:
            model: a folder, else a name, of which the newest verdict is meant, or the first digits of a digest.

        Raises:
            InputError: no checkpoint is meant.
            RecordError: it was never gated here, or before cards were kept, or something is damaged or gone.
        """
        entry = None if Path(model).is_dir() else self.cards.newest(model)
        entry = entry or self.cards.newest(self.digest_of(model))
        if entry is None:
            mend = f"Gate it: pytest {self.config.suites}/ --model {quote(model)}"
            raise RecordError(f"no card of {model!r} is kept here", mend=mend)
        data = self.cards.load(entry)
        return replace(data, statement=statement_of(self.root, data.statements))

    def _set_of(self, text: str) -> dict[str, Evaluation]:
        """Task id to evaluation, of a checkpoint or of a folder or file of records."""
        path = Path(text)
        if path.is_file() or (path.is_dir() and not any(path.glob("*config.json"))):
            return {record.task: record for record in read_records(text)}
        return self.last_run(self.digest_of(text))[0]

    def compare(self, candidate: str, baseline: str) -> Family:
        """Two sets of records by the gate's rules; margins and floors are those the candidate was recorded with."""
        after, before = self._set_of(candidate), self._set_of(baseline)
        if not after:
            raise RecordError(f"no records of {candidate}", mend="Record them with pytest evalsuites/ --model …")
        members = []
        for task, evaluation in after.items():
            gates = evaluation.policy.get("gates", {})
            blocking = [m.name for m in evaluation.metrics if gates.get(m.name)] or [evaluation.metrics[0].name]
            members += [
                Member(
                    task=task,
                    metric=metric.name,
                    blocking=metric.name in blocking,
                    gate=Gate(**(gates.get(metric.name) or {})),
                    golden=tuple(evaluation.policy.get("golden", ())),
                    candidate=evaluation,
                    baseline=before.get(task),
                )
                for metric in evaluation.metrics
            ]
        return decide(members, self.config.policy)

    def handle(self, digest: str) -> str:
        """What a person types to mean a recorded checkpoint: its name where that means nothing else, else digits."""
        names: dict[str, set[str]] = {}
        for header in self.store.list():
            names.setdefault(header.checkpoint["name"], set()).add(header.checkpoint["digest"])
        alone = next((name for name, digests in names.items() if digests == {digest}), None)
        return alone if alone and not Path(alone).exists() else short(digest)

    def next_comparison(self, imported: Sequence[Evaluation]) -> list[str]:
        """What to say after an import: the command that compares it, and which runs were not taken for one model."""
        digests: dict[str, str] = {e.checkpoint["digest"]: e.checkpoint["name"] for e in imported}
        said = [
            f"{name} is {count} checkpoints: no log says what its weights were. --name NAME says that its runs are one."
            for name, count in Counter(digests.values()).items()
            if count > 1
        ]
        tasks = {e.task: e.checkpoint["digest"] for e in imported}  # of a task with several runs the last is meant
        others = [
            (header.checkpoint["digest"], tasks[header.task])
            for header in self.store.list()
            if tasks.get(header.task, header.checkpoint["digest"]) != header.checkpoint["digest"]
        ]
        if not others:
            candidate = self.handle(next(reversed(digests)))
            return [*said, f"Import the run to compare it with, then: evalgate compare {candidate} OTHER"]
        baseline, candidate = (self.handle(digest) for digest in others[-1])
        return [*said, f"evalgate compare {quote(candidate)} {quote(baseline)}"]

    def history(self) -> list[Past]:
        """The newest verdict on every version, the oldest first, with the cards that are there."""
        return linked(self.cards.history(), self.root / self.config.reports, self.accepted_tasks().values())

    def publish_overview(self, reports: Path) -> Path:
        """Write the page of all versions into a folder of reports, and return it (RecordError)."""
        accepted = self.accepted_tasks().values()
        return publish_overview(self.cards.history(), reports, project=self.root.name, baselines=accepted)

    def accepted_tasks(self) -> dict[str, Header]:
        """`suite/task` to its accepted baseline of this product: what a full verdict covers and is held against."""
        return accepted_headers(self.root, self.config)

    def verify(self, *, runs: str = "runs", key: Path | None = None) -> tuple[int, list[str], list[str]]:
        """Hash every record, baseline, version and card's document again and follow the ledger's chain.

        Args:
            runs: folder of the versions.
            key: public key (PEM) that must have signed every version.

        Returns:
            How many files were checked, what is wrong, and what else there is to say, a line each.
        """
        problems: list[str] = []
        notes: list[str] = []
        baselines = sorted((self.root / self.config.suites).rglob("baselines/**/*.jsonl"))
        files = [(path, self.store.read) for path in self.store.paths()] + [(path, read_baseline) for path in baselines]
        for path, read in files:
            try:
                read(path)
            except RecordError as error:
                problems.append(str(error))
        versions = version_folders(self.root / runs)
        for folder in versions:
            problems += verify_version(folder)
            if key and (unsigned := verify_signature(folder, key)):
                problems.append(unsigned)
        if versions:
            try:
                problems += Aliases(self.root / runs).problems()
            except RecordError as error:
                problems.append(str(error))
            notes.append(f"{len(versions)} versions in {runs}/{f', signed with {key}' if key else ''}")
        if self.ledger.head is None:
            notes.append("no ledger here: each baseline's header carries its own chain")
        else:
            problems += self.ledger.verify()
            notes.append(f"ledger head {short(self.ledger.head)}")
        cards, damaged = self.cards.problems()
        return len(files) + len(versions) + cards, problems + damaged, notes


def accepted_headers(root: Path, config: Config) -> dict[str, Header]:
    """`suite/task` to the header of its accepted baseline, of the product that the settings name (RecordError)."""
    found = {}
    for path in (root / config.suites).rglob("baselines/**/*.jsonl"):
        header = read_header(path)
        home = next(parent for parent in path.parents if parent.name == "baselines").parent
        if path == baseline_path(home, header.task, config.baseline):
            found[header.task] = header
    return found


def describe(record: Evaluation) -> list[str]:
    """What a record says of itself: everything needed to compare and to repeat it."""
    accepted = record.acceptance
    facts: dict[str, Any] = {
        "task": record.task,
        "record": record.digest,
        "checkpoint": f"{record.checkpoint['name']} {record.checkpoint['digest']}",
        "samples": f"{len(record.rows)} rows, {record.samples}",
        "prompt": record.prompt,
        "sampling": json.dumps({**record.sampling, "seed": record.seed}),
        "environment": json.dumps(dict(record.environment), sort_keys=True),
        "recorded": f"{record.provenance.get('created')} by {record.provenance.get('command')}",
        "reserve": f"drawn up to step {record.look} of {record.policy.get('last_look', record.look)}"
        if record.look
        else None,
        "accepted": f"{accepted.at} by {accepted.by}: {accepted.why}" if accepted else None,
        "incomplete": f"{len(record.errors)} rows without an answer or a score" if record.errors else None,
    }
    lines = [f"{name:12} {value}" for name, value in facts.items() if value is not None]
    return lines + [f"{m.name:12} {record.mean(m.name):.4f}  scorer {short(m.digest)}" for m in record.metrics]


def describe_sample(record: Evaluation, sample: str) -> list[str]:
    """One row: prompt, target, outputs, scores."""
    row = next((row for row in record.rows if row.id == sample), None)
    if row is None:
        raise RecordError(f"{record.task} has no sample {sample!r}; the first is {record.rows[0].id!r}")
    return [f"{name:10} {json.dumps(value, ensure_ascii=True)}" for name, value in row.as_json().items()]
