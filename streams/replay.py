"""A merged log applied to customers held in memory, one line after the other."""

import heapq
from collections.abc import Callable
from typing import Any
from zlib import crc32

from streams.codec import LineDoor
from streams.history import Line
from triggers.book import Book
from triggers.catalog import Catalog
from triggers.customer import Customer
from triggers.engine import advance, step
from triggers.errors import Refused
from triggers.events import CatalogEvent, Event
from triggers.judgement import Step
from triggers.learned import Tally

CONFLICT = "another body came under this source and id within 72 h"


class Replay:
    """Applies a merged log to customers held in memory and hands over what comes of it."""

    def __init__(self, book: Book, write: Callable[[Step], None]) -> None:
        self.book = book
        self.catalog = Catalog()
        self.door = LineDoor(book.custom)
        self.customers: dict[str, Customer] = {}
        self._write = write
        self._tally = Tally()
        self._heap: list[tuple[int, str]] = []
        self._due: dict[str, int] = {}

    def event(self, event: Any, at_ms: int, checksum: int) -> bool:
        """Apply one event; False when its id stands for another body already."""
        self.fire(at_ms)
        customer = self.customer(event.subject)
        out = step(customer, event, at_ms, self.book, self.catalog, checksum)
        self.schedule(customer)
        self._handle(out)
        return not out.conflict

    def customer(self, customer_id: str) -> Customer:
        """The customer of that id, a new one where nobody was known by it."""
        known = self.customers.get(customer_id)
        if known is None:
            known = self.customers[customer_id] = Customer(customer_id)
        return known

    def fire(self, up_to_ms: int) -> None:
        """Fire all timers due at or before ``up_to_ms``, in due order over all customers."""
        while (due := self.next_due(up_to_ms)) is not None:
            due_ms, customer = due
            out = Step()
            advance(customer, due_ms, self.book, self.catalog, out)
            self.schedule(customer)
            self._handle(out)

    def next_due(self, up_to_ms: int) -> tuple[int, Customer] | None:
        """Take the next customer with a timer due at or before ``up_to_ms``, and when it is due.

        The caller lets the timers fire and calls :meth:`schedule`.
        """
        heap = self._heap
        while heap and heap[0][0] <= up_to_ms:
            due_ms, customer_id = heapq.heappop(heap)
            if self._due.get(customer_id) == due_ms:  # else cancelled or moved since
                del self._due[customer_id]
                return due_ms, self.customers[customer_id]
        return None

    def write(self, out: Step) -> None:
        """Hand over what came of several steps."""
        self._write(out)

    def _handle(self, out: Step) -> None:
        if out.decisions:
            self._write(out)
        if out.learnt:
            self._tally.share(self.catalog.learned, 0, out.learnt)

    def schedule(self, customer: Customer) -> None:
        """Note when the customer has to be looked at next."""
        due_ms = customer.due_ms()
        if due_ms != self._due.get(customer.id, 0):
            if due_ms:
                self._due[customer.id] = due_ms
                heapq.heappush(self._heap, (due_ms, customer.id))
            else:
                del self._due[customer.id]


def apply_line(replay: Replay, line: Line) -> Event | CatalogEvent:
    """Decode one line and apply it, the catalogue's too: the event; raises `Refused`."""
    event: Event | CatalogEvent | Refused
    event = replay.door.decode(line.value) if line.event is None else line.event
    if isinstance(event, Refused):
        raise event
    if isinstance(event, CatalogEvent):
        replay.fire(line.at_ms)
        replay.catalog.apply(event.type, event.subject, event.data)
    elif not replay.event(event, line.at_ms, crc32(line.value)):
        raise Refused("id_conflict", CONFLICT)
    return event
