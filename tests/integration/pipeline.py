"""A pipeline of real parts for tests: Apache Kafka, Valkey, worker processes, and a producer.

The oracle is ``tsuide backtest`` over the log as it lies in Kafka, read back with each record's
timestamp as the event's time.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis as redis_client
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from streams.backtest import run_backtest
from streams.demo import worker_environment
from streams.embedded import free_port
from streams.murmur2 import partition_of
from streams.rulefiles import load_book
from streams.settings import Settings, load_settings
from streams.store.keys import partition_keys
from streams.topics import create_topics, output_topics
from triggers.durations import to_ms, to_text
from triggers.events import EVENT_TYPES, TOPICS

RULES = Path(__file__).parent / "rules"
FIRST = ("offered", "suppressed", "deferred", "held_out", "outranked")
PARTITIONS = 4
#: No timer of the test books that fires within a test is set for longer.
SPAN_MS = 4_000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass
class Output:
    """What the workers published: records by id, and how often each id came."""

    bodies: dict[str, set[bytes]] = field(default_factory=dict)
    copies: Counter[str] = field(default_factory=Counter)
    appended_ms: dict[str, int] = field(default_factory=dict)

    def add(self, value: bytes, timestamp: int) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(value)
        self.bodies.setdefault(event["id"], set()).add(value)
        self.copies[event["id"]] += 1
        self.appended_ms.setdefault(event["id"], timestamp)
        return event


class Worker:
    """One ``tsuide worker`` process."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self.url = f"http://{settings.http}"
        self.log = log
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "streams.cli", "worker"],
                env=worker_environment(settings),
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def wait_until_ready(self, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise AssertionError(f"not ready: {self.log.read_text()[-3000:]}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self, seconds: float = 60) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


def secrets_in(folder: Path, **secrets: str) -> Path:
    """The folder, with a file for each secret that only we may read."""
    folder.mkdir(exist_ok=True)
    for name, value in secrets.items():
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(value)
    return folder


class Pipeline:
    """Topics under a prefix of their own, workers over them, and what is in the log."""

    def __init__(
        self, kafka: str, redis: str, folder: Path, rules: Path = RULES, history: bool = False
    ) -> None:
        self.prefix = f"t{now_ms()}-{os.getpid()}-"
        self.folder = folder
        self._kafka = kafka
        self.rules = rules
        self.settings = load_settings(
            kafka=kafka,
            redis=redis,
            rules=rules,
            prefix=self.prefix,
            group=f"{self.prefix}group",
            partitions=PARTITIONS,
            clock="log" if history else "system",
            data_dir=folder,
        )
        create_topics(self.settings, rules=rules, partitions=PARTITIONS, history=history)
        self.producer = KafkaProducer(bootstrap_servers=kafka, acks="all", linger_ms=2)
        self.workers: list[Worker] = []
        self.sent = 0
        self._store = redis_client.from_url(redis)
        self._looker = KafkaConsumer(bootstrap_servers=kafka)

    def change(self, **settings: Any) -> None:
        """Let commands and workers from now on run with other settings; the test itself does not
        change its doors.
        """
        given = {name: getattr(self.settings, name) for name in self.settings.model_fields_set}
        self.settings = load_settings(**(given | settings))

    def start_worker(self) -> Worker:
        settings = self.settings.model_copy(update={"http": f"127.0.0.1:{free_port()}"})
        worker = Worker(settings, self.folder / f"worker-{len(self.workers)}.log")
        self.workers.append(worker)
        return worker

    def tsuide(self, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command with this pipeline's settings; ``given`` is its standard input."""
        return subprocess.run(
            [sys.executable, "-m", "streams.cli", *arguments],
            env=worker_environment(self.settings),
            input=given,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def visit(self, customer: str) -> None:
        """A consent and something put into the cart, applied."""
        self.send("consent.granted", customer, {"channel": "*"})
        self.producer.flush()  # in its topic before the cart is in another
        item = {"sku": "sku1", "quantity": 1, "unit_price": 500}
        cart = {"cart_id": "k", "item": item, "subtotal": 700, "currency": "JPY"}
        self.send("cart.item_added", customer, cart)
        self.producer.flush()
        self.settle()

    def settle(self, seconds: float = 60) -> None:
        """Wait until every record in the log is applied."""
        deadline = time.monotonic() + seconds
        while left := self.unapplied():
            assert time.monotonic() < deadline, f"{left} records are not applied"
            time.sleep(0.1)

    def settle_all(self, seconds: float = 90) -> int:
        """Wait until everything is applied, every timer has fired that a test waits for, and
        everything is sent; the instant reached.
        """
        deadline = time.monotonic() + seconds
        self.settle(seconds)
        while self.due_within(SPAN_MS) or self.outboxes():
            assert time.monotonic() < deadline, f"{self.overdue()} overdue, {self.outboxes()} held"
            time.sleep(0.1)
        return now_ms()

    def close(self) -> None:
        self.producer.close()
        self._looker.close()
        self._store.close()
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.kill()

    # -- the log in ------------------------------------------------------------------------

    def send(
        self, event_type: str, customer: str, data: dict[str, Any], at_ms: int | None = None
    ) -> str:
        """Produce one event, to be flushed by the caller; its id."""
        self.sent += 1
        event_id = f"e{self.sent}"
        topic = EVENT_TYPES[event_type].topic
        stamp = now_ms() if at_ms is None else at_ms
        event = {
            "specversion": "1.0",
            "id": event_id,
            "source": "test",
            "type": event_type,
            "time": to_text(stamp),
            "subject": customer,
            "data": data,
        }
        key = customer.encode()
        self.producer.send(
            self.prefix + topic,
            key=key,
            value=json.dumps(event).encode(),
            partition=0 if topic == "catalog" else partition_of(key, PARTITIONS),
            timestamp_ms=stamp,
        )
        return event_id

    def send_catalog(self, pairs: list[tuple[str, str]]) -> None:
        """Products for all skus of ``pairs`` and complements from the first to the second."""
        at_ms = now_ms() - 7_200_000
        for sku in sorted({sku for pair in pairs for sku in pair}):
            # Of another kind each: a complement is never more of the same.
            product = {"name": sku.upper(), "price": 500, "currency": "JPY", "category": f"c-{sku}"}
            self._catalog(sku, "catalog.product_set", sku, product, at_ms)
        for one, other in pairs:
            edge = {"to": other, "relation": "complement", "weight": 0.5}
            self._catalog(f"{one}>{other}>complement", "catalog.relation_set", one, edge, at_ms)
        self.producer.flush()

    def _catalog(
        self, key: str, event_type: str, sku: str, data: dict[str, Any], at_ms: int
    ) -> None:
        self.sent += 1
        event = {
            "specversion": "1.0",
            "id": f"k{self.sent}",
            "source": "test",
            "type": event_type,
            "time": to_text(at_ms),
            "subject": sku,
            "data": data,
        }
        self.producer.send(
            f"{self.prefix}catalog",
            key=key.encode(),
            value=json.dumps(event).encode(),
            partition=0,
            timestamp_ms=at_ms,
        )

    # -- what is in Kafka ------------------------------------------------------------------

    def read(self, topic: str) -> list[Any]:
        """All records of a topic (name without prefix), by partition."""
        consumer = KafkaConsumer(bootstrap_servers=self._kafka, isolation_level="read_committed")
        try:
            numbers = consumer.partitions_for_topic(self.prefix + topic) or set()
            tps = [TopicPartition(self.prefix + topic, number) for number in sorted(numbers)]
            consumer.assign(tps)
            consumer.seek_to_beginning(*tps)
            ends = consumer.end_offsets(tps)
            records: list[Any] = []
            while any(consumer.position(tp) < ends[tp] for tp in tps):
                for found in consumer.poll(timeout_ms=500).values():
                    records += found
            return records
        finally:
            consumer.close()

    def output(self) -> tuple[Output, set[tuple[str, str]], set[str]]:
        """Everything published, the first decisions (offer id, outcome), and the offer ids."""
        out = Output()
        decisions: set[tuple[str, str]] = set()
        offers: set[str] = set()
        for topic in output_topics(load_book(self.rules)):
            if topic == "dead-letters":
                continue
            for record in self.read(topic):
                event = out.add(record.value, record.timestamp)
                if event["type"] == "decision.made" and event["data"]["outcome"] in FIRST:
                    decisions.add((event["data"]["offer_id"], event["data"]["outcome"]))
                elif event["type"] == "offer.made":
                    offers.add(event["id"])
        return out, decisions, offers

    def dump(self) -> Path:
        """The log as JSON lines whose times are the records' timestamps."""
        folder = self.folder / "log"
        folder.mkdir(exist_ok=True)
        for topic in ("catalog", *TOPICS):
            rows = []
            for record in self.read(topic):
                event = json.loads(record.value)
                event["time"] = to_text(record.timestamp)
                rows.append((record.timestamp, record.partition, record.offset, event))
            rows.sort(key=lambda row: row[:3])
            lines = [json.dumps(row[3]) for row in rows]
            (folder / f"{topic}.jsonl").write_text("".join(f"{line}\n" for line in lines))
        return folder

    def backtest(self, until_ms: int) -> tuple[set[tuple[str, str]], set[str]]:
        """First decisions and offer ids that the backtest gives over the same log."""
        folder = self.dump()
        out = self.folder / "backtest"
        files = [folder / f"{topic}.jsonl" for topic in ("catalog", *TOPICS)]
        run_backtest(load_book(self.rules), files, out, until=to_text(until_ms))
        decisions = set()
        for line in (out / "decisions.jsonl").read_text().splitlines():
            data = json.loads(line)["data"]
            if data["outcome"] in FIRST:
                decisions.add((data["offer_id"], data["outcome"]))
        offers = set()
        for line in (out / "offers.jsonl").read_text().splitlines():
            event = json.loads(line)
            if event["type"] == "offer.made":
                offers.add(event["id"])
        return decisions, offers

    def due_within(self, ms: int) -> int:
        """Customers with a timer that is due by then."""
        keys = [partition_keys(number, self.prefix).due for number in range(PARTITIONS)]
        return sum(int(self._store.zcount(key, 0, now_ms() + ms)) for key in keys)

    def overdue(self) -> int:
        """Customers with a timer that is due."""
        return self.due_within(0)

    def outboxes(self) -> int:
        """Entries that were decided and are not trimmed."""
        keys = [partition_keys(number, self.prefix).outbox for number in range(PARTITIONS)]
        return sum(int(self._store.xlen(key)) for key in keys)

    def unapplied(self) -> int:
        """Customer records in the log that the store does not count as applied."""
        tps = [TopicPartition(self.prefix + t, n) for t in TOPICS for n in range(PARTITIONS)]
        ends = self._looker.end_offsets(tps)
        applied = sum(sum(self.stored(topic)) for topic in TOPICS)
        return int(sum(ends.values())) - applied

    def stored(self, topic: str) -> list[int]:
        """The next offset of a topic in, by partition, as the store has it."""
        return [
            int(self._store.hget(partition_keys(number, self.prefix).meta, f"o:{topic}") or 0)
            for number in range(PARTITIONS)
        ]


def due_of(body: bytes) -> int:
    """The due time of the timer that a decision or offer answers."""
    return to_ms(json.loads(body)["data"]["trigger"]["due"])
