"""The real logs of `tests/foreign`, and copies of them that are changed on purpose."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

from evalgate.evaluation import Evaluation
from evalgate.importers import read_foreign
from evalgate.importers.archive import Archive

FOREIGN = Path(__file__).parents[2] / "foreign"
Json = dict[str, Any]


def lm_eval(model: str, task: str) -> Path:
    """The samples of one task on one model."""
    (path,) = (FOREIGN / "lm_eval" / f"fixtures__checkpoints__{model}").glob(f"samples_{task}_*.jsonl")
    return path


def results_of(samples: Path) -> Path:
    """The results file of the same run."""
    return samples.with_name(f"results_{samples.stem.rpartition('_')[2]}.json")


def inspect(name: str, suffix: str = ".eval", place: int = 0) -> Path:
    """A log by its task: `chat` of v1 and v4-full, `rough` with faults as .json, the failed `rough` as .eval."""
    return sorted((FOREIGN / "inspect").glob(f"*_{name}_*{suffix}"))[place]


def read(path: Path, **options: Any) -> Evaluation:
    """The one evaluation in a file."""
    (evaluation,) = read_foreign(path, **options)
    return evaluation


def copied(samples: Path, folder: Path) -> Path:
    """Samples and results of a run in a folder of their own."""
    shutil.copy(results_of(samples), folder)
    return Path(shutil.copy(samples, folder))


def edit_json(path: Path, change: Callable[[Json], object]) -> None:
    """Change the one object of a file."""
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), "utf-8")


def edit_lines(path: Path, change: Callable[[list[Json]], object]) -> None:
    """Change the objects of a file with one on each line."""
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    change(lines)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


def members(path: Path) -> dict[str, Json]:
    """Every object of an .eval log by its name."""
    with closing(Archive(path)) as archive:
        return {name: archive.read(name) for name in archive.names if not name.startswith(("_", "summ", "reduc"))}


def zipped(path: Path, content: dict[str, Json], method: int = ZIP_DEFLATED) -> Path:
    """An .eval log made of objects, as inspect_ai wrote them before Zstandard."""
    with ZipFile(path, "w", method) as archive:
        for name, value in content.items():
            archive.writestr(name, json.dumps(value))
    return path
