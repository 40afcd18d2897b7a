"""The training itself, in the child: TRL's SFTTrainer with the guards, the log and the exports around it."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PrinterCallback
from trl import SFTConfig, SFTTrainer

from evalgate.errors import TrainingError
from evalgate.training import state as states
from evalgate.training.callbacks import Milestones, require_finite
from evalgate.training.data import HELD_OUT, TRAIN
from evalgate.training.distributed import largest_weight, model_arguments, save_weights, trainer_arguments
from evalgate.training.environment import environment
from evalgate.training.job import ENVIRONMENT, EXPORTS, FINAL, Job
from evalgate.training.log import Log
from evalgate.training.rows import encode
from evalgate.training.schema import TrainingConfig
from evalgate.training.tracking import Tracking


class Trainer(SFTTrainer):  # type: ignore[misc]
    """Writes a line per step, and stops before an optimizer step uses a loss or a gradient that is no number."""

    def __init__(self, *, log: Log, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._lines = log
        self._began = self._data_seconds = 0.0
        self._tokens = 0

    def get_batch_samples(self, *arguments: Any, **named: Any) -> Any:
        """The batches of one optimizer step, and how long they took to load."""
        self._began = time.perf_counter()
        batch = super().get_batch_samples(*arguments, **named)
        self._data_seconds = time.perf_counter() - self._began
        return batch

    def training_step(self, *arguments: Any, **named: Any) -> Any:
        """Forward and backward; the optimizer has not moved yet."""
        loss = super().training_step(*arguments, **named)
        self._check("loss", float(loss))  # of this rank; the gradients that all ranks share are looked at too
        return loss

    def _get_grad_norm(self, *arguments: Any, **named: Any) -> Any:
        norm = super()._get_grad_norm(*arguments, **named)
        if norm is not None and not self.args.fp16:  # whose scaler expects overflows: it skips the step itself
            self._check("gradient norm", float(norm))
        return norm

    def _check(self, name: str, value: float) -> None:
        require_finite(name, value, self.state.global_step + 1, self.state.max_steps)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Tell the trackers, and write the step's line."""
        super().log(logs, start_time)
        if "loss" not in logs or not self.is_world_process_zero():
            return
        seconds = time.perf_counter() - self._began
        tokens, self._tokens = int(logs["num_tokens"]) - self._tokens, int(logs["num_tokens"])
        norm = logs["grad_norm"]
        self._lines.write(
            "step",
            step=self.state.global_step,
            epoch=round(logs["epoch"], 6),
            loss=logs["loss"],
            grad_norm=norm if math.isfinite(norm) else None,
            learning_rate=logs["learning_rate"],
            tokens=tokens,
            tokens_per_second=round(tokens / seconds, 1),
            data_seconds=round(self._data_seconds, 6),
            step_seconds=round(seconds, 6),
        )

    def create_model_card(self, *arguments: Any, **named: Any) -> None:
        """None: the version has a card of its own, and a resume state needs none."""


