"""The versions of a project, with their verdicts and aliases: what `evalgate runs` lists, filters and shows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from evalgate.errors import CheckpointError, ConfigError, RecordError
from evalgate.ledger import Entry, Ledger
from evalgate.preflight.shape import WeightShape, read_shape
from evalgate.promote import Aliases
from evalgate.training.schema import TrainingConfig
from evalgate.version import LINEAGE, Lineage, Parent
from evalgate.versions import read_lineage, version_folders

_LINEAGE = ("name", "kind", "digest", "created", "epoch", "step", "why", "hypothesis", "parent", "base", "code")


@dataclass(frozen=True, slots=True)
class VersionVerdict:
    """The newest verdict in the ledger on a version's content.

    Attributes:
        outcome: of the whole family.
        blocked: whether the policy in force blocked it.
        partial: metrics that did not run.
        tasks: that it covers, by `suite/task`.
        baselines: `suite/task` to the digest of the record that it was compared with.
        failing: metrics whose own verdict is no pass, with their outcomes.
        at: UTC time.
        entry: hash in the ledger.
    """

    outcome: str
    blocked: bool
    partial: tuple[str, ...]
    tasks: tuple[str, ...]
    baselines: Mapping[str, str]
    failing: Mapping[str, str]
    at: str
    entry: str

    @property
    def passed(self) -> bool:
        """Nothing blocked it, and nothing was left out."""
        return not self.blocked and not self.partial

    def __str__(self) -> str:
        word = "blocked" if self.blocked else "partial" if self.partial else "passed"
        return word if self.outcome == "PASS" else f"{word} ({self.outcome})"


@dataclass(frozen=True, slots=True)
class Run:
    """A version and what is known of it elsewhere.

    Attributes:
        folder: where it lies.
        lineage: what it says of itself.
        verdict: the newest one on its content.
        aliases: that point at it.
        shape: of its weights, read from their headers; `None` where they cannot be read.
    """

    folder: Path
    lineage: Lineage
    verdict: VersionVerdict | None
    aliases: tuple[str, ...]
    shape: WeightShape | None

    @property
    def loss(self) -> float | None:
        """Of its last optimizer step."""
        return self.lineage.training.losses[-1] if self.lineage.training and self.lineage.training.losses else None

    def facts(self) -> dict[str, Any]:
        """What `--where` may ask for: the configuration's keys, and what is known of the version itself."""
        made = self.lineage.training
        lineage = asdict(self.lineage)
        return {
            **(made.config if made else {}),
            **{name: lineage[name] for name in _LINEAGE},
            "loss": self.loss,
            "held_out_loss": made.held_out_loss if made else None,
            "seconds": made.seconds if made else None,
            "rank": max(self.shape.ranks.values(), default=None) if self.shape else None,
            "parameters": self.shape.parameters if self.shape else None,
            "aliases": list(self.aliases),
            "verdict": self.verdict.outcome if self.verdict else None,
            "passed": self.verdict is not None and self.verdict.passed,
            "blocked": self.verdict is not None and self.verdict.blocked,
        }

    def as_json(self) -> dict[str, Any]:
        """For machines: the lineage as it stands in its file, and what is known elsewhere."""
        return {
            **self.lineage.as_json(),
            "folder": str(self.folder),
            "verdict": {**asdict(self.verdict), "passed": self.verdict.passed} if self.verdict else None,
            "aliases": list(self.aliases),
            "lora_ranks": dict(self.shape.ranks) if self.shape else None,
            "parameters": self.shape.parameters if self.shape else None,
        }


def verdicts(ledger: Ledger) -> dict[str, VersionVerdict]:
    """Content digest to the newest verdict on it (RecordError where the ledger's chain does not hold)."""
    return {e.body["candidate"]: _verdict(e) for e in ledger.entries() if e.kind == "verdict"}


def _verdict(entry: Entry) -> VersionVerdict:
    body = entry.body
    return VersionVerdict(
        outcome=body["outcome"],
        blocked=body.get("blocked", body["outcome"] != "PASS"),
        partial=tuple(body.get("partial", ())),
        tasks=tuple(dict.fromkeys(name.partition("::")[0] for name in body["verdicts"])),
        baselines=body.get("baselines", {}),
        failing={name: outcome for name, outcome in body["verdicts"].items() if outcome != "PASS"},
        at=entry.at,
        entry=entry.hash,
    )


