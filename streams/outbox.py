"""The outbox relay: what a batch decided goes to Kafka, is acknowledged, and is then trimmed.

Each applied batch left one numbered entry in the partition's outbox, written by the same atomic
call as the state it comes from. The relay sends entries in order, waits for the acknowledgements
of all topics, and only then counts the entry as done; trimming rides on the next call to the
store. After a crash the entries that were not trimmed are sent again, except for what the output
topics already hold (see :mod:`streams.readback`).
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec

from streams.clock import wall_ms
from streams.failpoints import reach
from streams.ownership import Ownership
from streams.recalls import Recalls
from streams.subjects import whose
from streams.topics import DEAD_LETTERS, DECISIONS, SHARED

#: Entries that wait for acknowledgement before the partition stops taking new records.
ENTRIES_MAX = 16
#: Bytes of those entries, packed: what Redis and the worker hold while Kafka is away.
BYTES_MAX = 64 * 1024 * 1024
#: Records that go into one round of sends.
ROUND_RECORDS_MAX = 5_000


class Outgoing(msgspec.Struct, array_like=True, gc=False):
    """One record to publish. ``at``, ``until`` and ``skip_after_ms`` are set for offers only.

    ``id`` is the event id on the wire, by which a record is known again after a crash; for dead
    letters it is ``topic/partition/offset`` of the refused record.
    """

    topic: str
    key: bytes | None
    value: bytes
    id: str
    headers: list[tuple[str, bytes]] | None = None
    at: int = 0
    until: int = 0
    due: int = 0
    skip_after_ms: int | None = None


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[Outgoing]).decode


def pack(records: list[Outgoing]) -> bytes:
    """One outbox entry as bytes."""
    return _pack(records)


def unpack(blob: bytes) -> list[Outgoing]:
    """The records of an outbox entry."""
    return _unpack(blob)


def known_as(topic: str, record_id: str) -> str:
    """Under which name a record is known again: a withdrawal and the decision about it have the
    same id, on two topics (without prefix)."""
    return f"{topic}/{record_id}"


def expired_id(offer_id: str) -> str:
    """The id of the note that an offer was not sent in time."""
    return f"{offer_id}.expired"


class Acked(Protocol):
    """Where acknowledged records lie in their topic partition."""

    @property
    def next_offset(self) -> int: ...  # noqa: D102


class Sender(Protocol):
    """The producer's side that the relay needs."""

    async def send_batch(
        self,
        topic: str,
        partition: int,
        records: Sequence[tuple[bytes | None, bytes | None, list[tuple[str, bytes]] | None, int]],
        ownership: Ownership | None = None,
    ) -> Acked:
        """Write records in order; return when all are acknowledged.

        What waited before it left is sent only after a look at ``ownership``.
        """
        ...


class Reports(Protocol):
    """Who is told what was sent."""

    def sent(self, records: list[Outgoing], took_s: float) -> None:
        """Records of one topic were acknowledged, so long after they were handed over."""
        ...

    def known_already(self, topic: str) -> None:
        """A record lay in its topic already and was not sent."""
        ...


Recheck = Callable[[Outgoing], Awaitable[list[Outgoing]]]


