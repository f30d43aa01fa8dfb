"""The oracle of the tests with real processes: the engine alone over the log as it lies in Kafka.

Compared are all decisions and offers by topic, id and bytes, the documents of all customers and
their pending timers.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from zlib import crc32

import redis as redis_client

from streams.codec import Door
from streams.readback import record_id
from streams.rulefiles import load_book
from streams.store.keys import partition_keys
from streams.topics import DECISIONS, output_topics
from triggers.catalog import Catalog
from triggers.customer import PART_LETTERS, Customer
from triggers.engine import advance, step
from triggers.errors import Refused
from triggers.events import TOPICS, CatalogEvent
from triggers.judgement import Step

if TYPE_CHECKING:
    from tests.integration.pipeline import Pipeline


@dataclass
class Model:
    """What should be there. ``records``: (topic, id) -> value."""

    records: dict[tuple[str, str], bytes] = field(default_factory=dict)
    docs: dict[tuple[bytes, str], bytes] = field(default_factory=dict)
    due: dict[bytes, int] = field(default_factory=dict)
    order: dict[str, list[str]] = field(default_factory=dict)  # customer -> decisions
    letters: set[str] = field(default_factory=set)  # places of what is refused


def make_model(pipeline: Pipeline) -> Model:
    """Run the engine over the log, and let every timer fire that is due by now."""
    model = Model()
    book = load_book(pipeline.rules)
    catalog = Catalog()
    partitions = pipeline.settings.partitions
    door = Door(partitions, book.custom)
    for record in pipeline.read("catalog"):
        found = door.decode_catalog(record.key, record.value, record.headers, record.timestamp)
        assert isinstance(found, CatalogEvent)
        catalog.apply(found.type, found.subject, found.data)
    by_partition: dict[int, list[tuple[int, int, int, str, Any]]] = {}
    for rank, topic in enumerate(TOPICS):
        for record in pipeline.read(topic):
            entry = (record.timestamp, rank, record.offset, topic, record)
            by_partition.setdefault(record.partition, []).append(entry)
    for number, entries in by_partition.items():
        entries.sort(key=lambda entry: entry[:3])
        _replay(model, number, entries, door, book, catalog)
    return model


def _replay(
    model: Model, number: int, entries: list[Any], door: Door, book: Any, catalog: Catalog
) -> None:
    from tests.integration.pipeline import now_ms

    customers: dict[str, Customer] = {}
    for stamp, _, offset, topic, record in entries:
        try:
            event = door.decode(
                topic, number, record.key, record.value, record.headers, stamp, stamp
            )
        except Refused:
            model.letters.add(f"{topic}/{number}/{offset}")
            continue
        customer = customers.setdefault(event.subject, Customer(event.subject))
        out = Step()
        step(customer, event, stamp, book, catalog, crc32(record.value), out)
        _take(out, model)
        if out.conflict:
            model.letters.add(f"{topic}/{number}/{offset}")
    for name, customer in customers.items():
        out = Step()
        advance(customer, now_ms(), book, catalog, out)
        _take(out, model)
        for part, packed in customer.take_changes():
            if packed:
                model.docs[name.encode(), part] = packed
        if customer.due_ms():
            model.due[name.encode()] = customer.due_ms()


def _take(out: Step, model: Model) -> None:
    for made in (*out.offers, *out.decisions):
        topic, key, number, value = made.record()
        model.records[topic, number] = value
        if topic == DECISIONS:
            model.order.setdefault(key, []).append(number)


@dataclass
class Comparison:
    """What is wrong, one text each, and the figures of the run."""

    faults: list[str] = field(default_factory=list)
    figures: Counter[str] = field(default_factory=Counter)


def compare(pipeline: Pipeline, model: Model) -> Comparison:
    """Compare what Kafka and the store hold with the model."""
    found = Comparison()
    assert len(model.records) > 100, "the run has decided next to nothing"
    _compare_records(pipeline, model, found)
    docs, due = stored(pipeline)
    _differences("document", docs, model.docs, found)
    _differences("pending timer", due, model.due, found)
    found.figures["documents"] = len(docs)
    found.figures["pending timers"] = len(due)
    return found


def _compare_records(pipeline: Pipeline, model: Model, found: Comparison) -> None:
    bodies: dict[tuple[str, str], set[bytes]] = {}
    order: dict[str, list[str]] = {}
    for topic in set(output_topics(load_book(pipeline.rules))) - {"dead-letters"}:
        for record in pipeline.read(topic):
            number = record_id(record.headers, record.value)
            found.figures["records"] += 1
            of = bodies.setdefault((topic, number), set())
            found.figures["copies"] += bool(of)
            if topic == DECISIONS and not of and (topic, number) in model.records:
                order.setdefault(record.key.decode(), []).append(number)
            of.add(record.value)
    _differences("decisions in order of", order, model.order, found)
    for name in sorted(bodies.keys() | model.records.keys()):
        got, wanted = bodies.get(name, set()), model.records.get(name)
        if wanted is None:
            expired = _is_late_note(name, model)
            if not expired:
                found.faults.append(f"{name} was sent, and the model knows nothing of it")
            found.figures["expired"] += expired
        elif not got and ("decisions", f"{name[1]}.expired") not in bodies:
            found.faults.append(f"{name} is missing")
        elif got and got != {wanted}:
            found.faults.append(f"{name} has other bytes: {sorted(got)}, not {wanted!r}")


def _is_late_note(name: tuple[str, str], model: Model) -> bool:
    """Whether a record says of a known offer that it was not sent in time."""
    topic, number = name
    offer = number.removesuffix(".expired")
    return topic == "decisions" and offer != number and any(n == offer for _, n in model.records)


def stored(pipeline: Pipeline) -> tuple[dict[tuple[bytes, str], bytes], dict[bytes, int]]:
    """The documents and pending timers of all customers, as the store has them."""
    docs: dict[tuple[bytes, str], bytes] = {}
    due: dict[bytes, int] = {}
    with redis_client.Redis.from_url(pipeline.settings.redis) as client:
        for number in range(pipeline.settings.partitions):
            keys = partition_keys(number, pipeline.prefix)
            for key in keys.customers:
                rows: Any = client.hgetall(key)
                for name, value in rows.items():
                    part = name[:1].decode()
                    if part in PART_LETTERS:
                        docs[name[1:], part] = value
            timers: Any = client.zrange(keys.due, 0, -1, withscores=True)
            due |= {name: int(score) for name, score in timers}
    return docs, due


def _differences(what: str, got: dict[Any, Any], wanted: dict[Any, Any], found: Comparison) -> None:
    for key in sorted(got.keys() | wanted.keys()):
        if got.get(key) != wanted.get(key):
            found.faults.append(f"{what} {key}: {got.get(key)!r}, not {wanted.get(key)!r}")
