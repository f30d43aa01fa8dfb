"""A partition on a bench: production door, partition, relay and engine on a real store, no Kafka.

A test writes a log and the bench applies it in fetch rounds of its choosing. :func:`model` says
what must come of it: one sort of the log, one engine, customers in memory.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from zlib import crc32

from streams.activations import Activation, book_at
from streams.clock import TIME_MAX_MS, Clock
from streams.codec import Door
from streams.erasure import Ledger, keep_out
from streams.merge import FetchState
from streams.murmur2 import partition_of
from streams.outbox import Outgoing, Relay, unpack
from streams.partition import Partition
from streams.settings import load_settings
from streams.store import Store, new_token
from streams.topics import SHARED
from streams.world import World
from triggers.book import Book
from triggers.catalog import Catalog
from triggers.customer import PART_LETTERS, Customer
from triggers.durations import to_text
from triggers.engine import advance, step
from triggers.errors import Refused
from triggers.events import EVENT_TYPES, TOPICS
from triggers.judgement import Step
from triggers.state import SCHEMA

FIRST = frozenset({"offered", "suppressed", "deferred", "held_out", "outranked"})


class Record(NamedTuple):
    """A record as the fetcher hands it over."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


class Log:
    """Records by topic and partition, appended as a producer would."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.records: dict[tuple[str, int], list[Record]] = defaultdict(list)

    def append(
        self, topic: str, key: bytes | None, value: bytes | None, at_ms: int,
        partition: int | None = None, headers: tuple[tuple[str, bytes], ...] = (),
    ) -> tuple[str, int, int]:  # fmt: skip
        """Append one record, on its key's partition where none is given; where it lies."""
        place = partition_of(key or b"", self.partitions) if partition is None else partition
        records = self.records[topic, place]
        records.append(Record(len(records), at_ms, key, value, headers))
        return topic, place, len(records) - 1

    def event(
        self, kind: str, customer: str, at_ms: int, data: Mapping[str, Any], event_id: str,
        time_ms: int | None = None,
    ) -> tuple[str, int, int]:  # fmt: skip
        """Append one event; ``time_ms`` is its own time where that is not the record's."""
        event = {
            "specversion": "1.0",
            "id": event_id,
            "source": "shop",
            "type": kind,
            "time": to_text(at_ms if time_ms is None else time_ms),
            "subject": customer,
            "data": data,
        }
        key, value = customer.encode(), json.dumps(event).encode()
        return self.append(EVENT_TYPES[kind].topic, key, value, at_ms)

    def merged(self, partition: int) -> list[tuple[str, Record]]:
        """A partition's records in the order of application: always the smallest head."""
        heads = {topic: 0 for topic in TOPICS if self.records.get((topic, partition))}
        merged = []
        while heads:
            ranked = [
                (self.records[topic, partition][at].timestamp, TOPICS.index(topic), topic)
                for topic, at in heads.items()
            ]
            topic = min(ranked)[2]
            merged.append((topic, self.records[topic, partition][heads[topic]]))
            heads[topic] += 1
            if heads[topic] == len(self.records[topic, partition]):
                del heads[topic]
        return merged

    def last_ms(self) -> int:
        return max(record.timestamp for records in self.records.values() for record in records)


@dataclass
class Outcome:
    """What came of a log."""

    decisions: set[tuple[str, str]] = field(default_factory=set)
    offers: dict[str, bytes] = field(default_factory=dict)
    copies: Counter[str] = field(default_factory=Counter)
    refused: dict[tuple[str, int, int], str] = field(default_factory=dict)
    letters: list[Outgoing] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    customers: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def take(self, topic: str, value: bytes) -> None:
        event = json.loads(value)
        if topic == "decisions" and event["data"]["outcome"] in FIRST:
            self.decisions.add((event["data"]["offer_id"], event["data"]["outcome"]))
        elif event["type"] == "offer.made":
            self.copies[event["id"]] += 1
            known = self.offers.setdefault(event["id"], value)
            assert known == value, f"another body under {event['id']}"

    def add(self, record: Outgoing) -> None:
        if record.topic == "dead-letters":
            headers = dict(record.headers or ())
            place = (
                headers["topic"].decode(), int(headers["partition"]), int(headers["offset"])
            )  # fmt: skip
            assert place not in self.refused, f"{place} has two dead letters"
            self.refused[place] = headers["reason"].decode()
            self.letters.append(record)
        elif record.topic not in SHARED:
            self.take(record.topic, record.value)

    def shop(self, customer: str) -> Customer:
        return Customer(customer, dict(self.customers.get(customer, {})))


