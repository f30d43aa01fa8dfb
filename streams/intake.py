"""All partitions of one worker: claimed, fed, watched and given up together.

The one place where fetched records come in; each partition number gets a :class:`Partition` that
is the only writer of its customers.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from functools import partial
from operator import attrgetter
from typing import Any

import structlog

from streams.erasure import keep_out
from streams.failpoints import reach
from streams.merge import FetchState
from streams.outbox import Relay, Sender, unpack
from streams.ownership import Ownership
from streams.partition import Partition
from streams.poison import Care
from streams.readback import read_back
from streams.store.calls import Meta, new_token
from streams.store.errors import Fenced, StoreError
from streams.storemarks import StoreMarks
from streams.world import World
from triggers.events import TOPICS
from triggers.state import SCHEMA

log = structlog.get_logger(__name__)

#: How long a release waits for what is in the air; what is not acknowledged by then is sent again
#: by the next owner, who knows it by its id.
RELEASE_S_MAX = 5.0
_TIMESTAMP = attrgetter("timestamp")

Crash = Callable[[BaseException], Awaitable[None]]
#: ``streams.readback.read_back``, or what stands for it where there is no Kafka.
ReadBack = Callable[
    [Mapping[str, Any], str, Mapping[tuple[str, int], int]], Awaitable[dict[int, set[str]]]
]


class Intake:
    """Implements :class:`streams.transport.Intake`."""

    def __init__(
        self,
        world: World,
        sender: Callable[[], Sender],
        outputs: Iterable[str],
        crash: Crash,
        read: ReadBack = read_back,
        token: Callable[[], str] = new_token,
        catch_up: Callable[[], Awaitable[None]] | None = None,
        marks: StoreMarks | None = None,
    ) -> None:
        """``outputs`` are the topics out, without prefix; ``crash`` ends the worker; ``read``
        answers what our output holds already; ``token`` makes the token of a claim;
        ``catch_up`` brings the ledger of the erased up to its topic's present end; ``marks`` tell
        an emptied store from a new one."""
        self._world = world
        self._sender = sender
        self._outputs = tuple(outputs)
        self._crash = crash
        self._read = read
        self._token = token
        self._catch_up = catch_up
        self._marks = marks
        self._topics = {world.settings.prefix + topic: topic for topic in TOPICS}
        self._turns = asyncio.Lock()  # of partitions that go carefully
        self._partitions: dict[int, Partition] = {}
        self.heard_ms = 0.0  # when the last fetch was sent that was answered, steady time
        self._tasks: dict[int, list[asyncio.Task[None]]] = {}
        self._leaving: dict[int, asyncio.Task[None]] = {}

    @property
    def partitions(self) -> dict[int, Partition]:
        """The partitions that this worker owns now."""
        return self._partitions

    # -- streams.transport.Intake ----------------------------------------------------------

    def paused(self) -> set[Any]:
        """Topic partitions whose buffers are full."""
        from faust.types import TP

        prefix = self._world.settings.prefix
        return {
            TP(prefix + topic, number)
            for number, partition in self._partitions.items()
            for topic in partition.full_topics()
        }

    def deliver(
        self, records: dict[Any, list[Any]], states: dict[Any, FetchState], received_ms: float
    ) -> None:
        """Take one fetch round."""
        clock = self._world.clock
        for tp, fetched in records.items():
            partition = self._partitions.get(tp.partition)
            if partition is not None and fetched:
                partition.add(self._topics[tp.topic], fetched, received_ms)
                stamps = fetched if clock.follows_log else fetched[-1:]
                clock.observe(max(map(_TIMESTAMP, stamps)))
        sent = (state.sent_ms for state in states.values())
        self.heard_ms = max(sent, default=self.heard_ms)
        for tp, state in states.items():
            partition = self._partitions.get(tp.partition)
            if partition is not None:
                partition.learn(self._topics[tp.topic], state)

    async def claim(self, tps: set[Any], generation: int) -> dict[Any, int]:
        """Claim partitions, learn what their output holds, and say where to read on."""
        numbers = sorted({tp.partition for tp in tps})
        settings, store = self._world.settings, self._world.store
        leaving = [self._leaving[number] for number in numbers if number in self._leaving]
        if leaving:  # what is still given up must not meet our own new claim
            await asyncio.wait(leaving)
        metas: dict[int, Meta] = {}
        for number in numbers:
            metas[number] = await store.claim(
                number, self._token(), generation, settings.partitions, SCHEMA
            )
        reach("after_claim")
        if self._marks is not None:
            await self._marks.check(numbers, self._sender())
        starts = {
            (topic, number): meta.trimmed.get(topic, 0)
            for number, meta in metas.items()
            for topic in self._outputs
        }
        known = await self._read(settings.kafka_options(), settings.prefix, starts)
        if self._catch_up is not None:
            await self._catch_up()
        for number, meta in metas.items():
            await self._begin(number, meta, known.get(number, set()))
        self._world.observer.claimed(len(numbers))
        log.info("claimed", partitions=numbers, generation=generation)
        return {tp: metas[tp.partition].offsets.get(self._topics[tp.topic], -1) or -1 for tp in tps}

    async def _begin(self, number: int, meta: Meta, known: set[str]) -> None:
        world = self._world
        prefix, clock = world.settings.prefix, world.clock
        stamp = clock.wall_ms if clock.follows_log else clock.now_ms
        relay = Relay(number, self._sender(), known, world.observer, prefix, stamp)
        relay.offsets.update(meta.trimmed)
        own = partial(world.store.own, number, meta.token)
        relay.ownership = Ownership(own, clock.wall_ms)
        partition = Partition(number, world, meta, relay)
        settings, store = world.settings, world.store
        partition.care = await Care.begin(
            store, number, meta.epoch, settings.batch_records, self._turns
        )
        entries = await store.outbox(number)
        unsent = [unpack(blob) for _, blob in entries]
        world.ledger.begin(number)
        keep_out(world.ledger, number, unsent)
        for (entry, blob), left in zip(entries, unsent, strict=True):
            relay.put(entry, left, len(blob))
        # What was read back goes with the outbox of the claim: a store that was set back between
        # the two may hold entries that were sent long before.
        await world.store.verify(number, meta.token, meta.number)
        self._partitions[number] = partition
        world.owned = len(self._partitions)
        self._tasks[number] = [
            asyncio.create_task(self._guard(number, partition.run()), name=f"partition-{number}"),
            asyncio.create_task(self._guard(number, relay.run()), name=f"relay-{number}"),
        ]

    async def _guard(self, number: int, running: Awaitable[None]) -> None:
        """An error in a partition ends the worker: what it holds in memory cannot be trusted."""
        try:
            await running
        except asyncio.CancelledError:
            raise
        except Fenced as error:
            # What waits here is the other worker's to send, also while this one ends.
            sending = self._tasks[number][-1]
            if sending is not asyncio.current_task():
                sending.cancel()
            if number in self._leaving:
                _log_taken(number)
                return
            self._world.observer.failed(error.code)
            await self._crash(error)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it ends the worker
            if isinstance(error, StoreError):
                self._world.observer.failed(error.code)
            await self._crash(error)

    async def release(self, tps: set[Any]) -> None:
        """Give partitions up: the batch in hand is finished, buffers are dropped.

        A second call for the same partitions waits for the first: the group may take away what
        a worker that stops is about to give up.
        """
        numbers = sorted({tp.partition for tp in tps} & self._partitions.keys())
        for number in numbers:
            self._partitions[number].stop()
            if number not in self._leaving:
                self._leaving[number] = asyncio.create_task(self._finish(number))
        leaving = [self._leaving[number] for number in numbers]
        # All of them, also when one fails: nothing may go on behind the caller's back.
        found = await asyncio.gather(*leaving, return_exceptions=True)
        for error in found:
            if isinstance(error, BaseException):
                raise error
        if numbers:
            log.info("released", partitions=numbers)

    async def _finish(self, number: int) -> None:
        partition, (deciding, sending) = self._partitions[number], self._tasks[number]
        try:
            async with asyncio.timeout(RELEASE_S_MAX):
                await deciding
                await _either(partition.relay.flush(), sending)
                await partition.trim()
                if partition.ended and partition.care is not None:
                    await partition.care.end()
        except TimeoutError:
            log.warning("released before all was acknowledged", partition=number)
        except Fenced:
            _log_taken(number)
        finally:
            deciding.cancel()
            sending.cancel()
            await asyncio.gather(deciding, sending, return_exceptions=True)
            del self._partitions[number], self._tasks[number], self._leaving[number]
            self._world.owned = max(1, len(self._partitions))
            await self._world.store.release(number)

    def applied(self) -> dict[Any, int]:
        """The last applied offset by topic partition, for the lag that Kafka displays."""
        from faust.types import TP

        prefix = self._world.settings.prefix
        return {
            TP(prefix + topic, number): offset - 1
            for number, partition in self._partitions.items()
            for topic, offset in partition.offsets.items()
            if offset
        }


def _log_taken(number: int) -> None:
    """A worker that stood still for longer than a session has lost its partitions: that is no
    error, and what it had not stored was never decided."""
    log.warning("another worker had claimed it before it was given up", partition=number)


async def _either(flushed: Coroutine[Any, Any, None], sending: asyncio.Task[None]) -> None:
    """Wait until all is sent, or until nobody sends any more: a relay that failed never will."""
    waiting = asyncio.create_task(flushed)
    try:
        await asyncio.wait([waiting, sending], return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