def run(job: Job, log: Log) -> None:
    """Train from the beginning or from the last state, export, and write the log's `end`.

    Raises:
        TrainingError: a loss or a gradient is no finite number, or the rows cannot be trained on.
    """
    config = job.config
    torch.set_num_threads(config.distribution.threads)
    dtype = compute_dtype(config)
    tracking = Tracking(config, job.folder)
    args = arguments(job, dtype, **tracking.arguments())
    tokenizer = AutoTokenizer.from_pretrained(job.base, local_files_only=True)
    if job.chat_template:
        tokenizer.chat_template = job.chat_template.read_text("utf-8")
    encoded = encode(job.folder / TRAIN, tokenizer, config.data.max_length)
    held_out = job.folder / HELD_OUT
    unseen = encode(held_out, tokenizer, config.data.max_length).rows if held_out.exists() else None
    trainer = Trainer(
        log=log,
        model=load_model(job, dtype),
        args=args,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(encoded.rows),
        eval_dataset=Dataset.from_list(unseen) if unseen else None,
        peft_config=None if config.method == "full" or job.adapter else lora(config),
        callbacks=tracking.callbacks(),
    )
    for value in trainer.model.parameters():
        if config.method == "qlora" and value.requires_grad:
            value.data = value.data.float()  # TRL makes them bfloat16, in which small steps are lost
    main, world_size = trainer.accelerator.is_main_process, trainer.accelerator.num_processes
    ignored = []
    if main:
        ignored = states.clean(job.folder, job.key)
        for unfinished in (job.folder / EXPORTS).glob(".*"):
            shutil.rmtree(unfinished)
        facts = environment(config, world_size)
        (job.folder / ENVIRONMENT).write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
    trainer.accelerator.wait_for_everyone()
    state = states.latest(job.folder)
    start = {
        "world_size": world_size,
        "resumed_from": states.step_of(state) if state else None,
        "ignored": ignored,
        "rows": len(encoded.rows),
        "cut": encoded.cut,
        "dropped": encoded.dropped,
        "held_out": len(unseen or ()),
    }
    milestones = Milestones(job, log, partial(export, trainer, job, log), start, lambda: trainer.model_wrapped)
    trainer.add_callback(milestones)
    trainer.remove_callback(PrinterCallback)  # log.jsonl says it, and more
    try:
        trainer.train(resume_from_checkpoint=str(state) if state else None)
    finally:
        tracking.finish()
    export(trainer, job, log, FINAL)
    if main:
        log.write("end", held_out_loss=milestones.held_out_loss)


def arguments(job: Job, dtype: torch.dtype, **names: Any) -> SFTConfig:
    """Our configuration in TRL's words."""
    config = job.config
    schedule, optimizer = config.schedule, config.optimizer
    return SFTConfig(
        output_dir=str(job.folder),
        num_train_epochs=schedule.epochs,
        max_steps=schedule.max_steps or -1,
        per_device_train_batch_size=schedule.batch_size,
        per_device_eval_batch_size=schedule.batch_size,
        gradient_accumulation_steps=schedule.accumulation,
        lr_scheduler_type=schedule.lr_scheduler,
        warmup_steps=schedule.warmup,  # below 1 it is a share of the steps
        optim=optimizer.name,
        learning_rate=optimizer.learning_rate,
        weight_decay=optimizer.weight_decay,
        adam_beta1=optimizer.beta1,
        adam_beta2=optimizer.beta2,
        max_grad_norm=optimizer.max_grad_norm,
        seed=config.seeds.model,
        data_seed=config.seeds.data,
        full_determinism=True,
        dataloader_num_workers=0,
        use_cpu=on_cpu(config),
        bf16=dtype == torch.bfloat16,
        fp16=dtype == torch.float16,
        gradient_checkpointing=config.precision.gradient_checkpointing,
        dataset_kwargs={"skip_prepare_dataset": True},  # rows.encode has done it
        max_length=None,
        prediction_loss_only=True,
        logging_steps=1,
        logging_nan_inf_filter=False,  # it would hide what must stop the training
        save_strategy="no",  # Milestones says when
        save_total_limit=2,
        report_to=[],  # the trackers' callbacks come with a fence around them
        disable_tqdm=True,
        **trainer_arguments(config, cpu=on_cpu(config)),
        **names,
    )


def on_cpu(config: TrainingConfig) -> bool:
    """Whether training runs on the CPU."""
    device = config.distribution.device
    if device == "cuda" and not torch.cuda.is_available():
        raise TrainingError("torch sees no GPU", where="distribution.device", mend="Write distribution.device=cpu.")
    return device == "cpu" or not torch.cuda.is_available()


def compute_dtype(config: TrainingConfig) -> torch.dtype:
    """Of the forward and backward passes; `auto` is bfloat16 on a GPU that has it, else float32."""
    if config.precision.dtype != "auto":
        return getattr(torch, config.precision.dtype)
    return torch.float32 if on_cpu(config) or not torch.cuda.is_bf16_supported() else torch.bfloat16


