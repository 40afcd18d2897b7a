"""What is said of a version that was trained again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalgate.finetune import prepare, publish_exports
from evalgate.reproduce import LOSS_TOLERANCE, compared, recipe_again
from evalgate.version import DataFile, Lineage, TrainingRun
from evalgate.versions import read_lineage
from tests.training.project import make_project
from tests.unit.test_finetune import export

RUN = TrainingRun(
    key="sha256:" + "a" * 64,
    config={"lora": {"r": 4}},
    data=(DataFile("data/sums.jsonl", "sha256:" + "b" * 64, 32, 32, "prompt-completion"),),
    data_digest="sha256:" + "c" * 64,
    losses=(2.0, 1.0, 0.5),
)
THEN = Lineage(
    name="v3",
    digest="sha256:" + "1" * 64,
    kind="adapter",
    files={"adapter_model.safetensors": "sha256:" + "2" * 64, "evalgate.log.jsonl": "sha256:" + "3" * 64},
    created="2026-01-01T00:00:00+00:00",
    training=RUN,
    environment={"packages": {"torch": "2.13.0"}, "threads": 1, "processor": {"features": ["avx2", "avx512f"]}},
)


def other(*, losses: tuple[float, ...] = RUN.losses, **environment: Any) -> Lineage:
    """The version made again with other bytes, in an environment that may differ."""
    return replace(
        THEN,
        digest="sha256:" + "9" * 64,
        files={"adapter_model.safetensors": "sha256:" + "8" * 64, "evalgate.log.jsonl": "sha256:" + "7" * 64},
        training=replace(RUN, losses=losses),
        environment={**THEN.environment, **environment},
    )


def test_the_same_bytes_are_one_line() -> None:
    """Where the digests agree nothing else matters, and the log's times differ in any case."""
    again = replace(THEN, files={**THEN.files, "evalgate.log.jsonl": "sha256:" + "0" * 64}, environment={"threads": 8})
    found = compared(THEN, again)
    assert found.identical
    assert found.agrees
    assert found.lines() == ["v3 reproduced, byte for byte: 111111111111"]


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"packages": {"torch": "2.14.0"}}, "packages.torch: was 2.13.0, is 2.14.0"),
        ({"threads": 2}, "threads: was 1, is 2"),
        ({"processor": {"features": ["avx2"]}}, "processor.features: was avx2 avx512f, is avx2"),
        ({"gpu": "A100"}, "gpu: was not there, is A100"),
    ],
)
def test_another_environment_is_named(environment: dict[str, Any], said: str) -> None:
    """Library, thread count, processor feature and device stand with their values then and now."""
    found = compared(THEN, other(**environment))
    assert not found.identical
    assert found.agrees
    assert f"  {said}" in found.lines()
    assert found.files == ("adapter_model.safetensors",)
    assert "losses agree: by 0 at most" in found.lines()[-1]


def test_other_bytes_in_the_same_environment_agree_with_nothing() -> None:
    """Without a difference that explains it, equal losses are no excuse."""
    found = compared(THEN, other())
    assert not found.agrees
    assert "not deterministic here" in "\n".join(found.lines())


def test_losses_that_differ_are_named_by_step() -> None:
    """The largest relative difference counts, with its step."""
    found = compared(THEN, other(losses=(2.0, 1.1, 0.5), threads=2))
    assert not found.agrees
    assert (round(found.loss_difference, 6), found.loss_step) == (0.1, 2)
    assert "losses differ: by 0.1 at most (relative, step 2)" in found.lines()[-1]


def test_a_curve_of_another_length_never_agrees() -> None:
    """One step fewer is another training."""
    assert not compared(THEN, other(losses=(2.0, 1.0), threads=2)).agrees


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=20), st.floats(-0.5, 0.5))
def test_agreement_is_the_tolerance(losses: list[float], change: float) -> None:
    """A curve that is off by a share everywhere agrees where that share is within the tolerance, and not beyond."""
    then = replace(THEN, training=replace(RUN, losses=tuple(losses)))
    found = compared(then, other(losses=tuple(loss * (1 + change) for loss in losses), threads=2))
    assert found.loss_difference == pytest.approx(abs(change), abs=1e-9)
    if abs(abs(change) - LOSS_TOLERANCE) > 1e-9:
        assert found.agrees == (abs(change) < LOSS_TOLERANCE)


def test_a_signed_version_needs_no_private_key_to_be_made_again(tmp_path: Path) -> None:
    """Nothing is published, so nothing is signed: whoever checks a version need not be who signs them."""
    root = make_project(tmp_path / "project").path
    (root / "key.pem").write_text("")
    overrides, state = ("publishing.sign_key=key.pem",), root / ".evalgate"
    signed = prepare(root / "conf/tiny.yaml", overrides, root=root, state=state)
    unsigned = prepare(root / "conf/tiny.yaml", (), root=root, state=state)
    folder = publish_exports(unsigned, export(unsigned, tmp_path / "exports"), unsigned.folder, runs=unsigned.runs)[-1]
    lineage = read_lineage(folder)
    assert lineage.training
    then = replace(lineage, training=replace(lineage.training, config=signed.config.as_json()))
    (root / "key.pem").unlink()
    again = recipe_again(then, root=root, state=state)
    assert (again.key, again.config.publishing.sign_key) == (signed.key, None)
