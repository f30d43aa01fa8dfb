"""The shop against a real broker: what a reader finds in the topics, and when."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.consumer.fetcher import ConsumerRecord
from kafka.partitioner.default import murmur2

from streams.embedded import EmbeddedKafka
from streams.errors import PreconditionError
from streams.recorded import Recorded, read_events
from streams.shop import Shop
from triggers.events import TOPICS

PARTITIONS = 3
DATA = Path(__file__).parents[2] / "examples" / "retail-year" / "data"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedKafka(tmp_path_factory.mktemp("broker")) as kafka:
        yield kafka.address


_numbers = itertools.count(1)


@pytest.fixture
def prefix(broker: str) -> str:
    """Topics of one test's own."""
    name = f"t{next(_numbers)}."
    topics = [NewTopic(name + "catalog", num_partitions=1, replication_factor=1)]
    for topic in TOPICS:
        old = {"retention.ms": "-1"}
        topics.append(NewTopic(name + topic, PARTITIONS, 1, topic_configs=old))
    admin = KafkaAdminClient(bootstrap_servers=broker)
    try:
        admin.create_topics(topics)
    finally:
        admin.close()
    return name


def read(broker: str, prefix: str, topic: str) -> list[ConsumerRecord]:
    """Everything in a topic, partition after partition."""
    count = 1 if topic == "catalog" else PARTITIONS
    places = [TopicPartition(prefix + topic, number) for number in range(count)]
    consumer = KafkaConsumer(bootstrap_servers=broker, consumer_timeout_ms=60_000)
    try:
        consumer.assign(places)
        consumer.seek_to_beginning(*places)
        ends = consumer.end_offsets(places)
        left = sum(ends.values())
        records = list(itertools.islice(consumer, left))
    finally:
        consumer.close()
    return sorted(records, key=lambda record: (record.partition, record.offset))


@pytest.fixture(scope="module")
def recorded() -> list[Recorded]:
    """The catalogue's first hundred records and the first two thousand of customers."""
    merged = read_events(sorted(DATA.glob("*.jsonl.gz")))
    catalog = list(itertools.islice(merged, 100))
    customers = (event for event in merged if event.topic != "catalog")
    return catalog + list(itertools.islice(customers, 2_000))


def place(event: Recorded) -> int:
    """Where Java's client would put it; the catalogue has one partition."""
    return 0 if event.topic == "catalog" else (murmur2(event.key) & 0x7FFFFFFF) % PARTITIONS


def test_every_event_lies_where_its_key_says_with_the_time_when_it_happened(
    broker: str, prefix: str, recorded: list[Recorded]
) -> None:
    sent = Shop(broker, prefix, PARTITIONS).run(recorded)
    assert (sent.catalog, sent.events, sent.stopped) == (100, 2_000, False)
    for topic in ("catalog", "customer", "cart", "checkout", "purchase"):
        wanted = [
            (place(event), event.ts_ms, event.key, event.value)
            for event in recorded
            if event.topic == topic
        ]
        wanted.sort(key=lambda record: record[0])  # inside a partition the order stays
        found = read(broker, prefix, topic)
        assert [(r.partition, r.timestamp, r.key, r.value) for r in found] == wanted
        assert wanted


def test_the_log_runs_at_the_speed_that_is_asked_for(
    broker: str, prefix: str, recorded: list[Recorded]
) -> None:
    log_s = (recorded[-1].ts_ms - recorded[100].ts_ms) / 1000
    reached: list[int] = []
    sent = Shop(broker, prefix, PARTITIONS).run(recorded, log_s / 2, None, reached.append)
    assert 2.0 <= sent.seconds < 4.0
    assert reached == sorted(reached)
    assert reached[-1] == 2_000
    assert len(reached) > 10  # it does not come all at once


def test_a_stopped_shop_stops_at_once_and_keeps_what_it_sent(
    broker: str, prefix: str, recorded: list[Recorded]
) -> None:
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    began = time.monotonic()
    sent = Shop(broker, prefix, PARTITIONS).run(recorded, 1.0, stop)
    assert time.monotonic() - began < 5
    assert sent.stopped
    assert sent.catalog == 100
    kept = sum(len(read(broker, prefix, topic)) for topic in TOPICS)
    assert kept == sent.events < 2_000


def test_events_of_the_moment_come_at_their_rate_with_the_clock_s_time(
    broker: str, prefix: str, recorded: list[Recorded]
) -> None:
    carts = [event for event in recorded if event.topic == "cart"][:500]
    before_ms = time.time_ns() // 1_000_000
    sent = Shop(broker, prefix, PARTITIONS).run(carts, rate=500, now=True)
    assert 0.9 <= sent.seconds < 3.0
    found = read(broker, prefix, "cart")
    assert len(found) == 500
    times = sorted(record.timestamp for record in found)
    assert before_ms <= times[0] <= times[-1] <= time.time_ns() // 1_000_000
    assert times[-1] - times[0] >= 900
    assert not any(b'"time":"20' + b"17-" in record.value for record in found)


def test_topics_with_another_partition_count_are_refused(
    broker: str, prefix: str, recorded: list[Recorded]
) -> None:
    with pytest.raises(PreconditionError, match=r"has 3 partitions, not 8: tsuide topics create"):
        Shop(broker, prefix, partitions=8).run(recorded)


def test_a_broker_that_is_not_there_is_named() -> None:
    shop = Shop("127.0.0.1:1", partitions=PARTITIONS, wait_s_max=0.5)
    with pytest.raises(PreconditionError, match=r"no Kafka answers at 127\.0\.0\.1:1"):
        shop.run([])
