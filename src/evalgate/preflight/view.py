"""A clean view of a checkpoint for the engine's child: links to the files that were checked, and nothing else."""

from __future__ import annotations

from pathlib import Path

from evalgate.checkpoint import Checkpoint
from evalgate.digest import short
from evalgate.errors import CheckpointError
from evalgate.preflight import adapter, tokenizer, weights
from evalgate.preflight.files import Folder, open_folder
from evalgate.preflight.identity import PROCESSORS, QUANTIZATION
from evalgate.preflight.template import template_files


def clean_view(checkpoint: Checkpoint, into: Path) -> Path:
    """Make `into/<digest>` with links to the allow-listed files of a checkpoint, and the same for an adapter's base.

    Leftovers, pickles and whatever else lies in the folder cannot be found by an engine that is given the view.
    Called again it makes the same folders.

    Args:
        checkpoint: of this machine (`path` is known).
        into: a folder of the caller's own, removed by the caller.

    Returns:
        The view of the checkpoint; its base's is `clean_view(checkpoint.root, into)`.

    Raises:
        CheckpointError: the checkpoint is known only from a record, or a file is gone.
    """
    if checkpoint.path is None:
        raise CheckpointError(
            "is known only from a record", where=checkpoint.name, mend="Name its folder with --model."
        )
    if checkpoint.base:
        clean_view(checkpoint.base, into)
    folder = open_folder(Path(checkpoint.path))
    view = into / short(checkpoint.digest, 16)
    for name in allowed_files(folder):
        link = view / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(folder.files[name])
    return view


def allowed_files(folder: Folder) -> tuple[str, ...]:
    """Names of the files that an engine may see."""
    if adapter.is_adapter(folder):
        names: tuple[str, ...] = (adapter.CONFIG, adapter.WEIGHTS)
    else:
        names = ("config.json", "generation_config.json", weights.INDEX, *weights.tensor_files(folder))
    names += (*QUANTIZATION, *PROCESSORS, *tokenizer.FILES, *template_files(folder))
    return tuple(name for name in names if name in folder.files)
