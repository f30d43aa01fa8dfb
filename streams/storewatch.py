"""Looks at the store while the worker runs: is it still fit, and what do the others apply?

Somebody may change the eviction policy, make the server a replica, or let its disk run full under
a running worker. Batches wait then, and go on when the finding is gone; the worker is not ready
meanwhile. While the server has no memory the outbox is trimmed, which is what gives some back.

Two workers with different rule books decide differently for no reason that a customer could see.
Each batch stores its book's digest, so every worker sees under which book the others apply.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Protocol

import structlog

from streams.store.errors import StoreError
from streams.store.patience import PatientStore, passes

log = structlog.get_logger(__name__)

LOOK_S = 4.0
TRIM_S = 0.5


class Positions(Protocol):
    """A store that tells how far each partition is, and under which book."""

    async def positions(self, partitions: Sequence[int]) -> dict[int, tuple[int, str]]:
        """The number of the next call and the digest of the rule book."""
        ...


class Trimming(Protocol):
    """A partition, as far as this module goes."""

    async def trim(self, beside: bool = False) -> None:
        """Tell the store what is acknowledged, ``beside`` a batch that is on its way."""
        ...


async def watch_server(store: PatientStore) -> None:
    """Let no batch be written while the server has a fatal finding."""
    while True:
        await asyncio.sleep(LOOK_S)
        fatal = [finding for finding in await store.check_server() if finding.fatal]
        if not fatal:
            store.patience.resume()
            continue
        log.error("the store is unfit: nothing is applied", finding=fatal[0].text)
        store.patience.halt(fatal[0].code)
        if fatal[0].code == "replica":
            await store.look_anew()


async def trim_while_full(
    store: PatientStore, partitions: Callable[[], Iterable[Trimming]]
) -> None:
    """Trim what is acknowledged while the server takes no batch that would carry the trimming."""
    while True:
        await asyncio.sleep(TRIM_S)
        if store.patience.trouble != "OOM":
            continue
        for partition in list(partitions()):
            try:
                await partition.trim(beside=True)
            except StoreError as error:
                if not passes(error):
                    raise


class BookWatch:
    """Counts the partitions of others that moved under another book than ours."""

    def __init__(self, store: Positions, partitions: int) -> None:
        self._store = store
        self._partitions = partitions
        self._seen: dict[int, int] = {}
        self._apart: set[int] = set()

    @property
    def differing(self) -> int:
        """Partitions of others whose last batch that we saw come was under another book."""
        return len(self._apart)

    async def look(self, owned: Collection[int], digest: str) -> None:
        """Compare with ``digest``, ours. A partition that stands still says nothing new."""
        others = [number for number in range(self._partitions) if number not in owned]
        found = await self._store.positions(others)
        for number, (call, book) in found.items():
            if self._seen.get(number, call) != call and book:
                (self._apart.discard if book == digest else self._apart.add)(number)
        self._seen = {number: call for number, (call, _) in found.items()}
        before, self._apart = self.differing, self._apart & found.keys()
        if self._apart and not before:
            log.error("other workers apply another rule book", partitions=sorted(self._apart))
