"""One pass over a file of tensors: its SHA-256, and whether every number in it is finite."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from typing import NamedTuple

from evalgate.digest import PREFIX
from evalgate.errors import CheckpointError
from evalgate.preflight.files import Folder, open_regular, quoted
from evalgate.preflight.memo import DigestMemo, settled, stamp_of
from evalgate.preflight.safetensors import Header, Tensor

CHUNK = 1 << 20  # stays in the cache of one core between hashing and scanning


class _Pattern(NamedTuple):
    """How to read a dtype as integers of `width` bytes; NaN or infinite are elements with `bits & mask == value`."""

    width: int
    mask: int
    value: int
    sign: int


_PATTERNS: Mapping[str, _Pattern] = {
    "F64": _Pattern(8, 0x7FF0_0000_0000_0000, 0x7FF0_0000_0000_0000, 1 << 63),
    "F32": _Pattern(4, 0x7F80_0000, 0x7F80_0000, 1 << 31),
    "C64": _Pattern(4, 0x7F80_0000, 0x7F80_0000, 1 << 31),
    "F16": _Pattern(2, 0x7C00, 0x7C00, 1 << 15),
    "BF16": _Pattern(2, 0x7F80, 0x7F80, 1 << 15),
    "F8_E5M2": _Pattern(1, 0x7C, 0x7C, 1 << 7),
    "F8_E4M3": _Pattern(1, 0x7F, 0x7F, 1 << 7),
    "F8_E8M0": _Pattern(1, 0xFF, 0xFF, 0),
    "F8_E4M3FNUZ": _Pattern(1, 0xFF, 0x80, 0),
    "F8_E5M2FNUZ": _Pattern(1, 0xFF, 0x80, 0),
}


def digest_files(folder: Folder, headers: Mapping[str, Header], memo: DigestMemo | None) -> dict[str, str]:
    """SHA-256 of every file of tensors, scanned for NaN and infinity in the same pass.

    A remembered digest means that the file was scanned in that state; its tensors are not read again.

    Args:
        folder: they lie in.
        headers: name to header.
        memo: of earlier runs; used in the calling thread only.

    Raises:
        CheckpointError: naming tensor and index of the first number that is not finite, or the file that changed.
    """
    known = {name: memo.get(header.stamp) if memo else None for name, header in headers.items()}
    missing = [name for name, remembered in known.items() if remembered is None]
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:  # hashlib and numpy release the GIL
        fresh = dict(zip(missing, pool.map(lambda name: _digest(folder, name, headers[name]), missing), strict=True))
    for name, computed in fresh.items():
        if memo and settled(headers[name].stamp):
            memo.put(headers[name].stamp, computed)
    return {name: known[name] or fresh[name] for name in headers}


def has_nonzero(folder: Folder, name: str, header: Header, tensor: Tensor) -> bool:
    """Whether any element of a tensor differs from zero (of either sign)."""
    import numpy as np

    width, _, _, sign = _PATTERNS.get(tensor.dtype, _Pattern(1, 0, 0, 0))
    magnitude = ~sign & ((1 << 8 * width) - 1)
    with open_regular(folder.files[name], folder.where(name)) as file:
        file.seek(header.start + tensor.begin)
        left = tensor.end - tensor.begin
        while left:
            chunk = memoryview(bytearray(min(CHUNK, left)))
            _fill(file, chunk, folder.where(name))
            left -= len(chunk)
            if (np.frombuffer(chunk, dtype=f"<u{width}") & magnitude).any():
                return True
    return False


def _digest(folder: Folder, name: str, header: Header) -> str:
    where = folder.where(name)
    sha = hashlib.sha256()
    with open_regular(folder.files[name], where) as file:
        _require_same(folder, name, header, file)
        head = memoryview(bytearray(header.start))
        _fill(file, head, where)
        sha.update(head)
        buffer = memoryview(bytearray(CHUNK))
        for tensor in header.tensors.values():
            for offset in range(tensor.begin, tensor.end, CHUNK):
                chunk = buffer[: min(CHUNK, tensor.end - offset)]
                _fill(file, chunk, where)
                sha.update(chunk)
                _require_finite(chunk, tensor, offset - tensor.begin, where)
        _require_same(folder, name, header, file)
    return PREFIX + sha.hexdigest()


def _require_finite(chunk: memoryview, tensor: Tensor, offset: int, where: str) -> None:
    import numpy as np

    pattern = _PATTERNS.get(tensor.dtype)
    if pattern is None:  # integers, and formats whose every value is finite
        return
    bits = np.frombuffer(chunk, dtype=f"<u{pattern.width}")
    bad = (bits & pattern.mask) == pattern.value
    if not bad.any():
        return
    flat = offset // pattern.width + int(np.argmax(bad))
    shape = tensor.shape if tensor.dtype != "C64" else (*tensor.shape, 2)
    index = ", ".join(str(i) for i in np.unravel_index(flat, shape))
    raise CheckpointError(
        f"tensor '{quoted(tensor.name)}' is NaN or infinite at [{index}]",
        where=where,
        mend="The training diverged or the file is damaged: go back to an earlier version.",
    )


def _fill(file: FileIO, view: memoryview, where: str) -> None:
    """Read exactly as many bytes as fit.

    Reading, not mapping into memory: a file that is cut while it is mapped kills the process with SIGBUS.
    """
    filled = 0
    while filled < len(view):
        count = file.readinto(view[filled:])
        if not count:
            raise CheckpointError("was cut while it was read", where=where, mend="Wait until the copy is complete.")
        filled += count


def _require_same(folder: Folder, name: str, header: Header, file: FileIO) -> None:
    if stamp_of(folder.files[name], os.fstat(file.fileno())) != header.stamp:
        raise CheckpointError(
            "changed while it was read", where=folder.where(name), mend="Wait until training or copying has finished."
        )
