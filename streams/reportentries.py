"""What a report reads: events, offers and decisions as entries in the order of time.

At equal times offers stand before events and decisions after them: an order that takes an offer
may also be the event that withdraws it, and then the order is what counts.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from streams.codec import LineDoor
from streams.history import Line, read_lines
from triggers.durations import to_ms
from triggers.errors import Refused
from triggers.events import CatalogEvent, Event, EventType, Tombstone
from triggers.ledger import DecisionMade, OfferMade
from triggers.reporting import Report

REPEATS_MS = 72 * 3_600_000
#: Ids remembered to tell repeats, about 200 bytes each.
REPEATS_MAX = 500_000
OFFERS, EVENTS, DECISIONS = range(3)


class Entry(NamedTuple):
    """One record: its instant, its rank at equal times, and what was decoded."""

    at_ms: int
    rank: int
    record: Event | CatalogEvent | Tombstone | Output | Foreign


class Foreign(msgspec.Struct, gc=False):
    """An event of a type that the contract does not know: what a rule book declared."""

    id: str
    source: str
    type: str
    subject: str
    data: None = None


class _Undecoded(msgspec.Struct, gc=False):
    id: str
    source: str
    type: str
    subject: str


class _Envelope(msgspec.Struct, gc=False):
    id: str
    source: str
    type: str
    time: str
    subject: str
    data: msgspec.Raw


class Output(msgspec.Struct, gc=False):
    """An offer or a decision of ours."""

    id: str
    source: str
    subject: str
    data: OfferMade | DecisionMade


_foreign = msgspec.json.Decoder(_Undecoded).decode
_envelope = msgspec.json.Decoder(_Envelope).decode
_OUTPUTS: dict[str, Any] = {
    "offer.made": msgspec.json.Decoder(OfferMade).decode,
    "decision.made": msgspec.json.Decoder(DecisionMade).decode,
}


def foreign(value: bytes) -> Foreign:
    """The envelope of an event that nobody declares; raises `Refused`."""
    try:
        found = _foreign(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Refused("bad_envelope", "no envelope") from None
    return Foreign(found.id, found.source, found.type, found.subject)


def output(value: bytes) -> tuple[int, Output] | None:
    """Decision time and content of one of our records; None for a kind that no report needs.

    Raises `Refused` for what is none of ours. A withdrawal is known from its decision.
    """
    try:
        envelope = _envelope(value)
        decode = _OUTPUTS.get(envelope.type)
        if decode is None:
            return None
        return to_ms(envelope.time), Output(
            envelope.id, envelope.source, envelope.subject, decode(envelope.data)
        )
    except (msgspec.DecodeError, ValueError):
        raise Refused("bad_envelope", "neither an offer nor a decision") from None


class Reader:
    """Feeds entries to a report, without repeats, and counts them."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.counts = {"events": 0, "offers": 0, "decisions": 0, "repeated": 0, "refused": 0}
        #: The first record that was refused: its place and why.
        self.first_refused = ""
        self._repeats: dict[tuple[str, str], int] = {}

    def refuse(self, place: str, refused: Refused) -> None:
        """Count a record that cannot be read."""
        self.counts["refused"] += 1
        self.first_refused = self.first_refused or f"{place}: {refused}"

    def begin(self) -> None:
        """Other customers come now, from the beginning of time: repeats are told anew."""
        self._repeats.clear()

    def take(self, entry: Entry) -> None:
        """Apply one entry."""
        at_ms, _, record = entry
        report, counts = self.report, self.counts
        if isinstance(record, Tombstone):
            report.shoppers.catalog.forget(record)
            return
        if isinstance(record, CatalogEvent):
            counts["events"] += 1
            report.catalogued(record.type, record.subject, record.data)
            return
        if self._repeated((record.source, record.id), at_ms):
            counts["repeated"] += 1
        elif not isinstance(record, Output):
            counts["events"] += 1
            report.event(record.type, record.subject, record.data, at_ms)
        elif isinstance(record.data, OfferMade):
            counts["offers"] += 1
            report.offer(record.subject, record.data, at_ms)
        else:
            counts["decisions"] += 1
            report.decision(record.subject, record.data, at_ms)

    def _repeated(self, key: tuple[str, str], at_ms: int) -> bool:
        known = self._repeats
        seen_ms = known.pop(key, None)
        known[key] = at_ms if seen_ms is None else seen_ms
        while len(known) > REPEATS_MAX:
            del known[next(iter(known))]
        return seen_ms is not None and at_ms - seen_ms < REPEATS_MS


class Files:
    """Entries of JSON lines: events in any number of files, our offers and our decisions."""

    def __init__(
        self,
        events: Iterable[Path],
        offers: Iterable[Path],
        decisions: Iterable[Path],
        custom: Mapping[str, EventType] | None = None,
    ) -> None:
        """`custom`: the types that the rule book declares; without them only their names count."""
        self._events, self._offers, self._decisions = events, offers, decisions
        self._door = LineDoor(custom)

    def feed(self, reader: Reader) -> None:
        """Read everything, in the order of time."""
        ranked = (
            _ranked(rank, paths)
            for rank, paths in (
                (OFFERS, self._offers),
                (EVENTS, self._events),
                (DECISIONS, self._decisions),
            )
        )
        for rank, line in heapq.merge(*ranked, key=lambda pair: (pair[1].at_ms, pair[0])):
            try:
                entry = self._event(line) if rank == EVENTS else self._output(rank, line)
            except Refused as refused:
                reader.refuse(f"{line.file}:{line.number}", refused)
            else:
                if entry is not None:
                    reader.take(entry)

    def _event(self, line: Line) -> Entry:
        record: Event | CatalogEvent | Foreign
        try:
            record = self._door.decode(line.value)
        except Refused as refused:
            if refused.reason != "unknown_type":
                raise
            record = foreign(line.value)
        return Entry(line.at_ms, EVENTS, record)

    def _output(self, rank: int, line: Line) -> Entry | None:
        found = output(line.value)
        return None if found is None else Entry(line.at_ms, rank, found[1])


def _ranked(rank: int, paths: Iterable[Path]) -> Iterator[tuple[int, Line]]:
    return ((rank, line) for line in read_lines(paths))
