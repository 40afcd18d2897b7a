"""The trainer, really run: what it logs, exports, counts and refuses."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from evalgate.errors import TrainingError
from evalgate.preflight import read_checkpoint
from evalgate.training.log import Line, read_log
from evalgate.training.process import train
from evalgate.training.schema import Optimizer, Schedule
from tests.training.conftest import CANARY
from tests.training.jobs import CHATS, SUMS, V1, V2, Run, config, make_job

STEP = {
    *("kind", "step", "epoch", "loss", "grad_norm", "learning_rate", "tokens", "tokens_per_second"),
    *("data_seconds", "step_seconds", "seconds"),
}


def test_the_log_begins_with_what_is_trained(straight: Run) -> None:
    """`start` says how long, with how many processes, and on what."""
    start = straight.lines[0]
    assert start["kind"] == "start"
    expected = {"steps": 32, "epochs": 2, "world_size": 1, "distributed": "none", "resumed_from": None, "ignored": []}
    assert {key: start[key] for key in expected} == expected
    assert {key: start[key] for key in ("rows", "cut", "dropped", "held_out")} == {
        "rows": 64,
        "cut": 0,
        "dropped": 0,
        "held_out": 8,
    }
    assert start["trainable"] == 3 * 4 * (4 * (96 + 96) + 3 * (96 + 256))  # layers · rank · (attention + feed-forward)


def test_every_step_is_logged(straight: Run) -> None:
    """Thirty-two lines with every field, in order, and what they say is possible."""
    steps = [line for line in straight.lines if line["kind"] == "step"]
    assert [line["step"] for line in steps] == list(range(1, 33))
    assert all(set(line) == STEP for line in steps)
    assert all(line["tokens"] > 0 and line["grad_norm"] > 0 and line["step_seconds"] > 0 for line in steps)
    assert all(0 <= line["data_seconds"] < line["step_seconds"] for line in steps)
    assert max(line["learning_rate"] for line in steps) == pytest.approx(1e-3)
    assert straight.trained.losses == tuple(line["loss"] for line in steps)
    # An epoch shows every token once: the prompts with their mark of beginning, the completions with their mark of end.
    tokens = sum(len(row["prompt"] + row["completion"]) + 2 for row in SUMS)
    assert [sum(line["tokens"] for line in half) for half in (steps[:16], steps[16:])] == [tokens, tokens]


def test_the_caller_hears_every_line(straight: Run) -> None:
    """What `on_line` got is the log."""
    assert list(straight.lines) == read_log(straight.job.folder)


def test_states_are_kept_between_and_at_epochs(straight: Run) -> None:
    """Every three steps and at the epoch; the last two states stay."""
    assert [line["step"] for line in straight.lines if line["kind"] == "saved"] == [
        3,
        6,
        9,
        12,
        15,
        16,
        18,
        21,
        24,
        27,
        30,
    ]
    assert {path.name for path in straight.job.folder.glob("checkpoint-*")} == {"checkpoint-27", "checkpoint-30"}


def test_an_epoch_and_the_end_are_exported(straight: Run) -> None:
    """Two plain PEFT folders with nothing else in them; the last epoch is `final` and not there twice."""
    assert [(export.name, export.epoch, export.step) for export in straight.trained.exports] == [
        ("epoch-1", 1.0, 16),
        ("final", 2.0, 32),
    ]
    for export in straight.trained.exports:
        assert {path.name for path in export.folder.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
        assert json.loads((export.folder / "adapter_config.json").read_text())["r"] == 4
    assert {path.name for path in (straight.job.folder / "exports").iterdir()} == {"epoch-1", "final"}


def test_the_held_out_loss_is_of_the_last_step(straight: Run) -> None:
    """It is there, near the training loss (the rows are the same kind), and in the log's end."""
    assert straight.trained.held_out_loss == straight.lines[-1]["held_out_loss"]
    assert straight.trained.held_out_loss == pytest.approx(straight.trained.losses[-1], abs=0.5)


def test_the_environment_says_what_may_differ_elsewhere(straight: Run) -> None:
    """Versions, processor, threads and determinism."""
    environment = straight.trained.environment
    assert {"torch", "transformers", "trl", "peft", "accelerate", "numpy"} <= set(environment["packages"])
    assert environment["threads"] == 1
    assert environment["deterministic"] is True
    assert environment["processor"]["capability"]
    assert environment["flags"]["OMP_NUM_THREADS"] == "1"
    assert environment["gpu"] is None