def list_runs(runs: Path, ledger: Ledger) -> tuple[list[Run], list[str]]:
    """Every version, in natural order of the names, and what is wrong with those that cannot be read, one line each."""
    known, aliases = verdicts(ledger), Aliases(runs)
    found: list[Run] = []
    problems = aliases.problems()
    for folder in version_folders(runs):
        try:
            found.append(_run(folder, known, aliases.current()))
        except RecordError as error:
            problems.append(str(error))
    return found, problems


def one_run(text: str, runs: Path, ledger: Ledger) -> Run:
    """The version that a folder, a name or an alias means (ConfigError where there is none, RecordError if damaged)."""
    aliases = Aliases(runs).current()
    for folder in (runs / aliases.get(text, text), Path(text)):
        if (folder / LINEAGE).exists():
            return _run(folder.resolve(), verdicts(ledger), aliases)
    names = [folder.name for folder in version_folders(runs)] + list(aliases)
    near = get_close_matches(text.rsplit("/", 1)[-1], names, 1)
    mend = f"Did you mean {near[0]}?" if near else "evalgate runs lists what is there."
    raise ConfigError(f"{text!a} is no version in {runs.name}/", mend=mend)


def _run(folder: Path, known: Mapping[str, VersionVerdict], aliases: Mapping[str, str]) -> Run:
    lineage = read_lineage(folder)
    try:
        shape = read_shape(folder)
    except CheckpointError:
        shape = None
    pointing = tuple(sorted(alias for alias, version in aliases.items() if version == folder.name))
    return Run(folder, lineage, known.get(lineage.digest), pointing, shape)


COLUMNS = ("name", "parent", "method", "r", "lr", "epochs", "loss", "verdict", "aliases", "why", "created")


def row(run: Run) -> tuple[str, ...]:
    """A version in the table's columns; a dash is what it does not say."""
    lineage = run.lineage
    made = lineage.training.config if lineage.training else {}
    ranks = sorted(set(run.shape.ranks.values())) if run.shape else []
    cells = (
        run.folder.name,
        lineage.parent.name if lineage.parent else None,
        made.get("method", lineage.kind),
        ", ".join(map(str, ranks)),
        f"{rate:g}" if (rate := made.get("optimizer", {}).get("learning_rate")) is not None else None,
        f"{lineage.epoch:g}" if lineage.epoch is not None else None,
        f"{run.loss:.3f}" if run.loss is not None else None,
        str(run.verdict) if run.verdict else "none",
        ", ".join(run.aliases),
        lineage.why,
        lineage.created[:16],
    )
    return tuple(cell or "-" for cell in cells)


def describe(run: Run) -> list[str]:
    """Everything that is known of one version, a line each."""
    lineage, made = run.lineage, run.lineage.training
    facts: dict[str, Any] = {
        "version": f"{run.folder.name} {lineage.digest}",
        "kind": lineage.kind,
        "created": f"{lineage.created} by evalgate {lineage.evalgate}",
        "parent": f"{lineage.parent.name} ({lineage.parent.path}) {lineage.parent.digest}" if lineage.parent else None,
        "base": " ".join(lineage.base.values()) if lineage.base else None,
        "aliases": ", ".join(run.aliases) or None,
        "verdict": f"{run.verdict} at {run.verdict.at}, ledger entry {run.verdict.entry}" if run.verdict else "none",
        "why": lineage.why or None,
        "hypothesis": lineage.hypothesis or None,
        "command": lineage.command or None,
        "code": json.dumps(dict(lineage.code)) if lineage.code else None,
        "environment": json.dumps(dict(lineage.environment), sort_keys=True) if lineage.environment else None,
        "progress": f"epoch {lineage.epoch:g}, step {lineage.step}" if lineage.epoch is not None else None,
    }
    if run.shape:
        facts["parameters"] = f"{run.shape.parameters:,} in {len(run.shape.tensors)} tensors"
        targets = "  ".join(f"{kind} {', '.join(map(str, ranks))}" for kind, ranks in run.shape.targets.items())
        facts["LoRA ranks"] = targets or None
    if made:
        held_out = f", held out {made.held_out_loss:.4f}" if made.held_out_loss is not None else ""
        facts |= {
            "loss": f"{run.loss:.4f} after {len(made.losses)} steps{held_out}" if run.loss is not None else None,
            "seconds": f"{made.seconds:.1f}",
            "config": f"{made.config_digest} of {made.config_file}, {' '.join(made.overrides) or 'nothing overridden'}",
            "data": f"{made.data_digest} of " + ", ".join(f"{f.path} ({f.kept} of {f.rows} rows)" for f in made.data),
            "leaked": json.dumps({task: len(ids) for task, ids in made.leaked.items()}) if made.leaked else None,
            "trackers": json.dumps(dict(made.trackers)) if made.trackers else None,
            "settings": json.dumps(dict(made.config)),
        }
    return [f"{name:12} {value}" for name, value in facts.items() if value is not None]


