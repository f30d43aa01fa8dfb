"""Reading a stretch of a Kafka partition from a terminal: to where it ends now, then stop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from streams.errors import PreconditionError
from streams.settings import Settings
from streams.tls import check_kafka_tls
from streams.unpacking import bound_unpacking

_POLL_MS = 500
_SILENCE_S_MAX = 30
_WAIT_MS = 15_000


@contextmanager
def reader(settings: Settings, client_id: str) -> Iterator[KafkaConsumer]:
    """A consumer without a group; what Kafka refuses becomes a `PreconditionError`."""
    check_kafka_tls(settings)
    try:
        bound_unpacking()
        consumer = KafkaConsumer(
            **settings.kafka_options(),
            client_id=client_id,
            bootstrap_timeout_ms=_WAIT_MS,
            enable_auto_commit=False,
            isolation_level="read_committed",
        )
    except (KafkaError, OSError) as error:
        raise _away(settings, error) from error
    with closing(consumer):
        try:
            yield consumer
        except KafkaError as error:
            raise _away(settings, error) from error


def _away(settings: Settings, error: Exception) -> PreconditionError:
    return PreconditionError(
        f"Kafka at {settings.kafka} does not answer ({type(error).__name__})",
        "start it or set TSUIDE_KAFKA",
    )


def partitions_of(consumer: KafkaConsumer, topic: str) -> list[int]:
    """The partition numbers of a topic (prefix included); `PreconditionError` without it."""
    numbers = consumer.partitions_for_topic(topic)
    if not numbers:
        raise PreconditionError(f"topic {topic} is missing", "tsuide topics create")
    return sorted(numbers)


def scan(consumer: KafkaConsumer, topic: str, number: int) -> Iterator[Any]:
    """The records of one partition, from the first that is kept to where it ends now."""
    place = TopicPartition(topic, number)
    consumer.assign([place])
    consumer.seek_to_beginning(place)
    end = consumer.end_offsets([place])[place]
    yield from _until(consumer, place, end)


class Tail:
    """One partition that is read on: at each look from where the last one ended to its end then."""

    def __init__(self, consumer: KafkaConsumer, topic: str, number: int) -> None:
        """``consumer`` serves this alone; the first look begins with the first record kept."""
        self._consumer = consumer
        self._place = TopicPartition(topic, number)
        consumer.assign([self._place])
        consumer.seek_to_beginning(self._place)

    def news(self) -> Iterator[Any]:
        """The records that came since the last look; asks the broker where it ends."""
        end = self._consumer.end_offsets([self._place])[self._place]
        # What was fetched from behind that end would not be fetched again: it is told now.
        yield from _polled(self._consumer, self._place, end)


def record_at(consumer: KafkaConsumer, topic: str, number: int, offset: int) -> Any | None:
    """The record at one offset; None where the topic no longer keeps it."""
    place = TopicPartition(topic, number)
    if number not in (consumer.partitions_for_topic(topic) or ()):
        return None
    first, end = consumer.beginning_offsets([place])[place], consumer.end_offsets([place])[place]
    if not first <= offset < end:
        return None
    consumer.assign([place])
    consumer.seek(place, offset)
    for record in _until(consumer, place, offset + 1):
        if record.offset == offset:
            return record
    return None


def _until(consumer: KafkaConsumer, place: TopicPartition, end: int) -> Iterator[Any]:
    for record in _polled(consumer, place, end):
        if record.offset >= end:
            return
        yield record


def _polled(consumer: KafkaConsumer, place: TopicPartition, end: int) -> Iterator[Any]:
    silent_since: float | None = None  # the time that our caller takes is no silence
    while consumer.position(place) < end:
        fetched = consumer.poll(timeout_ms=_POLL_MS).get(place, ())
        if fetched:
            silent_since = None
        elif silent_since is None:
            silent_since = time.monotonic()
        elif time.monotonic() - silent_since > _SILENCE_S_MAX:
            raise PreconditionError(f"Kafka sends nothing of {place.topic}/{place.partition}")
        yield from fetched
