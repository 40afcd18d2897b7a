"""What may make the same training come out otherwise: libraries, processor, threads, GPU, flags. Read in the child."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import torch

from evalgate.training.schema import TrainingConfig

PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "safetensors", "tokenizers", "datasets", "numpy")
FEATURES = ("avx2", "fma", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "asimd", "sve")
FLAGS = ("OMP_", "MKL_", "KMP_", "GOMP_", "ATEN_", "DNNL_", "ONEDNN_", "CUBLAS_", "CUDA_LAUNCH", "NCCL_", "TORCH_")


def environment(config: TrainingConfig, world_size: int) -> dict[str, Any]:
    """Name to value, as JSON; `reproduce` compares it name by name."""
    used = [*PACKAGES]
    used += ["bitsandbytes"] if config.method == "qlora" else []
    used += ["deepspeed"] if config.distribution.kind == "deepspeed" else []
    return {
        "packages": {name: importlib.metadata.version(name) for name in used},
        "python": platform.python_version(),
        "platform": " ".join((platform.system(), platform.machine(), *platform.libc_ver())),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "world_size": world_size,
        "gpu": _gpu() if torch.cuda.is_available() and config.distribution.device != "cpu" else None,
        "flags": {name: value for name, value in sorted(os.environ.items()) if name.startswith(FLAGS)},
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matmul_precision": torch.get_float32_matmul_precision(),
    }


def _processor() -> dict[str, Any]:
    """Model, the level of instructions that torch uses, and which of those that matter for it the processor has."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    said = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    has = (said.get("flags") or said.get("Features") or "").split()
    return {
        "model": said.get("model name") or platform.processor() or platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "features": [name for name in FEATURES if name in has],
    }


def _gpu() -> dict[str, Any]:
    driver = Path("/proc/driver/nvidia/version")
    return {
        "name": torch.cuda.get_device_name(),
        "driver": driver.read_text("utf-8").splitlines()[0] if driver.exists() else None,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }
