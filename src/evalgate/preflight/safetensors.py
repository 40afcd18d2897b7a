"""The safetensors format: a JSON header that must describe every byte of the file, and nothing else.

Format: https://github.com/huggingface/safetensors (8 bytes of header length, header, tensors without holes).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NoReturn

from evalgate.errors import CheckpointError
from evalgate.preflight.config_json import parse_object
from evalgate.preflight.files import Folder, open_regular, quoted
from evalgate.preflight.memo import Stamp, stamp_of

MAX_HEADER = 32 << 20  # a hundred bytes a tensor: room for 300,000 tensors in one file
MAX_BYTES = 1 << 62
MAX_DIMENSIONS = 32

BITS: Mapping[str, int] = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8"), 8),
    **dict.fromkeys(("F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
}
"""Bits per element of every dtype the format knows."""

_AGAIN = "Copy or download the file again."


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a file.

    Attributes:
        name: as in the header.
        dtype: a key of `BITS`.
        shape: of any rank, zeros allowed.
        begin, end: bytes, counted from the end of the header.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a safetensors file holds.

    Attributes:
        tensors: by name, in the order of their bytes.
        start: offset of the first tensor's bytes in the file.
        stamp: of the file when the header was read.
    """

    tensors: Mapping[str, Tensor]
    start: int
    stamp: Stamp


def read_header(folder: Folder, name: str) -> Header:
    """Read and check the header of a file without reading its tensors.

    Raises:
        CheckpointError: the header is malformed, or does not account for every byte of the file.
    """
    where = folder.where(name)
    path = folder.files[name]
    with open_regular(path, where) as file:
        status = os.fstat(file.fileno())
        first = file.read(8)
        if len(first) < 8:
            raise CheckpointError(f"has {len(first)} bytes, no header fits", where=where, mend=_AGAIN)
        if first.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
            raise CheckpointError(
                "is a pickle under another name, not safetensors: loading it would run its code",
                where=where,
                mend="Save the model again with safe_serialization, from a source you trust.",
            )
        (length,) = struct.unpack("<Q", first)
        if length > min(MAX_HEADER, status.st_size - 8):
            raise CheckpointError(
                f"says its header has {length:,} bytes, in a file of {status.st_size:,} (limit {MAX_HEADER:,})",
                where=where,
                mend=_AGAIN,
            )
        data = file.read(length)
    tensors = parse_header(data, status.st_size - 8 - length, where)
    return Header(tensors, 8 + length, stamp_of(path, status))


def parse_header(data: bytes, size: int, where: str) -> dict[str, Tensor]:
    """The tensors that a header describes.

    Args:
        data: the header's bytes.
        size: bytes of the file after the header.
        where: for messages.

    Raises:
        CheckpointError: whatever is wrong with it; no other exception for any bytes.
    """
    entries = parse_object(data, where)
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        _refuse("__metadata__", "is not an object of texts", where)
    found = sorted((_tensor(name, entry, where) for name, entry in entries.items()), key=lambda t: (t.begin, t.end))
    if not found:
        raise CheckpointError("holds no tensors", where=where, mend=_AGAIN)
    if found[0].begin:
        _refuse(
            found[0].name, f"starts at byte {found[0].begin:,}, expected 0: bytes before it are unaccounted for", where
        )
    for before, after in pairwise(found):
        if after.begin != before.end:
            relation = "overlaps" if after.begin < before.end else "leaves a hole after"
            _refuse(
                after.name, f"{relation} '{quoted(before.name)}' (starts at {after.begin:,}, not {before.end:,})", where
            )
    if found[-1].end != size:
        relation = "fewer" if found[-1].end > size else "more"
        raise CheckpointError(
            f"has {size:,} bytes of tensors, {abs(size - found[-1].end):,} {relation} than its header says",
            where=where,
            mend=_AGAIN,
        )
    return {tensor.name: tensor for tensor in found}


def _tensor(name: str, entry: Any, where: str) -> Tensor:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        _refuse(name, "needs exactly dtype, shape and data_offsets", where)
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        _refuse(name, f"has the unknown dtype '{quoted(str(dtype))}'", where)
    if not _naturals(shape) or len(shape) > MAX_DIMENSIONS:
        _refuse(name, "has a shape that is no list of whole numbers", where)
    if not _naturals(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        _refuse(name, "has data_offsets that are no [begin, end]", where)
    bits = BITS[dtype]
    for extent in shape:
        bits *= extent
        if bits > MAX_BYTES:
            _refuse(name, "has a shape that overflows", where)
    if bits % 8 or bits // 8 != offsets[1] - offsets[0]:
        _refuse(name, f"is {dtype}{shape}, {bits / 8:,g} bytes, but has {offsets[1] - offsets[0]:,} in the file", where)
    return Tensor(name, dtype, tuple(shape), offsets[0], offsets[1])


def _naturals(value: Any) -> bool:
    """Whether this is a list of integers from 0 to `MAX_BYTES` (a bool is none)."""
    return isinstance(value, list) and all(type(item) is int and 0 <= item <= MAX_BYTES for item in value)


def _refuse(name: str, what: str, where: str) -> NoReturn:
    raise CheckpointError(f"tensor '{quoted(name)}' {what}", where=where, mend=_AGAIN)
