"""What a training configuration may say: one dataclass per group, the schema that Hydra composes and checks against.

They are not frozen, because OmegaConf makes a frozen structured config read-only before it is composed; nothing changes
one after `load_training` has returned it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

MISSING: Any = "???"  # OmegaConf's mark of a value that must be given


@dataclass
class Model:
    """What is trained.

    Attributes:
        base: folder of full weights, of a version, or of an adapter that is trained on; `name@40-hex-revision` of a hub
            model in the local cache. Folders are relative to the project.
        chat_template: a `.jinja` file to train and publish with, where the base has none or another is wanted.
    """

    base: str = MISSING
    chat_template: str | None = None


@dataclass
class Data:
    """What it is trained on.

    Attributes:
        files: `.jsonl` files of `{"prompt", "completion"}` or `{"messages": […]}` rows, relative to the project.
        rows: how many rows are kept after shuffling, `None` for all.
        shuffle_seed: of the order in which rows are kept and seen.
        held_out: share of the rows kept from training, for the loss on unseen rows; 0 keeps none.
        split_seed: of the choice of held-out rows.
        max_length: longest example in tokens; a longer one is cut and counted.
        max_leaked: share of an eval set that may stand in the training text before training is refused.
    """

    files: list[str] = MISSING
    rows: int | None = None
    shuffle_seed: int = 0
    held_out: float = 0.0
    split_seed: int = 0
    max_length: int = 1024
    max_leaked: float = 0.0


@dataclass
class Lora:
    """The adapter (PEFT's `LoraConfig`): rank, alpha, dropout, which modules (`all-linear`, or their names)."""

    r: int = 8
    alpha: int = 16
    dropout: float = 0.0
    target_modules: list[str] = field(default_factory=lambda: ["all-linear"])
    rslora: bool = False


@dataclass
class Quantization:
    """How a QLoRA base is held (bitsandbytes): 4 or 8 bits, the 4-bit type, whether its constants are quantised too."""

    bits: int = 4
    type: str = "nf4"
    double: bool = True


@dataclass
class Optimizer:
    """One of transformers' optimizers by its name there, with its learning rate and limits."""

    name: str = "adamw_torch"
    learning_rate: float = 2e-4
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    max_grad_norm: float = 1.0


@dataclass
class Schedule:
    """How long and in which steps.

    Attributes:
        epochs: passes over the data; may be a fraction.
        max_steps: stop after so many optimizer steps, `None` for what the epochs give.
        batch_size: examples of one process in one forward pass.
        accumulation: forward passes of one optimizer step.
        lr_scheduler: one of transformers' schedulers by its name there.
        warmup: share of the steps in which the learning rate rises.
        save_steps: keep the trainer's state every so many steps (a kill costs no more than these), `None`: every epoch.
    """

    epochs: float = 1.0
    max_steps: int | None = None
    batch_size: int = 8
    accumulation: int = 1
    lr_scheduler: str = "cosine"
    warmup: float = 0.1
    save_steps: int | None = None


@dataclass
class Precision:
    """`dtype` of the computation (`auto`: bfloat16 on a GPU that has it, else float32); checkpointing trades time."""

    dtype: str = "auto"
    gradient_checkpointing: bool = False


@dataclass
class Distribution:
    """Who shares the work.

    Attributes:
        kind: `none`, `ddp`, `fsdp` or `deepspeed`.
        processes: on this machine; 1 with `none`.
        zero_stage: of DeepSpeed: 1, 2 or 3.
        device: `auto` (a GPU where there is one), `cpu` or `cuda`.
        threads: of a process on the CPU; the order of sums depends on it, and so does every bit of the result.
    """

    kind: str = "none"
    processes: int = 1
    zero_stage: int = 2
    device: str = "auto"
    threads: int = 1


@dataclass
class Seeds:
    """`model`: of fresh weights and dropout; `data`: of the order within an epoch."""

    model: int = 0
    data: int = 0


@dataclass
class Tracking:
    """Where the training's curves and the gate's verdicts are written.

    Attributes:
        trackers: of `mlflow`, `wandb`, `tensorboard`, `comet`, `trackio`, `neptune`.
        project: what they call the project.
        uri: of an MLflow server or database, `None` for a SQLite file of the project.
    """

    trackers: list[str] = field(default_factory=list)
    project: str = "evalgate"
    uri: str | None = None


@dataclass
class Publishing:
    """Where versions appear: folder, whether every epoch becomes one, and the key that signs them (model-signing)."""

    runs: str = "runs"
    epochs: bool = True
    sign_key: str | None = None


@dataclass
class TrainingConfig:
    """Everything that makes a candidate.

    Attributes:
        name: of the version, `None` for the next free `v<number>`.
        why: the rationale: why this candidate is made.
        hypothesis: what it should improve and may not break.
        method: `lora`, `qlora` or `full`.
    """

    name: str | None = None
    why: str = ""
    hypothesis: str = ""
    method: str = "lora"
    model: Model = field(default_factory=Model)
    data: Data = field(default_factory=Data)
    lora: Lora = field(default_factory=Lora)
    quantization: Quantization = field(default_factory=Quantization)
    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: Schedule = field(default_factory=Schedule)
    precision: Precision = field(default_factory=Precision)
    distribution: Distribution = field(default_factory=Distribution)
    seeds: Seeds = field(default_factory=Seeds)
    tracking: Tracking = field(default_factory=Tracking)
    publishing: Publishing = field(default_factory=Publishing)

    def as_json(self) -> dict[str, Any]:
        """The resolved configuration as JSON values."""
        return asdict(self)

    def recipe(self) -> dict[str, Any]:
        """The part that decides what the weights become: the same recipe on the same bytes is never trained twice."""
        names = ("name", "why", "hypothesis", "tracking", "publishing")
        recipe = {key: value for key, value in asdict(self).items() if key not in names}
        recipe["data"].pop("max_leaked")
        recipe["schedule"].pop("save_steps")
        recipe["model"].pop("base")  # paths mean nothing: the digests of base, template and data stand beside it
        recipe["model"].pop("chat_template")
        recipe["data"].pop("files")
        # what this method and this way of sharing never read
        if self.method == "full":
            recipe.pop("lora")
        if self.method != "qlora":
            recipe.pop("quantization")
        if self.distribution.kind != "deepspeed":
            recipe["distribution"].pop("zero_stage")
        return recipe
