"""The codecs of Kafka's batches, each with a bound on what comes out of it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any, Final

import cramjam

#: What one batch may unpack to: far beyond what a producer gathers, and bearable once a partition.
UNPACKED_BYTES_MAX: Final = 64 * 1024 * 1024
_ROOM_MIN: Final = 256 * 1024
_GROWTH: Final = 8
_GZIP: Final = 31  # zlib's word for a gzip header
_XERIAL_MAGIC: Final = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES: Final = 16


class TooLargeError(ValueError):
    """A batch unpacks to more than :data:`UNPACKED_BYTES_MAX`."""


def gzip_decode(payload: Any, most: int = UNPACKED_BYTES_MAX) -> bytes:
    """One or more gzip members; raises :class:`TooLargeError`, ``zlib.error``, ``EOFError``."""
    rest, parts, size = bytes(payload), list[bytes](), 0
    while rest:
        member = zlib.decompressobj(_GZIP)
        parts.append(member.decompress(rest, most - size + 1))
        size += len(parts[-1])
        if size > most:
            raise TooLargeError
        if not member.eof:
            raise EOFError("the end of a gzip member is missing")
        rest = member.unused_data
    return b"".join(parts)


def _into(decompress: Callable[[Any, bytearray], int], payload: Any, most: int) -> bytes:
    """Unpack into a buffer that grows up to the bound."""
    room = min(most, max(_ROOM_MIN, _GROWTH * len(payload)))
    while True:
        out = bytearray(room)
        try:
            size = decompress(payload, out)
        except cramjam.DecompressionError as error:
            if "write whole buffer" not in str(error):
                raise
            if room >= most:
                raise TooLargeError from None
            room = min(most, room * _GROWTH)
        else:
            return bytes(memoryview(out)[:size])


def lz4_decode(payload: Any, most: int = UNPACKED_BYTES_MAX) -> bytes:
    """An LZ4 frame; raises :class:`TooLargeError`, ``cramjam.DecompressionError``."""
    return _into(cramjam.lz4.decompress_into, payload, most)


def zstd_decode(payload: Any, most: int = UNPACKED_BYTES_MAX) -> bytes:
    """A Zstandard frame; raises :class:`TooLargeError`, ``cramjam.DecompressionError``."""
    return _into(cramjam.zstd.decompress_into, payload, most)


def snappy_decode(payload: Any, most: int = UNPACKED_BYTES_MAX) -> bytes:
    """Snappy, bare or in the blocks of the Java client; raises as the others, and
    ``struct.error``."""
    raw = bytes(payload)
    if not raw.startswith(_XERIAL_MAGIC):
        return _snappy_block(raw, most)
    parts, size, at = list[bytes](), 0, _XERIAL_HEADER_BYTES
    while at < len(raw):
        (length,) = struct.unpack_from("!i", raw, at)
        if length <= 0:
            raise ValueError("a block of no length")
        parts.append(_snappy_block(raw[at + 4 : at + 4 + length], most - size))
        size += len(parts[-1])
        at += 4 + length
    return b"".join(parts)


def _snappy_block(block: bytes, most: int) -> bytes:
    # The length stands in front; what it promises is believed only up to the bound.
    if cramjam.snappy.decompress_raw_len(block) > most:
        raise TooLargeError
    return bytes(cramjam.snappy.decompress_raw(block))


#: By the names under which the clients look for them.
DECODERS: Final = {
    "gzip_decode": gzip_decode,
    "snappy_decode": snappy_decode,
    "lz4_decode": lz4_decode,
    "zstd_decode": zstd_decode,
}
