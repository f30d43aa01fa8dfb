"""A compacted topic of one partition, read whole before anything is decided, then followed."""

import asyncio
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from streams.unpacking import bound_unpacking

_POLL_MS = 500
#: Records applied before the event loop gets a turn.
_CHUNK = 2_000


class Follower:
    """Applies the topic's records in the order of their offsets; every worker reads them all."""

    def __init__(self, options: Mapping[str, Any], topic: str) -> None:
        """``options`` reach Kafka; ``topic`` is the whole name, prefix included."""
        bound_unpacking()
        self._tp = TopicPartition(topic, 0)
        self._consumer = AIOKafkaConsumer(
            **options, enable_auto_commit=False, isolation_level="read_committed"
        )

    def apply(self, record: Any) -> None:
        """Apply one record; what it cannot take is counted and logged, never raised."""
        raise NotImplementedError

    def caught_up(self) -> None:
        """Records were applied, and no more are at hand."""

    async def read_whole(self) -> int:
        """Read from the beginning to the present end; the number of records applied."""
        await self._consumer.start()
        self._consumer.assign([self._tp])
        await self._consumer.seek_to_beginning(self._tp)
        ends = await self._consumer.end_offsets([self._tp])
        count = 0
        while await self._consumer.position(self._tp) < ends[self._tp]:
            count += await self._poll()
        return count

    async def follow(self) -> None:
        """Apply changes as they come, for ever."""
        while True:
            await self._poll()

    async def stop(self) -> None:
        """Close the consumer."""
        await self._consumer.stop()

    async def _poll(self) -> int:
        batches = await self._consumer.getmany(self._tp, timeout_ms=_POLL_MS)
        count = 0
        for record in batches.get(self._tp, ()):
            self.apply(record)
            count += 1
            if count % _CHUNK == 0:
                await asyncio.sleep(0)
        if count:
            self.caught_up()
        return count
