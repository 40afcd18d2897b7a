"""What the trainer's process says when it fails: one line, and how to mend it where that is known."""

from __future__ import annotations

import pytest

from evalgate.errors import TrainingError
from evalgate.training.worker import explain


def test_an_error_of_ours_is_told_as_it_is() -> None:
    """What, where and mend reach the parent."""
    told = explain(TrainingError("it fell", where="step 7", mend="Lift it."))
    assert told == {"what": "it fell", "where": "step 7", "mend": "Lift it."}


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB\ndetails")])
def test_want_of_memory_is_told_with_what_takes_less(error: Exception) -> None:
    """Whichever library ran out of it."""
    told = explain(error)
    assert told["what"].startswith("the trainer is out of memory")
    assert "schedule.batch_size" in told["mend"]
    assert "\n" not in told["what"]


def test_any_other_error_is_its_type_and_first_line() -> None:
    """The traceback is in the log; a page of it does not help in the summary."""
    told = explain(KeyError("model.layers.0\nand more"))
    assert told["what"].startswith("the trainer failed: KeyError: ")
    assert explain(ValueError("\n first\n second"))["what"] == "the trainer failed: ValueError: first"
    assert len(explain(ValueError("x" * 9999))["what"]) < 600


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 1491072 vs 1490960"),
    ],
)
def test_a_full_disk_is_told_as_one(error: Exception) -> None:
    """Also where torch speaks of positions in a container."""
    told = explain(error)
    assert told["what"].startswith("the trainer could not write: ")
    assert "Make room" in told["mend"]
