"""The Hugging Face card: a README.md with metadata that the hub reads, and results for benchmarks that live there.

The only door to huggingface_hub here. What the metadata say is measured (`model-index`), known from the checkpoint
(`library_name`) or stated by people in `model_card.md`; nothing else. Nothing asks the network: `.validate()` would.
"""

from __future__ import annotations

import math
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalgate.errors import CheckpointError, ConfigError
from evalgate.gate import Outcome
from evalgate.report import page
from evalgate.report.readme import render
from evalgate.report.stated import Stated, parse, reported

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

    from evalgate.evaluation import Evaluation
    from evalgate.gate import Verdict
    from evalgate.report.card import CardData

README = "README.md"
_TASK = "text-generation"
_OWN = "evalgate:"  # before an eval set of one's own: no dataset of the hub can be called so
_LIBRARIES = {"adapter": "peft", "full": "transformers"}  # what loads such a folder


def readme(data: CardData) -> str:
    """README.md: metadata between lines of `---`, then the card; the same data give the same text.

    Raises:
        ConfigError: the statement is wrong (see `stated.parse`).
    """
    from huggingface_hub import ModelCardData

    stated = parse(data.statement)
    meta = {"library_name": _library(data), "model_name": data.name, **stated.meta}
    card = ModelCardData(**meta, eval_results=list(measured(data, stated)) or None)
    metadata = card.to_dict()  # type: ignore[no-untyped-call]  # huggingface_hub has no annotation there
    return f"---\n{_yaml(metadata)}---\n\n{render(data, stated)}"


def measured(data: CardData, stated: Stated) -> Iterator[EvalResult]:
    """Every number that a verdict rests on; what failed or was never measured is left out, and never 0."""
    from huggingface_hub import EvalResult

    for verdict in data.family.verdicts:
        value, evaluation = value_of(verdict), data.candidates.get(verdict.task)
        if value is None or evaluation is None:
            continue
        hub = stated.eval_datasets.get(verdict.task)
        yield EvalResult(
            task_type=_TASK,
            dataset_type=hub.id if hub else f"{_OWN}{verdict.task}",
            dataset_name=verdict.task,
            dataset_config=hub.task_id if hub else None,
            dataset_revision=hub.revision if hub else evaluation.samples,
            metric_type=verdict.metric,
            metric_name=verdict.metric,
            metric_value=value,
        )


def value_of(verdict: Verdict) -> float | None:
    """The mean that a verdict rests on, in the metric's own units; `None` where there is none."""
    value = verdict.comparison.candidate if verdict.comparison else verdict.value
    if verdict.outcome is Outcome.ERROR or value is None or not math.isfinite(value):
        return None
    return float(value)


def eval_results(data: CardData) -> dict[str, str]:
    """`.eval_results/*.yaml` by path: a file for each task whose data people say are a benchmark on the hub.

    Raises:
        ConfigError: the statement is wrong, or names a metric that the task does not have.
    """
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    found = {}
    for task, hub in parse(data.statement).eval_datasets.items():
        verdicts = {verdict.metric: verdict for verdict in data.family.verdicts if verdict.task == task}
        if not verdicts:  # its suite did not run
            continue
        value = value_of(verdicts[reported(task, hub, verdicts)])
        if value is not None:
            entry = EvalResultEntry(
                dataset_id=hub.id,
                task_id=hub.task_id,
                value=value,
                dataset_revision=hub.revision,
                date=_created(data.candidates[task]),
            )
            name = re.sub(r"[^\w.-]+", "-", f"{hub.id.replace('/', '--')}--{hub.task_id}", flags=re.ASCII)
            found[f".eval_results/{name}.yaml"] = _yaml(eval_result_entries_to_yaml([entry]))
    return found


def _created(evaluation: Evaluation) -> str | None:
    created = evaluation.provenance.get("created")
    return created if isinstance(created, str) else None


def _library(data: CardData) -> str | None:
    checkpoint = next((each.checkpoint for each in data.candidates.values()), {})
    return _LIBRARIES.get(str((checkpoint.get("identity") or {}).get("kind")))


def _yaml(value: Any) -> str:
    """In ASCII, with what is not as escapes: nothing in it can turn a line around or hide."""
    import yaml

    return yaml.safe_dump(value, sort_keys=False, allow_unicode=False, width=math.inf)


# -- the copy that is published ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Copied:
    """A copy of a checkpoint's folder with a card in it.

    Attributes:
        path: of the copy.
        replaced: files that the original has and the copy has in another form, such as its base's README.md.
    """

    path: Path
    replaced: tuple[str, ...]


def copy_with_card(version: Path, target: Path, card: str, results: Mapping[str, str]) -> Copied:
    """Copy a checkpoint's folder and put a card into the copy; the folder itself never changes.

    The files are copied, not linked: whoever writes into the copy must not write into the version.

    Args:
        version: folder of the checkpoint.
        target: folder to make; its parent is made where it is missing.
        card: what `readme` returned.
        results: what `eval_results` returned.

    Raises:
        ConfigError: the target is there already, or lies inside the version.
        CheckpointError: the version holds a link or another thing that is no file, or could not be copied.
    """
    if target.exists() or target.is_symlink():
        raise ConfigError("is there already, and nothing is overwritten", where=str(target), mend="Name a new folder.")
    if target.resolve().is_relative_to(version.resolve()):
        raise ConfigError("lies inside the version, which never changes", where=str(target), mend="Name one beside it.")
    written = {README: card, **results}
    try:
        for path in version.rglob("*"):
            if not stat.S_ISREG(mode := path.lstat().st_mode) and not stat.S_ISDIR(mode):
                raise CheckpointError("is no plain file, and is not followed", where=str(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".card-", dir=target.parent) as made:
            draft = Path(made) / target.name
            shutil.copytree(version, draft)
            replaced = tuple(name for name in written if (draft / name).exists())
            for name, content in written.items():
                (draft / name).parent.mkdir(exist_ok=True)
                (draft / name).write_text(page.encodable(content), "utf-8", newline="\n")
            draft.rename(target)
    except (OSError, shutil.Error) as error:
        raise CheckpointError(f"could not be copied: {error}", where=str(version)) from error
    return Copied(target, replaced)
