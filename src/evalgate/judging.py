"""Judging: every case of every task in one batch, through the cache, with canaries among them."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from threading import Lock
from time import monotonic
from typing import Any

from evalgate.asking import Asker, Progress, Relay
from evalgate.cache import Cache
from evalgate.config import JudgesConfig
from evalgate.digest import digest
from evalgate.engines import EngineSettings
from evalgate.errors import CheckpointError, ConfigError, EngineError, JudgeError, TaskError
from evalgate.instrument import DEFAULT, Calibration, Case, Instrument, Job, Judgement, Judgements, JudgeModel
from evalgate.judges import canaries, native
from evalgate.judges.versions import versions
from evalgate.preflight import load_added_tokens, read_checkpoint, resolve_model
from evalgate.request import Completion, Request
from evalgate.scoring import Scorer
from evalgate.task import Messages, Task

Asked = tuple[Instrument, Case]
KIND = "judgement"  # of the cache's entries
ROOM = 8192
"""Tokens that a judge's engine has room for where libraries ask it, whose questions nobody knows beforehand."""
MEND = '[tool.evalgate.judges.mine] with model = "runs/judge-v1" makes one, and so does --eval-judge runs/judge-v1.'


@dataclass(frozen=True, slots=True)
class Chair:
    """A judge of the settings, ready to be asked: the model, and what asks it."""

    model: JudgeModel
    asker: Asker
    relay: Relay
    endpoint: bool


