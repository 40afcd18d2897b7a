"""The run itself: prepare, answer, score, record, decide, report."""

from __future__ import annotations

import platform
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from evalgate import __version__
from evalgate.asking import Progress, settings_of
from evalgate.cache import Cache
from evalgate.cards import Cards, relative, statement_of
from evalgate.checkpoint import Checkpoint
from evalgate.config import Config
from evalgate.errors import ConfigError, EngineError, RecordError, TrainingError
from evalgate.evaluate import Evaluator, assemble
from evalgate.evaluation import Evaluation
from evalgate.gate import Verdict, decide
from evalgate.judging import Judges
from evalgate.ledger import Ledger
from evalgate.noise import NoiseFloor, canary, measure
from evalgate.plan import Plan, TaskPlan
from evalgate.power import PowerPlan
from evalgate.preflight import read_checkpoint, resolve_model
from evalgate.report import Costs
from evalgate.report.stated import FILE, check
from evalgate.samples import RESERVE_STEPS, last_look, read_labels
from evalgate.session import judged, trained
from evalgate.session.baselines import Baselines, Views
from evalgate.session.candidates import add, from_folder, from_models, from_records
from evalgate.session.leakage import Training
from evalgate.session.members import members_of
from evalgate.session.power import power_of
from evalgate.session.reports import Report, changed_since, gates_of, plan_entry, report_of
from evalgate.session.words import Candidate, Declared, Selected, declare
from evalgate.store import Store


