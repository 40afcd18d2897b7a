"""How judges are asked: our own prompts in one batch, libraries in processes of their own through a gateway."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from time import monotonic

from evalgate.asking import Answers
from evalgate.errors import EngineError, JudgeError, TaskError
from evalgate.instrument import Job, Judgement, JudgeModel
from evalgate.judges import native
from evalgate.judging.bench import Bench, Chair
from evalgate.request import Completion, Request
from evalgate.task import Messages

ROOM = 8192
"""Tokens that a judge's engine has room for where libraries ask it, whose questions nobody knows beforehand."""


class Hearing:
    """Has jobs judged, whoever judges them.

    Args:
        bench: of the models.
        make_room: called before a judge on a GPU starts, so that the candidate's engine gives its memory back.
    """

    def __init__(self, bench: Bench, make_room: Callable[[], None]) -> None:
        self.bench, self._make_room = bench, make_room
        self._asking = Lock()  # an engine answers one batch at a time, also where a gateway's thread asks

    def judge(self, jobs: Sequence[Job], *, anew: Container[str], fresh: bool) -> Iterator[Judgement]:
        """Every job judged once, in any order: our own prompts first, then the libraries, which ask a gateway.

        Args:
            jobs: to judge.
            anew: ids of those that are asked whatever is known; libraries, whose questions nobody tells apart, ask all
                of theirs anew then.
            fresh: everything is asked whatever is known, and nothing is kept.
        """
        kinds: dict[str, list[Job]] = {}
        for job in jobs:
            kinds.setdefault(job.instrument.kind, []).append(job)
            if job.model and job.instrument.kind != "native":
                self.bench.chair(job.model.name).asker.room = ROOM
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
            chairs = {job.model.name: self.bench.chair(job.model.name) for job in jobs if job.model}
            heard: dict[str, list[Request]] = {chair.model.digest: [] for chair in chairs.values()}
            again = {job.model.digest for job in (*libraries, *promptfoo) if job.model and job.id in anew}
            ask = partial(self._ask, {chair.model.digest: chair for chair in chairs.values()}, heard, again, fresh)
            gateway = Gateway({name: chair.model for name, chair in chairs.items()}, ask, self._rendered)
            endpoint = stack.enter_context(gateway) if chairs else None
            for chair in chairs.values():  # the kernel ends an engine with the thread that started it: the gateway's
                stack.callback(chair.asker.close)
            self.bench.state.mkdir(parents=True, exist_ok=True)
            scratch = Path(stack.enter_context(TemporaryDirectory(prefix="judges-", dir=self.bench.state)))
            say = self.bench.progress.say
            if libraries:
                log = self.bench.state / "logs" / "judges.log"
                judged = judge_in_child(
                    libraries,
                    endpoint,
                    python=self.bench.config.python,
                    folder=scratch,
                    log=log,
                    on_event=say,
                    seconds=SECONDS + max((chair.asker.settings.start_timeout for chair in chairs.values()), default=0),
                )
                yield from self._lasting(libraries, judged, heard)
            if promptfoo:
                from evalgate.judges.node import find_node, find_promptfoo
                from evalgate.judges.promptfoo import judge_with_promptfoo

                log = self.bench.state / "logs" / "promptfoo.log"
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
        for judgement in whole(jobs, judged):
            if judgement.error is not None and judgement.job in names:
                failed.add(names[judgement.job])
            yield judgement
        for chair in (self.bench.chair(name) for name in sorted(failed)):
            if chair.endpoint:
                chair.asker.forget(heard[chair.model.digest])

    def _natively(
        self, model: JudgeModel, jobs: Sequence[Job], *, anew: Container[str], fresh: bool
    ) -> Iterator[Judgement]:
        """Our own prompts: one batch of requests for all jobs of a model."""
        chair, began = self.bench.chair(model.name), monotonic()
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
        every = [request for some in requests.values() for request in some]
        try:
            answers = self._answers(chair, every, fresh=fresh)
        except EngineError as error:
            for job in jobs:
                yield Judgement(job.id, None, error=f"sample {job.case.sample}: the judge {model.name} failed: {error}")
            return
        finally:
            chair.relay.counting = False
        # The same question twice (equal answers in either order), or one that the cache knows: nobody counted it.
        self.bench.progress.advance(len(every) - answers.generated)
        answered, took = answers.completions, monotonic() - began
        for job in jobs:
            judgement = native.read(job, [answered[request.id] for request in requests[job.id]], took)
            if judgement.error is not None and chair.endpoint:  # asked again, it may keep to the form
                chair.asker.forget(requests[job.id])
            yield judgement

    def _answers(self, chair: Chair, requests: Sequence[Request], *, fresh: bool) -> Answers:
        """What a judge's model answers; known answers are not asked again unless they are to be fresh."""
        with self._asking:
            if not chair.asker.started and chair.asker.engine_identity.get("device") == "cuda":
                self._make_room()
            return chair.asker.answer(requests, remember=not fresh)

    def _ask(
        self,
        chairs: Mapping[str, Chair],
        heard: Mapping[str, list[Request]],
        again: Container[str],
        fresh: bool,
        requests: Sequence[Request],
    ) -> Iterator[Completion]:
        """The gateway's way to the models, by their digests; what they are asked is noted in `heard`.

        Those in `again` are asked each question once in this session, whatever the cache knows.
        """
        for digest_, chair in chairs.items():
            mine = {
                request.id: replace(request, checkpoint=chair.model.checkpoint.digest)
                for request in requests
                if request.checkpoint == digest_
            }
            if mine:
                if digest_ in again:
                    before = {request.id for request in heard[digest_]}
                    chair.asker.forget(own for own in mine.values() if own.id not in before)
                heard[digest_].extend(mine.values())
                answered = self._answers(chair, list(mine.values()), fresh=fresh).completions
                for name, own in mine.items():
                    if own.id in answered:
                        yield replace(answered[own.id], request=name)

    def _rendered(self, model: JudgeModel, messages: Messages) -> str | None:
        """One conversation as the gateway got it."""
        return next(iter(self._prompts(model, [messages])))

    def _prompts(self, model: JudgeModel, conversations: Sequence[Messages]) -> Iterable[str | None]:
        """Rendered by the judge's chat template; `None` for endpoints, which have theirs."""
        chair = self.bench.chair(model.name)
        if chair.endpoint:
            return [None] * len(conversations)
        return chair.asker.render(model.checkpoint, conversations, {})


def whole(jobs: Sequence[Job], judged: Iterator[Judgement]) -> Iterator[Judgement]:
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
