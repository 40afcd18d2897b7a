"""Signatures of OpenSSF's model-signing, with a key: they need no network."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from evalgate.errors import ConfigError, MissingExtraError

SIGNATURE = "model.sig"
"""Of every other file in the folder, `evalgate.json` among them."""


def sign(folder: Path, key: Path) -> None:
    """Sign what lies in a folder, with an elliptic-curve private key (PEM).

    Raises:
        ConfigError: the key cannot be used.
        MissingExtraError: model-signing is not installed.
    """
    hashing, signing, _ = _library()
    try:
        config = signing.Config().use_elliptic_key_signer(private_key=key)
        config.set_hashing_config(_hashed(hashing, folder)).sign(folder, folder / SIGNATURE)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"could not sign: {error}", where=str(key), mend="Give an unencrypted EC private key in PEM."
        ) from error


def require_signer(key: Path) -> None:
    """What `sign` would refuse a key for, before there is anything to sign (ConfigError, MissingExtraError)."""
    with TemporaryDirectory() as folder:
        (Path(folder) / "nothing").touch()
        sign(Path(folder), key)


def verify_signature(folder: Path, key: Path) -> str | None:
    """Why a folder's signature does not hold for a public key (PEM); `None` where it does.

    Raises:
        ConfigError: the key cannot be used.
        MissingExtraError: model-signing is not installed.
    """
    if not (folder / SIGNATURE).is_file():
        return f"{folder}: is not signed. Publish with a signing key."
    hashing, _, verifying = _library()
    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=key)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"is no public key: {error}", where=str(key), mend="Give an EC public key in PEM.") from error
    try:
        config.set_hashing_config(_hashed(hashing, folder)).verify(folder, folder / SIGNATURE)
    except Exception as error:  # the library's own, and whatever a damaged bundle makes it raise
        return f"{folder / SIGNATURE}: does not hold for {key}: {' '.join(str(error).split())[:120]}"
    return None


def _hashed(hashing: Any, folder: Path) -> Any:
    return hashing.Config().set_ignored_paths(paths=[folder / SIGNATURE], ignore_git_paths=False)


def _library() -> tuple[Any, Any, Any]:
    try:
        from model_signing import hashing, signing, verifying
    except ImportError:
        raise MissingExtraError("model-signing", "sign") from None
    return hashing, signing, verifying
