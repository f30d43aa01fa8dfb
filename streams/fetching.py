"""The consumer thread: aiokafka's consumer, drained in rounds under one assignment at a time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Coroutine, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar, cast

import aiokafka
from aiokafka.errors import ConsumerStoppedError, TopicAuthorizationFailedError
from aiokafka.structs import ConsumerRecord, OffsetAndMetadata, TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode import Service

from streams.clock import steady
from streams.fetchpace import FetchPace
from streams.merge import FetchState
from streams.unpacking import as_read, bound_unpacking

__all__ = ["Assigned", "ConsumerThread", "NameTakenError", "RebalanceListener", "Round"]

ROUND_MS_MAX = 50
ROUND_RECORDS_MAX = 20_000
FETCH_WAIT_MS = 50
PARTITION_FETCH_BYTES_MAX = 512 * 1024

T = TypeVar("T")


def _hand_over_as_read(fetcher: Any) -> None:
    """Spare the copy of each record into a `ConsumerRecord`."""
    for fetched in fetcher._records.values():
        unread = getattr(fetched, "_partition_records", None)  # an error has none
        if unread is not None:
            unread._consumer_record = as_read


class NameTakenError(RuntimeError):
    """The group dropped this named worker: most likely another runs under the same name."""


class Assigned(NamedTuple):
    """One assignment. Compared by identity: the same partitions may be given to us twice."""

    tps: frozenset[TP]
    generation: int


class Round(NamedTuple):
    """What one look at the fetcher gave, the assignment under which it was drained, and when."""

    assigned: Assigned | None
    records: dict[TP, list[ConsumerRecord]]
    states: dict[TP, FetchState]
    received_ms: float


NOTHING = Round(None, {}, {}, 0.0)


class RebalanceListener(driver.ConsumerRebalanceListener):
    """Closes the gate before anything else of a revocation happens, on the consumer thread."""

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> Awaitable[Any]:
        """Close the gate, then let Faust go on, unless another worker has our name."""
        thread = cast(ConsumerThread, self._thread)
        thread.close_gate()
        return thread.give_up() if thread.name_taken() else super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Note that we are in the group, then let Faust go on."""
        cast(ConsumerThread, self._thread).joined = True
        await super().on_partitions_assigned(assigned)


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """aiokafka's consumer on its own thread; methods with `_` in front run on it."""

    joined: bool = False
    _gate: Assigned | None = None
    _opened_s: float = 0.0
    _sent_ms: dict[TopicPartition, float]
    _pace: FetchPace
    _news: bool = False  # a look found nothing more, which no round has told yet

    def __post_init__(self) -> None:
        super().__post_init__()
        self._sent_ms = {}
        self._pace = FetchPace()

    async def on_start(self) -> None:
        """Start the consumer and note from now on when each fetch request is sent."""
        await super().on_start()
        self._note_send_times(self._ensure_consumer()._fetcher)

    def _create_worker_consumer(self, transport: driver.Transport) -> aiokafka.AIOKafkaConsumer:
        bound_unpacking()
        conf = self.app.conf
        self._assignor = self.app.assignor
        return aiokafka.AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            group_instance_id=conf.consumer_group_instance_id,
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            # Where we read on is in the store. An offset that the broker lacks must end the
            # worker (`OffsetLostError`), not be replaced by another one without a word.
            auto_offset_reset="none",
            isolation_level="read_committed",
            fetch_max_wait_ms=FETCH_WAIT_MS,
            max_partition_fetch_bytes=PARTITION_FETCH_BYTES_MAX,
            check_crcs=conf.broker_check_crcs,
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            max_poll_interval_ms=int(conf.broker_max_poll_interval * 1000),
            metadata_max_age_ms=conf.consumer_metadata_max_age_ms,
            connections_max_idle_ms=conf.consumer_connections_max_idle_ms,
            **cast(Any, self.app).kafka_options,
        )

    @Service.task
    async def _errors(self) -> None:
        # Nobody else asks aiokafka whether its background tasks still live: without this a
        # worker whose fetcher or group membership has died would stand still for ever.
        while not self.should_stop:
            await self.sleep(1.0)
            consumer = self._consumer
            if consumer is not None and not self.should_stop:
                consumer._coordinator.check_errors()
                if consumer._fetcher.error_future.done():
                    consumer._fetcher.error_future.result()

    async def on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the consumer thread (Faust's method queue costs several tasks a call)."""
        return await asyncio.wrap_future(
            asyncio.run_coroutine_threadsafe(work, self.thread_loop), loop=self.parent_loop
        )

    def close_gate(self) -> None:
        """Hand over nothing more until the next `seek_and_open`."""
        self._gate = None

    def name_taken(self) -> bool:
        """Whether the group has forgotten us although our name keeps our place in it."""
        consumer = self._ensure_consumer()
        named = self.app.conf.consumer_group_instance_id is not None
        return named and self.joined and not consumer._coordinator.member_id

    async def give_up(self) -> None:
        """End the worker instead of joining again.

        aiokafka's heartbeats do not say our name, so Kafka cannot tell us that we are fenced off;
        joining again would take the name back, and the two would take turns for ever.
        """
        fault = NameTakenError(
            f"another worker has joined as {self.app.conf.consumer_group_instance_id!r}, or this "
            "one was halted for longer than its session lasts"
        )
        asyncio.run_coroutine_threadsafe(self.consumer.crash(fault), self.parent_loop)
        # Anything else that a callback raises is logged and dropped; this ends the membership.
        raise asyncio.CancelledError

    def _note_send_times(self, fetcher: Any) -> None:
        # aiokafka notes when an answer arrived; whether we are caught up with time t is told by
        # an answer whose request was sent after t.
        answer = fetcher._proc_fetch_request

        async def timed(assignment: Any, node_id: int, request: Any) -> Any:
            if rest_s := self._pace.rest_s(node_id, time.monotonic()):
                # When aiokafka closes, or we lose a partition, it cancels this and expects an
                # answer: an exception would end the thread, and a stop would wait for it.
                try:
                    await asyncio.sleep(rest_s)
                except asyncio.CancelledError:
                    return False
            sent_ms, sent_s = steady(), time.monotonic()
            look = self._pace.ask(node_id, sent_s)
            asked = [TopicPartition(t, some[0]) for t, parts in request.topics for some in parts]
            for tp in asked:
                assignment.state_value(tp).timestamp = None
            has_records = await answer(assignment, node_id, request)
            if assignment.active and sent_s >= self._opened_s:
                for tp in asked:
                    # Set by aiokafka for the topic partitions that were answered without error.
                    if assignment.state_value(tp).timestamp is not None:
                        self._sent_ms[tp] = sent_ms
            if not has_records:
                self._pace.found_nothing()
                if look:
                    self._news = True
                    for waiter in fetcher._fetch_waiters:
                        fetcher._notify(waiter)
            return has_records

        fetcher._proc_fetch_request = timed

    async def bounds(self, tps: Iterable[TP]) -> tuple[dict[TP, int], dict[TP, int]]:
        """First offset and last stable offset that the broker has, by topic partition."""
        consumer = self._ensure_consumer()
        wanted = [TopicPartition(*tp) for tp in tps]
        first = await self.on_loop(consumer.beginning_offsets(wanted))
        end = await self.on_loop(consumer.end_offsets(wanted))
        return first, end

    async def seek_and_open(self, assigned: Assigned, offsets: Mapping[TP, int]) -> None:
        """Put every partition of `assigned` at its offset, then let rounds begin."""
        await self.on_loop(self._seek_and_open(assigned, offsets))

    async def _seek_and_open(self, assigned: Assigned, offsets: Mapping[TP, int]) -> None:
        await self._seek_wait(self._ensure_consumer(), offsets)
        self._sent_ms.clear()
        self._opened_s = time.monotonic()
        self._gate = assigned

    async def fetch_round(self, paused: frozenset[TP]) -> Round:
        """Wait for records a short while and hand over all there are (`ROUND_RECORDS_MAX`)."""
        return await self.on_loop(self._fetch_round(paused))

    async def _fetch_round(self, paused: frozenset[TP]) -> Round:
        consumer = self._ensure_consumer()
        fetcher = consumer._fetcher
        if consumer._closed or fetcher._closed:
            raise ConsumerStoppedError
        subscriptions = fetcher._subscriptions
        # Time outside of this context counts as idle: aiokafka leaves the group after too much.
        with subscriptions.fetch_context():
            if not (fetcher._records or self._news):
                await self._wait_for_records(fetcher)
            self._news = False
            gate = self._gate
            if gate is None or subscriptions.reassignment_in_progress:
                await asyncio.sleep(ROUND_MS_MAX / 1000)
                return NOTHING
            assignment = subscriptions.subscription.assignment
            self._pause(assignment, gate, paused)
            _hand_over_as_read(fetcher)
            # From the look at the gate to the end nothing gives up the loop (with timeout=0 and
            # no reassignment this await does not suspend), so no revocation can come between.
            records: dict[TP, list[ConsumerRecord]] = {}
            # Before they are taken: no fetch that is sent for want of them is older than this.
            received_ms = steady()
            # What we may not read is held back and shown as blocked; the others go on.
            with contextlib.suppress(TopicAuthorizationFailedError):
                records = await fetcher.fetched_records(
                    None, timeout=0, max_records=ROUND_RECORDS_MAX
                )
            if records:
                self._pace.handed_over(sum(map(len, records.values())))
            return Round(gate, records, self._states(assignment, gate), received_ms)

    async def _wait_for_records(self, fetcher: Any) -> None:
        waiter = fetcher._create_fetch_waiter()
        done, _ = await asyncio.wait([waiter], timeout=ROUND_MS_MAX / 1000)
        if done:
            waiter.result()
        else:
            waiter.cancel()

    def _pause(self, assignment: Any, gate: Assigned, paused: frozenset[TP]) -> None:
        # Paused in aiokafka itself: records of one topic partition that nobody takes hold up the
        # fetches of its whole broker. What a paused one has prefetched is dropped and read again.
        for tp in gate.tps:
            state = assignment.state_value(tp)
            if tp in paused:
                state.pause()
            else:
                state.resume()

    def _states(self, assignment: Any, gate: Assigned) -> dict[TP, FetchState]:
        states = {}
        for tp in gate.tps:
            state = assignment.state_value(tp)
            sent_ms = self._sent_ms.get(cast(TopicPartition, tp))
            if sent_ms is not None and state.has_valid_position:
                # A broker without transactions may answer no last stable offset.
                stable = state.lso if state.lso is not None and state.lso >= 0 else state.highwater
                states[tp] = FetchState(state.position, stable, sent_ms)
        return states

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        assigned = self.assignment()
        await self._ensure_consumer().commit(
            {
                TopicPartition(*tp): OffsetAndMetadata(offset, "")
                for tp, offset in offsets.items()
                if tp in assigned
            }
        )
        return True

    def close(self) -> None:
        """Do nothing: Faust would close this thread's client from the main loop; `stop` does."""

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Do nothing: Faust looks for streams and acks here, and we have neither."""
