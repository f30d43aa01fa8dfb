"""The catalogue reader: the compacted topic, read whole before anything is decided, then followed.

Every worker reads it all, so that each decides with the same products; records that the door
refuses are counted and logged, and the catalogue keeps what it had.
"""

from collections.abc import Callable, Mapping
from typing import Any

import structlog

from streams.codec import Door
from streams.following import Follower
from triggers.catalog import Catalog
from triggers.errors import Refused
from triggers.events import CATALOG, Tombstone

log = structlog.get_logger(__name__)


class CatalogReader(Follower):
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
        super().__init__(options, prefix + CATALOG)
        self._catalog = catalog
        self._door = door
        self._on_refused = on_refused

    def apply(self, record: Any) -> None:
        """Apply one record to the catalogue."""
        try:
            found = self._door.decode_catalog(
                record.key, record.value, record.headers, record.timestamp
            )
            if isinstance(found, Tombstone):
                self._catalog.forget(found)
            else:
                self._catalog.apply(found.type, found.subject, found.data)
        except Refused as refused:
            self._on_refused(CATALOG, refused.reason)
            log.warning(
                "catalogue record refused",
                topic=self._tp.topic,
                offset=record.offset,
                reason=refused.reason,
                detail=refused.detail,
            )
