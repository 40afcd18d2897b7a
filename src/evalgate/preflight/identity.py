"""From a folder to a `Checkpoint`: every check in the order of its cost, then the digests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalgate.checkpoint import Checkpoint
from evalgate.digest import PREFIX, digest, short
from evalgate.errors import CheckpointError
from evalgate.preflight import adapter, weights
from evalgate.preflight.config_json import read_config, read_object
from evalgate.preflight.files import Folder, open_folder, quoted
from evalgate.preflight.memo import DigestMemo
from evalgate.preflight.safetensors import Header, Tensor
from evalgate.preflight.scan import digest_files
from evalgate.preflight.template import template_digest, templates
from evalgate.preflight.tokenizer import has_tokenizer, read_tokenizer, require_vocabulary
from evalgate.version import LINEAGE

MAX_LINEAGE = 64 << 20  # the losses of two million steps
QUANTIZATION = ("hf_quant_config.json", "quantize_config.json", "quant_config.json")
PROCESSORS = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")

_OF_NO_MEANING = frozenset({
    "_name_or_path", "name_or_path", "_commit_hash", "transformers_version", "use_cache", "output_attentions",
    "output_hidden_states", "return_dict", "torchscript", "eos_token_id",  # the last is in `stop_token_ids`
})  # fmt: skip
_CONTEXT = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")


def read_checkpoint(
    path: Path, *, base: Path | None = None, memo: DigestMemo | None = None, name: str | None = None
) -> Checkpoint:
    """Check a folder and identify it by its content, before any library that could run its code sees it.

    Only JSON and safetensors are read. Trainer leftovers (optimizer.pt, training_args.bin, …) and evalgate.json are no
    part of the identity and never opened, except for the base that evalgate.json states.

    Args:
        path: of full weights or of a PEFT adapter, in safetensors.
        base: where an adapter's base lies; by default where adapter_config.json says (beside the adapter, below the
            working directory, or absolute). Nothing is downloaded.
        memo: digests of files read before; without it every byte is read. A remembered file is not scanned again.
        name: what tables call it; by default the folder's name.

    Raises:
        CheckpointError: anything that is missing, malformed, ambiguous, or could run code.
    """
    folder = open_folder(path)
    if adapter.is_adapter(folder):
        return _read_adapter(folder, base, memo, name)
    found = _inspect(folder)
    return _identify(found, memo, name)


def verify_unchanged(checkpoint: Checkpoint, memo: DigestMemo | None = None) -> None:
    """Refuse a checkpoint whose content is no longer what `read_checkpoint` saw: call it once the engine has loaded it.

    With a memo, files whose state is unchanged are not read again; without, every byte is. What an endpoint has loaded
    nobody can see.

    Raises:
        CheckpointError: it changed, or can no longer be read.
    """
    if checkpoint.kind == "endpoint":
        return
    again = read_checkpoint(
        Path(_path(checkpoint)), base=Path(_path(checkpoint.base)) if checkpoint.base else None, memo=memo
    )
    if again.digest != checkpoint.digest:
        raise CheckpointError(
            f"changed while it was being loaded: it was {short(checkpoint.digest)}, it is {short(again.digest)}",
            where=_path(checkpoint),
            mend="Wait until training or copying has finished, and run again.",
        )


def _path(checkpoint: Checkpoint) -> str:
    if checkpoint.path is None:
        raise CheckpointError(
            "is known only from a record", where=checkpoint.name, mend="Name its folder with --model."
        )
    return checkpoint.path


@dataclass(frozen=True, slots=True)
class _Full:
    """A folder of full weights that passed every check but the reading of its tensors."""

    folder: Folder
    config: Mapping[str, Any]
    headers: Mapping[str, Header]
    tensors: Mapping[str, Tensor]
    rows: int | None
    tokenizer: str
    architecture: str
    stop_token_ids: tuple[int, ...]


def _inspect(folder: Folder) -> _Full:
    if "config.json" not in folder.files:
        raise CheckpointError(
            "has no config.json" + _nearby(folder),
            where=folder.shown,
            mend="Name the folder that holds config.json and model.safetensors.",
        )
    config = read_config(folder, "config.json")
    architecture = _architecture(folder, config)
    for other in (*PROCESSORS, *QUANTIZATION):
        if other in folder.files:
            read_config(folder, other)
    stop_token_ids = _stop_token_ids(folder, config)
    headers = weights.read_headers(folder)
    tensors = weights.all_tensors(headers)
    weights.require_layers(folder, config, tensors)
    rows = weights.vocabulary(folder, config, tensors)
    tokenizer = read_tokenizer(folder)
    require_vocabulary(folder, tokenizer, rows)
    return _Full(folder, config, headers, tensors, rows, tokenizer.digest, architecture, stop_token_ids)


def _identify(found: _Full, memo: DigestMemo | None, name: str | None) -> Checkpoint:
    folder = found.folder
    content = {
        "files": digest_files(folder, found.headers, memo),
        "config": {key: value for key, value in found.config.items() if key not in _OF_NO_MEANING},
        "quantization": {name: read_config(folder, name) for name in QUANTIZATION if name in folder.files},
    }
    return Checkpoint(
        name=name or _name(folder),
        path=str(folder.path),
        kind="full",
        weights=digest(content),
        tokenizer=found.tokenizer,
        template=template_digest(templates(folder)),
        architecture=found.architecture,
        context=weights.text_setting(found.config, *_CONTEXT) or 0,
        stop_token_ids=found.stop_token_ids,
    )


def _read_adapter(folder: Folder, given: Path | None, memo: DigestMemo | None, name: str | None) -> Checkpoint:
    config = adapter.read_adapter_config(folder)
    header = adapter.read_adapter_header(folder)
    base_folder = open_folder(adapter.find_base(folder, config, given))
    if adapter.is_adapter(base_folder):
        raise CheckpointError(
            f"its base {base_folder.shown} is an adapter too",
            where=folder.where(adapter.CONFIG),
            mend="Merge that one into full weights first (merge_and_unload, save_pretrained).",
        )
    found = _inspect(base_folder)
    adapter.require_fit(folder, config, header, found.tensors, base_folder.shown, "quantization_config" in found.config)
    tokenizer = found.tokenizer
    if has_tokenizer(folder):
        own = read_tokenizer(folder)
        grown = adapter.embedding_rows(header)  # saved whole where the adapter was trained with a larger vocabulary
        require_vocabulary(folder, own, max(found.rows, grown) if found.rows is not None else None)
        tokenizer = own.digest
    own_templates = templates(folder)
    base = _identify(found, memo, None)
    _require_stated_base(folder, base)
    content = {
        "files": digest_files(folder, {adapter.WEIGHTS: header}, memo),
        "config": adapter.canonical_config(config),
    }
    return Checkpoint(
        name=name or _name(folder),
        path=str(folder.path),
        kind="adapter",
        weights=digest(content),
        tokenizer=tokenizer,
        template=template_digest(own_templates) if own_templates or has_tokenizer(folder) else base.template,
        architecture=base.architecture,
        context=base.context,
        stop_token_ids=base.stop_token_ids,
        base=base,
    )


def _require_stated_base(folder: Folder, base: Checkpoint) -> None:
    """Refuse another base than the one that evalgate's own lineage file says the adapter was trained on."""
    if LINEAGE not in folder.files:
        return
    stated = read_object(folder, LINEAGE, MAX_LINEAGE).get("base")
    known = stated.get("digest") if isinstance(stated, dict) else stated
    if isinstance(known, str) and known.startswith(PREFIX) and known != base.digest:
        raise CheckpointError(
            f"was trained on the base {quoted(short(known))}, but {base.path} is {short(base.digest)}",
            where=folder.where(LINEAGE),
            mend="Name the right base with --eval-base FOLDER.",
        )


