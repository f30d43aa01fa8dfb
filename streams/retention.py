"""Drops customers with whom nothing has happened for long.

Whether somebody counts as forgotten is decided at their next event (:mod:`triggers.forgetting`);
what happens here only takes the documents out of the store. A partition looks at one page of its
own customers a second, bucket after bucket, in between its batches.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from streams.poison import Records
from streams.store.keys import BUCKETS
from streams.work import Work
from streams.world import World
from triggers.customer import PARTS, Customer
from triggers.forgetting import MARGIN_MS, forget_idle, is_idle
from triggers.present import unpack_now

#: Customers of one look, about, and the time between two looks.
PAGE = 200
PAUSE_MS = 1_000
#: What the store counts are fields: a customer has one for each part that is not empty.
_FIELDS = PAGE * len(PARTS)

_LETTER, _ = PARTS["now"]
_OFFERS, _ = PARTS["offers"]


class Sweeper:
    """Goes through one partition's customers, again and again."""

    def __init__(
        self,
        number: int,
        world: World,
        read_up_to: Callable[[], int],
        find: Callable[[str], Awaitable[Customer]],
        commit: Callable[[Work], Awaitable[None]],
    ) -> None:
        """``read_up_to`` tells the instant up to which every record was applied (ms); ``find``
        gives a customer as it stands now; ``commit`` stores what was worked out."""
        self._number = number
        self._world = world
        self._read_up_to = read_up_to
        self._find = find
        self._commit = commit
        wall_ms = world.clock.wall_ms()
        self._next_ms = wall_ms + PAUSE_MS
        # Not always the same one first: a worker may live for less than a whole round.
        self._bucket = wall_ms // PAUSE_MS % BUCKETS
        self._cursor = 0
        self._seen_ms = 0  # timestamp of the newest record

    def saw(self, records: Records) -> None:
        """Note records that are about to be applied, in their order."""
        if records:
            self._seen_ms = max(self._seen_ms, records[-1][1].timestamp)

    async def turn(self) -> None:
        """Look at the next page, once a second, and drop whom nobody will miss."""
        clock, book = self._world.clock, self._world.book
        if clock.wall_ms() < self._next_ms or clock.jumped:
            return
        self._next_ms = clock.wall_ms() + PAUSE_MS
        # A clock that is far ahead must not drop anybody: records have to say so, too.
        at = min(clock.now_ms(), self._read_up_to(), self._seen_ms) - MARGIN_MS
        store = self._world.store
        self._cursor, page = await store.page(
            self._number, self._bucket, _LETTER, self._cursor, _FIELDS
        )
        if not self._cursor:
            self._bucket = (self._bucket + 1) % BUCKETS
        idle = {raw_id: packed for raw_id, packed in page if is_idle(unpack_now(packed), at, book)}
        # Looked at aside: those who stay must not push others out of memory.
        offers = await store.load(self._number, idle, _OFFERS)
        work = Work(book)
        for raw_id, packed in idle.items():
            aside = Customer(raw_id.decode(), {_LETTER: packed, **offers[raw_id]})
            if forget_idle(aside, at, book):
                customer = await self._find(aside.id)
                if forget_idle(customer, at, book):
                    work.changed[customer.id] = customer
        if work.changed:
            work.out.note("customer_forgotten", len(work.changed))
            work.pack()
            await self._commit(work)
