"""Which store each partition lives in, told in Kafka: an empty store is not taken for a new one.

A partition gets an identity in its store when it is claimed for the first time, and a mark with
that identity in the compacted topic ``control`` before anything is applied. A claim that finds a
mark and another identity, or none, has met a store that was emptied, replaced or belongs to
somebody else; going on there would begin from the first record with timers and caps forgotten.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from streams.clock import wall_ms
from streams.errors import PreconditionError
from streams.outbox import Sender
from streams.store.store import Store
from streams.topicids import KEY as TOPIC_IDS_KEY
from streams.topicids import Ask, ask_aside, check_ids
from streams.topics import CONTROL

log = structlog.get_logger(__name__)

_POLL_MS = 2_000

Records = list[tuple[bytes | None, bytes | None]]


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


def mark_value(identity: str) -> bytes:
    """The record's value."""
    return _to_json(Mark(identity))


def new_identity() -> str:
    """A random identity, 128 bits."""
    return secrets.token_hex(16)


def read_marks(records: Iterable[tuple[bytes | None, bytes | None]]) -> dict[bytes, str]:
    """Key -> identity, from all records of the topic in their order.

    What is no mark takes none back: an emptied store must not pass for a new one by it.
    """
    marks: dict[bytes, str] = {}
    for key, value in records:
        if key is None or not key.startswith(b"p"):
            continue
        try:
            if value:
                marks[key] = _from_json(value).store
            else:
                marks.pop(key, None)
        except (ValueError, RecursionError):
            log.error("a record is none of ours", topic=CONTROL, key=key.decode(errors="replace"))
    return marks


class StoreMarks:
    """Compares partitions with their marks at a claim, and makes the marks of new ones."""

    def __init__(
        self,
        options: Mapping[str, Any],
        prefix: str,
        store: Store,
        topics: Ask | None = None,
        read: Callable[[], Awaitable[Records]] | None = None,
    ) -> None:
        """``options`` reach Kafka; ``prefix`` is the topics'; ``topics`` answers the ids of the
        topics in (``streams.topicids.topic_ids``) and is called in a thread; ``read`` stands for
        reading the topic ``control`` where there is no Kafka."""
        self._options = options
        self._topic = prefix + CONTROL
        self._store = store
        self._topics = topics
        self._read = read or self._read_control

    async def check(self, partitions: Iterable[int], sender: Sender) -> None:
        """Let claimed partitions pass that live here and whose topics are the ones that their
        offsets belong to; mark new ones.

        Raises:
            StoreLostError: a partition lives in another store, or in one that was emptied.
            TopicMadeAnewError: a topic in was deleted and made again.
        """
        if self._topics is None:
            records = await self._read()
        else:
            found, records = await asyncio.gather(ask_aside(self._topics), self._read())
            ids = check_ids(found, records)
            if ids is not None:
                await self._tell(sender, TOPIC_IDS_KEY, ids)
        marks = read_marks(records)
        lost, new = [], []
        for number in partitions:
            here = await self._store.identity(number)
            known = marks.get(mark_key(number))
            if known is None:
                new.append((number, here or new_identity(), here))
            elif here != known:
                lost.append((number, here))
        if lost:
            raise StoreLostError(_told(lost), "see the runbook on a lost store: tsuide restore")
        for number, identity, here in new:
            if here is None:
                await self._store.identify(number, identity)
            await self._tell(sender, mark_key(number), mark_value(identity))

    async def _tell(self, sender: Sender, key: bytes, value: bytes) -> None:
        await sender.send_batch(self._topic, 0, [(key, value, None, wall_ms())])

    async def _read_control(self) -> Records:
        place = TopicPartition(self._topic, 0)
        consumer = AIOKafkaConsumer(
            **self._options, enable_auto_commit=False, isolation_level="read_committed"
        )
        await consumer.start()
        found: Records = []
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
