"""Readers of offers on Apache Kafka: copies, restarts, members that come and go."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from aiokafka import AIOKafkaConsumer
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient

from streams.embedded import EmbeddedStore
from streams.offers_consumer import AsyncOffersConsumer, LocalSeen, OffersConsumer, RedisSeen
from tests.integration.pipeline import now_ms
from tests.kafka_server import KafkaServer
from tests.unit.test_offersieve import made, withdrawn

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]
HOUR_MS = 3_600_000
IDLE_MS = 5_000
#: All copies of an offer have the same bytes, so the same end.
_START_MS = now_ms()


class Topic:
    """A topic of offers of its own, with two partitions."""

    def __init__(self, kafka: str) -> None:
        self.kafka = kafka
        self.name = f"offers-{time.monotonic_ns()}"
        admin = KafkaAdminClient(bootstrap_servers=kafka)
        admin.create_topics({self.name: {"num_partitions": 2, "replication_factor": 1}})
        admin.wait_for_topics([self.name], timeout_ms=15_000)
        admin.close()
        self.producer = KafkaProducer(bootstrap_servers=kafka, acks="all")

    def put(self, values: list[bytes], partition: int = 0) -> None:
        for value in values:
            self.producer.send(self.name, value=value, partition=partition)
        self.producer.flush()

    def consumer(self, group: str = "g", **how: Any) -> Any:
        return KafkaConsumer(
            self.name, bootstrap_servers=self.kafka, group_id=f"{self.name}-{group}",
            enable_auto_commit=False, auto_offset_reset="earliest", **how,
        )  # fmt: skip

    def read(self, **how: Any) -> list[str]:
        """Read all by a consumer of the group; what it handed over, all done."""
        consumer = self.consumer()
        try:
            offers = OffersConsumer(consumer, idle_ms=IDLE_MS, **how)
            names = []
            for offer in offers:
                names.append(offer.id)
                offers.done(offer)
            self.counts = offers.counts
            return names
        finally:
            consumer.close()


@pytest.fixture
def topic(kafka: KafkaServer) -> Iterator[Topic]:
    made_topic = Topic(kafka.address)
    yield made_topic
    made_topic.producer.close()


def offer(name: str, lasts_ms: int = HOUR_MS) -> bytes:
    return made(name, _START_MS + lasts_ms)


def test_s13_p2_each_offer_is_handed_over_once_whatever_copies_lie_there(topic: Topic) -> None:
    names = [f"o{i}" for i in range(200)]
    values = [offer(name) for name in names for _ in range(1 + len(name) % 3)]
    topic.put(values)
    topic.put([offer("late-copy"), offer("other"), offer("late-copy")], partition=1)
    topic.put([offer("o7"), withdrawn("x"), offer("x"), offer("old", -HOUR_MS)], partition=0)
    assert Counter(topic.read()) == Counter([*names, "late-copy", "other"])
    assert topic.counts["repeated"] == len(values) - 200 + 2
    assert topic.counts["expired"] == topic.counts["withdrawn"] == 1
    # All of it is committed: who comes next reads on.
    topic.put([offer("new")])
    assert topic.read() == ["new"]


def test_what_was_not_done_is_handed_over_again_after_a_restart(topic: Topic) -> None:
    topic.put([offer(f"o{i}") for i in range(10)])
    consumer = topic.consumer()
    offers = OffersConsumer(consumer)
    for taken in offers:
        if taken.id == "o5":
            break  # handed over, never done: the process ends here
        offers.done(taken)
    offers.commit()
    consumer.close()
    assert topic.read() == ["o5", "o6", "o7", "o8", "o9"]


def test_a_memory_in_the_store_knows_after_a_restart_what_was_done(
    topic: Topic, tmp_path: Path
) -> None:
    with EmbeddedStore(tmp_path) as store, redis.Redis.from_url(store.url) as client:
        topic.put([offer("a"), offer("b")])
        assert topic.read(seen=RedisSeen(client, "mailer")) == ["a", "b"]
        topic.put([offer("a"), offer("c")])  # the copy of a send whose answer was lost
        assert topic.read(seen=RedisSeen(client, "mailer")) == ["c"]
        names = sorted(client.scan_iter())
        assert names == [b"seen:mailer:a", b"seen:mailer:b", b"seen:mailer:c"]
        assert all(0 < client.pttl(name) <= HOUR_MS + 60_000 for name in names)
        # Another reader has a memory of its own; without a lasting one the copy is seen as new.
        topic.put([offer("a")])
        assert topic.read(seen=RedisSeen(client, "printer")) == ["a"]
        topic.put([offer("b")])
        assert topic.read(seen=LocalSeen()) == ["b"]


def test_two_readers_of_a_group_share_the_offers_and_one_takes_over(topic: Topic) -> None:
    seen = LocalSeen()  # stands for a memory that both share
    got: Counter[str] = Counter()
    stop_first = threading.Event()

    def read(stop: threading.Event | None) -> None:
        consumer = topic.consumer(session_timeout_ms=6_000, heartbeat_interval_ms=1_000)
        offers = OffersConsumer(consumer, seen=seen, idle_ms=8_000)
        for taken in offers:
            got[taken.id] += 1
            offers.done(taken)
            if stop is not None and stop.is_set():
                offers.commit()
                break
        consumer.close()

    threads = [threading.Thread(target=read, args=(stop,)) for stop in (stop_first, None)]
    for thread in threads:
        thread.start()
    names = []
    for number in range(300):
        names.append(f"o{number}")
        topic.put([offer(names[-1])] * (1 + number % 2), partition=number % 2)
        if number == 150:
            stop_first.set()
    for thread in threads:
        thread.join(120)
    assert got.keys() == set(names)
    assert got.total() == len(names)


def test_aiokafkas_reader_does_the_same(topic: Topic) -> None:
    topic.put([offer(f"o{i}") for i in range(50)] * 2)

    async def read(group: str, stop_at: str = "") -> tuple[list[str], Counter[str]]:
        consumer = AIOKafkaConsumer(
            topic.name, bootstrap_servers=topic.kafka, group_id=f"{topic.name}-{group}",
            enable_auto_commit=False, auto_offset_reset="earliest",
        )  # fmt: skip
        await consumer.start()
        try:
            offers = AsyncOffersConsumer(consumer, idle_ms=IDLE_MS)
            names = []
            async for taken in offers:
                if taken.id == stop_at:
                    break
                names.append(taken.id)
                await offers.done(taken)
            await offers.commit()
            return names, offers.counts
        finally:
            await consumer.stop()

    names, _ = asyncio.run(read("a", stop_at="o20"))
    assert names == [f"o{i}" for i in range(20)]
    names, counts = asyncio.run(read("a"))
    # The copies of the first 20 come after what was committed, and this process forgot them.
    assert names == [f"o{i}" for i in [*range(20, 50), *range(20)]]
    assert counts["repeated"] == 30


def test_a_hold_lets_a_withdrawal_catch_up(topic: Topic) -> None:
    topic.put([offer("a"), offer("b")])
    consumer = topic.consumer()
    offers = OffersConsumer(consumer, hold_ms=2_000, idle_ms=IDLE_MS)
    later = threading.Timer(0.5, lambda: topic.put([withdrawn("a")]))
    later.start()
    began = now_ms()
    names = []
    for taken in offers:
        names.append((taken.id, now_ms() - began >= 2_000))
        offers.done(taken)
    consumer.close()
    later.join()
    assert names == [("b", True)]
    assert offers.counts["withdrawn"] == 1