def model(book: Book, log: Log, until_ms: int, catalog: Catalog | None = None) -> Outcome:
    """What must come of a log: O1, without store, batches, outbox or restarts."""
    catalog = catalog or Catalog()
    door, found = Door(log.partitions, book.custom), Outcome()
    for number in range(log.partitions):
        customers: dict[str, Customer] = {}
        for topic, record in log.merged(number):
            place = (topic, number, record.offset)
            try:
                event = door.decode(
                    topic, number, record.key, record.value, record.headers, record.timestamp,
                    until_ms,
                )  # fmt: skip
            except Refused as refused:
                found.refused[place] = refused.reason
                continue
            customer = customers.setdefault(event.subject, Customer(event.subject))
            out = step(customer, event, record.timestamp, book, catalog, crc32(record.value or b""))
            if out.conflict:
                found.refused[place] = "id_conflict"
            _gather(found, out)
        for customer in customers.values():
            out = Step()
            advance(customer, until_ms, book, catalog, out)
            _gather(found, out)
            found.customers[customer.id] = _parts(customer)
    return found


def replay(books: Mapping[str, Book], log: Log, known: list[Activation], until_ms: int) -> Outcome:
    """What must come of one partition's log when each record is decided with the book that the
    store says was in force for it; ``books`` by digest."""
    door_of = {digest: Door(log.partitions, book.custom) for digest, book in books.items()}
    catalog, found, customers = Catalog(), Outcome(), dict[str, Customer]()
    digest, last_ms = known[0].digest, 0

    def fire(up_to_ms: int) -> None:
        for customer in customers.values():
            out = Step()
            advance(customer, up_to_ms, books[digest], catalog, out)
            _gather(found, out)

    for topic, record in log.merged(0):
        decided_by = book_at(known, topic, record.offset)
        assert decided_by is not None
        if decided_by != digest:
            fire(last_ms)  # what was due before the change
            digest = decided_by
        event = door_of[digest].decode(
            topic, 0, record.key, record.value, record.headers, record.timestamp, until_ms
        )
        customer = customers.setdefault(event.subject, Customer(event.subject))
        checksum = crc32(record.value or b"")
        _gather(found, step(customer, event, record.timestamp, books[digest], catalog, checksum))
        last_ms = record.timestamp
    fire(last_ms)
    digest = known[-1].digest  # the last change may have come after the last record
    fire(until_ms)
    found.customers = {name: _parts(customer) for name, customer in customers.items()}
    return found


def _parts(customer: Customer) -> dict[str, bytes]:
    return {letter: packed for letter, packed in customer.take_changes() if packed}


def _gather(found: Outcome, out: Step) -> None:
    found.notes.update(out.notes)
    for offer in out.offers:
        topic, _, _, value = offer.record()
        found.take(topic, value)
    for decision in out.decisions:
        topic, _, _, value = decision.record()
        found.take(topic, value)


class StandingClock:
    """Stands where the test puts it."""

    follows_log = True
    jumped = False
    jumps = 0

    def __init__(self) -> None:
        self.now = 0
        self._wall = 1_000_000_000_000

    def wall_ms(self) -> int:
        self._wall += 1  # so that what comes later is later
        return self._wall

    def now_ms(self) -> int:
        return self.now

    def latest_ms(self) -> int:
        return self.now

    def at(self, wall: int) -> int:
        return self.now

    def reached(self, instant: int) -> int:
        return self._wall

    def observe(self, timestamp_ms: int) -> None:
        if timestamp_ms <= TIME_MAX_MS:
            self.now = max(self.now, timestamp_ms)


class Acked(NamedTuple):
    next_offset: int


