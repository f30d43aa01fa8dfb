"""A store that lost everything, on Apache Kafka and real workers: refused, restored, goes on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from kafka import KafkaAdminClient, TopicPartition

from streams.embedded import EmbeddedStore
from streams.rulefiles import load_book
from streams.topics import create_topics, output_topics
from tests.integration.pipeline import Pipeline, now_ms
from tests.kafka_server import KafkaServer

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    with EmbeddedStore(tmp_path / "store") as running:
        yield running


@pytest.fixture
def pipeline(kafka: KafkaServer, store: EmbeddedStore, tmp_path: Path) -> Iterator[Pipeline]:
    made = Pipeline(kafka.address, store.url, tmp_path)
    yield made
    made.close()


def shop(pipeline: Pipeline, begin: int, count: int) -> None:
    for number in range(begin, begin + count):
        who = f"c{number % 20}"
        if number < 20:
            pipeline.send("consent.granted", who, {"channel": "*"})
            pipeline.producer.flush()
        item = {"sku": "sku1", "quantity": 1, "unit_price": 50 + number}
        cart = {"cart_id": f"k{number}", "item": item, "subtotal": 700, "currency": "JPY"}
        pipeline.send("cart.item_added", who, cart)
    pipeline.producer.flush()


def test_s04_an_emptied_store_is_refused_until_it_is_restored_and_nothing_is_lost_then(
    pipeline: Pipeline, store: EmbeddedStore, tmp_path: Path
) -> None:
    pipeline.send_catalog([("sku1", "sku2")])
    worker = pipeline.start_worker()
    worker.wait_until_ready()
    shop(pipeline, 0, 60)
    pipeline.settle()
    folder = tmp_path / "snapshot"
    taken = pipeline.tsuide("snapshot", "--out", str(folder), "--json")
    assert taken.returncode == 0, taken.stderr
    assert json.loads(taken.stdout)["partitions"] == 4
    shop(pipeline, 60, 60)
    pipeline.settle()
    worker.kill()
    with redis.Redis.from_url(store.url) as raw:
        raw.flushall()
        raw.function_flush()

    lost = pipeline.start_worker()
    assert lost.process.wait(60) == 1
    assert "the store was emptied" in lost.log.read_text()
    _, decided, _ = pipeline.output()

    restored = pipeline.tsuide("restore", "--from", str(folder), "--json")
    assert restored.returncode == 0, restored.stderr
    again = pipeline.start_worker()
    again.wait_until_ready()
    shop(pipeline, 120, 30)
    pipeline.settle()
    time.sleep(3)  # the last timers of a book whose timers are short
    until = now_ms()
    assert again.stop() == 0
    output, decisions, offers = pipeline.output()
    assert decided <= decisions
    wanted_decisions, wanted_offers = pipeline.backtest(until)
    assert decisions == wanted_decisions
    assert offers == wanted_offers
    assert [name for name, copies in output.copies.items() if copies > 1] == []
    assert all(len(bodies) == 1 for bodies in output.bodies.values())


def test_s04_forget_store_begins_anew_on_purpose(pipeline: Pipeline, store: EmbeddedStore) -> None:
    worker = pipeline.start_worker()
    worker.wait_until_ready()
    shop(pipeline, 0, 20)
    pipeline.settle()
    worker.stop()
    with redis.Redis.from_url(store.url) as raw:
        raw.flushall()
    assert pipeline.tsuide("forget-store").returncode == 2, "it wants to hear --yes"
    assert pipeline.tsuide("forget-store", "--yes").returncode == 0
    again = pipeline.start_worker()
    again.wait_until_ready()
    pipeline.settle()
    output, _, _ = pipeline.output()
    assert [name for name, copies in output.copies.items() if copies > 1] == []


def test_a_snapshot_whose_log_is_gone_is_refused(pipeline: Pipeline, tmp_path: Path) -> None:
    worker = pipeline.start_worker()
    worker.wait_until_ready()
    shop(pipeline, 0, 20)
    pipeline.settle()
    worker.stop()
    folder = tmp_path / "snapshot"
    assert pipeline.tsuide("snapshot", "--out", str(folder)).returncode == 0
    file = folder / "p0.snapshot"
    head, _, rest = file.read_bytes().partition(b"\n")
    changed = json.loads(head)
    changed["offsets"]["cart"] = 10**6
    body = json.dumps(changed).encode() + b"\n" + rest[:-32]
    file.write_bytes(body + hashlib.sha256(body).digest())
    refused = pipeline.tsuide("restore", "--from", str(folder), "--replace")
    assert refused.returncode == 1
    assert "cart/0/1000000" in refused.stderr


def admin(pipeline: Pipeline) -> KafkaAdminClient:
    return KafkaAdminClient(bootstrap_servers=pipeline.settings.kafka)


def first_run(pipeline: Pipeline) -> None:
    worker = pipeline.start_worker()
    worker.wait_until_ready()
    shop(pipeline, 0, 20)
    pipeline.settle()
    assert worker.stop() == 0


def refused(pipeline: Pipeline) -> str:
    worker = pipeline.start_worker()
    assert worker.process.wait(60) == 1
    return worker.log.read_text()


def make_anew(pipeline: Pipeline, topic: str) -> None:
    name = f"{pipeline.prefix}{topic}"
    with contextlib.closing(admin(pipeline)) as client:
        client.delete_topics([name])
        deadline = time.monotonic() + 30
        while name in {topic["name"] for topic in client.describe_topics()}:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    create_topics(pipeline.settings, rules=pipeline.rules, partitions=4)


def test_s29_a_topic_that_was_made_anew_is_refused(pipeline: Pipeline) -> None:
    first_run(pipeline)
    make_anew(pipeline, "cart")
    shop(pipeline, 20, 40)  # so that the stored offsets lie within what is there
    told = refused(pipeline)
    assert "topics cart were made anew" in told
    assert "runbook" in told


def test_s29_a_topic_made_anew_after_the_start_is_refused_by_the_claim(pipeline: Pipeline) -> None:
    first_run(pipeline)
    before = pipeline.stored("cart")
    pipeline.settings = pipeline.settings.model_copy(update={"failpoint": "after_claim:stop@1"})
    worker = pipeline.start_worker()
    _, status = os.waitpid(worker.process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), worker.log.read_text()
    make_anew(pipeline, "cart")
    shop(pipeline, 20, 40)
    worker.process.send_signal(signal.SIGCONT)
    assert worker.process.wait(60) == 1
    assert "topics cart were made anew" in worker.log.read_text()
    assert pipeline.stored("cart") == before


def test_s29_added_partitions_are_refused(pipeline: Pipeline) -> None:
    first_run(pipeline)
    with contextlib.closing(admin(pipeline)) as client:
        client.create_partitions({f"{pipeline.prefix}cart": 8})
    time.sleep(1)
    assert "partition counts differ" in refused(pipeline)
    rest = ["customer", "checkout", "purchase", "usage", "feedback"]
    rest += output_topics(load_book(pipeline.rules))
    with contextlib.closing(admin(pipeline)) as client:
        client.create_partitions({f"{pipeline.prefix}{name}": 8 for name in rest})
    time.sleep(1)
    assert "PARTITION_COUNT" in refused(pipeline)


def test_s29_a_log_that_was_cut_behind_the_stored_offsets_is_refused(pipeline: Pipeline) -> None:
    first_run(pipeline)
    shop(pipeline, 20, 40)
    places = [TopicPartition(f"{pipeline.prefix}cart", number) for number in range(4)]
    with contextlib.closing(admin(pipeline)) as client:
        client.delete_records(dict.fromkeys(places, -1))
    told = refused(pipeline)
    assert "cart" in told
    assert "offset" in told.lower()
