"""Versions from Lightning: a callback that publishes the model inside a module. Imported by those who use Lightning."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from typing import Any

from evalgate.digest import digest
from evalgate.errors import ConfigError, MissingExtraError, TrainingError
from evalgate.publishing import publish
from evalgate.version import TrainingRun
from evalgate.versions import check_name

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
except ImportError:
    raise MissingExtraError("lightning", "lightning") from None

SHARDED = (DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy)


class PublishVersion(Callback):
    """Publishes `runs/<name>` when training has ended: `Trainer(callbacks=[PublishVersion(tokenizer=tokenizer)])`.

    The version's lineage holds epoch, step, the loss of every optimizer step and the module's hyperparameters. A
    training that fails publishes nothing. Works where every process holds the whole model: on one device, and with DDP.

    Args:
        model: attribute of the module, a transformers `PreTrainedModel` or a `PeftModel`.
        tokenizer: is saved with the weights; not needed for an adapter that uses its base's.
        name: of the version; by default the next free `v<number>`.
        epochs: whether every epoch but the last becomes `<name>-epoch-<number>`; needs a name.
        options: of `evalgate.publish`: root, runs, why, hypothesis, parent, base, tokenizer_from, sign_key.

    Raises:
        ConfigError: the name cannot be a version's.
        TrainingError: the model is not there or its weights are spread over processes.
    """

    def __init__(
        self,
        model: str = "model",
        *,
        tokenizer: Any = None,
        name: str | None = None,
        epochs: bool = False,
        **options: Any,
    ) -> None:
        if name is not None:
            check_name(name)
        elif epochs:
            raise ConfigError("epochs can be published only below a name", where="PublishVersion", mend="Give name=….")
        self._model, self._tokenizer, self._name, self._epochs, self._options = model, tokenizer, name, epochs, options
        self._losses: list[float] = []
        self._micro: list[float] = []

    def state_dict(self) -> dict[str, Any]:
        """The losses so far; Lightning keeps them in its checkpoints."""
        return {"losses": self._losses}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The losses before an interruption."""
        self._losses = list(state_dict["losses"])

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What would fail after hours fails at once."""
        if isinstance(trainer.strategy, SHARDED):
            raise TrainingError(
                f"{type(trainer.strategy).__name__} spreads the weights over processes",
                where="PublishVersion",
                mend="Gather them into a folder after training and call evalgate.publish.",
            )
        if not hasattr(getattr(pl_module, self._model, None), "save_pretrained"):
            raise TrainingError(
                f"{type(pl_module).__name__}.{self._model} is no model of transformers or PEFT",
                where="PublishVersion",
                mend="Name the attribute that holds it: PublishVersion(model=…).",
            )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the loss of an optimizer step: the mean over its batches."""
        loss = outputs["loss"] if isinstance(outputs, Mapping) else outputs
        if loss is None:
            return
        self._micro.append(float(loss))
        if trainer.global_step > len(self._losses):
            self._losses.append(sum(self._micro) / len(self._micro))
            self._micro = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """An epoch's version."""
        epoch = trainer.current_epoch + 1
        if self._epochs and not trainer.should_stop and epoch != trainer.max_epochs:
            self._publish(trainer, pl_module, f"{self._name}-epoch-{epoch}", epoch)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The version."""
        self._publish(trainer, pl_module, self._name, trainer.current_epoch)

    def _publish(self, trainer: Trainer, module: LightningModule, name: str | None, epoch: int) -> None:
        if not trainer.is_global_zero or getattr(trainer, "fast_dev_run", False):
            return
        config = json.loads(json.dumps(dict(module.hparams), default=str))
        losses = tuple(self._losses)
        training = TrainingRun(digest(["lightning", config, losses]), config, data=(), data_digest="", losses=losses)
        with tempfile.TemporaryDirectory() as folder:
            getattr(module, self._model).save_pretrained(folder)
            if self._tokenizer is not None:
                self._tokenizer.save_pretrained(folder)
            publish(folder, name=name, training=training, epoch=epoch, step=trainer.global_step, **self._options)
