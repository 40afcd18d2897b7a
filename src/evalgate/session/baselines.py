"""What candidates are compared with: accepted evaluations of the session's tasks, and the anchors of their lines."""

from __future__ import annotations

from evalgate.evaluation import Evaluation
from evalgate.session.words import Declared
from evalgate.store import Store, baseline_path, read_baseline


class Baselines:
    """The accepted evaluations, each read once.

    Args:
        name: of the product line (`--eval-baseline`), `None` for the only one.
        store: where the anchors' records may be.
    """

    def __init__(self, name: str | None, store: Store) -> None:
        self._name, self._store = name, store
        self._found: dict[str, Evaluation | None] = {}

    def of(self, declared: Declared) -> Evaluation | None:
        """The accepted evaluation of a task, if there is one (RecordError where it is damaged)."""
        if declared.id not in self._found:
            path = baseline_path(declared.suite.parent, declared.id, self._name)
            self._found[declared.id] = read_baseline(path, declared.id)
        return self._found[declared.id]

    def anchor(self, declared: Declared) -> Evaluation | None:
        """The first accepted evaluation of the baseline's line, where there is another and its record is here."""
        baseline = self.of(declared)
        accepted = baseline.acceptance if baseline else None
        if baseline is None or accepted is None or accepted.anchor == baseline.digest:
            return None
        return self._store.by_digest(baseline.task, accepted.anchor)
