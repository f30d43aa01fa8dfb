"""The catalogue reader: the compacted topic, read whole before anything is decided, then followed.

Every worker reads it all, so that each decides with the same products; records that the door
refuses are counted and logged, and the catalogue keeps what it had.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from streams.codec import Door
from triggers.catalog import Catalog
from triggers.errors import Refused
from triggers.events import CATALOG, Tombstone

log = structlog.get_logger(__name__)

_POLL_MS = 500
#: Records applied before the event loop gets a turn.
_CHUNK = 2_000


class CatalogReader:
    """Keeps one :class:`Catalog` equal to the topic."""

    def __init__(
        self,
        options: Mapping[str, Any],
        prefix: str,
        catalog: Catalog,
        door: Door,
        on_refused: Callable[[str, str], None],
    ) -> None:
        """``on_refused`` gets the topic and the reason of each refused record."""
        self._tp = TopicPartition(prefix + CATALOG, 0)
        self._catalog = catalog
        self._door = door
        self._on_refused = on_refused
        self._consumer = AIOKafkaConsumer(
            **options, enable_auto_commit=False, isolation_level="read_committed"
        )

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
            self._apply(record)
            count += 1
            if count % _CHUNK == 0:
                await asyncio.sleep(0)
        return count

    def _apply(self, record: Any) -> None:
        try:
            found = self._door.decode_catalog(
                record.key, record.value, record.headers, record.timestamp
            )
        except Refused as refused:
            self._on_refused(CATALOG, refused.reason)
            log.warning(
                "catalogue record refused",
                topic=self._tp.topic,
                offset=record.offset,
                reason=refused.reason,
                detail=refused.detail,
            )
            return
        if isinstance(found, Tombstone):
            self._catalog.forget(found)
        else:
            self._catalog.apply(found.type, found.subject, found.data)
