"""Lightning trainings of the tiny base that publish: `python -m tests.training.fit PROJECT`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from peft import LoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer

from evalgate.errors import ConfigError
from evalgate.lightning import PublishVersion
from tests.training.jobs import SUMS, V1


class Sums(LightningModule):
    """A causal model on short texts."""

    def __init__(self, method: str, learning_rate: float = 1e-3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.network: Any = AutoModelForCausalLM.from_pretrained(V1).train()
        if method == "lora":
            self.network = get_peft_model(self.network, LoraConfig(r=4, target_modules="all-linear"))

    def training_step(self, batch: dict[str, torch.Tensor], index: int) -> torch.Tensor:
        loss: torch.Tensor = self.network(**batch, labels=batch["input_ids"]).loss
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        rate = self.hparams["learning_rate"]
        return torch.optim.AdamW([value for value in self.parameters() if value.requires_grad], lr=rate)


class Fails(Sums):
    """Stops in its third batch."""

    def training_step(self, batch: dict[str, torch.Tensor], index: int) -> torch.Tensor:
        if self.global_step == 2:
            raise RuntimeError("as it should")
        return super().training_step(batch, index)


def fit(module: LightningModule, publisher: PublishVersion, **options: Any) -> None:
    tokenizer = AutoTokenizer.from_pretrained(V1)
    texts = [row["prompt"] + row["completion"] for row in SUMS[:16]]
    data: Any = DataLoader(
        texts,
        batch_size=4,
        collate_fn=lambda some: dict(tokenizer(some, padding=True, return_tensors="pt", return_token_type_ids=False)),
    )
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"enable_model_summary": False, "accelerator": "cpu", "devices": 1}
    Trainer(callbacks=[publisher], **quiet, **options).fit(module, data)


def main() -> None:
    seed_everything(0)
    tokenizer = AutoTokenizer.from_pretrained(V1)
    told: dict[str, Any] = {"root": Path(sys.argv[1]), "why": "sums by Lightning"}
    fit(Sums("full"), PublishVersion("network", tokenizer=tokenizer, name="lit", epochs=True, **told), max_epochs=2)
    adapter = PublishVersion("network", name="lit-lora", base=V1, **told)
    fit(Sums("lora"), adapter, max_epochs=1, accumulate_grad_batches=2)
    errors = []
    try:
        PublishVersion(epochs=True)
    except ConfigError as error:
        errors.append(str(error))
    for module, publisher in (
        (Fails("full"), PublishVersion("network", tokenizer=tokenizer, name="failed", **told)),
        (Sums("full"), PublishVersion("model", **told)),
    ):
        try:
            fit(module, publisher, max_epochs=1)
        except Exception as error:
            errors.append(str(error))
    fit(Sums("full"), PublishVersion("network", tokenizer=tokenizer, name="dry", **told), fast_dev_run=True)
    sys.stdout.write(json.dumps(errors) + "\n")


if __name__ == "__main__":
    main()
