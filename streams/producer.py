"""Faust's producer with acks=all, idempotent, and whole batches instead of a future a record."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from aiokafka.errors import KafkaError, KafkaTimeoutError, NodeNotReadyError
from aiokafka.protocol.produce import ProduceRequest
from faust.transport.drivers import aiokafka as driver

from streams.metrics import PROCESS
from streams.ownership import Ownership

__all__ = ["Acked", "Producer", "Record"]

#: Where a batch of format 2 tells its number of records, bytes.
_RECORD_COUNT_AT = 57

Headers = Sequence[tuple[str, bytes]]
Record = tuple[bytes | None, bytes | None, Headers | None, int]
"""Key, value, headers, timestamp in milliseconds."""


class Acked(NamedTuple):
    """Where acknowledged records lie.

    `base_offset` is the first offset of the last batch, `next_offset` the one past its last
    record. Both are -1 when the broker had acknowledged that batch before and forgot where.
    """

    base_offset: int
    next_offset: int


class UnsureError(KafkaError):  # type: ignore[misc]
    """Records are not sent, for the reason given as its cause; aiokafka tries no more."""


class Producer(driver.Producer):
    """The app's one producer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Whose batches wait or are on their way, by topic partition; nothing takes those back.
        self._held: dict[tuple[str, int], list[Ownership]] = {}
        # Why nothing more is sent: the numbers of the refused batches are missing from now on.
        self._refusal: BaseException | None = None

    def _settings_extra(self) -> Mapping[str, Any]:
        # Idempotent: a retry after a lost answer neither doubles nor reorders; aiokafka then
        # retries until the broker is back.
        return {"acks": "all", "enable_idempotence": True}

    def _settings_auth(self) -> Mapping[str, Any]:
        # The addresses too: what stands here wins over Faust's.
        return cast(Mapping[str, Any], cast(Any, self.app).kafka_options)

    def _new_producer(self, *args: Any, **kwargs: Any) -> Any:
        producer = super()._new_producer(*args, **kwargs)
        send = producer.client.send

        async def counted(node_id: int, request: Any, **options: Any) -> Any:
            if isinstance(request, ProduceRequest):
                # Connected first, for that may take long, too.
                if not await producer.client.ready(node_id):
                    raise NodeNotReadyError(f"node {node_id} is not connected")
                await self._still_ours(places_in(request))
            try:
                return await send(node_id, request, **options)
            except KafkaError as error:
                # `NodeNotReadyError`: it was not sent. Any other: the broker may have the records.
                unknown = isinstance(request, ProduceRequest) and not isinstance(
                    error, NodeNotReadyError
                )
                if unknown:
                    count = records_in(request)
                    PROCESS.add("publish_unknown", amount=count)
                    self.log.warning("the answer was lost to %d records: sent again", count)
                raise

        producer.client.send = counted
        return producer

    async def _still_ours(self, places: Sequence[tuple[str, int]]) -> None:
        """Ask before records leave whose partition may be another worker's by now.

        They waited for the broker, or the process stood still: the other one has sent them.
        """
        if self._refusal is not None:
            raise UnsureError("some were refused before") from self._refusal
        owners = {owner for place in places for owner in self._held.get(place, ())}
        stale = [owner for owner in owners if not owner.fresh]
        if not stale:
            return
        try:
            await asyncio.gather(*(owner.check() for owner in stale))
        except Exception as error:
            self._refusal = error
            raise UnsureError("whose the partitions are") from error

    async def send_batch(
        self,
        topic: str,
        partition: int,
        records: Sequence[Record],
        ownership: Ownership | None = None,
    ) -> Acked:
        """Write `records` in order to one topic partition; return once all are acknowledged.

        They are cut into batches of at most `producer_max_batch_size` bytes. What waited before it
        left is sent only after a look at `ownership`; what that raises is raised here, and nothing
        is sent any more. Raises aiokafka's `KafkaError` when the broker refuses a batch; later
        ones may then be written or not.
        """
        if not records:
            raise ValueError("nothing to send")
        producer = self._ensure_producer()
        sent: list[asyncio.Future[Any]] = []
        owner = ownership or Ownership()
        batch = producer.create_batch()
        for key, value, headers, timestamp_ms in records:
            told = headers or []
            if batch.append(timestamp=timestamp_ms, key=key, value=value, headers=told) is None:
                sent.append(await self._submit(batch, topic, partition, owner))
                batch = producer.create_batch()
                # The first record of a batch is taken whatever its size.
                batch.append(timestamp=timestamp_ms, key=key, value=value, headers=told)
        count = batch.record_count()
        sent.append(await self._submit(batch, topic, partition, owner))
        await asyncio.wait(sent)
        failed = [error for one in sent if (error := one.exception()) is not None]
        self._raise_refusal()
        if failed:
            raise failed[0]
        base: int = sent[-1].result().offset
        return Acked(base, base + count) if base >= 0 else Acked(-1, -1)

    def _raise_refusal(self) -> None:
        if self._refusal is not None:
            raise self._refusal

    async def _submit(
        self, batch: Any, topic: str, partition: int, owner: Ownership
    ) -> asyncio.Future[Any]:
        batch.close()
        self._raise_refusal()
        held = self._held.setdefault((topic, partition), [])
        held.append(owner)
        try:
            future = await self._taken(batch, topic, partition)
        except BaseException:
            held.remove(owner)
            raise

        def settled(one: asyncio.Future[Any]) -> None:
            held.remove(owner)
            if not one.cancelled():
                one.exception()  # looked at: whoever handed it over may have gone

        future.add_done_callback(settled)
        return future

    async def _taken(self, batch: Any, topic: str, partition: int) -> asyncio.Future[Any]:
        while True:
            try:
                future: asyncio.Future[Any] = await self._ensure_producer().send_batch(
                    batch, topic, partition=partition
                )
            except KafkaTimeoutError:
                # The batch before it still waits for the broker; this one was not taken yet.
                self.log.warning("%s/%d takes no records: is the broker away?", topic, partition)
            else:
                return future


def places_in(request: Any) -> list[tuple[str, int]]:
    """The topic partitions that a produce request writes to."""
    return [(topic, number) for topic, partitions in request._topics for number, _ in partitions]


def records_in(request: Any) -> int:
    """How many records a produce request carries: its batches' headers tell."""
    buffers = (data for _, partitions in request._topics for _, data in partitions)
    return sum(struct.unpack_from(">i", data, _RECORD_COUNT_AT)[0] for data in buffers)
