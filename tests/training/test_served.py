"""Whatever trained it: the engine serves the version."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalgate.engines import EngineProcess, EngineSettings
from evalgate.preflight import read_checkpoint
from evalgate.request import Request
from tests.training.conftest import Lit, Shared
from tests.training.jobs import V1

PROMPTS = [f"Q: {a}+{b}=\nA:" for a in (2, 11) for b in (3, 14)]


def test_one_engine_serves_all(
    ddp: Shared,
    fsdp: Shared,
    fsdp_full: Shared,
    deepspeed: Shared,
    lit: Lit,
    no_four_bits: str | None,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    """Versions of DDP, FSDP, DeepSpeed, Lightning and QLoRA in one vLLM: each answers, and otherwise than its base."""
    several = [ddp, fsdp, fsdp_full, deepspeed]
    if no_four_bits is None:
        several.append(request.getfixturevalue("qlora"))
    trained = {made.version.name: made.checkpoint for made in several}
    trained |= {name: read_checkpoint(lit.runs / name, base=V1) for name in ("lit", "lit-lora")}
    base = read_checkpoint(V1)
    asked = {
        name: [Request(checkpoint.digest, prompt, continuations=(" 5", " 14")) for prompt in PROMPTS]
        + [Request(checkpoint.digest, prompt, max_tokens=4) for prompt in PROMPTS]
        for name, checkpoint in {"base": base, **trained}.items()
    }
    engine = EngineProcess(EngineSettings(log_dir=tmp_path), [base, *trained.values()])
    try:
        given = {each.request: each for each in engine.generate([one for some in asked.values() for one in some])}
    finally:
        engine.close()
    said = {name: [given[one.id] for one in some] for name, some in asked.items()}
    assert not [each.error for some in said.values() for each in some if each.error]
    for name in trained:
        assert [each.logprobs for each in said[name][:4]] != [each.logprobs for each in said["base"][:4]], name
        assert all(each.text is not None for each in said[name][4:])
