"""The run itself: prepare, answer, score, record, decide, report."""

from __future__ import annotations

import platform
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalgate import __version__
from evalgate.cache import Cache
from evalgate.checkpoint import Checkpoint
from evalgate.config import Config
from evalgate.engines import EngineSettings
from evalgate.errors import EngineError, RecordError
from evalgate.evaluate import Evaluator, Progress, assemble
from evalgate.evaluation import Evaluation
from evalgate.gate import Family, Gate, Member, Verdict, decide
from evalgate.ledger import Ledger
from evalgate.plan import Plan, TaskPlan
from evalgate.power import PowerPlan
from evalgate.rescore import outdated
from evalgate.session.baselines import Baselines, Views, chosen_among
from evalgate.session.candidates import from_models, from_records
from evalgate.session.power import comparisons_entry, power_of
from evalgate.session.words import Candidate, Declared, Selected, declare
from evalgate.store import Store
from evalgate.task import Task

if TYPE_CHECKING:
    from evalgate.scoring import Scorer


@dataclass(frozen=True, slots=True)
class Report:
    """What came out for one candidate."""

    candidate: Candidate
    family: Family
    card: Path


class Session:
    """State of one run: declared tasks, plans, evaluations, verdicts.

    Args:
        config: settings and policy.
        root: of the project: records, reports and suites lie under it.
        models: what `--model` was given, in order.
        records: folder, file or URL of `--eval-records`; then neither checkpoint nor engine is needed.
        record_only: evaluate and record, compare nothing.
        command: what was typed, for records and cards.
        progress: who is told how far the engine is.
    """

    def __init__(
        self,
        config: Config,
        root: Path,
        *,
        models: Sequence[str] = (),
        records: str | None = None,
        record_only: bool = False,
        command: str,
        progress: Progress,
    ) -> None:
        self.config, self.root, self.record_only, self.command = config, root, record_only, command
        self.state = root / config.state
        self.store = Store(self.state)
        self.ledger = Ledger(self.state / "ledger.jsonl")
        self.cache = Cache(self.state / "cache.sqlite")
        self.declared: dict[str, Declared] = {}
        base = Path(config.base) if config.base else None
        self.candidates = from_records(records) if records else from_models(models, base=base, memo=self.cache.files)
        self.evaluations: dict[tuple[str, str], Evaluation] = {}
        self.reports: dict[str, Report] = {}
        self.error: str | None = None
        self.lines: list[str] = []
        self.power: PowerPlan | None = None
        self._plans: dict[tuple[str, str], TaskPlan] = {}
        self.baselines = Baselines(config.baseline, self.store)
        self.views = Views()
        self.evaluator = Evaluator(
            [c.checkpoint for c in self.candidates.values() if c.checkpoint],
            EngineSettings(
                name=config.engine.name,
                options=config.engine.options,
                python=config.engine.python,
                start_timeout=config.engine.start_timeout,
                log_dir=self.state / "logs",
            ),
            self.cache,
            progress,
        )

    # -- before the engine --------------------------------------------------------------------------------------------

    def declare(self, declared: Declared) -> None:
        """A task was collected; it belongs to the family, whatever is deselected later."""
        declare(self.declared, declared)

    def prepare(self, selected: Collection[Selected]) -> None:
        """Everything that can be wrong before an engine is needed: eval data, prompts, baselines, templates."""
        for task_id in dict.fromkeys(s.task for s in selected):
            declared = self.declared[task_id]
            if any(c.checkpoint for c in self.candidates.values()):
                wanted = {s.candidate for s in selected if s.task == task_id}
                self._plan(declared, wanted)
            self.baselines.of(declared)
        if self._plans:
            if not self.record_only:
                self.power = self._power(selected)
            self.ledger.append("plan", self._plan_entry(selected))

    def _plan(self, declared: Declared, wanted: Collection[str]) -> None:
        plans = self.evaluator.plan(declared.id, declared.task, self.config.seed)
        by_digest = {candidate.digest: candidate.name for candidate in self.candidates.values()}
        for plan in plans:
            name = by_digest[plan.checkpoint.digest]
            if name in wanted:
                self._plans[declared.id, name] = plan

    def _power(self, selected: Collection[Selected]) -> PowerPlan:
        """What the gates that will run can see."""
        samples = {plan.id: [question.sample for question in plan.questions] for plan in self._plans.values()}
        return power_of(
            self.declared,
            samples,
            {(s.task, s.metric) for s in selected},
            policy=self.config.policy,
            baselines=self.baselines,
            ledger=self.ledger,
        )

    def _plan_entry(self, selected: Collection[Selected]) -> dict[str, Any]:
        """What is registered before anything is generated: nobody can choose a margin after seeing the result."""
        return {
            "candidates": {c.name: c.digest for c in self.candidates.values()},
            "family": sorted(self.declared),
            "selected": sorted(f"{s.task}::{s.metric}" for s in selected),
            "samples": {plan.id: plan.samples for plan in self._plans.values()},
            "eval_seed": self.config.seed,
            "seeds": {plan.id: plan.seed for plan in self._plans.values()},
            "policy": self._policy_entry(),
            "gates": {id_: _gates(declared.task) for id_, declared in sorted(self.declared.items())},
        }

    def _policy_entry(self) -> dict[str, Any]:
        return asdict(self.config.policy)

    @property
    def requests(self) -> int:
        """Distinct requests planned."""
        return len(Plan(tuple(self._plans.values())).requests)

    # -- the run ------------------------------------------------------------------------------------------------------

    def run(self, selected: Collection[Selected]) -> None:
        """Answer, score, record and decide; an engine failure is kept as the error of every gate."""
        try:
            self._evaluate(self._plans)
        except EngineError as error:
            self.error = str(error)
        if not self.record_only:
            for candidate in self.candidates.values():
                if any(s.candidate == candidate.name for s in selected):
                    self.reports[candidate.name] = self._report(candidate, selected)
            tasks = dict.fromkeys(s.task for s in selected)
            baselines = [found for task in tasks if (found := self.baselines.of(self.declared[task]))]
            self.lines += [*self.views.lines, *filter(None, [chosen_among(baselines)])]

    def _evaluate(self, plans: Mapping[tuple[str, str], TaskPlan]) -> None:
        if not plans:
            return
        answers = self.evaluator.answer(Plan(tuple(plans.values())))
        self.lines.append(
            f"{answers.generated} answers generated in {answers.seconds:.1f} s, {answers.cached} from the cache"
            + ("" if self.evaluator.started else " (no engine started)")
        )
        for (task_id, name), plan in plans.items():
            evaluation = assemble(
                plan,
                answers.completions,
                environment={"engine": self.evaluator.environment(plan.checkpoint), "platform": platform.platform()},
                provenance=self._provenance(self.declared[task_id], plan.checkpoint),
                policy={**self._policy_entry(), "gates": _gates(plan.task), "golden": list(plan.task.golden)},
            )
            self.store.write(evaluation)
            self.evaluations[task_id, name] = evaluation

    def _provenance(self, declared: Declared, checkpoint: Checkpoint) -> dict[str, Any]:
        suites = declared.suite.parent
        return {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": self.command,
            "evalgate": __version__,
            "suite": (suites.relative_to(self.root) if suites.is_relative_to(self.root) else suites).as_posix(),
            "python": platform.python_version(),
            "ledger": self.ledger.head,
        }

    def evaluation(self, declared: Declared, candidate: str) -> Evaluation:
        """The evaluation of a task on a candidate, made now where the session has not needed it yet.

        Raises:
            EngineError: the engine failed.
            RecordError: records are gated, and they hold none of this task.
        """
        key = (declared.id, candidate)
        if self.error:
            raise EngineError(self.error)
        if key in self.evaluations:
            return self.evaluations[key]
        chosen = self.candidates[candidate]
        if chosen.checkpoint is None:
            return self._from_records(chosen, declared)
        self.declare(declared)
        self._plan(declared, {candidate})
        self._evaluate({key: self._plans[key]})
        return self.evaluations[key]

    def _from_records(self, candidate: Candidate, declared: Declared) -> Evaluation:
        record = candidate.recorded.get(declared.id)
        if record is None:
            raise RecordError(
                f"no record of {declared.id} for {candidate.name}; recorded: {', '.join(sorted(candidate.recorded))}",
                mend="Record it where the model is, with pytest --model … --eval-record-only.",
            )
        view = self.views.of(declared, record)
        changed = _changed(view, declared.task)
        if changed:
            raise RecordError(
                f"the record of {declared.id} was made with another {', '.join(changed)} than the suite declares now",
                mend="Record it again with this version of the suite.",
            )
        return view

    # -- verdicts -----------------------------------------------------------------------------------------------------

    def _report(self, candidate: Candidate, selected: Collection[Selected]) -> Report:
        from evalgate.report import CardData, write_card

        chosen = {(s.task, s.metric) for s in selected if s.candidate == candidate.name}
        members = [
            self._member(candidate, declared, scorer, (declared.id, scorer.name) in chosen)
            for declared in self.declared.values()
            for scorer in declared.task.scorers
        ]
        family = decide(members, self.config.policy)
        entry = {
            "candidate": candidate.digest,
            "name": candidate.name,
            "outcome": str(family.outcome),
            "verdicts": {f"{v.task}::{v.metric}": str(v.outcome) for v in family.verdicts},
            "tests": comparisons_entry(family),
            "records": {m.task: m.candidate.record for m in members if m.candidate},
            "seeds": {m.task: m.candidate.seed for m in members if m.candidate},
            "baselines": {m.task: m.baseline.record for m in members if m.baseline},
        }
        head = self.ledger.append("verdict", entry).hash
        statements = sorted({d.suite.parent / "model_card.md" for d in self.declared.values()})
        card = write_card(
            CardData(
                name=candidate.name,
                family=family,
                candidates={m.task: m.candidate for m in members if m.candidate},
                baselines={m.task: m.baseline for m in members if m.baseline},
                statement="\n\n".join(p.read_text("utf-8") for p in statements if p.is_file()) or None,
                ledger_head=head,
                command=self.command,
                generated=datetime.now(UTC).isoformat(timespec="seconds"),
            ),
            self.root / self.config.reports / candidate.name,
        )
        return Report(candidate, family, card)

    def _member(self, candidate: Candidate, declared: Declared, scorer: Scorer, ran: bool) -> Member:
        evaluation, error = None, self.error
        baseline, anchor = (self.baselines.of(declared), self.baselines.anchor(declared)) if ran else (None, None)
        if ran and not error:
            try:
                evaluation = self.evaluation(declared, candidate.name)
            except RecordError as fault:
                error = str(fault)
        return Member(
            task=declared.id,
            metric=scorer.name,
            blocking=scorer in declared.task.blocking,
            gate=scorer.gate or Gate(),
            golden=tuple(declared.task.golden),
            ran=ran,
            candidate=evaluation,
            baseline=self.views.of(declared, baseline) if baseline else None,
            anchor=self.views.of(declared, anchor) if anchor else None,
            error=error if ran else None,
        )

    def verdict(self, selected: Selected) -> Verdict | None:
        """The verdict of one test; `None` where nothing was compared."""
        report = self.reports.get(selected.candidate)
        verdicts = report.family.verdicts if report else ()
        return next((v for v in verdicts if (v.task, v.metric) == (selected.task, selected.metric)), None)

    def fault(self, selected: Selected) -> str | None:
        """Why what was recorded for a test is no evaluation: the engine failed, or samples have no answer."""
        evaluation = self.evaluations.get((selected.task, selected.candidate))
        if self.error or evaluation is None:
            return self.error or "nothing was recorded"
        errors = evaluation.errors
        return f"{len(errors)} of {len(evaluation.rows)} samples have no answer: {errors[0].error}" if errors else None

    def missing_required(self, ran: Iterable[Selected]) -> list[str]:
        """Members that `required` names and that did not run: a skipped gate is never a pass."""
        done = {f"{s.task}::{s.metric}" for s in ran}
        every = {f"{d.id}::{scorer.name}" for d in self.declared.values() for scorer in d.task.blocking}
        required = every if "all" in self.config.required else set(self.config.required)
        return sorted(required - done)

    def close(self) -> None:
        """End children and close the cache."""
        self.evaluator.close()
        self.cache.close()


def _gates(task: Task) -> dict[str, Any]:
    return {
        scorer.name: {"margin": scorer.gate.margin, "floor": scorer.gate.floor} if scorer.gate else None
        for scorer in task.scorers
    }


def _changed(record: Evaluation, task: Task) -> list[str]:
    """What a record was made with that the suite no longer declares."""
    pairs = {
        "prompt": (record.prompt, task.prompt_digest),
        "sampling": (dict(record.sampling), task.asked),
    }
    scorers = ", ".join(scorer.name for scorer in outdated(record, task))
    return [*(name for name, (was, now) in pairs.items() if was != now), *([f"scorer {scorers}"] if scorers else [])]
