"""What candidates are compared with: accepted evaluations of the session's tasks, and the anchors of their lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from evalgate.evaluation import Evaluation
from evalgate.instrument import Case, Instrument, Judgements
from evalgate.rescore import asked_again, outdated, rescore
from evalgate.samples import read_samples
from evalgate.session.words import Declared
from evalgate.store import Store, anchor_path, baseline_path, read_baseline


class Baselines:
    """The accepted evaluations, each read once.

    Args:
        name: of the product line (`--eval-baseline`), `None` for the only one.
        store: where the anchors' records may be, too.

    Attributes:
        adrift: task id to why nobody can say how far its line has drifted.
    """

    def __init__(self, name: str | None, store: Store) -> None:
        self._name, self._store = name, store
        self._found: dict[str, Evaluation | None] = {}
        self.adrift: dict[str, str] = {}

    def of(self, declared: Declared) -> Evaluation | None:
        """The accepted evaluation of a task, if there is one (RecordError where it is damaged)."""
        if declared.id not in self._found:
            path = baseline_path(declared.suite.parent, declared.id, self._name)
            self._found[declared.id] = read_baseline(path, declared.id)
        return self._found[declared.id]

    def anchor(self, declared: Declared) -> Evaluation | None:
        """The first accepted evaluation of the baseline's line, where that is another one."""
        baseline = self.of(declared)
        accepted = baseline.acceptance if baseline else None
        if baseline is None or accepted is None or accepted.anchor == baseline.digest:
            return None
        path = anchor_path(baseline_path(declared.suite.parent, declared.id, self._name))
        kept = read_baseline(path, declared.id)
        if kept is None or kept.digest != accepted.anchor:
            kept = self._store.by_digest(baseline.task, accepted.anchor)
        if kept is None:
            self.adrift[declared.id] = (
                f"drift from the anchor is not guarded: {path.name} is not in {path.parent.name}/"
            )
        return kept


class Views:
    """Records as the suite's scorers see them now: where one changed, the stored outputs are scored again, once.

    Args:
        judge: who asks judges about stored outputs.
    """

    def __init__(self, judge: Callable[[Sequence[tuple[Instrument, Case]]], Judgements]) -> None:
        self._judge = judge
        self._made: dict[tuple[str, str], Evaluation] = {}
        self._said: dict[tuple[str, str], list[str]] = {}

    def of(self, declared: Declared, record: Evaluation) -> Evaluation:
        """The record itself, where its scorers are still the suite's or its answers are not stored.

        Raises:
            SampleError: scoring again needs the eval data, and it is missing or malformed.
        """
        key = (declared.id, record.digest)
        if key not in self._made:
            self._made[key] = self._view(declared, record)
        return self._made[key]

    def asked(self, declared: Declared, record: Evaluation) -> Iterator[tuple[Instrument, Case]]:
        """What judges are to see of a record, so that they see it in one batch with everything else."""
        if (declared.id, record.digest) not in self._made and outdated(record, declared.task):
            yield from asked_again(record, declared.task, read_samples(declared.task, declared.id, record.look))

    def _view(self, declared: Declared, record: Evaluation) -> Evaluation:
        stale = [
            scorer.name
            for scorer in outdated(record, declared.task)
            if scorer.continuations is None and not (scorer.judge and scorer.judge.pairwise)  # never made again
        ]
        if not stale:
            return record
        known = {metric.name for metric in record.metrics}
        changed = ", ".join(f"{name} {'changed' if name in known else 'is new'}" for name in stale)
        said = self._said.setdefault((declared.id, changed), [])
        name = str(record.checkpoint["name"])
        asked = list(self.asked(declared, record))
        judgements = self._judge(asked) if asked else None
        view = rescore(record, declared.task, read_samples(declared.task, declared.id, record.look), judgements)
        if view is None:
            said.append(f"none of {name}'s stored outputs answers a question as it is asked now")
            return record
        before = {row.id for row in record.errors}
        faults = [row.fault for row in view.errors if row.id not in before]
        failed = f" ({len(faults)} could not be, first {faults[0]})" if faults else ""
        said.append(f"{name}'s stored outputs were scored again{failed}")
        return view

    @property
    def lines(self) -> Iterator[str]:
        """For people: one line per task whose records were not scored by the suite's scorers."""
        for (task, changed), said in self._said.items():
            yield f"{task}: scorer {changed}: {'; '.join(dict.fromkeys(said))}"


def chosen_among(baselines: Iterable[Evaluation]) -> str | None:
    """One line about baselines that were the best of several candidates on the questions they are compared on."""
    sizes: dict[int, list[str]] = {}
    for baseline in baselines:
        if baseline.acceptance and baseline.acceptance.selected_from > 1:
            sizes.setdefault(baseline.acceptance.selected_from, []).append(baseline.task)
    if not sizes:
        return None
    named = "; ".join(f"among {size}: {', '.join(tasks)}" for size, tasks in sorted(sizes.items()))
    return (
        f"baseline chosen {named}; the best of several looks better than it is, so an equal candidate fails more often "
        "than alpha says: measure it again with fresh seeds or new questions, and accept it again"
    )
