"""The whole pipeline on Apache Kafka: rebalances, kills and restarts change no decision."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.embedded import EmbeddedStore
from tests.faults.kit import wait_for
from tests.integration.pipeline import Pipeline, due_of, now_ms
from tests.kafka_server import KafkaServer

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

SKUS = [(f"sku{i}", f"sku{(i + 1) % 12}") for i in range(12)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    with EmbeddedStore(tmp_path / "store") as running:
        yield running


@pytest.fixture
def pipeline(kafka: KafkaServer, store: EmbeddedStore, tmp_path: Path) -> Iterator[Pipeline]:
    made = Pipeline(kafka.address, store.url, tmp_path)
    yield made
    made.close()


class Shoppers(threading.Thread):
    """Customers who fill carts, buy, and give back, at a rate, in real time."""

    def __init__(self, pipeline: Pipeline, rate: float, customers: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.pipeline = pipeline
        self.rate = rate
        self.names = [f"c{i}" for i in range(customers)]
        self.random = random.Random(seed)
        self.over = threading.Event()
        self.orders: list[tuple[str, str]] = []

    def consent(self) -> None:
        for name in self.names:
            self.pipeline.send("consent.granted", name, {"channel": "*"})
        self.pipeline.producer.flush()

    def run(self) -> None:
        sent = 0
        due = time.monotonic()
        while not self.over.is_set():
            self.one(sent)
            sent += 1
            due = max(due + 1 / self.rate, time.monotonic() - 0.1)
            time.sleep(max(0.0, due - time.monotonic()))
        self.pipeline.producer.flush()

    def one(self, number: int) -> None:
        name = self.random.choice(self.names)
        roll = self.random.random()
        if roll < 0.75:
            item = {"sku": f"sku{number % 12}", "quantity": 1, "unit_price": 50 + number % 500}
            data = {"cart_id": f"cart-{name}", "item": item, "subtotal": 700, "currency": "JPY"}
            self.pipeline.send("cart.item_added", name, data)
        elif roll < 0.93 or not self.orders:
            order = f"o{number}"
            item = {"sku": f"sku{number % 12}", "quantity": 1, "unit_price": 500}
            data = {"order_id": order, "items": [item], "total": 500, "currency": "JPY"}
            if number % 3:
                data["cart_id"] = f"cart-{name}"
            self.pipeline.send("purchase.completed", name, data)
            self.orders = [*self.orders, (name, order)][-200:]
        else:
            buyer, order = self.random.choice(self.orders)
            self.pipeline.send("purchase.refunded", buyer, {"order_id": order})

    def finish(self) -> None:
        self.over.set()
        self.join()


def assert_same_as_backtest(pipeline: Pipeline, until_ms: int) -> None:
    out, decisions, offers = pipeline.output()
    expected_decisions, expected_offers = pipeline.backtest(until_ms)
    assert len(expected_decisions) > 100
    assert decisions == expected_decisions
    assert offers == expected_offers
    assert [event_id for event_id, bodies in out.bodies.items() if len(bodies) > 1] == []
    assert [event_id for event_id, count in out.copies.items() if count > 1] == []


def test_two_three_and_one_worker_decide_what_the_backtest_decides(pipeline: Pipeline) -> None:
    pipeline.send_catalog(SKUS)
    for worker in [pipeline.start_worker(), pipeline.start_worker()]:
        worker.wait_until_ready()
    shoppers = Shoppers(pipeline, rate=300, customers=60, seed=1)
    shoppers.consent()
    shoppers.start()
    time.sleep(8)
    pipeline.start_worker().wait_until_ready()
    time.sleep(8)
    assert pipeline.workers[0].stop() == 0
    time.sleep(4)
    assert pipeline.workers[1].stop() == 0
    time.sleep(8)
    shoppers.finish()
    until_ms = pipeline.settle_all()
    assert pipeline.workers[2].stop() == 0
    assert_same_as_backtest(pipeline, until_ms)


def test_killed_workers_lose_nothing_and_send_nothing_twice(pipeline: Pipeline) -> None:
    chance = random.Random(7)
    pipeline.send_catalog(SKUS)
    for worker in [pipeline.start_worker(), pipeline.start_worker()]:
        worker.wait_until_ready()
    shoppers = Shoppers(pipeline, rate=400, customers=80, seed=2)
    shoppers.consent()
    shoppers.start()
    for _ in range(3):
        time.sleep(2 + 3 * chance.random())
        shoppers.rate = 1e9  # as fast as the producer can, until enough is in flight
        deadline = time.monotonic() + 30
        while (in_flight := pipeline.unapplied()) <= 100:
            assert time.monotonic() < deadline, f"never more than {in_flight} in flight"
        running = [w for w in pipeline.workers if w.process.poll() is None]
        chance.choice(running).kill()
        shoppers.rate = 400
        pipeline.start_worker().wait_until_ready()
    shoppers.finish()
    until_ms = pipeline.settle_all(120)
    for worker in pipeline.workers:
        if worker.process.poll() is None:
            assert worker.stop() == 0
    assert_same_as_backtest(pipeline, until_ms)


def buy(pipeline: Pipeline, customer: str, order: str) -> None:
    item = {"sku": "sku1", "quantity": 1, "unit_price": 500}
    data = {"order_id": order, "items": [item], "total": 500, "currency": "JPY"}
    pipeline.send("purchase.completed", customer, data)
    pipeline.producer.flush()


@pytest.mark.covers("B14b")
def test_timers_survive_a_stop_of_all_workers_and_of_the_store(
    pipeline: Pipeline, store: EmbeddedStore
) -> None:
    pipeline.send_catalog(SKUS)
    worker = pipeline.start_worker()
    worker.wait_until_ready()
    for name in ("kept", "refunded"):
        pipeline.send("consent.granted", name, {"channel": "*"})
    pipeline.producer.flush()
    buy(pipeline, "kept", "order-kept")
    buy(pipeline, "refunded", "order-refunded")
    deadline = time.monotonic() + 2.5
    while pipeline.unapplied() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert worker.stop() == 0
    store.stop()
    pipeline.send("purchase.refunded", "refunded", {"order_id": "order-refunded"})
    pipeline.producer.flush()
    # Nobody runs who could tell: the clock alone says that both timers are overdue.
    time.sleep(4)
    store.start()
    pipeline.start_worker().wait_until_ready()
    until_ms = pipeline.settle_all()
    out, decisions, offers = pipeline.output()
    made = [json.loads(next(iter(out.bodies[offer]))) for offer in offers]
    assert [event["subject"] for event in made] == ["kept"]
    assert [out.copies[offer] for offer in offers] == [1]
    for offer in offers:
        assert out.appended_ms[offer] >= due_of(next(iter(out.bodies[offer])))
    assert (decisions, offers) == pipeline.backtest(until_ms)


def test_no_timer_fires_early(pipeline: Pipeline) -> None:
    pipeline.send_catalog(SKUS)
    pipeline.start_worker().wait_until_ready()
    for number in range(40):
        pipeline.send("consent.granted", f"c{number}", {"channel": "*"})
        buy(pipeline, f"c{number}", f"order-{number}")
    pipeline.settle_all()
    out, _, offers = pipeline.output()
    assert len(offers) == 40
    for offer in offers:
        assert out.appended_ms[offer] >= due_of(next(iter(out.bodies[offer])))


ORDER_RULES = """
book: {name: order, timezone: UTC, currency: JPY}
rules:
"""
ORDER_RULE = """
  - id: seen-{slug}
    kind: follow_up
    on: {kind}
    pick: none
    channel: email
    reason: {{ja: "見た。", en: "Seen."}}
