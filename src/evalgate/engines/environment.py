"""The child's environment: an allow-list without secrets, offline, no telemetry, set before anything is imported."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping

NAMES = frozenset(
    {
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "LANG",
        "LANGUAGE",
        "TZ",
        "TMPDIR",
        "PYTHONPATH",
        "LD_LIBRARY_PATH",
        "LD_PRELOAD",
        "XDG_CACHE_HOME",
        "HF_HOME",
        "HF_HUB_CACHE",
        "VLLM_CACHE_ROOT",
        "VLLM_BATCH_INVARIANT",
        "VLLM_CONFIG_ROOT",
        "VLLM_CPU_OMP_THREADS_BIND",
        "VLLM_CPU_NUM_OF_RESERVED_CPU",
        "VLLM_WORKER_MULTIPROC_METHOD",
        "VLLM_HOST_IP",
        "TRITON_CACHE_DIR",
    }
)
PREFIXES = ("LC_", "CUDA_", "NVIDIA_", "NCCL_", "OMP_", "MKL_", "KMP_", "GOMP_", "GLOO_", "TORCHINDUCTOR_")

ALWAYS = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    # The engine core in this process: scheduling is deterministic and a CPU start four times faster.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONUTF8": "1",
}
# The first log-prob call on a CPU hides a torch.compile of 11 s that gains nothing there.
ON_CPU = {"TORCHDYNAMO_DISABLE": "1"}


def child_environment(
    device: str, environ: Mapping[str, str] | None = None, also: Collection[str] = ()
) -> dict[str, str]:
    """The variables that a child gets: tokens and keys are not among them.

    Args:
        device: its device class (`cpu`, `cuda`).
        environ: this process's variables.
        also: names of further ones that this child needs, such as the key of the endpoint that it asks.
    """
    environ = os.environ if environ is None else environ
    kept = {
        name: value for name, value in environ.items() if name in NAMES or name in also or name.startswith(PREFIXES)
    }
    # Threads that wait by spinning starve each other as soon as anything else runs: measured 13 times slower on a busy
    # machine with two cores.
    threads = {"OMP_NUM_THREADS": str(len(os.sched_getaffinity(0))), "OMP_WAIT_POLICY": "PASSIVE"}
    return threads | kept | ALWAYS | (ON_CPU if device == "cpu" else {})
