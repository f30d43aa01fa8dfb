"""Faust's transport, made to hand over fetched batches as wholes.

Faust keeps what it is good at: group membership, assignment, fetching, lifecycle. Its path for
single records (four asyncio tasks each) is not used: one fetch round gives each topic partition's
records to the `Intake` in one call.

Two threads take part. Faust runs aiokafka's consumer on a thread of its own ("the consumer
thread"); everything else, the intake too, runs on the main loop. What is read must never reach
the intake under an assignment other than the one it was read for, so:

- `Consumer._assigned` (main loop) is the assignment in force, `None` from a revocation on;
- `ConsumerThread._gate` (consumer thread) opens when that assignment's partitions stand at their
  claimed offsets, and closes as the revocation begins. Nothing is drained while it is closed;
- a round carries the assignment it was drained under; the main loop drops it when that is over.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, Protocol, cast

from aiokafka.errors import ConsumerStoppedError, IllegalStateError, KafkaError
from aiokafka.structs import ConsumerRecord
from faust.exceptions import ConsumerNotStarted
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.transports import ConsumerT, ProducerT
from mode import ServiceT

from streams.assignor import NotColocatedError, colocation_fault
from streams.fetching import Assigned, ConsumerThread, RebalanceListener
from streams.merge import FetchState
from streams.producer import Producer

__all__ = ["Consumer", "FetchState", "Intake", "OffsetLostError", "SeekError", "Transport"]

# Together they stay under the rebalance timeout (`app.py`), or the group would put us out.
SEEK_S_MAX = 8.0
RELEASE_S_MAX = 10.0
COMMIT_S_MAX = 5.0


class Intake(Protocol):
    """Takes what was read; the one who decides what to do with it. Called on the main loop."""

    def paused(self) -> set[TP]:
        """Topic partitions whose buffers are full: they are not fetched."""

    def deliver(
        self,
        records: dict[TP, list[ConsumerRecord]],
        states: dict[TP, FetchState],
        received_ms: float,
    ) -> None:
        """Take one fetch round: at least every 100 ms while partitions are open, often empty.

        Whatever it brings was in the log at ``received_ms``, steady time.

        A topic partition that no fetch has answered since the claim is missing in `states`.
        """

    async def claim(self, tps: set[TP], generation: int) -> dict[TP, int]:
        """Claim the partitions; answer the next offset for each, 0 or -1 for the earliest.

        Never runs beside another `claim` or a `release`. An exception ends the worker.
        """

    async def release(self, tps: set[TP]) -> None:
        """Finish or drop what is in the air; the partitions are another's when this returns."""

    def applied(self) -> dict[TP, int]:
        """Offset of the last applied record by topic partition, for the lag Kafka displays."""


class IntakeOwner(Protocol):
    """What the consumer asks of its app."""

    intake: Intake
    topics_in: tuple[str, ...]


class OffsetLostError(RuntimeError):
    """A stored offset lies outside what the broker still has."""


class SeekError(RuntimeError):
    """The assigned partitions were not claimed, or not in time."""


