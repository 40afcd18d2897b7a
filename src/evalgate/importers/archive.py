"""The members of an `.eval` log: a zip whose members current releases of inspect_ai compress with Zstandard.

Python's `zipfile` reads that from 3.14 on, but unpacks a member without a bound. Here every member is unpacked up to
a limit and checked against its CRC, whatever its headers promise.
"""

from __future__ import annotations

import struct
import sys
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from evalgate.errors import MissingExtraError, RecordError
from evalgate.importers.foreign import AGAIN, read_object

MAX_MEMBER = 200 << 20  # bytes; inspect_ai itself splits larger members into several Zstandard frames
MAX_TOTAL = 4 << 30
_ZSTANDARD = 93  # APPNOTE.TXT 4.4.5
_LOCAL_HEADER = 30  # bytes before name and extra field, APPNOTE.TXT 4.3.7


class Archive:
    """A zip that is open for reading; members are JSON objects."""

    def __init__(self, path: Path) -> None:
        self.where = path.name
        try:
            self._file: IO[bytes] = path.open("rb")
        except OSError as error:
            raise RecordError(
                f"could not be read: {error.strerror}", where=self.where, mend="Check the path."
            ) from error
        try:
            self._members = {member.filename: member for member in ZipFile(self._file).infolist()}  # the last of a name
        except (BadZipFile, EOFError, NotImplementedError, OSError, ValueError, struct.error) as error:
            self.close()
            what = f"is no whole zip ({error}): it was cut off, or is still being written"
            raise RecordError(what, where=self.where, mend=AGAIN) from error
        self._left = MAX_TOTAL

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    @property
    def names(self) -> list[str]:
        """Of the members, in the order of the zip."""
        return list(self._members)

    def read(self, name: str) -> dict[str, Any]:
        """A member's JSON object (RecordError where it is damaged, too large or encrypted)."""
        member = self._members[name]
        where = f"{self.where}: {name}"
        data = self._unpacked(member, where)
        self._left -= len(data)
        if zlib.crc32(data) != member.CRC:
            raise RecordError("is damaged: its checksum differs", where=where, mend=AGAIN)
        return read_object(data, where)

    def _unpacked(self, member: ZipInfo, where: str) -> bytes:
        if member.flag_bits & 1:
            raise RecordError("is encrypted", where=where, mend="Unpack it and zip it without a password.")
        self._file.seek(member.header_offset + _LOCAL_HEADER - 4)
        name, extra = (int.from_bytes(self._file.read(2), "little") for _ in range(2))
        self._file.seek(name + extra, 1)
        packed = self._file.read(member.compress_size)
        limit = min(MAX_MEMBER, self._left)
        data = _decompressor(member.compress_type, where)(packed, limit + 1)
        if len(data) > limit:
            raise RecordError(f"unpacks to more than {limit:,} bytes", where=where, mend="Is it what it says it is?")
        return data


def _decompressor(method: int, where: str) -> Callable[[bytes, int], bytes]:
    """Packed bytes and the most bytes wanted to unpacked ones."""
    if method == ZIP_STORED:
        return lambda packed, limit: packed[:limit]
    damage: type[Exception]
    if method == ZIP_DEFLATED:
        new, damage = partial(zlib.decompressobj, -zlib.MAX_WBITS), zlib.error
    elif method == _ZSTANDARD:
        zstd = _zstd()
        new, damage = zstd.ZstdDecompressor, zstd.ZstdError
    else:
        raise RecordError(f"is compressed by method {method}, which inspect_ai never used", where=where, mend=AGAIN)

    def unpack(packed: bytes, limit: int) -> bytes:
        try:
            return bytes(new().decompress(packed, limit))
        except damage as error:
            raise RecordError(f"is damaged: {error}", where=where, mend=AGAIN) from error

    return unpack


def _zstd() -> Any:
    """The standard library's Zstandard (3.14), or the same module for older Pythons."""
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError:
        raise MissingExtraError("backports.zstd", "inspect") from None
    return zstd