class _Missing:
    """What a version does not say: equal to nothing, above and below nothing, and false."""

    def __bool__(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return other is None

    def __hash__(self) -> int:
        return 0

    def _never(self, other: object) -> bool:
        return False

    __lt__ = __le__ = __gt__ = __ge__ = __contains__ = _never


_MISSING = _Missing()
_ALWAYS = {
    **dict.fromkeys(_LINEAGE),
    **dict.fromkeys(("loss", "held_out_loss", "seconds", "rank", "parameters", "aliases")),
    **dict.fromkeys(("verdict", "passed", "blocked")),
    "parent": {each.name: None for each in fields(Parent)},
    "base": dict.fromkeys(("digest", "name", "path")),
    "code": dict.fromkeys(("commit", "dirty", "diff")),
}
"""Names that a condition may use although no version has them yet."""


def where(runs: Sequence[Run], expression: str) -> list[Run]:
    """Those for which an expression holds, such as `lora.r==8 and passed`.

    Args:
        runs: to choose from.
        expression: of Jinja2, over `Run.facts`; what a version does not say compares as false.

    Raises:
        ConfigError: no expression, or a name that nothing has (with the nearest one), in one line.
    """
    from jinja2 import TemplateError
    from jinja2.runtime import StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    facts = [run.facts() for run in runs]
    known = _paths([TrainingConfig().as_json(), _ALWAYS, *facts])
    environment = SandboxedEnvironment(undefined=StrictUndefined)
    try:
        _require_known(environment.parse("{{ (" + expression + "\n) }}"), known)
        holds = environment.compile_expression(expression, undefined_to_none=False)
        return [run for run, fact in zip(runs, facts, strict=True) if holds(**_complete(fact, known))]
    except (TemplateError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        mend = 'Write it like --where "lora.r==8 and passed".'
        raise ConfigError(f"{expression[:80]!a} is no condition: {said}", where="--where", mend=mend) from error


def _paths(facts: Iterable[Mapping[str, Any]]) -> dict[str, bool]:
    """Dotted name to whether it has more below it."""
    found: dict[str, bool] = {}
    for fact in facts:
        for path, value in _flat(fact):
            found[path] = found.get(path, False) or isinstance(value, Mapping)
    return found


def _flat(value: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, below in value.items():
        yield above + key, below
        if isinstance(below, Mapping):
            yield from _flat(below, f"{above}{key}.")


def _complete(fact: Mapping[str, Any], known: Mapping[str, bool]) -> dict[str, Any]:
    """Every known name, with `_MISSING` for what this version does not say."""
    complete: dict[str, Any] = {}
    flat = dict(_flat(fact))
    for path, deeper in known.items():
        *above, key = path.split(".")
        place = complete
        for name in above:
            place = place.setdefault(name, {})
        value = flat.get(path)
        if deeper:
            place.setdefault(key, {})
        else:
            place[key] = _MISSING if value is None else value
    return complete


def _require_known(tree: Any, known: Mapping[str, bool]) -> None:
    """Refuse a name that no version and no configuration has."""
    from jinja2 import nodes

    def path_of(node: Any) -> str | None:
        if isinstance(node, nodes.Name):
            return node.name
        if isinstance(node, nodes.Getattr) and (above := path_of(node.node)) and known.get(above):
            return f"{above}.{node.attr}"
        return None

    asked = (path_of(node) for node in tree.find_all((nodes.Name, nodes.Getattr)))
    for path in asked:
        if path and path not in known:
            near = get_close_matches(path, known, 1) or [k for k in known if re.split(r"\.", k)[-1] == path]
            mend = f"Did you mean {near[0]}?" if near else "evalgate runs NAME shows what there is."
            raise ConfigError(f"nothing is called {path!a}", where="--where", mend=mend)
