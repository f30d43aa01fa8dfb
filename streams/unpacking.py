"""Fetched batches, unpacked within bounds; one that cannot be read stops nobody.

A megabyte that a broker took may be packed from a gigabyte, and a producer of somebody's own making
may write what no client can decode (a header's name that is no UTF-8). aiokafka unpacks whatever
comes, and raises in the middle of a fetch; the next worker would read on at the same place and end
the same way. Here such a batch becomes one record at its last offset that the door refuses.
"""

from __future__ import annotations

import importlib
import struct
import sys
import zlib
from collections.abc import Iterator
from itertools import chain, islice
from operator import attrgetter
from typing import Any, Final, NamedTuple

import cramjam
import structlog
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record import default_records as plain_reader
from aiokafka.structs import TopicPartition
from kafka import codec as tools_codecs
from kafka.record import default_records as tools_reader

from streams.inflate import DECODERS, UNPACKED_BYTES_MAX, TooLargeError
from streams.refusals import Unreadable

log = structlog.get_logger(__name__)

_OFFSET = attrgetter("offset")
_GET_ALL: Final = fetcher.FetchResult.getall

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


class Unpacking:
    """In place of what ``PartitionRecords._unpack_records`` gives: the same records, but for
    batches at fault, and as many at a time as are asked for.

    A batch's records are gathered by its own reader, in C; only what concerns a batch as a whole
    is done here.
    """

    __slots__ = ("_batch", "_batches", "_fetched", "_rest")

    def __init__(self, fetched: Any) -> None:
        """``fetched`` is the ``PartitionRecords`` whose position moves with what is taken."""
        self._fetched = fetched
        self._batches = _readable_batches(fetched)
        self._batch: Any = None  # the one that is begun
        self._rest: Iterator[Any] = iter(())

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        for record in self.take(1):
            return self._fetched._consumer_record(self._fetched._tp, record)
        raise StopIteration

    def take(self, most: int) -> list[Any]:
        """The next records as they are read, ``most`` or, at the end, fewer.

        A batch of which that leaves a rest is read no further: millions of small records may be
        packed into one, and held at once they would take many times its room.
        """
        fetched, taken = self._fetched, list[Any]()
        while (room := most - len(taken)) > 0:
            batch = self._batch
            if batch is None:
                batch = self._batch = next(self._batches, None)
                if batch is None:
                    break
                # The batch itself may be asked for its iterator only once, at its beginning.
                self._rest = chain(batch)
            before, fault = len(taken), None
            try:
                # `extend` keeps what came before a fault; a list made at once would be lost.
                taken.extend(islice(self._rest, room))
            except BATCH_FAULTS as error:
                fault = error
            read = len(taken) - before
            if read:
                begin = fetched.next_fetch_offset
                if read > 1 or taken[-1].offset < begin:
                    _leave_unread(taken, before, begin)
                if len(taken) > before:
                    fetched.next_fetch_offset = taken[-1].offset + 1
            if fault is not None:
                taken.append(_give_up(fetched, batch, fault))
            if fault is not None or read < room:
                # Of a compacted batch the last record may be gone; the position is behind it too.
                fetched.next_fetch_offset = batch.next_offset
                self._batch = None
        return taken


def _readable_batches(self: Any) -> Iterator[Any]:
    """The batches that hold records for us; the position is put behind the others."""
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
        if batch.is_control_batch:
            self.next_fetch_offset = batch.next_offset
        else:
            yield batch


def _leave_unread(taken: list[Any], place: int, begin: int) -> None:
    """From ``place`` on, drop what is before offset ``begin`` (its batch was read in part before)
    or out of order."""
    first, count = taken[place].offset, len(taken) - place
    found = taken[place:]
    if first >= begin and list(map(_OFFSET, found)) == list(range(first, first + count)):
        return
    del taken[place:]
    for record in found:
        if record.offset >= begin:
            taken.append(record)
            begin = record.offset + 1


def _unpack_records(self: Any) -> Unpacking:
    return Unpacking(self)


def as_read(tp: TopicPartition, record: Any) -> Any:
    """In place of ``PartitionRecords._consumer_record``, which copies: the batch's own record.

    It has offset, timestamp, key, value and headers; the topic partition is the key under which
    the records are handed over. The copy takes as long as reading.
    """
    return record


def get_all(self: Any, max_records: int | None = None) -> list[Any]:
    """In place of ``FetchResult.getall``: the same, with all records of a batch at a time."""
    if not self.check_assignment(self._topic_partition) or not self.has_more():
        return []
    fetched = self._partition_records
    unpacking = fetched._records_iterator
    if type(unpacking) is not Unpacking:  # fetched before `bound_unpacking`
        return list(_GET_ALL(self, max_records))
    most = sys.maxsize if max_records is None else max_records
    found = unpacking.take(most)
    hand_over = fetched._consumer_record
    if hand_over is not as_read:
        found = [hand_over(fetched._tp, record) for record in found]
    self._update_position()
    if len(found) < most:
        self._partition_records = None
    return found


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
    fetcher.PartitionRecords._unpack_records = _unpack_records
    fetcher.FetchResult.getall = get_all
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
