"""What a leaked copy of an eval sample would say: the forms in which people copy a question."""

from __future__ import annotations

from typing import Any

import pytest

from evalgate import Sampling, Scorer, Task
from evalgate.leakage import find_leaks
from evalgate.session.leakage import eval_texts

ANY = Scorer("any", lambda completion, sample: 1.0)
CHAT = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "{{ q }}"})


def task(prompt: Any, target: Any) -> Task:
    """One question."""
    sample = {"id": "a", "q": "Capital of France?", "target": target}
    return Task(samples=[sample], prompt=prompt, sampling=Sampling(max_tokens=4), scorers=[ANY])


@pytest.mark.parametrize(
    ("prompt", "target", "row"),
    [
        ("{{ q }}", "Paris", "Capital of France? Paris"),
        ("{{ q }}", 75, "Capital of France? 75"),
        ("{{ q }}", None, "Capital of France?"),
        (CHAT, "Paris", "Be brief.\nCapital of France?\nParis"),
        (CHAT, "Paris", "Capital of France?\nParis"),
        ("{{ q }}", ["Paris", "the city of Paris"], "capital of france: the city of Paris"),
        ("{{ q }}", ["Paris", "Lutetia"], "Capital of France? Paris, Lutetia"),
        ("{{ q }}", [48, 2], "Capital of France? 48, 2"),
    ],
)
def test_a_short_sample_is_found_in_each_form(prompt: Any, target: Any, row: str) -> None:
    """With and without the system message, with all right answers and with one; another answer is another row."""
    texts = eval_texts(task(prompt, target), "suite/task")
    [found] = find_leaks([("row", row)], {"suite/task": texts}).found["suite/task"]
    assert (found.id, found.kind) == ("a", "exact")
    leaks = find_leaks([("row", f"{row} perhaps")], {"suite/task": texts})
    assert leaks.found == {"suite/task": ()}
    assert leaks.samples == {"suite/task": 1}
