from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from evalgate.checkpoint import Checkpoint
from evalgate.engines import protocol
from evalgate.engines.backend import Refused, check_effect, check_finite
from evalgate.engines.child import last_error
from evalgate.engines.worker import _explain, first_line
from evalgate.errors import CheckpointError

BASE = Checkpoint("v1", "/v1", "full", "sha256:1", "sha256:2", None, "LlamaForCausalLM", 64)
START = protocol.Start(
    engine="vllm", options={}, device="cpu", checkpoints=(BASE,), first=BASE.digest, max_length=None, scratch="/s"
)  # fmt: skip


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("no room"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.10 GiB"),
        ValueError("No available memory for the cache blocks. Try increasing `gpu_memory_utilization`"),
        ValueError("Available memory on node 0 (6.86/16.59 GiB) on kv cache allocation is less than requested memory"),
        ValueError("To serve at least one request with the models's max seq len, 4.0 GiB KV cache is needed"),
    ],
)
def test_a_start_without_memory_says_which_settings_to_lower(error: Exception) -> None:
    """The libraries' own words for it (as seen from torch and vLLM), needed and free included, in one line."""
    told = str(protocol.error_from_json(_explain(error, START)))
    assert "out of memory" in told
    assert "max_model_len" in told
    assert str(error)[:30] in told


def test_other_faults_are_not_called_memory() -> None:
    """The control: a plain failure keeps its own words; a typed error keeps its class."""
    assert "memory" not in str(protocol.error_from_json(_explain(RuntimeError("shape mismatch"), START)))
    assert isinstance(protocol.error_from_json(_explain(CheckpointError("x"), START)), CheckpointError)


def test_a_missing_library_of_another_name_is_no_missing_extra() -> None:
    """Only the engine's own libraries come with an extra."""
    assert _explain(ModuleNotFoundError("no", name="peft"), START)["kind"] == "MissingExtraError"
    assert _explain(ModuleNotFoundError("no", name="numpy"), START)["kind"] == "EngineError"


def test_of_a_validation_error_the_telling_line_is_kept() -> None:
    """pydantic puts it third."""
    text = (
        "1 validation error for EngineArgs\nblock_size\n  Value error, must be a power of two [type=value_error]\n  url"
    )
    assert first_line(ValueError(text)) == "ValueError: must be a power of two"


def test_the_log_tail_prefers_a_line_that_names_an_error(tmp_path: Path) -> None:
    """Not the noise after it; control characters are gone; an empty log says nothing."""
    log = tmp_path / "log"
    log.write_text("start\nRuntimeError: \x1b[31mboom\nResource tracker says goodbye\n\n")
    assert last_error(log) == "RuntimeError:  [31mboom"
    log.write_text("only noise\n")
    assert last_error(log) == "only noise"
    log.write_text("")
    assert last_error(log) == ""


def test_probes_refuse_what_is_not_finite_or_changes_nothing() -> None:
    """And accept what is."""
    check_finite("v", [-1.0, -2.0])
    check_effect("v", [-1.0, -2.0], [-1.0, -2.5])
    for broken in (float("nan"), float("-inf")):
        with pytest.raises(Refused, match="NaN or infinite"):
            check_finite("v", [-1.0, broken])
    with pytest.raises(Refused, match="changes no log-probability"):
        check_effect("v", [-1.0, -2.0], [-1.0, -2.0])


def test_the_engine_package_imports_the_standard_library_only() -> None:
    """A pytest run without a model must not pay for torch."""
    heavy = "{'torch', 'vllm', 'transformers', 'peft', 'numpy', 'pydantic', 'pandas'}"
    code = f"import sys, evalgate.engines, evalgate.engines.worker; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
