"""Stretches of a log, applied customer by customer, with the bytes of one event after the other.

Customers do not see each other, so only the order of each one's events and timers matters. Taking
a customer's events together keeps the document in the processor's cache; what comes of them is
put back into the log's order. Where customers do teach each other (``book.learning``), and around
every change of the catalogue, lines are applied one by one.
"""

from bisect import bisect_left
from collections.abc import Callable
from typing import Any
from zlib import crc32

from streams.history import Line
from streams.replay import CONFLICT, Replay, apply_line
from triggers.customer import Customer
from triggers.decisions import Decision, Offer, Withdrawal
from triggers.engine import advance, step
from triggers.errors import Refused
from triggers.events import CatalogEvent
from triggers.judgement import Step

STRETCH_LINES = 8_000

Refuse = Callable[[Refused, Line], None]
#: Place in the stretch; 0 for a timer, which goes before the event at its place, and 1 for an
#: event; then due time and customer for timers, and the number within one step.
Key = tuple[int, int, int, str, int]


class Stretches:
    """Gathers lines and applies them stretch by stretch."""

    def __init__(self, replay: Replay, refuse: Refuse, size: int = STRETCH_LINES) -> None:
        """``refuse`` is told of refused lines in the order of the lines."""
        self._replay = replay
        self._refuse = refuse
        self._size = 1 if replay.book.learning else size
        self._entries: list[Line] = []
        self._refused: list[tuple[int, Refused, Line]] = []  # place in the stretch

    def add(self, line: Line) -> None:
        """Take the next line of the log, which is decoded already."""
        if self._size == 1:
            try:
                apply_line(self._replay, line)
            except Refused as refused:
                self._refuse(refused, line)
            return
        event = line.event
        if isinstance(event, Refused):
            self._refused.append((len(self._entries), event, line))
            return
        if isinstance(event, CatalogEvent):
            self.end()
            self._replay.fire(line.at_ms)
            self._replay.catalog.apply(event.type, event.subject, event.data)
            return
        self._entries.append(line)
        if len(self._entries) >= self._size:
            self.end()

    def end(self) -> None:
        """Apply what was gathered."""
        entries = self._entries
        if entries:
            run = _Run(self._replay, [line.at_ms for line in entries])
            for customer, places in self._by_customer().items():
                run.apply(customer, places, entries)
            run.write()
            for place in sorted(run.conflicts):
                self._refused.append((place, Refused("id_conflict", CONFLICT), entries[place]))
            entries.clear()
        # A line that was refused at the door came before the event at its place.
        for _, refused, line in sorted(self._refused, key=lambda each: each[0]):
            self._refuse(refused, line)
        self._refused.clear()

    def _by_customer(self) -> dict[str, list[int]]:
        """The places of each customer's events; none of those who only have timers due."""
        found: dict[str, list[int]] = {}
        for place, line in enumerate(self._entries):
            found.setdefault(line.event.subject, []).append(place)
        while (due := self._replay.next_due(self._entries[-1].at_ms)) is not None:
            found.setdefault(due[1].id, [])
        return found


class _Run:
    """What comes of one stretch, by its place in the log."""

    def __init__(self, replay: Replay, times: list[int]) -> None:
        self.conflicts: list[int] = []
        self._replay = replay
        self._times = times
        self._decisions: list[tuple[Key, Decision]] = []
        self._offers: list[tuple[Key, Offer | Withdrawal]] = []

    def apply(self, customer_id: str, places: list[int], entries: list[Line]) -> None:
        """A customer's events of the stretch, and the timers due until its end."""
        replay = self._replay
        customer = replay.customer(customer_id)
        book, catalog = replay.book, replay.catalog
        out, before = Step(), -1
        for place in places:
            line = entries[place]
            step(customer, line.event, line.at_ms, book, catalog, crc32(line.value), out)
            if out.conflict:
                self.conflicts.append(place)
            if out.decisions:
                self._take(out, customer, before, place)
            before = place
        advance(customer, self._times[-1], replay.book, replay.catalog, out)
        if out.decisions:
            self._take(out, customer, before, len(self._times))
        replay.schedule(customer)

    def _take(self, out: Step, customer: Customer, before: int, place: int) -> None:
        """Note where what came of the event at ``place`` belongs, and of the timers since the
        one at ``before``."""

        def key(number: int, trigger: Any) -> Key:
            due_ms = None if trigger is None else trigger.due_ms
            if due_ms is None:
                return place, 1, 0, "", number
            return max(bisect_left(self._times, due_ms), before + 1), 0, due_ms, customer.id, number

        for number, decision in enumerate(out.decisions):
            self._decisions.append((key(number, decision.trigger), decision))
        for number, offer in enumerate(out.offers):
            trigger = offer.trigger if isinstance(offer, Offer) else None
            self._offers.append((key(number, trigger), offer))
        out.decisions.clear()
        out.offers.clear()

    def write(self) -> None:
        """Hand over everything in the log's order."""
        self._decisions.sort(key=lambda entry: entry[0])
        self._offers.sort(key=lambda entry: entry[0])
        out = Step()
        out.decisions += [decision for _, decision in self._decisions]
        out.offers += [offer for _, offer in self._offers]
        self._replay.write(out)
