"""Reading offers so that each has one effect: once by id, none that ran out or was withdrawn.

With kafka-python::

    consumer = KafkaConsumer("offers.email", group_id="mailer", enable_auto_commit=False, ...)
    offers = OffersConsumer(consumer, seen=RedisSeen(redis.Redis(...), "mailer"))
    for offer in offers:
        send_mail(offer.customer, offer.data)
        offers.done(offer)

`AsyncOffersConsumer` is the same for aiokafka: ``async for``, ``await offers.done(offer)``.

What is not reported as done is handed over again after a restart; what is done is remembered
under its id until the offer has run out. The default memory is this process's, so after a restart
a copy of an offer that was done before is noticed only with a memory that outlives it, such as
`RedisSeen`. See docs/consuming.md.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final, Protocol

from streams.clock import wall_ms
from streams.offersieve import (
    IDS_MAX,
    OPEN_MAX,
    Offer,
    Place,
    Remembered,
    Sieve,
    TooManyOpenError,
    memory_name,
    remembered_until_ms,
)

__all__ = [
    "AsyncOffersConsumer",
    "AsyncSeen",
    "LocalSeen",
    "Offer",
    "OffersConsumer",
    "RedisSeen",
    "Seen",
    "TooManyOpenError",
]

_POLL_MS: Final = 200
_JOIN_MS_MAX: Final = 60_000
_COMMIT_S: Final = 1.0


class Seen(Protocol):
    """Remembers which offers were done."""

    def holds(self, name: str) -> bool:
        """Whether the id was done."""
        ...

    def add(self, name: str, until_ms: int) -> None:
        """It was done; needed until an instant."""
        ...


class AsyncSeen(Protocol):
    """The same for `AsyncOffersConsumer`."""

    async def holds(self, name: str) -> bool:
        """Whether the id was done."""
        ...

    async def add(self, name: str, until_ms: int) -> None:
        """It was done; needed until an instant."""
        ...


class LocalSeen:
    """Remembers in this process, at most ``most`` ids."""

    def __init__(self, most: int = IDS_MAX, now: Callable[[], int] = wall_ms) -> None:
        self._ids = Remembered(most)
        self._now = now

    @property
    def forgotten(self) -> int:
        """Ids that were forgotten before their time, because there were too many."""
        return self._ids.forgotten

    def holds(self, name: str) -> bool:
        """Whether the id was done."""
        return self._ids.holds(name, self._now())

    def add(self, name: str, until_ms: int) -> None:
        """It was done."""
        self._ids.add(name, until_ms, self._now())


class RedisSeen:
    """Remembers in Redis or Valkey: a key an offer, which expires when the offer has run out.

    ``client`` is a ``redis.Redis``; ``reader`` names who reads, for each must see each offer. Use
    another server or database than the workers', whose keys never expire.
    """

    def __init__(self, client: Any, reader: str, now: Callable[[], int] = wall_ms) -> None:
        self._client = client
        self._prefix = f"seen:{reader}:"
        self._now = now

    def holds(self, name: str) -> bool:
        """Whether the id was done."""
        return bool(self._client.exists(self._prefix + name))

    def add(self, name: str, until_ms: int) -> None:
        """It was done: ``SET NX PX``."""
        left_ms = max(1, until_ms - self._now())
        self._client.set(self._prefix + name, b"1", nx=True, px=left_ms)


class _Asking:
    """A memory that answers at once, for the consumer that waits."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    async def holds(self, name: str) -> bool:
        return self._seen.holds(name)

    async def add(self, name: str, until_ms: int) -> None:
        self._seen.add(name, until_ms)


class OffersConsumer:
    """Yields each offer once, from a ``kafka.KafkaConsumer`` of ``offers.*`` topics.

    Args:
        consumer: with ``enable_auto_commit=False``; its group's offsets are committed here.
        seen: remembers what was done, `LocalSeen` unless given.
        hold_ms: how long each offer waits for a withdrawal that may follow it.
        withdrawals: also yield that an offer is no longer to be shown (``offer.withdrawn``).
        idle_ms: end the loop when nothing came for so long, once it has partitions; None: never.
        open_max: most offers handed over and not done; one more raises `TooManyOpenError`.

    ``counts`` has the figures of :class:`streams.offersieve.Sieve` and ``commit_failed``.
    """

    def __init__(
        self,
        consumer: Any,
        *,
        seen: Seen | None = None,
        hold_ms: int = 0,
        withdrawals: bool = False,
        idle_ms: int | None = None,
        open_max: int = OPEN_MAX,
        now: Callable[[], int] = wall_ms,
    ) -> None:
        if consumer.config.get("enable_auto_commit"):
            raise ValueError("enable_auto_commit=False: an offer is committed when it is done")
        self._consumer = consumer
        self._seen = seen or LocalSeen(now=now)
        self._sieve = Sieve(hold_ms, withdrawals, open_max)
        self._now = now
        self._idle_ms = idle_ms
        self._committed_s = 0.0
        self.counts: Counter[str] = self._sieve.counts

    def __iter__(self) -> Iterator[Offer]:
        # kafka-python joins its group in the first poll. Where an answer from before it subscribed
        # is still under way then, it is given nothing of a topic and never looks again.
        self._consumer.topics()
        sieve, quiet = self._sieve, _Quiet(self._idle_ms, self._now())
        while True:
            while (offer := sieve.next(self._now())) is not None:
                if offer.place not in _places(self._consumer):
                    sieve.lost(offer)
                elif self._seen.holds(memory_name(offer)):
                    sieve.known(offer)
                else:
                    yield offer
            self._commit_now_and_then()
            fetched = self._consumer.poll(timeout_ms=_timeout(sieve, self._now()))
            now_ms = self._now()
            for tp, records in fetched.items():
                for record in records:
                    sieve.take((tp.topic, tp.partition), record.offset, record.value, now_ms)
            busy = bool(fetched) or sieve.ready_in_ms(now_ms) is not None
            if quiet.is_over(busy, self._consumer, now_ms):
                self.commit()
                return

    def done(self, offer: Offer) -> None:
        """The offer was handled: it is remembered, and its offset committed within a second."""
        self._seen.add(memory_name(offer), remembered_until_ms(offer, self._now()))
        self._sieve.done(offer)
        self._commit_now_and_then()

    def commit(self) -> None:
        """Commit what is done now; a failure is counted, and what is done is committed later."""
        from kafka import OffsetAndMetadata, TopicPartition
        from kafka.errors import KafkaError

        self._committed_s = time.monotonic()
        owned = _places(self._consumer)
        moved = self._sieve.offsets.committable()
        offsets = {place: upto for place, upto in moved.items() if place in owned}
        if not offsets:
            return
        try:
            self._consumer.commit(
                {TopicPartition(*p): OffsetAndMetadata(o, "", -1) for p, o in offsets.items()}
            )
        except KafkaError:
            self.counts["commit_failed"] += 1
        else:
            self._sieve.offsets.committed(offsets)

    def _commit_now_and_then(self) -> None:
        if time.monotonic() - self._committed_s >= _COMMIT_S:
            self.commit()