class Bench:
    """Observer, sender and fetcher of partitions that run on a real store."""

    def __init__(
        self,
        store: Store,
        book: Book,
        log: Log,
        clock: Clock | None = None,
        ledger: Ledger | None = None,
        **settings: Any,
    ) -> None:
        self.outcome = Outcome()
        self.published: list[Outgoing] = []
        self.hold: asyncio.Event | None = None  # what is sent waits for it
        self.log = log
        self.clock = clock or StandingClock()
        given = {"timers_per_second": 1_000_000, **settings}
        self.ledger = Ledger(b"of the bench") if ledger is None else ledger
        made = load_settings(partitions=log.partitions, **given)
        door = Door(log.partitions, book.custom)
        self.world = World(store, door, book, Catalog(), self.clock, self, made, self.ledger)
        self.partitions: dict[int, Partition] = {}
        self._relays: dict[int, asyncio.Task[None]] = {}
        self._ends: Counter[str] = Counter()
        self._read: Counter[tuple[str, int]] = Counter()
        self._given: Counter[tuple[str, int]] = Counter()

    # -- streams.world.Observer ------------------------------------------------------------

    def applied(
        self, types: Counter[tuple[str, str]], customers: int, out: Step, took_s: float
    ) -> None:
        self.outcome.notes.update(out.notes)

    def loaded(self, asked: int, missing: int) -> None: ...
    def dead_letter(self, topic: str, reason: str) -> None: ...
    def expired(self, rule: str, reason: str) -> None: ...
    def sent(self, records: list[Outgoing], took_s: float) -> None: ...
    def known_already(self, topic: str) -> None: ...
    def claimed(self, count: int) -> None: ...
    def failed(self, code: str) -> None: ...

    # -- streams.outbox.Sender -------------------------------------------------------------

    async def send_batch(
        self, topic: str, partition: int, records: Any, ownership: Any = None
    ) -> Acked:
        await asyncio.sleep(0)
        if self.hold is not None:
            await self.hold.wait()
        for key, value, headers, _ in records:
            self.published.append(Outgoing(topic, key, value, "", headers))
            self.outcome.add(self.published[-1])
        self._ends[topic] += len(records)
        return Acked(self._ends[topic])

    # -- fetching --------------------------------------------------------------------------

    async def open(self, number: int) -> Partition:
        """Claim a partition, as if by another worker where it was claimed before."""
        await self.close(number)
        store = self.world.store
        meta = await store.claim(number, new_token(), 1, self.log.partitions, SCHEMA)
        relay = Relay(number, self, set(), self, "", self.clock.wall_ms)
        partition = self.partitions[number] = Partition(number, self.world, meta, relay)
        entries = await store.outbox(number)
        unsent = [unpack(blob) for _, blob in entries]
        self.ledger.begin(number)
        keep_out(self.ledger, number, unsent)
        for (entry, blob), records in zip(entries, unsent, strict=True):
            relay.put(entry, records, len(blob))
        for topic in TOPICS:
            self._given[topic, number] = meta.offsets.get(topic, 0)
        self._relays[number] = asyncio.create_task(relay.run())
        return partition

    async def close(self, number: int) -> None:
        """Give a partition up at rest."""
        partition = self.partitions.pop(number, None)
        if partition is not None:
            relay = self._relays.pop(number)
            flushed = asyncio.create_task(partition.relay.flush())
            await asyncio.wait((flushed, relay), return_when=asyncio.FIRST_COMPLETED)
            if relay.done():  # only an error ends it, perhaps one that a check of ours raised
                flushed.cancel()
                relay.result()
            await partition.trim()
            relay.cancel()
            await asyncio.gather(relay, return_exceptions=True)

    async def round(
        self, number: int, most: Mapping[str, int] | None = None, whole: bool = False
    ) -> None:
        """One fetch round: up to so many records of each topic (None: all), then all turns.

        ``whole``: as if nothing else lay in the topics yet, so that no record has to wait.
        """
        partition = self.partitions[number]
        for topic in TOPICS:
            records = self.log.records.get((topic, number), [])
            begin = self._given[topic, number]
            end = len(records) if most is None else min(len(records), begin + most.get(topic, 0))
            if begin < end:
                self.clock.observe(max(r.timestamp for r in records[begin:end]))
                partition.add(topic, records[begin:end], self.clock.wall_ms())
            self._given[topic, number] = end
        for topic in TOPICS:
            end = self._given[topic, number]
            stable = end if whole else len(self.log.records.get((topic, number), ()))
            partition.learn(topic, FetchState(end, stable, self.clock.wall_ms()))
        while await partition.turn():
            pass

    async def run(
        self, until_ms: int, chance: random.Random | None = None, reopen: float = 0.0
    ) -> Outcome:
        """Apply the whole log and fire what is due by ``until_ms``.

        With ``chance`` the log comes in rounds of random size, and after each one the partition
        changes hands with the probability ``reopen``.
        """
        for number in range(self.log.partitions):
            await self.open(number)
        left = set(range(self.log.partitions)) if chance is not None else set()
        while left and chance is not None:
            number = chance.choice(sorted(left))
            await self.round(number, {topic: chance.randrange(12) for topic in TOPICS})
            if chance.random() < reopen:
                await self.open(number)
            if all(
                self._given[topic, number] == len(self.log.records.get((topic, number), ()))
                for topic in TOPICS
            ):
                left.discard(number)
        self.clock.observe(until_ms)
        for number in range(self.log.partitions):
            await self.round(number)
            await self.close(number)
        await self.read_documents()
        return self.outcome

    async def read_documents(self) -> None:
        """Put what the store holds of the log's customers into the outcome."""
        names = {record.key for records in self.log.records.values() for record in records}
        for number in range(self.log.partitions):
            found = await self.world.store.load(number, names - {None}, PART_LETTERS)  # type: ignore[arg-type]
            for raw, parts in found.items():
                if parts:
                    self.outcome.customers[raw.decode()] = parts


def same(found: Outcome, expected: Outcome) -> None:
    """Fail where a run differs from the model: decisions, offers' bytes, refusals, documents."""
    assert found.decisions == expected.decisions
    assert found.offers == expected.offers
    assert found.refused == expected.refused
    assert found.customers.keys() == expected.customers.keys()
    for customer, parts in expected.customers.items():
        assert found.customers[customer] == parts, customer
    assert {name for name, count in found.copies.items() if count > 1} == set()


def offsets(log: Log) -> dict[tuple[str, int], Iterable[int]]:
    """The offsets in, as the audit takes them."""
    return {place: range(len(records)) for place, records in log.records.items()}