class Relay:
    """Sends the outbox of one partition, in order."""

    def __init__(
        self,
        partition: int,
        sender: Sender,
        known: set[str],
        observer: "Reports",
        prefix: str = "",
        wall: Callable[[], int] = wall_ms,
    ) -> None:
        """``known`` (:func:`known_as`) is what the output topics already have: it is not sent
        again; ``wall`` reads the machine's clock, which records carry as their timestamp."""
        self._partition = partition
        self._sender = sender
        self._known = known
        self.recalls = Recalls()
        self.recheck: Recheck | None = None  # looks again at offers before they leave
        self.ownership = Ownership()  # asked before anything leaves
        self._observer = observer
        self._prefix = prefix
        self._wall = wall
        self._queue: deque[tuple[int, list[Outgoing], int]] = deque()
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.done = 0  # the number of the last entry that is acknowledged as a whole
        self.trimmed = 0  # up to which the store was told
        self.offsets: dict[str, int] = {}  # output topic -> offset below which all is done
        self.waiting = 0  # records
        self.size = 0  # bytes

    def put(self, number: int, records: list[Outgoing], size: int = 0) -> None:
        """Queue an applied entry that takes ``size`` bytes."""
        self._queue.append((number, records, size))
        self.waiting += len(records)
        self.size += size
        self._idle.clear()
        self._wake.set()
        if self._crowded():
            self._room.clear()

    def forget(self, customer_id: str, number: int) -> int:
        """Send nothing more about a customer out of entries before ``number``; how many records
        wait there. What is handed over to the producer already cannot be called back."""
        self.recalls.customer(customer_id, number)
        waiting = (
            record for before, records, _ in self._queue if before < number for record in records
        )
        return sum(customer_id in whose(one.topic, one.key, one.value) for one in waiting)

    def _crowded(self) -> bool:
        return len(self._queue) >= ENTRIES_MAX or self.size >= BYTES_MAX

    @property
    def known(self) -> int:
        """Ids that the output topics had at the claim and that did not come by yet."""
        return len(self._known)

    @property
    def full(self) -> bool:
        """Whether no further entry is to be put now."""
        return not self._room.is_set()

    async def room(self) -> None:
        """Wait until another entry may be put."""
        await self._room.wait()

    async def flush(self) -> None:
        """Wait until everything that was put is acknowledged."""
        await self._idle.wait()

    async def run(self) -> None:
        """Send for ever; an error of the producer ends the worker."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                await self._round()
            self._idle.set()

    async def _round(self) -> None:
        checked: list[tuple[int, list[Outgoing]]] = []
        last = taken = count = size = 0
        # A copy: while an offer is looked at again, the partition may put another entry.
        for number, records, size_of in list(self._queue):
            last = number
            size += size_of
            taken += 1
            count += len(records)
            checked.append((number, await self._checked(number, records)))
            if count >= ROUND_RECORDS_MAX:
                break
        # A process that stood still, or waited for Kafka, may have lost its partition.
        await self.ownership.check()
        # Once more, and then nothing is waited for: somebody may have been erased meanwhile.
        by_topic: dict[str, list[Outgoing]] = {}
        for number, records in checked:
            for record in self.recalls.left(number, records):
                by_topic.setdefault(record.topic, []).append(record)
        await self._publish(by_topic)
        for _ in range(taken):
            self._queue.popleft()
        self.waiting -= count
        self.size -= size
        self.done = last
        self.recalls.done(last)
        if not self._crowded():
            self._room.set()

    async def _publish(self, by_topic: dict[str, list[Outgoing]]) -> None:
        """Hand records over and wait until all topics have acknowledged them."""
        topics = sorted(by_topic)
        now = self._wall()
        started = time.perf_counter()
        reach("before_publish")
        answers = await asyncio.gather(
            *(
                self._sender.send_batch(
                    self._prefix + topic,
                    0 if topic in SHARED else self._partition,
                    [(r.key, r.value, r.headers, now) for r in by_topic[topic]],
                    self.ownership,
                )
                for topic in topics
            )
        )
        reach("after_publish_before_ack")
        if DEAD_LETTERS in by_topic:
            reach("after_dlq_before_offset")
        took_s = time.perf_counter() - started
        for topic, acked in zip(topics, answers, strict=True):
            # What is still known lies before: whoever claims next must find it again.
            if acked.next_offset >= 0 and not self._known:
                self.offsets[topic] = acked.next_offset
            self._observer.sent(by_topic[topic], took_s)

    @property
    def knows(self) -> bool:
        """Whether our output held records at the claim that were not decided again yet."""
        return bool(self._known)

    def forget_known(self) -> None:
        """Drop what is left of that: all that led to it has been decided again."""
        self._known.clear()

    async def _checked(self, number: int, records: list[Outgoing]) -> list[Outgoing]:
        records = self.recalls.left(number, records)
        if self._known:
            records = [record for record in records if not self._is_known(record)]
        if self.recheck is None:
            return records
        checked: list[Outgoing] = []
        for record in records:
            found = await self.recheck(record) if record.at else [record]
            # Asked after the look: what it waited for may have been the taking of the held copy.
            if self.recalls.left(number, [record]):
                checked += found
        if not self._known:
            return checked
        # What a late offer became may have been sent before a crash, too.
        return [record for record in checked if not self._is_known(record)]

    def _is_known(self, record: Outgoing) -> bool:
        if record.at and known_as(DECISIONS, expired_id(record.id)) in self._known:
            # It was noted as expired before a crash; what holds now does not change that.
            self._observer.known_already(record.topic)
            return True
        name = known_as(record.topic, record.id)
        if name in self._known:
            self._known.discard(name)
            self._observer.known_already(record.topic)
            return True
        return False