class Judges:
    """Asks the judges that the settings name.

    Args:
        config: `[tool.evalgate.judges]`.
        state: folder of cache, logs and scratch files.
        cache: of judgements, and of the answers behind them.
        progress: who is told how far it is.
        calibrations: judge's digest to how far it agrees with people.
        registry: address for `models:/…`.
        make_room: called before a judge on a GPU starts, so that the candidate's engine gives its memory back.
    """

    def __init__(
        self,
        config: JudgesConfig,
        state: Path,
        cache: Cache,
        progress: Progress,
        *,
        calibrations: Mapping[str, Calibration] | None = None,
        registry: str | None = None,
        make_room: Callable[[], None] = lambda: None,
    ) -> None:
        self.config, self.state, self.cache, self.progress = config, state, cache, progress
        self.calibrations = dict(calibrations or {})
        self._registry, self._make_room = registry, make_room
        self._chairs: dict[str, Chair] = {}
        self._asking = Lock()  # an engine answers one batch at a time, also where a gateway's thread asks

    # -- who judges ---------------------------------------------------------------------------------------------------

    def bind(self, task: Task) -> Task:
        """The task with its judges bound to models, versions and calibrations; the task itself without judges.

        Raises:
            ConfigError: a judge is not in the settings.
            CheckpointError: its weights are not there, or not safe.
            MissingExtraError: its library is not installed.
        """
        if not any(scorer.judge for scorer in task.scorers):
            return task
        return replace(task, scorers=tuple(map(self._bound, task.scorers)))

    def _bound(self, scorer: Scorer) -> Scorer:
        return replace(scorer, judge=self.bound(scorer.judge)) if scorer.judge else scorer

    def bound(self, judge: Instrument) -> Instrument:
        """The instrument with its identity, and its calibration where there is one."""
        models = [self._chair(name).model.digest for name in judge.by] if judge.asks else []
        identity = {"models": models, "versions": self._versions(judge.kind)}
        judge = replace(judge, identity=identity, floor=self.config.kappa)
        return replace(judge, calibration=self.calibrations.get(judge.digest))

    def _versions(self, kind: str) -> dict[str, str]:
        if kind != "promptfoo":
            return versions(kind, self.config.python)
        from evalgate.judges.node import promptfoo_versions

        return promptfoo_versions()

    def described(self, judge: Instrument) -> list[dict[str, Any]]:
        """Its models for people and records: name in the settings, checkpoint, engine, and the digest of both."""
        chairs = [self._chair(name) for name in judge.by] if judge.asks else []
        return [
            {
                "name": chair.model.name,
                "model": chair.model.checkpoint.name,
                "weights": chair.model.checkpoint.digest,
                "engine": dict(chair.asker.engine_identity),
                "digest": chair.model.digest,
            }
            for chair in chairs
        ]

    def names(self, judge: Instrument) -> tuple[str, ...]:
        """What the judge's models are called in the settings."""
        return tuple(self._chair(name).model.name for name in judge.by) if judge.asks else ()

    def _chair(self, name: str) -> Chair:
        wanted = self.config.default if name == DEFAULT else name
        if wanted is None or wanted not in self.config.models:
            known = ", ".join(self.config.models)
            raise ConfigError(
                f"no judge is called {wanted!r}; there are {known}" if wanted and known else "a metric needs a judge",
                where="[tool.evalgate.judges]",
                mend=f'In [tool.evalgate] say judge = "{next(iter(self.config.models))}".' if known else MEND,
            )
        if wanted not in self._chairs:
            self._chairs[wanted] = self._made(wanted)
        return self._chairs[wanted]

    def _made(self, name: str) -> Chair:
        config = self.config.models[name]
        settings = EngineSettings(
            name=config.engine.name,
            options=config.engine.options,
            python=config.engine.python,
            start_timeout=config.engine.start_timeout,
            log_dir=self.state / "logs",
        )
        special: tuple[str, ...] = ()
        if config.url:
            from evalgate.engines.endpoint import endpoint

            checkpoint = endpoint(config.url, config.model, revision=config.revision)
        else:
            folder = resolve_model(config.model, registry=self._registry)
            base = Path(config.base) if config.base else None
            checkpoint = read_checkpoint(folder, base=base, memo=self.cache.files)
            special = load_added_tokens(checkpoint)
            if checkpoint.template is None:
                raise CheckpointError(
                    "has no chat template, and a judge is asked in a chat",
                    where=f"the judge {name}, {checkpoint.path}",
                    mend="Add chat_template.jinja to it, or name an instruction-tuned model.",
                )
        known = [checkpoint, *([checkpoint.base] if checkpoint.base else [])]
        relay = Relay(self.progress)
        asker = Asker(known, settings, self.cache, relay)
        return Chair(JudgeModel(name, checkpoint, asker.engine_digest, special), asker, relay, bool(config.url))

    # -- judging ------------------------------------------------------------------------------------------------------

    def judge(self, asked: Sequence[Asked], *, fresh: bool = False, probe: bool = True) -> Judgements:
        """Judge every case; what was judged before is not asked again.

        Each finished judgement is in the cache before it counts. A judge whose weights have no digest (an endpoint) is
        shown its canaries anew wherever it is asked anything.

        Args:
            asked: bound instruments and cases.
            fresh: ask again what is known, and keep nothing: to see how often a judge contradicts itself.
            probe: show canaries too; a calibration measures a bad judge, where a session does not listen to it.
        """
        judges = {judge.digest: judge for judge, _ in asked}
        cases = {(judge.digest, case.id): case for judge, case in asked}
        probes = {
            name: canaries.canaries(judge, [case for (of, _), case in cases.items() if of == name])
            for name, judge in judges.items()
            if probe and judge.asks
        }
        shown = [(judges[name], probe.case) for name, some in probes.items() for probe in some]
        jobs = self._jobs_of((judges[name], case) for (name, _), case in cases.items())
        probing = self._jobs_of(shown)
        known = {} if fresh else self._known({**jobs, **probing})
        missing = {id_: job for id_, job in {**jobs, **probing}.items() if id_ not in known}
        anew: dict[str, Job] = {}
        if any(id_ in jobs for id_ in missing):
            anew = {id_: job for id_, job in probing.items() if job.model and self._chairs[job.model.name].endpoint}
            missing |= anew
        total = _steps({**jobs, **probing})
        self.progress.start(total, total - _steps(missing), "judgements")
        made: dict[str, Judgement] = {}
        try:
            for judgement in self._make(list(missing.values()), anew=anew, fresh=fresh):
                made[judgement.job] = judgement
                if judgement.error is None and not fresh:
                    self._keep(missing[judgement.job], judgement)
                if missing[judgement.job].instrument.kind != "native":  # those are counted as they are answered
                    self.progress.advance(1)
        finally:
            self.progress.stop()
        every = known | made
        found = {(name, id_): self._panel(judges[name], case, every) for (name, id_), case in cases.items()}
        faults = {}
        for name, some in probes.items():
            results = [(probe, self._panel(judges[name], probe.case, every)) for probe in some]
            if why := canaries.fault(judges[name], results):
                faults[name] = why
        return Judgements(found, faults)

    def _jobs_of(self, asked: Iterable[Asked]) -> dict[str, Job]:
        return {job.id: job for judge, case in asked for job in self._jobs(judge, case)}

    def _jobs(self, judge: Instrument, case: Case) -> list[Job]:
        return [Job(judge, case, self._chair(name).model) for name in judge.by] if judge.asks else [Job(judge, case)]

    def _panel(self, judge: Instrument, case: Case, made: Mapping[str, Judgement]) -> Judgement:
        """The judgement that counts: of several models the mean, an error where one of them has none."""
        jobs = self._jobs(judge, case)
        votes = [made.get(job.id) or Judgement(job.id, None, error="was not judged") for job in jobs]
        fault = next((vote.error for vote in votes if vote.value is None), None)
        values = [vote.value for vote in votes if vote.value is not None]
        if len(values) < len(votes):
            return Judgement(case.id, None, error=fault or "was not judged")
        if len(votes) == 1:
            return replace(votes[0], job=case.id)
        names = self.names(judge)
        said = (
            f"{name}: {vote.value:.3g}" + (f" ({vote.explanation})" if vote.explanation else "")
            for name, vote in zip(names, votes, strict=True)
        )
        return Judgement(case.id, fmean(values), "; ".join(said))

    # -- the cache ----------------------------------------------------------------------------------------------------

    def _known(self, jobs: Mapping[str, Job]) -> dict[str, Judgement]:
        return {
            key: Judgement(key, value["value"], value["explanation"])
            for key, material, value in self.cache.select(KIND, jobs)
            if digest(material) == key and isinstance(value, dict) and value.keys() == {"value", "explanation"}
        }

    def _keep(self, job: Job, judgement: Judgement) -> None:
        value = {"value": judgement.value, "explanation": judgement.explanation}
        self.cache.insert(KIND, [(job.id, job.material, value)])

    # -- asking -------------------------------------------------------------------------------------------------------

    def _make(self, jobs: Sequence[Job], *, anew: Container[str], fresh: bool) -> Iterator[Judgement]:
        """Every job judged once, in any order: our own prompts first, then the libraries, which ask a gateway.

        Args:
            jobs: to judge.
            anew: ids of those of our own prompts that are asked whatever is known.
            fresh: everything is asked whatever is known, and nothing is kept.
        """
        kinds: dict[str, list[Job]] = {}
        for job in jobs:
            kinds.setdefault(job.instrument.kind, []).append(job)
            if job.model and job.instrument.kind != "native":
                self._chairs[job.model.name].asker.room = ROOM
        for model in dict.fromkeys(job.model for job in kinds.get("native", ()) if job.model):
            mine = [job for job in kinds["native"] if job.model == model]
            yield from self._natively(model, mine, anew=anew, fresh=fresh)
        libraries = [job for kind in ("deepeval", "ragas", "uptrain") for job in kinds.get(kind, ())]
        promptfoo = kinds.get("promptfoo", [])
        if not libraries and not promptfoo:
            return
        from evalgate.judges.gateway import Gateway
        from evalgate.judges.process import judge_in_child
        from evalgate.judges.wire import SECONDS  # the first question waits until the engine is up

        with ExitStack() as stack:
            chairs = {job.model.name: self._chairs[job.model.name] for job in jobs if job.model}
            heard: dict[str, list[Request]] = {name: [] for name in chairs}
            ask = partial(self._ask, {chair.model.checkpoint.digest: chair for chair in chairs.values()}, heard, fresh)
            gateway = Gateway({name: chair.model for name, chair in chairs.items()}, ask, self._rendered)
            endpoint = stack.enter_context(gateway) if chairs else None
            for chair in chairs.values():  # the kernel ends an engine with the thread that started it: the gateway's
                stack.callback(chair.asker.close)
            self.state.mkdir(parents=True, exist_ok=True)
            scratch = Path(stack.enter_context(TemporaryDirectory(prefix="judges-", dir=self.state)))
            say = self.progress.say
            if libraries:
                log = self.state / "logs" / "judges.log"
                judged = judge_in_child(
                    libraries,
                    endpoint,
                    python=self.config.python,
                    folder=scratch,
                    log=log,
                    on_event=say,
                    seconds=SECONDS + max((chair.asker.settings.start_timeout for chair in chairs.values()), default=0),
                )
                yield from self._lasting(libraries, judged, heard)
            if promptfoo:
                from evalgate.judges.node import find_node, find_promptfoo
                from evalgate.judges.promptfoo import judge_with_promptfoo

                log = self.state / "logs" / "promptfoo.log"
                tool, node = find_promptfoo(), find_node()
                judged = judge_with_promptfoo(
                    promptfoo, endpoint, tool=tool, node=node, folder=scratch, log=log, on_event=say
                )
                yield from self._lasting(promptfoo, judged, heard)

    def _lasting(
        self, jobs: Sequence[Job], judged: Iterator[Judgement], heard: Mapping[str, list[Request]]
    ) -> Iterator[Judgement]:
        """What libraries judge; where one made nothing of an endpoint's replies, these are not kept for the next time.

        Which reply it was only the library knows, so all go; the judgements that came of the others are kept.
        """
        names = {job.id: job.model.name for job in jobs if job.model}
        failed = set()
        for judgement in _whole(jobs, judged):
            if judgement.error is not None and judgement.job in names:
                failed.add(names[judgement.job])
            yield judgement
        for chair in (self._chairs[name] for name in sorted(failed)):
            if chair.endpoint:
                chair.asker.forget(heard[chair.model.name])

    def _natively(
        self, model: JudgeModel, jobs: Sequence[Job], *, anew: Container[str], fresh: bool
    ) -> Iterator[Judgement]:
        """Our own prompts: one batch of requests for all jobs of a model."""
        chair, began = self._chairs[model.name], monotonic()
        conversations = {}
        for job in jobs:
            try:
                conversations[job.id] = native.conversations(job)
            except TaskError as error:  # the suite's own template, on what a model wrote
                yield Judgement(job.id, None, error=f"sample {job.case.sample}: {error}")
        jobs = [job for job in jobs if job.id in conversations]
        flat = [messages for some in conversations.values() for messages in some]
        prompts = iter(self._prompts(model, flat))
        requests = {
            job.id: [native.request(job, messages, next(prompts)) for messages in conversations[job.id]] for job in jobs
        }
        chair.asker.forget(request for job in jobs if job.id in anew for request in requests[job.id])
        chair.relay.counting = True
        try:
            answered = self._answers(chair, [r for some in requests.values() for r in some], fresh=fresh)
        except EngineError as error:
            for job in jobs:
                yield Judgement(job.id, None, error=f"sample {job.case.sample}: the judge {model.name} failed: {error}")
            return
        finally:
            chair.relay.counting = False
        took = monotonic() - began
        for job in jobs:
            judgement = native.read(job, [answered[request.id] for request in requests[job.id]], took)
            if judgement.error is not None and chair.endpoint:  # asked again, it may keep to the form
                chair.asker.forget(requests[job.id])
            yield judgement

    def _answers(self, chair: Chair, requests: Sequence[Request], *, fresh: bool) -> Mapping[str, Completion]:
        """What a judge's model answers; known answers are not asked again unless they are to be fresh."""
        with self._asking:
            if not chair.asker.started and chair.asker.engine_identity.get("device") == "cuda":
                self._make_room()
            return chair.asker.answer(requests, remember=not fresh).completions

    def _ask(
        self, chairs: Mapping[str, Chair], heard: Mapping[str, list[Request]], fresh: bool, requests: Sequence[Request]
    ) -> Iterator[Completion]:
        """The gateway's way to the models; what they are asked is noted in `heard`."""
        for digest_, chair in chairs.items():
            mine = [request for request in requests if request.checkpoint == digest_]
            if mine:
                heard[chair.model.name].extend(mine)
                yield from self._answers(chair, mine, fresh=fresh).values()

    def _rendered(self, model: JudgeModel, messages: Messages) -> str | None:
        """One conversation as the gateway got it."""
        return next(iter(self._prompts(model, [messages])))

    def _prompts(self, model: JudgeModel, conversations: Sequence[Messages]) -> Iterable[str | None]:
        """Rendered by the judge's chat template; `None` for endpoints, which have theirs."""
        chair = self._chairs[model.name]
        if chair.endpoint:
            return [None] * len(conversations)
        return chair.asker.render(model.checkpoint, conversations, {})

    def close(self) -> None:
        """End the engines."""
        for chair in self._chairs.values():
            chair.asker.close()


def _steps(jobs: Mapping[str, Job]) -> int:
    """What is counted of them: a preference is asked twice."""
    return sum(1 + job.instrument.pairwise for job in jobs.values())


def _whole(jobs: Sequence[Job], judged: Iterator[Judgement]) -> Iterator[Judgement]:
    """Every job judged: where a library's process fails as a whole, what it has not judged is an error each."""
    waiting = {job.id: job for job in jobs}
    why = "was not judged"
    try:
        for judgement in judged:
            waiting.pop(judgement.job, None)
            yield judgement
    except JudgeError as error:
        why = str(error)
    for job in waiting.values():
        yield Judgement(job.id, None, error=f"sample {job.case.sample}: {why}")