class AsyncOffersConsumer:
    """`OffersConsumer` for a started ``aiokafka.AIOKafkaConsumer``.

    ``seen`` has coroutines (`AsyncSeen`); without one this process remembers. ``consumer`` must
    have been made with ``enable_auto_commit=False``, which cannot be checked here.
    """

    def __init__(
        self,
        consumer: Any,
        *,
        seen: AsyncSeen | None = None,
        hold_ms: int = 0,
        withdrawals: bool = False,
        idle_ms: int | None = None,
        open_max: int = OPEN_MAX,
        now: Callable[[], int] = wall_ms,
    ) -> None:
        self._consumer = consumer
        self._seen = seen or _Asking(LocalSeen(now=now))
        self._sieve = Sieve(hold_ms, withdrawals, open_max)
        self._now = now
        self._idle_ms = idle_ms
        self._committed_s = 0.0
        self.counts: Counter[str] = self._sieve.counts

    async def __aiter__(self) -> AsyncIterator[Offer]:
        sieve, quiet = self._sieve, _Quiet(self._idle_ms, self._now())
        while True:
            while (offer := sieve.next(self._now())) is not None:
                if offer.place not in _places(self._consumer):
                    sieve.lost(offer)
                elif await self._seen.holds(memory_name(offer)):
                    sieve.known(offer)
                else:
                    yield offer
            await self._commit_now_and_then()
            fetched = await self._consumer.getmany(timeout_ms=_timeout(sieve, self._now()))
            now_ms = self._now()
            for tp, records in fetched.items():
                for record in records:
                    sieve.take((tp.topic, tp.partition), record.offset, record.value, now_ms)
            busy = bool(fetched) or sieve.ready_in_ms(now_ms) is not None
            if quiet.is_over(busy, self._consumer, now_ms):
                await self.commit()
                return

    async def done(self, offer: Offer) -> None:
        """The offer was handled: it is remembered, and its offset committed within a second."""
        await self._seen.add(memory_name(offer), remembered_until_ms(offer, self._now()))
        self._sieve.done(offer)
        await self._commit_now_and_then()

    async def commit(self) -> None:
        """Commit what is done now; a failure is counted, and what is done is committed later."""
        from aiokafka import TopicPartition
        from aiokafka.errors import KafkaError

        self._committed_s = time.monotonic()
        owned = _places(self._consumer)
        moved = self._sieve.offsets.committable()
        offsets = {place: upto for place, upto in moved.items() if place in owned}
        if not offsets:
            return
        try:
            await self._consumer.commit({TopicPartition(*p): o for p, o in offsets.items()})
        except KafkaError:
            self.counts["commit_failed"] += 1
        else:
            self._sieve.offsets.committed(offsets)

    async def _commit_now_and_then(self) -> None:
        if time.monotonic() - self._committed_s >= _COMMIT_S:
            await self.commit()


class _Quiet:
    """Whether nothing has come for so long, counted from the first partitions on.

    A group takes seconds to give them out. A member that gets none, as there are more members than
    partitions, waits for `_JOIN_MS_MAX` more.
    """

    def __init__(self, most_ms: int | None, now_ms: int) -> None:
        self._most_ms = most_ms
        self._heard_ms = now_ms
        self._joined = False

    def is_over(self, busy: bool, consumer: Any, now_ms: int) -> bool:
        """Whether the loop ends; ``busy``: something came, or waits."""
        if self._most_ms is None:
            return False
        if not self._joined and consumer.assignment():
            self._joined = busy = True
        if busy:
            self._heard_ms = now_ms
            return False
        return now_ms - self._heard_ms >= self._most_ms + (0 if self._joined else _JOIN_MS_MAX)


def _timeout(sieve: Sieve, now_ms: int) -> int:
    wait_ms = sieve.ready_in_ms(now_ms)
    return _POLL_MS if wait_ms is None else min(_POLL_MS, wait_ms)


def _places(consumer: Any) -> set[Place]:
    return {(tp.topic, tp.partition) for tp in consumer.assignment()}
