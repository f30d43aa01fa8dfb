"""Which store each partition lives in, told in Kafka: an empty store is not taken for a new one.

A partition gets an identity in its store when it is claimed for the first time, and a mark with
that identity in the compacted topic ``control`` before anything is applied. A claim that finds a
mark and another identity, or none, has met a store that was emptied, replaced or belongs to
somebody else; going on there would begin from the first record with timers and caps forgotten.
"""

import secrets
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from streams.clock import wall_ms
from streams.errors import PreconditionError
from streams.outbox import Sender
from streams.store.store import Store
from streams.topics import CONTROL

log = structlog.get_logger(__name__)

_POLL_MS = 2_000


class StoreLostError(PreconditionError):
    """The store does not hold what it held: nothing is decided until somebody says what to do."""


class Mark(msgspec.Struct, frozen=True, gc=False):
    """A record's value: the identity that a partition has in its store."""

    store: str


_to_json = msgspec.json.Encoder().encode
_from_json = msgspec.json.Decoder(Mark).decode


def mark_key(partition: int) -> bytes:
    """The record's key."""
    return b"p%d" % partition


def read_marks(records: Iterable[tuple[bytes | None, bytes | None]]) -> dict[bytes, str]:
    """Key -> identity, from all records of the topic in their order; what is no mark is no mark."""
    marks: dict[bytes, str] = {}
    for key, value in records:
        if key is None or not key.startswith(b"p"):
            continue
        marks.pop(key, None)
        try:
            if value:
                marks[key] = _from_json(value).store
        except msgspec.DecodeError:
            log.warning("a record of the topic of marks is no mark", topic=CONTROL)
    return marks


class StoreMarks:
    """Compares partitions with their marks at a claim, and makes the marks of new ones."""

    def __init__(self, options: Mapping[str, Any], prefix: str, store: Store) -> None:
        """``options`` reach Kafka; ``prefix`` is the topics'."""
        self._options = options
        self._topic = prefix + CONTROL
        self._store = store

    async def check(self, partitions: Iterable[int], sender: Sender) -> None:
        """Let claimed partitions pass that live here, mark new ones.

        Raises:
            StoreLostError: a partition lives in another store, or in one that was emptied.
        """
        marks = read_marks(await self._read())
        lost, new = [], []
        for number in partitions:
            here = await self._store.identity(number)
            known = marks.get(mark_key(number))
            if known is None:
                new.append((number, here or secrets.token_hex(16), here))
            elif here != known:
                lost.append((number, here))
        if lost:
            raise StoreLostError(_told(lost), "see the runbook on a lost store: tsuide restore")
        for number, identity, here in new:
            if here is None:
                await self._store.identify(number, identity)
            value = _to_json(Mark(identity))
            await sender.send_batch(self._topic, 0, [(mark_key(number), value, None, wall_ms())])

    async def _read(self) -> list[tuple[bytes | None, bytes | None]]:
        place = TopicPartition(self._topic, 0)
        consumer = AIOKafkaConsumer(
            **self._options, enable_auto_commit=False, isolation_level="read_committed"
        )
        await consumer.start()
        found: list[tuple[bytes | None, bytes | None]] = []
        try:
            consumer.assign([place])
            await consumer.seek_to_beginning(place)
            end = (await consumer.end_offsets([place]))[place]
            while await consumer.position(place) < end:
                for records in (await consumer.getmany(place, timeout_ms=_POLL_MS)).values():
                    found += [(record.key, record.value) for record in records]
        finally:
            await consumer.stop()
        return found


def _told(lost: list[tuple[int, str | None]]) -> str:
    numbers = ", ".join(str(number) for number, _ in lost)
    emptied = all(here is None for _, here in lost)
    what = "the store was emptied" if emptied else "this is another store than the one before"
    return f"partitions {numbers} have lived in a store and are not there any more: {what}"
