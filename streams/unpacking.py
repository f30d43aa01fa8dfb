"""Fetched batches, unpacked within bounds; one that cannot be read stops nobody.

A megabyte that a broker took may be packed from a gigabyte, and a producer of somebody's own making
may write what no client can decode (a header's name that is no UTF-8). aiokafka unpacks whatever
comes, and raises in the middle of a fetch; the next worker would read on at the same place and end
the same way. Here such a batch becomes one record at its last offset that the door refuses.
"""

from __future__ import annotations

import importlib
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import cramjam
import structlog
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record import default_records as plain_reader
from kafka import codec as tools_codecs
from kafka.record import default_records as tools_reader

from streams.refusals import Unreadable

log = structlog.get_logger(__name__)

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


DECODERS: Final = {
    "gzip_decode": gzip_decode,
    "snappy_decode": snappy_decode,
    "lz4_decode": lz4_decode,
    "zstd_decode": zstd_decode,
}
#: What unpacking or reading a batch raises when the batch is at fault.
BATCH_FAULTS: Final = (
    CorruptRecordException,
    EOFError,
    IndexError,
    UnicodeDecodeError,
    ValueError,
    cramjam.DecompressionError,
    struct.error,
    zlib.error,
)


class UnreadRecord(NamedTuple):
    """Stands for the records of a batch that cannot be read, at the last of their offsets."""

    offset: int
    timestamp: int
    value: Unreadable
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp_type: int = 0
    checksum: int | None = None


def unpack_records(self: Any) -> Iterator[Any]:
    """In place of ``PartitionRecords._unpack_records``: the same, but for batches at fault."""
    records = self._records
    while records.has_next():
        batch = records.next_batch()
        if self._check_crcs and not batch.validate_crc():
            # Damaged on its way or on the disk: it is fetched again.
            raise CorruptRecordException(f"Invalid CRC - {self._tp}")
        if self._isolation_level == fetcher.READ_COMMITTED and batch.producer_id is not None:
            self._consume_aborted_up_to(batch.base_offset)
            if batch.is_control_batch and self._contains_abort_marker(batch):
                self._aborted_producers.discard(batch.producer_id)
            if batch.is_transactional and batch.producer_id in self._aborted_producers:
                self.next_fetch_offset = batch.next_offset
                continue
        if not batch.is_control_batch:
            try:
                for record in batch:
                    offset = record.offset
                    if offset >= self.next_fetch_offset:  # else it was read in part before
                        self.next_fetch_offset = offset + 1
                        yield self._consumer_record(self._tp, record)
            except BATCH_FAULTS as error:
                yield self._consumer_record(self._tp, _give_up(self, batch, error))
        # Of a compacted batch the last record may be gone: the position is behind it all the same.
        self.next_fetch_offset = batch.next_offset


def _give_up(self: Any, batch: Any, error: BaseException) -> UnreadRecord:
    first, last = max(self.next_fetch_offset, batch.base_offset), batch.next_offset - 1
    log.error(
        "a batch cannot be read", topic=self._tp.topic, partition=self._tp.partition,
        first=first, last=last, error=type(error).__name__,
    )  # fmt: skip
    return unread(error, first, last, batch.max_timestamp)


def unread(error: BaseException, first: int, last: int, timestamp: int) -> UnreadRecord:
    """The record that stands for those from ``first`` to ``last``, both included."""
    where = f"the batch of offsets {first} to {last}"
    if isinstance(error, TooLargeError):
        reason, detail = "too_large", f"{where} unpacks to more than {UNPACKED_BYTES_MAX} bytes"
    else:
        reason, detail = "not_json", f"{where} cannot be read ({type(error).__name__})"
    return UnreadRecord(last, timestamp, Unreadable(reason, detail))


def bound_unpacking() -> None:
    """Let every consumer of this process unpack within bounds; a second call changes nothing."""
    fetcher.PartitionRecords._unpack_records = unpack_records
    # aiokafka's reader comes in C and, where that was not built, in Python; each knows its own.
    built = importlib.import_module(plain_reader.DefaultRecordBatch.__module__)
    for module in (plain_reader, built, tools_reader):
        for name, decode in DECODERS.items():
            setattr(module, name, decode)
    # kafka-python, which our tools read with, asks for a library of its own for each codec.
    for name in ("has_snappy", "has_lz4", "has_zstd"):
        setattr(tools_codecs, name, _always)


def _always() -> bool:
    return True
