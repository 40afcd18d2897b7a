"""The plan: the selected tasks' requests for every checkpoint, rendered and de-duplicated."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from evalgate.checkpoint import Checkpoint
from evalgate.digest import PREFIX, digest, short
from evalgate.request import Request
from evalgate.task import Sample, Task


@dataclass(frozen=True, slots=True)
class Question:
    """One sample as it is asked of one checkpoint.

    Attributes:
        sample: with its target and slices.
        prompt: rendered text.
        pair: short digest of prompt, target and options: with the id, what finds its partner in the baseline.
        generations: one request per generation; empty where no scorer reads text.
        scored: scorer name to the log-likelihood request of its continuations.
    """

    sample: Sample
    prompt: str
    pair: str
    generations: tuple[Request, ...]
    scored: Mapping[str, Request]

    @property
    def requests(self) -> Iterator[Request]:
        """Everything that is asked."""
        yield from self.generations
        yield from self.scored.values()


@dataclass(frozen=True)
class TaskPlan:
    """One task on one checkpoint.

    Attributes:
        id: `suite/task`.
        task: as declared.
        checkpoint: that answers.
        questions: sorted by sample id.
        samples: digest of the eval data.
        seed: that the requests' own seeds are derived from.
    """

    id: str
    task: Task
    checkpoint: Checkpoint
    questions: tuple[Question, ...]
    samples: str
    seed: int


@dataclass(frozen=True)
class Plan:
    """Everything that one engine stage answers."""

    tasks: tuple[TaskPlan, ...]

    @cached_property
    def requests(self) -> tuple[Request, ...]:
        """Each distinct request once, in the order of checkpoints, tasks and samples."""
        return tuple({r.id: r for plan in self.tasks for q in plan.questions for r in q.requests}.values())


def derive_seed(seed: int, sample: str, generation: int) -> int:
    """A request's own seed: independent of the order and of which other samples run (63 bits)."""
    return int(digest([seed, sample, generation]).removeprefix(PREFIX)[:16], 16) >> 1


def fresh_seed(seed: int, again: int | None) -> int:
    """A task's seed for another measurement (`--eval-seed N`): its own seed where none is asked for (63 bits)."""
    return seed if again is None else derive_seed(seed, "", again)  # no sample's id is empty


def pair_digest(prompt: str, target: Any, options: Mapping[str, Sequence[str]]) -> str:
    """What finds a row's partner in another evaluation, beside the id.

    Args:
        prompt: rendered text.
        target: as in the data.
        options: scorer name to the continuations whose log-likelihoods it asks for.
    """
    return short(digest([prompt, target, options]), 16)


def plan_task(
    task_id: str,
    task: Task,
    samples: Sequence[Sample],
    prompts: Iterable[str],
    checkpoint: Checkpoint,
    samples_digest: str,
    again: int | None = None,
) -> TaskPlan:
    """Turn rendered prompts into requests.

    Args:
        task_id: `suite/task`.
        task: as declared.
        samples: sorted by id.
        prompts: one rendered text per sample, in the same order; of a chat with an endpoint the JSON of its messages.
        checkpoint: that answers.
        samples_digest: of the eval data.
        again: number of another measurement with seeds of its own, see `fresh_seed`.
    """
    sampling = task.sampling
    asks_messages = task.is_chat and checkpoint.kind == "endpoint"

    def asked(prompt: str) -> dict[str, Any]:
        """What is asked: the text, or the messages that it is the JSON of."""
        return {"prompt": "", "messages": tuple(json.loads(prompt))} if asks_messages else {"prompt": prompt}

    seed = fresh_seed(sampling.seed, again)
    reads_text = any(scorer.continuations is None for scorer in task.scorers)

    def generation(sample: Sample, prompt: str, k: int) -> Request:
        return Request(
            checkpoint=checkpoint.digest,
            **asked(prompt),
            special_tokens=not task.is_chat,  # a chat template has written its own
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            stop=tuple(sampling.stop),
            seed=derive_seed(seed, sample.id, k),
            json_schema=sampling.json_schema,
        )

    def question(sample: Sample, prompt: str) -> Question:
        scored = {
            scorer.name: Request(
                checkpoint=checkpoint.digest,
                **asked(prompt),
                special_tokens=not task.is_chat,
                continuations=scorer.continuations(sample),
            )
            for scorer in task.scorers
            if scorer.continuations is not None
        }
        generations = tuple(generation(sample, prompt, k) for k in range(sampling.n)) if reads_text else ()
        options = {name: request.continuations for name, request in scored.items()}
        pair = pair_digest(prompt, sample.target, options)
        return Question(sample, prompt, pair, generations, scored)

    questions = tuple(question(sample, prompt) for sample, prompt in zip(samples, prompts, strict=True))
    return TaskPlan(task_id, task, checkpoint, questions, samples_digest, seed)
