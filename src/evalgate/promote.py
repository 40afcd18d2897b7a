"""Aliases of versions: a journal of moves is the truth, a link beside the versions what people and `--model` follow."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evalgate.errors import ConfigError, RecordError
from evalgate.ledger import Entry, Ledger
from evalgate.text import listed
from evalgate.version import Lineage
from evalgate.versions import ALIASES, check_alias, linked, point, read_lineage, verify

if TYPE_CHECKING:
    from evalgate.runs import VersionVerdict
    from evalgate.store import Header


@dataclass(frozen=True, slots=True)
class Move:
    """What an alias was moved from and to.

    Attributes:
        alias: such as `champion`.
        version: name of the version that it points at now.
        folder: of that version.
        lineage: of that version.
        previous: name of the version before, `None` where the alias is new.
        moved: `False` where it pointed there already.
        forced: without a verdict that passes.
        why: it was forced or moved.
    """

    alias: str
    version: str
    folder: Path
    lineage: Lineage
    previous: str | None
    moved: bool = True
    forced: bool = False
    why: str = ""


class Aliases:
    """The aliases of a folder of versions, as the journal says.

    Every alias is a stack: promoting puts a version on it, rolling back takes one off. So a second rollback goes one
    version further back, and never forth.
    """

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self.journal = Ledger(runs / ALIASES)

    def stacks(self) -> dict[str, list[Mapping[str, str]]]:
        """Alias to the moves that are in force, the newest last (RecordError where the journal is damaged)."""
        return stacks(self.journal.entries())

    def current(self) -> dict[str, str]:
        """Alias to the version that it points at."""
        return {alias: moves[-1]["version"] for alias, moves in self.stacks().items()}

    def problems(self) -> list[str]:
        """Links that disagree with the journal, one line each; the next promotion or rollback puts them right."""
        there = linked(self.runs)
        return [
            f"{self.runs / alias}: leads to {there.get(alias)!a}, but the journal says {version!a}. "
            f"Run: evalgate promote {self.runs.name}/{version} --as {alias}"
            for alias, version in self.current().items()
            if there.get(alias) != version
        ]

    def mend(self) -> None:
        """Set every link as the journal says."""
        there = linked(self.runs)
        for alias, version in self.current().items():
            if there.get(alias) != version:
                point(self.runs, alias, version)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One mover at a time: reading where an alias stands and moving it is one step."""
        handle = os.open(self.runs / ".aliases.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def stacks(entries: Iterable[Entry]) -> dict[str, list[Mapping[str, str]]]:
    """What a journal's entries amount to, see `Aliases` (RecordError where they are no moves)."""
    found: dict[str, list[Mapping[str, str]]] = {}
    for entry in entries:
        try:
            alias, _, _ = (str(entry.body[name]) for name in ("alias", "version", "digest"))
            moves = found.setdefault(alias, [])
            moves.append(entry.body) if entry.kind == "promote" else moves.pop()
        except (KeyError, IndexError) as error:
            raise RecordError(
                f"entry {entry.n} is no move of an alias", where=ALIASES, mend="Restore the file."
            ) from error
    return found


def promote(
    folder: Path,
    alias: str,
    *,
    ledger: Ledger,
    verdict: VersionVerdict | None,
    tasks: Mapping[str, Header] | None = None,
    force: bool = False,
    why: str = "",
) -> Move:
    """Let an alias point at a version whose newest verdict passes.

    Args:
        folder: of the version.
        alias: that moves.
        ledger: of the project, which gets an entry too.
        verdict: the newest one on the version's content.
        tasks: that the verdict must cover: `suite/task` of what has an accepted baseline, with that baseline.
        force: without a verdict that passes.
        why: it is promoted; needed where it is forced.

    Raises:
        ConfigError: no version, no name for an alias, or forced without a reason.
        RecordError: the verdict is missing, partial, on other baselines, or blocks it; its files were changed; the disk
            refused.
    """
    folder = folder.resolve()
    runs = folder.parent
    check_alias(alias, runs)
    if force and not why.strip():
        raise ConfigError("--force needs a reason", where="--why", mend='Say it: --force --why "…"')
    lineage = _intact(folder)
    aliases = Aliases(runs)
    with aliases.locked():
        moves = aliases.stacks().get(alias, [])
        previous = moves[-1]["version"] if moves else None
        if moves and (previous, moves[-1]["digest"]) == (folder.name, lineage.digest):
            aliases.mend()
            return Move(alias, folder.name, folder, lineage, previous, moved=False)
        missing = _missing(verdict, tasks or {}, lineage.digest, f"{runs.name}/{folder.name}")
        if missing and not force:
            raise missing
        body = {
            "alias": alias,
            "version": folder.name,
            "digest": lineage.digest,
            "previous": previous,
            "verdict": verdict.entry if verdict else None,
            "forced": bool(missing),
            "why": why,
        }
        aliases.journal.append("promote", body)
        ledger.append("promote", body)
        aliases.mend()
    return Move(alias, folder.name, folder, lineage, previous, forced=bool(missing), why=why)


def rollback(alias: str, *, runs: Path, ledger: Ledger, why: str = "") -> Move:
    """Let an alias point at the version where it stood before its last promotion that is still in force.

    Raises:
        ConfigError: there is no such alias, or nothing before.
        RecordError: the version before is gone or was changed, or the disk refused.
    """
    aliases = Aliases(runs)
    if not runs.is_dir():
        raise ConfigError(f"there is no folder {runs.name}/", mend="Publish a version first.")
    with aliases.locked():
        standing = aliases.stacks()
        moves = standing.get(alias, [])
        if not moves:
            names = ", ".join(name for name, each in standing.items() if each) or "none yet"
            raise ConfigError(f"there is no alias {alias!a}; there are: {names}", mend="evalgate promote makes one.")
        if len(moves) < 2:
            raise ConfigError(
                f"{alias} points at {moves[-1]['version']}, and at nothing before",
                mend=f"Point it at another version: evalgate promote {runs.name}/… --as {alias}",
            )
        here, back = moves[-1], moves[-2]
        folder = runs / back["version"]
        lineage = _intact(folder)
        if lineage.digest != back["digest"]:
            raise RecordError(
                "is another version than the one that was promoted under this name",
                where=str(folder),
                mend="Restore it, or promote another version.",
            )
        body = {
            "alias": alias,
            "version": back["version"],
            "digest": back["digest"],
            "previous": here["version"],
            "why": why,
        }
        aliases.journal.append("rollback", body)
        ledger.append("rollback", body)
        aliases.mend()
    return Move(alias, back["version"], folder, lineage, here["version"], why=why)


def _intact(folder: Path) -> Lineage:
    """The lineage of a version of which every byte is as it was published (RecordError)."""
    lineage = read_lineage(folder)
    if problems := verify(folder):
        raise RecordError(
            f"cannot be promoted: {problems[0]}",
            where=folder.name,
            mend="evalgate verify lists everything.",
        )
    return lineage


def _missing(
    verdict: VersionVerdict | None, tasks: Mapping[str, Header], digest: str, version: str
) -> RecordError | None:
    """What a version lacks for a promotion, with the command that gets it; `None` where its verdict passes."""
    again = f"pytest evalsuites/ --model {version}"
    force = '; to promote it all the same: --force --why "…"'
    if verdict is None:
        return RecordError("has no recorded verdict", where=version, mend=f"Run: {again}{force}")
    if verdict.blocked:
        named = listed([f"{name} {outcome}" for name, outcome in verdict.failing.items()])
        mends = {"NO BASELINE": f"Accept a baseline, then run: {again}", "ERROR": f"Mend the error, then run: {again}"}
        return RecordError(
            f"its newest verdict is {verdict.outcome}{f' ({named})' if named else ''}",
            where=version,
            mend=f"{mends.get(verdict.outcome, 'Mend the model and train again')}{force}",
        )
    named_there = {name.partition("::")[0] for name in verdict.partial}
    left_out = [*verdict.partial, *sorted(set(tasks) - set(verdict.tasks) - named_there)]
    if left_out:
        return RecordError(
            f"its newest verdict is PARTIAL: {listed(left_out)} did not run",
            where=version,
            mend=f"Run all of them: {again}{force}",
        )
    # A version that was accepted as the baseline since is not held against itself.
    others = {task: header for task, header in tasks.items() if header.checkpoint["digest"] != digest}
    stale = sorted(task for task, header in others.items() if verdict.baselines.get(task) != header.digest)
    if stale:
        return RecordError(
            f"its newest verdict is not on the baseline that is accepted now: {listed(stale)}",
            where=version,
            mend=f"Run: {again}{force}",
        )
    return None
