"""What a report reads from Kafka: the topics from their beginning to where they end right now.

One partition number after the other, since all of a customer lies in one. Its topics are merged by
time as files are: for events the record's timestamp, for offers and decisions their own time. Each
topic has a consumer of its own, so that one may wait for another without being paused
(kafka-python 3.0 can lose sight of what it had fetched of a partition that it paused), and at most
a few fetched batches of each topic are in memory.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from streams.codec import Door
from streams.errors import PreconditionError
from streams.reportentries import DECISIONS, EVENTS, OFFERS, Entry, Reader, foreign, output
from streams.settings import Settings
from streams.topics import DECISIONS as DECISIONS_TOPIC
from streams.unpacking import bound_unpacking
from triggers.errors import Refused
from triggers.events import CATALOG, TOPICS, EventType

_POLL_MS = 500
_SILENCE_S_MAX = 30
_OFFERS_PREFIX = "offers."


class Topics:
    """Entries of the topics of one deployment."""

    def __init__(
        self,
        settings: Settings,
        custom: Mapping[str, EventType] | None = None,
        wait_ms: int = 15_000,
    ) -> None:
        """`custom`: the types that the rule book declares; without them only their names count.

        `wait_ms`: how long Kafka may take to answer at all.
        """
        self._settings = settings
        self._custom = custom
        self._wait_ms = wait_ms

    def feed(self, reader: Reader) -> None:
        """Read everything. Raises `PreconditionError` when Kafka or a topic is missing."""
        try:
            with ExitStack() as stack:
                self._feed(stack, reader)
        except (KafkaError, OSError) as error:
            raise PreconditionError(
                f"Kafka at {self._settings.kafka} does not answer ({type(error).__name__})",
                "start it or set TSUIDE_KAFKA",
            ) from error

    def _feed(self, stack: ExitStack, reader: Reader) -> None:
        first = self._consumer(stack)
        there = set(first.topics())
        named = self._settings.topic
        wanted = {named(topic) for topic in (CATALOG, *TOPICS, DECISIONS_TOPIC)}
        missing = sorted(wanted - there)
        if missing:
            raise PreconditionError(f"missing: {', '.join(missing)}", "tsuide topics create")
        offers = sorted(topic for topic in there if topic.startswith(named(_OFFERS_PREFIX)))
        topics = [*offers, *(named(topic) for topic in TOPICS), named(DECISIONS_TOPIC)]
        partitions = {topic: sorted(first.partitions_for_topic(topic) or ()) for topic in topics}
        numbers = sorted({number for found in partitions.values() for number in found})
        self._door = Door(len(numbers), self._custom)
        for entry in self._read(first, TopicPartition(named(CATALOG), 0), reader):
            reader.take(entry)
        consumers = {topic: self._consumer(stack) for topic in topics}
        for number in numbers:
            reader.begin()
            streams = [
                self._read(consumers[topic], TopicPartition(topic, number), reader)
                for topic in topics
                if number in partitions[topic]
            ]
            for entry in heapq.merge(*streams, key=lambda entry: (entry.at_ms, entry.rank)):
                reader.take(entry)

    def _consumer(self, stack: ExitStack) -> KafkaConsumer:
        bound_unpacking()
        consumer = KafkaConsumer(
            **self._settings.kafka_options(),
            client_id="tsuide-report",
            bootstrap_timeout_ms=self._wait_ms,
            enable_auto_commit=False,
            isolation_level="read_committed",
        )
        return stack.enter_context(closing(consumer))

    def _read(
        self, consumer: KafkaConsumer, place: TopicPartition, reader: Reader
    ) -> Iterator[Entry]:
        """The entries of one partition up to where it ends now."""
        consumer.assign([place])
        consumer.seek_to_beginning(place)
        end = consumer.end_offsets([place])[place]
        at_ms = 0
        silent_since: float | None = None  # a stream that waited for others was not silent
        while consumer.position(place) < end:
            fetched = consumer.poll(timeout_ms=_POLL_MS).get(place, ())
            if fetched:
                silent_since = None
            elif silent_since is None:
                silent_since = time.monotonic()
            elif time.monotonic() - silent_since > _SILENCE_S_MAX:
                raise PreconditionError(f"Kafka sends nothing of {place.topic}/{place.partition}")
            for record in fetched:
                if record.offset >= end:
                    return
                entry = self._decode(place, record, reader)
                if entry is not None:
                    # In a partition the offset's order is kept even where timestamps go back.
                    at_ms = max(at_ms, entry.at_ms)
                    yield entry._replace(at_ms=at_ms)

    def _decode(self, place: TopicPartition, record: Any, reader: Reader) -> Entry | None:
        try:
            return self._entry(place, record)
        except Refused as refused:
            reader.refuse(f"{place.topic}/{place.partition}/{record.offset}", refused)
            return None

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
