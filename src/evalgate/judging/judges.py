"""Judging: every case of every task in one batch, through the cache, with canaries among them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from evalgate.asking import Progress
from evalgate.cache import Cache
from evalgate.config import JudgesConfig
from evalgate.digest import digest
from evalgate.instrument import Calibration, Case, Instrument, Job, Judgement, Judgements
from evalgate.judges import canaries
from evalgate.judging.bench import Bench
from evalgate.judging.hearing import Hearing

Asked = tuple[Instrument, Case]
KIND = "judgement"  # of the cache's entries


class Judges(Bench):
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
        super().__init__(config, state, cache, progress, calibrations or {}, registry)
        self._hearing = Hearing(self, make_room)

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
        groups: dict[tuple[Any, ...], tuple[Instrument, list[Case]]] = {}
        for judge, case in asked if probe else ():
            if judge.asks:  # tasks that share a judge may know other answers to be good or bad
                groups.setdefault((judge.digest, judge.good, judge.bad), (judge, []))[1].append(case)
        probes = [(judge, canaries.canaries(judge, some)) for judge, some in groups.values()]
        shown = [(judge, probe.case) for judge, some in probes for probe in some]
        jobs = self._jobs_of((judges[name], case) for (name, _), case in cases.items())
        probing = self._jobs_of(shown)
        known = {} if fresh else self._known({**jobs, **probing})
        missing = {id_: job for id_, job in {**jobs, **probing}.items() if id_ not in known}
        anew: dict[str, Job] = {}
        if any(id_ in jobs for id_ in missing):
            anew = {id_: job for id_, job in probing.items() if job.model and self.chair(job.model.name).endpoint}
            missing |= anew
        total = _steps({**jobs, **probing})
        self.progress.start(total, total - _steps(missing), "judgements")
        made: dict[str, Judgement] = {}
        try:
            for judgement in self._hearing.judge(list(missing.values()), anew=anew, fresh=fresh):
                made[judgement.job] = judgement
                if judgement.error is None and not fresh:
                    self._keep(missing[judgement.job], judgement)
                if missing[judgement.job].instrument.kind != "native":  # those are counted as they are answered
                    self.progress.advance(1)
        finally:
            self.progress.stop()
        every = known | made
        found = {(name, id_): self._panel(judges[name], case, every) for (name, id_), case in cases.items()}
        faults: dict[str, str] = {}
        for judge, some in probes:
            if why := canaries.fault(judge, [(probe, self._panel(judge, probe.case, every)) for probe in some]):
                faults.setdefault(judge.digest, why)
        return Judgements(found, faults)

    def _jobs_of(self, asked: Iterable[Asked]) -> dict[str, Job]:
        return {job.id: job for judge, case in asked for job in self.jobs(judge, case)}

    def _panel(self, judge: Instrument, case: Case, made: Mapping[str, Judgement]) -> Judgement:
        """The judgement that counts: of several models the mean, an error where one of them has none."""
        jobs = self.jobs(judge, case)
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

    def _known(self, jobs: Mapping[str, Job]) -> dict[str, Judgement]:
        return {
            key: Judgement(key, value["value"], value["explanation"])
            for key, material, value in self.cache.select(KIND, jobs)
            if digest(material) == key and isinstance(value, dict) and value.keys() == {"value", "explanation"}
        }

    def _keep(self, job: Job, judgement: Judgement) -> None:
        value = {"value": judgement.value, "explanation": judgement.explanation}
        self.cache.insert(KIND, [(job.id, job.material, value)])


def _steps(jobs: Mapping[str, Job]) -> int:
    """What is counted of them: a preference is asked twice."""
    return sum(1 + job.instrument.pairwise for job in jobs.values())
