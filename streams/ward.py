"""A partition as :mod:`streams.poison` needs it: attempts, and giving up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from zlib import crc32

import structlog

from streams.deadletters import TIMERS
from streams.poison import Due, Records, is_poison
from streams.work import Work, timer_letter
from streams.world import World
from triggers.customer import Customer
from triggers.errors import Refused
from triggers.ids import offer_id
from triggers.timers import next_due, set_aside

log = structlog.get_logger(__name__)

Once = Callable[[Records, Due, bool], Awaitable[str]]


class PartitionWard:
    """Implements :class:`streams.poison.Ward` with what a partition lends it."""

    def __init__(
        self,
        number: int,
        world: World,
        room: Callable[[], Awaitable[bool]],
        once: Once,
        find: Callable[[str], Awaitable[Customer]],
        commit: Callable[[Work], Awaitable[None]],
    ) -> None:
        """``room`` waits for the outbox, False when an offer must be held first; ``once`` applies
        a batch; ``find`` gives a customer; ``commit`` stores what was worked out."""
        self._number = number
        self._world = world
        self._has_room = room
        self._once = once
        self._find = find
        self._commit = commit

    async def room(self) -> None:
        """Wait until the outbox takes an entry; what is to be held is stored meanwhile."""
        while not await self._has_room():
            await self._once([], [], False)

    async def attempt(self, records: Records, due: Due, one_timer: bool = False) -> str:
        """Apply as a batch; what was raised when it was not applied."""
        await self.room()
        return await self._once(records, due, one_timer)

    async def due_before(self, topic: str, record: Any) -> Due:
        """The record's customer, when it has timers that fire before the record."""
        now = self._world.clock.latest_ms()
        key, value, at_ms = record.key, record.value, record.timestamp
        try:
            event = self._world.door.decode(
                topic, self._number, key, value, record.headers, at_ms, now
            )
        except Exception as error:
            if isinstance(error, Refused) or is_poison(error):
                return []  # the record itself is what cannot be applied
            raise
        customer = await self._find(event.subject)
        at = max(customer.now.at, at_ms)
        return [(event.subject, at)] if next_due(customer, at) is not None else []

    async def first_due(self, customer_id: str, horizon_ms: int) -> int:
        """A number that stands for the customer's next due timer; 0: none is due."""
        timer = next_due(await self._find(customer_id), horizon_ms)
        if timer is None:
            return 0
        name = f"{customer_id}\0{timer.rule}\0{timer.about}\0{timer.due_ms}"
        return crc32(name.encode()) or 1

    async def give_up(self, topic: str, record: Any, error: str) -> None:
        """Let the record become a dead letter, ``crashed``; its offset moves with it."""
        place = f"{topic}/{self._number}/{record.offset}"
        log.error("record given up", place=place, error=error)
        await self.room()
        work = Work(self._world.book)
        work.offsets[topic] = record.offset + 1
        work.refuse(topic, record, "crashed", error)
        await self._commit(work)

    async def set_aside(self, customer_id: str, horizon_ms: int, error: str) -> None:
        """Let the customer's next due timer become a dead letter."""
        await self.room()
        customer = await self._find(customer_id)
        timer = set_aside(customer, horizon_ms)
        if timer is None:
            return
        log.error("timer set aside", rule=timer.rule, partition=self._number, error=error)
        work = Work(self._world.book)
        work.changed[customer_id] = customer
        work.pack()
        name = offer_id(timer.rule, customer_id, timer.source, timer.event_id)
        work.records.append(timer_letter(customer_id, self._number, timer, name, error))
        await self._commit(work)
        self._world.observer.dead_letter(TIMERS, "crashed")