class Session:
    """State of one run: declared tasks, plans, evaluations, verdicts.

    Args:
        config: settings and policy.
        root: of the project: records, reports and suites lie under it.
        models: what `--model` was given, in order.
        train: configuration and overrides of a candidate that is trained before anything is asked.
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
        train: tuple[str, Sequence[str]] | None = None,
        records: str | None = None,
        record_only: bool = False,
        command: str,
        progress: Progress,
    ) -> None:
        self.config, self.root, self.record_only, self.command = config, root, record_only, command
        self.progress = progress
        self.state = root / config.state
        self.store = Store(self.state)
        self.ledger = Ledger(self.state / "ledger.jsonl")
        self.cards = Cards(self.state, self.store, self.ledger, root / "runs")
        self.cache = Cache(self.state / "cache.sqlite")
        self.declared: dict[str, Declared] = {}
        self._base = Path(config.base) if config.base else None
        memo = self.cache.files
        registry = config.registry_at(root)
        self.candidates = (
            from_records(records)
            if records
            else from_models(models, base=self._base, memo=memo, registry=registry, engine=config.engine)
        )
        self.recipe = trained.recipe_of(self, train) if train else None
        self.gated = tuple(self.candidates)  # those that tests admit are evaluated, and get no verdict
        self.training = Training()
        self.evaluations: dict[tuple[str, str], Evaluation] = {}
        self.reports: dict[str, Report] = {}
        self.error: str | None = None
        self.untrained: dict[str, str] = {}
        self.lines: list[str] = []
        self.power: PowerPlan | None = None
        self.floor: NoiseFloor | None = None
        self.costs = Costs(0, 0, 0.0)
        self.statement: str | None = None
        self.statements: tuple[str, ...] = ()
        self.plans: dict[tuple[str, str], TaskPlan] = {}
        self.labels: dict[str, dict[str, dict[tuple[str, str], float]]] = {}
        self.last_looks: dict[str, int] = {}
        self._recorded: set[tuple[str, str]] = set()
        self.baselines = Baselines(config.baseline, self.store)
        self.judges = Judges(
            config.judges,
            self.state,
            self.cache,
            progress,
            registry=registry,
            make_room=lambda: self.evaluator.close(),
        )
        self.views = Views(self.judges.judge)
        self._gates_models = bool(models or train)
        self.renew_evaluator()

    def renew_evaluator(self) -> None:
        """One for the checkpoints that are known now."""
        self.evaluator = Evaluator(
            [c.checkpoint for c in self.candidates.values() if c.checkpoint],
            settings_of(self.config.engine, self.state),
            self.cache,
            self.progress,
            also=self._behind_baselines(self._base) if self._gates_models else (),
        )

    def _behind_baselines(self, base: Path | None) -> tuple[Checkpoint, ...]:
        """The checkpoint that the settings say is behind the baselines."""
        if not self.config.baseline_model:
            return ()
        if self.config.engine.name == "openai":
            raise ConfigError(
                "the noise of endpoints is not measured", where="baseline_model", mend="Leave it out for this engine."
            )
        folder = resolve_model(self.config.baseline_model, registry=self.config.registry_at(self.root))
        return (read_checkpoint(folder, base=base, memo=self.cache.files),)

    # -- before the engine --------------------------------------------------------------------------------------------

    def declare(self, declared: Declared) -> Declared:
        """A task was collected; it belongs to the family, whatever is deselected later. Its judges are bound here."""
        return declare(self.declared, declared, partial(judged.bind, self))

    def prepare(self, selected: Collection[Selected]) -> None:
        """Everything that can be wrong before an engine is needed: eval data, prompts, baselines, templates.

        A candidate that is still to be trained is trained here, once its data was checked against the eval sets.
        """
        homes = sorted({declared.suite.parent / FILE for declared in self.declared.values()})
        self.statements = tuple(relative(self.root, path) for path in homes)
        self.statement = statement_of(self.root, self.statements)
        check(self.statement, {d.id: [scorer.name for scorer in d.task.scorers] for d in self.declared.values()})
        if self.recipe:
            trained.train(self, self.recipe)
        for task_id in dict.fromkeys(s.task for s in selected):
            declared = self.declared[task_id]
            self.last_looks[task_id] = last_look(declared.task, task_id)
            self.labels[task_id] = read_labels(declared.task, task_id) if declared.task.labels is not None else {}
            if any(c.checkpoint for c in self.candidates.values()):
                wanted = {s.candidate for s in selected if s.task == task_id}
                self._plan(declared, wanted, self._first_look(declared))
            self.baselines.of(declared)
        if self.plans:
            if not self.record_only:
                self.power = self._power(selected)
            self.ledger.append("plan", plan_entry(self, selected))

    def finetune(self, config: str, overrides: Sequence[str]) -> Path:
        """What a test asks to be trained (InputError, TrainingError)."""
        return trained.finetune(self, config, overrides)

    def admit(self, folder: Path) -> str:
        """Take in a version that a test has made; returns the name under which it is evaluated."""
        candidate = from_folder(folder, base=self._base, memo=self.cache.files)
        for name, known in self.candidates.items():
            if known.digest == candidate.digest:
                return name
        name = add(self.candidates, candidate)
        self.evaluator.close()  # an engine holds what it was started with
        self.renew_evaluator()
        return name

    def _first_look(self, declared: Declared) -> int:
        """What may become a baseline is recorded with the whole reserve; else none of it is drawn yet."""
        return RESERVE_STEPS if self.record_only or self.baselines.of(declared) is None else 0

    def _plan(self, declared: Declared, wanted: Collection[str], look: int) -> None:
        plans = self.evaluator.plan(declared.id, declared.task, self.config.seed, look)
        by_digest = {candidate.digest: candidate.name for candidate in self.candidates.values()}
        for plan in plans:
            name = by_digest[plan.checkpoint.digest]
            if name in wanted:
                self.plans[declared.id, name] = plan

    def _power(self, selected: Collection[Selected]) -> PowerPlan:
        """What the gates that will run can see."""
        samples = {plan.id: [question.sample for question in plan.questions] for plan in self.plans.values()}
        return power_of(
            self.declared,
            samples,
            {(s.task, s.metric) for s in selected},
            policy=self.config.policy,
            baselines=self.baselines,
            ledger=self.ledger,
        )

    def say(self, lines: Iterable[str]) -> None:
        """What the summary tells, each line once."""
        self.lines += [line for line in dict.fromkeys(lines) if line not in self.lines]

    def policy_entry(self) -> dict[str, Any]:
        """The policy in force, as records and the ledger keep it."""
        return asdict(self.config.policy)

    @property
    def requests(self) -> int:
        """Distinct requests planned."""
        return len(Plan(tuple(self.plans.values())).requests)

    # -- the run ------------------------------------------------------------------------------------------------------

    def run(self, selected: Collection[Selected]) -> None:
        """Answer, score, record and decide; an engine failure is kept as the error of every gate.

        May be called again for other candidates: the engine stays.
        """
        wanted = {(s.task, s.candidate) for s in selected}
        try:
            self._evaluate({key: plan for key, plan in self.plans.items() if key in wanted})
            self._draw_reserve(selected)
        except EngineError as error:
            self.error = str(error)
        self._record()
        if not self.record_only:
            for candidate in self.candidates.values():
                if any(s.candidate == candidate.name for s in selected):
                    self.reports[candidate.name] = report_of(self, candidate, selected)

    def _draw_reserve(self, selected: Collection[Selected]) -> None:
        """More samples for the tasks that they can still decide, look after look."""
        policy = self.config.policy
        while policy.reserve != "keep" and not self.record_only:
            plans: dict[tuple[str, str], TaskPlan] = {}
            for candidate in self.candidates.values():
                if candidate.checkpoint is None:  # records hold what was drawn where the model is
                    continue
                for task in decide(members_of(self, candidate, selected), policy).wants_reserve:
                    key = task, candidate.name
                    look = self.evaluations[key].look + 1 if policy.reserve == "top-up" else RESERVE_STEPS
                    self._plan(self.declared[task], {candidate.name}, look)
                    plans[key] = self.plans[key]
            if not plans:
                return
            self._evaluate(plans)

    def _evaluate(self, plans: Mapping[tuple[str, str], TaskPlan]) -> None:
        if not plans:
            return
        asker = self.evaluator.asker
        tasks = {task_id: self.baselines.of(self.declared[task_id]) for task_id, _ in plans}
        baselines = {task_id: found for task_id, found in tasks.items() if found}
        asked = None
        if not asker.started:  # once, with what starts the engine
            chosen = (canary(baselines, plans.values(), checkpoint) for checkpoint in self.evaluator.known)
            asked = next((found for found in chosen if found.asked), None)
        answers = self.evaluator.answer(Plan(tuple(plans.values())), asked.requests if asked else ())
        self.lines.append(
            f"{answers.generated} answers generated in {answers.seconds:.1f} s, {answers.cached} from the cache"
            + ("" if asker.started else " (no engine started)")
        )
        self.costs = self.costs.and_those_of(answers.generated, answers.cached, answers.seconds)
        if asked and answers.generated:
            self.floor = measure(asked, answers.canary, asker.reported(asked.checkpoint))
            self.lines.append(self.floor.said)
        judgements = judged.judge(self, plans, answers.completions)
        for (task_id, name), plan in plans.items():
            environment = {"engine": asker.environment(plan.checkpoint), "platform": platform.platform()}
            if described := judged.described(self, plan.task):
                environment["judges"] = described
            gates = {"gates": gates_of(plan.task), "golden": list(plan.task.golden)}
            self.evaluations[task_id, name] = assemble(
                plan,
                answers.completions,
                environment=environment,
                provenance=self._provenance(self.declared[task_id], self.candidates[name]),
                policy={**self.policy_entry(), **gates, "last_look": self.last_look(self.declared[task_id])},
                judgements=judgements,
                baseline=baselines.get(task_id),
            )
            self._recorded.discard((task_id, name))

    def last_look(self, declared: Declared) -> int:
        """The last step in which a task's reserve is drawn, 0 where it keeps none."""
        return self.last_looks.setdefault(declared.id, last_look(declared.task, declared.id))

    def _record(self) -> None:
        """Write every evaluation once it has all the samples that were drawn for it."""
        for key in self.evaluations.keys() - self._recorded:
            self.store.write(self.evaluations[key])
            self._recorded.add(key)

    def _provenance(self, declared: Declared, candidate: Candidate) -> dict[str, Any]:
        suites = declared.suite.parent
        return {
            "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "command": self.command,
            "evalgate": __version__,
            "suite": (suites.relative_to(self.root) if suites.is_relative_to(self.root) else suites).as_posix(),
            "python": platform.python_version(),
            "ledger": self.ledger.head,
            "leaked": sorted(self.training.leaked(candidate, declared.id)),
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
        if candidate in self.untrained:
            raise TrainingError(self.untrained[candidate])
        if key in self.evaluations:
            return self.evaluations[key]
        chosen = self.candidates[candidate]
        if chosen.checkpoint is None:
            return self._from_records(chosen, declared)
        if declared.id not in self.declared:
            self.training.check_late(declared)
        declared = self.declare(declared)
        self._plan(declared, {candidate}, self._first_look(declared))
        self._evaluate({key: self.plans[key]})
        self._record()
        return self.evaluations[key]

    def _from_records(self, candidate: Candidate, declared: Declared) -> Evaluation:
        record = candidate.recorded.get(declared.id)
        if record is None:
            raise RecordError(
                f"no record of {declared.id} for {candidate.name}; recorded: {', '.join(sorted(candidate.recorded))}",
                mend="Record it where the model is, with pytest --model … --eval-record-only.",
            )
        view = self.views.of(declared, record)
        changed = changed_since(view, declared.task)
        if changed:
            raise RecordError(
                f"the record of {declared.id} was made with another {', '.join(changed)} than the suite declares now",
                mend="Record it again with this version of the suite.",
            )
        return view

    # -- verdicts -----------------------------------------------------------------------------------------------------

    def verdict(self, selected: Selected) -> Verdict | None:
        """The verdict of one test; `None` where nothing was compared."""
        report = self.reports.get(selected.candidate)
        verdicts = report.family.verdicts if report else ()
        return next((v for v in verdicts if (v.task, v.metric) == (selected.task, selected.metric)), None)

    def fault(self, selected: Selected) -> str | None:
        """Why what was recorded for a test is no evaluation: the engine failed, or samples have no answer or score."""
        evaluation = self.evaluations.get((selected.task, selected.candidate))
        if self.error or evaluation is None:
            return self.error or self.untrained.get(selected.candidate, "nothing was recorded")
        unscored = evaluation.unscored(selected.metric)
        if selected.metric not in {metric.name for metric in evaluation.metrics}:
            # A preference, and there is no baseline yet whose answers these could be preferred to.
            unscored = tuple(row for row in unscored if row.error)
        if not unscored:
            return None
        why = unscored[0].error or unscored[0].faults.get(selected.metric) or f"no score for {selected.metric}"
        return f"{len(unscored)} of {len(evaluation.rows)} samples have no {selected.metric}: {why}"

    def missing_required(self, ran: Iterable[Selected]) -> list[str]:
        """Members that `required` names and that did not run: a skipped gate is never a pass."""
        done = {f"{s.task}::{s.metric}" for s in ran}
        every = {f"{d.id}::{scorer.name}" for d in self.declared.values() for scorer in d.task.blocking}
        required = every if "all" in self.config.required else set(self.config.required)
        return sorted(required - done)

    def close(self) -> None:
        """End children, close the cache, give back the name of a version that was not trained."""
        self.evaluator.close()
        self.judges.close()
        self.cache.close()
        if self.recipe:
            from evalgate.finetune import release

            release(self.recipe)