def load_model(job: Job, dtype: torch.dtype) -> Any:
    """The base, with the adapter that is trained on. Weights that are trained themselves are float32."""
    config, quantization = job.config, None
    if config.method == "qlora":
        bits = config.quantization
        quantization = BitsAndBytesConfig(
            load_in_4bit=bits.bits == 4,
            load_in_8bit=bits.bits == 8,
            bnb_4bit_quant_type=bits.type,
            bnb_4bit_use_double_quant=bits.double,
            bnb_4bit_compute_dtype=dtype,
        )
    model = AutoModelForCausalLM.from_pretrained(
        job.base,
        dtype=torch.float32 if config.method == "full" else dtype,
        quantization_config=quantization,
        local_files_only=True,
        **model_arguments(config.distribution),
    )
    if quantization and on_cpu(config):
        for module in model.modules():
            # bitsandbytes repacks weights at the first forward pass without gradients, for a kernel that only does
            # inference; it would do so between two optimizer steps, and not at all with rows no multiple of a block.
            if hasattr(module, "support_avx512bf16_for_cpu"):
                module.support_avx512bf16_for_cpu = False
    return PeftModel.from_pretrained(model, job.adapter, is_trainable=True) if job.adapter else model


def lora(config: TrainingConfig) -> LoraConfig:
    """A fresh adapter."""
    targets = config.lora.target_modules
    return LoraConfig(
        r=config.lora.r,
        lora_alpha=config.lora.alpha,
        lora_dropout=config.lora.dropout,
        target_modules="all-linear" if targets == ["all-linear"] else targets,
        use_rslora=config.lora.rslora,
        task_type="CAUSAL_LM",
    )


def export(trainer: Trainer, job: Job, log: Log, name: str) -> None:
    """Write a plain Hugging Face or PEFT folder; it appears whole, by one rename. Every rank calls this."""
    accelerator = trainer.accelerator
    folder, growing = job.folder / EXPORTS / name, job.folder / EXPORTS / f".{name}"
    require_finite("largest weight", largest_weight(trainer.model), trainer.state.global_step, trainer.state.max_steps)
    if accelerator.is_main_process:
        growing.mkdir(parents=True)
    accelerator.wait_for_everyone()
    save_weights(trainer, growing)
    if accelerator.is_main_process:
        (growing / "README.md").unlink(missing_ok=True)
        if job.config.method == "full":
            _as_base(growing, job)
        if job.chat_template:
            trainer.processing_class.save_pretrained(growing)
        for path in growing.iterdir():
            states.sync(path)
        if folder.exists():  # of an earlier life, which was killed before it kept a state: the same bytes
            os.rename(folder, folder.with_name(f".{name}-before"))
        os.rename(growing, folder)
        states.sync(folder.parent)
        shutil.rmtree(folder.with_name(f".{name}-before"), ignore_errors=True)
        log.write("exported", name=name, epoch=round(trainer.state.epoch or 0.0, 6), step=trainer.state.global_step)
    accelerator.wait_for_everyone()


def _as_base(folder: Path, job: Job) -> None:
    """Everything but the values of the weights is the base's: its configuration, and the type of its numbers.

    Training holds weights in float32, and the trainer writes what it needs itself into the configuration.
    """
    dtype = AutoConfig.from_pretrained(job.base, local_files_only=True).dtype
    # Gathered shards hold tied weights twice; read and written again they are what one process writes.
    if dtype not in (None, torch.float32) or job.config.distribution.kind == "fsdp":
        wide = folder / "wide"
        wide.mkdir()
        for path in [*folder.glob("*.safetensors*"), folder / "config.json"]:
            path.rename(wide / path.name)
        AutoModelForCausalLM.from_pretrained(wide, dtype=dtype, local_files_only=True).save_pretrained(folder)
        shutil.rmtree(wide)
    for name in ("config.json", "generation_config.json"):
        (folder / name).unlink(missing_ok=True)
        if (job.base / name).exists():
            shutil.copyfile(job.base / name, folder / name)
