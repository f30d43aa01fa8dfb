"""What a report reads from Kafka: the topics from their beginning to where they end right now.

One partition number after the other, since all of a customer lies in one. Its topics are merged by
time as files are: for events the record's timestamp, for offers and decisions their own time. Only
one fetched batch of each topic is in memory.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from streams.codec import Door
from streams.errors import PreconditionError
from streams.reportentries import DECISIONS, EVENTS, OFFERS, Entry, Reader, foreign, output
from streams.settings import Settings
from streams.topics import DECISIONS as DECISIONS_TOPIC
from triggers.errors import Refused
from triggers.events import CATALOG, TOPICS, EventType

_POLL_MS = 500
_SILENCE_S_MAX = 30
_OFFERS_PREFIX = "offers."


class Topics:
    """Entries of the topics of one deployment."""

    def __init__(self, settings: Settings, custom: Mapping[str, EventType] | None = None) -> None:
        """`custom`: the types that the rule book declares; without them only their names count."""
        self._settings = settings
        self._custom = custom
        self._at_ms: dict[TopicPartition, int] = {}

    def feed(self, reader: Reader) -> None:
        """Read everything. Raises `PreconditionError` when Kafka or a topic is missing."""
        try:
            consumer = KafkaConsumer(
                **self._settings.kafka_options(),
                client_id="tsuide-report",
                enable_auto_commit=False,
                isolation_level="read_committed",
            )
        except (KafkaError, OSError) as error:
            raise PreconditionError(
                f"Kafka at {self._settings.kafka} does not answer ({type(error).__name__})",
                "start it or set TSUIDE_KAFKA",
            ) from error
        try:
            self._feed(consumer, reader)
        except KafkaError as error:
            raise PreconditionError(f"Kafka at {self._settings.kafka}: {error}") from error
        finally:
            consumer.close()

    def _feed(self, consumer: KafkaConsumer, reader: Reader) -> None:
        there = set(consumer.topics())
        named = self._settings.topic
        wanted = {named(topic) for topic in (CATALOG, *TOPICS, DECISIONS_TOPIC)}
        missing = sorted(wanted - there)
        if missing:
            raise PreconditionError(f"missing: {', '.join(missing)}", "tsuide topics create")
        offers = sorted(topic for topic in there if topic.startswith(named(_OFFERS_PREFIX)))
        topics = [*offers, *(named(topic) for topic in TOPICS), named(DECISIONS_TOPIC)]
        places = {topic: consumer.partitions_for_topic(topic) or set() for topic in topics}
        numbers = sorted(set().union(*places.values()))
        self._door = Door(len(numbers), self._custom)
        self._read(consumer, reader, [TopicPartition(named(CATALOG), 0)])
        for number in numbers:
            reader.begin()
            found = [TopicPartition(topic, number) for topic in topics if number in places[topic]]
            self._read(consumer, reader, found)

    def _read(self, consumer: KafkaConsumer, reader: Reader, places: list[TopicPartition]) -> None:
        order = {place: rank for rank, place in enumerate(places)}
        waiting: dict[TopicPartition, deque[Entry]] = {place: deque() for place in places}
        fetched = self._fetch(consumer, reader, places, waiting)
        next(fetched, None)
        while True:
            heads = [
                (queue[0].at_ms, queue[0].rank, order[place], place)
                for place, queue in waiting.items()
                if queue
            ]
            if not heads:
                return
            place = min(heads)[3]
            reader.take(waiting[place].popleft())
            if not waiting[place]:
                next(fetched, None)

    def _fetch(
        self,
        consumer: KafkaConsumer,
        reader: Reader,
        places: list[TopicPartition],
        waiting: dict[TopicPartition, deque[Entry]],
    ) -> Iterator[None]:
        """Fill the queues; yields whenever each is filled or its partition is read to its end."""
        consumer.assign(places)
        begins, ends = consumer.beginning_offsets(places), consumer.end_offsets(places)
        left = {place for place in places if begins[place] < ends[place]}
        consumer.seek_to_beginning(*places)
        heard = time.monotonic()
        while left:
            empty = [place for place in left if not waiting[place]]
            if not empty:
                yield
                heard = time.monotonic()
                continue
            consumer.pause(*[place for place in places if place not in empty])
            consumer.resume(*empty)
            fetched = consumer.poll(timeout_ms=_POLL_MS)
            for place, records in fetched.items():
                for record in records:
                    if record.offset < ends[place]:
                        self._decode(place, record, reader, waiting[place])
            reached = {place for place in left if consumer.position(place) >= ends[place]}
            left -= reached
            if fetched or reached:
                heard = time.monotonic()
            elif time.monotonic() - heard > _SILENCE_S_MAX:
                names = ", ".join(f"{place.topic}/{place.partition}" for place in sorted(empty))
                raise PreconditionError(f"Kafka sends nothing of {names}")

    def _decode(
        self, place: TopicPartition, record: Any, reader: Reader, queue: deque[Entry]
    ) -> None:
        try:
            entry = self._entry(place, record)
        except Refused as refused:
            reader.refuse(f"{place.topic}/{place.partition}/{record.offset}", refused)
            return
        if entry is not None:
            # Inside a partition the offset's order is kept even where timestamps go back.
            at_ms = max(entry.at_ms, self._at_ms.get(place, 0))
            self._at_ms[place] = at_ms
            queue.append(entry._replace(at_ms=at_ms))

    def _entry(self, place: TopicPartition, record: Any) -> Entry | None:
        topic = place.topic.removeprefix(self._settings.prefix)
        headers = record.headers
        key, value, at_ms = record.key, record.value, record.timestamp
        if topic == CATALOG:
            return Entry(at_ms, EVENTS, self._door.decode_catalog(key, value, headers, at_ms))
        if topic == DECISIONS_TOPIC or topic.startswith(_OFFERS_PREFIX):
            found = output(value or b"")
            rank = DECISIONS if topic == DECISIONS_TOPIC else OFFERS
            return None if found is None else Entry(found[0], rank, found[1])
        try:
            event = self._door.decode(topic, place.partition, key, value, headers, at_ms, at_ms)
        except Refused as refused:
            if refused.reason != "unknown_type":
                raise
            return Entry(at_ms, EVENTS, foreign(value or b""))
        return Entry(at_ms, EVENTS, event)
