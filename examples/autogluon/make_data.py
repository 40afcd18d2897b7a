"""Records and labels to try `learn.py` on: 1,000 answers with four metrics, and people who are not quite any of them.

python examples/autogluon/make_data.py FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from random import Random

from evalgate import Evaluation, Metric, Row
from evalgate.digest import digest
from evalgate.store import Store

N = 1000
METRICS = tuple(Metric(name, digest(name), binary=name == "exact_match") for name in
                ("exact_match", "rouge", "judge", "length"))  # fmt: skip


def answer(number: int, rng: Random) -> tuple[Row, int]:
    """An answer with its scores and what people say of it: right is what is right in content and not too long."""
    content, length = rng.random() < 0.6, rng.random()
    right = int(content and length < 0.8)
    scores = {
        "exact_match": float(content and rng.random() < 0.4),
        "rouge": min(1.0, max(0.0, 0.35 + 0.25 * content + rng.gauss(0, 0.15))),
        "judge": min(1.0, max(0.0, 0.25 + 0.4 * content + 0.25 * length + rng.gauss(0, 0.12))),  # it likes long ones
        "length": length,
    }
    text = f"answer {number} " + "so " * round(20 * length)
    row = Row(f"q{number:04}", f"{number:012x}", f"Question {number}", str(number), (text,), scores)
    return row, right if rng.random() < 0.95 else 1 - right  # people err too


def main() -> None:
    """Write `records/` and `labels.jsonl`, the same ones every time."""
    folder, rng = Path(sys.argv[1]), Random(0)
    rows, labels = zip(*(answer(number, rng) for number in range(N)), strict=True)
    evaluation = Evaluation(
        task="shop/orders",
        checkpoint={"name": "v3", "digest": digest("v3"), "identity": {}},
        prompt=digest("prompt"),
        sampling={},
        seed=0,
        samples=digest("samples"),
        metrics=METRICS,
        rows=rows,
    )
    Store(folder).write(evaluation)
    lines = (
        json.dumps({"id": row.id, "output": row.outputs[0], "label": label})
        for row, label in zip(rows, labels, strict=True)
    )
    (folder / "labels.jsonl").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