"""
EVENTS: dict[str, dict[str, Any]] = {
    "customer.profile_set": {"locale": "ja"},
    "cart.viewed": {"cart_id": "k", "subtotal": 1, "currency": "JPY"},
    "checkout.started": {"checkout_id": "h", "cart_id": "k", "total": 1, "currency": "JPY"},
    "purchase.cancelled": {"order_id": "o"},
    "problem.reported": {"tag": "slow"},
    "offer.shown": {"offer_id": "x"},
}


def test_a_backlog_of_an_hour_is_applied_in_the_order_of_its_timestamps(
    kafka: KafkaServer, store: EmbeddedStore, tmp_path: Path
) -> None:
    rules = tmp_path / "rules"
    rules.mkdir()
    text = ORDER_RULES + "".join(
        ORDER_RULE.format(slug=kind.replace(".", "-").replace("_", "-"), kind=kind)
        for kind in EVENTS
    )
    (rules / "book.yaml").write_text(text)
    pipeline = Pipeline(kafka.address, store.url, tmp_path, rules, history=True)
    try:
        pipeline.send_catalog(SKUS)
        start = now_ms() - 3_600_000
        chance = random.Random(3)
        instants = sorted(chance.randrange(3_600_000) for _ in range(3_000))
        # One topic after the other, so that nothing but the timestamps tells the order.
        kinds = list(EVENTS)
        chosen = [chance.choice(kinds) for _ in instants]
        for kind in kinds:
            for place, (instant, mine) in enumerate(zip(instants, chosen, strict=True)):
                if mine == kind:
                    pipeline.send(kind, f"c{place % 50}", EVENTS[kind], start + instant)
        pipeline.producer.flush()
        pipeline.start_worker().wait_until_ready()
        pipeline.settle()  # its clock is the log's, and its rules set no timers
        wait_for("all is sent", lambda: pipeline.outboxes() == 0)
        total = 0
        by_partition: dict[int, list[str]] = {}
        for record in pipeline.read("decisions"):
            by_partition.setdefault(record.partition, []).append(json.loads(record.value)["time"])
        for times in by_partition.values():
            assert times == sorted(times)
            total += len(times)
        assert total == len(instants)
    finally:
        pipeline.close()
