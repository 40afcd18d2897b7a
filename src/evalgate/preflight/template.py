"""Chat templates as text: which files hold them. Nothing is rendered here; `evalgate.chat` does that in a child."""

from __future__ import annotations

from pathlib import Path

from evalgate.checkpoint import ChatTemplate, Checkpoint
from evalgate.digest import digest
from evalgate.errors import CheckpointError
from evalgate.preflight.config_json import read_config
from evalgate.preflight.files import TEMPLATE_FOLDER, Folder, open_folder
from evalgate.preflight.tokenizer import CONFIG, added_tokens, has_tokenizer, special_tokens

FILE = "chat_template.jinja"


def template_files(folder: Folder) -> tuple[str, ...]:
    """Names of the folder's template files."""
    named = tuple(name for name in folder.files if name.startswith(f"{TEMPLATE_FOLDER}/") and name.endswith(".jinja"))
    return (FILE, *named) if FILE in folder.files else named


def templates(folder: Folder) -> dict[str, str]:
    """Templates by name (`default`, `tool_use`, …), as transformers 5 reads them: files win over the config."""
    files = template_files(folder)
    if files:
        return {
            "default" if name == FILE else name.split("/")[-1].removesuffix(".jinja"): folder.text(name)
            for name in files
        }
    if CONFIG not in folder.files:
        return {}
    stated = read_config(folder, CONFIG).get("chat_template")
    if stated is None or isinstance(stated, str):
        return {"default": stated} if stated else {}
    if isinstance(stated, list) and all(
        isinstance(entry, dict) and isinstance(entry.get("name"), str) and isinstance(entry.get("template"), str)
        for entry in stated
    ):
        return {entry["name"]: entry["template"] for entry in stated}
    raise CheckpointError(
        "chat_template is neither a text nor a list of {name, template}",
        where=folder.where(CONFIG),
        mend=f"Write the template into {FILE}.",
    )


def template_digest(texts: dict[str, str]) -> str | None:
    """Digest of the templates' texts, the same for either way to store them; `None` without any."""
    return digest(texts) if texts else None


def load_template(checkpoint: Checkpoint) -> ChatTemplate | None:
    """The checkpoint's chat template and special tokens, `None` where it has no template.

    An adapter that brings neither template nor tokenizer has its base's; one that brings only one of the two has the
    other from its base, and never a base's template beside its own tokenizer.

    Raises:
        CheckpointError: the folder is not there any more, or its templates are no longer those that were identified.
    """
    if checkpoint.path is None:
        raise CheckpointError(
            "is known only from a record", where=checkpoint.name, mend="Name its folder with --model."
        )
    folder = open_folder(Path(checkpoint.path))
    texts = templates(folder)
    home = folder
    if checkpoint.base is not None and checkpoint.base.path is not None and not has_tokenizer(folder):
        home = open_folder(Path(checkpoint.base.path))
        texts = texts or templates(home)
    if template_digest(texts) != checkpoint.template:
        raise CheckpointError(
            "its chat template changed since it was identified", where=checkpoint.path, mend="Run again."
        )
    return ChatTemplate(checkpoint.name, texts, special_tokens(home)) if texts else None


def load_added_tokens(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Texts that the checkpoint's tokenizer reads as control tokens (of its base, where an adapter brings none)."""
    homes = [open_folder(Path(each.path)) for each in (checkpoint, checkpoint.base) if each and each.path]
    return next((added_tokens(home) for home in homes if has_tokenizer(home)), ())