def test_secrets_do_not_reach_the_child(straight: Run, child_environ: dict[str, str]) -> None:
    """The parent's environment held four; the child's held what it needs, and was offline."""
    assert child_environ["HF_HUB_OFFLINE"] == "1"
    assert child_environ["PYTHONHASHSEED"] == "1"  # the control: what is allowed did come through
    assert CANARY not in child_environ.values()
    assert not any(CANARY in path.read_text("utf-8", "ignore") for path in straight.job.folder.rglob("*.[jl]*"))


def test_a_finished_training_is_not_run_again(straight: Run) -> None:
    """A parent killed between the end and publishing finds everything there, without a child."""
    heard: list[Line] = []
    began = time.monotonic()
    assert train(straight.job, heard.append) == straight.trained
    assert time.monotonic() - began < 1
    assert heard == []


def test_full_fine_tuning_on_chats(tmp_path: Path) -> None:
    """Full weights on messages, with a template of our own: the base's configuration, other weights, the tokenizer."""
    template = tmp_path / "chat.jinja"
    template.write_text(
        (V1 / "chat_template.jinja").read_text("utf-8").replace("message.content", "message.content|trim")
    )
    schedule = Schedule(epochs=9, max_steps=5, batch_size=4, accumulation=2)
    job = make_job(tmp_path / "work", config(method="full", schedule=schedule), [*CHATS, LONG], chat_template=template)
    trained = train(job)
    (final,) = trained.exports
    assert (final.name, final.step, final.epoch) == ("final", 5, 1.0)
    assert len(trained.losses) == 5
    assert trained.losses[-1] < trained.losses[0]
    assert trained.held_out_loss is None
    start = read_log(job.folder)[0]
    assert (start["rows"], start["cut"], start["dropped"]) == (33, 1, 0)
    assert (final.folder / "config.json").read_bytes() == (V1 / "config.json").read_bytes()
    assert (final.folder / "chat_template.jinja").read_text("utf-8") == template.read_text("utf-8")
    candidate, base = read_checkpoint(final.folder), read_checkpoint(V1)
    assert candidate.kind == base.kind == "full"
    assert candidate.weights != base.weights
    assert weight_types(final.folder) == weight_types(V1)


def test_an_adapter_is_trained_on(tmp_path: Path) -> None:
    """It stays what it is, of its own rank and not the configuration's, and moves a little."""
    schedule = Schedule(max_steps=2, batch_size=4, warmup=0.0)
    job = make_job(tmp_path / "work", config(schedule=schedule), adapter=V2)
    (final,) = train(job).exports
    before, after = (load_file(folder / "adapter_model.safetensors") for folder in (V2, final.folder))
    assert set(after) == set(before)
    steps = [float(np.abs(after[name] - before[name]).max()) for name in before]
    assert 0 < max(steps) < 3e-3  # two steps of Adam at 1e-3
    assert json.loads((final.folder / "adapter_config.json").read_text())["r"] == 8


def weight_types(folder: Path) -> dict[str, str]:
    """Every tensor's type, of the header of the weights."""
    with (folder / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return {name: value["dtype"] for name, value in header.items() if name != "__metadata__"}


LONG = {"messages": [{"role": "user", "content": "Say a"}, {"role": "assistant", "content": "a" * 100}]}


@pytest.mark.parametrize(
    ("learning_rate", "max_steps", "told"),
    [
        (1e4, None, "the gradient norm is nan at step 3 of 16"),
        (1e30, None, "the loss is nan at step 3 of 16"),
        (1e30, 2, "the held-out loss is nan at step 2 of 2"),
    ],
)
def test_a_number_that_is_none_stops_the_training(
    tmp_path: Path, learning_rate: float, max_steps: int | None, told: str
) -> None:
    """It stops at that very step, says which number it was, and exports nothing."""
    schedule = Schedule(epochs=2, batch_size=8, max_steps=max_steps)
    some = config(optimizer=Optimizer(learning_rate=learning_rate), schedule=schedule)
    job = make_job(tmp_path / "work", some, held_out=SUMS[:8])
    with pytest.raises(TrainingError, match=told) as caught:
        train(job)
    assert "Lower optimizer.learning_rate" in str(caught.value)
    assert str(job.folder / "trainer.log") in str(caught.value)
    lines = read_log(job.folder)
    assert [line["step"] for line in lines if line["kind"] == "step"] == [1, 2]
    assert lines[-1]["kind"] == "fail"
    assert not list((job.folder / "exports").glob("[!.]*"))


def test_the_parent_needs_no_torch() -> None:
    """Neither does importing what starts the trainer."""
    code = "import sys, evalgate.training.process; print({'torch', 'transformers', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
