"""What happens between the trainer's steps: its log begins, states are kept, epochs are exported."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_pt_utils import get_model_param_count

from evalgate.errors import TrainingError
from evalgate.training import state as states
from evalgate.training.distributed import confirm, resumable
from evalgate.training.job import Job
from evalgate.training.log import Log


class Milestones(TrainerCallback):  # type: ignore[misc]
    """Keeps a state every so many steps and at each epoch, exports each epoch but the last, measures held-out loss.

    An epoch's state is written after its export, so that training never resumes behind an export that is missing.
    The last step has no state: a kill between it and the final export costs what came after the state before.
    """

    def __init__(
        self, job: Job, log: Log, export: Callable[[str], None], start: dict[str, Any], model: Callable[[], Any]
    ) -> None:
        self._job, self._log, self._export, self._start, self._model = job, log, export, start, model
        self._resumable = resumable(job.config.distribution)
        self._interrupted = False
        self.held_out_loss: float | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """What was asked for is in force, and the log begins."""
        distributed = confirm(self._model(), self._job.config.distribution)
        trainable = get_model_param_count(model, trainable_only=True)
        if state.is_world_process_zero:
            values = {"steps": state.max_steps, "epochs": state.num_train_epochs, "trainable": trainable}
            self._log.write("start", **values, distributed=distributed, **self._start)
        if self._start["world_size"] == 1:  # several would be interrupted at different steps
            signal.signal(signal.SIGTERM, self._interrupt)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask for a state every so many steps and before an early end, and for the held-out loss after the last."""
        every, last = self._job.config.schedule.save_steps, state.global_step >= state.max_steps
        due = self._interrupted or (bool(every) and state.global_step % every == 0)
        control.should_evaluate = last and bool(self._start["held_out"])
        control.should_save = due and not last and not _at_epoch(state) and self._resumable

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Export the epoch, then ask for a state."""
        if state.global_step >= state.max_steps or not _at_epoch(state):
            return
        if self._job.config.publishing.epochs:
            self._export(f"epoch-{round(state.epoch)}")
        control.should_save = self._resumable

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **_: Any) -> None:
        """Keep the held-out loss for the end."""
        self.held_out_loss = metrics["eval_loss"]
        require_finite("held-out loss", self.held_out_loss, state.global_step, state.max_steps)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The trainer has written a state: mark it as whole."""
        args.distributed_state.wait_for_everyone()  # every rank has written its part
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"{states.PREFIX}{state.global_step}"
            states.mark(folder, self._job.key)
            self._log.write("saved", step=state.global_step)
        if self._interrupted:
            what = f"interrupted after step {state.global_step} of {state.max_steps}"
            raise TrainingError(what, mend="Run the same command again to resume.")

    def _interrupt(self, *_: Any) -> None:
        self._interrupted = True


def require_finite(name: str, value: float, step: int, steps: int) -> None:
    """Stop a training that has left the numbers (TrainingError); nothing is exported after that."""
    if not math.isfinite(value):
        raise TrainingError(
            f"the {name} is {value} at step {step} of {steps}",
            mend="Lower optimizer.learning_rate, or look for damaged rows.",
        )


def _at_epoch(state: Any) -> bool:
    return float(state.epoch).is_integer()
