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
from streams.murmur2 import partition_of
from streams.rulefiles import load_book
from streams.store.keys import bucket_of, partition_keys
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


def test_s04_forget_store_empties_a_store_that_is_full_in_one_command(
    pipeline: Pipeline, store: EmbeddedStore
) -> None:
    first_run(pipeline)
    with redis.Redis.from_url(store.url) as raw:
        raw.set("{another-p0}:meta", "not ours")
        one = pipeline.tsuide("forget-store", "--yes", "--partition", "2", "--json")
        assert json.loads(one.stdout)["partitions"] == 1
        metas = [partition_keys(number, pipeline.prefix).meta for number in range(4)]
        assert [raw.exists(meta) for meta in metas] == [1, 1, 0, 1]
        told = pipeline.tsuide("forget-store", "--yes", "--json")
        assert told.returncode == 0, told.stderr
        assert json.loads(told.stdout)["partitions"] == 3
        assert raw.keys() == [b"{another-p0}:meta"]
    again = pipeline.start_worker()
    again.wait_until_ready()
    pipeline.settle()
    assert sum(pipeline.stored("cart")) == 20
    output, _, _ = pipeline.output()
    assert [name for name, copies in output.copies.items() if copies > 1] == []


def test_s04_a_snapshot_is_restored_although_a_worker_began_anew_meanwhile(
    pipeline: Pipeline, store: EmbeddedStore, tmp_path: Path
) -> None:
    first_run(pipeline)
    folder = tmp_path / "snapshot"
    assert pipeline.tsuide("snapshot", "--out", str(folder)).returncode == 0
    assert pipeline.tsuide("forget-store", "--yes").returncode == 0
    meanwhile = pipeline.start_worker()
    meanwhile.wait_until_ready()
    pipeline.settle()
    assert meanwhile.stop() == 0
    restored = pipeline.tsuide("restore", "--from", str(folder), "--replace")
    assert restored.returncode == 0, restored.stderr
    shop(pipeline, 20, 20)
    again = pipeline.start_worker()
    again.wait_until_ready()
    pipeline.settle()
    assert again.stop() == 0
    output, _, _ = pipeline.output()
    assert [name for name, copies in output.copies.items() if copies > 1] == []


def test_a_restore_checks_every_file_before_it_puts_the_first_back(
    pipeline: Pipeline, store: EmbeddedStore, tmp_path: Path
) -> None:
    first_run(pipeline)
    folder = tmp_path / "snapshot"
    assert pipeline.tsuide("snapshot", "--out", str(folder)).returncode == 0
    assert pipeline.tsuide("forget-store", "--yes", "--partition", "0").returncode == 0
    with redis.Redis.from_url(store.url) as raw:
        before = {key: raw.dump(key) for key in raw.keys()}  # noqa: SIM118 - it is a server
        held = pipeline.tsuide("restore", "--from", str(folder))
        assert held.returncode == 1
        assert "partition 1 holds something" in held.stderr
        whole = (folder / "p3.snapshot").read_bytes()
        (folder / "p3.snapshot").write_bytes(whole[:-1])
        cut = pipeline.tsuide("restore", "--from", str(folder), "--replace")
        assert cut.returncode == 1
        assert "p3.snapshot" in cut.stderr
        assert {key: raw.dump(key) for key in raw.keys()} == before  # noqa: SIM118