def _architecture(folder: Folder, config: Mapping[str, Any]) -> str:
    named = config.get("architectures")
    first = named[0] if isinstance(named, list) and named else None
    if not isinstance(first, str) or not isinstance(config.get("model_type"), str):
        raise CheckpointError(
            "names no architectures or no model_type",
            where=folder.where("config.json"),
            mend="Save the model again with save_pretrained.",
        )
    return first


def _stop_token_ids(folder: Folder, config: Mapping[str, Any]) -> tuple[int, ...]:
    """End-of-sequence ids of config.json and generation_config.json together."""
    nested = config.get("text_config")
    sources = [("config.json", config), ("config.json", nested if isinstance(nested, dict) else {})]
    if "generation_config.json" in folder.files:
        sources.append(("generation_config.json", read_config(folder, "generation_config.json")))
    ids: set[int] = set()
    for name, source in sources:
        stated = source.get("eos_token_id")
        listed = stated if isinstance(stated, list) else [] if stated is None else [stated]
        if not all(type(number) is int and number >= 0 for number in listed):
            raise CheckpointError(
                f"eos_token_id is {quoted(str(stated))}, expected token ids",
                where=folder.where(name),
                mend="Correct it.",
            )
        ids.update(listed)
    return tuple(sorted(ids))


def _name(folder: Folder) -> str:
    """The folder's name; for a snapshot in the hub's cache the repository's name and the start of the revision."""
    path = folder.path
    repository = path.parent.parent.name
    if path.parent.name == "snapshots" and repository.startswith("models--"):
        return f"{repository.split('--')[-1]}@{path.name[:8]}"
    return path.name


def _nearby(folder: Folder) -> str:
    """A hint when the folder that was meant lies one level below."""
    below = sorted(p.parent.name for p in folder.path.glob("*/config.json"))
    below += sorted(p.parent.name for p in folder.path.glob("*/adapter_config.json"))
    return f", but {quoted(below[-1])}/ in it is a checkpoint" if below else ""
