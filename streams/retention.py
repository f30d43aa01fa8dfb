"""Drops customers with whom nothing has happened for long, and paces due timers.

Whether somebody counts as forgotten is decided at their next event (:mod:`triggers.forgetting`);
what happens here only takes the documents out of the store. A partition looks at one page of its
own customers a second, bucket after bucket, in between its batches.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import structlog

from streams.store.keys import BUCKETS
from streams.work import Work
from streams.world import World
from triggers.forgetting import MARGIN_MS, forget_idle, is_idle
from triggers.state import PARTS, Customer, Now

log = structlog.get_logger(__name__)

#: Documents of one look, about, and the time between two looks.
PAGE = 200
PAUSE_MS = 1_000

_LETTER, _ = PARTS["now"]
_decode = msgspec.msgpack.Decoder(Now).decode


class Sweeper:
    """Goes through one partition's customers, again and again."""

    def __init__(
        self,
        number: int,
        world: World,
        find: Callable[[str], Awaitable[Customer]],
        commit: Callable[[Work], Awaitable[None]],
    ) -> None:
        """``find`` gives a customer as it stands now; ``commit`` stores what was worked out."""
        self._number = number
        self._world = world
        self._find = find
        self._commit = commit
        wall_ms = world.clock.wall_ms()
        self._next_ms = wall_ms + PAUSE_MS
        # Not always the same one first: a worker may live for less than a whole round.
        self._bucket = wall_ms // PAUSE_MS % BUCKETS
        self._cursor = 0

    async def turn(self) -> None:
        """Look at the next page, once a second, and drop whom nobody will miss."""
        clock, book = self._world.clock, self._world.book
        if clock.wall_ms() < self._next_ms or clock.jumped:
            return
        self._next_ms = clock.wall_ms() + PAUSE_MS
        self._cursor, page = await self._world.store.page(
            self._number, self._bucket, _LETTER, self._cursor, PAGE
        )
        if not self._cursor:
            self._bucket = (self._bucket + 1) % BUCKETS
        at = clock.now_ms() - MARGIN_MS
        work = Work(book)
        for raw_id, packed in page:
            if is_idle(_decode(packed), at, book):
                customer = await self._find(raw_id.decode())
                if forget_idle(customer, at, book):
                    work.changed[customer.id] = customer
        if work.changed:
            work.out.note("customer_forgotten", len(work.changed))
            work.pack()
            await self._commit(work)


class TimerBudget:
    """How many due timers may fire in this second; events go on meanwhile."""

    def __init__(self, per_second: int) -> None:
        self._most = self.left = per_second
        self._second = 0

    def at(self, wall_ms: int) -> int:
        """How many may fire now."""
        if wall_ms // 1000 != self._second:
            self._second = wall_ms // 1000
            self.left = self._most
        return self.left