def test_a_topic_that_was_never_read_may_begin_later_than_0_when_it_is_restored(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    first_run(pipeline)
    assert pipeline.stored("usage") == [0, 0, 0, 0]
    folder = tmp_path / "snapshot"
    assert pipeline.tsuide("snapshot", "--out", str(folder)).returncode == 0
    name = f"{pipeline.prefix}usage"
    for number in range(4):
        pipeline.producer.send(name, b"{}", b"c0", partition=number)
    pipeline.producer.flush()
    with contextlib.closing(admin(pipeline)) as client:
        places = [TopicPartition(name, number) for number in range(4)]
        client.delete_records(dict.fromkeys(places, -1))
    restored = pipeline.tsuide("restore", "--from", str(folder), "--replace")
    assert restored.returncode == 0, restored.stderr
    worker = pipeline.start_worker()
    worker.wait_until_ready()
    shop(pipeline, 20, 20)
    deadline = time.monotonic() + 60
    while sum(pipeline.stored("cart")) < 40:
        assert time.monotonic() < deadline
        time.sleep(0.1)


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


def test_s29_an_accepted_topic_is_read_from_its_first_record_and_customers_stay(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    first_run(pipeline)
    folder = tmp_path / "snapshot"
    assert pipeline.tsuide("snapshot", "--out", str(folder)).returncode == 0
    wrong = pipeline.tsuide("topics", "accept", "cart", "--read-on", "first")
    assert wrong.returncode == 2
    assert "no topic that was made anew" in wrong.stderr
    make_anew(pipeline, "cart")
    shop(pipeline, 20, 4)
    assert pipeline.tsuide("topics", "accept", "cart").returncode == 2, "it wants to hear which"
    stored = pipeline.tsuide("topics", "accept", "cart", "--read-on", "stored")
    assert stored.returncode == 1
    assert "Kafka has 0 to" in stored.stderr
    accepted = pipeline.tsuide("topics", "accept", "cart", "--read-on", "first", "--json")
    assert accepted.returncode == 0, accepted.stderr
    assert json.loads(accepted.stdout) == {"topics": 1, "partitions": 4}
    worker = pipeline.start_worker()
    worker.wait_until_ready()
    pipeline.settle()
    assert sum(pipeline.stored("cart")) == 4
    assert sum(pipeline.stored("customer")) == 20, "and is not read again"
    assert worker.stop() == 0
    older = pipeline.tsuide("restore", "--from", str(folder), "--replace")
    assert older.returncode == 1
    assert "before topic cart was made anew" in older.stderr


def test_s29_records_that_were_brought_back_are_read_on_from_the_stored_offsets(
    pipeline: Pipeline,
) -> None:
    first_run(pipeline)
    before = pipeline.stored("cart")
    records = pipeline.read("cart")
    make_anew(pipeline, "cart")
    for record in records:
        pipeline.producer.send(record.topic, record.value, record.key, partition=record.partition)
    pipeline.producer.flush()
    accepted = pipeline.tsuide("topics", "accept", "cart", "--read-on", "stored")
    assert accepted.returncode == 0, accepted.stderr
    assert pipeline.stored("cart") == before
    worker = pipeline.start_worker()
    worker.wait_until_ready()
    shop(pipeline, 20, 20)
    pipeline.settle()
    assert sum(pipeline.stored("cart")) == 40


def test_s29_an_accepted_topic_customer_erases_and_brings_back_as_the_one_before(
    pipeline: Pipeline, store: EmbeddedStore
) -> None:
    first = pipeline.start_worker()
    first.wait_until_ready()
    shop(pipeline, 0, 40)
    assert pipeline.tsuide("erase", "c1", "--wait", "30").returncode == 0
    pipeline.settle()
    assert first.stop() == 0
    make_anew(pipeline, "customer")
    accepted = pipeline.tsuide("topics", "accept", "customer", "--read-on", "first")
    assert accepted.returncode == 0, accepted.stderr
    again = pipeline.start_worker()
    again.wait_until_ready()
    pipeline.send("consent.granted", "c1", {"channel": "*"})  # at a lower offset than the erasure
    pipeline.producer.flush()
    pipeline.settle()
    assert in_store(pipeline, store, "c1"), "who consents anew is back"
    assert pipeline.tsuide("erase", "c1").returncode == 0
    pipeline.settle()
    assert not in_store(pipeline, store, "c1")
    assert in_store(pipeline, store, "c2"), "and the others were kept"


def in_store(pipeline: Pipeline, store: EmbeddedStore, customer: str) -> bool:
    keys = partition_keys(partition_of(customer.encode(), 4), pipeline.prefix)
    with redis.Redis.from_url(store.url) as raw:
        fields = raw.hkeys(keys.customers[bucket_of(customer.encode())])
    return any(field[1:] == customer.encode() for field in fields)


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
