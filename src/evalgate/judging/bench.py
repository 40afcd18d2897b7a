"""Who judges: the models that the settings name, and instruments bound to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evalgate.asking import Asker, Progress, Relay, settings_of
from evalgate.cache import Cache
from evalgate.config import JudgesConfig
from evalgate.errors import CheckpointError, ConfigError, InputError
from evalgate.instrument import DEFAULT, Calibration, Case, Instrument, Job, JudgeModel
from evalgate.judges.versions import versions
from evalgate.preflight import load_added_tokens, read_checkpoint, resolve_model
from evalgate.scoring import Scorer
from evalgate.task import Task

MEND = '[tool.evalgate.judges.mine] with model = "runs/judge-v1" makes one, and so does --eval-judge runs/judge-v1.'


@dataclass(frozen=True, slots=True)
class Chair:
    """A judge of the settings, ready to be asked: the model, and what asks it."""

    model: JudgeModel
    asker: Asker
    relay: Relay
    endpoint: bool


class Bench:
    """The judges of the settings, each made when it is first needed.

    Args:
        config: `[tool.evalgate.judges]`.
        state: folder of logs.
        cache: of the answers behind judgements.
        progress: who is told how far it is.
        calibrations: judge's digest to how far it agrees with people; more may be added.
        registry: address for `models:/…`.
    """

    def __init__(
        self,
        config: JudgesConfig,
        state: Path,
        cache: Cache,
        progress: Progress,
        calibrations: Mapping[str, Calibration],
        registry: str | None,
    ) -> None:
        self.config, self.state, self.cache, self.progress = config, state, cache, progress
        self.calibrations = dict(calibrations)
        self._registry = registry
        self._chairs: dict[str, Chair] = {}

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
        models = [self.chair(name).model.digest for name in judge.by] if judge.asks else []
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
        chairs = [self.chair(name) for name in judge.by] if judge.asks else []
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
        return tuple(self.chair(name).model.name for name in judge.by) if judge.asks else ()

    def chair(self, name: str) -> Chair:
        """The judge of a name, or the default one (ConfigError with those there are)."""
        wanted = self.config.default if name == DEFAULT else name
        if wanted is None or wanted not in self.config.models:
            known = ", ".join(self.config.models)
            raise ConfigError(
                f"no judge is called {wanted!r}; there are {known}" if wanted and known else "a metric needs a judge",
                where="[tool.evalgate.judges]",
                mend=f'In [tool.evalgate] say judge = "{next(iter(self.config.models))}".' if known else MEND,
            )
        if wanted not in self._chairs:
            try:
                self._chairs[wanted] = self._made(wanted)
            except InputError as error:  # `--model` and `engine.…` are where a candidate's would stand
                if error.where and (error.where == "--model" or error.where.startswith("engine.")):
                    key = error.where.removeprefix("--").removeprefix("engine.")
                    error.where = f"the judge {wanted}, {'engine' if key == 'name' else key}"
                raise
        return self._chairs[wanted]

    def _made(self, name: str) -> Chair:
        config = self.config.models[name]
        settings = settings_of(config.engine, self.state)
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

    def jobs(self, judge: Instrument, case: Case) -> list[Job]:
        """The jobs that a case makes: one for each model, or one without any."""
        return [Job(judge, case, self.chair(name).model) for name in judge.by] if judge.asks else [Job(judge, case)]

    def close(self) -> None:
        """End the engines."""
        for chair in self._chairs.values():
            chair.asker.close()