class Consumer(driver.Consumer):
    """Claims what it is assigned, hands rounds to the intake, releases what is revoked."""

    RebalanceListener: ClassVar[type[driver.ConsumerRebalanceListener]] = RebalanceListener

    _thread: ConsumerThread
    _assigned: Assigned | None = None
    _seeking: asyncio.Future[None] | None = None

    @property
    def _owner(self) -> IntakeOwner:
        return cast(IntakeOwner, self.app)

    @property
    def intake(self) -> Intake:
        """The app's intake."""
        return self._owner.intake

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Check that the partitions lie together before anything is done with them."""
        fault = colocation_fault(assigned, self._owner.topics_in, self._thread.topic_partitions)
        if assigned and fault is not None:
            # aiokafka logs and drops what a rebalance callback raises.
            await self.crash(NotColocatedError(fault))
            return
        self._assigned = Assigned(frozenset(assigned), generation_id)
        await super().on_partitions_assigned(assigned, generation_id)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Let go of everything before the group goes on."""
        self._assigned = None
        await self._let_go(revoked)
        await super().on_partitions_revoked(revoked)

    async def on_stop(self) -> None:
        """Show how far we came, let go of everything, then leave the group."""
        self._assigned = None
        # Before the release: an intake need not remember what it has let go.
        await self.commit()
        await self._let_go(self._owned())
        await super().on_stop()

    def _owned(self) -> set[TP]:
        try:
            return self.assignment()
        except ConsumerNotStarted:
            return set()

    async def _let_go(self, tps: set[TP]) -> None:
        if self._seeking is not None:
            await asyncio.wait([self._seeking])
        if not tps:
            return
        try:
            async with asyncio.timeout(RELEASE_S_MAX):
                await self.intake.release(tps)
        except Exception as error:  # noqa: BLE001 - whatever it was, it ends the worker
            await self.crash(error)

    async def perform_seek(self) -> None:
        """Claim the assigned partitions and read on where the store says.

        Faust cancels this when the group changes again. A claim that is cut off in the middle
        would leave an answer unread, so it runs in a task of its own; the next one waits for it.
        """
        self._seeking = asyncio.ensure_future(self._claim_assigned(self._seeking))
        self._seeking.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(self._seeking)

    async def _claim_assigned(self, previous: asyncio.Future[None] | None) -> None:
        if previous is not None:
            await asyncio.wait([previous])
        assigned = self._assigned
        if assigned is None or not assigned.tps:
            return  # revoked meanwhile: the next assignment seeks
        try:
            async with asyncio.timeout(SEEK_S_MAX):
                await self._claim_and_open(assigned)
        except Exception as error:
            if self._assigned is not assigned:
                self.log.warning("claim of a lost assignment failed: %r", error)
                return
            if isinstance(error, TimeoutError):
                error = SeekError(f"partitions were not claimed within {SEEK_S_MAX} s")
            await self.crash(error)
            raise error from None

    async def _claim_and_open(self, assigned: Assigned) -> None:
        stored = await self.intake.claim(set(assigned.tps), assigned.generation)
        first, end = await self._thread.bounds(assigned.tps)
        offsets = {}
        for tp in assigned.tps:
            offset = stored[tp] if stored[tp] > 0 else first[tp]
            if not first[tp] <= offset <= end[tp]:
                raise OffsetLostError(
                    f"{tp.topic}/{tp.partition} is stored as read up to {offset}, but the broker "
                    f"has {first[tp]} to {end[tp]}"
                )
            offsets[tp] = offset
        if self._assigned is assigned:
            await self._thread.seek_and_open(assigned, offsets)
            self._read_offset.update(offsets)
            self._committed_offset.update(offsets)

    async def _drain_messages(self, fetcher: ServiceT) -> None:
        try:
            while not (self.should_stop or fetcher.should_stop):
                if not self.flow_active:
                    await self.wait(self.can_resume_flow.wait())
                    continue
                batch = await self._thread.fetch_round(frozenset(self.intake.paused()))
                if batch.assigned is not None and batch.assigned is self._assigned:
                    self.intake.deliver(batch.records, batch.states, batch.received_ms)
        except (asyncio.CancelledError, ConsumerStoppedError):
            if not self.transport.app.should_stop:
                raise

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Show Kafka how far we are. Nobody reads it back, so a failure is only logged."""
        assigned = self._owned()
        offsets = {tp: last + 1 for tp, last in self.intake.applied().items() if tp in assigned}
        if not offsets:
            return False
        try:
            async with asyncio.timeout(COMMIT_S_MAX):
                return await self._thread.on_loop(self._thread._commit(offsets))
        except (TimeoutError, KafkaError, IllegalStateError) as error:
            self.log.warning("offsets were not shown to Kafka: %r", error)
            return False

    def on_buffer_full(self, tp: TP) -> None:
        """Do nothing: Faust's answer puts the fetch loop to sleep for a second."""

    def on_buffer_drop(self, tp: TP) -> None:
        """Do nothing: see `on_buffer_full`."""


class Transport(driver.Transport):
    """Our consumer and producer in place of Faust's."""

    Consumer: ClassVar[type[ConsumerT]] = Consumer
    Producer: ClassVar[type[ProducerT]] = Producer
